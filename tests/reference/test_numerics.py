"""Arithmetic is that of exact rational numbers, rounded once: every form on every dtype."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portkit.reference.generator import stream
from portkit.spec.forms import CLASSES
from portkit.spec.types import BF16, BOOL, DTYPES, F16, F32, F64, I32, U32, DType, decode, nan_bits
from tests.reference import exact
from tests.reference.launch import run_columns, run_form
from tests.reference.patterns import fma_ties, near_one, pairs, random_bits, specials, triples

INTEGERS = [DTYPES[name] for name in CLASSES["int"]]
REALS = [DTYPES[name] for name in CLASSES["real"]]
NUMBERS = [DTYPES[name] for name in CLASSES["number"]]


def assert_same(dtype: DType, actual: list[int], expected: list[int], *operands: list[int]) -> None:
    """Compare bit patterns; where NaN is expected, any NaN will do."""
    for row, (got, want) in enumerate(zip(actual, expected, strict=True)):
        same = math.isnan(float(decode(dtype, got))) if want == exact.NAN else got == want
        assert same, f"operands {[hex(column[row]) for column in operands]}: {got:#x}, expected {want:#x}"


@pytest.mark.parametrize(("dtype", "code"), [(F16, "e"), (F32, "f"), (F64, "d")], ids=str)
def test_the_oracle_rounds_as_the_struct_module_does(dtype: DType, code: str) -> None:
    for bits in [b for b in random_bits(stream("struct"), F64, 500) if math.isfinite(float(decode(F64, b)))]:
        number = math.ldexp(math.frexp(float(decode(F64, bits)))[0], bits % (2 * dtype.emax) - dtype.emax)
        try:
            (expected,) = struct.unpack("<" + {2: "H", 4: "I", 8: "Q"}[dtype.bytes], struct.pack("<" + code, number))
        except OverflowError:
            expected = exact.special(dtype, math.copysign(math.inf, number))
        assert exact.cast(F64, dtype, int.from_bytes(struct.pack("<d", number), "little")) == expected


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("form", exact.INTEGER)
def test_integer_forms_are_those_of_the_integers_modulo_a_power_of_two(form: str, dtype: DType) -> None:
    a, b = pairs(dtype, form)
    expected = [exact.INTEGER[form](dtype, x, y) for x, y in zip(a, b, strict=True)]
    assert_same(dtype, run_form(form, dtype, (a, b)), expected, a, b)


@pytest.mark.parametrize("dtype", REALS, ids=str)
@pytest.mark.parametrize("form", exact.FLOAT)
def test_float_forms_round_the_exact_result_once(form: str, dtype: DType) -> None:
    a, b = pairs(dtype, form)
    expected = [exact.FLOAT[form](dtype, x, y) for x, y in zip(a, b, strict=True)]
    assert_same(dtype, run_form(form, dtype, (a, b)), expected, a, b)


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_fused_multiply_add_rounds_the_exact_result_once(dtype: DType) -> None:
    a, b, c = triples(dtype, "mul.add")
    expected = [exact.fma(dtype, *row) for row in zip(a, b, c, strict=True)]
    assert_same(dtype, run_form("mul.add", dtype, (a, b, c)), expected, a, b, c)


@pytest.mark.parametrize(("dtype", "wider"), [(F32, F64), (F16, F32), (BF16, F32)], ids=str)
def test_the_directed_ties_catch_a_fused_multiply_add_that_rounds_twice(dtype: DType, wider: DType) -> None:
    wrong = 0
    for a, b, c in fma_ties(dtype):
        wide = [exact.cast(dtype, wider, v) for v in (a, b, c)]
        twice = exact.cast(wider, dtype, exact.add(wider, exact.mul(wider, *wide[:2]), wide[2]))
        wrong += twice != exact.fma(dtype, a, b, c)
    assert wrong > 0


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_a_fused_product_that_underflows_still_decides_a_tie_and_the_sign_of_zero(dtype: DType) -> None:
    tiny, negative = 1, 1 << (dtype.bits - 1)
    rows = [(tiny, tiny, 0), (tiny | negative, tiny, 0), (tiny, tiny, negative), (tiny | negative, tiny, 1)]
    a, b, c = (list(column) for column in zip(*rows, strict=True))
    assert run_form("mul.add", dtype, (a, b, c)) == [exact.fma(dtype, *row) for row in rows] == [0, negative, 0, 1]


@pytest.mark.parametrize("dtype", REALS, ids=str)
@pytest.mark.parametrize("form", exact.MATH)
def test_exact_math_forms_round_the_exact_result_once(form: str, dtype: DType) -> None:
    draws = stream(f"{form}/{dtype}")
    a = specials(dtype) + random_bits(draws, dtype, 1000) + near_one(draws, dtype, 1000, dtype.precision)
    assert_same(dtype, run_form(form, dtype, (a,)), [exact.MATH[form](dtype, x) for x in a], a)


# --- casts --------------------------------------------------------------------------------------------------------


def cast_operands(source: DType, target: DType) -> list[int]:
    """Return every pattern of narrow dtypes; else specials, random patterns, and what lies at or beside a tie."""
    if source.bits <= 8:
        return list(range(1 << source.bits))
    draws = stream(f"cast/{source}/{target}")
    found = specials(source) + random_bits(draws, source, 500)
    if target.is_float and (not source.is_float or target.precision < source.precision):
        found += _ties(source, target)
    if source.is_float and target.is_int:
        found += _integer_ends(source, target)
    return found


def _ties(source: DType, target: DType) -> list[int]:
    """Return midpoints of the target, and the nearest source values on both sides of each."""
    magnitudes = [exact.cast(target, source, bits) for bits in near_one(stream(f"ties/{target}"), target, 100, 6)]
    if source.is_float:
        magnitudes += [exact.cast(target, source, bits) for bits in (*range(8), 2 ** (target.precision - 1) - 1)]
        low = source.precision - target.precision - 1
        return [(m & ~1) + (1 << low) + beside for m in magnitudes if m != exact.NAN for beside in (-1, 0, 1)]
    width = source.bits - source.is_signed
    heads = range(1 << (target.precision - 1), (1 << (target.precision - 1)) + 5)
    shifts = range(1, width - target.precision)
    return [
        bits & ((1 << source.bits) - 1)
        for middle in ((head << shift) + (1 << shift >> 1) for head in heads for shift in shifts)
        for magnitude in (middle - 1, middle, middle + 1, middle + (1 << 10))
        for bits in ((magnitude, -magnitude) if source.is_signed else (magnitude,))
    ]


def _integer_ends(source: DType, target: DType) -> list[int]:
    """Return the source values about the ends of an integer range."""
    ends = [exact.cast(target, source, bits) for bits in (0, 1 << (target.bits - 1), (1 << target.bits) - 1)]
    ends += [exact.cast(target, source, (1 << (target.bits - target.is_signed)) - 1)]
    near = [end + beside for end in ends if end != exact.NAN for beside in (-2, -1, 0, 1, 2)]
    return [bits for bits in near if 0 <= bits < 1 << source.bits]


@pytest.mark.parametrize("target", NUMBERS, ids=str)
@pytest.mark.parametrize("source", NUMBERS, ids=str)
def test_casts_round_once_wrap_or_saturate(source: DType, target: DType) -> None:
    a = cast_operands(source, target)
    actual = run_form("mov.cast", source, (a,), result=target)
    assert_same(target, actual, [exact.cast(source, target, x) for x in a], a)


def test_every_f16_pattern_widens_exactly() -> None:
    numbers = struct.unpack("<65536e", np.arange(1 << 16, dtype="<u2").tobytes())
    expected = np.frombuffer(struct.pack("<65536d", *numbers), "<u8").tolist()
    expected = [exact.NAN if math.isnan(x) else bits for x, bits in zip(numbers, expected, strict=True)]
    assert_same(F64, run_form("mov.cast", F16, (list(range(1 << 16)),), result=F64), expected)


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_every_narrowing_from_f64_is_monotone_and_idempotent(dtype: DType) -> None:
    draws = stream(f"monotone/{dtype}")
    a = sorted(b for b in random_bits(draws, F64, 2000) if b < 1 << 63 and not math.isnan(float(decode(F64, b))))
    narrow = run_form("mov.cast", F64, (a,), result=dtype)
    assert narrow == sorted(narrow)
    wide = run_form("mov.cast", dtype, (narrow,), result=F64)
    assert run_form("mov.cast", F64, (wide,), result=dtype) == narrow


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(*[st.floats(allow_nan=False)] * 3), min_size=1, max_size=30))
def test_f64_fused_multiply_add_rounds_once_wherever_hypothesis_looks(rows: list[tuple[float, ...]]) -> None:
    bits = [[int.from_bytes(struct.pack("<d", x), "little") for x in column] for column in zip(*rows, strict=True)]
    expected = [exact.fma(F64, *row) for row in zip(*bits, strict=True)]
    assert_same(F64, run_form("mul.add", F64, bits), expected, *bits)


# --- comparisons and selection ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*INTEGERS, *REALS], ids=str)
@pytest.mark.parametrize("form", ["phi.lt", "phi.eq"])
def test_comparisons_are_false_on_nan_and_take_zeros_as_equal(form: str, dtype: DType) -> None:
    a, b = pairs(dtype, form)
    yes, no = [7] * len(a), [9] * len(a)
    actual = run_columns(lambda k, xs: k.op(form, *xs), [dtype, dtype, U32, U32], U32, (a, b, yes, no))
    numbers = [(decode(dtype, x), decode(dtype, y)) for x, y in zip(a, b, strict=True)]
    assert actual == [7 if (x < y if form == "phi.lt" else x == y) else 9 for x, y in numbers]


@pytest.mark.parametrize("form", ["phi.lt", "phi.eq"])
def test_bool_orders_false_below_true(form: str) -> None:
    def body(b, xs):
        left, right = (b.eq(x, b.const("i32", 1)) for x in xs)
        return b.op(form, left, right, b.const("i32", 1), b.const("i32", 0))

    actual = run_columns(body, [I32, I32], I32, ([0, 0, 1, 1], [0, 1, 0, 1]))
    assert actual == ([0, 1, 0, 0] if form == "phi.lt" else [1, 0, 0, 1])


@pytest.mark.parametrize(("form", "expected"), [("and", [0, 0, 0, 1]), ("or", [0, 1, 1, 1]), ("xor", [0, 1, 1, 0])])
def test_bitwise_folds_of_bool_are_logical(form: str, expected: list[int]) -> None:
    def body(b, xs):
        truth = b.op(f"reduce.{form}", *(b.eq(x, b.const("i32", 1)) for x in xs))
        assert truth.type.dtype == BOOL
        return b.eq(truth, b.const("bool", True), b.const("i32", 1), b.const("i32", 0))

    assert run_columns(body, [I32, I32], I32, ([0, 0, 1, 1], [0, 1, 0, 1])) == expected


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_select_load_and_store_keep_every_bit(dtype: DType) -> None:
    draws = stream(f"select/{dtype}")
    x, y = random_bits(draws, dtype, 256), random_bits(draws, dtype, 256)
    if dtype.is_float:  # a signalling NaN with a payload
        x[0] = y[1] = nan_bits(dtype) ^ 1 ^ (1 << (dtype.precision - 2)) if dtype.infinities else nan_bits(dtype)
    a = [k % 3 for k in range(256)]
    actual = run_columns(lambda b, xs: b.op("phi.eq", *xs), [I32, I32, dtype, dtype], dtype, (a, [0] * 256, x, y))
    assert actual == [p if k == 0 else q for k, p, q in zip(a, x, y, strict=True)]


# --- bits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_bits_between_equal_sizes_change_nothing(dtype: DType) -> None:
    target = {8: DTYPES["u8"], 16: DTYPES["u16"], 32: U32, 64: DTYPES["u64"]}[dtype.bits]
    a = specials(dtype) + random_bits(stream(f"bits/{dtype}"), dtype, 100)
    assert run_form("mov.bits", dtype, (a,), result=target) == a


@pytest.mark.parametrize(("wide", "narrow"), [("u64", "u8"), ("i32", "f16"), ("f64", "u32"), ("f32", "bf16")])
def test_bits_across_lanes_are_little_endian(wide: str, narrow: str) -> None:
    lanes = DTYPES[wide].bits // DTYPES[narrow].bits
    a = random_bits(stream(f"lanes/{wide}/{narrow}"), DTYPES[wide], 40)
    for lane in range(lanes):
        actual = run_columns(
            lambda b, xs, k=lane: b.op("mov.lane", b.bits(xs[0], f"{narrow}x{lanes}"), imms=(k,)),
            [DTYPES[wide]],
            DTYPES[narrow],
            (a,),
        )
        size = DTYPES[narrow].bits
        assert actual == [x >> (lane * size) & ((1 << size) - 1) for x in a]


def test_bits_of_a_pack_give_back_the_whole() -> None:
    a = random_bits(stream("pack"), U32, 50)

    def body(b, xs):
        parts = [b.op("mov.lane", b.bits(xs[0], "u8x4"), imms=(k,)) for k in range(4)]
        return b.bits(b.op("mov.pack", *parts), "u32")

    assert run_columns(body, [U32], U32, (a,)) == a


def test_numpy_is_asked_for_no_warning() -> None:
    with np.errstate(all="raise"):
        a = specials(F32)
        run_form("mov.recip", F32, (a,))
        run_form("mov.cast", F32, (a,), result=I32)
