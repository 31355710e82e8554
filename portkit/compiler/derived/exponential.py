"""exp, exp2, log and log2 of f32 and f64.

Sources: W. J. Cody and W. Waite, Software Manual for the Elementary Functions (1980), for arguments reduced by a
constant in two parts; J.-M. Muller, Elementary Functions, 3rd edition, chapters 3 and 11.
"""

from __future__ import annotations

from math import inf, nan, sqrt

from portkit.compiler.derived.code import Code
from portkit.compiler.derived.formats import FORMATS, LN2, LOG2_E, Format
from portkit.spec.builder import Reg
from portkit.spec.types import encode

_SPARE = 2
"""Exponents beyond the largest and the least number, so that a clamped argument still overflows or vanishes."""


def clamp(c: Code, x: Reg, low: float | None, high: float | None) -> Reg:
    """Return x cut to [low, high]; NaN stays. The selects are the maximum and minimum instructions of most machines."""
    if low is not None:
        x = c.lt(x, low, low, x)
    return x if high is None else c.gt(x, high, high, x)


def exp(c: Code, x: Reg) -> Reg:
    """Return e^x."""
    f = FORMATS[x.type.dtype]
    least, most = f.dtype.emin - f.mantissa - _SPARE, f.dtype.emax + _SPARE
    return exp_inside(c, clamp(c, x, float(least * LN2), float(most * LN2)))


def exp_inside(c: Code, x: Reg) -> Reg:
    """Return e^x where x is NaN or within what `exp` cuts it to.

    x = 2k ln 2 + r with |r| <= ln 2; e^r by a polynomial, then twice the factor 2^k: neither over- nor underflows
    before the product does, so that subnormal results are rounded once.
    """
    f = FORMATS[x.type.dtype]
    shifted = c.fma(x, float(LOG2_E / 2), f.rounder)
    k = c.add(shifted, -f.rounder)
    head, tail = f.split(2 * LN2, f.dtype.precision - (f.bias.bit_length()))
    r = c.fma(k, -float(tail), c.fma(k, -float(head), x))
    series = c.polynomial(r, f.exp)
    if c.features.fuses(f.dtype):
        power = c.fma(c.fma(series, r, 1.0), r, 1.0)
    else:  # as many roundings, but of smaller numbers
        power = c.add(c.add(c.mul(series, c.mul(r, r)), r), 1.0)
    factor = _power_of_two(c, c.bits(shifted, f.signed), f)
    return c.mul(c.mul(power, factor), factor)


def _power_of_two(c: Code, n: Reg, f: Format) -> Reg:
    """Return 2^n, given n in the low bits of an integer."""
    return c.bits(c.add(c.shl(n, f.mantissa), f.one), f.dtype)


def exp2(c: Code, x: Reg) -> Reg:
    """Return 2^x; exact where x is an integer.

    x = n + f with |f| <= 1/2, which is exact; 2^f by a polynomial, then 2^n in two factors.
    """
    if c.features.has("exp2", x.type.dtype):
        return c.math("exp2", x)
    f = FORMATS[x.type.dtype]
    x = clamp_exponent(c, x)
    shifted = c.add(x, f.rounder)
    rest = c.sub(x, c.add(shifted, -f.rounder))
    return times_power_of_two(c, c.fma(c.polynomial(rest, f.exp2), rest, 1.0), shifted)


def clamp_exponent(c: Code, x: Reg) -> Reg:
    """Return x cut to exponents of 2 just beyond those of the format."""
    dtype = x.type.dtype
    return clamp(c, x, float(dtype.emin - dtype.precision + 1 - _SPARE), float(dtype.emax + _SPARE))


def times_power_of_two(c: Code, x: Reg, shifted: Reg) -> Reg:
    """Return x 2^n, given the float n + `rounder`: in two factors, so that subnormal results are rounded once."""
    f = FORMATS[x.type.dtype]
    n = c.bits(shifted, f.signed)
    half = c.shr(n, 1)
    return c.mul(c.mul(x, _power_of_two(c, half, f)), _power_of_two(c, c.sub(n, half), f))


def log(c: Code, x: Reg) -> Reg:
    """Return the natural logarithm: x = 2^k (1+f), k ln 2 + (f + f^2 P(f)), the first product being exact."""
    f = FORMATS[x.type.dtype]
    k, rest = significand(c, x, f)
    head, tail = f.split(LN2, f.dtype.precision - f.bias.bit_length() - 1)
    square = c.mul(rest, rest)
    low = c.fma(k, float(tail), c.mul(square, c.polynomial(rest, f.log)))
    return _special(c, x, c.fma(k, float(head), c.add(rest, low)))


def log2(c: Code, x: Reg) -> Reg:
    """Return the logarithm to base 2, exact where x is a power of two: k + (f log2 e + f^2 P(f))."""
    if c.features.has("log2", x.type.dtype):
        return c.math("log2", x)
    f = FORMATS[x.type.dtype]
    k, rest = significand(c, x, f)
    head, tail = f.split(LOG2_E, f.dtype.precision)
    square = c.mul(rest, rest)
    low = c.fma(rest, float(tail), c.mul(square, c.polynomial(rest, f.log2)))
    return _special(c, x, c.add(k, c.fma(rest, float(head), low)))


def significand(c: Code, x: Reg, f: Format) -> tuple[Reg, Reg]:
    """Return k and f with x = 2^k (1+f) and 1+f between sqrt(1/2) and sqrt(2), for finite positive x."""
    tiny = c.lt(x, f.least_normal)
    bits = c.bits(c.where(tiny, c.mul(x, 2.0**f.dtype.precision), x), f.signed)
    exponent = c.shr(c.add(bits, -encode(f.dtype, sqrt(0.5))), f.mantissa)
    fraction = c.sub(bits, c.shl(exponent, f.mantissa))
    k = c.add(c.cast(exponent, f.dtype), c.where(tiny, c.like(x, -float(f.dtype.precision)), 0.0))
    return k, c.add(c.bits(fraction, f.dtype), -1.0)


def _special(c: Code, x: Reg, result: Reg) -> Reg:
    """Zero gives -inf, a negative number NaN; infinity and NaN give themselves (IEEE 754-2019, 9.2.1)."""
    result = c.lt(x, inf, result, x)
    result = c.lt(x, 0.0, nan, result)
    return c.eq(x, 0.0, -inf, result)
