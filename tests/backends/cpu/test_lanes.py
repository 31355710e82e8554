"""Work-groups of many lanes on one thread: barriers, reductions, loops around them, and what crosses them."""

from __future__ import annotations

import numpy as np
import pytest

from portkit.backends.cpu.device import CpuDevice
from portkit.reference.generator import stream
from portkit.reference.values import run
from portkit.spec.builder import Builder, Reg
from portkit.spec.kernel import Kernel
from portkit.spec.types import DTYPES
from portkit.spec.verify import verify
from tests.backends.launching import Array, assert_same, execute, operands
from tests.backends.structured import structured_kernel


def integers(count: int, seed: str) -> Array:
    return stream(seed).bits(count).view(np.int32)


@pytest.mark.parametrize("seed", range(18))
def test_random_loops_and_barriers_give_the_bits_of_the_reference(device: CpuDevice, seed: int) -> None:
    kernel = structured_kernel(seed)
    verify(kernel)
    inputs = {"source": integers(kernel.buffers[0].extent.evaluate({}), f"lanes/{seed}")}
    assert_same(execute(device, kernel, inputs)["out"], run(kernel, {}, inputs)["out"])


@pytest.mark.parametrize("lanes", [1, 2, 7, 64, 1000, 1024])
def test_a_tree_reduction_in_shared_memory_sums_the_group(device: CpuDevice, lanes: int) -> None:
    b = Builder("tree")
    x, out = b.buffer("x", "i32", 3 * lanes, "read"), b.buffer("out", "i32", 3, "write")
    cells = b.shared("cells", "i32", lanes)
    group, lane = b.grid(3), b.lane(lanes)
    zero, one = b.const("i32", 0), b.const("i32", 1)
    b.store(cells, lane, b.load(x, b.add(b.mul(group, b.const("i32", lanes)), lane)))
    with b.serial((lanes - 1).bit_length(), size=b.const("i32", lanes)) as loop:
        half = b.op("mul.shr", b.add(loop["size"], one), one)
        partner = b.add(lane, half)
        inside = b.lt(partner, loop["size"])
        b.barrier()
        mine, theirs = b.load(cells, lane), b.load(cells, partner, gate=inside, other=zero)
        b.barrier()
        b.store(cells, lane, b.add(mine, theirs), gate=b.lt(lane, half))
        loop.next(size=half)
    b.barrier()
    b.store(out, group, b.load(cells, zero), gate=b.eq(lane, zero))
    values = integers(3 * lanes, "tree")
    sums = values.reshape(3, lanes).sum(1, dtype=np.int32)
    assert execute(device, b.build(), {"x": values})["out"].tolist() == sums.tolist()


def test_a_tile_is_transposed_through_shared_memory(device: CpuDevice) -> None:
    b = Builder("transpose")
    x, out = b.buffer("x", "f32", 64 * 48, "read"), b.buffer("out", "f32", 48 * 64, "write")
    tile = b.shared("tile", "f32", 16 * 16)
    size, rows, columns = (b.const("i32", n) for n in (16, 64, 48))
    block_row, block_column = b.grid(4), b.grid(3)
    row, column = b.lane(16), b.lane(16)
    source_row = b.add(b.mul(block_row, size), row)
    source = b.add(b.mul(source_row, columns), b.add(b.mul(block_column, size), column))
    b.store(tile, b.add(b.mul(row, size), column), b.load(x, source))
    b.barrier()
    target_row = b.add(b.mul(block_column, size), row)
    target = b.add(b.mul(target_row, rows), b.add(b.mul(block_row, size), column))
    b.store(out, target, b.load(tile, b.add(b.mul(column, size), row)))
    values = np.arange(64 * 48, dtype=np.float32)
    out_values = execute(device, b.build(), {"x": values})["out"]
    assert out_values.reshape(48, 64).tolist() == values.reshape(64, 48).T.tolist()


