"""Fusion: which nodes of a graph are kept in memory, and which kernel computes what.

One pass over the graph, users before inputs, carries the indices at which each kernel needs each node. Whatever is not
kept is computed where it is needed, at these indices. A node is kept if it is an output; if several kernels need it and
computing it again costs more than reading it; if it would be computed again and again inside a fold; or if it is a
fold that cannot join the kernel of its user. It is kept by the kernel that needs it anyway where there is one (a second
output of that kernel), else by a kernel of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from portkit.compiler.extents import count, most
from portkit.compiler.facts import (
    IDENTITIES,
    LEAVES,
    Facts,
    FusionLimits,
    axes_of_all,
    most_loads,
    operand_axes,
    plain,
    through,
)
from portkit.compiler.graph import Node, topological
from portkit.compiler.index import Axis, has_parts
from portkit.compiler.index import Value as IndexValue
from portkit.compiler.nest import Guards, Late, guard_axes
from portkit.compiler.order import launch_order
from portkit.compiler.push import Indices, holds, limits, push_view

_RECOMPUTE = 8
"""What may be computed again for another kernel rather than kept."""
_REPEAT = 16
"""What may be computed again for each repetition inside a fold."""
_MOST_ITEMS = 300
_FREE = ("const", "iota")
"""Operations that take no buffer."""
_MOST_PARTS = 24
"""Of an index expression: beyond, memory is cheaper than divisions."""
_MOST_PLACES = 4
"""At how many different places one kernel may compute one node."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a kernel needs a node: indices, the guards that enclose it, and the innermost fold whose body it is in."""

    at: Indices
    guards: Guards = ()
    fold: Node | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A node computed by a kernel at a place, and the places at which it needs its operands."""

    node: Node
    place: Place
    operands: tuple[tuple[Node, Place], ...]
    late: Late | None = None
    axes: tuple[Axis, ...] = ()


Wants: TypeAlias = "dict[Group, dict[Place, None]]"


@dataclass(eq=False, slots=True)
class Group:
    """A kernel under construction; `items` stand users before operands, `rows` is None until a fold fixes it."""

    number: int
    axes: tuple[Axis, ...]
    items: list[Item] = field(default_factory=list[Item])
    stores: list[tuple[Node, Indices]] = field(default_factory=list[tuple[Node, Indices]])
    folds: dict[Node, Indices] = field(default_factory=dict[Node, Indices])
    rows: frozenset[Axis] | None = None
    heavy: bool = False
    sequence: bool = False
    before: set[Group] = field(default_factory=set["Group"])
    after: set[Group] = field(default_factory=set["Group"])
    reasons: list[str] = field(default_factory=list[str])
    reads: set[Node] = field(default_factory=set[Node])
    """What it needs and does not compute, so far: it may come to read each."""


def fuse(
    outputs: Sequence[Node], limits_: FusionLimits | None = None, inside: frozenset[Node] = frozenset()
) -> list[Group]:
    """Return the kernels that compute `outputs`, in an order in which they can run; sources are not computed.

    The nodes of `inside` are computed by the kernel that needs them, whatever that takes. Leaves are bounded for each
    node beforehand, which is enough but for kernels that are cut where much is needed: these are cut with care.
    """
    bounds = limits_ or FusionLimits()
    groups = _Fusion(outputs, bounds, inside).run()
    if all(len(g.reads) + len(g.stores) <= bounds.buffers for g in groups):
        return groups
    return _Fusion(outputs, bounds, inside, careful=True).run()


class _Fusion:
    """One run of the pass."""

    def __init__(
        self, outputs: Sequence[Node], bounds: FusionLimits, inside: frozenset[Node], careful: bool = False
    ) -> None:
        self.bounds = bounds
        self.careful = careful
        self.inside = inside
        self.outputs = outputs
        self.order = topological(outputs)
        self.facts = Facts(self.order, outputs, bounds, inside)
        self.needs: dict[Node, Wants] = {}
        self.groups: list[Group] = []
        self.awaited: dict[Node, dict[Group, None]] = {}

    def run(self) -> list[Group]:
        for node in reversed(self.order):
            wants = self.needs.pop(node, {})
            kept = node in self.facts.kept
            if (node.op in LEAVES and not kept) or (not wants and not kept) or count(node.shape) == 0:
                continue
            self._place(node, wants)
        return _launch_order(self.groups, self.outputs)

    # --- deciding ---------------------------------------------------------------------------------------------------

    def _place(self, node: Node, wants: Wants) -> None:
        if node in self.inside:
            self._inline(node, wants)
            return
        if node.op in ("scan", "scatter"):
            self._own(node, wants, "runs in order along an axis")
            return
        if node.op == "reduce":
            self._place_reduce(node, wants)
            return
        reason = "output" if node in self.facts.kept else self._why_keep(node, wants)
        if not reason:
            self._inline(node, wants)
            return
        host = self._host(node, wants)
        if host is None:
            self._own(node, wants, reason)
        else:
            self._keep(host, node, wants, reason)
            self._inline(node, {host: wants[host]})

    def _place_reduce(self, node: Node, wants: Wants) -> None:
        kept = node in self.facts.kept
        if len(wants) == 1 and not kept:
            (group,) = wants
            if self._can_fold(group, node, wants[group]):
                self._inline(node, wants)
                return
        hosts = [g for g in wants if self._can_fold(g, node, wants[g]) and self._can_host(g, node, wants)]
        if hosts:
            host = min(hosts, key=lambda g: -g.number)
            self._keep(host, node, wants, "output" if kept else "a fold that other kernels need too")
            self._inline(node, {host: wants[host]})
        else:
            self._own(node, wants, "output" if kept else "a fold that cannot join its user")

    def _why_keep(self, node: Node, wants: Wants) -> str:
        """Return why a node that is no output is kept, or an empty string."""
        if node.op == "view" or node.op in IDENTITIES:
            return "its indices would be long" if _is_long(node, wants) else ""
        facts = self.facts
        size = count(node.shape)
        least, largest = facts.folded[node]
        epilogue = largest > 0 and least >= size  # of folds of its own size only
        for group, places in wants.items():
            if len(group.items) >= _MOST_ITEMS or self._is_full(group, node):
                return "the kernel is long enough, or would read more buffers than the device allows"
            if len(places) > _MOST_PLACES and facts.cost[node] > 1:
                return "one kernel needs it at many places"
            for place in places:
                if place.fold is None:
                    continue
                axes = axes_of_all(place.at)
                nested = not axes <= frozenset(group.axes)
                if epilogue and nested:
                    return "it holds a fold and is used inside another"
                if (nested or group.heavy) and self._repeats(group, place, axes):
                    if largest and group.heavy and facts.cost[node] > 1:
                        return "it holds a fold and is used in a contraction"
                    if facts.cost[node] > _REPEAT:
                        return "it would be computed again and again"
        if len(wants) > 1 and (epilogue or (facts.cost[node] > _RECOMPUTE and size > 1)):
            return "several kernels need it"
        return ""

    def _repeats(self, group: Group, place: Place, axes: frozenset[Axis]) -> bool:
        assert place.fold is not None
        around = axes_of_all(group.folds[place.fold])
        return any(most(a.extent) > 1 for a in around - axes)

    def _host(self, node: Node, wants: Wants) -> Group | None:
        hosts = [g for g in wants if self._can_host(g, node, wants)]
        return min(hosts, key=lambda g: -g.number) if hosts else None

    def _can_host(self, group: Group, node: Node, wants: Wants) -> bool:
        """Whether a kernel that needs the node can keep it: all of it, each element once, before all other users."""
        spare = self.bounds.buffers - most_loads(self.bounds)
        if group.sequence or len(group.stores) >= spare or _own_place(group, node, wants[group]) is None:
            return False
        if self._is_full(group, node, stores=1):
            return False
        if node in self.facts.barriers or len({place.at for place in wants[group]}) > 1:
            return False  # at its other places the kernel would compute it again
        users = (*wants, *self.awaited.get(node, ()))
        return not any(other is not group and _reaches(other, group) for other in users)

    def _is_full(self, group: Group, node: Node, stores: int = 0) -> bool:
        """Whether computing a node could make a kernel need more buffers than there are, and more than it needs now."""
        more = {i for i in node.inputs if i.op not in _FREE} - group.reads
        needed = len(group.reads) - 1 + len(more) + len(group.stores) + stores
        return self.careful and len(more) + stores > 1 and needed > self.bounds.buffers

    def _can_fold(self, group: Group, node: Node, places: dict[Place, None]) -> bool:
        """Whether a fold can join a kernel: needed at one place, over the rows that its other folds have."""
        where = {place.at for place in places}
        if len(where) != 1 or group.heavy or group.sequence or len(group.items) >= _MOST_ITEMS:
            return False
        if any(place.guards for place in places) or self._is_full(group, node):
            return False
        (at,) = where
        axes = axes_of_all(at)
        if not plain(at, node.shape) or not axes <= frozenset(group.axes):
            return False
        if group.rows is not None and group.rows != axes:
            return False
        if self.facts.heavy(node):
            return not group.folds and axes == frozenset(group.axes)
        work = count(node.inputs[0].shape)
        return count(node.shape) >= self.bounds.rows or work <= self.bounds.small

    # --- recording --------------------------------------------------------------------------------------------------

    def _own(self, node: Node, wants: Wants, reason: str) -> None:
        along = node.attr[1] if node.op in ("scan", "scatter") else None
        at = tuple(Axis(n) if n != 1 or i == along else 0 for i, n in enumerate(node.shape))
        group = Group(len(self.groups), tuple(i for i in at if isinstance(i, Axis)))
        self.groups.append(group)
        self._keep(group, node, wants, reason, at)
        self._inline(node, {group: {Place(at): None}})

    def _keep(self, group: Group, node: Node, wants: Wants, reason: str, at: Indices | None = None) -> None:
        where = _own_place(group, node, wants[group]) if at is None else at
        assert where is not None
        group.stores.append((node, where))
        group.reasons.append(reason)
        for other in (*wants, *self.awaited.get(node, ())):
            if other is not group:
                group.after.add(other)
                other.before.add(group)

    def _inline(self, node: Node, wants: Wants) -> None:
        for group, places in wants.items():
            for place in list(places):
                item = self._expand(group, node, place)
                group.items.append(item)
                group.reads.discard(node)
                for operand, where in item.operands:
                    self.needs.setdefault(operand, {}).setdefault(group, {})[where] = None
                    if operand.op not in _FREE:
                        group.reads.add(operand)

    def _expand(self, group: Group, node: Node, place: Place) -> Item:
        """Return the item of a node at a place of a kernel."""
        if node.op == "view":
            at, guards = push_view(node, place.at)
            if any(holds(g) is False for g in guards):
                return Item(node, place, ())
            return Item(node, place, ((node.inputs[0], Place(at, _joined(place.guards, guards), place.fold)),))
        if node.op == "reduce":
            return self._expand_reduce(group, node, place)
        if node.op == "gather":
            return _expand_gather(node, place)
        if node.op in ("scan", "scatter"):
            group.sequence = True
            return _expand_sequence(group, node, place)
        if node.op == "mark":
            for awaited in node.inputs[1:]:
                self.awaited.setdefault(through(awaited), {})[group] = None
            return Item(node, place, ((node.inputs[0], place),))
        return Item(node, place, tuple((operand, place) for operand in node.inputs))

    def _expand_reduce(self, group: Group, node: Node, place: Place) -> Item:
        body = node.inputs[0]
        reduced: tuple[int, ...] = node.attr[1]
        axes = {a: Axis(body.shape[a]) for a in reduced}
        at = tuple(axes.get(i, index) for i, index in enumerate(place.at))
        within = Place(at, place.guards, node)
        around = axes_of_all(place.at)
        if node.attr[0] == "attend":
            around -= operand_axes(node.inputs[1], at)  # what its lowering computes once for each
        group.folds[node] = tuple(around)
        if node not in self.inside:
            group.rows = axes_of_all(place.at)
            group.heavy = self.facts.heavy(node)
        return Item(node, place, tuple((operand, within) for operand in node.inputs), axes=tuple(axes.values()))


def _expand_gather(node: Node, place: Place) -> Item:
    x, index = node.inputs
    axis: int = node.attr
    n = x.shape[axis]
    late = Late(axes_of_all(place.at) | guard_axes(place.guards))
    # Two leaves for one value: as an address it is inside the axis, which the guard on the other makes sure.
    address = IndexValue(late, 0, limits(n)[1] - 1)
    unchecked = IndexValue(late, -(1 << 31), (1 << 31) - 1)
    at = tuple(address if i == axis else v for i, v in enumerate(place.at))
    guards = _joined(place.guards, ((unchecked, 0, n - 1),))
    return Item(node, place, ((index, place), (x, Place(at, guards, place.fold))), late=late)


def _expand_sequence(group: Group, node: Node, place: Place) -> Item:
    axis: int = node.attr[1]
    along = place.at[axis]
    group.rows = frozenset(a for a in group.axes if a is not along)
    if node.op == "scan":
        return Item(node, place, ((node.inputs[0], place),))
    x, index, values = node.inputs
    steps = Axis(index.shape[axis])
    at = Place(tuple(steps if i == axis else v for i, v in enumerate(place.at)))
    return Item(node, place, ((x, place), (index, at), (values, at)), axes=(steps,))


def _is_long(view: Node, wants: Wants) -> bool:
    """Whether a view that makes index expressions grow is needed at indices that are long already."""
    if view.attr != ("reshape",):
        return False
    indices = (e for places in wants.values() for place in places for e in place.at)
    return any(not isinstance(e, int) and has_parts(e, _MOST_PARTS) for e in indices)


def _own_place(group: Group, node: Node, places: Iterable[Place]) -> Indices | None:
    """Return the indices at which a kernel computes every element of a node once, where there are such."""
    levels = {frozenset(group.axes), frozenset(group.axes) if group.rows is None else group.rows}
    for place in places:
        if place.guards or not plain(place.at, node.shape) or not axes_of_all(place.at) <= frozenset(group.axes):
            continue
        if axes_of_all(place.at) in levels:
            return place.at
    return None


def _joined(first: Guards, second: Guards) -> Guards:
    return (*first, *(g for g in second if g not in first))


def _reaches(start: Group, goal: Group, patience: int = 500) -> bool:
    """Whether `goal` runs after `start`; a search that takes too long says yes."""
    stack, seen = [start], {start}
    while stack:
        group = stack.pop()
        if group is goal or len(seen) > patience:
            return True
        fresh = group.after - seen
        seen |= fresh
        stack.extend(fresh)
    return False


def _launch_order(groups: Sequence[Group], outputs: Iterable[Node]) -> list[Group]:
    """Return kernels in an order in which they can run that leaves little in memory; outputs have places of their own.

    Of equal ones those made last come first: they compute what the others need.
    """
    given = frozenset(through(o) for o in outputs)
    numbers = {group: number for number, group in enumerate(groups)}
    needs = [{numbers[g] for g in group.before} for group in groups]
    made = [sum(count(n.shape) * n.dtype.bytes for n, _ in group.stores if n not in given) for group in groups]
    return [groups[n] for n in launch_order(needs, made, range(0, -len(groups), -1))]
