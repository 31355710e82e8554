"""recip, sqrt, rsqrt and division of f32 and f64.

Without native forms, recip, sqrt and division are correctly rounded: an estimate by Newton's iteration in floats is
made exact by its remainder in integers, which is small and therefore known from its low half alone. Source: Muller et
al., Handbook of Floating-Point Arithmetic, 2nd edition, 4.7 and 8.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import inf, nan

from portkit.compiler.derived.code import Code
from portkit.compiler.derived.formats import FORMATS, Format
from portkit.compiler.derived.rounding import magnitude, with_sign
from portkit.spec.builder import Reg
from portkit.spec.types import infinity_bits

_RECIPROCAL_STEPS = {24: 3, 53: 4}
_ROOT_STEPS = {24: 3, 53: 4}
_ROOT_SHIFT = Fraction("0.0450466")
_GUARD = 2
"""Bits of a quotient beyond the significand; the last of them also stands for everything after it."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """A positive number as significand * 2^(exponent - bias - mantissa), the significand having its leading bit."""

    significand: Reg
    exponent: Reg


def _parts(c: Code, size: Reg, f: Format) -> _Parts:
    """Return the parts of a finite |x|; those of zero mean nothing."""
    tiny = c.lt(size, f.least_normal)
    bits = c.bits(c.where(tiny, c.mul(size, 2.0**f.dtype.precision), size), f.signed)
    unit = 1 << f.mantissa
    exponent = c.add(c.shr(bits, f.mantissa), c.where(tiny, c.like(bits, -f.dtype.precision), 0))
    return _Parts(c.bor(c.band(bits, unit - 1), unit), exponent)


def _fraction(c: Code, significand: Reg, f: Format) -> Reg:
    """Return a significand as a float in [1, 2)."""
    return c.bits(c.bor(c.band(significand, (1 << f.mantissa) - 1), f.one), f.dtype)


def reciprocal_within(c: Code, x: Reg, low: float, high: float) -> Reg:
    """Return 1 / x natively, or to about 1 ulp for x in [low, high], whose ends are not further apart than 1 and 2.

    The first estimate is the line that errs least, for [1, 2] by 1/17, the rest Newton's iteration.
    """
    if c.features.has("recip", x.type.dtype):
        return c.math("recip", x)
    slope = 2.0 / (low * high + (low + high) ** 2 / 4)
    y = c.fma(x, -slope, slope * (low + high))
    minus = c.neg(x)
    for _ in range(_RECIPROCAL_STEPS[x.type.dtype.precision]):
        y = c.fma(y, c.fma(minus, y, 1.0), y)
    return y


def near_reciprocal(c: Code, x: Reg) -> Reg:
    """Return 1 / x natively, or to about 1 ulp for normal x with a normal reciprocal; NaN stays.

    x = m s with s = +-2^e and m in [1, 2), which is the product of x by 1/s.
    """
    if c.features.has("recip", x.type.dtype):
        return c.math("recip", x)
    f = FORMATS[x.type.dtype]
    bits = c.bits(x, f.unsigned)
    power = c.band(bits, (1 << f.dtype.bits) - (1 << f.mantissa))
    scale = c.bits(c.sub(c.like(bits, 2 * f.one), power), f.dtype)
    return c.mul(reciprocal_within(c, c.mul(x, scale), 1.0, 2.0), scale)


def _divide(c: Code, a: Reg, b: Reg) -> Reg:
    """Return a / b correctly rounded, in base forms."""
    f = FORMATS[a.type.dtype]
    (size_a, sign_a), (size_b, sign_b) = magnitude(c, a), magnitude(c, b)
    top, bottom = _parts(c, size_a, f), _parts(c, size_b, f)
    less = c.lt(top.significand, bottom.significand)
    numerator = c.where(less, c.shl(top.significand, 1), top.significand)
    exponent = c.add(c.sub(top.exponent, bottom.exponent), f.bias)
    exponent = c.add(exponent, c.where(less, c.like(exponent, -1), 0))
    quotient = _quotient(c, numerator, bottom.significand, f)
    sign = c.xor(sign_a, sign_b)
    result = with_sign(c, _pack(c, exponent, quotient, f), sign)
    return _ordinary(c, size_a, _ordinary(c, size_b, result, _limit(c, a, b)), _limit(c, a, b))


def _quotient(c: Code, top: Reg, bottom: Reg, f: Format) -> Reg:
    """Return floor(2^(precision + 1) top / bottom), the last bit set where there is a remainder.

    The quotient of the significands is in [1, 2). The second estimate is biased away from zero by what its rounding may
    take from it, so that the last remainder is never as large as the divisor.
    """
    p = f.dtype.precision
    y = reciprocal_within(c, _fraction(c, bottom, f), 1.0, 2.0)
    near = c.mul(c.mul(c.cast(top, f.dtype), y), 2.0 ** (p + 1 - f.mantissa))
    quotient = c.cast(near, f.signed)
    rest = c.sub(c.shl(top, p + 1), c.mul(quotient, bottom))
    step = c.cast(c.mul(c.mul(c.cast(rest, f.dtype), y), 2.0**-f.mantissa * (1 + 2.0 ** (4 - p))), f.signed)
    quotient, rest = c.add(quotient, step), c.sub(rest, c.mul(step, bottom))
    below = c.lt(rest, 0)
    quotient = c.add(quotient, c.where(below, c.like(quotient, -1), 0))
    rest = c.where(below, c.add(rest, bottom), rest)
    return c.bor(quotient, c.eq(rest, 0, 0, 1))


def _pack(c: Code, exponent: Reg, quotient: Reg, f: Format) -> Reg:
    """Return quotient * 2^(exponent - bias - precision - 1), rounded once to nearest even."""
    deep = c.lt(exponent, 1, c.sub(c.like(exponent, 1), exponent), 0)
    shift = c.lt(deep, f.dtype.bits - 1 - _GUARD, c.add(deep, _GUARD), f.dtype.bits - 1)
    half = c.shl(c.like(shift, 1), c.add(shift, -1))
    odd = c.band(c.shr(quotient, shift), 1)
    rounded = c.shr(c.add(c.add(quotient, c.add(half, -1)), odd), shift)
    base = c.shl(c.add(c.lt(exponent, 1, 1, exponent), -1), f.mantissa)
    number = c.lt(exponent, 2 * f.bias + 1, c.add(base, rounded), infinity_bits(f.dtype))
    return c.bits(number, f.dtype)


def _ordinary(c: Code, size: Reg, result: Reg, other: Reg) -> Reg:
    """Return `result` where 0 < size < inf, else `other`."""
    return c.lt(size, inf, c.eq(size, 0.0, other, result), other)


def _limit(c: Code, a: Reg, b: Reg) -> Reg:
    """Return a / b where a or b is zero, infinite or NaN: a times what 1 / b is then, or has the sign of."""
    size, sign = magnitude(c, b)
    inverse = c.eq(size, inf, 0.0, c.eq(size, 0.0, inf, c.like(b, 1.0)))
    return c.mul(a, c.eq(b, b, with_sign(c, inverse, sign), b))


def div(c: Code, a: Reg, b: Reg) -> Reg:
    """Return a / b.

    With a native reciprocal r and `mul.add`, q = a r is corrected by its remainder: q + r (a - b q). Both numbers are
    scaled by a power of two where r would not be normal, which depends on b alone, so that it can leave a loop; a is
    scaled again where q or the remainder might not be, and the result back. Source: P. Markstein, "Computation of
    elementary functions on the IBM RISC System/6000 processor", 1990.
    """
    dtype = a.type.dtype
    if not (c.features.has("recip", dtype) and c.features.fuses(dtype)):
        return _divide(c, a, b)
    width, f = dtype.bits, FORMATS[dtype]
    up, down = 2.0 ** (2 * width), 2.0 ** (-2 * width)
    scale = _scale(c, b, (down, up), (2.0 ** (dtype.emax + 1 - width), 2.0**-width))
    a, b = c.mul(a, scale), c.mul(b, scale)
    r, minus = c.math("recip", b), c.neg(b)
    scale = _scale(c, a, (2.0 ** (dtype.emin + 2 * width), up), (2.0 ** (width + 8), down))
    a = c.mul(a, scale)
    q = c.mul(a, r)
    exact = c.fma(c.fma(minus, q, a), r, q)
    back = c.sub(c.like(c.bits(scale, f.unsigned), 2 * f.one), c.bits(scale, f.unsigned))
    # Zero keeps its sign, and infinity has no remainder.
    return c.mul(c.eq(q, c.add(q, q), q, exact), c.bits(back, dtype))


def _scale(c: Code, x: Reg, small: tuple[float, float], large: tuple[float, float]) -> Reg:
    """Return the factor for |x| below the first limit, or above the second; else 1. Each is a limit and a factor."""
    size, _ = magnitude(c, x)
    return c.lt(size, small[0], small[1], c.gt(size, large[0], c.like(size, large[1]), 1.0))


def recip(c: Code, x: Reg) -> Reg:
    """Return 1 / x."""
    return c.math("recip", x) if c.features.has("recip", x.type.dtype) else _divide(c, c.like(x, 1.0), x)


# --- roots --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Root:
    """x = fraction * 4^half, the fraction in [1, 4).

    `significand` is the fraction in units of 2^-mantissa, `inverse` one over its root.
    """

    significand: Reg
    fraction: Reg
    half: Reg
    inverse: Reg


def _root(c: Code, x: Reg, f: Format) -> _Root:
    """Return an estimate of about 1 ulp: an integer seed (Lomont 2003), off by 3.4 %, and Newton's iteration."""
    parts = _parts(c, x, f)
    exponent = c.add(parts.exponent, -f.bias)
    odd = c.band(exponent, 1)
    significand = c.shl(parts.significand, odd)
    fraction = c.mul(c.cast(significand, f.dtype), 2.0**-f.mantissa)
    seed = round(Fraction(3, 2) * (f.bias - _ROOT_SHIFT) * (1 << f.mantissa))
    y = c.bits(c.sub(c.like(odd, seed), c.shr(c.bits(fraction, f.signed), 1)), f.dtype)
    half = c.mul(fraction, -0.5)
    for _ in range(_ROOT_STEPS[f.dtype.precision]):
        y = c.fma(y, c.fma(c.mul(half, y), y, 0.5), y)
    return _Root(significand, fraction, c.shr(exponent, 1), y)


