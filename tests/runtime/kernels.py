"""Small kernels that the runtime's tests launch."""

from __future__ import annotations

from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel


def add_kernel(name: str = "sum", dtype: str = "i32") -> Kernel:
    """Return `out[i] = x[i] + y[i]` for 64 elements in 2 groups of 32 lanes."""
    b = Builder(name)
    x, y = b.buffer("x", dtype, 64, "read"), b.buffer("y", dtype, 64, "read")
    out = b.buffer("out", dtype, 64, "write")
    g, lane = b.grid(2), b.lane(32)
    i = b.add(b.mul(g, b.const("i32", 32)), lane)
    b.store(out, i, b.add(b.load(x, i), b.load(y, i)))
    return b.build()
