"""What the spec frees, what a device's numeric model frees, and what stays determined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from portkit.reference import values
from portkit.reference.bounds import NumericModel, bounds
from portkit.reference.generator import stream
from portkit.spec.builder import Builder, Reg
from portkit.spec.kernel import Kernel
from tests.reference import kernels
from tests.reference.kernels import LANES, index_of

HALF = np.arange(LANES) < LANES // 2


# --- what the spec frees and what it does not ---------------------------------------------------------------------


@pytest.mark.parametrize("form", ["add", "mul", "mul.add", "reduce.max", "mov.trunc"])
def test_rounded_forms_are_determined_and_equal_to_values(form: str) -> None:
    operands = {"mul.add": 3, "mov.trunc": 1}.get(form, 2)
    inputs = {f"x{k}": kernels.normal(f"{form}{k}", LANES) for k in range(operands)}
    kernel = kernels.one_form(form, "f32", operands)
    result = bounds(kernel, {}, inputs)["out"]
    assert result.determined.all()
    assert result.lo.tobytes() == values.run(kernel, {}, inputs)["out"].tobytes()


@pytest.mark.parametrize("form", ["mov.recip", "mov.sqrt"])
def test_strict_native_forms_are_determined(form: str) -> None:
    inputs = {"x0": np.abs(kernels.normal(form, LANES)) + np.float32(0.1)}
    strict = bounds(kernels.one_form(form, "f32", 1, numeric="strict"), {}, inputs)["out"]
    fast = bounds(kernels.one_form(form, "f32", 1), {}, inputs)["out"]
    assert strict.determined.all()
    assert not fast.determined.any()
    assert fast.accepts(strict.lo).all()


def grouped(form: str, numeric: Any = "fast") -> Kernel:
    b = Builder("grouped", numeric)
    x, out = b.buffer("x", "f32", LANES, "read"), b.buffer("out", "f32", LANES, "write")
    b.grid(1)
    lane = b.lane(LANES)
    b.store(out, lane, b.op(form, b.load(x, lane)))
    return b.build()


def test_a_strict_group_sum_is_determined_and_a_fast_one_is_not() -> None:
    inputs = {"x": kernels.normal("sum", LANES)}
    assert bounds(grouped("reduce.group.add", "strict"), {}, inputs)["out"].determined.all()
    fast = bounds(grouped("reduce.group.add"), {}, inputs)["out"]
    assert not fast.determined.any()
    assert fast.accepts(values.run(grouped("reduce.group.add"), {}, inputs)["out"]).all()


def test_a_uniform_operand_counts_once_per_lane() -> None:
    b = Builder("uniform")
    out = b.buffer("out", "f32", LANES, "write")
    b.grid(1)
    b.store(out, b.lane(LANES), b.op("reduce.group.add", b.const("f32", 1.5)))
    result = bounds(b.build(), {}, {})["out"]
    assert set(result.lo.tolist()) == set(result.hi.tolist()) == {1.5 * LANES}


@pytest.mark.parametrize("form", ["reduce.group.max", "reduce.group.min"])
@pytest.mark.parametrize("numeric", ["fast", "strict"])
def test_the_sign_of_a_zero_extreme_is_free_under_fast_only(form: str, numeric: Any) -> None:
    x = np.full(LANES, -1.0 if form.endswith("max") else 1.0, np.float32)
    x[3:5] = 0.0, -0.0
    result = bounds(grouped(form, numeric), {}, {"x": x})["out"]
    both = [bool(result.accepts(np.full(LANES, zero, np.float32)).all()) for zero in (0.0, -0.0)]
    assert both == ([True, True] if numeric == "fast" else [form.endswith("max"), form.endswith("min")])


def atomics(form: str, dtype: str, cells: int) -> Kernel:
    b = Builder("atomics")
    x, out = b.buffer("x", dtype, 4 * LANES, "read"), b.buffer("out", dtype, cells, "readwrite")
    i = index_of(b, b.grid(4), b.lane(LANES))
    place = b.op("reduce.and", i, b.const("i32", cells - 1))
    b.op(form, place, b.load(x, i), mems=(out,))
    return b.build()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_atomic_sums_admit_every_order(dtype: Any) -> None:
    x, start = kernels.normal("atomic", 4 * LANES).astype(dtype), np.array([1.0, 2.0, 3.0, 4.0], dtype)
    name = {np.float32: "f32", np.float16: "f16"}[dtype]
    result = bounds(atomics("store.atomic.add", name, 4), {}, {"x": x, "out": start})["out"]
    terms, total = x.reshape(-1, 4).T, start
    for order in range(6):
        total = start.copy()
        for k in np.argsort(stream(f"order{order}").bits(terms.shape[1])):
            total = (total + terms[:, k]).astype(dtype)
        assert result.accepts(total).all()
    far = (np.abs(terms).sum(axis=1) / 10).astype(dtype)
    assert not result.accepts(total + far).any()


def test_atomic_sums_of_small_integers_are_determined() -> None:
    x = stream("integers").integers(-9, 9, 4 * LANES).astype(np.float32)
    result = bounds(atomics("store.atomic.add", "f32", 4), {}, {"x": x, "out": np.zeros(4, np.float32)})["out"]
    assert result.determined.all()
    assert result.lo.tolist() == x.reshape(-1, 4).sum(axis=0).tolist()


@pytest.mark.parametrize("kind", ["max", "min"])
def test_atomic_extremes_are_determined_but_for_the_sign_of_zero(kind: str) -> None:
    x = -np.abs(kernels.normal("extremes", 4 * LANES)) * (1 if kind == "max" else -1)
    x[[4, 8]] = 0.0, -0.0
    start = np.full(4, -np.inf if kind == "max" else np.inf, np.float32)
    result = bounds(atomics(f"store.atomic.{kind}", "f32", 4), {}, {"x": x, "out": start})["out"]
    assert result.determined.tolist() == [False, True, True, True]
    expected = (np.max if kind == "max" else np.min)(x.reshape(-1, 4), axis=0)
    assert result.lo[1:].tolist() == expected[1:].tolist()


def test_integer_atomics_are_determined() -> None:
    x = stream("whole").integers(-(2**31), 2**31 - 1, 4 * LANES).astype(np.int32)
    inputs = {"x": x, "out": np.arange(4, dtype=np.int32)}
    kernel = atomics("store.atomic.add", "i32", 4)
    result = bounds(kernel, {}, inputs)["out"]
    assert result.determined.all()
    assert result.lo.tolist() == values.run(kernel, {}, inputs)["out"].tolist()


# --- NaN bits -----------------------------------------------------------------------------------------------------

PAYLOAD = 0x7FA12345


def copied(through: Callable[[Builder, Reg], Reg]) -> Any:
    b = Builder("copied")
    x, out = b.buffer("x", "f32", LANES, "read"), b.buffer("out", "f32", LANES, "write")
    b.grid(1)
    lane = b.lane(LANES)
    b.store(out, lane, through(b, b.load(x, lane)))
    x_values = np.full(LANES, PAYLOAD, np.uint32).view(np.float32)
    return bounds(b.build(), {}, {"x": x_values})["out"]


OTHER_NAN = np.full(LANES, 0x7FC00000, np.uint32).view(np.float32)
SAME_NAN = np.full(LANES, PAYLOAD, np.uint32).view(np.float32)


def test_a_nan_that_is_moved_keeps_its_bits() -> None:
    result = copied(lambda b, x: b.lt(b.const("f32", 0.0), b.const("f32", 1.0), x, x))
    assert result.accepts(SAME_NAN).all()
    assert not result.accepts(OTHER_NAN).any()


def test_a_nan_made_by_arithmetic_has_any_bits() -> None:
    result = copied(lambda b, x: b.add(x, x))
    assert result.accepts(OTHER_NAN).all()
    assert not result.accepts(np.zeros(LANES, np.float32)).any()


def test_the_integer_bits_of_a_moved_nan_are_determined_and_of_a_computed_one_unknown() -> None:
    for compute, known in ((False, True), (True, False)):
        b = Builder("bits")
        x, out = b.buffer("x", "f32", LANES, "read"), b.buffer("out", "u32", LANES, "write")
        b.grid(1)
        lane = b.lane(LANES)
        loaded = b.load(x, lane)
        b.store(out, lane, b.bits(b.mul(loaded, loaded) if compute else loaded, "u32"))
        result = bounds(b.build(), {}, {"x": SAME_NAN})["out"]
        assert result.determined.all() == known
        assert result.ill_conditioned.any() != known
        assert result.accepts(np.full(LANES, PAYLOAD, np.uint32)).all()


# --- numeric models -----------------------------------------------------------------------------------------------

FLUSH = NumericModel(flush=frozenset({"f32"}))
TINY = np.float32(2.0**-130)


def test_a_flushing_device_may_lose_subnormal_operands_and_results() -> None:
    kernel = kernels.one_form("mul", "f32", 2)
    inputs = {"x0": np.full(LANES, TINY), "x1": np.full(LANES, np.float32(2.0**10))}
    inputs["x0"][1:] = 2.0**-120
    inputs["x1"][2:] = 2.0**-9
    result = bounds(kernel, {}, inputs, FLUSH)["out"]
    assert [bool(a) for a in result.accepts(np.zeros(LANES, np.float32))[:3]] == [True, False, True]
    assert result.accepts(values.run(kernel, {}, inputs)["out"]).all()


def test_a_preserving_device_may_not_flush() -> None:
    inputs = {"x0": np.full(LANES, TINY), "x1": np.full(LANES, np.float32(1.0))}
    result = bounds(kernels.one_form("mul", "f32", 2), {}, inputs)["out"]
    assert not result.accepts(np.zeros(LANES, np.float32)).any()


def test_a_flushing_device_may_look_before_it_rounds_to_the_smallest_normal_number() -> None:
    smallest, below_one = np.float32(2.0**-126), np.float32(1 - 2.0**-24)
    inputs = {"x0": np.full(LANES, smallest), "x1": np.full(LANES, below_one)}
    inputs["x1"][1:] = 1 + 2.0**-23  # just above it, before and after
    result = bounds(kernels.one_form("mul", "f32", 2), {}, inputs, FLUSH)["out"]
    assert values.run(kernels.one_form("mul", "f32", 2), {}, inputs)["out"][0] == smallest
    assert [bool(a) for a in result.accepts(np.zeros(LANES, np.float32))[:2]] == [True, False]


def test_a_strict_kernel_never_flushes() -> None:
    inputs = {"x0": np.full(LANES, TINY), "x1": np.full(LANES, np.float32(1.0))}
    assert bounds(kernels.one_form("mul", "f32", 2, numeric="strict"), {}, inputs, FLUSH)["out"].determined.all()


def test_moving_a_subnormal_never_flushes_it() -> None:
    b = Builder("moved")
    x, out = b.buffer("x", "f32", LANES, "read"), b.buffer("out", "f32", LANES, "write")
    b.grid(1)
    lane = b.lane(LANES)
    b.store(out, lane, b.load(x, lane))
    assert bounds(b.build(), {}, {"x": np.full(LANES, TINY)}, FLUSH)["out"].determined.all()


def test_a_comparison_of_flushed_operands_is_open() -> None:
    b = Builder("compared")
    x, out = b.buffer("x", "f32", LANES, "read"), b.buffer("out", "i32", LANES, "write")
    b.grid(1)
    lane = b.lane(LANES)
    b.store(out, lane, b.lt(b.const("f32", 0.0), b.load(x, lane), b.const("i32", 1), b.const("i32", 0)))
    inputs = {"x": np.where(HALF, TINY, np.float32(1.0))}
    assert (bounds(b.build(), {}, inputs, FLUSH)["out"].determined == ~HALF).all()


def test_a_cast_that_may_overflow_a_dtype_without_infinities_admits_nan() -> None:
    b = Builder("overflowing")
    x, out = b.buffer("x", "f32", LANES, "read"), b.buffer("out", "f8e4m3fn", LANES, "write")
    b.grid(1)
    lane = b.lane(LANES)
    b.store(out, lane, b.cast(b.load(x, lane), "f8e4m3fn"))
    inputs = {"x": np.full(LANES, TINY)}
    inputs["x"][1:4] = [1e9, -1e9, 1.0]
    result = bounds(b.build(), {}, inputs, FLUSH)["out"]
    assert result.accepts(values.run(b.build(), {}, inputs)["out"]).all()
    assert not result.accepts(np.full(LANES, 448, result.lo.dtype)).any()
    assert result.accepts(np.full(LANES, np.nan, result.lo.dtype)).tolist()[:4] == [False, True, True, False]


def test_a_device_without_infinities_owes_nothing_where_they_arise() -> None:
    model = NumericModel(nonfinite=False)
    x = np.where(HALF, np.float32(3e38), np.float32(1.0))
    result = bounds(kernels.one_form("add", "f32", 2), {}, {"x0": x, "x1": x}, model)["out"]
    assert (result.ill_conditioned == HALF).all()
    assert set(result.lo[~HALF].tolist()) == {2.0}
