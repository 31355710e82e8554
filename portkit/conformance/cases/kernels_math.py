"""Kernels of whole computations: vector and matrix products, softmax, layer norm, convolution, arg max and the like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from portkit.conformance.case import Case, Tier
from portkit.conformance.cases import derived
from portkit.conformance.cases.draws import Draws, as_array
from portkit.conformance.cases.inputs import small_values, unit_values
from portkit.conformance.cases.kernelcase import Arrays, KernelCase, Scalars, rows_to_cases
from portkit.conformance.cases.kernels_shared import tree
from portkit.conformance.cases.shapes import KERNEL_NEEDS
from portkit.conformance.cases.writing import Writer
from portkit.contract import Capabilities
from portkit.spec.builder import Mem, Reg
from portkit.spec.kernel import Kernel, Numeric
from portkit.spec.types import DTYPES

F32 = DTYPES["f32"]
LANES = 64
ROW_LANES = 32
NEEDS = (*KERNEL_NEEDS, "ops/add/f32/special", "ops/mul/f32/special")


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the kernels of whole computations."""
    yield from rows_to_cases(_rows(), capabilities)


def floats(case_id: str, name: str, count: int) -> np.ndarray:
    """Return well-scaled f32 numbers for one operand of a case."""
    return as_array(F32, unit_values(Draws(f"{case_id}:{name}"), F32, count))


def smalls(case_id: str, name: str, dtype: str, count: int) -> np.ndarray:
    """Return small integers of a dtype for one operand of a case."""
    return as_array(DTYPES[dtype], small_values(Draws(f"{case_id}:{name}"), DTYPES[dtype], count))


# --- vectors ------------------------------------------------------------------------------------------------------


def axpy_kernel(numeric: Numeric = "fast") -> Kernel:
    """y = a x + y with two roundings."""
    w = Writer("axpy", numeric)
    x, y = w.buffer("x", "f32", "n", "read"), w.buffer("y", "f32", "n", "readwrite")
    size, groups, a = w.scalar("n", "i32"), w.scalar("groups", "i32"), w.scalar("a", "f32")
    group = w.grid(groups)
    item = w.index(group, LANES, w.lane(LANES))
    inside, zero = w.lt(item, size), w.f32(0.0)
    product = w.mul(a, w.load(x, item, gate=inside, other=zero))
    w.store(y, item, w.add(product, w.load(y, item, gate=inside, other=zero)), gate=inside)
    return w.build()


