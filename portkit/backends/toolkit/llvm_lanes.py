"""A whole kernel as LLVM IR text, for targets whose hardware runs the lanes of a work-group: GPUs.

The function `kernel` takes 8 bytes for each of its parameters, which are the words of `drivers.arguments` in their
order: the address of every buffer, every scalar, the extent of every grid loop. One more word follows: the number of
the first work-group, for devices that take a large grid in several launches. A work-group is one-dimensional: as many
hardware lanes as all lane loops together, of which the last counts fastest (Spec: nest_c5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from portkit.backends.toolkit.code import Value, element_of, memory_element_of
from portkit.backends.toolkit.lanes import Lanes
from portkit.backends.toolkit.llvm_code import LlvmCode
from portkit.backends.toolkit.llvm_memory import Target
from portkit.errors import CompileError
from portkit.spec.kernel import Instr, Kernel

GLOBAL = "ptr addrspace(1)"
SHARED = "ptr addrspace(3)"

_ALIGN = 64
_ACCESS = {"read": "readonly ", "write": "writeonly ", "readwrite": ""}


@dataclass(frozen=True, slots=True)
class LaneTarget(Target):
    """What the printer must know of a target that runs lanes: each text is LLVM IR, written as it stands."""

    convention: str = ""
    """The calling convention of kernels."""
    group_number: str = ""
    """A call that gives the number of the work-group, an i32."""
    lane_number: str = ""
    """A call that gives the number of the lane in its work-group, an i32."""
    sync: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """By form (`barrier`, `fence.group`, `fence.device`), the instructions that do it."""
    attributes: Callable[[int], str] = lambda lanes: "nounwind"
    """The attributes of a kernel with so many lanes."""
    module: Callable[[int], tuple[str, ...]] = lambda lanes: ()
    """What else the module says of a kernel with so many lanes."""


def print_lanes(kernel: Kernel, target: LaneTarget) -> str:
    """Return a verified kernel that fits the target's declared capabilities as an LLVM module.

    Raises `CompileError` for a form that the target has no text for.
    """
    return _Printer(kernel, target).module()


class _Printer(Lanes[LlvmCode]):
    def __init__(self, kernel: Kernel, target: LaneTarget) -> None:
        memories = {b.name: Value(f"%{b.name}", GLOBAL) for b in kernel.buffers}
        memories |= {s.name: Value(f"@shared{place}", SHARED) for place, s in enumerate(kernel.shared)}
        super().__init__(kernel, target, memories)
        self.target = target

    def module(self) -> str:
        """Return the text of the module."""
        self.group = {s.name: self._word(s.name, element_of(s.dtype)) for s in self.kernel.scalars}
        self.lines()
        return "\n".join([*self._shared(), *self._function(), *self.target.module(self.kernel.lanes), ""])

    def _shared(self) -> list[str]:
        arrays = ((s.extent, memory_element_of(s.dtype)) for s in self.kernel.shared)
        return [
            f"@shared{place} = internal addrspace(3) global [{extent} x {element}] poison, align {_ALIGN}"
            for place, (extent, element) in enumerate(arrays)
        ]

    def _function(self) -> list[str]:
        buffers = [f"{GLOBAL} noalias {_ACCESS[b.access]}align {_ALIGN} %{b.name}" for b in self.kernel.buffers]
        words = [f"{s.name}.word" for s in self.kernel.scalars]
        words += [f".grid{place}.word" for place in range(len(self.kernel.nest.grids))]
        parameters = ", ".join([*buffers, *(f"i64 %{name}" for name in (*words, ".first.word"))])
        head = (
            f"define {self.target.convention} void @kernel({parameters}) {self.target.attributes(self.kernel.lanes)} {{"
        )
        return [head, ".entry:", *self.code.lines, "  ret void", "}", *self.code.metadata]

    # --- once for each lane, before the body ----------------------------------------------------------------------

    def _word(self, name: str, element: str) -> Value:
        """Return a parameter's word as an i32 or a float."""
        low = self.code.convert("trunc", Value(f"%{name}.word", "i64"), "i32")
        return self.code.convert("bitcast", low, element)

    def group_number(self) -> Value:
        return self.code.op("add", self.code.define(self.target.group_number, "i32"), self._word(".first", "i32"))

    def lane_number(self) -> Value:
        return self.code.define(self.target.lane_number, "i32")

    def grid_extent(self, place: int) -> Value:
        return self._word(f".grid{place}", "i32")

    # --- synchronisation ------------------------------------------------------------------------------------------

    def sync(self, instr: Instr) -> Value | None:
        """Write a fence or barrier by the target's table; a copy was complete when issued (Spec: async_c1)."""
        if instr.name == "wait.token":
            return None
        if instr.name not in self.target.sync:
            raise CompileError(f"{instr.name} has no text for this target; legalise the kernel to the declared forms")
        for line in self.target.sync[instr.name]:
            self.code.do(line)
        return None
