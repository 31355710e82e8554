"""From the groups that fusion found to nests: values bottom-up, then rows, folds and stores."""

from __future__ import annotations

from collections.abc import Iterable

from portkit.compiler.facts import axes_of_all, through
from portkit.compiler.fuse import Group, Item, Place
from portkit.compiler.graph import Node, Shape
from portkit.compiler.index import Axis, ravel
from portkit.compiler.nest import Guards, Nest, Scan, Scatter, Store, Value, fold, index, lit, load, map_, select
from portkit.compiler.push import Indices, holds, limits
from portkit.spec.types import BF16, F16, F32

_Key = tuple[Node, Indices, Guards]


def build_nest(group: Group) -> Nest:
    """Return the nest of a kernel that fusion put together."""
    values = _Values()
    for item in reversed(group.items):
        values.add(item)
    rows = frozenset(group.axes) if group.rows is None else group.rows
    outer = tuple(a for a in group.axes if a in rows)
    inner = tuple(a for a in group.axes if a not in rows)
    reason = "; ".join(dict.fromkeys(group.reasons))
    if group.sequence:
        return Nest(outer, sequence=_sequence(group, values), reason=reason)
    stores = [(Store(node, ravel(at, node.shape), values.of(node, Place(at))), at) for node, at in group.stores]
    return Nest(
        outer,
        inner,
        tuple(values.folds),
        tuple(s for s, at in stores if axes_of_all(at) <= rows),
        tuple(s for s, at in stores if not axes_of_all(at) <= rows),
        reason=reason,
    )


def _sequence(group: Group, values: _Values) -> Scan | Scatter:
    item = group.items[0]
    node, at = item.node, item.place.at
    kind: str = node.attr[0]
    axis: int = node.attr[1]
    along = at[axis]
    assert isinstance(along, Axis)
    if node.op == "scan":
        return Scan(kind, along, Store(node, ravel(at, node.shape), values.of(*item.operands[0])))
    base, where, update = (values.of(*operand) for operand in item.operands)
    (steps,) = item.axes
    return Scatter(kind, along, Store(node, ravel(at, node.shape), base), steps, where, update)


class _Values:
    """The values of one kernel by node and place."""

    def __init__(self) -> None:
        self._known: dict[_Key, Value] = {}
        self.folds: list[Value] = []

    def of(self, node: Node, place: Place) -> Value:
        """Return the value of a node at a place: computed by this kernel, or loaded."""
        found = self._known.get((node, place.at, place.guards))
        return _leaf(node, place) if found is None else found

    def add(self, item: Item) -> None:
        node, place = item.node, item.place
        key = (node, place.at, place.guards)
        if key not in self._known and node.op not in ("scan", "scatter"):
            self._known[key] = self._make(item)

    def _make(self, item: Item) -> Value:
        node = item.node
        if not node.inputs:
            return _leaf(node, item.place)
        operands = [self.of(n, p) for n, p in item.operands]
        if item.late is not None:
            item.late.value = operands[0]
            return _inside(item, item.operands[1][1].guards, operands[1], 0)
        if node.op == "view":
            return _viewed(item, operands)
        if node.op == "map":
            return map_(node.attr, node.dtype, operands)
        if node.op == "reduce":
            return self._fold(item, *operands)
        return operands[0]

    def _fold(self, item: Item, body: Value, *others: Value) -> Value:
        node = item.node
        kind, _ = node.attr
        wide = node.dtype in (F16, BF16) and kind in ("add", "mul")
        first = map_("cast", F32, [body]) if wide else body
        folded = fold(kind, item.axes, first, F32 if wide else node.dtype, *others)
        if folded not in self.folds:
            self.folds.append(folded)
        return map_("cast", node.dtype, [folded]) if wide else folded


def _viewed(item: Item, operands: Iterable[Value]) -> Value:
    node = item.node
    if node.attr[0] != "pad":
        return next(iter(operands))
    bits = node.attr[2]
    if not item.operands:
        return lit(node.dtype, bits)
    (body,) = operands
    return _inside(item, item.operands[0][1].guards, body, bits)


def _inside(item: Item, guards: Guards, body: Value, bits: int) -> Value:
    """Return a value where the guards that an item adds to those of its place hold, and a constant elsewhere."""
    own = tuple(g for g in guards if g not in item.place.guards)
    if not own or (body.op == "lit" and body.attr == bits):
        return body
    if body.op == "load" and body.attr[2] == guards:  # where the outer ones fail, nobody looks
        memory, at, guards, _ = body.attr
        return load(memory, at, guards, bits)
    return select(own, body, lit(body.dtype, bits))


def _leaf(node: Node, place: Place) -> Value:
    origin = through(node)
    if origin.op == "const":
        return lit(origin.dtype, origin.attr)
    if origin.op == "iota":
        return index(place.at[0])
    guards = tuple(g for g in (*place.guards, *_not_empty(place.at, origin.shape)) if holds(g) is not True)
    return load(origin, ravel(place.at, origin.shape), guards)


def _not_empty(at: Indices, shape: Shape) -> Guards:
    """Return guards on dimensions that may be empty where their index is 0: it is so outside of all loops, too."""
    return tuple(
        (0, 0, n - 1) for i, n in zip(at, shape, strict=True) if limits(i) == (0, 0) and not isinstance(n, int)
    )
