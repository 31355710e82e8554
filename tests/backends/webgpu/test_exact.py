"""Floats that a WGSL compiler may rewrite and must not: what drivers are known to simplify, on special values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from portkit.contract import Device
from portkit.spec.builder import Builder, Reg
from portkit.spec.kernel import Kernel
from portkit.spec.types import F32, Type
from tests.backends.launching import LANES, execute, operands, padded

Floats = NDArray[np.float32]
HUGE, TINY = 1e30, 1e-30


def constant(b: Builder, value: float) -> Reg:
    return b.const("f32", value)


# fmt: off
HAZARDS: dict[str, tuple[Callable[[Builder, Reg, Reg], Reg], Callable[[Floats, Floats], Floats]]] = {
    "a sum less one of its terms": (
        lambda b, x, y: b.add(b.add(x, y), b.mul(x, constant(b, -1.0))), lambda x, y: (x + y) + x * np.float32(-1)),
    "a product with zero": (lambda b, x, y: b.mul(x, constant(b, 0.0)), lambda x, y: x * np.float32(0)),
    "a product with the bits of zero": (
        lambda b, x, y: b.mul(x, b.op("mov.bits", b.const("u32", 0), type=Type(F32))), lambda x, y: x * np.float32(0)),
    "a sum with zero": (lambda b, x, y: b.add(x, constant(b, 0.0)), lambda x, y: x + np.float32(0)),
    "a product with one": (lambda b, x, y: b.mul(x, constant(b, 1.0)), lambda x, y: x * np.float32(1)),
    "two constants added": (
        lambda b, x, y: b.add(b.add(x, constant(b, HUGE)), constant(b, -HUGE)),
        lambda x, y: (x + np.float32(HUGE)) + np.float32(-HUGE)),
    "two constants multiplied": (
        lambda b, x, y: b.mul(b.mul(x, constant(b, HUGE)), constant(b, TINY)),
        lambda x, y: (x * np.float32(HUGE)) * np.float32(TINY)),
    "a common factor": (lambda b, x, y: b.add(b.mul(x, y), b.mul(x, x)), lambda x, y: x * y + x * x),
    "a product added": (lambda b, x, y: b.add(b.mul(x, y), y), lambda x, y: x * y + y),
    "a quotient by itself": (lambda b, x, y: b.mul(x, b.op("mov.recip", x)), lambda x, y: x * (1 / x)),
    "the lesser of two": (lambda b, x, y: b.lt(x, y, x, y), lambda x, y: np.where(x < y, x, y)),
}
# fmt: on


def wrong(device: Device, hazard: str, numeric: Literal["fast", "strict"]) -> int:
    """Return how many results are not those of the expression, NaN being equal to NaN."""
    write, compute = HAZARDS[hazard]
    x, y = padded(operands(F32, 2, seed=hazard), LANES)
    out = execute(device, pairwise(write, len(x), numeric), {"x": x, "y": y})["out"]
    with np.errstate(all="ignore"):
        expected = compute(x, y)
    differ = out.view(np.uint32) != expected.view(np.uint32)
    return int((differ & ~(np.isnan(out) & np.isnan(expected))).sum())


@pytest.mark.parametrize("numeric", ["fast", "strict"])
@pytest.mark.parametrize("hazard", HAZARDS)
def test_a_float_expression_is_computed_as_it_is_written(
    webgpu: Device, hazard: str, numeric: Literal["fast", "strict"]
) -> None:
    assert wrong(webgpu, hazard, numeric) == 0


@pytest.mark.parametrize(
    ("hidden", "open_", "hazard"),
    [
        (r"return hidden\(", "return (", "a common factor"),
        (r"hidden\((\w+)\)", r"\1", "a product with zero"),
        (r"hidden\((\w+)\)", r"\1", "a sum with zero"),
    ],
)
def test_llvmpipe_rewrites_what_is_not_hidden(
    webgpu: Device, hidden: str, open_: str, hazard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from portkit.backends.webgpu import device

    if "llvmpipe" not in webgpu.info.device:
        pytest.skip("llvmpipe alone is known to rewrite floats")
    original = device.print_wgsl
    monkeypatch.setattr(device, "print_wgsl", lambda kernel, target: re.sub(hidden, open_, original(kernel, target)))
    assert wrong(webgpu, hazard, "strict") > 0


def pairwise(write: Callable[[Builder, Reg, Reg], Reg], count: int, numeric: Literal["fast", "strict"]) -> Kernel:
    b = Builder("pairwise", numeric)
    x, y, out = (
        b.buffer("x", "f32", count, "read"),
        b.buffer("y", "f32", count, "read"),
        b.buffer("out", "f32", count, "write"),
    )
    item = b.add(b.mul(b.grid(count // LANES), b.const("i32", LANES)), b.lane(LANES))
    b.store(out, item, write(b, b.load(x, item), b.load(y, item)))
    return b.build()
