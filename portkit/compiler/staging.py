"""Staging a row: what a fold computes at each point of a row, and the stores would compute again, is kept in between.

s = sum_j exp(x[j] - m);  out[j] = exp(x[j] - m) / s
->  s = sum_j (row[j] = exp(x[j] - m));  out[j] = row[j] / s
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from portkit.compiler.costs import COSTS, DEAR
from portkit.compiler.emit import Emitter
from portkit.compiler.index import Axis
from portkit.compiler.merge import rebuilt_values
from portkit.compiler.nest import Nest, Value, subvalues
from portkit.spec.builder import Mem
from portkit.spec.types import BOOL

_WORTH = 8
"""The cost of a value that is worth a store and a load of shared memory."""


@dataclass(frozen=True, eq=False)
class Staged:
    """A value in terms of a fold's axis and of the inner axis, and the shared array that holds a row of it."""

    fold: Value
    inside: Value
    outside: Value
    axis: Axis
    inner: Axis
    memory: Mem

    def put(self, e: Emitter) -> None:
        """Keep the value at the fold's current point."""
        e.write(self.memory, self.axis, e.value(self.inside))

    def take(self, e: Emitter) -> None:
        """Make the value at the current inner point known."""
        other = None if e.mask is None else e.splat(e.b.bits_const(self.memory.dtype.name, 0))
        e.set(self.outside, e.read(self.memory, self.inner, e.mask, other, wide=e.vector is not None))


def stage(nest: Nest, e: Emitter) -> tuple[Staged, ...]:
    """Declare a shared array for each value of a nest that is worth it, the latest fold that computes it first."""
    if len(nest.inner) != 1:
        return ()
    (inner,) = nest.inner
    extent = inner.extent
    if not isinstance(extent, int):
        return ()
    needed = set(subvalues([s.value for s in nest.inner_stores], lambda v: v.op == "fold"))
    found: list[Staged] = []
    for fold in reversed(nest.folds):
        if len(fold.attr[1]) != 1 or fold.attr[1][0].extent != inner.extent:
            continue
        (axis,) = fold.attr[1]
        for inside, outside in _shared(fold, axis, inner, needed):
            number = len(found)
            memory = e.b.shared(f"row{number}", inside.dtype.name, extent)
            found.append(Staged(fold, inside, outside, axis, inner, memory))
            needed -= set(subvalues([outside], lambda v: v.op == "fold"))
    return tuple(found)


def _shared(fold: Value, axis: Axis, inner: Axis, needed: set[Value]) -> Iterable[tuple[Value, Value]]:
    """Yield the largest values of a fold that are needed at the inner axis too, and cost enough."""
    body = subvalues(fold.args, lambda v: v.op == "fold")
    whole = subvalues(fold.args)
    made = rebuilt_values(whole, {axis: inner}, {v: v.attr[1] for v in whole if v.op == "fold"})
    covered: set[Value] = set()
    for value in reversed(body):
        outside = made[value]
        if outside in needed and value not in covered and axis in value.axes and value.dtype is not BOOL:
            covered |= set(subvalues([value]))
            if _cost(value) >= _WORTH:
                yield value, outside


def _cost(root: Value) -> int:
    values = subvalues([root], lambda v: v.op == "fold")
    return sum(COSTS.get(v.attr, DEAR) for v in values if v.op == "map")