def sqrt(c: Code, x: Reg) -> Reg:
    """Return the square root."""
    if c.features.has("sqrt", x.type.dtype):
        return c.math("sqrt", x)
    f = FORMATS[x.type.dtype]
    p = f.dtype.precision
    root = _root(c, x, f)
    near = c.cast(c.mul(c.mul(root.fraction, root.inverse), 2.0**p), f.signed)
    rest = c.sub(c.shl(root.significand, p + 1), c.mul(near, near))
    slope = c.mul(root.inverse, 2.0 ** (-p - 1) * (1 + 2.0 ** (4 - p)))
    step = c.cast(c.mul(c.cast(rest, f.dtype), slope), f.signed)
    rest = c.sub(rest, c.mul(step, c.add(c.shl(near, 1), step)))
    floor = c.add(c.add(near, step), c.lt(rest, 0, -1, 0))
    # A root of precision + 1 bits is never half way between two floats, for its square would have too many bits.
    rounded = c.shr(c.add(floor, 1), 1)
    bits = c.add(c.shl(c.add(root.half, f.bias - 1), f.mantissa), rounded)
    result = c.lt(x, inf, c.bits(bits, f.dtype), x)
    return c.eq(x, 0.0, x, c.lt(x, 0.0, nan, result))


def rsqrt(c: Code, x: Reg) -> Reg:
    """Return 1 / sqrt(x); of -0 it is -inf (IEEE 754-2019, 9.2.1)."""
    if c.features.has("rsqrt", x.type.dtype):
        return c.math("rsqrt", x)
    f = FORMATS[x.type.dtype]
    root = _root(c, x, f)
    scale = c.bits(c.shl(c.sub(c.like(root.half, f.bias), root.half), f.mantissa), f.dtype)
    result = c.lt(x, inf, c.mul(root.inverse, scale), c.eq(x, inf, 0.0, x))
    _, sign = magnitude(c, x)
    return c.eq(x, 0.0, with_sign(c, c.like(x, inf), sign), c.lt(x, 0.0, nan, result))
