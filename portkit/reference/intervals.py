"""Float arithmetic on intervals: every function gives a set that holds each result its operands admit.

Rounding to nearest is monotone, so the ends of a result are results at ends. `f` is always the correctly rounded
operation on plain arrays. The order of floats puts -0 before +0, so an interval knows which zeros it holds: [-0, +0] is
both.

Source: IEEE 1788-2015, 4 and 10 (flavor-independent operations), with nearest in place of outward rounding because the
operations of the spec are themselves rounded to nearest (Spec: numeric_c1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from portkit.reference.planes import Array, Bools, Choices, Interval, Origin, Value, interval, merged
from portkit.reference.ulp import is_subnormal
from portkit.spec.types import DType, max_finite

Plain: TypeAlias = Callable[..., Any]


def precedes(a: Array, b: Array) -> Bools:
    """Return where a comes before b in the order of floats with -0 before +0; false where either is NaN."""
    return (a < b) | ((a == b) & np.signbit(a) & ~np.signbit(b))


def lower(a: Array, b: Array) -> Array:
    """Return the earlier of two floats; a number where only one is NaN."""
    return np.where(precedes(b, a) | np.isnan(a), b, a)


def upper(a: Array, b: Array) -> Array:
    """Return the later of two floats; a number where only one is NaN."""
    return np.where(precedes(a, b) | np.isnan(a), b, a)


def may_be_zero(x: Interval) -> Bools:
    """Return where a zero of either sign is possible."""
    return (x.lo <= 0) & (x.hi >= 0)


def may_be_plus_zero(x: Interval) -> Bools:
    """Return where +0 is possible."""
    return (x.lo <= 0) & (x.hi >= 0) & ~((x.hi == 0) & np.signbit(x.hi))


def may_be_minus_zero(x: Interval) -> Bools:
    """Return where -0 is possible."""
    return (x.lo <= 0) & (x.hi >= 0) & ~((x.lo == 0) & ~np.signbit(x.lo))


def may_be_infinite(x: Interval) -> Bools:
    """Return where an infinity is possible."""
    return np.isinf(x.lo) | np.isinf(x.hi)


def hull(a: Value, b: Value) -> Interval:
    """Return the smallest interval that holds both."""
    x, y = interval(a), interval(b)
    return Interval(lower(x.lo, y.lo), upper(x.hi, y.hi), x.nan | y.nan)


def monotone(f: Plain, x: Interval) -> Interval:
    """Apply a non-decreasing function of one operand that gives NaN for NaN only."""
    return Interval(f(x.lo), f(x.hi), x.nan)


def overflowing(f: Plain, x: Interval, dtype: DType) -> Interval:
    """Convert to a dtype without infinities, where numbers beyond the largest give NaN (Spec: cast_c5)."""
    lo: Array = f(x.lo)
    hi: Array = f(x.hi)
    below, above = np.isnan(lo), np.isnan(hi)
    most = dtype.numpy.type(float(max_finite(dtype)))
    # All between two ends that both overflow overflows too, unless they do so on both sides.
    apart = (x.lo < 0) & (x.hi > 0)
    lo = np.where(below & (apart | ~above), -most, lo)
    hi = np.where(above & (apart | ~below), most, hi)
    return Interval(lo, hi, x.nan | below | above)


def add(f: Plain, a: Value, b: Value) -> Interval:
    """Return a + b. NaN arises where infinities of both signs can meet."""
    x, y = interval(a), interval(b)
    nan = x.nan | y.nan | ((x.hi == np.inf) & (y.lo == -np.inf)) | ((x.lo == -np.inf) & (y.hi == np.inf))
    return _filled(f(x.lo, y.lo), f(x.hi, y.hi), nan)


def _filled(lo: Array, hi: Array, nan: Bools) -> Interval:
    """An end that is NaN between members that are not: the other end is the only number left."""
    return Interval(np.where(np.isnan(lo), hi, lo), np.where(np.isnan(hi), lo, hi), nan)


def mul(f: Plain, a: Value, b: Value) -> Interval:
    """Return a * b, the square where both are the same register."""
    x, y = interval(a), interval(b)
    if a is b:
        return _square(f, x)
    corners = [_corner(f, x, y, p, q) for p in (x.lo, x.hi) for q in (y.lo, y.hi)]
    return Interval(_fold(lower, corners), _fold(upper, corners), _product_nan(x, y))


def fma(f: Plain, a: Value, b: Value, c: Value) -> Interval:
    """Return a * b + c rounded once."""
    x, y, z = interval(a), interval(b), interval(c)
    pairs = [(p, q) for p in (x.lo, x.hi) for q in (y.lo, y.hi)]
    if a is b:
        pairs = [(p, p) for p in (x.lo, x.hi, np.where(may_be_zero(x), 0.0, x.lo).astype(x.lo.dtype))]
    lo = [_corner(f, x, y, p, q, z.lo) for p, q in pairs]
    hi = [_corner(f, x, y, p, q, z.hi) for p, q in pairs]
    plus = (may_be_infinite(x) | may_be_infinite(y)) & (_same_sign(x, y) & (z.lo == -np.inf))
    minus = (may_be_infinite(x) | may_be_infinite(y)) & (_opposite_sign(x, y) & (z.hi == np.inf))
    return _filled(_fold(lower, lo), _fold(upper, hi), _product_nan(x, y) | z.nan | plus | minus)


def _square(f: Plain, x: Interval) -> Interval:
    left, right = f(x.lo, x.lo), f(x.hi, x.hi)
    least = np.where(may_be_zero(x), 0.0, lower(left, right)).astype(x.lo.dtype)
    return Interval(least, upper(left, right), x.nan)


def _product_nan(x: Interval, y: Interval) -> Bools:
    meet = (may_be_zero(x) & may_be_infinite(y)) | (may_be_infinite(x) & may_be_zero(y))
    return x.nan | y.nan | meet


def _same_sign(x: Interval, y: Interval) -> Bools:
    return ((x.hi > 0) & (y.hi > 0)) | ((x.lo < 0) & (y.lo < 0))


def _opposite_sign(x: Interval, y: Interval) -> Bools:
    return ((x.hi > 0) & (y.lo < 0)) | ((x.lo < 0) & (y.hi > 0))


def _corner(f: Plain, x: Interval, y: Interval, p: Array, q: Array, *addend: Array) -> Array:
    """Return p * q or p * q + addend; where p*q is 0 * inf, with the signed zero that finite members beside it give."""
    value: Array = f(p, q, *addend)
    clash = ((p == 0) & np.isinf(q) & (y.lo != y.hi)) | (np.isinf(p) & (q == 0) & (x.lo != x.hi))
    if not clash.any():
        return value
    zero = np.where(np.signbit(p) ^ np.signbit(q), -0.0, 0.0).astype(value.dtype)
    return np.where(clash, f(zero, np.ones_like(zero), *addend), value)


def _fold(step: Callable[[Array, Array], Array], parts: list[Array]) -> Array:
    result = parts[0]
    for part in parts[1:]:
        result = step(result, part)
    return result


# --- comparison and selection -------------------------------------------------------------------------------------


def less(a: Interval, b: Interval) -> tuple[Bools, Bools]:
    """Return where a < b certainly holds and where it certainly does not (Spec: select_c2)."""
    nan = a.nan | b.nan
    return (a.hi < b.lo) & ~nan, ~(a.lo < b.hi)


def equal(a: Interval, b: Interval) -> tuple[Bools, Bools]:
    """Return where a == b certainly holds and where it certainly does not (Spec: select_c2).

    A member of a set equals the greatest of the set where no other member can be greater, whatever its own width.
    """
    holds = (a.lo == a.hi) & (b.lo == b.hi) & (a.lo == b.lo)
    if a.origin is not None and b.origin is not None:
        same = (a.origin.name == b.origin.name) & (a.origin.name != 0)
        holds |= same & _is_named(a, a.origin) & _is_named(b, b.origin)
    return holds & ~(a.nan | b.nan), ~((a.lo <= b.hi) & (b.lo <= a.hi))


def _is_named(x: Interval, origin: Origin) -> Bools:
    """Return where a register certainly equals the value that its origin names."""
    greatest = (x.lo > origin.rest) | (origin.rest == -np.inf)
    least = (x.hi < origin.rest) | (origin.rest == np.inf)
    return (origin.kind == 0) | ((origin.kind > 0) & greatest) | ((origin.kind < 0) & least)


def below(x: Interval, other: Interval) -> Interval:
    """Return what is left of `x` where x <= other is known to hold."""
    return Interval(x.lo, np.where(other.hi < x.hi, other.hi, x.hi), x.nan, x.origin)


def above(x: Interval, other: Interval) -> Interval:
    """Return what is left of `x` where x >= other is known to hold."""
    return Interval(np.where(other.lo > x.lo, other.lo, x.lo), x.hi, x.nan, x.origin)


def select(holds: Bools, fails: Bools, a: Value, b: Value) -> Interval:
    """Return `a` where a condition holds, `b` where it fails, and their hull, a new value, where it is open."""
    x, y = interval(a), interval(b)
    return merged(holds, x, merged(fails, y, hull(x, y)))


# --- max and min --------------------------------------------------------------------------------------------------


def maximum(a: Value, b: Value, free_zero: bool) -> Interval:
    """Return max(a, b): NaN if either is NaN; with `free_zero`, max of two zeros may have either sign.

    Spec: reduce_c2, numeric_c2, numeric_c4.
    """
    x, y = interval(a), interval(b)
    lo, hi = _both_numbers(upper, x.lo, y.lo), _both_numbers(upper, x.hi, y.hi)
    if free_zero:
        lo = np.where((lo == 0) & _zeros_differ(x, y), lower(lo, -np.zeros_like(lo)), lo)
    return Interval(lo, hi, x.nan | y.nan, _merged(x, y, 1))


def minimum(a: Value, b: Value, free_zero: bool) -> Interval:
    """Return min(a, b); see `maximum`."""
    x, y = interval(a), interval(b)
    lo, hi = _both_numbers(lower, x.lo, y.lo), _both_numbers(lower, x.hi, y.hi)
    if free_zero:
        hi = np.where((hi == 0) & _zeros_differ(x, y), upper(hi, np.zeros_like(hi)), hi)
    return Interval(lo, hi, x.nan | y.nan, _merged(x, y, -1))


def _both_numbers(pick: Callable[[Array, Array], Array], a: Array, b: Array) -> Array:
    return np.where(np.isnan(b), b, np.where(np.isnan(a), a, pick(a, b)))


def _zeros_differ(x: Interval, y: Interval) -> Bools:
    """Return where x and y can be zeros of different sign."""
    return (may_be_plus_zero(x) & may_be_minus_zero(y)) | (may_be_minus_zero(x) & may_be_plus_zero(y))


def zero_signs_meet(a: Array, b: Array) -> bool:
    """Return whether plain operands hold a pair of zeros of different sign."""
    zeros = (a == 0) & (b == 0)
    return bool(zeros.any()) and bool((zeros & (np.signbit(a) != np.signbit(b))).any())


def _merged(x: Interval, y: Interval, kind: int) -> Origin:
    """Return the origin of the greatest (kind +1) or least (kind -1) of two registers."""
    a, b = _as_members(x, kind), _as_members(y, kind)
    first, tie = (x.hi > y.hi, x.lo >= y.lo) if kind > 0 else (x.lo < y.lo, x.hi <= y.hi)
    first = first | (((x.hi == y.hi) if kind > 0 else (x.lo == y.lo)) & tie)
    name = np.where(first, a.name, b.name)
    loser_end = np.where(first, y.hi, x.hi) if kind > 0 else np.where(first, y.lo, x.lo)
    winner_rest, loser_rest = np.where(first, a.rest, b.rest), np.where(first, b.rest, a.rest)
    loser = np.where((a.name == b.name) & (a.name != 0), loser_rest, loser_end)
    rest = (upper if kind > 0 else lower)(winner_rest, loser)
    return Origin(name, rest, np.full(name.shape, kind, np.int8))


def _as_members(x: Interval, kind: int) -> Origin:
    """Return an origin as that of a set of the given kind; a set of the other kind becomes a nameless member."""
    origin = x.named()
    nothing = np.full(x.lo.shape, -kind * np.inf).astype(x.lo.dtype)
    return Origin(
        np.where(origin.kind == -kind, 0, origin.name),
        np.where(origin.kind == kind, origin.rest, nothing),
        origin.kind,
    )


# --- conversion, flushing, devices without infinities ----------------------------------------------------------------


def flushed(x: Value, dtype: DType, *, rounded: bool = False) -> Value:
    """Return `x` widened to both zeros wherever it may be subnormal (Spec: numeric_c7).

    A result that was rounded to the smallest normal number was perhaps below it before, which is where devices that
    flush look (IEEE 754-2019, 7.5).
    """
    smallest = dtype.numpy.type(2.0**dtype.emin)
    if isinstance(x, Interval):
        smallest = np.nextafter(smallest, dtype.numpy.type(1)) if rounded else smallest
        tiny = ((x.hi > 0) & (x.lo < smallest)) | ((x.lo < 0) & (x.hi > -smallest))
    else:
        assert not isinstance(x, Choices)
        tiny = is_subnormal(x, dtype) | (rounded & (np.abs(x) == smallest))
    if not tiny.any():
        return x
    known = interval(x)
    zero, origin = np.zeros_like(known.lo), known.named()
    return Interval(
        np.where(tiny, lower(known.lo, -zero), known.lo),
        np.where(tiny, upper(known.hi, zero), known.hi),
        known.nan,
        Origin(np.where(tiny, 0, origin.name), origin.rest, origin.kind),
    )


def open_nonfinite(x: Value) -> Value:
    """Return `x` with nothing known wherever it may be infinite or NaN: a device without them owes nothing there."""
    plain = x if not isinstance(x, Interval) else x.lo
    assert not isinstance(plain, Choices)
    silent = ~np.isfinite(plain) if not isinstance(x, Interval) else x.nan | may_be_infinite(x)
    if not silent.any():
        return x
    known, inf = interval(x), np.full_like(plain, np.inf)
    return Interval(np.where(silent, -inf, known.lo), np.where(silent, inf, known.hi), known.nan | silent)
