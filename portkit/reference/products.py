"""What a float product over lanes admits when its order is free (Spec: numeric_c2, group_c1).

Letters: P the exact product, n how many factors are not powers of two, u the unit roundoff, g(k) = k*u / (1 - k*u).
Where no partial product can leave the range of normal numbers, |result - P| <= g(n-1) * |P|, since products with powers
of two are exact; nothing is free where n <= 2 or where no order ever rounds. Each operation below that range may lose
another half of the smallest subnormal, which later factors can amplify. Where a partial product can overflow, infinity
is admitted, and NaN if it can meet a zero.

Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, 3.1, and 2.8 on underflow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from portkit.reference.intervals import lower, may_be_zero, upper
from portkit.reference.planes import Array, Bools, Interval, Value, interval, settle
from portkit.reference.rounding import narrow, to_odd, two_product, two_sum
from portkit.reference.sums import lowest_bit
from portkit.reference.ulp import Float64, largest, min_normal, min_subnormal, round_down, round_up
from portkit.spec.types import F64, DType

SLACK = 2.0**-30
"""How far a sum of logarithms may be off; it decides only whether an order *can* leave the range."""
_HIGH, _HIGHEST = 900, 1080
"""Powers of two beyond which a magnitude is divided before it is widened, and cut."""


@dataclass(slots=True)
class _Range:
    """Of each product: bounds of log2 of the largest and smallest partial product, and what these reach."""

    overflow: Bools
    underflow: Bools
    most: Float64


def free_product(factors: Value, axis: int, dtype: DType, flush: bool) -> Value:
    """Return what the product along an axis, which keeps length 1, admits when its order is free."""
    x = interval(factors)
    lo, hi = x.lo.astype(np.float64), x.hi.astype(np.float64)
    small = np.where((lo <= 0) & (hi >= 0), 0.0, np.minimum(np.abs(lo), np.abs(hi)))
    large = np.maximum(np.abs(lo), np.abs(hi))
    least, most = _magnitude(small, axis), _magnitude(large, axis)
    rough = (_significand(large) != 1.0) | (lo != hi)
    count = np.sum(rough & (large != 0), axis=axis, keepdims=True).astype(np.float64)
    reach = _reach(small, large, count, axis, dtype)
    steps = np.sum((large != 1) | (lo != hi), axis=axis, keepdims=True).astype(np.float64)
    low, high = _widened(least, most, count, steps, reach, dtype, flush)
    settled = _never_free(lo, hi, large, count, reach, axis, dtype)
    low = np.where(settled, _rounded_once(most, dtype), low)
    high = np.where(settled, _rounded_once(most, dtype), high)
    result = _signed(low, high, x, reach, axis)
    if flush:  # to a zero of either sign
        zero = np.zeros_like(result.lo)
        result.lo = np.where(reach.underflow, lower(result.lo, -zero), result.lo)
        result.hi = np.where(reach.underflow, upper(result.hi, zero), result.hi)
    return settle(result)


def _significand(x: Float64) -> Float64:
    """Return x divided by the value of its last bit that is set; 1 for powers of two, zeros and infinities."""
    return np.where((x == 0) | np.isinf(x), 1.0, x / lowest_bit(np.where(np.isinf(x), 1.0, x)))


def _magnitude(x: Float64, axis: int) -> tuple[Float64, Float64, NDArray[np.int64]]:
    """Return the product of non-negative numbers as a pair and a power of two, infinite factors left out."""
    head, exponent = np.frexp(np.where(np.isinf(x), 1.0, x))
    head, power = np.moveaxis(head, axis, 0), np.moveaxis(exponent, axis, 0).astype(np.int64)
    tail = np.zeros_like(head)
    while len(head) > 1:
        half = len(head) // 2
        rest = slice(2 * half, None)
        p, e = two_product(head[:half], head[half : 2 * half])
        e = e + head[:half] * tail[half : 2 * half] + tail[:half] * head[half : 2 * half]
        p, shift = np.frexp(p)
        e = np.ldexp(e, -shift)
        head, tail = np.concatenate((p, head[rest])), np.concatenate((e, tail[rest]))
        power = np.concatenate((power[:half] + power[half : 2 * half] + shift, power[rest]))
    head, tail = two_sum(head, tail)
    return np.moveaxis(head, 0, axis), np.moveaxis(tail, 0, axis), np.moveaxis(power, 0, axis)


def _reach(small: Float64, large: Float64, count: Float64, axis: int, dtype: DType) -> _Range:
    def total(part: Float64) -> Float64:
        return np.sum(part, axis=axis, keepdims=True)

    slack = SLACK + 2 * count * 2.0**-dtype.precision
    up = np.where(np.isinf(large) | (large == 0), 0.0, np.maximum(np.log2(large), 0.0))
    down = np.where(np.isinf(small) | (small == 0), 0.0, np.minimum(np.log2(small), 0.0))
    spans_zero = ((small == 0) & (large != 0)).any(axis=axis, keepdims=True)
    most = total(up)
    overflow = most + slack >= np.log2(largest(dtype))
    return _Range(overflow, (total(down) - slack < dtype.emin) | spans_zero, np.exp2(np.minimum(most + slack, 2000.0)))


def _widened(
    least: tuple[Float64, Float64, NDArray[np.int64]],
    most: tuple[Float64, Float64, NDArray[np.int64]],
    count: Float64,
    steps: Float64,
    reach: _Range,
    dtype: DType,
    flush: bool,
) -> tuple[Array, Array]:
    """Return the ends of the magnitude."""
    k = np.maximum(count - 1, 0) * 2.0**-dtype.precision
    growth = np.where(k < 1, k / (1 - np.minimum(k, 0.999)), np.inf) * (1 + 2.0**-20)
    loss = min_normal(dtype) if flush else min_subnormal(dtype)
    lost = np.where(reach.underflow, (steps + 1) * loss * reach.most * 2, 0.0)
    shift = np.where(most[2] > _HIGH, 64, 0)
    low, high, lost = _value(least, shift), _value(most, shift), np.ldexp(lost, -shift)
    low_error = np.where(np.isfinite(growth), growth, 1.0) * low[0] + lost
    high_error = growth * high[0] + lost
    below, below_tail = two_sum(low[0], -low_error)
    above, above_tail = two_sum(high[0], high_error)
    low_tail, high_tail = (np.ldexp(t, shift) for t in (below_tail + low[1], above_tail + high[1]))
    ends = round_up(np.ldexp(below, shift), dtype, low_tail), round_down(np.ldexp(above, shift), dtype, high_tail)
    zero, infinity = np.zeros_like(ends[0]), np.full_like(ends[1], np.inf)
    low = np.where((ends[0] > 0) & (~reach.underflow | (below > 0)), ends[0], zero)
    return low, np.where(reach.overflow, infinity, ends[1])


def _value(product: tuple[Float64, Float64, NDArray[np.int64]], shift: NDArray[np.int64]) -> tuple[Float64, Float64]:
    """Return a magnitude divided by 2^shift, cut where every format has overflowed."""
    head, tail, power = product
    place = (np.clip(power, -_HIGHEST, _HIGHEST) - shift).astype(np.int32)
    return np.ldexp(head, place), np.ldexp(tail, place)


def _never_free(
    lo: Float64, hi: Float64, large: Float64, count: Float64, reach: _Range, axis: int, dtype: DType
) -> Bools:
    same = (lo == hi).all(axis=axis, keepdims=True)
    zero = (large == 0).any(axis=axis, keepdims=True)
    digits = np.sum(np.log2(_significand(large)), axis=axis, keepdims=True)
    exact = (digits <= dtype.precision - SLACK) | (count <= 2) | zero
    return same & exact & ~reach.overflow & (~reach.underflow | zero)


def _rounded_once(product: tuple[Float64, Float64, NDArray[np.int64]], dtype: DType) -> Array:
    head, tail = _value(product, np.zeros_like(product[2]))
    return head if dtype == F64 else narrow(to_odd(head, tail), dtype)


def _signed(low: Array, high: Array, x: Interval, reach: _Range, axis: int) -> Interval:
    """Return products with their sign and with what infinite, zero and NaN factors add."""
    minus = np.signbit(x.lo) & np.signbit(x.hi)
    unsure = (np.signbit(x.lo) != np.signbit(x.hi)).any(axis=axis, keepdims=True)
    negative = np.logical_xor.reduce(minus, axis=axis, keepdims=True)
    infinite = (np.isinf(x.lo) | np.isinf(x.hi)).any(axis=axis, keepdims=True)
    surely_infinite = (np.isinf(x.lo) & (x.lo == x.hi)).any(axis=axis, keepdims=True)
    zero = may_be_zero(x).any(axis=axis, keepdims=True)
    surely_zero = ((x.lo == 0) & (x.hi == 0)).any(axis=axis, keepdims=True)
    infinity, nan = np.full_like(high, np.inf), np.full_like(high, np.nan)
    high = np.where((infinite | reach.overflow) & ~(surely_zero & ~surely_infinite), infinity, high)
    low = np.where(surely_infinite, infinity, low)
    clash = (infinite | reach.overflow) & (zero | reach.underflow)
    sure = np.isnan(x.lo).any(axis=axis, keepdims=True) | (surely_infinite & surely_zero)
    lo = np.where(unsure | negative, -high, low)
    hi = np.where(unsure | ~negative, high, -low)
    return Interval(
        np.where(sure, nan, lo), np.where(sure, nan, hi), sure | clash | x.nan.any(axis=axis, keepdims=True)
    )
