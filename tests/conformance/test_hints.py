"""Each hint on a wrong output made for it, and none where nothing is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from portkit.conformance.expectation import expect
from portkit.conformance.hints.rules import Wrong, hint
from portkit.reference.bounds import NumericModel
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel

POISON = 0xA5


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


def hint_for(kernel: Kernel, x: Any, y: Any, spoil: dict[int, Any]) -> str:
    """Return the hint for the right output of a kernel with some elements replaced, by poison where None."""
    dtype = kernel.buffers[0].dtype.numpy
    inputs = {"x": np.array(x, dtype), "y": np.array(y, dtype)}
    poison = np.frombuffer(bytes([POISON]) * 8 * dtype.itemsize, dtype)
    accepted = expect(kernel, {}, {**inputs, "out": poison}, NumericModel(flush=frozenset()))["out"]
    actual = accepted.lo.copy()
    for index, value in spoil.items():
        actual[index] = poison[0] if value is None else value
    wrong = np.flatnonzero(~accepted.accepts(actual))
    assert set(wrong) == set(spoil)
    return hint(Wrong(kernel, actual, accepted, wrong, actual == poison, inputs))


ONES = [1.0] * 8
TINY = 2.0**-149


@pytest.mark.parametrize(
    ("form", "dtype", "x", "y", "spoil", "text"),
    [
        ("add", "f32", ONES, ONES, dict.fromkeys(range(8)), "nothing was written"),
        ("add", "f32", ONES, ONES, dict.fromkeys((6, 7)), "the last elements"),
        ("add", "f32", ONES, ONES, dict.fromkeys((1, 3)), "some elements were not written"),
        ("mul", "f32", [1, 1, 2.0**-130, 1, 1, 1, 1, 1], ONES, {2: 0.0}, "flushed to zero"),
        ("mul", "f32", [2.0**-100] * 8, [2.0**-30, *[1.0] * 7], {0: 0.0}, "flushed to zero"),
        ("mul", "f32", [TINY, *[1.0] * 7], [2.0**30, *[1.0] * 7], {0: 0.0}, "flushed to zero"),
        ("add", "f32", [1.0 + 2.0**-23] * 8, [2.0**-24, *[1.0] * 7], {0: 1.0 + 2.0**-23}, "toward zero"),
        ("mul", "f32", [-1.0] * 8, [0.0, *[1.0] * 7], {0: 0.0}, "wrong sign"),
        ("reduce.max", "f32", [np.nan, *[1.0] * 7], ONES, {0: 1.0}, "NaN in place"),
        ("mul.shr", "i32", [-8, *[8] * 7], [1] * 8, {0: 0x7FFFFFFC}, "shift"),
        ("add", "i32", range(8), range(8), {3: 99}, ""),
        ("add", "f32", ONES, ONES, {3: 99.0}, ""),
    ],
)
def test_a_known_pattern_gets_its_hint(form: str, dtype: str, x: Any, y: Any, spoil: dict[int, Any], text: str) -> None:
    found = hint_for(binary_kernel(form, dtype), list(x), list(y), spoil)
    assert found.startswith(text) if not text else text in found
    assert bool(found) == bool(text)


def test_a_kernel_that_synchronises_gets_the_hint_of_last_resort() -> None:
    assert "barrier" in hint_for(binary_kernel("add", "i32", barrier=True), list(range(8)), list(range(8)), {3: 99})
