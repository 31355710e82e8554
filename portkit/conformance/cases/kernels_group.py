"""Kernels of the extensions: group reductions, vectors, fused multiply-add, atomics, gathers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from portkit.conformance.case import Case, Tier
from portkit.conformance.cases import derived
from portkit.conformance.cases.draws import Draws, as_array
from portkit.conformance.cases.inputs import small_values
from portkit.conformance.cases.kernelcase import Arrays, KernelCase, Scalars, rows_to_cases
from portkit.conformance.cases.kernels_math import floats, smalls
from portkit.conformance.cases.shapes import KERNEL_NEEDS
from portkit.conformance.cases.writing import Writer
from portkit.contract import Capabilities
from portkit.spec.builder import Reg
from portkit.spec.kernel import Kernel, Numeric
from portkit.spec.types import DTYPES

F32 = DTYPES["f32"]
ROW_LANES = 64


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the kernels of the declared extensions."""
    yield from rows_to_cases((*_group_rows(), *_vector_rows(capabilities), *_memory_rows()), capabilities)


# --- group reductions ---------------------------------------------------------------------------------------------


def softmax_kernel(numeric: Numeric = "fast") -> Kernel:
    """One work-group per row of at most 64 columns: group max, exp, group sum, native reciprocal."""
    w = Writer("softmax_group", numeric)
    a, out = w.buffer("a", "f32", ("rows", "columns"), "read"), w.buffer("out", "f32", ("rows", "columns"), "write")
    rows, columns = w.scalar("rows", "i32"), w.scalar("columns", "i32")
    row, lane = w.grid(rows), w.lane(ROW_LANES)
    inside, at = w.lt(lane, columns), w.add(w.mul(row, columns), lane)
    value = w.load(a, at, gate=inside, other=w.f32(-3.0e38))
    top = w.op("reduce.group.max", value)
    power = w.choose(inside, derived.exp(w, w.minus(value, top)), w.f32(0.0))
    total = w.op("reduce.group.add", power)
    w.store(out, at, w.mul(power, w.op("mov.recip", total)), gate=inside)
    return w.build()


def _softmax_data(rows: int, columns: int, case_id: str) -> tuple[Scalars, Arrays]:
    values = Draws(case_id).floats(F32, -3, 3, rows * columns)
    return {"rows": rows, "columns": columns}, {"a": as_array(F32, values)}


def argmax_kernel(lanes: int, numeric: Numeric = "fast") -> Kernel:
    """The first place of the largest element of a row of `lanes`: a group max, then a group min over equal places."""
    w = Writer(f"argmax_group_{lanes}", numeric)
    a, out = w.buffer("a", "f32", ("groups", lanes), "read"), w.buffer("out", "i32", "groups", "write")
    group, lane = w.grid(w.scalar("groups", "i32")), w.lane(lanes)
    value = w.load(a, w.index(group, lanes, lane))
    top = w.op("reduce.group.max", value)
    place = w.op("reduce.group.min", w.eq(value, top, lane, w.i32(lanes)))
    w.store(out, group, place, gate=w.same(lane, 0))
    return w.build()


def _argmax_data(lanes: int, case_id: str) -> tuple[Scalars, Arrays]:
    groups = 20
    values = small_values(Draws(case_id), F32, groups * lanes)
    return {"groups": groups}, {"a": as_array(F32, values)}


def loop_reduction_kernel(lanes: int, numeric: Numeric = "fast") -> Kernel:
    """Group reductions inside a serial loop; each trip's operand depends on the result of the one before."""
    w = Writer(f"loop_reduction_{lanes}", numeric)
    a, out = w.buffer("a", "i32", ("groups", lanes), "read"), w.buffer("out", "i32", ("groups", lanes), "write")
    group, lane = w.grid(w.scalar("groups", "i32")), w.lane(lanes)
    item = w.index(group, lanes, lane)
    with w.serial(5, v=w.load(a, item)) as loop:
        total = w.op("reduce.group.add", loop["v"])
        top = w.op("reduce.group.max", w.xor(loop["v"], total))
        loop.next(v=w.add(w.times(w.add(loop["v"], lane), 3), w.xor(top, loop.index)))
    w.store(out, item, loop["v"])
    return w.build()