def _axpy_data(size: int, case_id: str) -> tuple[Scalars, Arrays]:
    scalars = {"n": size, "groups": (size + LANES - 1) // LANES, "a": 1.7}
    return scalars, {"x": floats(case_id, "x", size), "y": floats(case_id, "y", size)}


def dot_kernel(numeric: Numeric = "fast") -> Kernel:
    """Partial sums of a dot product: each lane strides over the vectors, then a tree in shared memory."""
    w = Writer("dot", numeric)
    x, y = w.buffer("x", "f32", "n", "read"), w.buffer("y", "f32", "n", "read")
    out = w.buffer("out", "f32", "groups", "write")
    size, groups, trips = w.scalar("n", "i32"), w.scalar("groups", "i32"), w.scalar("trips", "i32")
    stage = w.shared("stage", "f32", LANES)
    group, lane = w.grid(groups), w.lane(LANES)
    zero, start = w.f32(0.0), w.index(group, LANES, lane)
    stride = w.times(groups, LANES)
    with w.serial(trips, total=zero) as loop:
        item = w.add(w.mul(loop.index, stride), start)
        inside = w.lt(item, size)
        product = w.mul(w.load(x, item, gate=inside, other=zero), w.load(y, item, gate=inside, other=zero))
        loop.next(total=w.add(loop["total"], product))
    w.store(stage, lane, loop["total"])
    total = tree(w, stage, lane, LANES, w.add)
    w.store(out, group, total, gate=w.same(lane, 0))
    return w.build()


def _dot_data(size: int, groups: int, small: bool, case_id: str) -> tuple[Scalars, Arrays]:
    trips = (size + groups * LANES - 1) // (groups * LANES)
    make = partial(smalls, case_id, dtype="f32", count=size) if small else partial(floats, case_id, count=size)
    return {"n": size, "groups": groups, "trips": trips}, {"x": make(name="x"), "y": make(name="y")}


# --- rows ---------------------------------------------------------------------------------------------------------


def softmax_kernel(numeric: Numeric = "fast") -> Kernel:
    """One work-group per row: max, exp, sum, scale; exp2 and the reciprocal from base forms."""
    w = Writer("softmax", numeric)
    a, out = (w.buffer("a", "f32", ("rows", "columns"), "read"), w.buffer("out", "f32", ("rows", "columns"), "write"))
    rows, columns = w.scalar("rows", "i32"), w.scalar("columns", "i32")
    stage = w.shared("stage", "f32", ROW_LANES)
    row, lane = w.grid(rows), w.lane(ROW_LANES)
    trips = w.shr(w.plus(columns, ROW_LANES - 1), ROW_LANES.bit_length() - 1)
    lowest, zero = w.f32(-3.0e38), w.f32(0.0)

    def element(k: Reg) -> tuple[Reg, Reg]:
        column = w.index(k, ROW_LANES, lane)
        return w.add(w.mul(row, columns), column), w.lt(column, columns)

    with w.serial(trips, top=lowest) as first:
        at, inside = element(first.index)
        first.next(top=w.maximum(first["top"], w.load(a, at, gate=inside, other=lowest)))
    w.store(stage, lane, first["top"])
    top = tree(w, stage, lane, ROW_LANES, w.maximum)
    w.barrier()
    with w.serial(trips, total=zero) as second:
        at, inside = element(second.index)
        power = derived.exp(w, w.minus(w.load(a, at, gate=inside, other=lowest), top))
        second.next(total=w.add(second["total"], w.choose(inside, power, zero)))
    w.store(stage, lane, second["total"])
    scale = derived.recip(w, tree(w, stage, lane, ROW_LANES, w.add))
    with w.serial(trips) as third:
        at, inside = element(third.index)
        power = derived.exp(w, w.minus(w.load(a, at, gate=inside, other=lowest), top))
        w.store(out, at, w.mul(power, scale), gate=inside)
    return w.build()


def layernorm_kernel(numeric: Numeric = "fast") -> Kernel:
    """One work-group per row: mean, variance around it, scale by the inverse square root, gain and bias."""
    w = Writer("layernorm", numeric)
    a, out = (w.buffer("a", "f32", ("rows", "columns"), "read"), w.buffer("out", "f32", ("rows", "columns"), "write"))
    gain, bias = w.buffer("gain", "f32", "columns", "read"), w.buffer("bias", "f32", "columns", "read")
    rows, columns, share = w.scalar("rows", "i32"), w.scalar("columns", "i32"), w.scalar("share", "f32")
    stage = w.shared("stage", "f32", ROW_LANES)
    row, lane = w.grid(rows), w.lane(ROW_LANES)
    trips = w.shr(w.plus(columns, ROW_LANES - 1), ROW_LANES.bit_length() - 1)
    zero = w.f32(0.0)

    def total(term: Callable[[Reg], Reg]) -> Reg:
        with w.serial(trips, total=zero) as loop:
            column = w.index(loop.index, ROW_LANES, lane)
            inside = w.lt(column, columns)
            value = w.load(a, w.add(w.mul(row, columns), column), gate=inside, other=zero)
            loop.next(total=w.add(loop["total"], w.choose(inside, term(value), zero)))
        w.barrier()
        w.store(stage, lane, loop["total"])
        return tree(w, stage, lane, ROW_LANES, w.add)

    mean = w.mul(total(lambda value: value), share)

    def squared(value: Reg) -> Reg:
        distance = w.minus(value, mean)
        return w.mul(distance, distance)

    scale = derived.rsqrt(w, w.plus(w.mul(total(squared), share), 1e-5))
    with w.serial(trips) as loop:
        column = w.index(loop.index, ROW_LANES, lane)
        inside, at = w.lt(column, columns), w.add(w.mul(row, columns), column)
        value = w.mul(w.minus(w.load(a, at, gate=inside, other=zero), mean), scale)
        scaled = w.mul(value, w.load(gain, column, gate=inside, other=zero))
        w.store(out, at, w.add(scaled, w.load(bias, column, gate=inside, other=zero)), gate=inside)
    return w.build()


def _rows_data(rows: int, columns: int, case_id: str) -> tuple[Scalars, Arrays]:
    values = Draws(case_id).floats(F32, -3, 3, rows * columns)
    return {"rows": rows, "columns": columns}, {"a": as_array(F32, values)}


def _layernorm_data(rows: int, columns: int, case_id: str) -> tuple[Scalars, Arrays]:
    scalars, arrays = _rows_data(rows, columns, case_id)
    extra = {name: floats(case_id, name, columns) for name in ("gain", "bias")}
    return {**scalars, "share": float(np.float32(1.0 / columns))}, {**arrays, **extra}


def argmax_kernel(numeric: Numeric = "fast") -> Kernel:
    """One lane per row: the first place of the largest element, by strict comparison; NaN is never larger."""
    w = Writer("argmax", numeric)
    a, out = w.buffer("a", "f32", ("rows", "columns"), "read"), w.buffer("out", "i32", "rows", "write")
    rows, columns = w.scalar("rows", "i32"), w.scalar("columns", "i32")
    group = w.grid(w.shr(w.plus(rows, LANES - 1), LANES.bit_length() - 1))
    row = w.index(group, LANES, w.lane(LANES))
    inside = w.lt(row, rows)
    with w.serial(columns, top=w.f32(float("-inf")), place=w.i32(0)) as loop:
        at = w.add(w.mul(row, columns), loop.index)
        value = w.load(a, at, gate=inside, other=w.f32(0.0))
        larger = w.lt(loop["top"], value)
        loop.next(top=w.choose(larger, value, loop["top"]), place=w.choose(larger, loop.index, loop["place"]))
    w.store(out, row, loop["place"], gate=inside)
    return w.build()


def _argmax_data(rows: int, columns: int, case_id: str) -> tuple[Scalars, Arrays]:
    """Small integers, so that many elements are equal and the first must win."""
    return {"rows": rows, "columns": columns}, {"a": smalls(case_id, "a", "f32", rows * columns)}


# --- matrices -----------------------------------------------------------------------------------------------------

TILE = 8


def gemm_kernel(dtype: str, numeric: Numeric = "fast") -> Kernel:
    """C = A B by 8 x 8 tiles staged in shared memory, ragged in all three extents; narrow dtypes accumulate in f32."""
    wide = "f32" if DTYPES[dtype].bits < F32.bits else dtype
    w = Writer(f"gemm_{dtype}", numeric)
    a, b = w.buffer("a", dtype, ("m", "k"), "read"), w.buffer("b", dtype, ("k", "n"), "read")
    c = w.buffer("c", wide, ("m", "n"), "write")
    m, n, k = (w.scalar(name, "i32") for name in "mnk")
    left, right = (w.shared(name, wide, TILE * TILE) for name in ("left", "right"))
    shift = TILE.bit_length() - 1
    block_row, block_column = (w.grid(w.shr(w.plus(extent, TILE - 1), shift)) for extent in (m, n))
    y, x = w.lane(TILE), w.lane(TILE)
    row, column = w.index(block_row, TILE, y), w.index(block_column, TILE, x)
    zero, none, place = w.const(wide, 0), w.const(dtype, 0), w.index(y, TILE, x)

    def stage(target: Mem, source: Mem, at: Reg, gate: Reg) -> None:
        value = w.load(source, at, gate=gate, other=none)
        w.store(target, place, value if wide == dtype else w.cast(value, wide))

    in_row, in_column = w.lt(row, m), w.lt(column, n)
    with w.serial(w.shr(w.plus(k, TILE - 1), shift), total=zero) as loop:
        ka, kb = w.index(loop.index, TILE, x), w.index(loop.index, TILE, y)
        gate_a, gate_b = w.both(in_row, w.lt(ka, k)), w.both(in_column, w.lt(kb, k))
        stage(left, a, w.add(w.mul(row, k), ka), gate_a)
        stage(right, b, w.add(w.mul(kb, n), column), gate_b)
        w.barrier()
        with w.serial(TILE, total=loop["total"]) as inner:
            value_a = w.load(left, w.index(y, TILE, inner.index))
            value_b = w.load(right, w.index(inner.index, TILE, x))
            inner.next(total=w.add(inner["total"], w.mul(value_a, value_b)))
        w.barrier()
        loop.next(total=inner["total"])
    w.store(c, w.add(w.mul(row, n), column), loop["total"], gate=w.both(in_row, in_column))
    return w.build()


def _gemm_data(dtype: str, shape: tuple[int, int, int], small: bool, case_id: str) -> tuple[Scalars, Arrays]:
    m, n, k = shape
    fill = partial(smalls, case_id, dtype=dtype) if small else partial(floats, case_id)
    return {"m": m, "n": n, "k": k}, {"a": fill(name="a", count=m * k), "b": fill(name="b", count=k * n)}


def conv_kernel(numeric: Numeric = "fast") -> Kernel:
    """A 3 x 3 convolution of one channel with zero padding: nine gated loads in two serial loops."""
    w = Writer("conv", numeric)
    a, weight = w.buffer("a", "f32", ("height", "width"), "read"), w.buffer("weight", "f32", 9, "read")
    out = w.buffer("out", "f32", ("height", "width"), "write")
    height, width = w.scalar("height", "i32"), w.scalar("width", "i32")
    y = w.grid(height)
    block = w.grid(w.shr(w.plus(width, 15), 4))
    x = w.index(block, 16, w.lane(16))
    zero, minus_one = w.f32(0.0), w.i32(-1)
    with w.serial(3, total=zero) as rows:
        sy = w.plus(w.add(y, rows.index), -1)
        in_y = w.both(w.lt(minus_one, sy), w.lt(sy, height))
        with w.serial(3, total=rows["total"]) as columns:
            sx = w.plus(w.add(x, columns.index), -1)
            inside = w.both(in_y, w.both(w.lt(minus_one, sx), w.lt(sx, width)))
            value = w.load(a, w.add(w.mul(sy, width), sx), gate=inside, other=zero)
            factor = w.load(weight, w.index(rows.index, 3, columns.index))
            columns.next(total=w.add(columns["total"], w.mul(value, factor)))
        rows.next(total=columns["total"])
    w.store(out, w.add(w.mul(y, width), x), rows["total"], gate=w.lt(x, width))
    return w.build()


def _conv_data(height: int, width: int, case_id: str) -> tuple[Scalars, Arrays]:
    arrays = {"a": floats(case_id, "a", height * width), "weight": floats(case_id, "weight", 9)}
    return {"height": height, "width": width}, arrays


def _rows() -> Iterator[KernelCase]:
    def row(
        name: str,
        build: Callable[[Numeric], Kernel],
        data: Callable[[str], tuple[Scalars, Arrays]],
        numeric: Numeric = "fast",
        requires: tuple[str, ...] = (),
    ) -> KernelCase:
        tier = Tier.SMOKE if name in _SMOKE else Tier.STANDARD
        return KernelCase(f"kernels/math/{name}", build, data, (), tier, numeric, NEEDS, requires)

    for size in (1, 64, 1000):
        yield row(f"axpy/{size}", axpy_kernel, partial(_axpy_data, size))
    for size, groups in ((1, 1), (100, 2), (5000, 3)):
        yield row(f"dot/{size}_in_{groups}", dot_kernel, partial(_dot_data, size, groups, False))
    yield row("dot/exact", dot_kernel, partial(_dot_data, 3000, 2, True))
    for rows, columns in ((1, 1), (5, 32), (7, 33), (3, 100)):
        yield row(f"softmax/{rows}x{columns}", softmax_kernel, partial(_rows_data, rows, columns))
        yield row(f"layernorm/{rows}x{columns}", layernorm_kernel, partial(_layernorm_data, rows, columns))
    for rows, columns in ((1, 1), (64, 10), (70, 33)):
        yield row(f"argmax/{rows}x{columns}", argmax_kernel, partial(_argmax_data, rows, columns))
    for shape in ((1, 1, 1), (8, 8, 8), (9, 7, 17), (16, 24, 8), (37, 29, 41)):
        name = "x".join(map(str, shape))
        for dtype in ("f32", "i32"):
            build = _GEMM[dtype]
            yield row(f"gemm/{dtype}_{name}", build, partial(_gemm_data, dtype, shape, dtype == "i32"))
    yield row("gemm/f32_exact", _GEMM["f32"], partial(_gemm_data, "f32", (24, 16, 33), True))
    for dtype in ("f16", "bf16", "f64", "i64"):
        data = partial(_gemm_data, dtype, (16, 24, 17), True)
        yield row(f"gemm/{dtype}_exact", _GEMM[dtype], data, requires=(dtype,))
    for height, width in ((1, 1), (5, 16), (9, 37)):
        yield row(f"conv/{height}x{width}", conv_kernel, partial(_conv_data, height, width))
    for name, build, data in (
        ("dot", dot_kernel, partial(_dot_data, 5000, 3, False)),
        ("softmax", softmax_kernel, partial(_rows_data, 7, 100)),
        ("layernorm", layernorm_kernel, partial(_layernorm_data, 7, 100)),
        ("gemm", _GEMM["f32"], partial(_gemm_data, "f32", (37, 29, 41), False)),
    ):
        yield row(f"{name}/strict", build, data, numeric="strict")


_GEMM = {dtype: partial(gemm_kernel, dtype) for dtype in ("f32", "i32", "f16", "bf16", "f64", "i64")}
_SMOKE = ("axpy/1000", "dot/100_in_2", "softmax/7x33", "argmax/70x33", "gemm/f32_9x7x17", "conv/9x37", "dot/exact")
