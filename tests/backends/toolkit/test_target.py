"""What a target tells the printer about itself."""

from __future__ import annotations

from portkit.backends.toolkit.llvm_kernel import Target, print_kernel
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel

SHARED = Target(native_half=True)
OWN = Target(native_half=True, emitters={"mul": lambda forms, instr, types, args: forms.code.op("udiv", *args)})
"""A target whose multiplication is, for the sake of being recognised, a division."""


def products() -> Kernel:
    b = Builder("products")
    data = b.buffer("data", "i32", 8, "readwrite")
    b.grid(1)
    lane = b.lane(8)
    x = b.load(data, lane)
    b.store(data, lane, b.op("mul.shl", b.mul(x, x), x))
    return b.build()


def test_a_target_writes_a_form_in_its_own_instructions() -> None:
    text = print_kernel(products(), OWN).text
    assert " = udiv i32 " in text
    assert " = mul i32 " not in text


def test_the_forms_that_a_target_does_not_write_are_the_shared_ones() -> None:
    own, shared = print_kernel(products(), OWN).text, print_kernel(products(), SHARED).text
    assert own.replace(" = udiv i32 ", " = mul i32 ") == shared
