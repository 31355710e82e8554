"""A kernel's body where one thread runs a whole work-group: the steps of the lane serialiser as loops over lanes.

What a lane needs beyond its region lies in *slots*, an array with an element for each lane, in the scratch memory of
the calling thread: first the shared arrays of the kernel, then the slots.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from portkit.backends.toolkit.body import Body, Language
from portkit.backends.toolkit.code import Code, Value
from portkit.backends.toolkit.forms import accumulator
from portkit.backends.toolkit.serialise import Around, Once, Region, Step, is_group_reduction, reduction_slot, serialise
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import Type

C = TypeVar("C", bound=Code)

ALIGN = 64
"""Every shared array and every array of slots starts at a multiple of this many bytes."""


@dataclass(frozen=True, slots=True)
class Printed:
    """The text of a kernel and how much scratch memory a thread needs to run it."""

    text: str
    scratch: int


@dataclass(frozen=True, slots=True)
class Slot:
    """An array with an element for each lane, at an offset into the slots."""

    type: Type
    offset: int


class Groups(Body[C]):
    """Writes the loop over work-groups; a printer of a language writes slots, and the function around."""

    def __init__(self, kernel: Kernel, language: Language[C], memories: Mapping[str, Value]) -> None:
        """Plan the steps and lay out the scratch memory."""
        super().__init__(kernel, language, memories)
        self.plan = serialise(kernel)
        self.number = self.code.literal("i32", 0)
        self.shared_offsets, self.slots_offset = _layout([(s.name, s.dtype.bytes * s.extent) for s in kernel.shared])
        self.slots, self.scratch = self._slot_layout(self.slots_offset)

    @abstractmethod
    def load_slot(self, name: str, lane: Value) -> Value:
        """Write a load of a lane's slot."""

    @abstractmethod
    def store_slot(self, name: str, lane: Value, value: Value) -> None:
        """Write a store to a lane's slot."""

    @abstractmethod
    def device_fence(self) -> None:
        """Order this thread's memory accesses as all others see them."""

    @abstractmethod
    def grid_extent(self, place: int) -> Value:
        """Return the extent of a grid loop, an i32 that the launch gives."""

    # --- layout of the scratch memory -----------------------------------------------------------------------------

    def _slot_layout(self, start: int) -> tuple[dict[str, Slot], int]:
        registers, folds = self.kernel.types, [i for i in self.kernel.body if is_group_reduction(i)]
        wide = {reduction_slot(i): accumulator(i.form.kind, registers[i.args[0]]) for i in folds}
        types = {name: wide.get(name) or registers[name] for name in self.plan.slots}
        offsets, end = _layout([(name, self.kernel.lanes * t.bits // 8) for name, t in types.items()])
        return {name: Slot(type_, offsets[name]) for name, type_ in types.items()}, start + end

    # --- once for each group --------------------------------------------------------------------------------------

    def groups(self, begin: Value, end: Value) -> None:
        """Write the work-groups begin..end-1, which are i64 values."""
        code = self.code
        with code.loop(code.op("sub", end, begin), hint="group") as turn:
            self._grid_indices(code.convert("trunc", code.op("add", begin, turn.index), "i32"))
            for position in self.kernel.nest.setup:
                instr = self.kernel.body[position]
                if instr.result in self.plan.group and instr.name != "loop.grid":
                    self.emit(position, self.group)
            self._steps(self.plan.steps)

    def _grid_indices(self, number: Value) -> None:
        """Split the linear group number, of which the last grid loop counts fastest (Spec: nest_c5)."""
        for place in reversed(range(len(self.kernel.nest.grids))):
            index = self.kernel.body[self.kernel.nest.grids[place]].result
            extent = self.grid_extent(place)
            whole = self.code.op("urem", number, extent) if place else number
            self.group[index] = self.code.named(whole, index)
            if place:
                number = self.code.op("udiv", number, extent)

    def _steps(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, Region):
                self._region(step)
            elif isinstance(step, Around):
                self._around(step)
            else:
                self._once(step)

    def _once(self, step: Once) -> None:
        instr = self.kernel.body[step.position]
        if reduction_slot(instr) in self.slots:
            self.group[instr.result] = self._fold(step.position)
        else:
            self.emit(step.position, self.group)

    def _around(self, step: Around) -> None:
        carries = [self.kernel.body[at] for at in step.carries]
        head = self.kernel.body[step.loop.head]
        firsts = [self.value(c.args[0]) for c in carries]
        names = [c.result for c in carries]
        with self.code.loop(self.count(step.loop), firsts, hint=head.result, names=names) as turn:
            self.group[head.result] = turn.index
            self.group.update(zip(names, turn.carries, strict=True))
            self._steps(step.body)
            following = dict(self.kernel.body[step.loop.end].carries)
            turn.following = [self.value(following[name]) for name in names]

    def _fold(self, position: int) -> Value:
        """Fold the lanes' slots by halves (Spec: numeric_c5): those beyond the last lane would hold the identity."""
        instr, code = self.kernel.body[position], self.code
        slot, lanes = reduction_slot(instr), self.kernel.lanes
        type_, levels = self.slots[slot].type, (lanes - 1).bit_length()
        integer = partial(code.literal, "i32")
        with code.loop(integer(levels), hint="level") as level:
            half = code.op("lshr", integer(1 << (levels - 1)), level.index)
            count = code.call("smin", half, code.op("sub", integer(lanes), half))
            with code.loop(count, parallel=True, hint="lane") as turn:
                low = self.load_slot(slot, turn.index)
                high = self.load_slot(slot, code.op("add nuw nsw", turn.index, half))
                self.store_slot(slot, turn.index, self.forms.step(instr.form.kind, type_.dtype, low, high))
        return self._rounded(instr.args[0], type_, self.load_slot(slot, self.code.literal("i32", 0)))

    def _rounded(self, register: str, accumulated: Type, total: Value) -> Value:
        dtype = self.kernel.types[register].dtype
        return total if dtype == accumulated.dtype else self.forms.formats.narrow(dtype, total)

    # --- for each lane --------------------------------------------------------------------------------------------

    def _region(self, region: Region) -> None:
        self.lane = {}
        with ExitStack() as lanes:
            for head, count in zip(self.kernel.nest.lanes, self.kernel.lane_counts, strict=True):
                self._lane_loop(lanes, self.kernel.body[head].result, count)
            self.number = self._lane_number()
            for position in region.again:
                if self.kernel.body[position].name != "loop.lane":
                    self.emit(position, self.lane)
            self.lane.update({name: self.load_slot(name, self.number) for name in region.loads})
            self.items(region.items)
            copies = [(name, self._copied(name, register)) for name, register in region.copies]
            for name, value in [*((name, self.value(name)) for name in region.saves), *copies]:
                self.store_slot(name, self.number, value)
        self.lane = {}

    def _lane_loop(self, lanes: ExitStack, index: str, count: int) -> None:
        self.lane[index] = self.code.literal("i32", 0)
        if count > 1:
            extent = self.code.literal("i32", count)
            self.lane[index] = lanes.enter_context(self.code.loop(extent, parallel=True, hint=index)).index

    def _lane_number(self) -> Value:
        """Return the linear number of the lane, of which the last lane loop counts fastest (Spec: nest_c5)."""
        number: Value | None = None
        for head, count in zip(self.kernel.nest.lanes, self.kernel.lane_counts, strict=True):
            index = self.lane[self.kernel.body[head].result]
            if number is None:
                number = index if count > 1 else None
            elif count > 1:
                number = self.code.op("add nuw nsw", self.code.op("mul nuw nsw", number, count), index)
        return number or self.code.literal("i32", 0)

    def _copied(self, slot: str, register: str) -> Value:
        value = self.value(register)
        widen = self.slots[slot].type != self.kernel.types[register]
        return self.forms.formats.widen(self.kernel.types[register].dtype, value) if widen else value

    def sync(self, instr: Instr) -> Value | None:
        """Write what is left of synchronisation where one thread runs all lanes of a group, one after the other.

        Barriers are the gaps between regions, copies are done when issued, and a single lane is its own reduction.
        """
        if instr.name == "fence.device":
            self.device_fence()
        return self.value(instr.args[0]) if is_group_reduction(instr) else None

    def value(self, name: str) -> Value:
        """Return a register; the group reads one that only lanes have, the count of a loop, from lane 0's slot."""
        known = name in self.lane or name in self.group
        return super().value(name) if known else self.load_slot(name, self.code.literal("i32", 0))


def _layout(sizes: list[tuple[str, int]]) -> tuple[dict[str, int], int]:
    """Return the offset of each array when laid out one after the other, each aligned, and the end of the last."""
    offsets: dict[str, int] = {}
    end = 0
    for name, size in sizes:
        offsets[name] = end
        end += -(-size // ALIGN) * ALIGN
    return offsets, end
