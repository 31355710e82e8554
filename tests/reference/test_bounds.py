"""The bounds run on kernels: what is determined, what is open and how wide, and what is given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from portkit.errors import InvalidKernelError
from portkit.reference import values
from portkit.reference.bounds import NumericModel, bounds
from portkit.reference.generator import stream
from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.kernel import Kernel
from portkit.spec.types import DTYPES, F32, I32
from tests.reference import kernels
from tests.reference.kernels import LANES, index_of

ROWS = 16
LAST_SHARE = 0.01
"""Of a case's elements at most 1 % may be ill-conditioned (Spec: acceptance sets of whole kernels)."""


def normal(name: str, count: int, scale: float = 1.0) -> NDArray:
    draws = stream(name)
    return ((draws.floats(count) + draws.floats(count) + draws.floats(count) - 1.5) * 2 * scale).astype(np.float32)


ARGMAX: dict[str, Callable[[int], Kernel]] = {
    "of a group": kernels.argmax_of_group,
    "through shared memory": kernels.argmax_through_shared,
    "running": kernels.running_argmax,
}


@pytest.mark.parametrize("way", ARGMAX)
def test_argmax_of_undetermined_values_is_determined(way: str) -> None:
    kernel, x = ARGMAX[way](ROWS), normal("argmax", ROWS * LANES, 4.0)
    result = bounds(kernel, {}, {"x": x})["out"]
    assert (~result.determined).mean() <= LAST_SHARE
    assert result.accepts(x.reshape(ROWS, LANES).argmax(axis=1).astype(np.int32)).all()
    assert not result.accepts(x.reshape(ROWS, LANES).argmin(axis=1).astype(np.int32)).any()


@pytest.mark.parametrize("way", ARGMAX)
def test_argmax_of_two_values_too_close_to_call_admits_both(way: str) -> None:
    x = np.zeros(LANES, np.float32)
    x[[5, 9]] = 1.0, np.nextafter(np.float32(1.0), np.float32(2.0))
    result = bounds(ARGMAX[way](1), {}, {"x": x})["out"]
    for place in (5, 9):
        assert result.accepts(np.array([place], np.int32)).all()
    assert not result.accepts(np.array([6], np.int32)).any()


@pytest.mark.parametrize("make", [kernels.softmax, kernels.layernorm])
def test_normalising_kernels_claim_something_of_every_element(make: Callable[[int], Kernel]) -> None:
    inputs = {"x": normal("rows", ROWS * LANES, 3.0)}
    result = bounds(make(ROWS), {}, inputs)["out"]
    assert result.ill_conditioned.mean() <= LAST_SHARE
    assert result.accepts(values.run(make(ROWS), {}, inputs)["out"]).all()
    width = result.hi.astype(np.float64) - result.lo
    assert np.median(width) < 2.0**-14 * np.abs(result.lo).max()


def test_a_matrix_product_of_fused_steps_is_determined() -> None:
    size = 24
    inputs = {name: normal(name, size * size) for name in ("a", "b")}
    result = bounds(kernels.gemm(size), {}, inputs)["out"]
    assert result.determined.all()
    assert result.lo.tobytes() == values.run(kernels.gemm(size), {}, inputs)["out"].tobytes()


def test_a_read_only_buffer_must_keep_its_contents() -> None:
    x = normal("kept", LANES)
    result = bounds(kernels.one_form("mov.exp2", "f32", 1), {}, {"x0": x})["x0"]
    assert result.accepts(x).all()
    assert not result.accepts(np.nextafter(x, np.float32(9))).any()


def test_an_access_outside_its_buffer_is_reported() -> None:
    b = Builder("outside")
    out = b.buffer("out", "f32", 4, "write")
    b.grid(1)
    b.store(out, b.lane(8), b.const("f32", 1.0))
    with pytest.raises(InvalidKernelError, match="valid_c3"):
        bounds(b.build(), {}, {})