def uniform_count_kernel(numeric: Numeric = "fast") -> Kernel:
    """A group reduction gives the count of a loop with a barrier: reductions are uniform (Spec: uniform_c1)."""
    lanes = 32
    w = Writer("uniform_count", numeric)
    a, out = w.buffer("a", "i32", ("groups", lanes), "read"), w.buffer("out", "i32", ("groups", lanes), "write")
    stage = w.shared("stage", "i32", lanes)
    group, lane = w.grid(w.scalar("groups", "i32")), w.lane(lanes)
    item = w.index(group, lanes, lane)
    value = w.load(a, item)
    trips = w.op("reduce.group.max", w.band(value, 7))
    with w.serial(trips, v=value) as loop:
        w.store(stage, lane, loop["v"])
        w.barrier()
        taken = w.load(stage, w.band(w.plus(lane, 5), lanes - 1))
        w.barrier()
        loop.next(v=w.add(loop["v"], taken))
    w.store(out, item, loop["v"])
    return w.build()


def _group_ints(lanes: int, case_id: str) -> tuple[Scalars, Arrays]:
    groups = 6
    return {"groups": groups}, {"a": Draws(case_id).bits(20, groups * lanes).astype(np.int32)}


def _row(
    name: str,
    build: Callable[[Numeric], Kernel],
    data: Callable[[str], tuple[Scalars, Arrays]],
    requires: tuple[str, ...],
    numeric: Numeric = "fast",
) -> KernelCase:
    return KernelCase(f"kernels/{name}", build, data, (), Tier.STANDARD, numeric, KERNEL_NEEDS, requires)


_GROUP_RECIP = ("group", "math", "math.recip.f32")


def _group_rows() -> Iterator[KernelCase]:
    group = ("group",)
    for rows, columns in ((1, 1), (9, 64), (5, 33)):
        data = partial(_softmax_data, rows, columns)
        yield _row(f"group/softmax/{rows}x{columns}", softmax_kernel, data, _GROUP_RECIP)
    yield _row("group/softmax/strict", softmax_kernel, partial(_softmax_data, 9, 50), _GROUP_RECIP, "strict")
    for lanes in (1, 2, 5, 31, 32, 64, 127, 256):
        yield _row(f"group/argmax/{lanes}", partial(argmax_kernel, lanes), partial(_argmax_data, lanes), group)
        build = partial(loop_reduction_kernel, lanes)
        yield _row(f"group/loop_reduction/{lanes}", build, partial(_group_ints, lanes), group)
    yield _row("group/uniform_count/32", uniform_count_kernel, partial(_group_ints, 32), group)


# --- vectors ------------------------------------------------------------------------------------------------------


def vector_axpy_kernel(lanes: int, numeric: Numeric = "fast") -> Kernel:
    """y = a x + y on vectors, fused; the ragged end by a gate per vector lane."""
    w = Writer(f"axpy_vec_{lanes}", numeric)
    x, y = w.buffer("x", "f32", "n", "read"), w.buffer("y", "f32", "n", "readwrite")
    size, groups, a = w.scalar("n", "i32"), w.scalar("groups", "i32"), w.scalar("a", "f32")
    group = w.grid(groups)
    start = w.times(w.index(group, 32, w.lane(32)), lanes)
    iota = w.op("mov.pack", *(w.i32(k) for k in range(lanes)))
    gate = w.lt(w.add(w.splat(start, lanes), iota), w.splat(size, lanes))
    zeros = w.splat(w.f32(0.0), lanes)
    values = [w.load_vec(m, start, lanes, 4, gate=gate, other=zeros) for m in (x, y)]
    w.store_vec(y, start, w.fma(w.splat(a, lanes), *values), 4, gate=gate)
    return w.build()


