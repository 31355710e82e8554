"""The lane serialiser: run all lanes of a work-group on one thread.

Barriers and group reductions cut the body into *regions*. Each region runs for all lanes, one after the other (or, as
they do not conflict, several at once), before the next region begins. Loops that contain a cut stay around the regions:

    before                      after
    l = loop.lane 256           for l: r = load x l; saved[l] = r
    r = load x l                                                     # the barrier is the gap between the two loops
    ...
    barrier                     for l: r = saved[l]; ...
    ... r ...

A register is *shared by the group* if it is uniform and can be computed once, outside the lane loops; it stays a
scalar. Any other register that is needed beyond its region is *saved* in an array with a slot per lane.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from portkit.spec.kernel import Instr, Kernel, Loop
from portkit.spec.types import TOKEN
from portkit.spec.uniform import uniform_registers

_CHEAP = 6
"""How many integer instructions are repeated in another region before it pays to save their result."""


@dataclass(slots=True)
class Region:
    """What every lane runs between two cuts.

    `again` are positions of cheap instructions of other places that it repeats, as they need no memory. `loads` are the
    saved registers that it reads, `saves` those that it defines. `copies` are pairs (slot, register) that each lane
    stores at the end, all at once: carries and the operands of reductions.
    """

    items: list[int | Loop] = field(default_factory=list[int | Loop])
    again: list[int] = field(default_factory=list[int])
    loads: list[str] = field(default_factory=list[str])
    saves: list[str] = field(default_factory=list[str])
    copies: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


@dataclass(frozen=True, slots=True)
class Once:
    """An instruction that is executed once for the group: pure, or a reduction of what the lanes saved."""

    position: int


@dataclass(frozen=True, slots=True)
class Around:
    """A serial loop around regions; `carries` are the positions of those carries that the group shares."""

    loop: Loop
    carries: tuple[int, ...]
    body: list[Step]


Step = Region | Once | Around


@dataclass(frozen=True, slots=True)
class Plan:
    """A serialised kernel: the steps of one work-group, what it shares, and which registers have a slot per lane."""

    steps: list[Step]
    group: frozenset[str]
    slots: tuple[str, ...]


def reduction_slot(instr: Instr) -> str:
    """Return the name of the slots that a group reduction folds in place; no register has it."""
    return f"{instr.result}.fold"


def is_group_reduction(instr: Instr) -> bool:
    """Return whether the lanes of the work-group fold an operand."""
    return instr.form.extension == "group"


def serialise(kernel: Kernel) -> Plan:
    """Cut a verified kernel into regions; with one lane nothing needs to be cut."""
    return _Serialiser(kernel).plan()


class _Serialiser:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.body = kernel.body
        self.single = kernel.lanes == 1
        self.group = self._shared_by_group()
        self.costs = {self.body[at].result: 0 for at in kernel.nest.setup}
        self.cheap = {self.body[at].result: at for at in kernel.nest.setup}
        self.regions: list[Region] = []
        self.slots: dict[str, None] = {}
        self.counts: list[str] = []

    def plan(self) -> Plan:
        steps = self._block(self.kernel.nest.body, [])
        self._connect()
        return Plan(steps, self.group, tuple(self.slots))

    # --- what the group shares ------------------------------------------------------------------------------------

    def _shared_by_group(self) -> frozenset[str]:
        """Return the uniform registers whose operands, all the way up, are shared too."""
        candidates = [self.body[i] for i in (*self.kernel.nest.setup, *self._outside(self.kernel.nest.body))]
        uniform = uniform_registers(self.kernel)
        shared = {s.name for s in self.kernel.scalars} | {i.result for i in candidates if i.result in uniform}
        following = dict(pair for instr in self.body for pair in instr.carries)
        before = 0
        while len(shared) != before:  # once more for each carry that turns out not to be shared
            before = len(shared)
            for instr in candidates:
                if instr.result in shared and not self._operands(instr, following) <= shared:
                    shared.remove(instr.result)
        return frozenset(shared)

    def _outside(self, items: Iterable[int | Loop]) -> Iterator[int]:
        """Yield the positions of what could be computed outside the lane loops."""
        for item in items:
            if isinstance(item, int):
                yield item
            elif self._is_cut(item):
                yield from (item.head, *item.carries)
                yield from self._outside(item.body)

    def _operands(self, instr: Instr, following: Mapping[str, str]) -> set[str]:
        """Return what must be shared for a result to be; the index of a loop around regions is, whatever its count."""
        if instr.name == "loop.serial" or (is_group_reduction(instr) and not self.single):
            return set()
        return {*instr.reads, following.get(instr.result, instr.result)}

    # --- cutting --------------------------------------------------------------------------------------------------

    def _is_cut(self, item: int | Loop) -> bool:
        """Return whether the lanes must meet in an item."""
        if self.single:
            return False
        if isinstance(item, Loop):
            return any(self._is_cut(inner) for inner in item.body)
        return self.body[item].name == "barrier" or is_group_reduction(self.body[item])

    def _block(self, items: Iterable[int | Loop], closing: list[tuple[str, str]]) -> list[Step]:
        """Return the steps of a block; its last region stores the `closing` copies."""
        steps: list[Step] = []
        region = Region()
        for item in items:
            if self._is_cut(item):
                meeting = self._around(region, item) if isinstance(item, Loop) else self._meet(region, item)
                self._close(steps, region)
                steps += meeting
                region = Region()
            elif isinstance(item, int) and self.body[item].result in self.group:
                steps.append(Once(item))  # it needs nothing of the open region, which comes after it
            else:
                region.items.append(item)
                self._price(item)
        region.copies += closing
        self._close(steps, region)
        return steps

    def _close(self, steps: list[Step], region: Region) -> None:
        if region.items or region.copies:
            steps.append(region)
            self.regions.append(region)

    def _meet(self, before: Region, position: int) -> list[Step]:
        instr = self.body[position]
        if not is_group_reduction(instr):
            return []
        before.copies.append((reduction_slot(instr), instr.args[0]))
        return [Once(position)]

    def _around(self, before: Region, loop: Loop) -> list[Step]:
        self.counts += self.body[loop.head].args
        private = [at for at in loop.carries if self.body[at].result not in self.group]
        before.copies += self._copies((self.body[at].result, self.body[at].args[0]) for at in private)
        following = dict(self.body[loop.end].carries)
        closing = self._copies((self.body[at].result, following[self.body[at].result]) for at in private)
        return [Around(loop, tuple(at for at in loop.carries if at not in private), self._block(loop.body, closing))]

    def _copies(self, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        return [pair for pair in pairs if self.kernel.types[pair[0]].dtype is not TOKEN]

    # --- what crosses a cut ---------------------------------------------------------------------------------------

    def _price(self, item: int | Loop) -> None:
        """Note index arithmetic that costs less to repeat than to save."""
        if not isinstance(item, int) or not (instr := self.body[item]).result or instr.type is None:
            return
        simple = instr.form.effect == "pure" and instr.type.lanes == 1 and not instr.type.dtype.is_float
        known = all(r in self.group or r in self.costs for r in instr.reads)
        if simple and known:
            cost = 1 + sum(self.costs.get(r, 0) for r in instr.reads)
            if cost <= _CHEAP:
                self.costs[instr.result], self.cheap[instr.result] = cost, item

    def _connect(self) -> None:
        """Find what each region repeats, loads and saves."""
        home = {name: region for region in self.regions for name in self._visible(region.items)}
        for region in self.regions:
            inside = set(self._defined(region.items))
            for register in dict.fromkeys(self._reads(region)):
                if register not in inside:
                    self._fetch(region, register, home)
        for register in self.counts:
            if register not in self.group:
                self._save(register, home)
        self.slots.update(dict.fromkeys(slot for region in self.regions for slot, _ in region.copies))

    def _fetch(self, region: Region, register: str, home: Mapping[str, Region]) -> None:
        if register in self.group or self.kernel.types[register].dtype is TOKEN:
            return
        if register in self.cheap:
            self._repeat(region, register)
            return
        region.loads.append(register)
        self._save(register, home)

    def _repeat(self, region: Region, register: str) -> None:
        """Let a region repeat a cheap register and the cheap ones that it is made of."""
        pending, found = [register], set(region.again)
        while pending:
            name = pending.pop()
            if name in self.cheap and name not in self.group and self.cheap[name] not in found:
                found.add(self.cheap[name])
                pending += self.body[self.cheap[name]].reads
        region.again = sorted(found)

    def _save(self, register: str, home: Mapping[str, Region]) -> None:
        self.slots[register] = None
        if register in home and register not in home[register].saves:
            home[register].saves.append(register)

    def _visible(self, items: Iterable[int | Loop]) -> Iterator[str]:
        """Yield the registers that items define for what follows them."""
        for item in items:
            for at in (item,) if isinstance(item, int) else item.carries:
                yield self.body[at].result

    def _defined(self, items: Iterable[int | Loop]) -> Iterator[str]:
        for item in items:
            if isinstance(item, int):
                yield self.body[item].result
            else:
                yield from (self.body[at].result for at in (item.head, *item.carries))
                yield from self._defined(item.body)

    def _reads(self, region: Region) -> Iterator[str]:
        yield from self._reads_of(region.items)
        yield from (register for _, register in region.copies)

    def _reads_of(self, items: Iterable[int | Loop]) -> Iterator[str]:
        for item in items:
            if isinstance(item, int):
                yield from self.body[item].reads
            else:
                for at in (item.head, *item.carries):
                    yield from self.body[at].reads
                yield from self._reads_of(item.body)
                yield from (value for _, value in self.body[item.end].carries)
