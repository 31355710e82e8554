"""The elementwise functions of graphs on sets of values: what a device that keeps its declared accuracy may compute.

Operands are registers of the bounds run (`portkit.reference.planes`): plain arrays, intervals of floats, alternatives
of integers. A function whose accuracy bound is half a unit in the last place gives one value for determined operands;
another gives every float within its bound of the exact result, which is formed in f64.

Letters: f the function in f64, x y registers, e a bound in units in the last place (Spec: accuracy_c1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import TypeAlias

import numpy as np

from portkit.compiler.accuracy import BOUNDS, ROUNDED, ulp_bound
from portkit.compiler.evaluate_functions import evaluate_function
from portkit.compiler.features import Features
from portkit.reference import choices, intervals, lifting
from portkit.reference.bounds import NumericModel
from portkit.reference.planes import (
    Array,
    Bools,
    Choices,
    Interval,
    Value,
    forget,
    interval,
    planes,
    settle,
    undetermined,
    where,
)
from portkit.reference.ulp import round_down, round_up, ulp
from portkit.spec.types import BOOL, DType

Double: TypeAlias = Callable[..., Array]

HOST_ERROR = 2.0**-50
"""Relative error of the elementary functions of NumPy in f64: 4 ulp, as its vector library documents."""
_WIDE = 2.0**18
"""Beyond it an interval of angles is taken to reach both extremes of a sine."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a graph on a device: its name, dtypes, and how the device computes with floats."""

    name: str
    operands: tuple[DType, ...]
    result: DType
    features: Features
    model: NumericModel

    @property
    def dtype(self) -> DType:
        return self.operands[0]

    def plain(self, *xs: Array) -> Array:
        """Return the correctly rounded function of plain arrays."""
        result = evaluate_function(self.name, self.operands, self.result, list(xs), False)
        return np.asarray(result)  # of arrays without axes NumPy makes scalars

    def wide(self, *xs: Array) -> Array:
        """Return the function in f64, not rounded to the dtype."""
        result = evaluate_function(self.name, self.operands, self.result, [x.astype(np.float64) for x in xs], True)
        return np.asarray(result)

    @property
    def bound(self) -> float:
        return ulp_bound(self.name, self.dtype, self.features) if self.name in BOUNDS else 0.0


def apply(function: Function, *xs: Value) -> Value:
    """Return what a function admits of operands that may be open."""
    treated = [treat(x, d, function.model) for x, d in zip(xs, function.operands, strict=True)]
    with np.errstate(all="ignore"):
        result = _on_floats(function)(*treated) if function.dtype.is_float else _on_others(function, treated)
    return treat(settle(result), function.result, function.model)


def known(*xs: Value) -> tuple[Array, ...] | None:
    """Return registers as arrays if all of them are determined."""
    return xs if lifting.all_plain(xs) else None


def treat(x: Value, dtype: DType, model: NumericModel) -> Value:
    """Return a float register with what the device may do to it: flush subnormals, or not know infinities and NaN."""
    if not dtype.is_float:
        return x
    flushed = intervals.flushed(x, dtype) if dtype.name in model.flush else x
    return flushed if model.nonfinite else intervals.open_nonfinite(flushed)


def _on_others(function: Function, xs: list[Value]) -> Value:
    """Functions of integers and bools, where, and conversions from integers."""
    if function.name == "where":
        return _where(*xs)
    if function.name in ("cast", "bits") and function.result.is_float:
        return _to_float(function, xs[0])
    if (plain := known(*xs)) is not None:
        return function.plain(*plain)
    return choices.lift(function.plain, *xs)


def _on_floats(function: Function) -> Callable[..., Value]:
    name = function.name
    if name in _SHAPES:
        return partial(_SHAPES[name], function)
    if function.bound > ROUNDED:
        return partial(_monotone, function)
    return partial(_rounded, function)


# --- what takes one value to one value ----------------------------------------------------------------------------


def _rounded(function: Function, *xs: Value) -> Value:
    """Exact and correctly rounded functions that do not fall: neg, abs and mul have rules of their own."""
    if (plain := known(*xs)) is not None:
        return function.plain(*plain)
    (x,) = (interval(v) for v in xs)
    return _between(function.plain(x.lo), function.plain(x.hi), x)


def _between(first: Array, second: Array, x: Interval) -> Interval:
    """Return the set between two results, NaN where an end is: the operand lies in part outside the domain."""
    sure = np.isnan(first) & np.isnan(second)
    lo, hi = intervals.lower(first, second), intervals.upper(first, second)
    part = np.isnan(first) ^ np.isnan(second)
    lo = np.where(part, -np.inf, lo).astype(first.dtype)
    return Interval(lo, hi, x.nan | sure | part)


def _add(function: Function, x: Value, y: Value) -> Value:
    plain = known(x, y)
    return function.plain(*plain) if plain is not None else intervals.add(function.plain, x, y)


def _sub(function: Function, x: Value, y: Value) -> Value:
    if (plain := known(x, y)) is not None:
        return function.plain(*plain)
    left, right = interval(x), interval(y)
    plus = Function("add", function.operands, function.result, function.features, function.model)
    return intervals.add(plus.plain, left, _negated(right))


