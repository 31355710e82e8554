"""Merging axes: two neighbours that every index runs through as if they were one become one.

for i in 4, j in 8: out[8*i + j] = x[8*i + j]      ->      for k in 32: out[k] = x[k]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod

from portkit.compiler.index import Axis, Expr, Index, leaves, linear, substitute
from portkit.compiler.index import Value as IndexValue
from portkit.compiler.nest import (
    Guards,
    Nest,
    Store,
    Value,
    axes_of,
    fold,
    index,
    indices,
    load,
    map_,
    select,
    subvalues,
)

_MOST_POINTS = 1 << 31
"""Of an axis: indices have 32 bits."""


def merge_axes(nest: Nest) -> Nest:
    """Return the nest with runs of mergeable axes made one, among rows, inner axes and the axes of each fold."""
    if nest.sequence is not None:
        return nest
    values = subvalues(nest.roots)
    expressions = [e for v in values for e in indices(v)] + [s.index for s in nest.stores]
    mergeable = _Mergeable([e for e in dict.fromkeys(expressions) if isinstance(e, Expr)])
    replacements: dict[Expr, Index] = {}
    rows = mergeable.merge(nest.rows, replacements)
    inner = mergeable.merge(nest.inner, replacements)
    folds = {v: mergeable.merge(v.attr[1], replacements) for v in values if v.op == "fold"}
    if not replacements:
        return nest
    rebuilt = rebuilt_values(values, replacements, folds)

    def stores(old: Sequence[Store]) -> tuple[Store, ...]:
        return tuple(Store(s.node, substitute(s.index, replacements), rebuilt[s.value]) for s in old)

    return replace(
        nest,
        rows=rows,
        inner=inner,
        folds=tuple(rebuilt[f] for f in nest.folds),
        row_stores=stores(nest.row_stores),
        inner_stores=stores(nest.inner_stores),
    )


class _Mergeable:
    """What the index expressions of a nest allow."""

    def __init__(self, expressions: Iterable[Expr]) -> None:
        self._linear = [linear(e)[0] for e in expressions]
        self._fixed: set[Axis] = set()
        for terms in self._linear:
            for atom in terms:
                if not isinstance(atom, Axis):
                    self._fixed |= axes_of(atom)
        gathered = [leaf.tag.value for e in expressions for leaf in leaves(e) if isinstance(leaf, IndexValue)]
        for value in subvalues(v for v in gathered if v is not None):
            self._fixed |= value.axes.union(value.attr[1] if value.op == "fold" else ())

    def _pair(self, outer: Axis, inner: Axis) -> bool:
        """Whether every index grows with `outer` as it does with `inner` over its whole extent."""
        if outer in self._fixed or inner in self._fixed or not isinstance(inner.extent, int):
            return False
        return all(terms.get(outer, 0) == inner.extent * terms.get(inner, 0) for terms in self._linear)

    def merge(self, axes: Sequence[Axis], replacements: dict[Expr, Index]) -> tuple[Axis, ...]:
        """Return the axes after merging, and record what replaces those that went."""
        runs: list[list[Axis]] = []
        for axis in axes:
            if runs and self._pair(runs[-1][-1], axis) and _points([*runs[-1], axis]) < _MOST_POINTS:
                runs[-1].append(axis)
            else:
                runs.append([axis])
        return tuple(self._merged(run, replacements) for run in runs)

    def _merged(self, run: Sequence[Axis], replacements: dict[Expr, Index]) -> Axis:
        if len(run) == 1:
            return run[0]
        extent: Index = 1
        for axis in run:
            extent = extent * axis.extent
        merged = Axis(extent)
        replacements.update(dict.fromkeys(run[:-1], 0))
        replacements[run[-1]] = merged
        return merged


def _points(axes: Iterable[Axis]) -> int:
    return prod(a.extent if isinstance(a.extent, int) else a.extent.high for a in axes)


def rebuilt_values(
    values: Iterable[Value], replacements: Mapping[Expr, Index], folds: Mapping[Value, tuple[Axis, ...]]
) -> dict[Value, Value]:
    """Return for each value, operands before users, the one with axes replaced; `folds` has the axes of each fold."""
    made: dict[Value, Value] = {}

    def at(e: Index) -> Index:
        return substitute(e, replacements)

    def guards(old: Guards) -> Guards:
        return tuple((at(e), low, at(high)) for e, low, high in old)

    for v in values:
        args = [made[a] for a in v.args]
        match v.op:
            case "load":
                memory, where, gates, fill = v.attr
                made[v] = load(memory, at(where), guards(gates), fill)
            case "index":
                made[v] = index(at(v.attr))
            case "map":
                made[v] = map_(v.attr, v.dtype, args)
            case "select":
                made[v] = select(guards(v.attr), *args)
            case "fold":
                made[v] = fold(v.attr[0], folds[v], args[0], v.dtype, *args[1:])
            case _:
                made[v] = v
    return made
