"""Vectors in pieces and reductions through shared memory, against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from portkit.compiler.legalise import legalise
from portkit.errors import UsageError
from portkit.spec.builder import Builder, Reg
from portkit.spec.kernel import Kernel
from portkit.spec.types import BOOL, DTYPES, Type, parse_type
from tests.compiler.legal import DEVICES, assert_agrees, like_base

KINDS = ("add", "mul", "max", "min", "and", "or", "xor")
ARITHMETIC = [d for d in DTYPES.values() if d.name not in ("bool", "f64") and d.bits > 8]
EVERY_DEVICE = pytest.mark.parametrize("device", DEVICES.values(), ids=lambda c: c.name)
GROUPS = 2


def data(dtype, count: int) -> np.ndarray:
    """Numbers of every magnitude; of floats, few enough that a product stays finite."""
    rng = np.random.default_rng(count)
    if dtype.is_float:
        return (rng.standard_normal(count) * 2.0 ** rng.integers(-3, 3, count)).astype(dtype.numpy)
    return rng.integers(0, 1 << 63, count, dtype=np.uint64).astype(f"u{dtype.bytes}").view(dtype.numpy)


def kinds_of(dtype) -> tuple[str, ...]:
    return KINDS[:4] if dtype.is_float else KINDS


def vector_kernel(dtype, lanes: int, kinds: tuple[str, ...]) -> Kernel:
    """Loads, computes with, folds, gathers and stores vectors, gated and not."""
    b = Builder("vectors", "strict")
    a, out = b.buffer("a", dtype.name, 64 * lanes, "read"), b.buffer("out", dtype.name, 64 * lanes, "readwrite")
    index = b.add(b.mul(b.grid(GROUPS), b.const("i32", 4)), b.lane(4))
    start = b.mul(index, b.const("i32", lanes))
    x = b.load_vec(a, start, lanes)
    gate = b.lt(x, b.splat(b.const(dtype.name, 1), lanes))
    y = b.load_vec(a, b.add(start, b.const("i32", lanes)), lanes, gate=gate, other=x)
    total = b.op("mul", b.add(x, y), y)
    for kind in kinds:
        total = b.add(total, b.splat(b.op(f"reduce.vec.{kind}", y), lanes))
    with b.serial(3, v=total) as loop:
        first = b.op("mov.lane", loop["v"], imms=(lanes - 1,))
        rotated = b.op("mov.pack", first, *(b.op("mov.lane", loop["v"], imms=(k,)) for k in range(lanes - 1)))
        loop.next(v=rotated)
    places = b.op("mov.pack", *(b.add(start, b.const("i32", (5 * k) % lanes)) for k in range(lanes)))
    gathered = b.load(a, places, gate=gate, other=y)
    at_end = b.add(start, b.const("i32", 32 * lanes))
    b.store_vec(out, start, loop["v"], gate=gate)
    b.store_vec(out, at_end, gathered)
    return b.build()


@EVERY_DEVICE
@pytest.mark.parametrize("lanes", [3, 8])
@pytest.mark.parametrize("dtype", ARITHMETIC, ids=str)
def test_a_kernel_of_vectors_gives_the_same_bits(dtype, lanes, device):
    kernel = vector_kernel(dtype, lanes, kinds_of(dtype))
    arrays = {"a": data(dtype, 64 * lanes), "out": np.zeros(64 * lanes, dtype.numpy)}
    assert_agrees(kernel, device, {}, arrays)


@EVERY_DEVICE
def test_scattered_lanes_land_where_they_belong(device):
    b = Builder("scatter")
    out = b.buffer("out", "u8", 64, "readwrite")
    lane = b.add(b.grid(1), b.lane(8))
    places = b.op("mov.pack", *(b.add(b.mul(lane, b.const("i32", 8)), b.const("i32", (k * 3) % 8)) for k in range(8)))
    values = b.cast(b.mul(places, places), "u8x8")
    b.store(out, places, values, gate=b.lt(values, b.splat(b.const("u8", 100), 8)))
    assert_agrees(b.build(), device, {}, {"out": np.full(64, 7, np.uint8)})


@EVERY_DEVICE
@pytest.mark.parametrize(("source", "target"), [("u8x4", "f32"), ("f32x2", "u64"), ("u64", "i16x4"), ("f16x2", "u32"),
                                                ("i64x2", "u32x4"), ("bf16x4", "u8x8"), ("i32", "f16x2")])  # fmt: skip
def test_bits_move_between_elements_of_different_widths(source, target, device):
    s, t = parse_type(source), parse_type(target)
    b = Builder("bits")
    a, out = b.buffer("a", s.dtype.name, 16 * s.lanes, "read"), b.buffer("out", t.dtype.name, 16 * t.lanes, "write")
    lane = b.add(b.grid(1), b.lane(16))

    def at(type_: Type) -> Reg:
        return b.mul(lane, b.const("i32", type_.lanes))

    x = b.load(a, lane) if s.lanes == 1 else b.load_vec(a, at(s), s.lanes)
    y = b.bits(x, target)
    if t.lanes == 1:
        b.store(out, lane, y)
    else:
        b.store_vec(out, at(t), y)
    assert_agrees(b.build(), device, {}, {"a": data(s.dtype, 16 * s.lanes)})


@EVERY_DEVICE
@pytest.mark.parametrize(("source", "target"), [("f8e4m3fn", "f8e5m2"), ("f8e5m2", "bf16"), ("f16", "f8e4m3fn")])
def test_vectors_of_eight_bit_floats_are_cast(source, target, device):
    b = Builder("eighths")
    a, out = b.buffer("a", source, 256, "read"), b.buffer("out", target, 256, "write")
    start = b.mul(b.add(b.grid(1), b.lane(32)), b.const("i32", 8))
    x = b.cast(b.load_vec(a, start, 8, align=8 * DTYPES[source].bytes), "f32x8")
    b.store_vec(out, start, b.cast(b.mul(x, x), f"{target}x8"), align=8)
    patterns = (np.arange(256) << (DTYPES[source].bits - 8)).astype(f"u{DTYPES[source].bytes}")
    assert_agrees(b.build(), device, {}, {"a": patterns.view(DTYPES[source].numpy)})


def test_a_count_that_is_not_declared_becomes_the_widest_that_divides_it():
    b = Builder("widths")
    a = b.buffer("a", "f32", 64, "readwrite")
    start = b.mul(b.add(b.grid(1), b.lane(4)), b.const("i32", 12))
    b.store_vec(a, start, b.load_vec(a, start, 12, align=16), align=16)
    legal = legalise(b.build(), DEVICES["vec4"]).kernel
    accesses = [i for i in legal.body if i.name in ("load.vec", "store.vec")]
    assert [legal.types[i.result].lanes for i in accesses if i.result] == [4, 4, 4]
    assert [i.imms for i in accesses] == [(16,)] * 6


def test_the_alignment_of_a_piece_is_that_of_its_place():
    b = Builder("aligned")
    a = b.buffer("a", "f32", 64, "readwrite")
    start = b.mul(b.add(b.grid(1), b.lane(4)), b.const("i32", 16))
    b.store_vec(a, start, b.load_vec(a, start, 8, align=64), align=4)
    accesses = [i for i in legalise(b.build(), DEVICES["vec4"]).kernel.body if i.name in ("load.vec", "store.vec")]
    assert [i.imms[0] for i in accesses] == [64, 16, 4, 4]


# --- reductions over the work-group -------------------------------------------------------------------------------


def group_kernel(dtype, counts: tuple[int, ...], kinds: tuple[str, ...], lanes: int = 1) -> Kernel:
    """Folds by every kind, in and after a loop."""
    b = Builder("groups", "strict")
    size = GROUPS * int(np.prod(counts)) * lanes
    a, out = b.buffer("a", dtype.name, size, "read"), b.buffer("out", dtype.name, size * len(kinds), "write")
    index = b.grid(GROUPS)
    for count in counts:
        index = b.add(b.mul(index, b.const("i32", count)), b.lane(count))
    start = b.mul(index, b.const("i32", lanes))
    x = b.load(a, index) if lanes == 1 else b.load_vec(a, start, lanes)
    for number, kind in enumerate(kinds):
        with b.serial(2, **{f"t{kind}": x}) as loop:
            total = loop[f"t{kind}"]
            loop.next(**{f"t{kind}": b.op("reduce.max", total, b.op(f"reduce.group.{kind}", total))})
        result = b.op(f"reduce.group.{kind}", loop[f"t{kind}"])
        at = b.add(start, b.const("i32", number * size))
        if lanes == 1:
            b.store(out, at, result)
        else:
            b.store_vec(out, at, result)
    return b.build()


@EVERY_DEVICE
@pytest.mark.parametrize("dtype", ARITHMETIC, ids=str)
def test_a_reduction_over_the_group_gives_the_same_bits(dtype, device):
    assert_agrees(group_kernel(dtype, (37,), kinds_of(dtype)), device, {}, {"a": data(dtype, GROUPS * 37)})


@pytest.mark.parametrize("counts", [(1,), (2,), (3,), (4,), (31,), (64,), (255,), (256,), (3, 5), (4, 1, 8)], ids=str)
def test_a_reduction_over_any_number_of_lanes_gives_the_same_bits(counts):
    kernel = group_kernel(DTYPES["f32"], counts, KINDS[:4])
    assert_agrees(kernel, DEVICES["base"], {}, {"a": data(DTYPES["f32"], GROUPS * int(np.prod(counts)))})


@EVERY_DEVICE
@pytest.mark.parametrize("dtype", [DTYPES[n] for n in ("f32", "f16", "i64")], ids=str)
def test_a_reduction_of_vectors_over_the_group_gives_the_same_bits(dtype, device):
    kernel = group_kernel(dtype, (12,), kinds_of(dtype), lanes=4)
    assert_agrees(kernel, device, {}, {"a": data(dtype, GROUPS * 12 * 4)})


@EVERY_DEVICE
def test_truths_are_reduced_over_the_group(device):
    b = Builder("truths")
    a, out = b.buffer("a", "i32", 64, "read"), b.buffer("out", "i32", 3 * 64, "write")
    lane = b.add(b.mul(b.grid(2), b.const("i32", 32)), b.lane(32))
    positive = b.lt(b.const("i32", 0), b.load(a, lane))
    for number, kind in enumerate(("and", "or", "xor")):
        folded = b.op(f"reduce.group.{kind}", positive)
        value = b.op("phi.eq", folded, b.const("bool", True), b.const("i32", 1), b.const("i32", 0))
        b.store(out, b.add(lane, b.const("i32", 64 * number)), value)
    assert BOOL in {t.dtype for t in b.build().types.values()}
    assert_agrees(b.build(), device, {}, {"a": np.arange(64, dtype=np.int32) - 5})


def test_zeros_of_both_signs_keep_the_sign_of_a_strict_sum():
    kernel = group_kernel(DTYPES["f32"], (5,), ("add", "max", "min"))
    assert_agrees(kernel, DEVICES["base"], {}, {"a": np.array([-0.0] * 5 + [0.0, -0.0, -0.0, 0.0, -0.0], np.float32)})


def test_every_reduction_of_a_dtype_shares_one_array():
    kernel = legalise(group_kernel(DTYPES["i64"], (64,), KINDS), DEVICES["base"]).kernel
    assert [s.extent for s in kernel.shared] == [2 * 64]


def test_a_reduction_without_room_in_shared_memory_is_refused():
    kernel = group_kernel(DTYPES["f32"], (1024,), ("add",))
    b = Builder("full")
    b.shared("tile", "f32", 4096)
    full = Kernel("full", kernel.buffers, (), b.build().shared, kernel.body, kernel.numeric)
    small = like_base("small", limits=DEVICES["base"].limits.__class__(lanes=1024))
    with pytest.raises(UsageError, match="20480 bytes of shared memory are more than the declared 16384"):
        legalise(full, small)


def test_a_barrier_in_a_loop_counted_by_a_reduction_is_refused_with_the_reason():
    b = Builder("counted")
    lane = b.add(b.grid(1), b.lane(8))
    with b.serial(b.op("reduce.group.max", lane)):
        b.barrier()
    with pytest.raises(UsageError, match=r"needs the extension group, which base has not.*may differ between lanes"):
        legalise(b.build(), DEVICES["base"])
