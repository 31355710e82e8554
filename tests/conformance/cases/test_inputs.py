"""Case inputs: fixed for ever, special values first, and aimed where they say."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from portkit.conformance.case import Trial
from portkit.conformance.cases import collect, inputs, ties
from portkit.conformance.cases.draws import Draws, as_array, compose
from portkit.conformance.cases.specials import finite_specials, nonfinite_specials, shift_counts
from portkit.spec.types import DTYPES, DType, decode, encode, infinity_bits, nan_bits
from tests.conformance.cases.golden import check_golden
from tests.conformance.cases.host_device import MAXIMAL

FLOATS = [DTYPES[n] for n in ("f32", "f16", "bf16", "f64")]
INTEGERS = [d for d in DTYPES.values() if d.is_int]
SAMPLE = 150
"""One case in so many is recorded."""
NUMBERS = [d for d in DTYPES.values() if d.is_float or d.is_int]


def digest(trial: Trial) -> str:
    parts = [repr(sorted(trial.scalars.items())).encode()]
    parts += [name.encode() + trial.inputs[name].tobytes() for name in sorted(trial.inputs)]
    return hashlib.sha256(b"|".join(parts)).hexdigest()[:16]


def test_the_inputs_of_a_sample_of_cases_are_the_recorded_ones() -> None:
    chosen = [c for c in collect(MAXIMAL) if sampled(c.id) and "/all_" not in c.id]
    check_golden("inputs", {c.id: digest(c.trial()) for c in chosen if c.trial is not None})


def sampled(case_id: str) -> bool:
    """Choose by the id alone, so that a new case changes nothing for the others."""
    return int.from_bytes(hashlib.sha256(case_id.encode()).digest()[:4]) % SAMPLE == 0


def test_inputs_do_not_depend_on_what_was_drawn_before() -> None:
    case = next(c for c in collect(MAXIMAL) if c.id == "ops/mul/f32/random")
    assert case.trial is not None
    first = digest(case.trial())
    np.random.default_rng(7).random(10)
    Draws("something else").words(100)
    assert digest(case.trial()) == first


def test_two_ids_draw_different_numbers() -> None:
    assert Draws("a").words(8).tolist() != Draws("b").words(8).tolist()


def test_integers_reach_both_ends_and_no_further() -> None:
    drawn = Draws("ends").integers(-3, 4, 1000)
    assert set(drawn.tolist()) == set(range(-3, 5))


def test_a_permutation_has_every_number_once() -> None:
    assert sorted(Draws("p").permutation(100).tolist()) == list(range(100))


# --- special values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_float_specials_have_zeros_subnormals_ones_and_extremes(dtype: DType) -> None:
    found = set(finite_specials(dtype))
    sign, normal = 1 << (dtype.bits - 1), 1 << (dtype.precision - 1)
    one = encode(dtype, 1)
    magnitudes = {0, 1, normal - 1, normal, normal + 1, one - 1, one, one + 1, infinity_bits(dtype) - 1}
    assert magnitudes | {sign | m for m in magnitudes} <= found
    assert all(np.isfinite(decode(dtype, bits)) for bits in found)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_nonfinite_specials_have_both_infinities_and_quiet_and_signalling_nans(dtype: DType) -> None:
    found = set(nonfinite_specials(dtype))
    sign, quiet = 1 << (dtype.bits - 1), nan_bits(dtype)
    signalling = infinity_bits(dtype) | 1
    assert {infinity_bits(dtype), sign | infinity_bits(dtype), quiet, sign | quiet, signalling} <= found


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integer_specials_have_ends_and_powers_of_two_with_neighbours(dtype: DType) -> None:
    found = {decode(dtype, bits) for bits in finite_specials(dtype)}
    half = 1 << (dtype.bits // 2)
    assert {0, 1, dtype.min_int, dtype.min_int + 1, dtype.max_int, dtype.max_int - 1} <= found
    assert {half - 1, half, half + 1} <= found


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_shift_counts_lie_inside_at_and_beyond_the_width(dtype: DType) -> None:
    found = {int(decode(dtype, bits)) for bits in shift_counts(dtype)}
    assert {0, 1, dtype.bits - 1, dtype.bits} <= found
    assert any(count > dtype.bits or count < 0 for count in found)


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_pairs_of_specials_are_the_full_cross_product(dtype: DType) -> None:
    a, b = inputs.special("x", (dtype, dtype))
    found = set(zip(a.tolist(), b.tolist(), strict=True))
    assert found == set(product(finite_specials(dtype), repeat=2))


def test_nonfinite_operands_have_an_infinity_or_a_nan_in_every_row() -> None:
    f32 = DTYPES["f32"]
    columns = [as_array(f32, column) for column in inputs.nonfinite("x", (f32, f32))]
    assert np.all(~np.isfinite(columns[0]) | ~np.isfinite(columns[1]))


# --- random sets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_random_floats_are_finite_and_meet_cancellation_and_absorption(dtype: DType) -> None:
    a, b = ([Fraction(decode(dtype, int(x))) for x in column] for column in inputs.random("r", (dtype, dtype)))
    sums = [(abs(x + y), max(abs(x), abs(y))) for x, y in zip(a, b, strict=True)]
    unit = Fraction(2) ** (1 - dtype.precision)
    assert sum(s <= 16 * unit * m for s, m in sums) >= len(sums) // 10
    small = [min(abs(x), abs(y)) <= 4 * unit * max(abs(x), abs(y)) for x, y in zip(a, b, strict=True)]
    assert sum(small) >= len(small) // 10


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_random_products_reach_subnormals_and_overflow(dtype: DType) -> None:
    a, b = ([Fraction(decode(dtype, int(x))) for x in column] for column in inputs.random("r", (dtype, dtype)))
    products = [abs(x * y) for x, y in zip(a, b, strict=True)]
    assert any(0 < p < Fraction(2) ** dtype.emin for p in products)
    assert any(p >= Fraction(2) ** (dtype.emax + 1) for p in products)


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_small_numbers_are_small_integers(dtype: DType) -> None:
    values = {decode(dtype, int(bits)) for bits in inputs.small_values(Draws("s"), dtype, 500)}
    assert values <= set(range(-inputs.SMALL_LIMIT, inputs.SMALL_LIMIT + 1))
    assert inputs.SMALL_LIMIT in values


# --- ties ---------------------------------------------------------------------------------------------------------


def is_tie(dtype: DType, exact: Fraction) -> bool:
    """Whether a number lies exactly between two neighbours of a dtype."""
    if exact == 0:
        return False
    exponent = max(dtype.emin, _floor_log2(abs(exact)))
    steps = abs(exact) / Fraction(2) ** (exponent - dtype.precision + 1)
    return steps.denominator == 2


def _floor_log2(value: Fraction) -> int:
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if Fraction(2) ** guess <= value else guess - 1


def _exact(dtype: DType, column: np.ndarray) -> list[Fraction]:
    return [Fraction(decode(dtype, int(bits))) for bits in column]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_add_ties_are_ties_in_a_third_of_the_sums(dtype: DType) -> None:
    a, b = (_exact(dtype, column) for column in ties.add_ties("t", (dtype, dtype)))
    assert 3 * sum(is_tie(dtype, x + y) for x, y in zip(a, b, strict=True)) >= len(a)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_mul_ties_are_ties_in_a_fifth_of_the_products(dtype: DType) -> None:
    a, b = (_exact(dtype, column) for column in ties.mul_ties("t", (dtype, dtype)))
    assert 5 * sum(is_tie(dtype, x * y) for x, y in zip(a, b, strict=True)) >= len(a)


def test_fma_ties_tell_one_rounding_from_a_sum_in_f64() -> None:
    f32, f64 = DTYPES["f32"], DTYPES["f64"]
    columns = [_exact(f32, column) for column in ties.fma_ties("t", (f32,) * 3)]
    once = [encode(f32, a * b + c) for a, b, c in zip(*columns, strict=True)]
    twice = [encode(f32, Fraction(decode(f64, encode(f64, a * b + c)))) for a, b, c in zip(*columns, strict=True)]
    assert sum(x != y for x, y in zip(once, twice, strict=True)) >= len(once) // 20


PAIRS = [
    ("f32", "f16"),
    ("f64", "f32"),
    ("f32", "bf16"),
    ("i32", "f32"),
    ("u64", "f64"),
    ("i16", "bf16"),
    ("f64", "f16"),
]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_cast_ties_are_ties_in_a_fifth_of_the_values(source: str, target: str) -> None:
    (column,) = ties.cast_ties("t", DTYPES[source], DTYPES[target])
    values = [Fraction(decode(DTYPES[source], int(bits))) for bits in column]
    assert 5 * sum(is_tie(DTYPES[target], v) for v in values) >= len(values)


@pytest.mark.parametrize("target", ["i32", "u32", "i8", "u16", "i64"])
def test_casts_to_integers_meet_both_ends_of_the_range(target: str) -> None:
    f64, to = DTYPES["f64"], DTYPES[target]
    (column,) = ties.cast_ties("t", f64, to)
    values = [Fraction(decode(f64, int(bits))) for bits in column]
    assert any(v > to.max_int for v in values)
    assert any(v < to.min_int for v in values)
    assert any(v.denominator > 1 and to.min_int < v < to.max_int for v in values)


def test_composed_floats_have_the_exponent_that_was_asked_for() -> None:
    f32 = DTYPES["f32"]
    zeros = np.zeros(3, dtype=np.uint64)
    patterns = compose(f32, zeros, np.array([-2, 0, 5]), zeros)
    assert as_array(f32, patterns).tolist() == [0.25, 1.0, 32.0]
