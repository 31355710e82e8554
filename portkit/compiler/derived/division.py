"""Integer division: by constants through the upper half of a product, by runtime values through a reciprocal.

Sources: T. Granlund and P. Montgomery, "Division by invariant integers using multiplication", 1994; H. Warren, Hacker's
Delight, 2nd edition, chapter 10; R. Alverson, "Integer division using reciprocals", 1991.
"""

from __future__ import annotations

from portkit.compiler.derived.algebraic import near_reciprocal
from portkit.compiler.derived.code import Code
from portkit.compiler.features import BASE
from portkit.errors import UsageError
from portkit.spec.builder import Builder, Reg
from portkit.spec.types import F32, I32

_WORD = 32
_UNDERESTIMATE = 1 - 2.0**-20
"""More than a native reciprocal of 2.5 ulp and three roundings may err."""
_NEWTON_STEPS = {32: 1, 64: 2}


def divide(b: Builder, x: Reg, d: int, low: int, high: int) -> Reg:
    """Return floor(x / d) of an i32 known to be in [low, high], for a literal d > 0, in as few instructions as known.

    Raises `UsageError` where d is not positive or the range is none of i32.
    """
    if d <= 0 or not I32.min_int <= low <= high <= I32.max_int:
        raise UsageError(f"division of [{low}, {high}] by {d}: give a divisor above 0 and a range within i32")
    return _floor(Code(b, BASE), x, d, low, high)


