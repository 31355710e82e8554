"""A whole kernel as LLVM IR text, for targets whose threads run one work-group at a time.

The function is `void kernel(ptr args, i64 begin, i64 end, ptr scratch)`: it runs the work-groups [begin, end). `args`
holds 8 bytes each for the address of every buffer, every scalar and the extent of every grid loop, in the order of the
kernel. `scratch` is memory of the calling thread: the shared arrays, then the slots of the lane serialiser.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from portkit.backends.toolkit.body import Body
from portkit.backends.toolkit.code import Value, element_of, memory_element_of, vector
from portkit.backends.toolkit.forms import accumulator
from portkit.backends.toolkit.llvm_code import PARALLEL, LlvmCode
from portkit.backends.toolkit.llvm_memory import Target
from portkit.backends.toolkit.serialise import Around, Once, Region, Step, is_group_reduction, reduction_slot, serialise
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import BOOL, Type

_ALIGN = 64
_POINTER = {"read": "readonly ", "write": "writeonly ", "readwrite": ""}


@dataclass(frozen=True, slots=True)
class Printed:
    """The module text and how much scratch memory a thread needs to run it."""

    text: str
    scratch: int


__all__ = ["Printed", "Target", "print_kernel"]


def print_kernel(kernel: Kernel, target: Target) -> Printed:
    """Return a verified kernel that fits the target's declared capabilities as an LLVM module."""
    return _Printer(kernel, target).module()


@dataclass(frozen=True, slots=True)
class _Slot:
    """An array with an element for each lane, at an offset into the slots."""

    type: Type
    offset: int