def test_a_scan_adds_what_came_before(device: CpuDevice) -> None:
    b = Builder("scan")
    x, out = b.buffer("x", "u32", 256, "read"), b.buffer("out", "u32", 256, "write")
    cells = b.shared("cells", "u32", 256)
    b.grid(1)
    lane = b.lane(256)
    zero, none = b.const("i32", 0), b.const("u32", 0)
    with b.serial(8, value=b.load(x, lane), step=b.const("i32", 1)) as loop:
        b.store(cells, lane, loop["value"])
        b.barrier()
        before = b.add(lane, b.mul(loop["step"], b.const("i32", -1)))
        earlier = b.load(
            cells, before, gate=b.lt(before, zero, b.const("bool", False), b.const("bool", True)), other=none
        )
        b.barrier()
        loop.next(value=b.add(loop["value"], earlier), step=b.add(loop["step"], loop["step"]))
    b.store(out, lane, loop["value"])
    values = stream("scan").bits(256)
    assert execute(device, b.build(), {"x": values})["out"].tolist() == np.cumsum(values, dtype=np.uint32).tolist()


def divergent(counts_from: str) -> Kernel:
    """Each lane counts to its own bound, in a loop within a loop; the carries end where they ended."""
    b = Builder("divergent")
    bounds, out = b.buffer("bounds", "i32", 40, "read"), b.buffer("out", "i32", 120, "write")
    item = b.add(b.mul(b.grid(4), b.const("i32", 10)), b.lane(10))
    bound, one, zero = b.load(bounds, item), b.const("i32", 1), b.const("i32", 0)
    with b.serial(bound, total=zero, last=b.const("i32", -1)) as outer:
        with b.serial(outer.index if counts_from == "outer" else bound, inner_total=outer["total"]) as inner:
            inner.next(inner_total=b.add(inner["inner_total"], one))
        outer.next(total=inner["inner_total"], last=outer.index)
    for place, value in enumerate((outer["total"], outer["last"], bound)):
        b.store(out, b.add(b.mul(item, b.const("i32", 3)), b.const("i32", place)), value)
    return b.build()


@pytest.mark.parametrize("counts_from", ["outer", "bound"])
def test_counts_may_differ_per_lane_and_be_zero_or_less(device: CpuDevice, counts_from: str) -> None:
    bounds = np.arange(40, dtype=np.int32) % 7 - 2
    out = execute(device, divergent(counts_from), {"bounds": bounds})["out"].reshape(40, 3)
    runs = np.maximum(bounds, 0)
    totals = runs * (runs - 1) // 2 if counts_from == "outer" else runs * runs
    assert out.tolist() == np.stack([totals, runs - 1, bounds], axis=1).tolist()


def test_carries_are_exchanged_all_at_once(device: CpuDevice) -> None:
    b = Builder("exchange")
    out = b.buffer("out", "i32", 48, "write")
    b.grid(1)
    lane = b.lane(16)
    at = b.mul(lane, b.const("i32", 3))
    with b.serial(5, a=lane, b=b.const("i32", 100), c=b.const("i32", 200)) as loop:
        b.barrier()
        loop.next(a=loop["b"], b=loop["c"], c=loop["a"])
    for place, name in enumerate("abc"):
        b.store(out, b.add(at, b.const("i32", place)), loop[name])
    rows = execute(device, b.build(), {})["out"].reshape(16, 3)
    assert rows.tolist() == [[200, lane, 100] for lane in range(16)]


@pytest.mark.parametrize("barriers", [False, True])
def test_what_a_loop_without_turns_carries_is_its_first_value(device: CpuDevice, barriers: bool) -> None:
    b = Builder("no_turns")
    count, out = b.scalar("count", "i32"), b.buffer("out", "i32", 32, "write")
    b.grid(1)
    lane = b.lane(32)
    with b.serial(count, value=lane) as loop:
        if barriers:
            b.barrier()
        loop.next(value=b.const("i32", -1))
    b.store(out, lane, loop["value"])
    kernel = b.build()
    assert execute(device, kernel, {}, {"count": -3})["out"].tolist() == list(range(32))
    assert execute(device, kernel, {}, {"count": 1})["out"].tolist() == [-1] * 32


