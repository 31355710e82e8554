"""From a kernel to AMD's machine code: the toolkit's LLVM IR for lanes, and LLVM's AMDGPU target. No ROCm is needed.

Every kernel is compiled for three chips, the one that runs it and two more, and each text is checked: a kernel that
the suite runs on one generation is known to compile for the others. LLVM keeps subnormals and rounds every operation
once: the text carries no fast-math flags, and the target fuses nothing without them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping

import llvmlite.binding as llvm

from portkit.backends.toolkit.code import Value
from portkit.backends.toolkit.forms import Forms
from portkit.backends.toolkit.llvm import CodeGenerator, Effort
from portkit.backends.toolkit.llvm_code import LlvmCode
from portkit.backends.toolkit.llvm_lanes import LaneTarget, print_lanes
from portkit.backends.toolkit.llvm_memory import LlvmMemory
from portkit.contract import Code
from portkit.errors import CompileError
from portkit.spec.kernel import Kernel

TRIPLE = "amdgcn-amd-amdhsa"
EMULATED = "gfx942"
CHIPS = ("gfx942", "gfx90a", "gfx1100")
"""What every kernel is compiled for: CDNA3 and CDNA2, whose waves have 64 lanes, and RDNA3, whose have 32."""

_LONG_BODY = 2000
_HEADER = "<I"
_ABSENT = (
    *("dispatch-ptr", "queue-ptr", "dispatch-id", "implicitarg-ptr", "hostcall-ptr", "heap-ptr", "default-queue"),
    *("completion-action", "multigrid-sync-arg", "lds-kernel-id", "flat-scratch-init"),
    *(f"{what}-id-{axis}" for what in ("workgroup", "workitem") for axis in "yz"),
)
"""What no kernel of ours reads, so that the runtime need not set it up: its arguments and numbers are all there is."""
_SYNC: Mapping[str, tuple[str, ...]] = {
    "barrier": (
        'fence syncscope("workgroup") release',
        "call void @llvm.amdgcn.s.barrier()",
        'fence syncscope("workgroup") acquire',
    ),
    "fence.group": ('fence syncscope("workgroup") acq_rel',),
    "fence.device": ('fence syncscope("agent") acq_rel',),
}
"""LLVM's scopes name what must agree: the lanes of a work-group, or all of the chip (LLVM, AMDGPU memory model)."""
_FLAWS = {
    "calls a function": re.compile(r"\bs_swappc|@rel32|@gotpcrel"),
    "has another denormal mode than to preserve": re.compile(r"\.amdhsa_float_denorm_mode_\w+ [012]\b"),
    "has a stack of unknown size": re.compile(r"\.amdhsa_uses_dynamic_stack 1"),
}
"""What no text may show, since the hardware would stop or round otherwise: each pattern with what it means."""


class _Memory(LlvmMemory):
    """Masked stores as they are: LLVM makes branches of them here, and cannot compile the fence that others need."""

    def _fenced(self, value: Value) -> Value:
        return value


class _Target(LaneTarget):
    def memory(self, code: LlvmCode, forms: Forms, kernel: Kernel, bases: Mapping[str, Value]) -> LlvmMemory:
        return _Memory(code, forms, kernel, bases)


def _attributes(lanes: int) -> str:
    pairs = {
        "amdgpu-flat-work-group-size": f"{lanes},{lanes}",
        "uniform-work-group-size": "true",
        "denormal-fp-math": "ieee,ieee",
        "denormal-fp-math-f32": "ieee,ieee",
    }
    flags = [f'"amdgpu-no-{name}"' for name in _ABSENT]
    return " ".join(["nounwind", *(f'"{name}"="{value}"' for name, value in pairs.items()), *flags])


TARGET = _Target(
    native_half=True,
    convention="amdgpu_kernel",
    group_number="call i32 @llvm.amdgcn.workgroup.id.x()",
    lane_number="call i32 @llvm.amdgcn.workitem.id.x()",
    sync=_SYNC,
    attributes=_attributes,
)


def pack_binary(lanes: int, code: bytes) -> bytes:
    """Return what the drivers load: the size of the work-group, then the code."""
    return struct.pack(_HEADER, lanes) + code


def unpack_binary(binary: bytes) -> tuple[int, bytes]:
    """Return the size of the work-group and the code."""
    return struct.unpack_from(_HEADER, binary)[0], binary[struct.calcsize(_HEADER) :]


class AmdCompiler:
    """Compiles kernels to assembler text, which is what the interpreter runs, or to linked code objects."""

    def __init__(self, chip: str = EMULATED, link: Callable[[bytes], bytes] | None = None) -> None:
        """Generate code for a chip; with `link` the binary is what that makes of the object file.

        Raises:
            CompileError: this build of LLVM has no AMDGPU target.
        """
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        self.chip = chip
        self._link = link
        self._generators = {name: _generator(name) for name in dict.fromkeys((chip, *CHIPS))}

    def compile(self, kernel: Kernel) -> Code:
        """Compile a kernel that fits the capabilities, for the chip and for the others that are supported."""
        module = print_lanes(kernel, TARGET)
        effort = Effort.NONE if len(kernel.body) > _LONG_BODY else Effort.QUICK
        texts = {name: self._checked(name, kernel, module, effort) for name in self._generators}
        text = texts[self.chip]
        code = self._link(self._generators[self.chip].object_code(module, effort)) if self._link else text.encode()
        return Code(text, pack_binary(kernel.lanes, code))

    def _checked(self, chip: str, kernel: Kernel, module: str, effort: Effort) -> str:
        """Return the assembler text for a chip, once it is seen to have none of the flaws."""
        text = self._generators[chip].assembly(module, effort)
        for flaw, pattern in _FLAWS.items():
            if found := pattern.search(text):
                raise CompileError(f"kernel {kernel.name} for {chip} {flaw}: {found[0]}")
        return text


def _generator(chip: str) -> CodeGenerator:
    try:
        target = llvm.Target.from_triple(TRIPLE)
    except RuntimeError as error:
        raise CompileError(f"llvmlite has no AMDGPU target: {error}") from error
    return CodeGenerator(target.create_target_machine(cpu=chip, opt=2, reloc="pic"))
