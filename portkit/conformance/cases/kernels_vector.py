"""Kernels of lanes that compilers were seen to get wrong: cut and stored under a known gate, or shifted over and over.

LLVM 22 turns a store of cut lanes of which one is open into a scalar store of the wide element, past the end of the
narrow one. gcc 12 loses the counts of a shift of eight bytes in a loop that carries the result.
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

_WIDE = {
    "i8": ("i32", "i64"),
    "u8": ("u32", "u64"),
    "i16": ("i32", "i64"),
    "u16": ("u32", "u64"),
    "f16": ("f32",),
    "bf16": ("f32",),
    "i32": ("i64",),
    "u32": ("u64",),
}
"""The dtypes that are narrowed to each dtype."""
_SHIFTS = ("mul.shl", "mul.shr")
_INTEGERS = ("i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64")
_TRIPS = 3


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield a case for every declared count of lanes of each dtype."""
    for lanes in capabilities.lane_counts()[1:]:
        for narrow in (d for d in _WIDE if d in capabilities.dtypes):
            for wide in (d for d in _WIDE[narrow] if d in capabilities.dtypes):
                yield _tail(DTYPES[narrow], DTYPES[wide], lanes)
        for dtype in (d for d in _INTEGERS if d in capabilities.dtypes):
            for form in _SHIFTS:
                yield _shift(form, DTYPES[dtype], lanes)


# --- the tail of a loop -------------------------------------------------------------------------------------------


def _tail(narrow: DType, wide: DType, lanes: int) -> Case:
    """Make the case whose launch stores one lane, the last of a buffer."""
    case_id = f"kernels/vector/tail/{narrow}x{lanes}" + (f"-from-{wide}" if wide.bits == 64 else "")
    cell = Cell("store.vec", str(narrow), lanes)
    trial = partial(_tail_trial, case_id, narrow, wide, lanes)
    return Case(case_id, Level.KERNELS, Tier.STANDARD, (cell,), trial=trial, needs=KERNEL_NEEDS)


def _tail_trial(case_id: str, narrow: DType, wide: DType, lanes: int) -> Trial:
    values: np.ndarray = as_array(wide, small_values(Draws(case_id), wide, lanes))
    return Trial(_tail_kernel(narrow, wide, lanes), {}, {"wide": values})


def _tail_kernel(dtype: DType, wide: DType, lanes: int) -> Kernel:
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


# --- carried shifts -----------------------------------------------------------------------------------------------


def _shift(form: str, dtype: DType, lanes: int) -> Case:
    """Make the case whose loop shifts its carry by counts that were loaded, and stores it in every trip."""
    case_id = f"kernels/vector/shift/{form}/{dtype}x{lanes}"
    trial = partial(_shift_trial, case_id, form, dtype, lanes)
    return Case(
        case_id, Level.KERNELS, Tier.STANDARD, (Cell(form, str(dtype), lanes),), trial=trial, needs=KERNEL_NEEDS
    )


def _shift_trial(case_id: str, form: str, dtype: DType, lanes: int) -> Trial:
    bits = Draws(case_id).bits(dtype.bits, 1)
    return Trial(_shift_kernel(form, dtype, lanes), {"n": _TRIPS}, {"x": as_array(dtype, bits)})


def _shift_kernel(form: str, dtype: DType, lanes: int) -> Kernel:
    return parse(f"""portkit 1.0-draft
kernel shift
scalar n i32
buffer x {dtype}[1] read
buffer out {dtype}[n] write
begin
trips = mov.const i32 {_TRIPS}
yes = mov.const bool true
no = mov.const bool false
group = loop.grid 1
lane = loop.lane 1
count = load x group
counts = mov.pack {" ".join(["count"] * lanes)}
inside = phi.lt group n yes no
trip = loop.serial trips
value = phi.carry counts
shifted = {form} value counts
last = mov.lane shifted {lanes - 1}
store out trip last if inside
endloop trip value=shifted
endloop lane
endloop group
""")
