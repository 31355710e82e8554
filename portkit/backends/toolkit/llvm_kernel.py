"""A whole kernel as LLVM IR text, for targets whose threads run one work-group at a time.

The function is `void kernel(ptr args, i64 begin, i64 end, ptr scratch)`: it runs the work-groups [begin, end). `args`
holds 8 bytes each for the address of every buffer, every scalar and the extent of every grid loop, in the order of the
kernel. `scratch` is memory of the calling thread: the shared arrays, then the slots of the lane serialiser.
"""

from __future__ import annotations

from portkit.backends.toolkit.code import Value, element_of, memory_element_of, vector
from portkit.backends.toolkit.groups import ALIGN, Groups, Printed
from portkit.backends.toolkit.llvm_code import PARALLEL, LlvmCode
from portkit.backends.toolkit.llvm_memory import Target
from portkit.spec.kernel import Kernel
from portkit.spec.types import BOOL

_POINTER = {"read": "readonly ", "write": "writeonly ", "readwrite": ""}

__all__ = ["Printed", "Target", "print_kernel"]


def print_kernel(kernel: Kernel, target: Target) -> Printed:
    """Return a verified kernel that fits the target's declared capabilities as an LLVM module."""
    return _Printer(kernel, target).module()


class _Printer(Groups[LlvmCode]):
    def __init__(self, kernel: Kernel, target: Target) -> None:
        super().__init__(kernel, target, {name: Value(f"%{name}", "ptr") for name in kernel.memories})
        self.group = {s.name: Value(f"%{s.name}", element_of(s.dtype)) for s in kernel.scalars}

    def module(self) -> Printed:
        self.groups(Value("%.begin", "i64"), Value("%.end", "i64"))
        lines = [*self._entry(), "", *self._function(), "", *self.code.metadata, ""]
        return Printed("\n".join(lines), self.scratch)

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
        buffers = [f"ptr noalias {_POINTER[b.access]}align {ALIGN} %{b.name}" for b in self.kernel.buffers]
        scalars = [f"{element_of(s.dtype)} %{s.name}" for s in self.kernel.scalars]
        grids = [f"i32 %.grid{place}" for place in range(len(self.kernel.nest.grids))]
        scratch = [f"ptr noalias align {ALIGN} %{name}" for name in (*self.shared_offsets, ".slots")]
        parameters = ", ".join([*buffers, *scalars, *grids, *scratch, "i64 %.begin", "i64 %.end"])
        body = [".entry:", *self.code.lines, "  ret void", "}"]
        return [f"define internal void @body({parameters}) noinline nounwind {{", *body]

    def grid_extent(self, place: int) -> Value:
        return Value(f"%.grid{place}", "i32")

    def device_fence(self) -> None:
        self.code.do("fence acq_rel")

    # --- slots ----------------------------------------------------------------------------------------------------

    def load_slot(self, name: str, lane: Value) -> Value:
        type_ = self.slots[name].type
        element = memory_element_of(type_.dtype)
        text = f"load {vector(element, type_.lanes)}, {self._slot(name, lane)}, {PARALLEL}"
        value = self.code.define(text, element, type_.lanes, name)
        return self.code.convert("trunc", value, "i1") if type_.dtype == BOOL else value

    def store_slot(self, name: str, lane: Value, value: Value) -> None:
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
        return f"{address}, align {min(ALIGN, size & -size)}"
