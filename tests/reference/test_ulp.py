"""Neighbours, ulp and directed rounding, against rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from portkit.reference import ulp
from portkit.reference.generator import stream
from portkit.spec.types import DType, decode, infinity_bits
from tests.reference.floats import REALS, draw, exact_ulp, of_bits

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered")
finite = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_neighbours_are_one_pattern_apart(dtype: DType) -> None:
    top = infinity_bits(dtype)
    for bits in (1, 2, (1 << dtype.precision - 1) - 1, 1 << dtype.precision - 1, top // 2, top - 1):
        here = of_bits(dtype, [bits])
        assert ulp.next_up(here, dtype).tobytes() == of_bits(dtype, [bits + 1]).tobytes()
        assert ulp.next_down(-here, dtype).tobytes() == (-of_bits(dtype, [bits + 1])).tobytes()
        assert ulp.next_down(ulp.next_up(here, dtype), dtype).tobytes() == here.tobytes()


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_the_neighbour_above_either_zero_is_the_least_subnormal(dtype: DType) -> None:
    zeros = np.array([0.0, -0.0]).astype(dtype.numpy)
    assert ulp.next_up(zeros, dtype).tobytes() == of_bits(dtype, [1, 1]).tobytes()


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_infinities_and_nan_have_no_neighbour_beyond_them(dtype: DType) -> None:
    ends = np.array([np.inf, np.nan]).astype(dtype.numpy)
    assert ulp.next_up(ends, dtype).tobytes() == ends.tobytes()
    assert np.isneginf(ulp.next_down(-ends[:1], dtype).astype(np.float64)).all()


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_ordinals_put_minus_zero_before_plus_zero_and_go_back(dtype: DType) -> None:
    x = np.concatenate((draw(stream(f"ordinal/{dtype}"), dtype, 300), np.array([-0.0, 0.0]).astype(dtype.numpy)))
    assert ulp.ordinal(x)[-2:].tolist() == [-1, 0]
    assert ulp.from_ordinal(ulp.ordinal(x), dtype).tobytes() == x.tobytes()
    wide = x.astype(np.float64)
    assert ((ulp.ordinal(x)[:, None] < ulp.ordinal(x)) | (wide[:, None] >= wide)).all()


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_ulp_is_that_of_rational_arithmetic(dtype: DType) -> None:
    x = draw(stream(f"ulp/{dtype}"), dtype, 300).astype(np.float64)
    x = x[np.isfinite(x)]
    expected = [exact_ulp(dtype, Fraction(v)) for v in x.tolist()]
    assert [Fraction(v) for v in ulp.ulp(x, dtype).tolist()] == expected


def test_ulp_doubles_at_a_power_of_two_and_stops_at_the_largest_number() -> None:
    dtype = REALS[2]
    below, at = np.nextafter(1.0, 0.0), 1.0
    assert ulp.ulp(np.array([below, at, 1e300, np.inf]), dtype).tolist() == [2.0**-24, 2.0**-23, 2.0**104, 2.0**104]
    assert np.isnan(ulp.ulp(np.array([np.nan]), dtype)).all()


@pytest.mark.parametrize("dtype", REALS, ids=str)
@given(head=finite, tail=st.floats(-0.49, 0.49), near=st.integers(0, 2**63 - 1))
def test_rounding_up_gives_the_least_float_not_below(dtype: DType, head: float, tail: float, near: int) -> None:
    on_grid = float(decode(dtype, near % infinity_bits(dtype)))
    for value in (head, on_grid):
        rest = tail * value * 2.0**-53 if abs(value) > 2.0**-960 else 0.0
        up = ulp.round_up(np.array([value]), dtype, np.array([rest]))
        down = ulp.round_down(np.array([value]), dtype, np.array([rest]))
        assert _is_least_above(dtype, up, Fraction(value) + Fraction(rest))
        assert _is_least_above(dtype, -down, -Fraction(value) - Fraction(rest))


def _is_least_above(dtype: DType, x: NDArray, true: Fraction) -> bool:
    """Whether x is the least float not below a number, infinity counting as 2^(emax + 1)."""
    beyond = Fraction(2) ** (dtype.emax + 1)
    here, before = (float(v[0]) for v in (x, ulp.next_down(x, dtype)))
    if here == -math.inf:
        return true <= -beyond
    not_below = here == math.inf or true <= Fraction(here)
    return not_below and (-beyond if before == -math.inf else Fraction(before)) < true
