"""Kernels that the bounds run is tried on: one form over a column, and the classic ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from portkit.reference.generator import stream
from portkit.spec.builder import Builder, Reg
from portkit.spec.kernel import Kernel, Numeric

LANES = 64


def normal(name: str, count: int, scale: float = 1.0) -> NDArray:
    """Return numbers around zero, mostly within twice the scale; the same for one name."""
    draws = stream(name)
    return ((draws.floats(count) + draws.floats(count) + draws.floats(count) - 1.5) * 2 * scale).astype(np.float32)


def rows(name: str, dtype: str, count: int, body: Callable[[Builder, Reg, Reg, Reg], None]) -> Kernel:
    """Return a kernel with one row of LANES elements per group; `body` gets group, lane and the loaded element.

    Its buffers are x (read), with `count` rows, and out, declared by the body.
    """
    b = Builder(name)
    x = b.buffer("x", dtype, count * LANES, "read")
    group, lane = b.grid(count), b.lane(LANES)
    body(b, group, lane, b.load(x, index_of(b, group, lane)))
    return b.build()


def index_of(b: Builder, group: Reg, lane: Reg) -> Reg:
    return b.add(b.mul(group, b.const("i32", LANES)), lane)


def one_form(
    form: str, dtype: str, operands: int, count: int = LANES, numeric: Numeric = "fast", result: str = ""
) -> Kernel:
    """Return out[i] = form(x0[i], x1[i], ...)."""
    b = Builder("one_form", numeric)
    sources = [b.buffer(f"x{k}", dtype, count, "read") for k in range(operands)]
    target = b.buffer("out", result or dtype, count, "write")
    i = index_of(b, b.grid(count // LANES), b.lane(LANES))
    loaded = [b.load(source, i) for source in sources]
    b.store(target, i, b.op(form, *loaded, type=result or None))
    return b.build()


def softmax(count: int) -> Kernel:
    def body(b: Builder, group: Reg, lane: Reg, x: Reg) -> None:
        out = b.buffer("out", "f32", count * LANES, "write")
        shifted = b.add(x, b.mul(b.op("reduce.group.max", x), b.const("f32", -1.0)))
        power = b.op("mov.exp2", b.mul(shifted, b.const("f32", 1.4426950408889634)))
        total = b.op("reduce.group.add", power)
        b.store(out, index_of(b, group, lane), b.mul(power, b.op("mov.recip", total)))

    return rows("softmax", "f32", count, body)


def layernorm(count: int) -> Kernel:
    def body(b: Builder, group: Reg, lane: Reg, x: Reg) -> None:
        out = b.buffer("out", "f32", count * LANES, "write")
        centred = b.add(x, b.mul(b.op("reduce.group.add", x), b.const("f32", -1.0 / LANES)))
        variance = b.mul(b.op("reduce.group.add", b.mul(centred, centred)), b.const("f32", 1.0 / LANES))
        scale = b.op("mov.rsqrt", b.add(variance, b.const("f32", 1e-5)))
        b.store(out, index_of(b, group, lane), b.mul(centred, scale))

    return rows("layernorm", "f32", count, body)


def gemm(size: int) -> Kernel:
    b = Builder("gemm")
    left, right = b.buffer("a", "f32", size * size, "read"), b.buffer("b", "f32", size * size, "read")
    out = b.buffer("out", "f32", size * size, "write")
    row, column, n = b.grid(size), b.lane(size), b.const("i32", size)
    start = b.mul(row, n)
    with b.serial(size, total=b.const("f32", 0.0)) as loop:
        first = b.load(left, b.add(start, loop.index))
        second = b.load(right, b.add(b.mul(loop.index, n), column))
        loop.next(total=b.fma(first, second, loop["total"]))
    b.store(out, b.add(start, column), loop["total"])
    return b.build()


def argmax_of_group(count: int) -> Kernel:
    """argmax of native exponentials by a group maximum, a comparison with it, and the least index that matches."""

    def body(b: Builder, group: Reg, lane: Reg, x: Reg) -> None:
        out = b.buffer("out", "i32", count, "write")
        power = b.op("mov.exp2", x)
        place = b.eq(power, b.op("reduce.group.max", power), lane, b.const("i32", LANES))
        first = b.eq(lane, b.const("i32", 0))
        b.store(out, group, b.op("reduce.group.min", place), gate=first)

    return rows("argmax", "f32", count, body)


def argmax_through_shared(count: int) -> Kernel:
    """argmax in base forms: powers kept in shared memory, a serial maximum over them, then a serial search."""

    def body(b: Builder, group: Reg, lane: Reg, x: Reg) -> None:
        out = b.buffer("out", "i32", count, "write")
        kept = b.shared("kept", "f32", LANES)
        b.store(kept, lane, b.op("mov.exp2", x))
        b.barrier()
        with b.serial(LANES, best=b.const("f32", 0.0)) as scan:
            scan.next(best=b.op("reduce.max", scan["best"], b.load(kept, scan.index)))
        with b.serial(LANES, place=b.const("i32", LANES)) as search:
            found = b.eq(b.load(kept, search.index), scan["best"], search.index, b.const("i32", LANES))
            search.next(place=b.op("reduce.min", search["place"], found))
        b.store(out, group, search["place"], gate=b.eq(lane, b.const("i32", 0)))

    return rows("argmax", "f32", count, body)


def running_argmax(count: int) -> Kernel:
    """argmax by one pass that keeps the best value and its index with `phi.lt`."""

    def body(b: Builder, group: Reg, lane: Reg, x: Reg) -> None:
        out = b.buffer("out", "i32", count, "write")
        kept = b.shared("kept", "f32", LANES)
        b.store(kept, lane, b.op("mov.exp2", x))
        b.barrier()
        with b.serial(LANES, best=b.const("f32", 0.0), place=b.const("i32", 0)) as scan:
            value = b.load(kept, scan.index)
            better = b.lt(scan["best"], value, scan.index, scan["place"])
            scan.next(best=b.lt(scan["best"], value, value, scan["best"]), place=better)
        b.store(out, group, scan["place"], gate=b.eq(lane, b.const("i32", 0)))

    return rows("argmax", "f32", count, body)
