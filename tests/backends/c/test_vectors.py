"""Vectors in C: which types and functions are declared, and that every form of lanes computes what it should."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from portkit.backends.c import BACKEND
from portkit.backends.c.vectors import DIALECT, VectorCode
from portkit.backends.toolkit.code import Value
from portkit.reference.values import run
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel
from tests.backends.c.opening import needs_the_backend, open_device
from tests.backends.launching import assert_same, execute, operands, padded, pointwise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portkit.backends.c.device import CDevice

LANES = BACKEND.capabilities.lanes


@pytest.fixture(scope="module")
def device() -> Iterator[CDevice]:
    opened = open_device()
    yield opened
    opened.close()


def test_a_vector_type_is_declared_once_for_all_its_uses() -> None:
    code = VectorCode(DIALECT)
    code.op("fadd", code.op("fmul", Value("x", "float", 8), 2.0), 1.0)
    assert code.declarations() == ["typedef f32 f32x8 __attribute__((vector_size(32)));"]


def test_a_function_of_lanes_is_declared_lane_by_lane() -> None:
    code = VectorCode(DIALECT)
    code.call("sqrt", Value("x", "float", 2))
    assert code.declarations()[1].endswith(
        "f32x2 sqrt_f32x2(f32x2 a) { return (f32x2){__builtin_sqrtf(a[0]), __builtin_sqrtf(a[1])}; }"
    )


@needs_the_backend
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("form", ["mul.hi", "mul.shr", "reduce.max"])
@pytest.mark.parametrize("dtype", ["i8", "i32", "u64"])
def test_lanes_compute_the_bits_of_the_reference(device: CDevice, form: str, dtype: str, lanes: int) -> None:
    check(device, pointwise_on(form, dtype, lanes, 2))


@needs_the_backend
@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "bf16"])
@pytest.mark.parametrize(("form", "count"), [("add", 2), ("mul.add", 3), ("reduce.min", 2), ("phi.lt", 4)])
def test_lanes_of_floats_compute_the_bits_of_the_reference(device: CDevice, form: str, count: int, dtype: str) -> None:
    check(device, pointwise_on(form, dtype, 4, count))


def pointwise_on(form: str, dtype: str, lanes: int, count: int) -> Kernel:
    return pointwise(form, [f"{dtype}x{lanes}"] * count, 8 * lanes * 64)


def check(device: CDevice, kernel: Kernel) -> None:
    sources = kernel.buffers[:-1]
    arrays = operands(sources[0].dtype, len(sources), seed=kernel.name)
    cut = [array[: 8 * 64] for array in padded(arrays, 8 * 64)]
    inputs = {b.name: np.resize(a, b.extent.evaluate({})) for b, a in zip(sources, cut, strict=True)}
    assert_same(execute(device, kernel, inputs)["out"], run(kernel, {}, inputs)["out"], *inputs.values())


def shifted_thrice(form: str, dtype: str, lanes: int) -> Kernel:
    """Shift lanes three times by the same counts, which the kernel loads, in a loop that carries the result."""
    b = Builder("shifted_thrice")
    x, out = b.buffer("x", dtype, 64, "read"), b.buffer("out", "i32", "n", "write")
    n = b.scalar("n", "i32")
    group = b.grid(1)
    b.lane(1)
    counts = b.op("mov.pack", *[b.load(x, group)] * lanes)
    with b.serial(3, carried=counts) as trips:
        shifted = b.op(form, trips["carried"], counts)
        b.store(out, trips.index, b.cast(b.op("mov.lane", shifted, imms=(1,)), "i32"), gate=b.lt(group, n))
        trips.next(carried=shifted)
    return b.build()


@needs_the_backend
@pytest.mark.parametrize("form", ["mul.shl", "mul.shr"])
@pytest.mark.parametrize("dtype", ["i8", "u8", "i16"])
@pytest.mark.parametrize("lanes", LANES)
def test_a_carried_shift_keeps_its_counts(device: CDevice, form: str, dtype: str, lanes: int) -> None:
    kernel = shifted_thrice(form, dtype, lanes)
    inputs, scalars = {"x": np.full(64, 1, kernel.buffers[0].dtype.numpy)}, {"n": 3}
    assert_same(execute(device, kernel, inputs, scalars)["out"], run(kernel, scalars, inputs)["out"])


def tails(n: int) -> Kernel:
    """Copy n elements in vectors of 8, of which the last is cut, and gather them backwards."""
    b = Builder("tails")
    x, out = b.buffer("x", "f32", n, "read"), b.buffer("out", "f32", n, "write")
    backwards = b.buffer("backwards", "f32", n, "write")
    start = b.mul(b.grid(-(-n // 8)), b.const("i32", 8))
    b.lane(1)
    at = b.op("mov.pack", *(b.add(start, b.const("i32", lane)) for lane in range(8)))
    end, other = b.splat(b.const("i32", n), 8), b.splat(b.const("f32", -1.0), 8)
    inside = b.lt(at, end)
    value = b.load_vec(x, start, 8, gate=inside, other=other)
    b.store_vec(out, start, value, gate=inside)
    mirrored = b.add(b.splat(b.const("i32", n - 1), 8), b.mul(at, b.splat(b.const("i32", -1), 8)))
    b.op("store.scatter", mirrored, value, mems=(backwards,), gate=inside)
    return b.build()


@needs_the_backend
@pytest.mark.parametrize("n", [1, 7, 8, 9, 23])
def test_closed_lanes_make_no_access(device: CDevice, n: int) -> None:
    x = np.arange(1, n + 1, dtype=np.float32)
    made = execute(device, tails(n), {"x": x})
    assert made["out"].tolist() == x.tolist()
    assert made["backwards"].tolist() == x[::-1].tolist()
