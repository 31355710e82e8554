"""The bounds run on vectors, copies, partial writes and uneven loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from portkit.reference import values
from portkit.reference.bounds import bounds
from portkit.spec.builder import Builder, Reg
from tests.reference import kernels
from tests.reference.kernels import LANES

CLOSE = np.full(LANES, 3.0, np.float32)
HALF = np.arange(LANES) < LANES // 2

LAST_SHARE = 0.01


# --- vectors and copies -------------------------------------------------------------------------------------------

WIDTH = 4


def vectors(body: Callable[[Builder, Reg], Reg], lanes_out: int = WIDTH) -> Any:
    """Return the acceptance set and the values of out = body(exp2(x)) on vectors of WIDTH floats."""
    b = Builder("vectors")
    count = LANES * WIDTH
    x, out = b.buffer("x", "f32", count, "read"), b.buffer("out", "f32", LANES * lanes_out, "write")
    b.grid(1)
    lane = b.lane(LANES)
    loaded = b.load_vec(x, b.mul(lane, b.const("i32", WIDTH)), WIDTH)
    result = body(b, b.op("mov.exp2", loaded))
    if lanes_out == 1:
        b.store(out, lane, result)
    else:
        b.store_vec(out, b.mul(lane, b.const("i32", WIDTH)), result)
    inputs = {"x": kernels.normal("vectors", count, 2.0)}
    return bounds(b.build(), {}, inputs)["out"], values.run(b.build(), {}, inputs)["out"]


VECTORS: dict[str, tuple[Callable[[Builder, Reg], Reg], int]] = {
    "arithmetic": (lambda b, y: b.fma(y, y, y), WIDTH),
    "one lane": (lambda b, y: b.op("mov.lane", y, imms=(2,)), 1),
    "a splat": (lambda b, y: b.splat(b.op("mov.lane", y, imms=(1,)), WIDTH), WIDTH),
    "a pack": (lambda b, y: b.op("mov.pack", *[b.op("mov.lane", y, imms=(k,)) for k in (3, 2, 1, 0)]), WIDTH),
    "a mixed pack": (lambda b, y: b.op("mov.pack", *[b.const("f32", 1.0), b.op("mov.lane", y, imms=(0,))] * 2), WIDTH),
    "a sum": (lambda b, y: b.op("reduce.vec.add", y), 1),
    "a maximum": (lambda b, y: b.op("reduce.vec.max", y), 1),
    "a product": (lambda b, y: b.op("reduce.vec.mul", y), 1),
    "a maximum over the group": (lambda b, y: b.op("reduce.group.max", y), WIDTH),
    "a sum over the group": (lambda b, y: b.op("reduce.group.add", y), WIDTH),
}


@pytest.mark.parametrize("case", VECTORS)
def test_open_vectors_keep_their_bounds_through(case: str) -> None:
    body, lanes_out = VECTORS[case]
    result, computed = vectors(body, lanes_out)
    assert result.accepts(computed).all()
    assert not result.accepts(computed * np.float32(1.001)).any() or case == "a mixed pack"
    open_share = 0.5 if case == "a mixed pack" else 1.0
    assert (~result.determined).mean() == open_share


def test_a_vector_argmax_is_determined() -> None:
    def body(b: Builder, y: Reg) -> Reg:
        best = b.splat(b.op("reduce.vec.max", y), WIDTH)
        places = b.op("mov.pack", *[b.const("f32", k) for k in range(WIDTH)])
        return b.op("reduce.vec.min", b.eq(y, best, places, b.splat(b.const("f32", 9.0), WIDTH)))

    result, computed = vectors(body, 1)
    assert result.determined.mean() > 1 - LAST_SHARE
    assert result.lo.tobytes() == computed.tobytes()


def test_bits_of_vectors_are_regrouped_with_what_is_known() -> None:
    b = Builder("regrouped")
    x, out = b.buffer("x", "f32", LANES, "read"), b.buffer("out", "i16", 4 * LANES, "write")
    b.grid(1)
    lane = b.lane(LANES)
    y = b.op("mov.exp2", b.load(x, lane))
    halves = b.bits(b.op("mov.pack", b.const("f32", 1.0), y), "i16x4")
    b.store_vec(out, b.mul(lane, b.const("i32", 4)), halves)
    result = bounds(b.build(), {}, {"x": CLOSE})["out"]
    assert result.ill_conditioned.reshape(-1, 4).tolist() == [[False, False, True, True]] * LANES
    assert result.lo.reshape(-1, 4)[:, :2].tolist() == [[0, 0x3F80]] * LANES


def test_a_scatter_of_open_values_keeps_their_bounds() -> None:
    b = Builder("scatter")
    x, out = b.buffer("x", "f32", 2 * LANES, "read"), b.buffer("out", "f32", 2 * LANES, "write")
    b.grid(1)
    lane = b.lane(LANES)
    places = b.op("mov.pack", lane, b.add(lane, b.const("i32", LANES)))
    b.store(out, places, b.op("mov.exp2", b.load(x, places)))
    inputs = {"x": kernels.normal("scatter", 2 * LANES)}
    result = bounds(b.build(), {}, inputs)["out"]
    assert result.accepts(np.exp2(inputs["x"])).all()
    assert not result.determined.any()


def test_an_asynchronous_copy_moves_what_is_known() -> None:
    b = Builder("copy")
    x, out = b.buffer("x", "f32", LANES, "readwrite"), b.buffer("out", "f32", LANES, "write")
    staged = b.shared("staged", "f32", LANES)
    b.grid(1)
    lane = b.lane(LANES)
    b.store(x, lane, b.op("mov.exp2", b.load(x, lane)))
    b.barrier()
    b.wait(b.async_copy(staged, lane, x, lane, 1))
    b.barrier()
    b.store(out, lane, b.load(staged, b.op("reduce.xor", lane, b.const("i32", 1))))
    inputs = {"x": kernels.normal("copy", LANES)}
    result = bounds(b.build(), {}, inputs)["out"]
    assert result.accepts(values.run(b.build(), {}, inputs)["out"]).all()
    assert not result.determined.any()


def test_poison_must_stay_where_the_kernel_writes_nothing() -> None:
    b = Builder("partial")
    out = b.buffer("out", "f32", LANES, "write")
    b.grid(1)
    lane = b.lane(LANES)
    b.store(out, lane, b.const("f32", 1.0), gate=b.lt(lane, b.const("i32", LANES // 2)))
    poison = np.full(LANES, 0x7FC0DEAD, np.uint32).view(np.float32)
    result = bounds(b.build(), {}, {"out": poison})["out"]
    assert result.accepts(np.where(HALF, np.float32(1.0), poison)).all()
    assert not result.accepts(np.zeros(LANES, np.float32)).any()


def test_an_open_register_merged_across_uneven_loops_keeps_both() -> None:
    b = Builder("uneven")
    x, out = b.buffer("x", "f32", LANES, "read"), b.buffer("out", "f32", LANES, "write")
    b.grid(1)
    lane = b.lane(LANES)
    with b.serial(b.op("reduce.and", lane, b.const("i32", 1)), y=b.load(x, lane)) as loop:
        loop.next(y=b.op("mov.exp2", loop["y"]))
    b.store(out, lane, loop["y"])
    result = bounds(b.build(), {}, {"x": kernels.normal("uneven", LANES)})["out"]
    assert (result.determined == (np.arange(LANES) % 2 == 0)).all()
