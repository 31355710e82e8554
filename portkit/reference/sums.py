"""What a float sum or product admits when its order is free (Spec: numeric_c2, group_c2).

Letters: S the exact sum, n how many terms are not zero, u the unit roundoff of the accumulator, g(k) = k*u / (1 - k*u).
Whatever the order, |result - S| <= g(n-1) * sum|x| + ulp(S)/2, the last term for the rounding to a narrower result.
Nothing is free, and the result determined, where at most two terms are not zero, and where no order ever rounds: every
term is a multiple of some q and sum|x| <= 2^p * q.

Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, 3.1 and 4.2;
C.-P. Jeannerod, S. M. Rump, "Improved error bounds for inner products in floating-point arithmetic", 2013 (k*u, any k).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from portkit.reference.planes import Array, Bools, Interval, Value, interval, settle
from portkit.reference.rounding import narrow, to_odd, two_sum
from portkit.reference.ulp import Float64, largest, min_normal, round_down, round_up, ulp
from portkit.spec.types import BF16, F16, F32, F64, DType

FAR_UP = 2.0**960
SCALE = 2.0**-64
"""f64 terms beyond FAR_UP are scaled by this, so that their sums stay finite."""


class Groups(Protocol):
    """How terms are grouped into sums."""

    def fold(self, step: np.ufunc, x: Array) -> Array:
        """Return one element per sum."""
        ...

    def spread(self, x: Array) -> Array:
        """Return one element per term, that of its sum."""
        ...


@dataclass(frozen=True, slots=True)
class Along:
    """Sums along one axis, which keeps length 1."""

    axis: int

    def fold(self, step: np.ufunc, x: Array) -> Array:
        return step.reduce(x, axis=self.axis, keepdims=True)

    def spread(self, x: Array) -> Array:
        return x


@dataclass(frozen=True, slots=True)
class Segments:
    """Sums of consecutive runs of terms: where each starts, and the sum that each term belongs to."""

    starts: NDArray[np.intp]
    owner: NDArray[np.intp]

    def fold(self, step: np.ufunc, x: Array) -> Array:
        return step.reduceat(x, self.starts)

    def spread(self, x: Array) -> Array:
        return x[self.owner]


def accumulator(dtype: DType) -> DType:
    """Return the dtype in which a reduction by add accumulates (Spec: group_c2)."""
    return F32 if dtype in (F16, BF16) else dtype


@dataclass(frozen=True, slots=True)
class Rule:
    """How sums are formed: the dtype of the terms and the result, that of the accumulator, those that may flush."""

    dtype: DType
    accumulator: DType
    flush: frozenset[str]

    @property
    def flush_limit(self) -> float:
        """Numbers below it may be flushed on the way; 0 where none are."""
        return max((min_normal(d) for d in (self.dtype, self.accumulator) if d.name in self.flush), default=0.0)

    def flush_error(self, terms: Float64) -> Float64:
        """Return how much flushing may take from a sum: every operand and result once, then the last rounding."""
        steps = 2 * terms - 1
        total = np.zeros_like(terms)
        if self.accumulator.name in self.flush:
            total = total + steps * min_normal(self.accumulator)
        if self.dtype != self.accumulator and self.dtype.name in self.flush:
            total = total + (terms + 1) * min_normal(self.dtype)
        return total


def free_sum(terms: Value, groups: Groups, rule: Rule) -> Value:
    """Return what the sum of each group of terms admits when its order is free."""
    x = interval(terms)
    lo = x.lo.astype(np.float64)
    hi = lo if x.hi is x.lo else x.hi.astype(np.float64)
    infinite = np.isinf(lo) | np.isinf(hi)
    lo, hi = np.where(np.isfinite(lo), lo, 0.0), np.where(np.isfinite(hi), hi, 0.0)
    size = np.maximum(np.abs(lo), np.abs(hi))
    scale = np.where(groups.fold(np.maximum, size) > FAR_UP, SCALE, 1.0)
    if (scale != 1).any():
        lo, hi, size = (part * groups.spread(scale) for part in (lo, hi, size))
    low = exact_sum(lo, groups)
    high = low if x.hi is x.lo else exact_sum(hi, groups)
    total, count = groups.fold(np.add, size), groups.fold(np.add, (size != 0).astype(np.float64))
    error, growth = _order_error(total, count, rule, scale)
    settled = _never_free(lo, hi, size, total, count, groups, rule, scale) & (high[0] == low[0])
    half = 0.5 * ulp(np.maximum(np.abs(low[0]), np.abs(high[0])) / scale, rule.dtype) * scale
    ends = _ends(low, high, error + half, rule.dtype, scale)
    if settled.any():
        exact = _rounded_once(low, scale, rule)
        ends = (
            np.where(settled, _zero_as(exact, x.lo, groups), ends[0]),
            np.where(settled, _zero_as(exact, x.hi, groups), ends[1]),
        )
    limit = largest(rule.accumulator) * scale
    wild = (growth >= 1) & groups.fold(np.logical_or, infinite)
    plus = (groups.fold(np.add, np.maximum(hi, 0.0)) + error + half > limit) & ~settled | wild
    minus = (groups.fold(np.add, np.maximum(-lo, 0.0)) + error + half > limit) & ~settled | wild
    return settle(_with_infinities(ends, plus, minus, x, groups))


def exact_sum(x: Float64, groups: Groups) -> tuple[Float64, Float64]:
    """Return the sum of each group as a pair, with an error below 2^-100 of the largest term.

    Source: S. M. Rump, T. Ogita, S. Oishi, "Accurate floating-point summation", part I, 2008: parts that are all
    multiples of one power of two are added without error.
    """
    _, top = np.frexp(groups.fold(np.maximum, np.abs(x)))
    _, room = np.frexp(groups.fold(np.add, np.ones_like(x)))
    parts: list[Float64] = []
    for place in (top + room + 1, top + 2 * (room + 1) - F64.precision):
        unit = groups.spread(np.ldexp(1.0, place))
        part = (x + unit) - unit
        parts.append(groups.fold(np.add, part))
        x = x - part
    head, tail = two_sum(*parts)
    return two_sum(head, tail + groups.fold(np.add, x))


def _order_error(total: Float64, count: Float64, rule: Rule, scale: Float64) -> tuple[Float64, Float64]:
    """Return how far any order can be from the exact sum, and the factor of sum|x| in it.

    The factor is g(n-1) up to k*u = 1/2, beyond which it is k*u. It is widened by 2^-20 of itself, more than the
    rounding errors made in computing it.
    """
    k = np.maximum(count - 1, 0) * 2.0**-rule.accumulator.precision
    growth = np.where(k < 0.5, k / (1 - np.minimum(k, 0.5)), k)
    flush = np.where(count > 0, rule.flush_error(count), 0.0) * scale
    return (growth * total + flush) * (1 + 2.0**-20), growth


def _never_free(
    lo: Float64, hi: Float64, size: Float64, total: Float64, count: Float64, groups: Groups, rule: Rule, scale: Float64
) -> Bools:
    """Return where every order gives the same result: at most two nonzero terms, or no rounding at all."""
    same = groups.fold(np.logical_and, lo == hi)
    quantum = groups.fold(np.minimum, lowest_bit(size))
    exact = (total <= quantum * 2.0**rule.accumulator.precision) & (total <= largest(rule.accumulator) * scale)
    return same & (exact | (count <= 2)) & ((quantum >= rule.flush_limit * scale) | (count == 0))


def lowest_bit(x: Float64) -> Float64:
    """Return the value of the last significand bit that is set; inf for zero."""
    significand, exponent = np.frexp(x)
    digits = np.ldexp(significand, F64.precision).astype(np.int64)
    return np.where(x == 0, np.inf, np.ldexp((digits & -digits).astype(np.float64), exponent - F64.precision))


def _rounded_once(pair: tuple[Float64, Float64], scale: Float64, rule: Rule) -> Array:
    """Return an exact sum rounded to the accumulator and then to the result."""
    wide = pair[0] / scale if rule.accumulator == F64 else to_odd(*pair)
    return narrow(narrow(wide, rule.accumulator).astype(np.float64), rule.dtype)


def _zero_as(value: Array, terms: Array, groups: Groups) -> Array:
    """Return sums with the sign of zero that addition gives: -0 where every term is -0, else +0."""
    minus = groups.fold(np.logical_and, (terms == 0) & np.signbit(terms))
    return np.where(value == 0, np.where(minus, -0.0, 0.0).astype(value.dtype), value)


def _ends(
    low: tuple[Float64, Float64], high: tuple[Float64, Float64], error: Float64, dtype: DType, scale: Float64
) -> tuple[Array, Array]:
    """Return the floats of a dtype nearest inside [low - error, high + error]."""
    below, below_tail = two_sum(low[0], -error)
    above, above_tail = two_sum(high[0], error)
    head, tail = two_sum(below, below_tail + low[1])
    top, top_tail = two_sum(above, above_tail + high[1])
    return round_up(head / scale, dtype, tail), round_down(top / scale, dtype, top_tail)


def _with_infinities(ends: tuple[Array, Array], plus: Bools, minus: Bools, x: Interval, groups: Groups) -> Interval:
    """Return sums with what infinite and NaN terms, or an overflow on the way, add to them."""
    lo, hi = ends
    if not (plus.any() or minus.any() or x.nan.any() or np.isinf(x.lo).any() or np.isinf(x.hi).any()):
        return Interval(lo, hi, np.zeros(lo.shape, np.bool_))
    plus, plus_sure = plus | _any(x.hi == np.inf, groups), _any(x.lo == np.inf, groups)
    minus, minus_sure = minus | _any(x.lo == -np.inf, groups), _any(x.hi == -np.inf, groups)
    lo = np.where(plus_sure, np.inf, np.where(minus, -np.inf, lo)).astype(lo.dtype)
    hi = np.where(minus_sure, -np.inf, np.where(plus, np.inf, hi)).astype(hi.dtype)
    sure = _any(np.isnan(x.lo), groups) | (plus_sure & minus_sure)
    nan = np.full_like(lo, np.nan)
    return Interval(np.where(sure, nan, lo), np.where(sure, nan, hi), sure | _any(x.nan, groups) | (plus & minus))


def _any(condition: Bools, groups: Groups) -> Bools:
    return groups.fold(np.logical_or, condition)
