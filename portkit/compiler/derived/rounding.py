"""floor, ceil, round and trunc of f32 and f64: all exact, in additions and comparisons."""

from __future__ import annotations

from portkit.compiler.derived.code import Code
from portkit.compiler.derived.formats import FORMATS
from portkit.spec.builder import Reg


def magnitude(c: Code, x: Reg) -> tuple[Reg, Reg]:
    """Return |x| and the sign bit of x, as an integer."""
    f = FORMATS[x.type.dtype]
    bits = c.bits(x, f.unsigned)
    return c.bits(c.band(bits, f.sign_bit - 1), f.dtype), c.band(bits, f.sign_bit)


def with_sign(c: Code, x: Reg, sign: Reg) -> Reg:
    """Return a number that is not negative with a sign bit set or not."""
    return c.bits(c.bor(c.bits(x, sign.type.dtype), sign), x.type.dtype)


def round_even(c: Code, x: Reg) -> Reg:
    """Return the nearest integer, ties to even: adding 2^mantissa to |x| leaves no bits for a fraction."""
    size, sign = magnitude(c, x)
    unit = 2.0 ** FORMATS[x.type.dtype].mantissa
    return c.lt(size, unit, with_sign(c, c.add(c.add(size, unit), -unit), sign), x)


def trunc(c: Code, x: Reg) -> Reg:
    """Return the integer part."""
    if c.features.has("trunc", x.type.dtype):
        return c.math("trunc", x)
    size, sign = magnitude(c, x)
    unit = 2.0 ** FORMATS[x.type.dtype].mantissa
    near = c.add(c.add(size, unit), -unit)
    return c.lt(size, unit, with_sign(c, c.lt(size, near, c.add(near, -1.0), near), sign), x)


def floor(c: Code, x: Reg) -> Reg:
    """Return the largest integer that is not above x."""
    near = trunc(c, x) if c.features.has("trunc", x.type.dtype) else round_even(c, x)
    return c.lt(x, near, c.add(near, -1.0), near)


def ceil(c: Code, x: Reg) -> Reg:
    """Return the least integer that is not below x; from above -1 that is -0."""
    near = trunc(c, x)
    return c.lt(near, x, c.add(near, 1.0), near)
