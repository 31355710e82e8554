"""What the printed code asks of a target: no library functions but those that every C runtime has."""

from __future__ import annotations

import re
from collections.abc import Iterator

import llvmlite.binding as llvm
import pytest

from portkit.backends.cpu import BACKEND
from portkit.backends.toolkit.llvm import CodeGenerator, Effort
from portkit.backends.toolkit.llvm_kernel import Target, print_kernel
from portkit.spec.forms import FORMS, Form, Role
from portkit.spec.kernel import Kernel
from portkit.spec.text import format as format_kernel
from portkit.spec.types import DTYPES
from tests.backends.launching import pointwise

CAPABILITIES = BACKEND.capabilities
CALL = re.compile(r"^\s+(?:callq?|bl|call|tail)[ \t]+([A-Za-z_]\w*)|(\w+)@PLT", re.MULTILINE)
KNOWN = {"kernel", "body", "memcpy"}
TARGETS = {
    # triple: processor, features, native half, functions of the C runtime where the processor lacks the instruction
    "x86_64-unknown-linux-gnu": ("x86-64", "", False, {"fma", "fmaf", "trunc", "truncf"}),
    "aarch64-unknown-linux-gnu": ("generic", "", True, set[str]()),
    "riscv64-unknown-linux-gnu": ("generic-rv64", "+m,+a,+f,+d", False, set[str]()),
}
HARD_TYPES = [DTYPES[name] for name in ("f16", "bf16", "f32", "f64", "u64")]


def plain(form: Form) -> bool:
    special = ("mov.const", "mov.splat", "mov.lane", "mov.pack", "mov.bits", "phi.carry", "mov.cast")
    return form.effect == "pure" and not form.specified_only and form.name not in special


def kernels() -> Iterator[Kernel]:
    for form in filter(plain, FORMS.values()):
        variadic = any(o.role is Role.REGISTERS for o in form.operands)
        count = 3 if variadic else sum(o.role is Role.REGISTER for o in form.operands)
        for dtype in HARD_TYPES:
            if dtype in form.dtypes("T") and CAPABILITIES.admits(form, dtype):
                yield pointwise(form.name, [f"{dtype}x2"] * count, 64)
    for source in HARD_TYPES:
        for target in HARD_TYPES:
            yield pointwise("mov.cast", [str(source)], 64, result=str(target))


@pytest.mark.parametrize("triple", TARGETS)
def test_no_form_needs_a_library_that_a_target_may_lack(triple: str) -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    processor, features, native_half, runtime = TARGETS[triple]
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=processor, features=features, reloc="pic")
    generator = CodeGenerator(machine)
    for kernel in kernels():
        text = print_kernel(kernel, Target(native_half=native_half)).text
        assembly = generator.assembly(text, Effort.QUICK)
        called = {first or second for first, second in CALL.findall(assembly)}
        assert called <= KNOWN | runtime, f"{format_kernel(kernel)} calls {called - KNOWN - runtime}"