def _floor(c: Code, x: Reg, d: int, low: int, high: int) -> Reg:
    if low // d == high // d:
        return c.like(x, low // d)
    if d & (d - 1) == 0:
        return c.shr(x, d.bit_length() - 1) if d > 1 else x
    if low >= 0:
        return _quotient(c, x, d, high)
    shift = -(low // d)
    if high + shift * d <= I32.max_int:
        return c.add(_quotient(c, c.add(x, shift * d), d, high + shift * d), -shift)
    sign = c.shr(x, _WORD - 1)  # floor(x / d) = ~floor(~x / d)
    return c.xor(_quotient(c, c.xor(x, sign), d, max(high, ~low)), sign)


def _quotient(c: Code, x: Reg, d: int, high: int) -> Reg:
    """Return floor(x / d) of an i32 in [0, high], d no power of two."""
    plain = _multiplier(d, high, range(_WORD), I32.max_int // high)
    if plain is not None:
        shift, factor = plain
        return c.shr(c.mul(x, factor), shift)
    upper = _multiplier(d, high, range(_WORD, 2 * _WORD), I32.max_int)
    if upper is not None:
        shift, factor = upper
        return _shifted(c, c.mul_hi(x, factor), shift - _WORD)
    return c.bits(_unsigned(c, c.bits(x, "u32"), d, high), I32)


def _multiplier(d: int, high: int, shifts: range, most: int) -> tuple[int, int] | None:
    """Return the least k and m <= `most` with floor(x m / 2^k) = floor(x / d) for x in [0, high], or None.

    With m d = 2^k + e and 0 <= e, x m / 2^k exceeds x / d by x e / (d 2^k), which must stay below 1/d.
    """
    for shift in shifts:
        factor = -(-(1 << shift) // d)
        if factor > most:
            return None
        if (factor * d - (1 << shift)) * high < 1 << shift:
            return shift, factor
    return None


def _shifted(c: Code, x: Reg, count: int) -> Reg:
    return c.shr(x, count) if count else x


def _unsigned(c: Code, x: Reg, d: int, high: int) -> Reg:
    """Return floor(x / d) of an unsigned integer in [0, high], d > 0."""
    width = x.type.dtype.bits
    if d > high:
        return c.like(x, 0)
    if d & (d - 1) == 0:
        return _shifted(c, x, d.bit_length() - 1)
    upper = _multiplier(d, high, range(width, 2 * width), x.type.dtype.max_int)
    if upper is not None:
        shift, factor = upper
        return _shifted(c, c.mul_hi(x, factor), shift - width)
    even = (d & -d).bit_length() - 1
    if even:
        return _unsigned(c, c.shr(x, even), d >> even, high >> even)
    # The factor has one bit more than the width: t is the product by the others, and (x + t) / 2 must not overflow.
    size = d.bit_length()
    factor = -(-(1 << (width + size)) // d) - (1 << width)
    t = c.mul_hi(x, factor)
    return _shifted(c, c.add(c.shr(c.sub(x, t), 1), t), size - 1)


def divide_by_constant(c: Code, x: Reg, d: int, *, floor: bool) -> Reg:
    """Return x / d of any integer dtype, rounded down or toward zero; 0 where d is 0."""
    dtype = x.type.dtype
    if d == 0:
        return c.like(x, 0)
    if dtype.bits < _WORD:
        wide = divide_by_constant(c, c.cast(x, I32), d, floor=floor)
        return c.cast(wide, dtype)
    if not dtype.is_signed:
        return _unsigned(c, x, d, dtype.max_int)
    return _signed_floor(c, x, d) if floor else _signed_truncated(c, x, d)


def _signed_floor(c: Code, x: Reg, d: int) -> Reg:
    if d > 0 and d & (d - 1) == 0:
        return _shifted(c, x, d.bit_length() - 1)
    if d > 0:
        sign = c.shr(x, x.type.dtype.bits - 1)
        return c.xor(_of_magnitude(c, c.xor(x, sign), d), sign)
    # floor(x / d) = ~floor((x - 1) / -d), and floor(z / e) = ~floor(~z / e) where z < 0; ~(x - 1) = -x.
    positive = c.lt(c.like(x, 0), x)
    quotient = _of_magnitude(c, c.where(positive, c.add(x, -1), c.neg(x)), -d)
    return c.where(positive, c.xor(quotient, -1), quotient)


def _signed_truncated(c: Code, x: Reg, d: int) -> Reg:
    sign = c.shr(x, x.type.dtype.bits - 1)
    quotient = _of_magnitude(c, c.sub(c.xor(x, sign), sign), abs(d))
    if d < 0:
        sign = c.xor(sign, -1)
    return c.sub(c.xor(quotient, sign), sign)


def _of_magnitude(c: Code, x: Reg, d: int) -> Reg:
    """Return floor(x / d) of a signed register that holds a magnitude, which may be 2^(bits - 1)."""
    dtype = x.type.dtype
    unsigned = c.bits(x, f"u{dtype.bits}")
    return c.bits(_unsigned(c, unsigned, d, 1 << (dtype.bits - 1)), dtype)


# --- by runtime values --------------------------------------------------------------------------------------------


def divide_truncated(c: Code, a: Reg, b: Reg) -> tuple[Reg, Reg]:
    """Return quotient and remainder of a / b rounded toward zero; both are 0 where b is 0."""
    zero = c.eq(b, 0)
    if a.type.dtype.bits < _WORD:
        quotient = _narrow(c, a, b)
        rest = c.sub(a, c.mul(quotient, b))
    elif a.type.dtype.is_signed:
        quotient, rest = _signed(c, a, b)
    else:
        quotient, rest = _by_reciprocal(c, a, b)
    return c.where(zero, 0, quotient), c.where(zero, 0, rest)


def divide_floored(c: Code, a: Reg, b: Reg) -> tuple[Reg, Reg]:
    """Return quotient and remainder of a / b rounded down; both are 0 where b is 0."""
    quotient, rest = divide_truncated(c, a, b)
    if not a.type.dtype.is_signed:
        return quotient, rest
    short = c.lt(c.xor(rest, b), 0, c.eq(rest, 0, 0, c.like(rest, 1)), 0)
    return c.sub(quotient, short), c.add(rest, c.mul(short, b))


def _narrow(c: Code, a: Reg, b: Reg) -> Reg:
    """Return a / b of 8 or 16 bits rounded toward zero, in f32.

    a + 1/2 is at least 1/2 away from a multiple of b, more than the rounding errors of a few ulp of 2^16 can be.
    """
    wide = c.cast(a, F32)
    away = c.add(wide, c.lt(wide, 0.0, -0.5, 0.5))
    return c.cast(c.cast(c.mul(away, near_reciprocal(c, c.cast(b, F32))), I32), a.type.dtype)


def _signed(c: Code, a: Reg, b: Reg) -> tuple[Reg, Reg]:
    """Divide the magnitudes; the remainder has the sign of a."""
    dtype = a.type.dtype
    sign_a, sign_b = c.shr(a, dtype.bits - 1), c.shr(b, dtype.bits - 1)

    def signed(x: Reg, sign: Reg) -> Reg:
        return c.sub(c.xor(x, sign), sign)

    x, y = (c.bits(signed(value, sign), f"u{dtype.bits}") for value, sign in ((a, sign_a), (b, sign_b)))
    quotient, rest = _by_reciprocal(c, x, y)
    return signed(c.bits(quotient, dtype), c.xor(sign_a, sign_b)), signed(c.bits(rest, dtype), sign_a)


def _by_reciprocal(c: Code, x: Reg, y: Reg) -> tuple[Reg, Reg]:
    """Return quotient and remainder of unsigned integers of 32 or 64 bits.

    z = 2^bits / y is first estimated in f32 from below, then by Newton's iteration z + z (2^bits - y z) / 2^bits, which
    stays below; the quotient by it is at most 2 too small.
    """
    dtype = x.type.dtype
    estimate = c.mul(near_reciprocal(c, c.cast(y, F32)), 2.0**dtype.bits * _UNDERESTIMATE)
    z, minus = c.cast(estimate, dtype), c.neg(y)
    for _ in range(_NEWTON_STEPS[dtype.bits]):
        z = c.add(z, c.mul_hi(z, c.mul(minus, z)))
    quotient = c.mul_hi(x, z)
    rest = c.sub(x, c.mul(quotient, y))
    for _ in range(2):
        quotient, rest = c.lt(rest, y, quotient, c.add(quotient, 1)), c.lt(rest, y, rest, c.sub(rest, y))
    return quotient, rest
