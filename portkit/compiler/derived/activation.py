"""tanh, sigmoid and erf of f32 and f64, accurate where they are small and where they saturate."""

from __future__ import annotations

from portkit.compiler.derived.algebraic import near_reciprocal, reciprocal_within
from portkit.compiler.derived.code import Code
from portkit.compiler.derived.exponential import clamp, exp_inside
from portkit.compiler.derived.formats import FORMATS, LN2
from portkit.compiler.derived.rounding import magnitude, with_sign
from portkit.spec.builder import Reg

_TANH_SMALL = 0.625
_ERF_SMALL = 0.825


def sigmoid(c: Code, x: Reg) -> Reg:
    """Return 1 / (1 + e^-x): with t = e^-|x|, 1 / (1 + t) or t / (1 + t), so that small results keep their accuracy."""
    f = FORMATS[x.type.dtype]
    minus = c.bits(c.bor(c.bits(x, f.unsigned), f.sign_bit), f.dtype)
    t = exp_inside(c, clamp(c, minus, float((f.dtype.emin - f.mantissa - 2) * LN2), None))
    return c.mul(c.lt(x, 0.0, t, 1.0), reciprocal_within(c, c.add(t, 1.0), 1.0, 2.0))


def tanh(c: Code, x: Reg) -> Reg:
    """Return the hyperbolic tangent: an odd polynomial up to 5/8, else 1 - 2 / (e^2a + 1) with a = |x|."""
    f = FORMATS[x.type.dtype]
    a, sign = magnitude(c, x)
    square = c.mul(a, a)
    small = c.fma(c.mul(a, square), c.polynomial(square, f.tanh), a)
    end = float((f.dtype.precision + 4) * LN2 / 2)
    power = exp_inside(c, clamp(c, c.add(a, a), None, 2 * end))
    large = c.fma(near_reciprocal(c, c.add(power, 1.0)), -2.0, 1.0)
    return with_sign(c, c.lt(a, _TANH_SMALL, small, large), sign)


def erf(c: Code, x: Reg) -> Reg:
    """Return the error function: an odd polynomial up to 0.825, else 1 - e^L with L a polynomial for ln(erfc(a))."""
    f = FORMATS[x.type.dtype]
    a, sign = magnitude(c, x)
    small = c.fma(c.polynomial(c.mul(a, a), f.erf), a, a)
    t = clamp(c, a, None, f.erf_end)
    exponent = c.fma(c.polynomial(t, f.erfc), t, c.neg(t))
    large = c.fma(exp_inside(c, exponent), -1.0, 1.0)
    return with_sign(c, c.lt(a, _ERF_SMALL, small, large), sign)