def _mul(function: Function, x: Value, y: Value) -> Value:
    plain = known(x, y)
    return function.plain(*plain) if plain is not None else intervals.mul(function.plain, x, y)


def _neg(function: Function, x: Value) -> Value:
    return _negated(x) if isinstance(x, Interval) else function.plain(planes(x)[0])


def _negated(x: Interval) -> Interval:
    return Interval(-x.hi, -x.lo, x.nan)


def _abs(function: Function, x: Value) -> Value:
    if not isinstance(x, Interval):
        return function.plain(planes(x)[0])
    a, b = np.abs(x.lo), np.abs(x.hi)
    least = np.where(intervals.may_be_zero(x), np.zeros_like(a), intervals.lower(a, b))
    return Interval(least, intervals.upper(a, b), x.nan)


def _max(function: Function, x: Value, y: Value) -> Value:
    return _extreme(intervals.maximum, function, x, y)


def _min(function: Function, x: Value, y: Value) -> Value:
    return _extreme(intervals.minimum, function, x, y)


def _extreme(step: Callable[[Value, Value, bool], Value], function: Function, x: Value, y: Value) -> Value:
    plain = known(x, y)
    if plain is not None and not intervals.zero_signs_meet(*plain):
        return function.plain(*plain)
    return step(x, y, True)


# --- what is accurate to a bound ----------------------------------------------------------------------------------


def around(lo: Array, hi: Array, e: float, dtype: DType) -> tuple[Array, Array]:
    """Return the floats of a dtype within e ulp, and the error of this machine, of exact results in [lo, hi]."""
    below = lo - (e * ulp(lo, dtype) + HOST_ERROR * np.abs(lo))
    above = hi + (e * ulp(hi, dtype) + HOST_ERROR * np.abs(hi))
    low = np.where(np.isfinite(lo), round_up(below, dtype), lo).astype(dtype.numpy)
    high = np.where(np.isfinite(hi), round_down(above, dtype), hi).astype(dtype.numpy)
    return low, high


def _monotone(function: Function, x: Value) -> Value:
    ends = interval(x)
    first = function.wide(ends.lo)
    second = first if ends.hi is ends.lo else function.wide(ends.hi)
    return _widened(function, _between(first, second, ends))


def _widened(function: Function, exact: Interval) -> Interval:
    """Return a set of exact results, in f64, with the device's error."""
    lo, hi = around(exact.lo, exact.hi, max(function.bound, ROUNDED), function.result)
    return Interval(lo, hi, exact.nan)


def _recip(function: Function, x: Value) -> Value:
    if not isinstance(x, Interval):
        if function.bound <= ROUNDED:
            return function.plain(planes(x)[0])
        return _monotone(function, x)
    return _widened(function, _inverse(x, function.wide))


def _rsqrt(function: Function, x: Value) -> Value:
    return _widened(function, _inverse(interval(x), function.wide))


def _inverse(x: Interval, f: Double) -> Interval:
    """Return a falling function with a pole at zero, at which its sign is that of the zero."""
    result = _between(f(x.lo), f(x.hi), x)
    across = np.signbit(x.lo) & ~np.signbit(x.hi)
    return Interval(np.where(across, -np.inf, result.lo), np.where(across, np.inf, result.hi), result.nan)


def _div(function: Function, x: Value, y: Value) -> Value:
    if (plain := known(x, y)) is not None:
        if function.bound <= ROUNDED:
            return function.plain(*plain)
        exact = function.wide(*plain)
        return _widened(function, Interval(exact, exact, np.isnan(exact)))
    p, q = interval(x), interval(y)
    corners = [function.wide(a, b) for a in (p.lo, p.hi) for b in (q.lo, q.hi)]
    lo, hi = reduce(intervals.lower, corners), reduce(intervals.upper, corners)
    across = intervals.may_be_zero(q) & ~((q.lo == q.hi) & (np.signbit(q.lo) == np.signbit(q.hi)))
    meet = (intervals.may_be_zero(p) & intervals.may_be_zero(q)) | (
        intervals.may_be_infinite(p) & intervals.may_be_infinite(q)
    )
    lo, hi = np.where(across, -np.inf, lo), np.where(across, np.inf, hi)
    return _widened(function, Interval(lo, hi, p.nan | q.nan | meet | np.isnan(lo)))


def _pow(function: Function, x: Value, y: Value) -> Value:
    """x^y: by its four corners for positive x, else by its own value, or anything where an operand is open."""
    p, q = interval(x), interval(y)
    corners = [function.wide(a, b) for a in (p.lo, p.hi) for b in (q.lo, q.hi)]
    lo, hi = reduce(intervals.lower, corners), reduce(intervals.upper, corners)
    settled = (p.lo == p.hi) & (q.lo == q.hi) | (p.lo > 0) | np.isnan(p.lo) | np.isnan(q.lo)
    lo, hi = np.where(settled, lo, -np.inf), np.where(settled, hi, np.inf)
    nan = np.logical_or.reduce([np.isnan(c) for c in corners])
    return _widened(function, Interval(lo, hi, nan | ~settled | p.nan | q.nan))


