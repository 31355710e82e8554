"""Hints from the wrong elements of a launch: each cause on an output made for it, and none where nothing is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from portkit.conformance.expectation import expect
from portkit.conformance.finding import Check
from portkit.conformance.hints.causes import LOOK_AT, Cause
from portkit.conformance.hints.diagnose import diagnose
from portkit.conformance.hints.symptoms import Evidence, Hint, Symptoms
from portkit.reference.bounds import NumericModel
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel

POISON = 0xA5
ONES = [1.0] * 8
TINY = 2.0**-149


def binary_kernel(form: str, dtype: str, *, barrier: bool = False) -> Kernel:
    b = Builder("pair")
    x, y = b.buffer("x", dtype, 8, "read"), b.buffer("y", dtype, 8, "read")
    out = b.buffer("out", dtype, 8, "write")
    b.grid(1)
    lane = b.lane(8)
    if barrier:
        b.barrier()
    b.store(out, lane, b.op(form, b.load(x, lane), b.load(y, lane)))
    return b.build()


def evidence_of(kernel: Kernel, x: Any, y: Any, spoil: dict[int, Any]) -> Evidence:
    """Return a launch whose right output has some elements replaced, by poison where None."""
    dtype = kernel.buffers[0].dtype.numpy
    poison = np.frombuffer(bytes([POISON]) * 8 * dtype.itemsize, dtype)
    before = {"x": np.array(x, dtype), "y": np.array(y, dtype), "out": poison}
    accepted = expect(kernel, {}, before, NumericModel(flush=frozenset()))["out"]
    actual = accepted.lo.copy()
    for index, value in spoil.items():
        actual[index] = poison[0] if value is None else value
    found = Evidence(kernel, {}, before, {**before, "out": actual}, {"out": accepted}, POISON)
    assert set(found.wrong.get("out", ())) == set(spoil)
    return found


def hints_for(kernel: Kernel, x: Any, y: Any, spoil: dict[int, Any]) -> list[Hint]:
    return diagnose(Symptoms(Check.VALUES, evidence=evidence_of(kernel, x, y, spoil)))


@pytest.mark.parametrize(
    ("form", "dtype", "x", "y", "spoil", "cause"),
    [
        ("add", "f32", ONES, ONES, dict.fromkeys(range(8)), Cause.NOTHING),
        ("add", "f32", ONES, ONES, dict.fromkeys((6, 7)), Cause.TAIL),
        ("add", "f32", ONES, ONES, dict.fromkeys((1, 4)), Cause.MISSING),
        ("add", "f32", ONES, ONES, dict.fromkeys((0, 2, 4, 6)), Cause.MISSING),
        ("mul", "f32", [1, 1, 2.0**-130, 1, 1, 1, 1, 1], ONES, {2: 0.0}, Cause.FLUSH),
        ("mul", "f32", [2.0**-100] * 8, [2.0**-30, *[1.0] * 7], {0: 0.0}, Cause.FLUSH),
        ("mul", "f32", [TINY, *[1.0] * 7], [2.0**30, *[1.0] * 7], {0: 0.0}, Cause.FLUSH),
        ("add", "f32", [1.0 + 2.0**-23] * 8, [2.0**-24, *[1.0] * 7], {0: 1.0 + 2.0**-23}, Cause.TOWARD_ZERO),
        ("add", "f32", ONES, [2.0**-24, *[1.0] * 7], {0: 1.0 + 2.0**-23}, Cause.TIES),
        ("mul", "f32", [-1.0] * 8, [0.0, 1.0, 0.0, *[1.0] * 5], {0: 0.0, 2: 0.0}, Cause.ZERO_SIGN),
        ("reduce.max", "f32", [np.nan, *[1.0] * 7], ONES, {0: 1.0}, Cause.NAN_LOST),
        ("mul.shr", "i32", [-8, *[8] * 7], [1] * 8, {0: 0x7FFFFFFC}, Cause.SHIFT_SIGN),
        ("mul.shl", "i32", [3] * 8, [32, *[1] * 7], {0: 0}, Cause.SHIFT_COUNT),
        ("mul.shl", "i32", range(1, 9), [2] * 8, {k: 2 << (k + 1) for k in range(2, 8)}, Cause.OPERAND_ORDER),
        ("add", "i32", [2**31 - 1, *range(7)], [1] * 8, {0: 2**31 - 1}, Cause.SATURATING_INTEGERS),
    ],
)  # fmt: skip
def test_a_known_fault_gets_its_cause(
    form: str, dtype: str, x: Any, y: Any, spoil: dict[int, Any], cause: Cause
) -> None:
    found = hints_for(binary_kernel(form, dtype), list(x), list(y), spoil)
    assert found[0].cause is cause
    assert found[0].text.endswith(LOOK_AT[cause])


@pytest.mark.parametrize("dtype", ["i32", "f32"])
def test_a_wrong_value_that_nothing_explains_gets_no_hint(dtype: str) -> None:
    assert hints_for(binary_kernel("add", dtype), range(8), range(8), {3: 99}) == []


def test_a_kernel_that_synchronises_gets_the_hint_of_last_resort() -> None:
    spoil = {3: 99, 5: 77}
    assert hints_for(binary_kernel("add", "i32", barrier=True), range(8), range(8), spoil)[0].cause is Cause.BARRIER


def test_every_cause_says_what_to_look_at() -> None:
    assert set(LOOK_AT) == set(Cause)
