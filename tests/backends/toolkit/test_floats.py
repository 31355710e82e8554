"""Half precision in integer code, for targets that have no instruction for it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from portkit.backends.cpu import BACKEND
from portkit.backends.cpu.device import CpuDevice, open_host
from portkit.backends.toolkit.llvm_kernel import Target
from tests.backends.launching import Array, assert_same, execute, pointwise


@pytest.fixture(scope="module")
def halfless() -> Iterator[CpuDevice]:
    """A device that is told it cannot convert half precision."""
    opened = open_host(BACKEND.capabilities, Target(native_half=False))
    yield opened
    opened.close()


def every_half() -> Array:
    return np.arange(1 << 16, dtype=np.uint16).view(np.float16)


def around_every_half() -> Array:
    """Every f16 number, the points halfway between neighbours, and the f32 numbers beside all of these."""
    halves = every_half()[np.isfinite(every_half())].astype(np.float32)
    edges = np.concatenate(
        [halves, (halves[1:] + halves[:-1]) / 2, np.array([65520, -65520, 1e30, np.inf, 1e-30], np.float32)]
    )
    beside = [np.nextafter(edges, np.float32(side)) for side in (-np.inf, np.inf)]
    return np.resize(np.concatenate([edges, *beside]), 196_608)


def test_every_half_is_widened_exactly(halfless: CpuDevice) -> None:
    out = execute(halfless, pointwise("mov.cast", ["f16"], 1 << 16, result="f32"), {"a0": every_half()})["out"]
    assert_same(out, every_half().astype(np.float32), every_half())


@pytest.mark.parametrize("lanes", ["", "x4"])
def test_a_float_is_narrowed_to_the_nearest_half(halfless: CpuDevice, lanes: str) -> None:
    values = around_every_half()
    kernel = pointwise("mov.cast", [f"f32{lanes}"], len(values), result=f"f16{lanes}")
    with np.errstate(over="ignore"):
        assert_same(execute(halfless, kernel, {"a0": values})["out"], values.astype(np.float16), values)


def test_both_ways_of_adding_halves_agree(halfless: CpuDevice, device: CpuDevice) -> None:
    kernel = pointwise("add", ["f16", "f16"], 1 << 16)
    inputs = {"a0": every_half(), "a1": every_half()[::-7].copy().repeat(8)[: 1 << 16]}
    assert_same(execute(halfless, kernel, inputs)["out"], execute(device, kernel, inputs)["out"], *inputs.values())
