"""From a kernel to PTX: the toolkit's LLVM IR for lanes, and LLVM's NVPTX target. No CUDA toolkit is needed.

Every float instruction comes out with a rounding (`add.rn.f32`): of an `add.f32` and a `mul.f32` without one, NVIDIA's
own assembler may make a fused multiply-add (PTX ISA, "Floating Point Instructions: add").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import llvmlite.binding as llvm

from portkit.backends.cuda.driver import VOLTA
from portkit.backends.toolkit.code import Value
from portkit.backends.toolkit.forms import EMITTERS, Forms
from portkit.backends.toolkit.llvm import CodeGenerator, Effort
from portkit.backends.toolkit.llvm_lanes import LaneTarget, print_lanes
from portkit.contract import Code
from portkit.errors import CompileError
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import F64, Type

TRIPLE = "nvptx64-nvidia-cuda"
HOPPER = 90
_KNOWN = (HOPPER, 89, 86, 80, 75, VOLTA)
_LONG_BODY = 2000
_SYNC: Mapping[str, tuple[str, ...]] = {
    "barrier": ("call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)",),
    "fence.group": ("call void @llvm.nvvm.membar.cta()",),
    "fence.device": ("call void @llvm.nvvm.membar.gl()",),
}


def _exp2(forms: Forms, instr: Instr, types: Sequence[Type], args: Sequence[Value]) -> Value:
    """Write the instruction of the hardware, 2 ulp at most (CUDA C++ Programming Guide, exp2f); f64 has none."""
    if types[0].dtype == F64:
        return EMITTERS[instr.name](forms, instr, types, args)
    return forms.formats.lift(types[0].dtype, partial(forms.code.call, "nvvm.ex2.approx"), args[0])


TARGET = LaneTarget(
    native_half=True,
    emitters={"mov.exp2": _exp2},
    convention="ptx_kernel",
    group_number="call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()",
    lane_number="call i32 @llvm.nvvm.read.ptx.sreg.tid.x()",
    sync=_SYNC,
    attributes=lambda lanes: f'nounwind "nvvm.reqntid"="{lanes}"',
)


def processor(capability: int) -> str:
    """Return LLVM's name of the newest processor whose code runs on a device of compute capability `capability`."""
    return f"sm_{next((known for known in _KNOWN if known <= capability), VOLTA)}"


class PtxCompiler:
    """Compiles kernels to PTX text, which is their binary."""

    def __init__(self, capability: int = VOLTA) -> None:
        """Generate code for a compute capability, ten times major plus minor. Raises `CompileError`."""
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        try:
            target = llvm.Target.from_triple(TRIPLE)
        except RuntimeError as error:
            raise CompileError(f"llvmlite has no NVPTX target: {error}") from error
        self._generator = CodeGenerator(target.create_target_machine(cpu=processor(capability), opt=2))

    def compile(self, kernel: Kernel) -> Code:
        """Compile a kernel that fits the capabilities."""
        text = print_lanes(kernel, TARGET)
        effort = Effort.NONE if len(kernel.body) > _LONG_BODY else Effort.QUICK
        ptx = self._generator.assembly(text, effort)
        return Code(ptx, ptx.encode())
