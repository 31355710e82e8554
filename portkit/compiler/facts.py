"""What fusion knows of a graph before it decides: what must be kept, what computing costs, what folds a node holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from portkit.compiler.costs import COSTS, DEAR
from portkit.compiler.extents import count, most
from portkit.compiler.graph import Node, Shape
from portkit.compiler.index import Axis
from portkit.compiler.nest import axes_of, union
from portkit.compiler.push import Indices, push_view

IDENTITIES = ("store", "mark")
"""Operations that change no value: notes for fusion, differentiation and ordering."""
LEAVES = ("source", "const", "iota")

_GATHER = 4
_NO_FOLD = (0, 0)
_HEAVY = 4
"""The least extent on each side of a contraction that is worth tiles."""


@dataclass(frozen=True)
class FusionLimits:
    """What the device bounds: buffers of one kernel, how many rows keep all of it busy, shared memory for attention."""

    buffers: int = 8
    rows: int = 8
    small: int = 1 << 16
    attention_bytes: int = 0


def most_loads(bounds: FusionLimits) -> int:
    """Return how many buffers a kernel may read, so that some are left for its outputs."""
    return max(4, min(bounds.buffers * 5 // 8, 32))


class Facts:
    """What is known of each node before fusion.

    `kept` are those that must be stored, of which `barriers` not by a kernel that uses them. `cost` estimates what
    computing one element takes beyond stored nodes and folds; `folded` is the number of elements of the smallest and
    the largest fold that a node depends on before the next stored one.
    """

    def __init__(
        self, order: Sequence[Node], outputs: Iterable[Node], bounds: FusionLimits, inside: frozenset[Node]
    ) -> None:
        self.barriers = {through(n) for n in order if n.op == "store"}
        self.kept = {through(o) for o in outputs} | self.barriers
        self.kept |= {through(n) for o in order if o.op == "mark" for n in o.inputs[1:]}
        self.kept = {n for n in self.kept if n.op != "source"}
        self.inside = inside
        self.cost: dict[Node, int] = {}
        self.folded: dict[Node, tuple[int, int]] = {}
        self._leaves: dict[Node, frozenset[Node]] = {}
        self._heavy: dict[Node, bool] = {}
        for node in order:
            self._learn(node, most_loads(bounds))

    def _learn(self, node: Node, most_loads: int) -> None:
        self._limit_leaves(node, most_loads)
        stored = [i for i in node.inputs if i in self.kept or i.op in ("scan", "scatter")]
        inlined = [i for i in node.inputs if i not in stored]
        below = sum(self.cost[i] for i in inlined) + len(stored)
        own = {"map": COSTS.get(node.attr, DEAR) if node.op == "map" else 0, "gather": _GATHER, "source": 1}
        self.cost[node] = 1 if node.op == "reduce" else min(below + own.get(node.op, 0), 1 << 20)
        found = [self.folded[i] for i in inlined if self.folded[i] != _NO_FOLD]
        least, largest = min((f[0] for f in found), default=0), max((f[1] for f in found), default=0)
        self.folded[node] = (count(node.shape), count(node.shape)) if node.op == "reduce" else (least, largest)

    def _limit_leaves(self, node: Node, most_loads: int) -> None:
        """Keep operands in memory until a kernel that computes this node reads no more buffers than it may."""
        product = node.op == "reduce" and node.attr[0] != "attend" and self.heavy(node)
        # Half is for what follows a contraction, and one for the values that scores weigh.
        allowed = most_loads // 2 if product else most_loads - (node in self.inside)
        operands = _factors(node) if product else node.inputs
        found = self._found(operands)
        movable = [i for i in operands if through_views(i) not in self.inside]
        while len(found) > allowed and movable:
            kept = through_views(max(movable, key=lambda i: len(self._seen_from(i))))
            if kept in self.barriers or kept.op in LEAVES:
                break
            self.barriers.add(kept)
            self.kept.add(kept)
            found = self._found(operands)
        leaf = node.op == "source" or (product and node not in self.inside)
        self._leaves[node] = frozenset({node}) if leaf else frozenset(found)

    def _found(self, operands: Iterable[Node]) -> set[Node]:
        return {leaf for operand in operands for leaf in self._seen_from(operand)}

    def _seen_from(self, operand: Node) -> frozenset[Node]:
        base = through_views(operand)
        stored = base in self.barriers or base.op in ("scan", "scatter")
        return frozenset({base}) if stored else self._leaves[operand]

    def heavy(self, node: Node) -> bool:
        """Whether a fold is a kernel's main work: a product of matrices or an attention."""
        if node not in self._heavy:
            self._heavy[node] = node.attr[0] == "attend" or is_contraction(node)
        return self._heavy[node]


def _factors(node: Node) -> tuple[Node, ...]:
    """Return the operands that a kernel's main work multiplies."""
    body = node.inputs[0]
    while body.op == "map" and body.attr == "cast":
        body = body.inputs[0]
    return body.inputs


def is_contraction(node: Node) -> bool:
    """Whether a fold is a sum of products, each operand with axes of its own, large enough for tiles."""
    body = node.inputs[0]
    while body.op == "map" and body.attr == "cast":
        body = body.inputs[0]
    if node.attr[0] != "add" or body.op != "map" or body.attr != "mul" or not body.dtype.is_float:
        return False
    at = tuple(Axis(n) if n != 1 else 0 for n in body.shape)
    kept = frozenset(a for i, a in enumerate(at) if isinstance(a, Axis) and i not in node.attr[1])
    left, right = (operand_axes(operand, at) & kept for operand in body.inputs)
    return all(prod(most(a.extent) for a in side) >= _HEAVY for side in (left - right, right - left))


def operand_axes(node: Node, at: Indices) -> frozenset[Axis]:
    """Return the axes that a factor of a product depends on, looking through views and functions of one operand."""
    while node.op == "view" or node.op in IDENTITIES or (node.op == "map" and len(node.inputs) == 1):
        if node.op == "view":
            at, _ = push_view(node, at)
        node = node.inputs[0]
    return axes_of_all(at)


def through(node: Node) -> Node:
    """Return the node that a mark (`store`, `detach`) stands for."""
    while node.op in IDENTITIES:
        node = node.inputs[0]
    return node


def through_views(node: Node) -> Node:
    """Return the node whose elements a view or mark shows."""
    while node.op in IDENTITIES or node.op == "view":
        node = node.inputs[0]
    return node


def plain(at: Indices, shape: Shape) -> bool:
    """Whether indices are distinct axes over all of a shape: each element once."""
    axes = [i for i, n in zip(at, shape, strict=True) if n != 1]
    whole = all(isinstance(i, Axis) and i.extent == n for i, n in zip(at, shape, strict=True) if n != 1)
    return whole and len(set(axes)) == len(axes)


def axes_of_all(at: Indices) -> frozenset[Axis]:
    """Return the axes that any of some indices depends on."""
    return union(map(axes_of, at))
