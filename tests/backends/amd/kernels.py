"""Kernels for the tests of the amd backend."""

from __future__ import annotations

from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel


def doubled(groups: int = 1) -> Kernel:
    """out[i] = 2 x[i], with 64 lanes."""
    b = Builder("doubled")
    x, out = b.buffer("x", "i32", 64 * groups, "read"), b.buffer("out", "i32", 64 * groups, "write")
    group, lane = b.grid(groups), b.lane(64)
    at = b.add(b.mul(group, b.const("i32", 64)), lane)
    b.store(out, at, b.mul(b.load(x, at), b.const("i32", 2)))
    return b.build()


def product_and_sum(dtype: str, form: str = "") -> Kernel:
    """out[i] = x[i] * y[i] + z[i], in two roundings, or in one by the form `mul.add`."""
    b = Builder("product_and_sum", "strict")
    x, y, z = (b.buffer(name, dtype, 64, "read") for name in "xyz")
    out = b.buffer("out", dtype, 64, "write")
    b.grid(1)
    lane = b.lane(64)
    args = [b.load(buffer, lane) for buffer in (x, y, z)]
    b.store(out, lane, b.op(form, *args) if form else b.add(b.mul(args[0], args[1]), args[2]))
    return b.build()


def reversed_lanes(lanes: int) -> Kernel:
    """out[i] = x[lanes - 1 - i], through shared memory."""
    b = Builder("reversed_lanes")
    x, out = b.buffer("x", "i32", lanes, "read"), b.buffer("out", "i32", lanes, "write")
    cells = b.shared("cells", "i32", lanes)
    b.grid(1)
    lane = b.lane(lanes)
    b.store(cells, lane, b.load(x, lane))
    b.barrier()
    other = b.add(b.const("i32", lanes - 1), b.mul(lane, b.const("i32", -1)))
    b.store(out, lane, b.load(cells, other))
    return b.build()
