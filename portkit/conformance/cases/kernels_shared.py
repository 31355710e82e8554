"""Kernels in which the lanes of a work-group work together: barriers and shared memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from portkit.conformance.case import Case, Tier
from portkit.conformance.cases.draws import Draws, as_array
from portkit.conformance.cases.inputs import small_values
from portkit.conformance.cases.kernelcase import Arrays, KernelCase, Scalars, rows_to_cases
from portkit.conformance.cases.shapes import KERNEL_NEEDS
from portkit.conformance.cases.writing import Writer
from portkit.contract import Capabilities
from portkit.spec.builder import Mem, Reg
from portkit.spec.kernel import Kernel, Numeric
from portkit.spec.types import DTYPES

GROUPS = 5
KEPT_LANES = 33
NEEDS = (*KERNEL_NEEDS, "ops/barrier/i32/exchange")


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the kernels of group cooperation."""
    yield from rows_to_cases((*_rows(), *_limit_rows(capabilities)), capabilities)


def group_numbers(dtype: str, per_group: int, groups: int, case_id: str) -> tuple[Scalars, Arrays]:
    """Return small numbers, `per_group` for each work-group, in a buffer `a`."""
    values = small_values(Draws(case_id), DTYPES[dtype], groups * per_group)
    return {"groups": groups}, {"a": as_array(DTYPES[dtype], values)}


# --- reductions ---------------------------------------------------------------------------------------------------


def tree(w: Writer, stage: Mem, lane: Reg, lanes: int, fold: Callable[[Reg, Reg], Reg]) -> Reg:
    """Fold `stage` by halves, a barrier between the steps, and return the result to every lane.

    Any number of lanes: the upper part of each step may be shorter than the lower.
    """
    live = lanes
    while live > 1:
        half = (live + 1) // 2
        w.barrier()
        inside = w.below(lane, live - half)
        zero = w.const(stage.dtype.name, 0)
        other = w.load(stage, w.plus(lane, half), gate=inside, other=zero)
        own = w.load(stage, lane)
        w.store(stage, lane, fold(own, other), gate=inside)
        live = half
    w.barrier()
    return w.load(stage, w.i32(0))


def tree_kernel(kind: str, dtype: str, lanes: int, numeric: Numeric = "fast") -> Kernel:
    """Each work-group folds its elements by a tree in shared memory; every lane stores the result."""
    w = Writer(f"tree_{kind}_{dtype}_{lanes}", numeric)
    a, out = (w.buffer("a", dtype, ("groups", lanes), "read"), w.buffer("out", dtype, ("groups", lanes), "write"))
    stage = w.shared("stage", dtype, lanes)
    group, lane = w.grid(w.scalar("groups", "i32")), w.lane(lanes)
    item = w.index(group, lanes, lane)
    w.store(stage, lane, w.load(a, item))
    folds = {"sum": w.add, "max": w.maximum}
    w.store(out, item, tree(w, stage, lane, lanes, folds[kind]))
    return w.build()


# --- exchange -----------------------------------------------------------------------------------------------------


def transpose_kernel(side: int, numeric: Numeric = "fast") -> Kernel:
    """A matrix of tiles: each work-group transposes one tile through shared memory, lanes in two dimensions."""
    w = Writer(f"transpose_{side}", numeric)
    extent = ("rows", "columns", side * side)
    a, out = w.buffer("a", "f32", extent, "read"), w.buffer("out", "f32", extent, "write")
    stage = w.shared("stage", "f32", side * (side + 1))
    rows, columns = w.scalar("rows", "i32"), w.scalar("columns", "i32")
    tile_row, tile_column = w.grid(rows), w.grid(columns)
    y, x = w.lane(side), w.lane(side)
    width, height = w.times(columns, side), w.times(rows, side)
    source = w.index(w.index(tile_row, side, y), width, w.index(tile_column, side, x))
    w.store(stage, w.index(y, side + 1, x), w.load(a, source))
    w.barrier()
    target = w.index(w.index(tile_column, side, y), height, w.index(tile_row, side, x))
    w.store(out, target, w.load(stage, w.index(x, side + 1, y)))
    return w.build()


