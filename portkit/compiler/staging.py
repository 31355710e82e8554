"""Staging a row: what a fold computes at each point of a row, and the stores would compute again, is kept in between.

s = sum_j exp(x[j] - m);  out[j] = exp(x[j] - m) / s
->  s = sum_j (row[j] = exp(x[j] - m));  out[j] = row[j] / s
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from portkit.compiler.costs import COSTS, DEAR
from portkit.compiler.emit import Emitter
from portkit.compiler.extents import most
from portkit.compiler.index import Axis, Index, substitute
from portkit.compiler.merge import rebuilt_values
from portkit.compiler.nest import Nest, Store, Value, subvalues
from portkit.compiler.schedule import grows
from portkit.spec.builder import Mem
from portkit.spec.types import BOOL

_WORTH = 8
"""The cost of a value that is worth a store and a load of shared memory."""


@dataclass(frozen=True, eq=False)
class Staged:
    """A value in terms of a fold's axis and of the inner axis, and the store whose memory can hold a row of it.

    Without such a store a shared array holds it.
    """

    fold: Value
    inside: Value
    outside: Value
    axis: Axis
    inner: Axis
    store: Store | None

    def declared(self, e: Emitter, number: int) -> KeptRow:
        """Return the memory that holds the row, a new shared array where it is no output's."""
        if self.store is None:
            memory = e.b.shared(f"row{number}", self.inside.dtype.name, most(self.inner.extent))
            return KeptRow(self, memory, self.axis, self.inner)
        at = substitute(self.store.index, {self.inner: self.axis})
        return KeptRow(self, e.memories[self.store.node], at, self.store.index)


@dataclass(frozen=True, eq=False)
class KeptRow:
    """A staged value, the memory that holds it, and where in it: by the fold's axis, and by the inner axis."""

    staged: Staged
    memory: Mem
    inside: Index
    outside: Index

    def put(self, e: Emitter) -> None:
        """Keep the value at the fold's current point."""
        e.write(self.memory, self.inside, e.value(self.staged.inside))

    def take(self, e: Emitter) -> None:
        """Make the value at the current inner point known."""
        other = None if e.mask is None else e.splat(e.b.bits_const(self.memory.dtype.name, 0))
        e.set(self.staged.outside, e.read(self.memory, self.outside, e.mask, other, wide=e.vector is not None))


def find_staged(nest: Nest) -> tuple[Staged, ...]:
    """Return the values of a nest that are worth keeping along a row, the latest fold that computes one first.

    An output that holds as much, and in the same order, keeps the row until its own value takes the place: memory that
    is written early is near when it is written again.
    """
    if len(nest.inner) != 1 or not isinstance(nest.inner[0].extent, int):
        return ()
    (inner,) = nest.inner
    needed = set(subvalues([s.value for s in nest.inner_stores], lambda v: v.op == "fold"))
    free = [s for s in nest.inner_stores if grows(s.index, inner) == 1]
    found: list[Staged] = []
    for fold in reversed(nest.folds):
        if len(fold.attr[1]) != 1 or fold.attr[1][0].extent != inner.extent:
            continue
        (axis,) = fold.attr[1]
        for inside, outside in _shared(fold, axis, inner, needed):
            store = next((s for s in free if s.node.dtype is inside.dtype), None)
            free = [s for s in free if s is not store]
            found.append(Staged(fold, inside, outside, axis, inner, store))
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
