"""Arrays of floats that hurt, for tests of the bounds run: ends, members of intervals, exact values."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from portkit.reference.generator import Stream
from portkit.reference.planes import Interval
from portkit.reference.ulp import from_ordinal, ordinal
from portkit.spec.types import DTYPES, DType
from tests.reference.patterns import near_one, random_bits, specials

REALS = [DTYPES[name] for name in ("f16", "bf16", "f32", "f64")]
SMALL = [DTYPES[name] for name in ("f16", "bf16")]


def of_bits(dtype: DType, patterns: list[int]) -> NDArray:
    """Return floats of the given bit patterns."""
    return np.array(patterns, f"u{dtype.bytes}").view(dtype.numpy)


def draw(draws: Stream, dtype: DType, count: int) -> NDArray:
    """Return a shuffled mixture of special values, numbers near one and uniform patterns, without NaN."""
    pool = specials(dtype) * 4 + near_one(draws, dtype, count) + random_bits(draws, dtype, count // 4)
    floats = of_bits(dtype, pool)
    with np.errstate(invalid="ignore"):  # bfloat16 complains of signalling NaNs
        floats = floats[~np.isnan(floats)]
    return floats[draws.integers(0, len(floats) - 1, count)]


def intervals(draws: Stream, dtype: DType, count: int, width: int = 0) -> Interval:
    """Return intervals between drawn ends or, with a width, of up to that many steps beyond a drawn end."""
    first = draw(draws, dtype, count)
    if width:
        top = int(ordinal(np.array([np.inf]).astype(dtype.numpy))[0])
        place = ordinal(first).astype(np.int64)
        last = np.minimum(place + draws.integers(0, width, count), top)
        return Interval(first, from_ordinal(last.astype(ordinal(first).dtype), dtype), np.zeros(count, np.bool_))
    second = draw(draws, dtype, count)
    ordered = ordinal(first) <= ordinal(second)
    return Interval(np.where(ordered, first, second), np.where(ordered, second, first), np.zeros(count, np.bool_))


def members(draws: Stream, x: Interval, dtype: DType) -> NDArray:
    """Return one member of each interval, often an end, by place in the order of floats."""
    lo, hi = (ordinal(end).astype(np.float64) for end in (x.lo, x.hi))
    share = draws.floats(lo.size).astype(np.float64).reshape(lo.shape)
    share = np.where(share < 0.2, 0.0, np.where(share > 0.8, 1.0, share))
    place = np.where(share == 1.0, hi, np.floor(lo + share * (hi - lo)))
    if dtype.bits == 64:  # ordinals beyond 2^53 are rounded on the way
        low, high = ordinal(x.lo), ordinal(x.hi)
        place = np.clip(place, -(2.0**62), 2.0**62).astype(np.int64)
        place = np.clip(place, low, high)
        return from_ordinal(np.where(share == 1.0, high, np.where(share == 0.0, low, place)), dtype)
    return from_ordinal(place.astype(ordinal(x.lo).dtype), dtype)


def holds(x: Interval, value: NDArray) -> NDArray:
    """Return where a value is in an interval, by the order of floats that puts -0 before +0."""
    inside = (ordinal(x.lo) <= ordinal(value)) & (ordinal(value) <= ordinal(x.hi)) & ~np.isnan(x.lo)
    return np.where(np.isnan(value), x.nan, inside)


def exact(value: float) -> Fraction:
    """Return a finite float as a rational number."""
    return Fraction(float(value))


def exact_ulp(dtype: DType, number: Fraction) -> Fraction:
    """Return Muller's ulp of a real number in rational arithmetic."""
    if number == 0:
        return Fraction(2) ** (dtype.emin - dtype.precision + 1)
    exponent = abs(number).numerator.bit_length() - abs(number).denominator.bit_length()
    exponent -= Fraction(2) ** exponent > abs(number)
    return Fraction(2) ** (min(max(exponent, dtype.emin), dtype.emax) - dtype.precision + 1)