# --- what makes elements ill-conditioned --------------------------------------------------------------------------


def opened(body: Callable[[Builder, Reg, Reg], None], x: NDArray, out: str = "f32", **rest: NDArray) -> Any:
    """Run a kernel over one group whose lanes have y = exp2(x), which is open; return the acceptance set of out."""
    b = Builder("opened")
    source = b.buffer("x", "f32", LANES, "read")
    b.buffer("out", out, LANES, "readwrite")
    b.grid(1)
    lane = b.lane(LANES)
    body(b, lane, b.op("mov.exp2", b.load(source, lane)))
    start = np.full(LANES, 7).astype(DTYPES[out].numpy)  # what is there where nothing is stored
    return bounds(b.build(), {}, {"x": x, "out": start, **rest})["out"]


CLOSE = np.full(LANES, 3.0, np.float32)
CLEAR = np.full(LANES, 3.1, np.float32)
CLEAR_AND_CLOSE = np.where(np.arange(LANES) < LANES // 2, CLEAR, CLOSE)
HALF = np.arange(LANES) < LANES // 2


def test_an_open_selection_of_floats_is_the_hull_of_both() -> None:
    def body(b: Builder, lane: Reg, y: Reg) -> None:
        b.store(Mem("out", F32), lane, b.lt(y, b.const("f32", 8.0), b.const("f32", -1.0), b.const("f32", 2.0)))

    result = opened(body, CLEAR_AND_CLOSE)
    assert (result.determined == HALF).all()
    assert set(result.lo[~HALF].tolist()) == {-1.0}
    assert set(result.hi.tolist()) == {2.0}


def test_an_open_selection_of_integers_is_both() -> None:
    def body(b: Builder, lane: Reg, y: Reg) -> None:
        b.store(Mem("out", I32), lane, b.lt(y, b.const("f32", 8.0), b.const("i32", 10), b.const("i32", 20)))

    result = opened(body, CLOSE, "i32")
    accepted = [bool(result.accepts(np.full(LANES, v, np.int32)).all()) for v in (10, 15, 20)]
    assert accepted == [True, False, True]
    assert not result.ill_conditioned.any()


def test_a_cast_to_integer_keeps_up_to_four_alternatives() -> None:
    def body(b: Builder, lane: Reg, y: Reg) -> None:
        b.store(Mem("out", I32), lane, b.cast(y, "i32"))

    result = opened(body, CLOSE, "i32")
    assert [bool(result.accepts(np.full(LANES, v, np.int32)).all()) for v in (6, 7, 8, 9)] == [False, True, True, False]


def test_a_cast_to_more_than_four_integers_claims_nothing() -> None:
    def body(b: Builder, lane: Reg, y: Reg) -> None:
        b.store(Mem("out", I32), lane, b.cast(b.mul(y, b.const("f32", 1048576.0)), "i32"))

    assert opened(body, CLEAR, "i32").ill_conditioned.all()


def test_the_bits_of_an_open_float_claim_nothing() -> None:
    def body(b: Builder, lane: Reg, y: Reg) -> None:
        b.store(Mem("out", I32), lane, b.bits(y, "i32"))

    assert opened(body, CLOSE, "i32").ill_conditioned.all()


def test_the_float_of_open_bits_claims_nothing_until_it_is_clamped() -> None:
    def body(b: Builder, lane: Reg, y: Reg) -> None:
        wild = b.bits(b.bits(y, "i32"), "f32")
        clamped = b.lt(wild, b.const("f32", 1.0), b.const("f32", 0.5), b.const("f32", 1.0))
        b.store(Mem("out", F32), lane, b.lt(lane, b.const("i32", LANES // 2), wild, clamped))

    result = opened(body, CLOSE)
    assert (result.ill_conditioned == HALF).all()
    assert result.accepts(np.full(LANES, 0.75, np.float32)).all()


def test_an_open_gate_of_a_store_admits_what_was_there() -> None:
    def body(b: Builder, lane: Reg, y: Reg) -> None:
        b.store(Mem("out", I32), lane, b.const("i32", 1), gate=b.lt(y, b.const("f32", 8.0)))

    result = opened(body, CLEAR_AND_CLOSE, "i32")
    assert [bool(result.accepts(np.full(LANES, v, np.int32))[-1]) for v in (1, 7, 3)] == [True, True, False]
    assert [bool(result.accepts(np.full(LANES, v, np.int32))[0]) for v in (1, 7)] == [False, True]


def test_an_open_address_of_a_store_opens_each_element_that_it_may_reach() -> None:
    def body(b: Builder, lane: Reg, y: Reg) -> None:
        zero = b.eq(lane, b.const("i32", 0))
        b.store(Mem("out", I32), b.cast(y, "i32"), b.const("i32", 1), gate=zero)

    result = opened(body, CLOSE, "i32")
    assert np.flatnonzero(~result.determined).tolist() == [7, 8]
    assert result.accepts(np.where(np.arange(LANES) == 8, 1, 7).astype(np.int32)).all()


def test_an_unknown_address_of_a_store_opens_the_whole_buffer() -> None:
    def body(b: Builder, lane: Reg, y: Reg) -> None:
        zero = b.eq(lane, b.const("i32", 0))
        b.store(Mem("out", I32), b.op("reduce.and", b.bits(y, "i32"), b.const("i32", 7)), lane, gate=zero)

    assert opened(body, CLOSE, "i32").ill_conditioned.all()


def test_an_open_address_of_a_load_gives_either_element() -> None:
    def body(b: Builder, lane: Reg, y: Reg) -> None:
        table = b.buffer("table", "i32", LANES, "read")
        b.store(Mem("out", I32), lane, b.load(table, b.cast(y, "i32")))

    table = np.arange(100, 100 + LANES, dtype=np.int32)
    result = opened(body, CLOSE, "i32", table=table)
    assert [bool(result.accepts(np.full(LANES, v, np.int32)).all()) for v in (107, 108, 109)] == [True, True, False]


def test_an_unknown_address_of_a_load_claims_nothing_in_its_lane_only() -> None:
    def body(b: Builder, lane: Reg, y: Reg) -> None:
        table = b.buffer("table", "i32", LANES, "read")
        place = b.op("reduce.and", b.bits(y, "i32"), b.const("i32", 7))
        b.store(Mem("out", I32), lane, b.load(table, b.lt(lane, b.const("i32", LANES // 2), lane, place)))

    result = opened(body, CLOSE, "i32", table=np.arange(LANES, dtype=np.int32))
    assert (result.ill_conditioned == ~HALF).all()


def test_an_open_count_opens_what_its_loop_carries_and_stores() -> None:
    def body(b: Builder, lane: Reg, y: Reg) -> None:
        with b.serial(b.cast(y, "i32"), steps=b.const("i32", 0)) as loop:
            b.store(Mem("out", I32), lane, loop.index)
            loop.next(steps=b.add(loop["steps"], b.const("i32", 1)))

    result = opened(body, CLEAR_AND_CLOSE, "i32")
    assert (result.ill_conditioned == ~HALF).all()
    assert (result.lo[HALF] == np.floor(np.exp2(3.1)) - 1).all()


def test_the_carries_of_an_open_count_claim_nothing() -> None:
    def body(b: Builder, lane: Reg, y: Reg) -> None:
        with b.serial(b.cast(y, "i32"), steps=b.const("i32", 0)) as loop:
            loop.next(steps=b.add(loop["steps"], b.const("i32", 1)))
        b.store(Mem("out", I32), lane, loop["steps"])

    result = opened(body, CLEAR_AND_CLOSE, "i32")
    assert (result.ill_conditioned == ~HALF).all()
    assert (result.lo[HALF] == 8).all()


def test_an_unknown_count_opens_every_memory_that_its_loop_stores_to() -> None:
    def body(b: Builder, lane: Reg, y: Reg) -> None:
        count = b.op("reduce.and", b.bits(y, "i32"), b.const("i32", 7))
        with b.serial(count) as loop:
            b.store(Mem("out", I32), lane, loop.index)

    assert opened(body, CLOSE, "i32").ill_conditioned.all()


def test_comparing_a_register_with_itself_tells_nan_only() -> None:
    def body(b: Builder, lane: Reg, y: Reg) -> None:
        b.store(Mem("out", I32), lane, b.eq(y, y, b.const("i32", 1), b.const("i32", 0)))

    x = CLOSE.copy()
    x[3] = np.nan
    result = opened(body, x, "i32")
    assert result.determined.all()
    assert np.flatnonzero(result.lo == 0).tolist() == [3]


def test_a_maximum_written_as_a_selection_is_as_narrow_as_a_maximum() -> None:
    def body(b: Builder, lane: Reg, y: Reg) -> None:
        eight = b.const("f32", 8.0)
        written, direct = b.lt(y, eight, eight, y), b.op("reduce.max", y, eight)
        b.store(Mem("out", F32), lane, b.lt(lane, b.const("i32", LANES // 2), written, direct))

    result = opened(body, CLOSE)
    assert len({*result.lo.tolist()}) == len({*result.hi.tolist()}) == 1
    assert result.lo[0] == 8.0


# --- what the spec frees and what it does not ---------------------------------------------------------------------


@pytest.mark.parametrize("form", ["add", "mul", "mul.add", "reduce.max", "mov.trunc"])
def test_rounded_forms_are_determined_and_equal_to_values(form: str) -> None:
    operands = {"mul.add": 3, "mov.trunc": 1}.get(form, 2)
    inputs = {f"x{k}": normal(f"{form}{k}", LANES) for k in range(operands)}
    kernel = kernels.one_form(form, "f32", operands)
    result = bounds(kernel, {}, inputs)["out"]
    assert result.determined.all()
    assert result.lo.tobytes() == values.run(kernel, {}, inputs)["out"].tobytes()


@pytest.mark.parametrize("form", ["mov.recip", "mov.sqrt"])
def test_strict_native_forms_are_determined(form: str) -> None:
    inputs = {"x0": np.abs(normal(form, LANES)) + np.float32(0.1)}
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
    inputs = {"x": normal("sum", LANES)}
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
    x, start = normal("atomic", 4 * LANES).astype(dtype), np.array([1.0, 2.0, 3.0, 4.0], dtype)
    name = {np.float32: "f32", np.float16: "f16"}[dtype]
    result = bounds(atomics("store.atomic.add", name, 4), {}, {"x": x, "out": start})["out"]
    terms = x.reshape(-1, 4).T
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
    x = -np.abs(normal("extremes", 4 * LANES)) * (1 if kind == "max" else -1)
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


def test_an_atomic_store_behind_an_open_gate_opens_its_element_only() -> None:
    def body(b: Builder, lane: Reg, y: Reg) -> None:
        gate = b.lt(y, b.const("f32", 9.0))
        b.op("store.atomic.add", lane, b.const("i32", 5), mems=(Mem("out", I32),), gate=gate)

    x = np.where(HALF, np.float32(3.0), np.log2(np.float32(9.0)).astype(np.float32))
    result = opened(body, x, "i32")
    assert (result.ill_conditioned == ~HALF).all()
    assert (result.lo[HALF] == 12).all()


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


def test_a_device_without_infinities_owes_nothing_where_they_arise() -> None:
    model = NumericModel(nonfinite=False)
    x = np.where(HALF, np.float32(3e38), np.float32(1.0))
    result = bounds(kernels.one_form("add", "f32", 2), {}, {"x0": x, "x1": x}, model)["out"]
    assert (result.ill_conditioned == HALF).all()
    assert set(result.lo[~HALF].tolist()) == {2.0}
