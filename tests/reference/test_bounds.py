"""The bounds run on kernels: what is determined, what is open and how wide, and what is given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from portkit.errors import InvalidKernelError
from portkit.reference import values
from portkit.reference.bounds import bounds
from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.kernel import Kernel
from portkit.spec.types import DTYPES, F32, I32
from tests.reference import kernels
from tests.reference.kernels import LANES

ROWS = 16
LAST_SHARE = 0.01
"""Of a case's elements at most 1 % may be ill-conditioned (Spec: acceptance sets of whole kernels)."""


ARGMAX: dict[str, Callable[[int], Kernel]] = {
    "of a group": kernels.argmax_of_group,
    "through shared memory": kernels.argmax_through_shared,
    "running": kernels.running_argmax,
}


@pytest.mark.parametrize("way", ARGMAX)
def test_argmax_of_undetermined_values_is_determined(way: str) -> None:
    kernel, x = ARGMAX[way](ROWS), kernels.normal("argmax", ROWS * LANES, 4.0)
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
    inputs = {"x": kernels.normal("rows", ROWS * LANES, 3.0)}
    result = bounds(make(ROWS), {}, inputs)["out"]
    assert result.ill_conditioned.mean() <= LAST_SHARE
    assert result.accepts(values.run(make(ROWS), {}, inputs)["out"]).all()
    width = result.hi.astype(np.float64) - result.lo
    assert np.median(width) < 2.0**-14 * np.abs(result.lo).max()


def test_a_matrix_product_of_fused_steps_is_determined() -> None:
    size = 24
    inputs = {name: kernels.normal(name, size * size) for name in ("a", "b")}
    result = bounds(kernels.gemm(size), {}, inputs)["out"]
    assert result.determined.all()
    assert result.lo.tobytes() == values.run(kernels.gemm(size), {}, inputs)["out"].tobytes()


def test_a_read_only_buffer_must_keep_its_contents() -> None:
    x = kernels.normal("kept", LANES)
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


def test_an_atomic_store_behind_an_open_gate_opens_its_element_only() -> None:
    def body(b: Builder, lane: Reg, y: Reg) -> None:
        gate = b.lt(y, b.const("f32", 9.0))
        b.op("store.atomic.add", lane, b.const("i32", 5), mems=(Mem("out", I32),), gate=gate)

    x = np.where(HALF, np.float32(3.0), np.log2(np.float32(9.0)).astype(np.float32))
    result = opened(body, x, "i32")
    assert (result.ill_conditioned == ~HALF).all()
    assert (result.lo[HALF] == 12).all()