REDUCTIONS = [
    (kind, name)
    for kind in ("add", "mul", "max", "min", "and", "or", "xor")
    for name in ("i32", "u8", "i64", "f32", "f16", "bf16", "f64")
    if not (name in ("f32", "f16", "bf16", "f64") and kind in ("and", "or", "xor"))
]


def group_reduction(kind: str, name: str, shape: tuple[int, ...], vector: int) -> Kernel:
    lanes = int(np.prod(shape))
    b = Builder("group_reduction", "strict")
    x = b.buffer("x", name, 2 * lanes * vector, "read")
    out = b.buffer("out", name, 2 * lanes * vector, "write")
    number = b.grid(2)
    for count in shape:
        number = b.add(b.mul(number, b.const("i32", count)), b.lane(count))
    at = b.mul(number, b.const("i32", vector))
    loaded: Reg = b.load(x, at) if vector == 1 else b.load_vec(x, at, vector)
    total = b.op(f"reduce.group.{kind}", loaded)
    if vector == 1:
        b.store(out, at, total)
    else:
        b.store_vec(out, at, total)
    return b.build()


@pytest.mark.parametrize(("kind", "name"), REDUCTIONS)
@pytest.mark.parametrize(("shape", "vector"), [((1,), 1), ((16,), 1), ((3, 7), 1), ((33,), 4)])
def test_a_group_reduction_folds_halves(
    device: CpuDevice, kind: str, name: str, shape: tuple[int, ...], vector: int
) -> None:
    kernel = group_reduction(kind, name, shape, vector)
    count = kernel.buffers[0].extent.evaluate({})
    [values] = operands(DTYPES[name], 1, seed=f"group/{kind}", extra=count)
    for inputs in ({"x": values[:count]}, {"x": values[-count:]}):
        assert_same(execute(device, kernel, inputs)["out"], run(kernel, {}, inputs)["out"])


def test_a_group_reduction_of_truths_reaches_every_lane(device: CpuDevice) -> None:
    b = Builder("any_all")
    x, out = b.buffer("x", "i32", 36, "read"), b.buffer("out", "i32", 72, "write")
    group, lane = b.grid(3), b.lane(12)
    item = b.add(b.mul(group, b.const("i32", 12)), lane)
    odd = b.eq(b.op("reduce.and", b.load(x, item), b.const("i32", 1)), b.const("i32", 1))
    zero, one = b.const("i32", 0), b.const("i32", 1)
    for place, kind in enumerate(("or", "and")):
        truth = b.op(f"reduce.group.{kind}", odd)
        at = b.add(b.mul(item, b.const("i32", 2)), b.const("i32", place))
        b.store(out, at, b.eq(truth, b.const("bool", True), one, zero))
    values = np.concatenate([np.zeros(12), np.arange(12), np.ones(12)]).astype(np.int32)
    rows = execute(device, b.build(), {"x": values})["out"].reshape(36, 2)
    assert rows.tolist() == [[0, 0]] * 12 + [[1, 0]] * 12 + [[1, 1]] * 12


@pytest.mark.parametrize("name", ["f32x8", "boolx4", "i16"])
def test_vectors_and_truths_cross_a_barrier(device: CpuDevice, name: str) -> None:
    dtype, _, lanes = name.partition("x")
    width = int(lanes or 1)
    b = Builder("crossing")
    stored = "i32" if dtype == "bool" else dtype
    x, out = b.buffer("x", stored, 24 * width, "read"), b.buffer("out", stored, 24 * width, "write")
    b.grid(1)
    at = b.mul(b.lane(24), b.const("i32", width))
    value = b.load(x, at) if width == 1 else b.load_vec(x, at, width)
    zero = b.splat(b.const(stored, 0), width)
    kept = b.lt(zero, value) if dtype == "bool" else value
    b.barrier()
    shown = b.op("phi.eq", kept, b.splat(b.const("bool", True), width), value, zero) if dtype == "bool" else kept
    if width == 1:
        b.store(out, at, shown)
    else:
        b.store_vec(out, at, shown)
    values = np.arange(-48, 24 * width - 48).astype(DTYPES[stored].numpy)
    expected = np.maximum(values, 0) if dtype == "bool" else values
    assert execute(device, b.build(), {"x": values})["out"].tolist() == expected.tolist()


