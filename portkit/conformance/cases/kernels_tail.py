"""The tail of a vector loop: narrow lanes made of wide ones and stored under a gate that a compiler can work out.

LLVM 22 turns such a store with one open lane into a scalar store of the wide element, past the end of the narrow one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from portkit.conformance.case import Case, Cell, Level, Tier, Trial
from portkit.conformance.cases.draws import Draws, as_array
from portkit.conformance.cases.inputs import small_values
from portkit.conformance.cases.shapes import KERNEL_NEEDS
from portkit.contract import Capabilities
from portkit.spec.kernel import Kernel
from portkit.spec.text import parse
from portkit.spec.types import DTYPES, DType

_WIDE = {"i8": "i32", "u8": "u32", "i16": "i32", "u16": "u32", "f16": "f32", "bf16": "f32"}
"""The dtype that is narrowed to each dtype."""


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield a case for each declared narrow dtype and lane count: its launch stores one lane, the last of a buffer."""
    for dtype in (d for d in _WIDE if d in capabilities.dtypes):
        for lanes in capabilities.lane_counts()[1:]:
            case_id = f"kernels/vector/tail/{dtype}x{lanes}"
            cell = Cell("store.vec", dtype, lanes)
            trial = partial(_trial, case_id, DTYPES[dtype], lanes)
            yield Case(case_id, Level.KERNELS, Tier.STANDARD, (cell,), trial=trial, needs=KERNEL_NEEDS)


def _trial(case_id: str, dtype: DType, lanes: int) -> Trial:
    wide = DTYPES[_WIDE[dtype.name]]
    values: np.ndarray = as_array(wide, small_values(Draws(case_id), wide, lanes))
    return Trial(_kernel(dtype, wide, lanes), {}, {"wide": values})


def _kernel(dtype: DType, wide: DType, lanes: int) -> Kernel:
    numbers = "\n".join(f"n{k} = mov.const i32 {k}" for k in range(lanes))
    return parse(f"""portkit 1.0-draft
kernel tail
buffer wide {wide}[{lanes}] read
buffer narrow {dtype}[1] write
begin
{numbers}
yes = mov.const bool true
no = mov.const bool false
group = loop.grid 1
lane = loop.lane 1
place = mov.pack {" ".join(f"n{k}" for k in range(lanes))}
end = mov.splat i32x{lanes} n1
open = mov.splat boolx{lanes} yes
closed = mov.splat boolx{lanes} no
inside = phi.lt place end open closed
x = load.vec {wide}x{lanes} wide n0 align {wide.bytes}
y = mov.cast {dtype}x{lanes} x
store.vec narrow n0 y align {dtype.bytes} if inside
endloop lane
endloop group
""")
