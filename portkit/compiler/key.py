"""A nest's identity: a structure that is equal for nests that differ only in which axes and buffers they name."""

from __future__ import annotations

from typing import Any

from portkit.compiler.graph import Node
from portkit.compiler.index import Axis, Expr, Index, Variable
from portkit.compiler.index import Value as IndexValue
from portkit.compiler.nest import Nest, Scan, Store, Value, subvalues


def nest_key(nest: Nest) -> tuple[tuple[Any, ...], list[Node]]:
    """Return a hashable structure, and the stored nodes of the nest in the order of their mention.

    Kernels of nests with equal structures are equal, if the buffers are taken in that order.
    """
    key = _Key()
    structure = key.nest(nest)
    return structure, key.memories


class _Key:
    """Numbers axes, memories and values in the order of their first mention."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._indices: dict[Expr, Any] = {}
        self.memories: list[Node] = []

    def _number(self, thing: Any) -> int:
        return self._numbers.setdefault(thing, len(self._numbers))

    def nest(self, nest: Nest) -> tuple[Any, ...]:
        axes = tuple(self.axis(a) for a in (*nest.rows, *nest.inner))
        values = tuple(self.value(v) for v in subvalues(nest.roots))
        stores = tuple(tuple(map(self.store, part)) for part in (nest.row_stores, nest.inner_stores))
        return (len(nest.rows), axes, values, tuple(map(self._number, nest.folds)), stores, self.sequence(nest))

    def sequence(self, nest: Nest) -> Any:
        sequence = nest.sequence
        if sequence is None:
            return None
        if isinstance(sequence, Scan):
            return (sequence.kind, self.axis(sequence.axis), self.store(sequence.store))
        inside = self.axis(sequence.steps), self._number(sequence.at), self._number(sequence.values)
        return (sequence.kind, self.axis(sequence.axis), self.store(sequence.base), *inside)

    def store(self, store: Store) -> Any:
        return (self.memory(store.node), self.index(store.index), self._number(store.value))

    def memory(self, node: Node) -> Any:
        if node not in self._numbers:
            self.memories.append(node)
        shape = tuple(self.index(n) for n in node.shape)
        return (self._number(node), node.dtype, shape)

    def axis(self, axis: Axis) -> Any:
        return (self._number(axis), self.index(axis.extent))

    def value(self, value: Value) -> Any:
        number = self._number(value)
        return (number, value.op, value.dtype, tuple(map(self._number, value.args)), self._attr(value))

    def _attr(self, value: Value) -> Any:
        if value.op == "load":
            memory, at, guards, fill = value.attr
            return (self.memory(memory), self.index(at), self.guards(guards), fill)
        if value.op == "select":
            return self.guards(value.attr)
        if value.op == "fold":
            return (value.attr[0], tuple(self.axis(a) for a in value.attr[1]))
        return self.index(value.attr) if value.op == "index" else value.attr

    def guards(self, guards: Any) -> Any:
        return tuple((self.index(e), low, self.index(high)) for e, low, high in guards)

    def index(self, index: Index) -> Any:
        if not isinstance(index, Expr):
            return index
        if isinstance(index, Variable):
            return index
        if isinstance(index, Axis):
            return ("axis", self._number(index), self.index(index.extent))
        if isinstance(index, IndexValue):
            return ("value", self._number(index.tag.value), index.low, index.high)
        if index not in self._indices:
            self._indices[index] = (type(index).__name__, self._parts(index.args))
        return self._indices[index]

    def _parts(self, parts: Index | tuple[Any, ...]) -> Any:
        return tuple(self._parts(p) for p in parts) if isinstance(parts, tuple) else self.index(parts)
