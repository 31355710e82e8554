"""The shapes that hand-written kernels of the suite share."""

from __future__ import annotations

from collections.abc import Callable

from portkit.conformance.cases.plan import LAUNCH
from portkit.conformance.cases.writing import Writer
from portkit.spec.builder import Reg
from portkit.spec.kernel import Kernel, Numeric

KERNEL_NEEDS = (*LAUNCH, "ops/load/i32/special", "ops/add/i32/special", "ops/mul/i32/special", "ops/phi.lt/i32/special")
"""What every kernel of the level stands on."""

Body = Callable[[Writer, Reg, Reg], Reg]
"""Given the writer, the item's index and the value loaded for it, gives the value to store."""


def lane_kernel(name: str, body: Body, numeric: Numeric = "fast", dtype: str = "i32", lanes: int = 64) -> Kernel:
    """out[i] = body(i, a[i]) for i below n, one lane per item, the last work-group ragged; 32-bit dtypes."""
    w = Writer(name, numeric)
    a, out = w.buffer("a", dtype, "n", "read"), w.buffer("out", dtype, "n", "write")
    size, groups = w.scalar("n", "i32"), w.scalar("groups", "i32")
    group = w.grid(groups)
    lane = w.lane(lanes)
    item = w.index(group, lanes, lane)
    inside = w.lt(item, size)
    value = w.load(a, item, gate=inside, other=w.const(dtype, 0))
    w.store(out, item, body(w, item, value), gate=inside)
    return w.build()
