"""sin, cos and tan of f32 and f64 over the whole range of the argument.

The argument is reduced to r with |r| <= pi/4 and a quadrant. Near arguments subtract multiples of pi/2 in three parts,
exactly by `mul.add` (W. J. Cody and W. Waite, Software Manual for the Elementary Functions, 1980); far ones multiply
the significand by those bits of 2/pi that matter, in integers (M. Payne and R. Hanek, "Radian reduction for
trigonometric functions", 1983).
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from math import inf, nan

from portkit.compiler.derived.algebraic import near_reciprocal
from portkit.compiler.derived.code import Code
from portkit.compiler.derived.formats import FORMATS, HALF_PI, Format, scaled_pi
from portkit.compiler.derived.rounding import magnitude
from portkit.spec.builder import Reg

_NEAR = {24: 2.0**17, 53: 2.0**32}
"""By precision: up to here three parts of pi/2 suffice."""
_QUARTER_PI = float(HALF_PI / 2)


def sin(c: Code, x: Reg) -> Reg:
    """Return the sine."""
    f = FORMATS[x.type.dtype]
    if c.features.has("sin", x.type.dtype) and not c.features.fuses(x.type.dtype):
        return c.math("sin", x)
    size, sign = magnitude(c, x)
    quadrant, rest = _reduced(c, size, f)
    return _finite(c, size, _signed(c, _sine_or_cosine(c, quadrant, rest, f), quadrant, sign, f))


def cos(c: Code, x: Reg) -> Reg:
    """Return the cosine: the sine a quadrant further on."""
    f = FORMATS[x.type.dtype]
    size, _ = magnitude(c, x)
    quadrant, rest = _reduced(c, size, f)
    quadrant = c.add(quadrant, 1)
    return _finite(c, size, _signed(c, _sine_or_cosine(c, quadrant, rest, f), quadrant, None, f))


def tan(c: Code, x: Reg) -> Reg:
    """Return the tangent, in odd quadrants -1 / tan r."""
    f = FORMATS[x.type.dtype]
    size, sign = magnitude(c, x)
    quadrant, rest = _reduced(c, size, f)
    square = c.mul(rest, rest)
    tangent = c.fma(c.mul(rest, square), c.polynomial(square, f.tan), rest)
    chosen = c.eq(c.band(quadrant, 1), 0, tangent, c.neg(near_reciprocal(c, tangent)))
    return _finite(c, size, c.bits(c.xor(c.bits(chosen, f.unsigned), sign), f.dtype))


def _finite(c: Code, size: Reg, result: Reg) -> Reg:
    return c.lt(size, inf, result, nan)


def _sine_or_cosine(c: Code, quadrant: Reg, r: Reg, f: Format) -> Reg:
    """Return sin r in even quadrants, cos r in odd ones."""
    square = c.mul(r, r)
    sine = c.fma(c.mul(r, square), c.polynomial(square, f.sin), r)
    cosine = c.fma(c.mul(square, square), c.polynomial(square, f.cos), c.fma(square, -0.5, 1.0))
    return c.eq(c.band(quadrant, 1), 0, sine, cosine)


def _signed(c: Code, x: Reg, quadrant: Reg, sign: Reg | None, f: Format) -> Reg:
    """Return x with its sign flipped in the lower half circle, and by `sign`."""
    flip = c.band(c.shl(quadrant, f.dtype.bits - 2), f.sign_bit)
    flip = flip if sign is None else c.xor(flip, sign)
    return c.bits(c.xor(c.bits(x, f.unsigned), flip), f.dtype)


# --- reduction --------------------------------------------------------------------------------------------------------


def _reduced(c: Code, size: Reg, f: Format) -> tuple[Reg, Reg]:
    """Return k, of which the low two bits count, and |x| - k pi/2."""
    if not c.features.fuses(f.dtype):
        near = c.lt(size, _QUARTER_PI)
        quadrant, rest = _far(c, size, f)
        return c.where(near, 0, quadrant), c.where(near, size, rest)
    quadrant, rest = _near(c, size, f)
    far = c.gt(size, _NEAR[f.dtype.precision])
    with c.b.serial(c.any(far), quadrant=quadrant, rest=rest) as loop:
        inner = Code(c.b, c.features)  # what it defines ends with the loop
        exact = _far(inner, size, f)
        loop.next(quadrant=inner.where(far, exact[0], loop["quadrant"]), rest=inner.where(far, exact[1], loop["rest"]))
    return loop["quadrant"], loop["rest"]


def _near(c: Code, size: Reg, f: Format) -> tuple[Reg, Reg]:
    shifted = c.fma(size, float(1 / HALF_PI), f.rounder)
    k = c.add(shifted, -f.rounder)
    rest, left = size, HALF_PI
    for _ in range(3):
        part = f.rounded(left)
        rest, left = c.fma(k, -float(part), rest), left - part
    return c.bits(shifted, f.unsigned), rest


def _far(c: Code, size: Reg, f: Format) -> tuple[Reg, Reg]:
    """Return the same for any finite |x| >= pi/4.

    With |x| = M 2^(e - mantissa), the top 2 bits of M T modulo 2^(3 words) are the quadrant and the next two words less
    2 bits the fraction, if T is the three words of 2/pi from its bit e - precision on.
    """
    bits, width = c.bits(size, f.unsigned), f.dtype.bits
    significand = c.bor(c.band(bits, (1 << f.mantissa) - 1), 1 << f.mantissa)
    # The table begins with a word of zeros, so that no index is negative.
    start = c.add(c.shr(bits, f.mantissa), (width - f.dtype.precision - 1 - f.bias) % (1 << width))
    words = _window(c, start, f)
    below = c.mul_hi(significand, words[2])
    middle = c.add(c.mul(significand, words[1]), below)
    carry = c.lt(middle, below, c.like(middle, 1), 0)
    top = c.add(c.add(c.mul(significand, words[0]), c.mul_hi(significand, words[1])), carry)
    # The nearest quadrant leaves a fraction in two's complement, whose magnitude loses nothing to cancellation.
    quadrant = c.shr(c.add(top, 1 << (width - 3)), width - 2)
    fraction = c.bor(c.shl(top, 2), c.shr(middle, width - 2))
    sign = c.bits(c.shr(c.bits(fraction, f.signed), width - 1), f.unsigned)
    high, low = c.xor(fraction, sign), c.xor(c.shl(middle, 2), sign)
    # As many leading bits as a float holds, and the rest: their sum is rounded once.
    spare = width - f.dtype.precision
    below = c.shr(c.bor(c.shl(high, f.dtype.precision), c.shr(low, spare)), 1)
    leading = c.cast(c.bits(c.band(high, (1 << width) - (1 << spare)), f.signed), f.dtype)
    whole = c.fma(c.cast(c.bits(below, f.signed), f.dtype), 2.0 ** (1 - f.dtype.precision), leading)
    head, tail = f.split(HALF_PI, f.dtype.precision)
    rest = c.fma(whole, float(head) * 2.0**-width, c.mul(whole, float(tail) * 2.0**-width))
    return quadrant, c.bits(c.xor(c.bits(rest, f.unsigned), c.band(sign, f.sign_bit)), f.dtype)


def _window(c: Code, start: Reg, f: Format) -> list[Reg]:
    """Return three words of the table from bit `start` on: whole words by halving steps, then a shift."""
    width = f.dtype.bits
    place = c.shr(start, width.bit_length() - 1)
    words: list[Reg] = [c.like(start, word) for word in _two_over_pi(f)]
    step = 1 << ((len(words) - 4).bit_length() - 1)
    while step:
        bit = c.band(place, step)
        following = words[step:]
        words = [c.eq(bit, 0, a, b) for a, b in zip(words, following, strict=False)][: step + 3] + words[
            len(following) : step + 3
        ]
        step //= 2
    shift = c.band(start, width - 1)
    rest = c.sub(c.like(shift, width - 1), shift)
    return [c.bor(c.shl(a, shift), c.shr(c.shr(b, 1), rest)) for a, b in pairwise(words)]


@cache
def _two_over_pi(f: Format) -> tuple[int, ...]:
    """Return a word of zeros and as many words of 2/pi as the largest number may need."""
    width = f.dtype.bits
    count = (f.bias + width - f.dtype.precision - 1) // width + 3
    bits = count * width
    digits = (2 << (2 * bits)) // scaled_pi(bits)
    return (0, *((digits >> (width * place)) & ((1 << width) - 1) for place in reversed(range(count))))
