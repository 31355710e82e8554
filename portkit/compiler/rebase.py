"""Values over other axes: what a nest computes, with index expressions in the place of its axes.

out[i, j] = fold(x[i, k] * y[j, k])  with i = r // 8, j = r % 8   ->   out[r] = fold(x[r // 8, k] * y[r % 8, k])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from portkit.compiler.index import Axis, Expr, Index, leaves, substitute
from portkit.compiler.index import Value as IndexValue
from portkit.compiler.nest import Guards, Late, Value, fold, index, indices, load, map_, select, subvalues

Folds = Mapping[Value, tuple[Axis, ...]]


class Rebase:
    """Rewrites values and indices; equal values become the same value."""

    def __init__(self, replacements: Mapping[Axis, Index], folds: Folds | None = None) -> None:
        """Put `replacements` in the place of axes; the folds in `folds` run over other axes from then on."""
        self._replacements: dict[Expr, Index] = {**replacements}
        self._folds = folds or {}
        self._made: dict[Value, Value] = {}
        self._late: dict[Late, Late] = {}

    def values(self, roots: Iterable[Value]) -> list[Value]:
        """Return the rewritten values."""
        wanted = list(roots)
        for value in subvalues(wanted):
            if value not in self._made:
                for expression in indices(value):
                    self._follow(expression)
                self._made[value] = self._rewrite(value)
        return [self._made[v] for v in wanted]

    def value(self, root: Value) -> Value:
        """Return the rewritten value."""
        return self.values([root])[0]

    def index(self, expression: Index) -> Index:
        """Return the rewritten index expression."""
        return substitute(expression, self._replacements)

    def _follow(self, expression: Index) -> None:
        """Give a gathered index, whose value is rewritten by now, a leaf of its own."""
        for leaf in leaves(expression):
            if isinstance(leaf, IndexValue) and leaf not in self._replacements:
                late: Late = leaf.tag
                assert late.value is not None
                value = self._made[late.value]
                if value is not late.value:
                    new = self._late.setdefault(late, Late(value.axes, value))
                    self._replacements[leaf] = IndexValue(new, leaf.low, leaf.high)

    def _guards(self, guards: Guards) -> Guards:
        return tuple((self.index(e), low, self.index(high)) for e, low, high in guards)

    def _rewrite(self, value: Value) -> Value:
        arguments = [self._made[a] for a in value.args]
        attr: Any = value.attr
        match value.op:
            case "load":
                memory, at, guards, fill = attr
                return load(memory, self.index(at), self._guards(guards), fill)
            case "index":
                return index(self.index(attr))
            case "map":
                return map_(attr, value.dtype, arguments)
            case "select":
                return select(self._guards(attr), *arguments)
            case "fold":
                axes = self._folds[value] if value in self._folds else attr[1]
                return fold(attr[0], axes, arguments[0], value.dtype)
            case _:
                return value
