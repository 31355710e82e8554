"""x^y of f32 and f64: 2^(y log2 |x|) with the logarithm as a sum of two floats.

Sources: T. Dekker, "A floating-point technique for extending the available precision", 1971; J.-M. Muller, Elementary
Functions, 3rd edition, 11.4; special values from IEEE 754-2019, 9.2.1.
"""

from __future__ import annotations

from math import inf, nan, sqrt
from typing import NamedTuple

from portkit.compiler.derived.algebraic import reciprocal_within
from portkit.compiler.derived.code import Code
from portkit.compiler.derived.exponential import clamp_exponent, significand, times_power_of_two
from portkit.compiler.derived.formats import FORMATS, LOG2_E, Format
from portkit.compiler.derived.rounding import magnitude, trunc
from portkit.spec.builder import Reg

_MOST = 2.0**100
"""As an exponent it makes every number but 1 overflow or vanish, and itself overflows no product."""


class _Pair(NamedTuple):
    """The unevaluated sum of a float and a much smaller one."""

    head: Reg
    tail: Reg


def _sum(c: Code, a: Reg, b: Reg) -> _Pair:
    """Return a + b exactly, where |a| >= |b| or a is zero."""
    head = c.add(a, b)
    return _Pair(head, c.sub(b, c.sub(head, a)))


def _product(c: Code, a: Reg, b: Reg) -> _Pair:
    """Return a b exactly, but for what halves of an odd number of bits lose."""
    head = c.mul(a, b)
    if c.features.fuses(a.type.dtype):
        return _Pair(head, c.fma(a, b, c.neg(head)))
    (a1, a0), (b1, b0) = _halves(c, a), _halves(c, b)
    tail = c.sub(c.mul(a1, b1), head)
    tail = c.add(c.add(tail, c.mul(a1, b0)), c.mul(a0, b1))
    return _Pair(head, c.add(tail, c.mul(a0, b0)))


def _halves(c: Code, x: Reg) -> _Pair:
    f = FORMATS[x.type.dtype]
    mask = (1 << f.dtype.bits) - (1 << (f.dtype.precision + 1) // 2)
    head = c.bits(c.band(c.bits(x, f.unsigned), mask), f.dtype)
    return _Pair(head, c.sub(x, head))


def power(c: Code, x: Reg, y: Reg) -> Reg:
    """Return x^y."""
    f = FORMATS[x.type.dtype]
    size, sign = magnitude(c, x)
    logarithm = _log2(c, size, f)
    head = c.lt(size, inf, c.eq(size, 0.0, -inf, logarithm.head), size)
    factor = c.lt(y, -_MOST, -_MOST, y)
    factor = c.gt(factor, _MOST, _MOST, factor)
    exponent = _product(c, factor, head)
    inside = clamp_exponent(c, exponent.head)
    low = c.eq(inside, exponent.head, c.fma(factor, logarithm.tail, exponent.tail), 0.0)
    shifted = c.add(inside, f.rounder)
    rest = c.add(c.sub(inside, c.add(shifted, -f.rounder)), low)
    result = times_power_of_two(c, c.fma(c.polynomial(rest, f.exp2), rest, 1.0), shifted)
    return _special(c, x, y, size, c.bits(result, f.unsigned), sign)


def _special(c: Code, x: Reg, y: Reg, size: Reg, result: Reg, sign: Reg) -> Reg:
    """Give |x|^y the sign of x where y is odd, and NaN where x is negative and y no integer; 1^y and x^0 are 1."""
    half = c.mul(y, 0.5)
    odd = c.eq(trunc(c, half), half, 0, sign)
    signed = c.bits(c.xor(result, odd), x.type.dtype)
    plain = c.bits(result, x.type.dtype)
    fractional = c.lt(x, 0.0, c.lt(size, inf, nan, plain), plain)
    value = c.eq(trunc(c, y), y, signed, fractional)
    return c.eq(y, 0.0, 1.0, c.eq(x, 1.0, 1.0, value))


def _log2(c: Code, size: Reg, f: Format) -> _Pair:
    """Return log2 of a finite positive number to some 10 bits more than the format has.

    It is k + 2/ln 2 atanh s with s = (m - 1) / (m + 1): the first two terms of the series as pairs, the rest as floats.
    """
    k, fraction = significand(c, size, f)
    bottom = _sum(c, c.like(fraction, 2.0), fraction)
    inverse = reciprocal_within(c, bottom.head, 1 + sqrt(0.5), 1 + sqrt(2.0))
    s = c.mul(fraction, inverse)
    near = _product(c, s, bottom.head)
    rest = c.sub(c.sub(c.sub(fraction, near.head), near.tail), c.mul(s, bottom.tail))
    s_low = c.mul(rest, inverse)
    square = _product(c, s, s)
    cube = _product(c, square.head, s)
    cube_low = c.add(cube.tail, c.fma(square.tail, s, c.mul(c.mul(square.head, s_low), 3.0)))
    first, first_low = _scaled(c, _Pair(s, s_low), f, 1)
    third, third_low = _scaled(c, _Pair(cube.head, cube_low), f, 3)
    third_low = c.fma(c.mul(cube.head, square.head), c.polynomial(square.head, f.atanh), third_low)
    whole = _sum(c, k, first)
    total = _sum(c, whole.head, third)
    low = c.add(c.add(total.tail, whole.tail), c.add(first_low, third_low))
    return _sum(c, total.head, low)


def _scaled(c: Code, x: _Pair, f: Format, divisor: int) -> _Pair:
    """Return x 2 / (divisor ln 2)."""
    head, tail = f.split(2 * LOG2_E / divisor, f.dtype.precision)
    product = _product(c, x.head, c.like(x.head, float(head)))
    low = c.fma(x.head, float(tail), c.fma(x.tail, float(head), product.tail))
    return _Pair(product.head, low)