def test_sixty_loops_within_each_other_around_a_barrier(device: CpuDevice) -> None:
    b = Builder("deep")
    out = b.buffer("out", "i32", 4, "write")
    b.grid(1)
    lane = b.lane(4)

    def descend(depth: int, value: Reg) -> Reg:
        if depth == 0:
            b.barrier()
            return b.add(value, lane)
        with b.serial(2 if depth % 12 == 0 else 1, **{f"d{depth}": value}) as loop:
            loop.next(**{f"d{depth}": descend(depth - 1, loop[f"d{depth}"])})
        return loop[f"d{depth}"]

    b.store(out, lane, descend(60, b.const("i32", 0)))
    assert execute(device, b.build(), {})["out"].tolist() == [0, 32, 64, 96]


def test_a_large_grid_in_three_dimensions_reaches_every_element_once(device: CpuDevice) -> None:
    shape = (17, 129, 65)
    b = Builder("cover")
    depth, rows = b.scalar("depth", "i32"), b.scalar("rows", "i32")
    out = b.buffer("out", "i32", ("depth", "rows", shape[2]), "readwrite")
    i, j, k = b.grid(depth), b.grid(rows), b.grid(shape[2])
    b.lane(1)
    at = b.add(b.mul(b.add(b.mul(i, rows), j), b.const("i32", shape[2])), k)
    b.store(out, at, b.add(b.load(out, at), at))
    scalars = {"depth": shape[0], "rows": shape[1]}
    assert (execute(device, b.build(), {}, scalars)["out"] == np.arange(np.prod(shape))).all()


def test_a_body_of_twenty_thousand_instructions_is_compiled(device: CpuDevice) -> None:
    b = Builder("long")
    x, out = b.buffer("x", "i32", 64, "read"), b.buffer("out", "i32", 64, "write")
    b.grid(1)
    lane = b.lane(64)
    before = value = b.load(x, lane)
    for place in range(20_000):
        before, value = value, b.op(("add", "mul", "reduce.xor", "mul.hi")[place % 4], value, before)
    b.store(out, lane, value)
    kernel, inputs = b.build(), {"x": integers(64, "long")}
    assert_same(execute(device, kernel, inputs)["out"], run(kernel, {}, inputs)["out"])


def test_a_chain_of_sums_between_lane_loops_is_repeated_once_in_each_region(device: CpuDevice) -> None:
    b = Builder("doubling_chain")
    out = b.buffer("out", "i32", 32, "write")
    b.grid(1)
    first = doubled = b.lane(8)
    for _ in range(60):  # 2^60 paths lead back to the lane index
        doubled = b.add(doubled, doubled)
    second = b.lane(4)
    b.barrier()
    b.store(out, b.add(b.mul(first, b.const("i32", 4)), second), b.add(doubled, first))
    assert execute(device, b.build(), {})["out"].tolist() == [lane // 4 for lane in range(32)]


@pytest.mark.parametrize("name", ["entry", "v", "head", "body", "kernel", "n" * 64])
def test_any_name_will_do_for_a_buffer(device: CpuDevice, name: str) -> None:
    b = Builder("named")
    out = b.buffer(name, "i32", 8, "write")
    b.grid(1)
    lane = b.lane(8)
    with b.serial(2, total=lane) as loop:
        loop.next(total=b.add(loop["total"], lane))
    b.store(out, lane, loop["total"])
    assert execute(device, b.build(), {})[name].tolist() == [3 * lane for lane in range(8)]
