"""What a native math form admits: the floats within the accuracy table of the true value (Spec: math_c1).

The true value is known to 60 bits, which widens each set by at most 2^-6 ulp in f64 and 2^-35 ulp in f32. Special
values, exp2(0) = 1 and log2(1) = 0 are exact. Over an interval the ends of a monotone function are those of its ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portkit.reference import elementary, numerics
from portkit.reference.elementary import RELATIVE_ERROR, Scaled
from portkit.reference.intervals import hull, lower, may_be_minus_zero, may_be_plus_zero, may_be_zero, upper
from portkit.reference.planes import Array, Bools, Interval, Value, settle
from portkit.reference.rounding import two_sum
from portkit.reference.ulp import Float64, min_subnormal, ulp
from portkit.spec.forms import accuracy
from portkit.spec.types import DType

_TRUE_VALUE: dict[str, Callable[[Float64], Scaled]] = {
    "recip": elementary.recip,
    "sqrt": elementary.sqrt,
    "rsqrt": elementary.rsqrt,
    "exp2": elementary.exp2,
    "log2": elementary.log2,
    "sin": elementary.sin,
}
_SINE_KNOWN = 2.0**20
"""Over wider or farther intervals the sine is taken to reach both of its extremes."""


def admitted(kind: str, dtype: DType, x: Value) -> Value:
    """Return what a native form of the given kind admits for a float register."""
    if not isinstance(x, Interval):
        assert isinstance(x, np.ndarray)
        return settle(_at(kind, x, dtype))
    return settle(_OVER[kind](kind, x, dtype))


def _at(kind: str, x: Array, dtype: DType) -> Interval:
    """Return the admitted results at each point."""
    special = ~np.isfinite(x) | (x == 0)
    if kind in ("sqrt", "rsqrt", "log2"):
        special |= x < 0
    if kind == "log2":
        special |= x == 1
    wide = np.where(special, 1.5, x.astype(np.float64))
    lo, hi = around(_TRUE_VALUE[kind](wide), accuracy(f"mov.{kind}", dtype), dtype)
    if kind == "exp2":
        lo = upper(lo, np.zeros_like(lo))
    if special.any():
        exact = numerics.math(kind, dtype)(x)
        lo, hi = np.where(special, exact, lo), np.where(special, exact, hi)
    return Interval(lo, hi, np.isnan(lo))


def around(true: Scaled, error: float, dtype: DType) -> tuple[Array, Array]:
    """Return the least and greatest float within `error` ulp (after Muller) of a true value.

    The work is done in units of one ulp, where every float near the value is an integer or, below the power of two, a
    multiple of 1/2, above the next one a multiple of 2.
    """
    head, tail, exponent = _normal(true)
    place = np.clip(exponent - 1, dtype.emin, dtype.emax) - (dtype.precision - 1)
    shift = np.clip(exponent - place, -400, 400).astype(np.int32)
    head, tail = np.ldexp(head, shift), np.ldexp(tail, shift)
    widened = error + np.abs(head) * RELATIVE_ERROR
    low, high = two_sum(head, -widened), two_sum(head, widened)
    can_halve = place > dtype.emin - dtype.precision + 1
    lo = -_floor(-low[0], -(low[1] + tail), can_halve, dtype)
    hi = _floor(high[0], high[1] + tail, can_halve, dtype)
    scale = place.astype(np.int32)
    return np.ldexp(lo, scale).astype(dtype.numpy), np.ldexp(hi, scale).astype(dtype.numpy)


def _normal(true: Scaled) -> Scaled:
    """Return a value with its exponent one above that of its leading bit, also just below a power of two."""
    whole, rest = two_sum(true[0], true[1])
    head, shift = np.frexp(whole)
    tail = np.ldexp(rest, -shift)
    below = (np.abs(head) == 0.5) & (head * tail < 0)
    return np.where(below, 2.0 * head, head), np.where(below, 2.0 * tail, tail), true[2] + shift - below


def _floor(head: Float64, tail: Float64, can_halve: Bools, dtype: DType) -> Float64:
    """Return the greatest number of ulps, as a float of the dtype can be, that is not above head + tail."""
    size = np.abs(head)
    power = 2.0**dtype.precision
    grid = np.where(size > power, 2.0, np.where((size < 0.5 * power) & can_halve, 0.5, 1.0))
    steps = head / grid
    whole = np.floor(steps)
    return grid * np.where((whole == steps) & (tail < 0), whole - 1.0, whole)


# --- over intervals -----------------------------------------------------------------------------------------------


def _joined(kind: str, low: Array, high: Array, dtype: DType, nan: Bools) -> Interval:
    """Return the hull of what both ends admit, the end nearer to zero widened where one ulp is larger beyond it.

    Within one binade the ends suffice. Where the values between them reach into larger binades, the set of the first
    value there begins up to twice as far from it.
    """
    both, error = hull(_at(kind, low, dtype), _at(kind, high, dtype)), accuracy(f"mov.{kind}", dtype)
    near = np.where(np.abs(both.lo) < np.abs(both.hi), both.lo, both.hi).astype(np.float64)
    far = np.where(np.abs(both.lo) < np.abs(both.hi), both.hi, both.lo).astype(np.float64)
    crosses = (ulp(near, dtype) != ulp(far, dtype)) & np.isfinite(near) & (near != 0)
    extra = np.where(crosses, 2.0 * error * ulp(near, dtype), 0.0)
    moved = np.where(near > 0, near - extra, near + extra).astype(dtype.numpy)
    return Interval(lower(both.lo, moved), upper(both.hi, moved), both.nan | nan)


def _rising(kind: str, x: Interval, dtype: DType) -> Interval:
    """exp2 over an interval: exact at zero, not beside it."""
    result = _joined(kind, x.lo, x.hi, dtype, x.nan)
    one = np.full(x.lo.shape, 0.5), np.zeros(x.lo.shape), np.ones(x.lo.shape, np.int64)
    return _around_zero(result, x, *around(one, accuracy(f"mov.{kind}", dtype), dtype))


def _around_zero(result: Interval, x: Interval, lo: Array, hi: Array) -> Interval:
    """Return a result with what arguments beside zero add, where zero itself is exact."""
    beside = may_be_zero(x) & (x.lo != x.hi)
    return Interval(
        np.where(beside, lower(result.lo, lo), result.lo), np.where(beside, upper(result.hi, hi), result.hi), result.nan
    )


def _rising_from_zero(kind: str, x: Interval, dtype: DType) -> Interval:
    """log2, sqrt over an interval: NaN below zero."""
    below = (x.lo < 0) & ~np.isnan(x.lo)
    lo = np.where(below & (x.hi >= 0), -np.zeros_like(x.lo), x.lo)
    return _joined(kind, lo, x.hi, dtype, x.nan | below)


def _falling_from_zero(kind: str, x: Interval, dtype: DType) -> Interval:
    """rsqrt over an interval: infinite at zero, with its sign, NaN below."""
    result = _rising_from_zero(kind, x, dtype)
    return _with_poles(result, x, x.hi == 0)


def _falling_by_sign(kind: str, x: Interval, dtype: DType) -> Interval:
    """recip over an interval: each side of zero falls, with a pole on either side of it."""
    result = _joined(kind, x.lo, x.hi, dtype, x.nan)
    infinity = np.full_like(result.lo, np.inf)
    spans = (x.lo < 0) & (x.hi > 0)
    result = Interval(np.where(spans, -infinity, result.lo), np.where(spans, infinity, result.hi), result.nan)
    return _with_poles(result, x, np.zeros(x.lo.shape, np.bool_))


def _with_poles(result: Interval, x: Interval, all_zero: NDArray[Any]) -> Interval:
    """Add +inf where x may be +0 and -inf where it may be -0."""
    infinity = np.full_like(result.lo, np.inf)
    hi = np.where(may_be_plus_zero(x), infinity, np.where(all_zero & ~may_be_plus_zero(x), -infinity, result.hi))
    return Interval(np.where(may_be_minus_zero(x), -infinity, result.lo), hi, result.nan)


def _waves(kind: str, x: Interval, dtype: DType) -> Interval:
    """sin over an interval: between its ends it may pass an extreme, or zero, which is exact, but not beside it."""
    least = np.full_like(x.lo, accuracy(f"mov.{kind}", dtype) * min_subnormal(dtype))
    result = _around_zero(_joined(kind, x.lo, x.hi, dtype, x.nan), x, -least, least)
    lo, hi = x.lo.astype(np.float64) / np.pi, x.hi.astype(np.float64) / np.pi
    far = ~((np.abs(lo) < _SINE_KNOWN) & (np.abs(hi) < _SINE_KNOWN))
    peak = far | (np.floor(hi / 2 - 0.25 + 1e-9) != np.floor(lo / 2 - 0.25 - 1e-9))
    trough = far | (np.floor(hi / 2 + 0.25 + 1e-9) != np.floor(lo / 2 + 0.25 - 1e-9))
    most = np.full_like(result.lo, 1.0 + accuracy(f"mov.{kind}", dtype) * 2.0 ** (1 - dtype.precision))
    point = x.lo == x.hi
    infinite = np.isinf(x.lo) | np.isinf(x.hi)
    hi_end = np.where(peak & ~point, upper(result.hi, most), result.hi)
    lo_end = np.where(trough & ~point, lower(result.lo, -most), result.lo)
    return Interval(lo_end, hi_end, result.nan | infinite)


_OVER: dict[str, Callable[[str, Interval, DType], Interval]] = {
    "exp2": _rising,
    "log2": _rising_from_zero,
    "sqrt": _rising_from_zero,
    "rsqrt": _falling_from_zero,
    "recip": _falling_by_sign,
    "sin": _waves,
}
