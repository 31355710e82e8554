"""Kernels of index arithmetic: tails, dynamic bounds, many dimensions, large offsets, division by constants, gates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from portkit.conformance.case import Case, Cell, Tier
from portkit.conformance.cases.draws import Draws, as_array
from portkit.conformance.cases.kernelcase import Arrays, KernelCase, Scalars, rows_to_cases
from portkit.conformance.cases.shapes import KERNEL_NEEDS, lane_kernel
from portkit.conformance.cases.writing import Writer
from portkit.contract import Capabilities
from portkit.spec.builder import Reg
from portkit.spec.kernel import Kernel, Numeric
from portkit.spec.types import DTYPES

GROUP_SIZES = (1, 3, 32, 64, 100, 128, 256)
DIVISORS = (1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 25, 64, 100, 125, 127, 625, 641, 1000, 1023, 65_535, 1_000_003, 2**31 - 1)
BIG_ELEMENTS = 5_000_003


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the index kernels."""
    yield from rows_to_cases(_rows(), capabilities)


# --- tails --------------------------------------------------------------------------------------------------------


def _double_plus_index(w: Writer, item: Reg, value: Reg) -> Reg:
    return w.add(w.times(value, 2), item)


def _tail_data(lanes: int, size: int, case_id: str) -> tuple[Scalars, Arrays]:
    values = Draws(case_id).bits(32, size).astype(np.uint32).view(np.int32)
    return {"n": size, "groups": (size + lanes - 1) // lanes}, {"a": values}


def _tail_rows() -> Iterator[KernelCase]:
    """At every group size: one element, one less than a group, a group, one more, several groups and one."""
    for lanes in GROUP_SIZES:
        build = partial(lane_kernel, f"tail_{lanes}", _double_plus_index, dtype="i32", lanes=lanes)
        for size in sorted({1, lanes - 1, lanes, lanes + 1, 5 * lanes - 1, 5 * lanes, 5 * lanes + 1} - {0}):
            yield _row(f"tails/{lanes}_lanes_{size}", build, partial(_tail_data, lanes, size))


def gridless_tail_kernel(numeric: Numeric = "fast") -> Kernel:
    """A grid-stride loop: one work-group of 64 lanes covers n elements, trips computed in the kernel."""
    w = Writer("grid_stride", numeric)
    a, out = w.buffer("a", "f32", "n", "read"), w.buffer("out", "f32", "n", "write")
    size, groups = w.scalar("n", "i32"), w.scalar("groups", "i32")
    group = w.grid(groups)
    lane = w.lane(64)
    stride = w.times(groups, 64)
    with w.serial(w.scalar("trips", "i32")) as loop:
        item = w.add(w.mul(loop.index, stride), w.index(group, 64, lane))
        inside = w.lt(item, size)
        value = w.load(a, item, gate=inside, other=w.f32(0.0))
        w.store(out, item, w.plus(w.times(value, 3.0), 1.0), gate=inside)
    return w.build()


def _stride_data(size: int, groups: int, case_id: str) -> tuple[Scalars, Arrays]:
    trips = (size + groups * 64 - 1) // (groups * 64)
    values = Draws(case_id).floats(DTYPES["f32"], -4, 4, size)
    return {"n": size, "groups": groups, "trips": trips}, {"a": as_array(DTYPES["f32"], values)}


# --- dimensions ---------------------------------------------------------------------------------------------------


def matrix_kernel(numeric: Numeric = "fast") -> Kernel:
    """out[c, r] = a[r, c] + r * 1000 + c over a 2-D grid of 8 x 4 lanes, gated in both dimensions."""
    w = Writer("matrix", numeric)
    a = w.buffer("a", "i32", ("rows", "columns"), "read")
    out = w.buffer("out", "i32", ("rows", "columns"), "write")
    rows, columns = w.scalar("rows", "i32"), w.scalar("columns", "i32")
    row_blocks = w.shr(w.plus(rows, 7), 3)
    column_blocks = w.shr(w.plus(columns, 3), 2)
    block_row, block_column = w.grid(row_blocks), w.grid(column_blocks)
    lane_row, lane_column = w.lane(8), w.lane(4)
    row, column = w.index(block_row, 8, lane_row), w.index(block_column, 4, lane_column)
    inside = w.both(w.lt(row, rows), w.lt(column, columns))
    value = w.load(a, w.add(w.mul(row, columns), column), gate=inside, other=w.i32(0))
    marked = w.add(value, w.index(row, 1000, column))
    w.store(out, w.add(w.mul(column, rows), row), marked, gate=inside)
    return w.build()


def _matrix_data(rows: int, columns: int, case_id: str) -> tuple[Scalars, Arrays]:
    values = Draws(case_id).bits(20, rows * columns).astype(np.int32)
    return {"rows": rows, "columns": columns}, {"a": values}


def four_dimensions_kernel(numeric: Numeric = "fast") -> Kernel:
    """A permutation of four axes, each a grid loop whose extent is a scalar, with one lane loop for the last."""
    w = Writer("four_dimensions", numeric)
    names = ("n0", "n1", "n2", "n3")
    a, out = w.buffer("a", "f32", names, "read"), w.buffer("out", "f32", names, "write")
    extents = [w.scalar(name, "i32") for name in names]
    i0, i1, i2 = (w.grid(extent) for extent in extents[:3])
    lane = w.lane(16)
    n0, n1, n2, n3 = extents
    inside = w.lt(lane, n3)
    source = w.add(w.mul(w.add(w.mul(w.add(w.mul(i0, n1), i1), n2), i2), n3), lane)
    target = w.add(w.mul(w.add(w.mul(w.add(w.mul(lane, n1), i1), n0), i0), n2), i2)
    w.store(out, target, w.load(a, source, gate=inside, other=w.f32(0.0)), gate=inside)
    return w.build()


def _four_data(shape: tuple[int, int, int, int], case_id: str) -> tuple[Scalars, Arrays]:
    values = Draws(case_id).floats(DTYPES["f32"], -4, 4, int(np.prod(shape)))
    return {f"n{k}": n for k, n in enumerate(shape)}, {"a": as_array(DTYPES["f32"], values)}


# --- large offsets ------------------------------------------------------------------------------------------------


def far_kernel(numeric: Numeric = "fast") -> Kernel:
    """Reads and writes single elements spread over a large buffer, the very last one included."""
    w = Writer("far", numeric)
    data = w.buffer("data", "i32", "size", "readwrite")
    size, stride = w.scalar("size", "i32"), w.scalar("stride", "i32")
    w.grid(1)
    lane = w.lane(64)
    place = w.plus(w.minus(size, w.mul(lane, stride)), -1)
    w.store(data, place, w.add(w.times(w.load(data, place), 3), lane))
    return w.build()


def _far_data(case_id: str) -> tuple[Scalars, Arrays]:
    del case_id
    data = np.arange(BIG_ELEMENTS, dtype=np.int32)
    return {"size": BIG_ELEMENTS, "stride": BIG_ELEMENTS // 64}, {"data": data}


def wrap_kernel(numeric: Numeric = "fast") -> Kernel:
    """Indices computed through values that wrap around 2^32 and come back."""
    w = Writer("wrapping_index", numeric)
    a, out = w.buffer("a", "i32", 64, "read"), w.buffer("out", "i32", 64, "write")
    w.grid(1)
    lane = w.lane(64)
    far = w.plus(w.times(lane, 2**30), 2**31 - 1)
    back = w.band(w.add(w.shr(w.bits(w.minus(far, w.i32(2**31 - 1)), "u32"), 30), w.bits(lane, "u32")), 63)
    w.store(out, lane, w.load(a, w.bits(back, "i32")))
    return w.build()


def _sixty_four(case_id: str) -> tuple[Scalars, Arrays]:
    return {}, {"a": Draws(case_id).bits(31, 64).astype(np.int32)}


# --- division by constants ----------------------------------------------------------------------------------------


def magic(divisor: int) -> tuple[int, int]:
    """Return (multiplier, shift) with n // divisor == (n * multiplier) >> (32 + shift) for 0 <= n < 2^31.

    Source: T. Granlund, P. L. Montgomery, "Division by Invariant Integers using Multiplication", PLDI 1994.
    """
    shift = max(0, (divisor - 1).bit_length() - 1)
    return -(-(1 << (32 + shift)) // divisor), shift


def division_kernel(divisor: int, numeric: Numeric = "fast") -> Kernel:
    """out = (a / d) * 3 + a % d by mul.hi and a shift (Granlund and Montgomery 1994); a is not negative."""
    return lane_kernel(f"divide_{divisor}", partial(_divide, divisor), numeric)


def _divide(divisor: int, w: Writer, item: Reg, value: Reg) -> Reg:
    unsigned = w.bits(value, "u32")
    if divisor == 1:
        quotient = unsigned
    else:
        multiplier, shift = magic(divisor)
        quotient = w.shr(w.op("mul.hi", unsigned, w.const("u32", multiplier)), shift)
    remainder = w.add(unsigned, w.times(w.mul(quotient, w.const("u32", divisor)), 2**32 - 1))
    return w.bits(w.add(w.times(quotient, 3), remainder), "i32")


def _division_data(divisor: int, case_id: str) -> tuple[Scalars, Arrays]:
    """Multiples of the divisor and their neighbours, the ends of the range, random numbers."""
    top = 2**31 - 1
    quotients = [*range(20), top // divisor, top // divisor - 1, top // divisor // 2]
    edges = [q * divisor + step for q in quotients for step in (-1, 0, 1)]
    values = [v for v in (*edges, top, top - 1) if 0 <= v <= top]
    numbers = np.concatenate([np.array(values, dtype=np.int32), Draws(case_id).bits(31, 200).astype(np.int32)])
    return {"n": len(numbers), "groups": (len(numbers) + 63) // 64}, {"a": numbers}


def launch_division_kernel(numeric: Numeric = "fast") -> Kernel:
    """The same with multiplier, shift and divisor as launch scalars: magic division for dynamic shapes."""
    w = Writer("launch_division", numeric)
    a, out = w.buffer("a", "i32", "n", "read"), w.buffer("out", "i32", "n", "write")
    size, groups = w.scalar("n", "i32"), w.scalar("groups", "i32")
    multiplier, shift, divisor = (w.scalar(name, "i32") for name in ("multiplier", "shift", "divisor"))
    group = w.grid(groups)
    item = w.index(group, 64, w.lane(64))
    inside = w.lt(item, size)
    value = w.load(a, item, gate=inside, other=w.i32(0))
    product = w.op("mul.hi", w.bits(value, "u32"), w.bits(multiplier, "u32"))
    quotient = w.bits(w.shr(product, w.bits(shift, "u32")), "i32")
    remainder = w.minus(value, w.mul(quotient, divisor))
    w.store(out, item, w.add(w.times(quotient, 3), remainder), gate=inside)
    return w.build()


def _launch_division_data(divisor: int, case_id: str) -> tuple[Scalars, Arrays]:
    scalars, arrays = _division_data(divisor, case_id)
    multiplier, shift = magic(divisor)
    signed = multiplier - (1 << 32) if multiplier >> 31 else multiplier
    return {**scalars, "multiplier": signed, "shift": shift, "divisor": divisor}, arrays


# --- gates --------------------------------------------------------------------------------------------------------


def nested_gates_kernel(numeric: Numeric = "fast") -> Kernel:
    """A chain of three gated loads, each index from the load before, a closed gate anywhere ending the chain."""
    w = Writer("gated_chain", numeric)
    a, out = w.buffer("a", "i32", "n", "read"), w.buffer("out", "i32", "n", "write")
    size, groups = w.scalar("n", "i32"), w.scalar("groups", "i32")
    group = w.grid(groups)
    item = w.index(group, 64, w.lane(64))
    place = item
    for step in range(3):
        inside = w.both(w.below(w.i32(-1), place), w.lt(place, size))
        place = w.load(a, place, gate=inside, other=w.i32(-1 - step))
    w.store(out, item, place, gate=w.lt(item, size))
    return w.build()


def _chain_data(case_id: str) -> tuple[Scalars, Arrays]:
    size = 150
    return {"n": size, "groups": 3}, {"a": Draws(case_id).integers(-40, size + 40, size).astype(np.int32)}


# --- parts of an index --------------------------------------------------------------------------------------------

OFFSET = 40
"""A negative number of so much at most is a part of the index; what is added to it makes the index valid."""
STEPS = 5


def negative_part_kernel(numeric: Numeric = "fast") -> Kernel:
    """Loads at the sum of a negative number from memory, a loop index and a literal: only the sum is an index."""
    w = Writer("negative_part", numeric)
    offsets, table = w.buffer("offsets", "i32", 64, "read"), w.buffer("table", "i32", OFFSET + STEPS, "read")
    out = w.buffer("out", "i32", ("groups", 64), "write")
    group, lane = w.grid(w.scalar("groups", "i32")), w.lane(64)
    offset = w.load(offsets, lane)
    with w.serial(STEPS, total=group) as loop:
        value = w.load(table, w.plus(w.add(offset, loop.index), OFFSET))
        loop.next(total=w.add(w.times(loop["total"], 3), value))
    w.store(out, w.index(group, 64, lane), w.add(loop["total"], w.load(table, w.plus(offset, OFFSET))))
    return w.build()


def _negative_part_data(case_id: str) -> tuple[Scalars, Arrays]:
    draws = Draws(case_id)
    offsets, table = draws.integers(-OFFSET, -1, 64), draws.bits(20, OFFSET + STEPS)
    return {"groups": 3}, {"offsets": offsets.astype(np.int32), "table": table.astype(np.int32)}


def _row(name: str, build: Callable[[Numeric], Kernel], data: Callable[[str], tuple[Scalars, Arrays]]) -> KernelCase:
    tier = Tier.SMOKE if name in _SMOKE else Tier.STANDARD
    return KernelCase(f"kernels/index/{name}", build, data, tier=tier, needs=KERNEL_NEEDS)


_SMOKE = ("tails/64_lanes_63", "tails/64_lanes_64", "tails/64_lanes_65", "matrix/13x7", "divide/7", "gated_chain/150")


def _rows() -> Iterator[KernelCase]:
    yield from _tail_rows()
    for size, groups in ((1, 1), (64, 1), (65, 1), (1000, 3), (5000, 2)):
        yield _row(f"grid_stride/{size}_in_{groups}", gridless_tail_kernel, partial(_stride_data, size, groups))
    for rows, columns in ((1, 1), (8, 4), (9, 5), (7, 3), (13, 7), (1, 100), (100, 1)):
        yield _row(f"matrix/{rows}x{columns}", matrix_kernel, partial(_matrix_data, rows, columns))
    for shape in ((1, 1, 1, 1), (2, 3, 5, 16), (4, 1, 3, 7), (3, 5, 1, 1)):
        name = "x".join(map(str, shape))
        yield _row(f"four_dimensions/{name}", four_dimensions_kernel, partial(_four_data, shape))
    yield replace(_row("far/last_element", far_kernel, _far_data), cells=(Cell("load", "i32"), Cell("store", "i32")))
    yield _row("wrapping/64", wrap_kernel, _sixty_four)
    yield _row("negative_part/64", negative_part_kernel, _negative_part_data)
    for divisor in DIVISORS:
        build = partial(division_kernel, divisor)
        yield _row(f"divide/{divisor}", build, partial(_division_data, divisor))
    for divisor in (3, 7, 641, 1_000_003):
        yield _row(f"divide_by_scalar/{divisor}", launch_division_kernel, partial(_launch_division_data, divisor))
    yield _row("gated_chain/150", nested_gates_kernel, _chain_data)