def _wave(function: Function, x: Value) -> Value:
    """Sine and cosine: neither changes faster than its argument."""
    if not isinstance(x, Interval):
        exact = function.wide(planes(x)[0])
        return _widened(function, Interval(exact, exact, np.isnan(exact)))
    lo, hi = x.lo.astype(np.float64), x.hi.astype(np.float64)
    half = (hi - lo) / 2 * (1 + HOST_ERROR)
    middle = function.wide(lo + half)
    far = ~((np.abs(lo) < _WIDE) & (np.abs(hi) < _WIDE))
    slack = half + HOST_ERROR * np.maximum(np.abs(lo), np.abs(hi))
    lower, upper = np.where(far, -1.0, middle - slack), np.where(far, 1.0, middle + slack)
    nan = x.nan | intervals.may_be_infinite(x)
    nothing = np.isnan(x.lo)
    lower, upper = (np.where(nothing, np.nan, end) for end in (np.maximum(lower, -1.0), np.minimum(upper, 1.0)))
    return _widened(function, Interval(lower, upper, nan))


def _tan(function: Function, x: Value) -> Value:
    """Tangent: rising between its poles, anything across one."""
    if not isinstance(x, Interval):
        exact = function.wide(planes(x)[0])
        return _widened(function, Interval(exact, exact, np.isnan(exact)))
    lo, hi = x.lo.astype(np.float64), x.hi.astype(np.float64)
    branch = [np.floor(end / math.pi + 0.5 + shift) for end in (lo, hi) for shift in (-HOST_ERROR, HOST_ERROR)]
    same = np.logical_and.reduce([b == branch[0] for b in branch]) & (np.abs(lo) < _WIDE)
    result = _between(function.wide(lo), function.wide(hi), x)
    lower, upper = np.where(same, result.lo, -np.inf), np.where(same, result.hi, np.inf)
    return _widened(function, Interval(lower, upper, result.nan | intervals.may_be_infinite(x)))


# --- comparison, selection, conversion ----------------------------------------------------------------------------


def _less(function: Function, x: Value, y: Value) -> Value:
    if (plain := known(x, y)) is not None:
        return function.plain(*plain)
    return _outcome(*intervals.less(interval(x), interval(y)))


def _equal(function: Function, x: Value, y: Value) -> Value:
    if (plain := known(x, y)) is not None:
        return function.plain(*plain)
    return _outcome(*intervals.equal(interval(x), interval(y)))


def _outcome(holds: Bools, fails: Bools) -> Value:
    never = np.zeros(holds.shape, np.bool_)
    return settle(Choices((holds, ~fails), never))


def _where(condition: Value, x: Value, y: Value) -> Value:
    if not isinstance(condition, Choices):
        return settle(where(planes(condition)[0], x, y))
    return lifting.select(*choices.certainly(condition), x, y)


def _cast(function: Function, x: Value) -> Value:
    if (plain := known(x)) is not None:
        return function.plain(*plain)
    ends = interval(x)
    if function.result.is_float:
        if not function.result.infinities:
            return intervals.overflowing(function.plain, ends, function.result)
        return intervals.monotone(function.plain, ends)
    if function.result is BOOL:
        zero = np.zeros_like(ends.lo)
        holds, fails = intervals.equal(ends, Interval(zero, zero, np.zeros(zero.shape, np.bool_)))
        return _outcome(fails, holds)
    return _to_integer(function, ends)


def _to_integer(function: Function, x: Interval) -> Value:
    least, most = function.plain(x.lo), function.plain(x.hi)
    near = most.astype(np.float64) - least.astype(np.float64) <= 1
    options = [least, most] + ([np.where(x.nan, 0, least).astype(least.dtype)] if x.nan.any() else [])
    return choices.collect(options, ~near)


def _bits(function: Function, x: Value) -> Value:
    """The bits of an open value, and of a NaN made by arithmetic, are unknown (Spec: bits_c1, numeric_c6)."""
    value = planes(x)[0]
    return forget(function.plain(value), undetermined(x) | np.isnan(value))


def _to_float(function: Function, x: Value) -> Value:
    if (plain := known(x)) is not None:
        return function.plain(*plain)
    assert isinstance(x, Choices)
    parts = [function.plain(option) for option in x.alternatives]
    lo, hi = reduce(intervals.lower, parts), reduce(intervals.upper, parts)
    nan = np.logical_or.reduce([np.isnan(p) for p in parts])
    return forget(Interval(lo, hi, nan), x.free)


_SHAPES: dict[str, Callable[..., Value]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "max": _max,
    "min": _min,
    "neg": _neg,
    "abs": _abs,
    "recip": _recip,
    "rsqrt": _rsqrt,
    "pow": _pow,
    "sin": _wave,
    "cos": _wave,
    "tan": _tan,
    "lt": _less,
    "eq": _equal,
    "cast": _cast,
    "bits": _bits,
}
