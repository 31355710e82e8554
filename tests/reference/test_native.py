"""Native math forms: the admitted set is exactly the accuracy table around the value that mpmath gives."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from portkit.reference.generator import stream
from portkit.reference.native import admitted
from portkit.reference.planes import Interval, interval
from portkit.reference.ulp import next_down, next_up, ordinal
from portkit.spec.forms import accuracy
from portkit.spec.types import F32, DType
from tests.reference.floats import REALS, draw, exact_ulp, holds, members
from tests.reference.floats import intervals as some_intervals

TRUE: dict[str, Callable[[Any], Any]] = {
    "recip": lambda x: 1 / x,
    "sqrt": mpmath.sqrt,
    "rsqrt": lambda x: 1 / mpmath.sqrt(x),
    "exp2": lambda x: mpmath.power(2, x),
    "log2": lambda x: mpmath.log(x, 2),
    "sin": mpmath.sin,
}
SLACK = Fraction(1, 64)
"""How much wider in ulp a set may be than the table, because the true value is known to 60 bits only."""


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with np.errstate(all="ignore"):
        yield


def arguments(kind: str, dtype: DType, count: int = 200) -> NDArray:
    """Return finite nonzero arguments in the domain whose results have an ulp that a Fraction holds easily."""
    x = draw(stream(f"native/{kind}/{dtype}"), dtype, count)
    x = x[np.isfinite(x) & (x != 0)]
    if kind in ("sqrt", "rsqrt", "log2"):
        x = np.abs(x)
    if kind == "exp2":
        x = x[np.abs(x.astype(np.float64)) < 1.1 * dtype.emax]
    return x[x != 1] if kind == "log2" else x


def true_value(kind: str, x: float) -> Fraction:
    with mpmath.workprec(1300):
        value = mpmath.mpf(TRUE[kind](mpmath.mpf(x)))
    sign, significand, exponent, _ = value._mpf_
    return (-1) ** sign * Fraction(int(significand)) * Fraction(2) ** exponent


@pytest.mark.parametrize("kind", TRUE)
@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_the_ends_are_the_last_floats_within_the_table(kind: str, dtype: DType) -> None:
    x = arguments(kind, dtype)
    result = interval(admitted(kind, dtype, x))
    bound = Fraction(accuracy(f"mov.{kind}", dtype))
    neighbours = next_down(result.lo, dtype), next_up(result.hi, dtype)
    for at, lo, hi, below, above in zip(x, result.lo, result.hi, *neighbours, strict=True):
        true = true_value(kind, float(at))
        ulp = exact_ulp(dtype, true)
        assert _error(dtype, lo, true) <= (bound + SLACK) * ulp
        assert _error(dtype, hi, true) <= (bound + SLACK) * ulp
        assert _error(dtype, above, true) > bound * ulp or np.isinf(hi)
        assert _error(dtype, below, true) > bound * ulp or np.isneginf(lo) or (kind == "exp2" and lo == 0)


def _error(dtype: DType, value: Any, true: Fraction) -> Fraction:
    if np.isinf(value):
        beyond = Fraction(2) ** (dtype.emax + 1)
        return max(Fraction(0), beyond - abs(true))
    return abs(Fraction(float(value)) - true)


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_the_exponential_is_never_negative(dtype: DType) -> None:
    x = np.array([-dtype.emax - 60.0, -dtype.emax - 20.0]).astype(dtype.numpy)
    assert not np.signbit(interval(admitted("exp2", dtype, x)).lo).any()


SPECIAL: dict[str, list[tuple[float, float]]] = {
    "recip": [(0.0, np.inf), (-0.0, -np.inf), (np.inf, 0.0), (-np.inf, -0.0)],
    "sqrt": [(0.0, 0.0), (-0.0, -0.0), (np.inf, np.inf), (-1.0, np.nan), (-np.inf, np.nan)],
    "rsqrt": [(0.0, np.inf), (-0.0, -np.inf), (np.inf, 0.0), (-1.0, np.nan)],
    "exp2": [(0.0, 1.0), (-0.0, 1.0), (np.inf, np.inf), (-np.inf, 0.0)],
    "log2": [(0.0, -np.inf), (-0.0, -np.inf), (1.0, 0.0), (np.inf, np.inf), (-1.0, np.nan)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (np.inf, np.nan), (-np.inf, np.nan)],
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_special_values_are_exact(kind: str, dtype: DType) -> None:
    x, expected = np.array([*SPECIAL[kind], (np.nan, np.nan)]).T.astype(dtype.numpy)
    result = admitted(kind, dtype, x)
    assert isinstance(result, np.ndarray)
    numbers = ~np.isnan(expected)
    assert np.isnan(result[~numbers]).all()
    assert result[numbers].tobytes() == expected[numbers].tobytes()


@pytest.mark.parametrize("kind", TRUE)
@pytest.mark.parametrize("dtype", REALS, ids=str)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), width=st.sampled_from([0, 3, 1 << 9]))
def test_what_a_member_admits_is_in_what_the_interval_admits(kind: str, dtype: DType, seed: int, width: int) -> None:
    draws = stream(f"over/{kind}/{dtype}/{seed}")
    x = some_intervals(draws, dtype, 300, width)
    over = interval(admitted(kind, dtype, x))
    for _ in range(3):
        at = interval(admitted(kind, dtype, members(draws, x, dtype)))
        assert holds(over, at.lo).all()
        assert holds(over, at.hi).all()


@pytest.mark.parametrize("kind", ["recip", "sqrt", "rsqrt", "exp2", "log2"])
def test_an_interval_inside_one_binade_is_as_tight_as_its_ends(kind: str) -> None:
    x = Interval(np.array([1.25], np.float32), np.array([1.375], np.float32), np.array([False]))
    over = interval(admitted(kind, F32, x))
    ends = interval(admitted(kind, F32, np.array([1.25, 1.375], np.float32)))
    assert ordinal(over.lo)[0] == ordinal(ends.lo).min()
    assert ordinal(over.hi)[0] == ordinal(ends.hi).max()


def test_a_sine_over_its_peak_reaches_one() -> None:
    x = Interval(np.array([1.5], np.float32), np.array([1.6], np.float32), np.array([False]))
    over = interval(admitted("sin", F32, x))
    assert over.hi[0] >= 1
    assert over.lo[0] > 0.99


@pytest.mark.parametrize("kind", ["sqrt", "rsqrt", "log2"])
def test_an_interval_that_reaches_below_zero_may_give_nan(kind: str) -> None:
    ends = np.array([[-1.0, 1.0], [4.0, 4.0]], np.float32)
    x = Interval(ends[0], ends[1], np.zeros(2, np.bool_))
    assert interval(admitted(kind, F32, x)).nan.tolist() == [True, False]


def test_a_reciprocal_across_zero_reaches_both_infinities() -> None:
    x = Interval(np.array([-1.0, 0.0], np.float32), np.array([1.0, 1.0], np.float32), np.zeros(2, np.bool_))
    over = interval(admitted("recip", F32, x))
    assert np.isneginf(over.lo).tolist() == [True, False]
    assert np.isposinf(over.hi).all()