class _Printer(Body[LlvmCode]):
    def __init__(self, kernel: Kernel, target: Target) -> None:
        super().__init__(kernel, target, {name: Value(f"%{name}", "ptr") for name in kernel.memories})
        self.group = {s.name: Value(f"%{s.name}", element_of(s.dtype)) for s in kernel.scalars}
        self.plan = serialise(kernel)
        self.number = Value("0", "i32")
        self.shared_offsets, shared = _layout([(s.name, s.dtype.bytes * s.extent) for s in kernel.shared])
        self.slots, self.scratch = self._slot_layout(shared)
        self.slots_offset = shared

    def module(self) -> Printed:
        self._groups()
        lines = [*self._entry(), "", *self._function(), "", *self.code.metadata, ""]
        return Printed("\n".join(lines), self.scratch)

    # --- layout of the scratch memory -----------------------------------------------------------------------------

    def _slot_layout(self, start: int) -> tuple[dict[str, _Slot], int]:
        registers, folds = self.kernel.types, [i for i in self.kernel.body if is_group_reduction(i)]
        wide = {reduction_slot(i): accumulator(i.form.kind, registers[i.args[0]]) for i in folds}
        types = {name: wide.get(name) or registers[name] for name in self.plan.slots}
        offsets, end = _layout([(name, self.kernel.lanes * t.bits // 8) for name, t in types.items()])
        return {name: _Slot(type_, offsets[name]) for name, type_ in types.items()}, start + end

    # --- the two functions ----------------------------------------------------------------------------------------

    def _entry(self) -> list[str]:
        """Return the exported function, which unpacks the arguments: only parameters can be marked `noalias`."""
        grids = [f".grid{place}" for place in range(len(self.kernel.nest.grids))]
        slots = [(b.name, "ptr") for b in self.kernel.buffers]
        slots += [(s.name, element_of(s.dtype)) for s in self.kernel.scalars] + [(name, "i32") for name in grids]
        lines = ["define void @kernel(ptr %.args, i64 %.begin, i64 %.end, ptr %.scratch) nounwind {"]
        for place, (name, element) in enumerate(slots):
            lines.append(f"  %.at{place} = getelementptr i64, ptr %.args, i64 {place}")
            lines.append(f"  %{name} = load {element}, ptr %.at{place}, align 8")
        offsets = {**self.shared_offsets, ".slots": self.slots_offset}
        lines += [f"  %{name} = getelementptr i8, ptr %.scratch, i64 {offset}" for name, offset in offsets.items()]
        passed = [f"{element} %{name}" for name, element in slots] + [f"ptr %{name}" for name in offsets]
        lines.append(f"  call void @body({', '.join([*passed, 'i64 %.begin', 'i64 %.end'])})")
        return [*lines, "  ret void", "}"]

    def _function(self) -> list[str]:
        buffers = [f"ptr noalias {_POINTER[b.access]}align {_ALIGN} %{b.name}" for b in self.kernel.buffers]
        scalars = [f"{element_of(s.dtype)} %{s.name}" for s in self.kernel.scalars]
        grids = [f"i32 %.grid{place}" for place in range(len(self.kernel.nest.grids))]
        scratch = [f"ptr noalias align {_ALIGN} %{name}" for name in (*self.shared_offsets, ".slots")]
        parameters = ", ".join([*buffers, *scalars, *grids, *scratch, "i64 %.begin", "i64 %.end"])
        body = [".entry:", *self.code.lines, "  ret void", "}"]
        return [f"define internal void @body({parameters}) noinline nounwind {{", *body]

    # --- once for each group --------------------------------------------------------------------------------------

    def _groups(self) -> None:
        code, begin = self.code, Value("%.begin", "i64")
        with code.loop(code.op("sub", Value("%.end", "i64"), Value("%.begin", "i64")), hint="group") as turn:
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
            extent = Value(f"%.grid{place}", "i32")
            self.group[index] = self.code.op("urem", number, extent) if place else number
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
        with self.code.loop(self.count(step.loop), firsts, hint=head.result) as turn:
            self.group[head.result] = turn.index
            self.group.update(zip((c.result for c in carries), turn.carries, strict=True))
            self._steps(step.body)
            following = dict(self.kernel.body[step.loop.end].carries)
            turn.following = [self.value(following[c.result]) for c in carries]

    def _fold(self, position: int) -> Value:
        """Fold the lanes' slots by halves (Spec: numeric_c5): those beyond the last lane would hold the identity."""
        instr, code = self.kernel.body[position], self.code
        slot, lanes = reduction_slot(instr), self.kernel.lanes
        type_, levels = self.slots[slot].type, (lanes - 1).bit_length()
        with code.loop(Value(str(levels), "i32"), hint="level") as level:
            half = code.op("lshr", Value(str(1 << (levels - 1)), "i32"), level.index)
            count = code.call("smin", half, code.op("sub", Value(str(lanes), "i32"), half))
            with code.loop(count, parallel=True, hint="lane") as turn:
                low = self._load_slot(slot, turn.index)
                high = self._load_slot(slot, code.op("add nuw nsw", turn.index, half))
                self._store_slot(slot, turn.index, self.forms.step(instr.form.kind, type_.dtype, low, high))
        return self._rounded(instr.args[0], type_, self._load_slot(slot, Value("0", "i32")))

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
            self.lane.update({name: self._load_slot(name, self.number) for name in region.loads})
            self.items(region.items)
            copies = [(name, self._copied(name, register)) for name, register in region.copies]
            for name, value in [*((name, self.value(name)) for name in region.saves), *copies]:
                self._store_slot(name, self.number, value)
        self.lane = {}

    def _lane_loop(self, lanes: ExitStack, index: str, count: int) -> None:
        self.lane[index] = Value("0", "i32")
        if count > 1:
            extent = Value(str(count), "i32")
            self.lane[index] = lanes.enter_context(self.code.loop(extent, parallel=True, hint=index)).index

    def _lane_number(self) -> Value:
        """Return the linear number of the lane, of which the last lane loop counts fastest (Spec: nest_c5)."""
        number = Value("0", "i32")
        for head, count in zip(self.kernel.nest.lanes, self.kernel.lane_counts, strict=True):
            index = self.lane[self.kernel.body[head].result]
            if number.text == "0":
                number = index
            elif count > 1:
                number = self.code.op("add nuw nsw", self.code.op("mul nuw nsw", number, count), index)
        return number

    def _copied(self, slot: str, register: str) -> Value:
        value = self.value(register)
        widen = self.slots[slot].type != self.kernel.types[register]
        return self.forms.formats.widen(self.kernel.types[register].dtype, value) if widen else value

    def sync(self, instr: Instr) -> Value | None:
        """Write what is left of synchronisation where one thread runs all lanes of a group, one after the other.

        Barriers are the gaps between regions, copies are done when issued, and a single lane is its own reduction.
        """
        if instr.name == "fence.device":
            self.code.do("fence acq_rel")
        return self.value(instr.args[0]) if is_group_reduction(instr) else None

    def value(self, name: str) -> Value:
        """Return a register; the group reads one that only lanes have, the count of a loop, from lane 0's slot."""
        known = name in self.lane or name in self.group
        return super().value(name) if known else self._load_slot(name, Value("0", "i32"))

    # --- slots ----------------------------------------------------------------------------------------------------

    def _load_slot(self, name: str, lane: Value) -> Value:
        type_ = self.slots[name].type
        element = memory_element_of(type_.dtype)
        text = f"load {vector(element, type_.lanes)}, {self._slot(name, lane)}, {PARALLEL}"
        value = self.code.define(text, element, type_.lanes, name)
        return self.code.convert("trunc", value, "i1") if type_.dtype == BOOL else value

    def _store_slot(self, name: str, lane: Value, value: Value) -> None:
        stored = self.code.convert("zext", value, "i8") if self.slots[name].type.dtype == BOOL else value
        self.code.do(f"store {stored}, {self._slot(name, lane)}, {PARALLEL}")

    def _slot(self, name: str, lane: Value) -> str:
        """Return the address and alignment of a lane's slot."""
        slot = self.slots[name]
        base = self.code.define(f"getelementptr inbounds i8, ptr %.slots, i64 {slot.offset}", "ptr")
        first = lane if slot.type.lanes == 1 else self.code.op("mul nuw nsw", lane, slot.type.lanes)
        element = memory_element_of(slot.type.dtype)
        size = slot.type.bits // 8
        address = self.code.define(f"getelementptr inbounds {element}, {base}, {first}", "ptr")
        return f"{address}, align {min(_ALIGN, size & -size)}"


def _layout(sizes: list[tuple[str, int]]) -> tuple[dict[str, int], int]:
    """Return the offset of each array when laid out one after the other, each aligned, and the end of the last."""
    offsets: dict[str, int] = {}
    end = 0
    for name, size in sizes:
        offsets[name] = end
        end += -(-size // _ALIGN) * _ALIGN
    return offsets, end