def _transpose_data(side: int, case_id: str) -> tuple[Scalars, Arrays]:
    rows, columns = 3, 2
    values = Draws(case_id).floats(DTYPES["f32"], -8, 8, rows * columns * side * side)
    return {"rows": rows, "columns": columns}, {"a": as_array(DTYPES["f32"], values)}


def scan_kernel(dtype: str, lanes: int, numeric: Numeric = "fast") -> Kernel:
    """Inclusive prefix sums of each work-group, doubling the distance, two barriers a step (Hillis and Steele 1986)."""
    w = Writer(f"scan_{dtype}_{lanes}", numeric)
    a, out = w.buffer("a", dtype, ("groups", lanes), "read"), w.buffer("out", dtype, ("groups", lanes), "write")
    stage = w.shared("stage", dtype, lanes)
    group, lane = w.grid(w.scalar("groups", "i32")), w.lane(lanes)
    item = w.index(group, lanes, lane)
    value = w.load(a, item)
    w.store(stage, lane, value)
    distance = 1
    while distance < lanes:
        w.barrier()
        behind = w.plus(lane, -distance)
        inside = w.below(w.i32(-1), behind)
        value = w.add(value, w.load(stage, behind, gate=inside, other=w.const(dtype, 0)))
        w.barrier()
        w.store(stage, lane, value)
        distance *= 2
    w.store(out, item, value)
    return w.build()


def rotate_loop_kernel(lanes: int, numeric: Numeric = "fast") -> Kernel:
    """A serial loop with barriers inside: each trip every lane takes its neighbour's value; the count is a scalar."""
    w = Writer(f"rotate_loop_{lanes}", numeric)
    a, out = w.buffer("a", "i32", ("groups", lanes), "read"), w.buffer("out", "i32", ("groups", lanes), "write")
    stage = w.shared("stage", "i32", lanes)
    groups, trips = w.scalar("groups", "i32"), w.scalar("trips", "i32")
    group, lane = w.grid(groups), w.lane(lanes)
    item = w.index(group, lanes, lane)
    following = w.plus(lane, 1)
    neighbour = w.choose(w.same(following, lanes), w.i32(0), following)
    with w.serial(trips, v=w.load(a, item)) as loop:
        w.store(stage, lane, loop["v"])
        w.barrier()
        taken = w.load(stage, neighbour)
        w.barrier()
        loop.next(v=w.add(w.times(taken, 3), loop.index))
    w.store(out, item, loop["v"])
    return w.build()


def _rotate_data(lanes: int, trips: int, case_id: str) -> tuple[Scalars, Arrays]:
    scalars, arrays = group_numbers("i32", lanes, GROUPS, case_id)
    return {**scalars, "trips": trips}, arrays


def group_trips_kernel(numeric: Numeric = "fast") -> Kernel:
    """The count of a loop with a barrier depends on the work-group (uniform, different for each)."""
    lanes = 64
    w = Writer("group_trips", numeric)
    out = w.buffer("out", "i32", ("groups", lanes), "write")
    stage = w.shared("stage", "i32", lanes)
    group, lane = w.grid(w.scalar("groups", "i32")), w.lane(lanes)
    mirrored = w.plus(w.times(lane, -1), lanes - 1)
    with w.serial(group, v=lane) as loop:
        w.store(stage, mirrored, w.plus(loop["v"], 1))
        w.barrier()
        taken = w.load(stage, lane)
        w.barrier()
        loop.next(v=taken)
    w.store(out, w.index(group, lanes, lane), loop["v"])
    return w.build()


