"""Functions written in base forms for the kernels of the suite: exp2, log2, reciprocal, inverse square root of f32.

They are not the library's derivations: what counts here is that every step is one rounded base form, so that any device
gives the same bits. Seeds and series are textbook ones.
"""

from __future__ import annotations

from math import factorial, log

from portkit.conformance.cases.writing import Writer
from portkit.spec.builder import Reg

_ROUNDING = 12582912.0
"""1.5 * 2^23: adding and subtracting it rounds an f32 to an integer."""
_LN2 = log(2.0)
_EXP2_TERMS = 7
_LOG2_TERMS = 6


def exp2(w: Writer, x: Reg) -> Reg:
    """Return 2^x: x = n + f, a Taylor polynomial in f, then two powers of two, so that subnormals round once."""
    clamped = w.minimum(w.maximum(x, -160.0), 130.0)
    whole = w.plus(w.plus(clamped, _ROUNDING), -_ROUNDING)
    f = w.minus(clamped, whole)
    value = w.f32(_LN2 ** (_EXP2_TERMS - 1) / factorial(_EXP2_TERMS - 1))
    for k in reversed(range(_EXP2_TERMS - 1)):
        value = w.plus(w.mul(value, f), _LN2**k / factorial(k))
    n = w.cast(whole, "i32")
    half = w.shr(n, 1)
    rest = w.minus(n, half)
    scaled = w.mul(w.mul(value, _power(w, half)), _power(w, rest))
    return w.eq(x, x, scaled, x)


def _power(w: Writer, n: Reg) -> Reg:
    """2^n for n in the normal range, from the exponent bits."""
    return w.bits(w.shl(w.plus(n, 127), 23), "f32")


def recip(w: Writer, x: Reg) -> Reg:
    """Return about 1 / x for normal x: an integer seed and three Newton steps y (2 - x y)."""
    magnitude = w.band(w.bits(x, "i32"), 0x7FFFFFFF)
    seed = w.minus(w.i32(0x7EF311C3), magnitude)
    sign = w.band(w.bits(x, "i32"), -(2**31))
    y = w.bits(w.bor(seed, sign), "f32")
    for _ in range(3):
        y = w.mul(y, w.plus(w.times(w.mul(x, y), -1.0), 2.0))
    return y


def rsqrt(w: Writer, x: Reg) -> Reg:
    """Return about 1 / sqrt(x) for normal positive x: an integer seed and three Newton steps y (3/2 - x/2 y y)."""
    y = w.bits(w.minus(w.i32(0x5F3759DF), w.shr(w.bits(x, "i32"), 1)), "f32")
    half = w.times(x, 0.5)
    for _ in range(3):
        y = w.mul(y, w.plus(w.times(w.mul(w.mul(half, y), y), -1.0), 1.5))
    return y


def log2(w: Writer, x: Reg) -> Reg:
    """Return log2(x) for normal positive x.

    The exponent plus (2/ln 2) artanh(s) with s = (m-1)/(m+1) and m in [sqrt(1/2), sqrt(2)).
    """
    offset = w.plus(w.bits(x, "i32"), -0x3F3504F3)
    exponent = w.shr(offset, 23)
    mantissa = w.bits(w.plus(w.band(offset, 0x7FFFFF), 0x3F3504F3), "f32")
    s = w.mul(w.plus(mantissa, -1.0), recip(w, w.plus(mantissa, 1.0)))
    square = w.mul(s, s)
    series = w.f32(1.0 / (2 * _LOG2_TERMS - 1))
    for k in reversed(range(_LOG2_TERMS - 1)):
        series = w.plus(w.mul(series, square), 1.0 / (2 * k + 1))
    return w.add(w.cast(exponent, "f32"), w.times(w.mul(series, s), 2.0 / _LN2))


def exp(w: Writer, x: Reg) -> Reg:
    """Return e^x as 2^(x / ln 2), rounded at each step."""
    return exp2(w, w.times(x, 1.0 / _LN2))
