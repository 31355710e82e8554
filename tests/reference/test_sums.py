"""Free-order sums and products: every order is admitted, nothing beyond the published bound is, exact is exact."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from portkit.reference import numerics
from portkit.reference.generator import Stream, stream
from portkit.reference.planes import Interval, Value, interval, undetermined
from portkit.reference.products import free_product
from portkit.reference.sums import Along, Rule, Segments, accumulator, exact_sum, free_sum
from portkit.reference.ulp import min_normal, next_down, next_up
from portkit.spec.types import BF16, F16, F32, F64, DType, max_finite
from tests.reference.floats import REALS, draw, exact_ulp, holds

seeds = st.integers(0, 2**32 - 1)
ROWS = 40


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with np.errstate(all="ignore"):
        yield


def rule(dtype: DType, *flush: str) -> Rule:
    return Rule(dtype, accumulator(dtype), frozenset(flush))


def any_order(draws: Stream, x: NDArray, step: Callable[[NDArray, NDArray], NDArray]) -> NDArray:
    """Fold the rows of x in one random order and one random tree."""
    parts = [x[:, place] for place in np.argsort(draws.bits(x.shape[1]))]
    while len(parts) > 1:
        at, with_ = (int(draws.integers(0, len(parts) - n, 1)[0]) for n in (1, 2))
        first = parts.pop(at)
        parts[with_] = step(first, parts[with_])
    return parts[0]


def summed(draws: Stream, x: NDArray, dtype: DType) -> NDArray:
    wide = x.astype(accumulator(dtype).numpy)
    return any_order(draws, wide, np.add).astype(dtype.numpy)


KINDS: dict[str, Callable[[Stream, DType, int], NDArray]] = {
    "near one": lambda draws, dtype, n: (draws.floats(ROWS * n) - 0.5).astype(dtype.numpy),
    "wide exponents": lambda draws, dtype, n: draw(draws, dtype, ROWS * n),
    "cancellation": lambda draws, dtype, n: _cancelling(draws, dtype, ROWS * n),
}


def _cancelling(draws: Stream, dtype: DType, count: int) -> NDArray:
    half = ((draws.floats(count // 2) - 0.5) * 2.0 ** draws.integers(-6, 6, count // 2)).astype(dtype.numpy)
    both = np.concatenate((half, -half))
    return next_up(both, dtype) if count % 3 else both


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", REALS, ids=str)
@settings(max_examples=8, deadline=None)
@given(seed=seeds, terms=st.integers(1, 16))
def test_a_sum_in_any_order_is_admitted(kind: str, dtype: DType, seed: int, terms: int) -> None:
    draws = stream(f"sum/{kind}/{dtype}/{seed}")
    x = KINDS[kind](draws, dtype, 2 * terms).reshape(ROWS, 2 * terms)
    result = _column(free_sum(x, Along(1), rule(dtype)))
    for _ in range(4):
        assert holds(result, summed(draws, x, dtype)).all()


def _column(x: Value) -> Interval:
    known = interval(x)
    return Interval(known.lo[:, 0], known.hi[:, 0], known.nan[:, 0])


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_a_sum_of_members_in_any_order_is_admitted(dtype: DType) -> None:
    draws = stream(f"sum of intervals/{dtype}")
    lo = (draws.floats(ROWS * 9) - 0.5).astype(dtype.numpy).reshape(ROWS, 9)
    hi = np.maximum(lo, lo + np.array(2.0**-4).astype(dtype.numpy))
    result = _column(free_sum(Interval(lo, hi, np.zeros(lo.shape, np.bool_)), Along(1), rule(dtype)))
    for end in (lo, hi, np.where(draws.integers(0, 1, lo.size).reshape(lo.shape) > 0, lo, hi)):
        assert holds(result, summed(draws, end, dtype)).all()


@pytest.mark.parametrize("terms", [3, 17, 256])
@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_the_bound_of_a_sum_is_the_published_one(dtype: DType, terms: int) -> None:
    draws = stream(f"bound/{dtype}/{terms}")
    x = (
        ((draws.floats(20 * terms) - 0.3) * 2.0 ** draws.integers(-9, 9, 20 * terms))
        .astype(dtype.numpy)
        .reshape(20, -1)
    )
    result = _column(free_sum(x, Along(1), rule(dtype)))
    u, found = Fraction(2) ** -accumulator(dtype).precision, 0
    for row, lo, hi, below, above in zip(
        x, result.lo, result.hi, next_down(result.lo, dtype), next_up(result.hi, dtype), strict=True
    ):
        numbers = [Fraction(float(v)) for v in row]
        if _never_rounds(numbers, accumulator(dtype)):
            continue
        found += 1
        true, k = sum(numbers, Fraction(0)), terms - 1
        error = k * u / (1 - k * u) * sum(map(abs, numbers)) + exact_ulp(dtype, true) / 2
        slack = error * Fraction(2) ** -19
        assert true - error - slack <= Fraction(float(lo)) <= Fraction(float(hi)) <= true + error + slack
        assert Fraction(float(below)) < true - error
        assert Fraction(float(above)) > true + error
    assert found


def _never_rounds(numbers: list[Fraction], dtype: DType) -> bool:
    scaled = [number * 2**1100 for number in numbers]
    quantum = min(int(s) & -int(s) for s in scaled if s)
    return sum(map(abs, scaled)) <= quantum << dtype.precision


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_a_sum_of_small_integers_is_exact(dtype: DType) -> None:
    draws = stream(f"integers/{dtype}")
    largest = (1 << accumulator(dtype).precision) // 256 - 1
    x = draws.integers(-min(largest, 100), min(largest, 100), 60 * 256).astype(np.float64).reshape(60, 256)
    result = free_sum(x.astype(dtype.numpy), Along(1), rule(dtype))
    assert isinstance(result, np.ndarray)
    assert result.tobytes() == x.sum(axis=1, keepdims=True).astype(dtype.numpy).tobytes()


def test_one_term_too_large_for_exactness_leaves_the_order_free() -> None:
    exact, inexact = [1.0, 1.0, 2.0**24 - 2], [1.0, 1.0, 2.0**24]
    assert isinstance(free_sum(np.array([exact], np.float32), Along(1), rule(F32)), np.ndarray)
    assert isinstance(free_sum(np.array([inexact], np.float32), Along(1), rule(F32)), Interval)


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_two_nonzero_terms_leave_nothing_free(dtype: DType) -> None:
    draws = stream(f"two/{dtype}")
    x = np.zeros((200, 8), dtype.numpy)
    x[:, 3], x[:, 6] = draw(draws, dtype, 200), draw(draws, dtype, 200)
    result = free_sum(x, Along(1), rule(dtype))
    assert isinstance(result, np.ndarray)
    expected = summed(draws, x, dtype)
    same = (result[:, 0] == expected) | (np.isnan(result[:, 0]) & np.isnan(expected))
    assert same.all()
    assert (np.signbit(result[:, 0]) == np.signbit(expected))[expected == 0].all()


def test_a_sum_of_minus_zeros_is_minus_zero_and_one_plus_zero_changes_it() -> None:
    x = np.full((2, 4), -0.0, np.float32)
    x[1, 2] = 0.0
    result = free_sum(x, Along(1), rule(F32))
    assert isinstance(result, np.ndarray)
    assert np.signbit(result[:, 0]).tolist() == [True, False]


INFINITE: dict[str, tuple[list[float], float, float, bool]] = {
    "an overflow on the way": ([3e38, 3e38, -3e38, 1.0], 2.9e38, np.inf, False),
    "overflows both ways": ([3e38, 3e38, -3e38, -3e38], -np.inf, np.inf, True),
    "an infinite term": ([np.inf, 1.0, 2.0, 3.0], np.inf, np.inf, False),
    "an infinite term and an overflow against it": ([np.inf, -3e38, -3e38, 1.0], np.inf, np.inf, True),
}


@pytest.mark.parametrize("case", INFINITE)
def test_infinities_are_admitted_where_a_partial_sum_can_reach_them(case: str) -> None:
    terms, lo, hi, nan = INFINITE[case]
    result = interval(free_sum(np.array([terms], np.float32), Along(1), rule(F32)))
    assert lo <= float(result.lo[0, 0])
    assert float(result.lo[0, 0]) <= float(result.hi[0, 0]) <= hi
    assert np.isinf(result.hi[0, 0])
    assert result.nan[0, 0] == nan


@pytest.mark.parametrize("terms", [[np.inf, -np.inf, 1.0], [np.nan, 1.0, 2.0]])
def test_a_certain_nan_is_the_only_result(terms: list[float]) -> None:
    result = free_sum(np.array([terms], np.float32), Along(1), rule(F32))
    assert isinstance(result, np.ndarray)
    assert np.isnan(result).all()


def test_a_term_that_may_be_nan_makes_a_sum_that_may_be() -> None:
    ends = np.array([[1.0, 2.0, 3.0]], np.float32)
    result = interval(free_sum(Interval(ends, ends, np.array([[False, True, False]])), Along(1), rule(F32)))
    assert result.nan.all()
    assert result.lo.item() == result.hi.item() == 6.0


def test_flushing_widens_a_sum_by_the_stated_amount_and_only_where_subnormals_can_arise() -> None:
    tiny = min_normal(F32)
    x = np.array([[tiny, tiny / 2, -tiny, tiny / 4], [4.0, 1.0, -3.0, 1.0]], np.float32)
    result = interval(free_sum(x, Along(1), rule(F32, "f32")))
    least, most = tiny * 0.75 - 7 * tiny, tiny * 0.75 + 7 * tiny
    assert least * 1.01 <= float(result.lo[0, 0]) <= least * 0.99
    assert most * 0.99 <= float(result.hi[0, 0]) <= most * 1.01
    assert result.lo[1, 0] == result.hi[1, 0] == 3.0


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_narrow_sums_accumulate_in_f32(dtype: DType) -> None:
    ones = np.ones((1, 1024), dtype.numpy)
    assert np.asarray(free_sum(ones, Along(1), rule(dtype))).item() == 1024


def test_segments_are_summed_like_axes() -> None:
    draws = stream("segments")
    x = draw(draws, F32, 90)
    along = interval(free_sum(x.reshape(10, 9), Along(1), rule(F32)))
    segments = Segments(np.arange(0, 90, 9), np.repeat(np.arange(10), 9))
    cut = interval(free_sum(x, segments, rule(F32)))
    assert cut.lo.tobytes() == along.lo.tobytes()
    assert cut.hi.tobytes() == along.hi.tobytes()
    assert cut.nan.tobytes() == along.nan.tobytes()


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_exact_sums_are_exact_beyond_f64(dtype: DType) -> None:
    draws = stream(f"exact/{dtype}")
    x = ((draws.floats(3000) - 0.5) * 2.0 ** draws.integers(-40, 40, 3000)).astype(dtype.numpy).astype(np.float64)
    x = x.reshape(30, 100)
    head, tail = exact_sum(x, Along(1))
    for row, h, t in zip(x, head[:, 0], tail[:, 0], strict=True):
        true = sum(map(Fraction, row.tolist()))
        assert abs(true - Fraction(float(h)) - Fraction(float(t))) <= Fraction(max(abs(row))) * Fraction(2) ** -100


# --- products -----------------------------------------------------------------------------------------------------

FACTORS: dict[str, Callable[[Stream, DType, int], NDArray]] = {
    "near one": lambda draws, dtype, n: (draws.floats(ROWS * n) + 0.5).astype(dtype.numpy),
    "wide exponents": lambda draws, dtype, n: draw(draws, dtype, ROWS * n),
    "moderate": lambda draws, dtype, n: (
        (draws.floats(ROWS * n) - 0.5) * 2.0 ** draws.integers(-3, 4, ROWS * n)
    ).astype(dtype.numpy),
    "powers of two": lambda draws, dtype, n: (2.0 ** draws.integers(-2, 2, ROWS * n)).astype(dtype.numpy),
}


@pytest.mark.parametrize("kind", FACTORS)
@pytest.mark.parametrize("dtype", REALS, ids=str)
@settings(max_examples=8, deadline=None)
@given(seed=seeds, factors=st.integers(1, 20))
def test_a_product_in_any_order_is_admitted(kind: str, dtype: DType, seed: int, factors: int) -> None:
    draws = stream(f"product/{kind}/{dtype}/{seed}")
    x = FACTORS[kind](draws, dtype, factors).reshape(ROWS, factors)
    result = _column(free_product(x, 1, dtype, flush=False))
    for _ in range(4):
        assert holds(result, any_order(draws, x, numerics.mul(dtype))).all()


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_the_bound_of_a_product_is_the_published_one(dtype: DType) -> None:
    draws = stream(f"product bound/{dtype}")
    x = (draws.floats(20 * 7) + 0.5).astype(dtype.numpy).reshape(20, 7)
    result = _column(free_product(x, 1, dtype, flush=False))
    u = Fraction(2) ** -dtype.precision
    outside = next_down(result.lo, dtype), next_up(result.hi, dtype)
    for row, lo, hi, below, above in zip(x, result.lo, result.hi, *outside, strict=True):
        true = prod(Fraction(float(factor)) for factor in row)
        k = sum(bool(Fraction(float(factor)).numerator & (Fraction(float(factor)).numerator - 1)) for factor in row) - 1
        growth = k * u / (1 - k * u)
        slack = true * Fraction(2) ** -50
        rough = growth * true * (1 + Fraction(2) ** -19)
        assert true - rough - slack <= Fraction(float(lo)) <= Fraction(float(hi)) <= true + rough + slack
        assert Fraction(float(below)) < true - growth * true
        assert Fraction(float(above)) > true + growth * true


def test_a_product_of_small_integers_is_exact() -> None:
    x = np.array([[3.0, 5.0, 7.0, 11.0, 2.0, 0.5, -13.0]], np.float32)
    assert np.asarray(free_product(x, 1, F32, flush=False)).item() == -15015.0


def test_a_product_with_a_zero_is_a_zero_of_the_right_sign() -> None:
    x = np.array([[3.1, -0.0, 7.3, 1.7], [3.1, -0.0, -7.3, 1.7]], np.float32)
    result = free_product(x, 1, F32, flush=False)
    assert isinstance(result, np.ndarray)
    assert np.signbit(result[:, 0]).tolist() == [True, False]


def test_a_product_that_can_overflow_and_underflow_on_the_way_claims_its_sign_only() -> None:
    result = interval(free_product(np.array([[1e30, 1e30, 1e-30, 1e-30]], np.float32), 1, F32, flush=False))
    assert (float(result.lo[0, 0]), float(result.hi[0, 0]), bool(result.nan[0, 0])) == (0.0, np.inf, True)


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_a_product_beyond_the_largest_number_is_infinite(dtype: DType) -> None:
    large = np.array([float(max_finite(dtype)), 4.0, 3.0, 1.0]).astype(dtype.numpy)[None]
    result = interval(free_product(large, 1, dtype, flush=False))
    assert np.isinf(result.lo.astype(np.float64)).all()
    assert not result.nan.any()
    assert not undetermined(result).any()