def uniform_carry_kernel(lanes: int, meetings: int, further: int = 0, numeric: Numeric = "fast") -> Kernel:
    """A carry beside a barrier is one number for the whole group, but a serial loop between barriers computes the next.

    Every lane steps through the same numbers from the carry's value; one that starts from what another lane ended with
    is wrong. The two halves of the shared array take turns, so that one meeting in a trip is enough. `further` steps
    lie between what the serial loop computes and the next value.
    """
    w = Writer(f"uniform_carry_{lanes}_{meetings}_{further}", numeric)
    a, out = w.buffer("a", "i32", ("groups", lanes), "read"), w.buffer("out", "i32", ("groups", lanes), "write")
    stage = w.shared("stage", "i32", 2 * lanes)
    group, lane = w.grid(w.scalar("groups", "i32")), w.lane(lanes)
    item = w.index(group, lanes, lane)
    following = w.plus(lane, 1)
    neighbour = w.choose(w.same(following, lanes), w.i32(0), following)
    with w.serial(4, v=w.load(a, item), seed=w.plus(group, 1)) as loop:
        half = w.times(w.band(loop.index, 1), lanes)
        w.store(stage, w.add(half, lane), loop["v"])
        w.barrier()
        with w.serial(w.plus(w.band(loop["seed"], 3), 1), seed=loop["seed"]) as steps:
            steps.next(seed=w.add(w.times(steps["seed"], 5), steps.index))
        taken = w.times(w.load(stage, w.add(half, neighbour)), 3)
        for _ in range(meetings - 1):
            w.barrier()
        both = w.add(loop["seed"], steps["seed"])  # read where strips of lanes write the next value, one by one
        seed = steps["seed"]
        for step in range(further):
            seed = w.plus(w.times(seed, 3), step)
        loop.next(v=w.add(taken, both), seed=seed)
    w.store(out, item, w.add(loop["v"], loop["seed"]))
    return w.build()


def swapped_carries_kernel(numeric: Numeric = "fast") -> Kernel:
    """Two carries of each lane change places in a loop with barriers: assigned at once, also where they are kept."""
    lanes = 64
    w = Writer("swapped_carries", numeric)
    a, out = w.buffer("a", "i32", ("groups", lanes), "read"), w.buffer("out", "i32", ("groups", lanes), "write")
    stage = w.shared("stage", "i32", lanes)
    group, lane = w.grid(w.scalar("groups", "i32")), w.lane(lanes)
    item = w.index(group, lanes, lane)
    value = w.load(a, item)
    with w.serial(5, x=value, y=w.times(value, 7), z=lane) as loop:
        w.store(stage, lane, loop["x"])
        w.barrier()
        taken = w.load(stage, w.band(w.plus(lane, 1), lanes - 1))
        w.barrier()
        loop.next(x=loop["y"], y=loop["x"], z=w.add(w.times(loop["z"], 3), taken))
    w.store(out, item, w.add(w.index(loop["x"], 31, loop["y"]), loop["z"]))
    return w.build()


def private_kernel(numeric: Numeric = "fast") -> Kernel:
    """Shared memory belongs to one work-group: all groups fill the same array with their own numbers, slowly."""
    lanes = 64
    w = Writer("private", numeric)
    out = w.buffer("out", "i32", ("groups", lanes), "write")
    stage = w.shared("stage", "i32", lanes)
    group, lane = w.grid(w.scalar("groups", "i32")), w.lane(lanes)
    w.store(stage, lane, group)
    with w.serial(50) as loop:
        w.store(stage, lane, w.add(w.load(stage, lane), loop.index))
    w.barrier()
    other = w.band(w.plus(lane, 31), lanes - 1)
    w.store(out, w.index(group, lanes, lane), w.load(stage, other))
    return w.build()


def _groups(count: int, case_id: str) -> tuple[Scalars, Arrays]:
    del case_id
    return {"groups": count}, {}


def two_arrays_kernel(numeric: Numeric = "fast") -> Kernel:
    """Several shared arrays of different dtypes and odd extents do not overlap."""
    lanes, odd = 32, 33
    w = Writer("two_arrays", numeric)
    out = w.buffer("out", "i32", ("groups", lanes), "write")
    names = ("first", "second", "third")
    arrays = [w.shared(n, d, odd) for n, d in zip(names, ("i32", "f32", "u32"), strict=True)]
    group, lane = w.grid(w.scalar("groups", "i32")), w.lane(lanes)
    base = w.index(group, lanes, lane)
    for step, array in enumerate(arrays):
        w.store(array, lane, w.cast(w.plus(base, 100 * step), array.dtype.name))
    last = w.same(lane, 0)
    for array in arrays:
        w.store(array, w.i32(odd - 1), w.cast(group, array.dtype.name), gate=last)
    w.barrier()
    mirrored = w.plus(w.times(lane, -1), odd - 1)
    total = w.i32(0)
    for array in arrays:
        total = w.plus(w.times(total, 7), w.cast(w.load(array, mirrored), "i32"))
    w.store(out, base, total)
    return w.build()


