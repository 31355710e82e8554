"""64-bit integers as pairs of words, and small ones in 32-bit registers, against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from portkit.compiler.legal.rewrite import scaled_extent
from portkit.conformance.cases.specials import finite_specials, nonfinite_specials
from portkit.contract import BASE_DTYPES
from portkit.errors import UsageError
from portkit.spec.builder import Builder, Reg
from portkit.spec.kernel import Extent
from portkit.spec.types import BOOL, DTYPES, F32, I32, I64, U32, U64, DType, Type, infinity_bits
from tests.compiler.legal import BASE, DEVICES, assert_agrees, check_columns, crossed, form, like_base, run_legal

SMALL = [DTYPES[name] for name in ("i8", "u8", "i16", "u16")]
WIDE = [I64, U64]
NUMBERS = [d for d in DTYPES.values() if d not in (BOOL, DTYPES["f64"])]
BINARY = ["add", "mul", "mul.hi", "reduce.max", "reduce.min", "reduce.and", "reduce.or", "reduce.xor"]
SHIFTS = ["mul.shl", "mul.shr"]


HALF = like_base("half", dtypes=(*BASE_DTYPES, "bf16", "f16"))
"""It has narrow floats and no wide integers."""


def patterns(dtype: DType) -> list[int]:
    """Special values, and words whose halves carry, borrow and wrap."""
    found = [*finite_specials(dtype), *nonfinite_specials(dtype)]
    if dtype.bits == 64:
        halves = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x55555555)
        found += [high << 32 | low for high in halves for low in halves]
    return list(dict.fromkeys(found))


def random_patterns(dtype: DType, count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    spread = rng.integers(0, 1 << 63, (2, count), dtype=np.uint64) << np.uint64(1)
    kept = rng.integers(0, dtype.bits, (2, count), dtype=np.uint64)
    return list((spread >> np.uint64(64 - dtype.bits)) >> kept)


@pytest.mark.parametrize("dtype", WIDE + SMALL, ids=str)
@pytest.mark.parametrize("name", BINARY + SHIFTS)
def test_a_form_of_two_integers_gives_the_same_bits_on_crossed_special_values(name, dtype):
    check_columns(form(name), [dtype, dtype], dtype, crossed(patterns(dtype), patterns(dtype)))


@pytest.mark.parametrize("dtype", WIDE, ids=str)
@pytest.mark.parametrize("name", BINARY + SHIFTS)
def test_a_form_of_two_wide_integers_gives_the_same_bits_on_random_values(name, dtype):
    check_columns(form(name), [dtype, dtype], dtype, random_patterns(dtype, 4096, seed=len(name)))


@pytest.mark.parametrize("dtype", WIDE, ids=str)
@pytest.mark.parametrize("name", SHIFTS)
def test_a_wide_shift_takes_every_count_modulo_64(name, dtype):
    check_columns(form(name), [dtype, dtype], dtype, crossed(patterns(dtype), range(131)))


@pytest.mark.parametrize("dtype", SMALL[:2], ids=str)
@pytest.mark.parametrize("name", BINARY + SHIFTS)
def test_a_form_of_two_bytes_gives_the_same_bits_on_every_pair(name, dtype):
    check_columns(form(name), [dtype, dtype], dtype, crossed(range(256), range(256)))


@pytest.mark.parametrize("dtype", WIDE + SMALL, ids=str)
@pytest.mark.parametrize("name", ["phi.lt", "phi.eq"])
def test_a_comparison_of_integers_chooses_the_same(name, dtype):
    def body(b: Builder, xs: list[Reg]) -> Reg:
        return b.op(name, xs[0], xs[1], b.const("i32", 1), b.const("i32", 2))

    check_columns(body, [dtype, dtype], I32, crossed(patterns(dtype), patterns(dtype)))


@pytest.mark.parametrize("dtype", WIDE + SMALL, ids=str)
def test_a_comparison_of_floats_chooses_between_integers(dtype):
    special = [*finite_specials(F32), *nonfinite_specials(F32)]
    columns = crossed(special, special)
    choices = random_patterns(dtype, len(columns[0]), seed=3)
    check_columns(form("phi.lt"), [F32, F32, dtype, dtype], dtype, [*columns, *choices])


@pytest.mark.parametrize("device", ["base", "ints", "no64"])
@pytest.mark.parametrize("source", NUMBERS, ids=str)
@pytest.mark.parametrize("target", WIDE + SMALL, ids=str)
def test_a_cast_to_an_integer_gives_the_same_on_special_values(source, target, device):
    check_columns(
        form("mov.cast", type=Type(target)), [source], target, [np.array(patterns(source), np.uint64)], DEVICES[device]
    )


@pytest.mark.parametrize("device", ["base", "ints", "no64"])
@pytest.mark.parametrize("source", WIDE + SMALL, ids=str)
@pytest.mark.parametrize("target", NUMBERS, ids=str)
def test_a_cast_from_an_integer_gives_the_same_on_special_values(source, target, device):
    column = np.concatenate([np.array(patterns(source), np.uint64), *random_patterns(source, 2048, seed=4)])
    check_columns(form("mov.cast", type=Type(target)), [source], target, [column], DEVICES[device])


@pytest.mark.parametrize(
    "device", [BASE, like_base("brain", dtypes=(*BASE_DTYPES, "bf16", "f16"))], ids=lambda c: c.name
)
@pytest.mark.parametrize("source", [I32, U32, *WIDE], ids=str)
@pytest.mark.parametrize("target", [F32, DTYPES["bf16"], DTYPES["f16"]], ids=str)
def test_an_integer_next_to_a_tie_is_rounded_once(source, target, device):
    leading = [(1 << (target.precision - 1)) + k for k in range(4)]
    ties = [(m << 1 | 1) << shift for m in leading for shift in range(source.bits - 1 - target.precision)]
    column = np.array([t + d for t in ties for d in (-1, 0, 1) if t + d < 1 << source.bits], np.uint64)
    check_columns(form("mov.cast", type=Type(target)), [source], target, [column], device)


@pytest.mark.parametrize("source", [I32, U32, *WIDE, *SMALL], ids=str)
@pytest.mark.parametrize("target", SMALL, ids=str)
def test_an_integer_cast_to_a_small_one_wraps_before_it_is_used(source, target):
    def body(b: Builder, xs: list[Reg]) -> Reg:
        return b.cast(b.cast(xs[0], target.name), "i32")

    check_columns(body, [source], I32, [np.array(patterns(source), np.uint64)])


@pytest.mark.parametrize("source", WIDE, ids=str)
@pytest.mark.parametrize("target", WIDE, ids=str)
def test_wide_bits_are_kept(source, target):
    check_columns(form("mov.bits", type=Type(target)), [source], target, [np.array(patterns(source), np.uint64)])


@pytest.mark.parametrize("device", ["base", "no64"])
@pytest.mark.parametrize(("source", "target"), [("i8", "u8"), ("u8", "i8"), ("i16", "u16"), ("u16", "f16"),
                                                ("f16", "i16"), ("bf16", "u16"), ("i16", "bf16"), ("f16", "bf16"),
                                                ("u8", "f8e5m2"), ("f8e4m3fn", "i8")])  # fmt: skip
def test_every_pattern_of_small_bits_is_kept(source, target, device):
    source, target = DTYPES[source], DTYPES[target]
    column = np.arange(1 << source.bits)

    def bits_of(b: Builder, xs: list[Reg]) -> Reg:
        return b.bits(xs[0], target.name)

    check_columns(bits_of, [source], target, [column], DEVICES[device])


@pytest.mark.parametrize(("source", "target"), [("f16", "u16"), ("i16", "f16"), ("bf16", "i16"), ("u16", "bf16")])
def test_bits_that_go_through_f32_are_kept_but_for_signalling_nan(source, target):
    narrow = DTYPES[source if DTYPES[source].is_float else target]
    quiet = 1 << (narrow.precision - 2)
    column = np.arange(1 << 16, dtype=np.uint64)
    magnitude = column & np.uint64(0x7FFF)
    kept = column[(magnitude <= infinity_bits(narrow)) | (magnitude & np.uint64(quiet) != 0)]

    def bits_of(b: Builder, xs: list[Reg]) -> Reg:
        return b.cast(b.bits(xs[0], target), "i32") if DTYPES[target].is_int else b.bits(xs[0], target)

    check_columns(bits_of, [DTYPES[source]], I32 if DTYPES[target].is_int else DTYPES[target], [kept], HALF)


def test_a_wide_accumulator_is_carried_through_a_loop_of_differing_counts():
    def body(b: Builder, xs: list[Reg]) -> Reg:
        with b.serial(xs[1], acc=xs[0], low=b.cast(xs[1], "i8")) as loop:
            grown = b.op("mul", loop["acc"], b.const("i64", 6364136223846793005))
            loop.next(acc=b.add(grown, b.cast(loop["low"], "i64")), low=b.add(loop["low"], b.const("i8", 77)))
        return b.add(loop["acc"], b.cast(loop["low"], "i64"))

    check_columns(body, [I64, I32], I64, crossed(patterns(I64), range(5)))


def test_a_grid_count_may_be_computed_in_integers_that_the_device_lacks():
    b = Builder("count")
    n = b.scalar("n", "i32")
    out = b.buffer("out", "i32", 64, "readwrite")
    blocks = b.op("mul.shr", b.add(b.cast(n, "i64"), b.const("i64", 31)), b.const("i64", 5))
    clipped = b.op("reduce.min", b.cast(blocks, "i8"), b.const("i8", 100))
    group = b.grid(b.cast(clipped, "i32"))
    lane = b.lane(32)
    first = b.eq(lane, b.const("i32", 0))
    b.store(out, group, b.const("i32", 1), gate=first)
    written = run_legal(b.build(), BASE, {"n": 100}, {"out": np.zeros(64, np.int32)})["out"]
    assert written.sum() == 4


def test_pairs_are_gated_shared_and_copied_as_wholes():
    b = Builder("gated")
    source, out = b.buffer("a", "i64", "n", "read"), b.buffer("out", "i64", "n", "readwrite")
    n = b.scalar("n", "i32")
    tile = b.shared("tile", "i64", 8)
    group = b.grid(2)
    lane = b.lane(8)
    index = b.add(b.mul(group, b.const("i32", 8)), lane)
    inside = b.lt(index, n)
    b.store(tile, lane, b.load(source, index, gate=inside, other=b.const("i64", -(2**40) - 1)))
    b.barrier()
    mirrored = b.load(tile, b.add(b.mul(lane, b.const("i32", -1)), b.const("i32", 7)))
    b.barrier()
    b.wait(b.async_copy(tile, lane, source, lane, 1))
    copied = b.load(tile, lane)
    b.store(out, index, b.add(mirrored, copied), gate=inside)
    arrays = {"a": np.arange(13) * 2**37 - 3, "out": np.arange(13)}
    assert_agrees(b.build(), BASE, {"n": 13}, arrays)


def test_the_unsigned_high_product_of_the_largest_words_carries_into_every_word():
    largest = (1 << 64) - 1
    check_columns(form("mul.hi"), [U64, U64], U64, crossed([largest, largest - 1, 1 << 63], [largest, U32.max_int]))


@pytest.mark.parametrize(
    ("extent", "expected"), [((8,), "16"), (("n",), "n*2"), (("n", 3, "m"), "n*6*m"), ((2, "n", 5), "20*n")], ids=str
)
def test_the_extent_of_a_buffer_of_pairs_counts_words(extent, expected):
    assert str(scaled_extent(Extent(extent), 2)) == expected


@pytest.mark.parametrize("extent", [(1 << 30,), tuple("abcdefghijklmnop")], ids=["large", "factors"])
def test_a_buffer_of_more_words_than_may_be_declared_is_refused(extent):
    with pytest.raises(UsageError, match="more than a buffer may have: split it"):
        scaled_extent(Extent(extent), 2)
