"""Contractions: nests that are one sum of products, each factor with row axes of its own, over flat axes.

    out[i, h, w] = f(sum over c, u of x[c, h + u, w] * y[i, c, u])

is, with n = (h, w) and k = (c, u) flat, a product of matrices: out[m, n] = f(sum over k of left[m, k] * right[n, k]).
The indices of what is loaded are whatever they have to be: an implicit product, nothing is rearranged in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from portkit.compiler.fuse import most
from portkit.compiler.graph import count
from portkit.compiler.index import Axis, Expr, Index, linear, unravel
from portkit.compiler.nest import Nest, Store, Value, axes_of, indices, subvalues
from portkit.compiler.rebase import Rebase
from portkit.compiler.schedule import grows


@dataclass(frozen=True, eq=False, slots=True)
class Factors:
    """The two factors of the product in a nest, and which row axes are only the left one's, only the right one's."""

    fold: Value
    values: tuple[Value, Value]
    own: tuple[tuple[Axis, ...], tuple[Axis, ...]]
    depth: tuple[Axis, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Runs:
    """A factor with a flat axis taken apart: over `outer`, and `run`, the last of the axes that it stands for."""

    outer: Axis
    run: Axis
    value: Value


@dataclass(frozen=True, eq=False, slots=True)
class Contraction:
    """fold = sum over k of left[batch, m, k] * right[batch, n, k]; `stores` are what is made of it.

    Where n stands for several axes and the extent of the last is known, `right_runs` is the right factor over that one
    and the others apart; `left_runs` is the same for k and the left factor.
    """

    fold: Value
    left: Value
    right: Value
    batch: tuple[Axis, ...]
    m: Axis
    n: Axis
    k: Axis
    stores: tuple[Store, ...]
    left_runs: Runs | None = None
    right_runs: Runs | None = None


def size(axis: Axis) -> int:
    """Return the extent of an axis, the largest one where it is dynamic."""
    return most(axis.extent)


def divides(unit: int, axis: Axis) -> bool:
    """Whether the extent of an axis is known, and a multiple of `unit`."""
    return isinstance(axis.extent, int) and axis.extent % unit == 0


def find_factors(nest: Nest) -> Factors | None:
    """Return the factors of a nest that is a contraction, its sum over static extents, else None."""
    if nest.sequence is not None or nest.inner or len(nest.folds) != 1 or not nest.row_stores:
        return None
    (fold,) = nest.folds
    kind, depth = fold.attr
    body = fold.args[0]
    if kind != "add" or body.op != "map" or body.attr != "mul" or body.dtype is not fold.dtype:
        return None
    static = all(isinstance(a.extent, int) for a in depth)
    if not static or fold.axes != frozenset(nest.rows) or _has_fold(body):
        return None
    left, right = body.args
    own = (
        tuple(a for a in nest.rows if a in left.axes and a not in right.axes),
        tuple(a for a in nest.rows if a in right.axes and a not in left.axes),
    )
    return Factors(fold, (left, right), own, depth) if all(own) and depth else None


def _has_fold(body: Value) -> bool:
    return any(v.op == "fold" for v in subvalues([body]))


def flatten(nest: Nest, factors: Factors, swapped: bool, columns: int) -> Contraction:
    """Return the contraction over flat axes: n are the last `columns` own axes of the right factor, or of the left one.

    The other own axes of that factor become batch axes.
    """
    first, second = (1, 0) if swapped else (0, 1)
    rows, across = factors.own[first], factors.own[second][-columns:]
    replaced: dict[Axis, Index] = {}
    m, n, k = (_flat(group, replaced) for group in (rows, across, factors.depth))
    rebase = Rebase(replaced, {factors.fold: (k,)})
    fold, left, right = rebase.values([factors.fold, factors.values[first], factors.values[second]])
    stores = tuple(Store(s.node, rebase.index(s.index), rebase.value(s.value)) for s in nest.row_stores)
    batch = tuple(a for a in nest.rows if a not in rows and a not in across)
    left_runs = _in_runs(factors.values[first], factors.depth, replaced)
    right_runs = _in_runs(factors.values[second], across, replaced)
    return Contraction(fold, left, right, batch, m, n, k, stores, left_runs, right_runs)


def _in_runs(value: Value, axes: Sequence[Axis], replaced: Mapping[Axis, Index]) -> Runs | None:
    """Return a factor with the last of some axes apart, all others flat."""
    if len(axes) < 2 or not isinstance(axes[-1].extent, int):
        return None
    apart = {a: e for a, e in replaced.items() if a not in axes}
    outer = _flat(axes[:-1], apart)
    return Runs(outer, axes[-1], Rebase(apart).value(value))


def _flat(axes: Sequence[Axis], replaced: dict[Axis, Index]) -> Axis:
    if len(axes) == 1:
        return axes[0]
    extents = [a.extent for a in axes]
    flat = Axis(count(extents))
    replaced.update(zip(axes, unravel(flat, extents), strict=True))
    return flat


# --- how a factor lies in memory -----------------------------------------------------------------------------------


def is_plain(value: Value, *axes: Axis) -> bool:
    """Whether a value is an element as it is stored, at an index that grows evenly with each of `axes`."""
    if value.op != "load" or value.attr[2]:
        return False
    return all(grows(value.attr[1], a) is not None for a in axes)


def runs_along(value: Value, axis: Axis) -> bool:
    """Whether all that a value loads is contiguous, or the same, along an axis."""
    loads = [v for v in subvalues([value]) if v.op == "load" and axis in v.axes]
    return bool(loads) and all(grows(v.attr[1], axis) in (0, 1) for v in loads)


def stored_along(stores: Sequence[Store], axis: Axis) -> bool:
    """Whether all stores are contiguous along an axis."""
    return all(grows(s.index, axis) == 1 for s in stores)


def uneven(value: Value, axis: Axis) -> bool:
    """Whether an index inside a value needs a division for each step along an axis."""
    return any(
        atom is not axis and axis in axes_of(atom)
        for v in subvalues([value])
        for e in indices(v)
        if isinstance(e, Expr)
        for atom in linear(e)[0]
    )