def bitonic_kernel(lanes: int, numeric: Numeric = "fast") -> Kernel:
    """Each work-group sorts its elements by a bitonic network in shared memory (Batcher 1968)."""
    w = Writer(f"bitonic_{lanes}", numeric)
    a, out = w.buffer("a", "i32", ("groups", lanes), "read"), w.buffer("out", "i32", ("groups", lanes), "write")
    stage = w.shared("stage", "i32", lanes)
    group, lane = w.grid(w.scalar("groups", "i32")), w.lane(lanes)
    item = w.index(group, lanes, lane)
    value = w.load(a, item)
    for size in (1 << k for k in range(1, lanes.bit_length())):
        distance = size // 2
        while distance:
            w.store(stage, lane, value)
            w.barrier()
            other = w.load(stage, w.xor(lane, distance))
            w.barrier()
            rising = w.same(w.band(lane, size), 0)
            lower = w.same(w.band(lane, distance), 0)
            value = w.choose(w.eq(rising, lower), w.minimum(value, other), w.maximum(value, other))
            distance //= 2
    w.store(out, item, value)
    return w.build()


def stencil_kernel(numeric: Numeric = "fast") -> Kernel:
    """A three-point stencil with a halo: some lanes load two elements, gated at both ends of the array."""
    lanes = 64
    w = Writer("stencil", numeric)
    a, out = w.buffer("a", "f32", "n", "read"), w.buffer("out", "f32", "n", "write")
    stage = w.shared("stage", "f32", lanes + 2)
    size, groups = w.scalar("n", "i32"), w.scalar("groups", "i32")
    group, lane = w.grid(groups), w.lane(lanes)
    item, zero = w.index(group, lanes, lane), w.f32(0.0)

    def stage_element(place: Reg, source: Reg, gate: Reg) -> None:
        inside = w.both(w.both(w.below(w.i32(-1), source), w.lt(source, size)), gate)
        w.store(stage, place, w.load(a, source, gate=inside, other=zero), gate=gate)

    stage_element(lane, w.plus(item, -1), w.like_bool(item, True))
    stage_element(w.plus(lane, lanes), w.plus(item, lanes - 1), w.below(lane, 2))
    w.barrier()
    left, middle, right = (w.load(stage, w.plus(lane, k)) for k in range(3))
    total = w.add(w.add(w.times(left, 0.25), w.times(middle, 0.5)), w.times(right, 0.25))
    w.store(out, item, total, gate=w.lt(item, size))
    return w.build()