def _vector_axpy_data(lanes: int, size: int, case_id: str) -> tuple[Scalars, Arrays]:
    scalars = {"n": size, "groups": -(-size // (32 * lanes)), "a": -0.3}
    return scalars, {"x": floats(case_id, "x", size), "y": floats(case_id, "y", size)}


def vector_gemm_kernel(lanes: int, numeric: Numeric = "fast") -> Kernel:
    """C = A B with a register tile of 4 rows by one vector, carried through the loop over k, fused."""
    rows = 4
    w = Writer(f"gemm_vec_{lanes}", numeric)
    a, b = w.buffer("a", "f32", ("m", rows, "k"), "read"), w.buffer("b", "f32", ("k", "n", lanes), "read")
    c = w.buffer("c", "f32", ("m", rows, "n", lanes), "write")
    m, n, k = (w.scalar(name, "i32") for name in "mnk")
    block, column = w.grid(m), w.grid(n)
    w.lane(1)
    width, first = w.times(n, lanes), w.times(column, lanes)
    zeros = w.splat(w.f32(0.0), lanes)
    with w.serial(k, **{f"r{r}": zeros for r in range(rows)}) as loop:
        vector = w.load_vec(b, w.add(w.mul(loop.index, width), first), lanes, 4)
        for r in range(rows):
            scalar = w.load(a, w.add(w.mul(w.index(block, rows, w.i32(r)), k), loop.index))
            loop.next(**{f"r{r}": w.fma(w.splat(scalar, lanes), vector, loop[f"r{r}"])})
    for r in range(rows):
        w.store_vec(c, w.add(w.mul(w.index(block, rows, w.i32(r)), width), first), loop[f"r{r}"], 4)
    return w.build()


def _vector_gemm_data(lanes: int, exact: bool, case_id: str) -> tuple[Scalars, Arrays]:
    m, n, k = 3, 2, 19
    fill = partial(smalls, case_id, dtype="f32") if exact else partial(floats, case_id)
    arrays = {"a": fill(name="a", count=m * 4 * k), "b": fill(name="b", count=k * n * lanes)}
    return {"m": m, "n": n, "k": k}, arrays


def vector_dot_kernel(lanes: int, numeric: Numeric = "fast") -> Kernel:
    """A row dot product: a vector carry, then a fold across the vector."""
    w = Writer(f"dot_vec_{lanes}", numeric)
    x, y = (w.buffer(name, "f32", ("rows", "steps", lanes), "read") for name in "xy")
    out = w.buffer("out", "f32", "rows", "write")
    rows, steps = w.scalar("rows", "i32"), w.scalar("steps", "i32")
    row = w.grid(rows)
    w.lane(1)
    with w.serial(steps, total=w.splat(w.f32(0.0), lanes)) as loop:
        at = w.times(w.add(w.mul(row, steps), loop.index), lanes)
        product = w.mul(w.load_vec(x, at, lanes, 4), w.load_vec(y, at, lanes, 4))
        loop.next(total=w.add(loop["total"], product))
    w.store(out, row, w.op("reduce.vec.add", loop["total"]))
    return w.build()


def _vector_dot_data(lanes: int, exact: bool, case_id: str) -> tuple[Scalars, Arrays]:
    rows, steps = 7, 9
    fill = partial(smalls, case_id, dtype="f32") if exact else partial(floats, case_id)
    arrays = {name: fill(name=name, count=rows * steps * lanes) for name in "xy"}
    return {"rows": rows, "steps": steps}, arrays


def _vector_rows(capabilities: Capabilities) -> Iterator[KernelCase]:
    for lanes in capabilities.lanes:
        for size in (1, 32 * lanes - 1, 32 * lanes + 1, 1000):
            data = partial(_vector_axpy_data, lanes, size)
            yield _row(f"vector/axpy/{lanes}_lanes_{size}", _AXPY(lanes), data, ("vec", "fma"))
        for name, exact in (("random", False), ("exact", True)):
            gemm, dot = partial(_vector_gemm_data, lanes, exact), partial(_vector_dot_data, lanes, exact)
            yield _row(f"vector/gemm/{lanes}_lanes_{name}", partial(vector_gemm_kernel, lanes), gemm, ("vec", "fma"))
            yield _row(f"vector/dot/{lanes}_lanes_{name}", partial(vector_dot_kernel, lanes), dot, ("vec",))


_AXPY: Callable[[int], Callable[[Numeric], Kernel]] = partial(partial, vector_axpy_kernel)


# --- gathers, scatters, contention ------------------------------------------------------------------------------------


def gather_rows_kernel(numeric: Numeric = "fast") -> Kernel:
    """An embedding: out[i, j] = table[row[i], j]; a row outside of the table gives zeros."""
    w = Writer("gather_rows", numeric)
    table, rows = w.buffer("table", "f32", ("entries", "width"), "read"), w.buffer("row", "i32", "n", "read")
    out = w.buffer("out", "f32", ("n", "width"), "write")
    entries, width, size = (w.scalar(name, "i32") for name in ("entries", "width", "n"))
    item = w.grid(size)
    lane = w.lane(32)
    row = w.load(rows, item)
    known = w.both(w.lt(w.i32(-1), row), w.lt(row, entries))
    with w.serial(w.shr(w.plus(width, 31), 5)) as loop:
        column = w.index(loop.index, 32, lane)
        inside = w.lt(column, width)
        source = w.add(w.mul(row, width), column)
        value = w.load(table, source, gate=w.both(known, inside), other=w.f32(0.0))
        w.store(out, w.add(w.mul(item, width), column), value, gate=inside)
    return w.build()


def _gather_rows_data(entries: int, width: int, size: int, case_id: str) -> tuple[Scalars, Arrays]:
    rows = Draws(f"{case_id}:row").integers(-1, entries, size).astype(np.int32)
    scalars = {"entries": entries, "width": width, "n": size}
    return scalars, {"table": floats(case_id, "table", entries * width), "row": rows}


def scatter_add_kernel(dtype: str, numeric: Numeric = "fast") -> Kernel:
    """out[row[i], j] += a[i, j] by atomic stores; many items share a row."""
    w = Writer(f"scatter_add_{dtype}", numeric)
    a, rows = w.buffer("a", dtype, ("n", "width"), "read"), w.buffer("row", "i32", "n", "read")
    out = w.buffer("out", dtype, ("entries", "width"), "readwrite")
    w.scalar("entries", "i32")
    width, size = w.scalar("width", "i32"), w.scalar("n", "i32")
    item = w.grid(size)
    lane = w.lane(32)
    inside = w.lt(lane, width)
    value = w.load(a, w.add(w.mul(item, width), lane), gate=inside, other=w.const(dtype, 0))
    w.op("store.atomic.add", w.add(w.mul(w.load(rows, item), width), lane), value, mems=(out,), gate=inside)
    return w.build()


def _scatter_add_data(dtype: str, case_id: str) -> tuple[Scalars, Arrays]:
    entries, width, size = 5, 30, 400
    rows = Draws(f"{case_id}:row").integers(0, entries - 1, size).astype(np.int32)
    values = {name: smalls(case_id, name, dtype, n * width) for name, n in (("a", size), ("out", entries))}
    return {"entries": entries, "width": width, "n": size}, {**values, "row": rows}


def contention_kernel(numeric: Numeric = "fast") -> Kernel:
    """Counts, sums and extremes over all items by four atomics into single elements of four buffers."""
    w = Writer("contention", numeric)
    a = w.buffer("a", "i32", "n", "read")
    names = ("count", "total", "top", "bottom")
    outs = [w.buffer(name, "i32", 1, "readwrite") for name in names]
    size, groups = w.scalar("n", "i32"), w.scalar("groups", "i32")
    group = w.grid(groups)
    item = w.index(group, 128, w.lane(128))
    inside, zero = w.lt(item, size), w.i32(0)
    value = w.load(a, item, gate=inside, other=zero)
    for out, form, operand in zip(outs, ("add", "add", "max", "min"), (w.i32(1), value, value, value), strict=True):
        w.op(f"store.atomic.{form}", zero, operand, mems=(out,), gate=inside)
    return w.build()


def _contention_data(size: int, case_id: str) -> tuple[Scalars, Arrays]:
    values = Draws(case_id).bits(32, size).astype(np.uint32).view(np.int32)
    start = {name: np.array([k], dtype=np.int32) for k, name in enumerate(("count", "total", "top", "bottom"))}
    return {"n": size, "groups": (size + 127) // 128}, {"a": values, **start}


def histogram_kernel(numeric: Numeric = "fast") -> Kernel:
    """A histogram by atomics on global memory, the address from the data, gates closed on some lanes."""
    w = Writer("histogram_atomic", numeric)
    a, bins = w.buffer("a", "i32", "n", "read"), w.buffer("bins", "i32", 32, "readwrite")
    size, groups = w.scalar("n", "i32"), w.scalar("groups", "i32")
    group = w.grid(groups)
    item = w.index(group, 64, w.lane(64))
    value = w.load(a, item, gate=w.lt(item, size), other=w.i32(-1))
    counted: Reg = w.both(w.lt(w.i32(-1), value), w.same(w.band(value, 32), 0))
    w.op("store.atomic.add", w.band(value, 31), w.i32(1), mems=(bins,), gate=counted)
    return w.build()


def _histogram_data(case_id: str) -> tuple[Scalars, Arrays]:
    values = Draws(case_id).bits(16, 2000).astype(np.int32)
    return {"n": 2000, "groups": 32}, {"a": values, "bins": np.zeros(32, dtype=np.int32)}


_ATOMIC_I32 = ("atomic", *(f"atomic.{kind}.i32" for kind in ("add", "max", "min")))


def _memory_rows() -> Iterator[KernelCase]:
    for entries, width, size in ((1, 1, 1), (10, 40, 25), (3, 32, 50)):
        data = partial(_gather_rows_data, entries, width, size)
        yield _row(f"memory/gather_rows/{entries}x{width}x{size}", gather_rows_kernel, data, ())
    for dtype in ("i32", "f32"):
        build = partial(scatter_add_kernel, dtype)
        yield _row(
            f"memory/scatter_add/{dtype}", build, partial(_scatter_add_data, dtype), ("atomic", f"atomic.add.{dtype}")
        )
    for size in (1, 128, 10_000):
        yield _row(f"memory/contention/{size}", contention_kernel, partial(_contention_data, size), _ATOMIC_I32)
    yield _row("memory/histogram/2000", histogram_kernel, _histogram_data, _ATOMIC_I32)