def _stencil_data(size: int, case_id: str) -> tuple[Scalars, Arrays]:
    values = Draws(case_id).floats(DTYPES["f32"], -4, 4, size)
    return {"n": size, "groups": (size + 63) // 64}, {"a": as_array(DTYPES["f32"], values)}


def histogram_kernel(numeric: Numeric = "fast") -> Kernel:
    """Each lane counts, for its own bin, the group's elements that fall there; all lanes read all of shared memory."""
    lanes = 64
    w = Writer("histogram", numeric)
    a, out = w.buffer("a", "i32", ("groups", lanes), "read"), w.buffer("out", "i32", ("groups", lanes), "write")
    stage = w.shared("stage", "i32", lanes)
    group, lane = w.grid(w.scalar("groups", "i32")), w.lane(lanes)
    item = w.index(group, lanes, lane)
    w.store(stage, lane, w.band(w.load(a, item), 15))
    w.barrier()
    with w.serial(lanes, hits=w.i32(0)) as loop:
        hit = w.eq(w.load(stage, loop.index), lane)
        loop.next(hits=w.add(loop["hits"], w.count_if(hit)))
    w.store(out, item, loop["hits"])
    return w.build()


def double_buffer_kernel(chunk: int, numeric: Numeric = "fast") -> Kernel:
    """Sums columns of a matrix, row by row: while one row is added the next is copied asynchronously.

    Each trip issues the copy of the next row into the other half, waits for its own, and meets the others twice.
    """
    lanes = 32
    width = lanes * chunk
    w = Writer(f"double_buffer_{chunk}", numeric)
    a, out = w.buffer("a", "f32", ("rows_1", width), "read"), w.buffer("out", "f32", width, "write")
    stage = w.shared("stage", "f32", 2 * width)
    rows = w.scalar("rows", "i32")
    w.scalar("rows_1", "i32")
    w.grid(1)
    lane = w.lane(lanes)
    own = w.times(lane, chunk)
    first = w.async_copy(stage, own, a, own, chunk)
    totals = {f"t{k}": w.f32(0.0) for k in range(chunk)}
    with w.serial(rows, token=first, **totals) as loop:
        following = w.plus(loop.index, 1)
        target = w.index(w.band(following, 1), width, own)
        token = w.async_copy(stage, target, a, w.index(following, width, own), chunk)
        w.wait(loop["token"])
        w.barrier()
        half = w.times(w.band(loop.index, 1), width)
        columns = [w.add(half, w.index(w.i32(k), lanes, lane)) for k in range(chunk)]
        loop.next(token=token, **{f"t{k}": w.add(loop[f"t{k}"], w.load(stage, c)) for k, c in enumerate(columns)})
        w.barrier()
    w.wait(loop["token"])
    for k in range(chunk):
        w.store(out, w.index(w.i32(k), lanes, lane), loop[f"t{k}"])
    return w.build()


def _double_buffer_data(chunk: int, rows: int, case_id: str) -> tuple[Scalars, Arrays]:
    """One row more than is summed: the copy that is issued last is waited for and not used."""
    values = Draws(case_id).floats(DTYPES["f32"], -4, 4, (rows + 1) * 32 * chunk)
    return {"rows": rows, "rows_1": rows + 1}, {"a": as_array(DTYPES["f32"], values)}


def _rows() -> Iterator[KernelCase]:
    def row(name: str, build: Callable[[Numeric], Kernel], data: Callable[[str], tuple[Scalars, Arrays]]) -> KernelCase:
        tier = Tier.SMOKE if name in _SMOKE else Tier.STANDARD
        return KernelCase(f"kernels/shared/{name}", build, data, tier=tier, needs=NEEDS)

    for lanes in (1, 2, 3, 7, 32, 63, 64, 65, 100, 255, 256):
        for kind, dtype in (("sum", "i32"), ("sum", "f32"), ("max", "f32")):
            build = partial(tree_kernel, kind, dtype, lanes)
            yield row(f"tree_{kind}/{dtype}_{lanes}", build, partial(group_numbers, dtype, lanes, GROUPS))
    for lanes in (2, 31, 64, 200):
        yield row(f"scan/i32_{lanes}", partial(scan_kernel, "i32", lanes), partial(group_numbers, "i32", lanes, GROUPS))
        yield row(f"scan/f32_{lanes}", partial(scan_kernel, "f32", lanes), partial(group_numbers, "f32", lanes, GROUPS))
    for side in (1, 3, 8, 16):
        yield row(f"transpose/{side}", partial(transpose_kernel, side), partial(_transpose_data, side))
    for lanes, trips in ((64, 0), (64, 1), (64, 13), (5, 7), (256, 4), (1, 3), (64, -2)):
        build = _ROTATE[lanes]
        yield row(f"rotate_loop/{lanes}_lanes_{trips}_trips", build, partial(_rotate_data, lanes, trips))
    yield row("group_trips/64", group_trips_kernel, partial(_groups, 9))
    for lanes, meetings, further in ((96, 1, 0), (96, 2, 0), (256, 1, 0), (256, 2, 0), (96, 1, 2)):
        build = partial(uniform_carry_kernel, lanes, meetings, further)
        name = f"{lanes}_lanes_{meetings}_meetings{f'_{further}_further' if further else ''}"
        yield row(f"uniform_carry/{name}", build, partial(group_numbers, "i32", lanes, GROUPS))
    yield row(f"kept/{KEPT_LANES}", kept_kernel, partial(group_numbers, "i32", KEPT_LANES, GROUPS))
    yield row("swapped_carries/64", swapped_carries_kernel, partial(group_numbers, "i32", 64, GROUPS))
    yield row("private/64", private_kernel, partial(_groups, 40))
    yield row("several_arrays/32", two_arrays_kernel, partial(_groups, 7))
    for lanes in (2, 16, 64):
        build = partial(bitonic_kernel, lanes)
        yield row(f"bitonic_sort/{lanes}", build, partial(group_numbers, "i32", lanes, GROUPS))
    for size in (1, 63, 64, 65, 200):
        yield row(f"stencil/{size}", stencil_kernel, partial(_stencil_data, size))
    yield row("histogram/64", histogram_kernel, partial(group_numbers, "i32", 64, GROUPS))
    for chunk, rows in ((1, 1), (1, 6), (4, 5)):
        build = _DOUBLE_BUFFER[chunk]
        yield row(f"double_buffer/{chunk}x{rows}", build, partial(_double_buffer_data, chunk, rows))


LANE_LIMITS = (512, 1024)
SHARED_LIMITS = (16, 32, 48, 64, 96, 128, 160, 227)
"""KiB of shared memory that devices are known to have; each declared size is filled to the last byte."""


def _limit_rows(capabilities: Capabilities) -> Iterator[KernelCase]:
    """Work-groups and shared arrays beyond the minimum, up to what is declared."""
    for lanes in (n for n in LANE_LIMITS if n <= capabilities.limits.lanes):
        data, build = partial(group_numbers, "i32", lanes, GROUPS), partial(tree_kernel, "sum", "i32", lanes)
        yield KernelCase(f"kernels/shared/tree_sum/i32_{lanes}", build, data, needs=NEEDS)
        yield KernelCase(f"kernels/shared/scan/i32_{lanes}", partial(scan_kernel, "i32", lanes), data, needs=NEEDS)
    for size in (n for n in SHARED_LIMITS if n * 1024 <= capabilities.limits.shared_bytes):
        build = partial(whole_memory_kernel, size * 1024 // 4)
        yield KernelCase(f"kernels/shared/whole_memory/{size}_kib", build, partial(_groups, 3), needs=NEEDS)


def whole_memory_kernel(words: int, numeric: Numeric = "fast") -> Kernel:
    """Fills a shared array of `words` words, then each lane sums the words that its mirror image wrote."""
    lanes = 256
    w = Writer(f"whole_memory_{words}", numeric)
    out = w.buffer("out", "i32", ("groups", lanes), "write")
    stage = w.shared("stage", "i32", words)
    group, lane = w.grid(w.scalar("groups", "i32")), w.lane(lanes)
    with w.serial(words // lanes) as fill:
        place = w.index(fill.index, lanes, lane)
        w.store(stage, place, w.xor(w.times(place, 3), group))
    w.barrier()
    mirror = w.plus(w.times(lane, -1), lanes - 1)
    with w.serial(words // lanes, total=w.i32(0)) as loop:
        value = w.load(stage, w.index(loop.index, lanes, mirror))
        loop.next(total=w.add(w.times(loop["total"], 5), value))
    w.store(out, w.index(group, lanes, lane), loop["total"])
    return w.build()


def kept_kernel(numeric: Numeric = "fast") -> Kernel:
    """A register that is kept across a barrier is read after it as it is, cast to its own type, and as other bits."""
    w = Writer("kept", numeric)
    extent = ("groups", KEPT_LANES)
    a, out, same, bits = (
        w.buffer(n, "i32", extent, "read" if n == "a" else "write") for n in ("a", "out", "same", "bits")
    )
    group, lane = w.grid(w.scalar("groups", "i32")), w.lane(KEPT_LANES)
    item = w.index(group, KEPT_LANES, lane)
    kept = w.load(a, item)
    w.barrier()
    w.store(same, item, w.cast(kept, "i32"))
    w.store(bits, item, w.bits(w.bits(kept, "u32"), "i32"))
    w.store(out, item, kept)
    return w.build()


_ROTATE = {lanes: partial(rotate_loop_kernel, lanes) for lanes in (1, 5, 64, 256)}
_DOUBLE_BUFFER = {chunk: partial(double_buffer_kernel, chunk) for chunk in (1, 4)}
_SMOKE = ("tree_sum/f32_64", "tree_sum/i32_65", "scan/i32_31", "transpose/8", "rotate_loop/64_lanes_13_trips")
