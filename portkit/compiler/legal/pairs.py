"""Integers of 64 bits as pairs of u32 words, the low one first; lane by lane.

Letters: x, y pairs; n a count, u32. Between integers only forms are used that the host has for grid counts too.
Source: H. S. Warren, Hacker's Delight, 2nd ed., 2-16 (double-length arithmetic), 5-3 (leading zeros through a
float), 8-2 and 8-3 (high products).
"""

from __future__ import annotations

from typing import TypeAlias

from portkit.compiler.legal.rewrite import Output
from portkit.spec.builder import Reg
from portkit.spec.types import BOOL, F32, F64, I32, U32, mantissa_bits

Pair: TypeAlias = tuple[Reg, Reg]

WORD = 32
TOP = 1 << (WORD - 1)
ONES = (1 << WORD) - 1


def constant(b: Output, bits: int, lanes: int = 1) -> Pair:
    """Return the pair of a bit pattern."""
    return b.pattern(U32, bits & ONES, lanes), b.pattern(U32, bits >> WORD, lanes)


def widen(b: Output, low: Reg) -> Pair:
    """Return an unsigned word as a pair."""
    return low, b.number(0, low.type)


# --- arithmetic ---------------------------------------------------------------------------------------------------


def add(b: Output, x: Pair, y: Pair) -> Pair:
    """Return x + y."""
    low = b.plus(x[0], y[0])
    return low, b.plus(b.plus(x[1], y[1]), b.if_less(low, x[0], 1, 0))


def subtract(b: Output, x: Pair, y: Pair) -> Pair:
    """Return x - y."""
    borrow = b.if_less(x[0], y[0], -1, 0)
    return b.minus(x[0], y[0]), b.plus(b.minus(x[1], y[1]), borrow)


def negate_if(b: Output, condition: Reg, x: Pair) -> Pair:
    """Return -x where a bool holds, else x."""
    zero = b.number(0, x[0].type)
    return select(b, condition, subtract(b, (zero, zero), x), x)


def multiply(b: Output, x: Pair, y: Pair) -> Pair:
    """Return the low half of the product."""
    crossed = b.plus(b.times(x[0], y[1]), b.times(x[1], y[0]))
    return b.times(x[0], y[0]), b.plus(b.high(x[0], y[0]), crossed)


def product(b: Output, p: Reg, q: Reg) -> Pair:
    """Return the whole product of two words."""
    return b.times(p, q), b.high(p, q)


def multiply_high(b: Output, x: Pair, y: Pair, *, signed: bool) -> Pair:
    """Return the upper half of the product."""
    middle = add(b, product(b, x[1], y[0]), widen(b, b.high(x[0], y[0])))
    other = add(b, product(b, x[0], y[1]), widen(b, middle[0]))
    high = add(b, add(b, product(b, x[1], y[1]), widen(b, middle[1])), widen(b, other[1]))
    for p, q in ((x, y), (y, x)) if signed else ():
        fill = sign_word(b, p)
        high = subtract(b, high, (b.both(q[0], fill), b.both(q[1], fill)))
    return high


def sign_word(b: Output, x: Pair) -> Reg:
    """Return a word of copies of the top bit."""
    return b.if_less(x[1], TOP, 0, -1)


def bitwise(b: Output, kind: str, x: Pair, y: Pair) -> Pair:
    """Return `and`, `or` or `xor` of the bits."""
    return b.op(f"reduce.{kind}", x[0], y[0]), b.op(f"reduce.{kind}", x[1], y[1])


# --- shifts -------------------------------------------------------------------------------------------------------


def shift_left(b: Output, x: Pair, n: Reg) -> Pair:
    """Return x shifted by n modulo 64; a bit carried between words is shifted by 1 first, as n may be 0."""
    carried = b.right(b.right(x[0], 1), b.differ(n, WORD - 1))
    near = b.left(x[0], n), b.either(b.left(x[1], n), carried)
    return select(b, _is_far(b, n), (b.number(0, n.type), near[0]), near)


def shift_right(b: Output, x: Pair, n: Reg, *, signed: bool = False) -> Pair:
    """Return x shifted by n modulo 64, filled with copies of the sign or zeros."""
    carried = b.left(b.left(x[1], 1), b.differ(n, WORD - 1))
    high = b.to(b.right(b.to(x[1], I32), b.to(n, I32)), U32) if signed else b.right(x[1], n)
    fill = sign_word(b, x) if signed else b.number(0, n.type)
    return select(b, _is_far(b, n), (high, fill), (b.either(b.right(x[0], n), carried), high))


def _is_far(b: Output, n: Reg) -> Reg:
    """Return whether a count modulo 64 is 32 or more."""
    return b.equal(b.both(n, WORD), WORD)


def shift_right_sticky(b: Output, x: Pair, n: Reg) -> Pair:
    """Return x shifted by n below 64; the last bit is set where a bit was lost."""
    low, high = shift_right(b, x, n)
    exact = equal(b, shift_left(b, (low, high), n), x)
    return b.where(exact, low, b.either(low, 1)), high


def leading_zeros(b: Output, word: Reg) -> Reg:
    """Return the number of leading zeros of a word, 32 for none set.

    The bit below each set bit is cleared first, so that the conversion cannot round up to the next power of two.
    """
    sparse = b.both(word, b.differ(b.right(word, 1), ONES))
    exponent = b.right(b.as_bits(b.to(sparse, F32), U32), mantissa_bits(F32))
    top = b.number(F32.emax + WORD - 1, word.type)
    return b.least(b.minus(top, exponent), WORD)


def normalise(b: Output, x: Pair) -> tuple[Pair, Reg]:
    """Return x, not 0, shifted left until its top bit is set, and by how much."""
    empty = b.equal(x[1], 0)
    zeros = b.plus(leading_zeros(b, b.where(empty, x[0], x[1])), b.where(empty, b.number(WORD, x[0].type), 0))
    return shift_left(b, x, zeros), zeros


# --- comparison and selection -------------------------------------------------------------------------------------


def select(b: Output, condition: Reg, x: Pair, y: Pair) -> Pair:
    """Return x where a bool holds, else y."""
    return b.where(condition, x[0], y[0]), b.where(condition, x[1], y[1])


def less(b: Output, x: Pair, y: Pair, *, signed: bool) -> Reg:
    """Return x < y as bool."""
    upper = I32 if signed else U32
    return b.if_equal(x[1], y[1], b.less(x[0], y[0]), b.less(b.to(x[1], upper), b.to(y[1], upper)))


def equal(b: Output, x: Pair, y: Pair) -> Reg:
    """Return x == y as bool."""
    return b.if_equal(x[1], y[1], b.equal(x[0], y[0]), b.pattern(BOOL, 0, x[0].type.lanes))


def extreme(b: Output, kind: str, x: Pair, y: Pair, *, signed: bool) -> Pair:
    """Return the `max` or `min`."""
    smaller = less(b, x, y, signed=signed)
    return select(b, smaller, y, x) if kind == "max" else select(b, smaller, x, y)


# --- conversions --------------------------------------------------------------------------------------------------


def from_integer(b: Output, x: Reg) -> Pair:
    """Return an integer of at most 32 bits, sign or zero extended."""
    low = b.to(x, U32)
    if not x.type.dtype.is_signed:
        return widen(b, low)
    return low, b.to(b.right(b.to(x, I32), WORD - 1), U32)


def from_float(b: Output, x: Reg, *, signed: bool) -> Pair:
    """Return an f32 or f64 truncated and saturated, 0 for NaN (Spec: cast_c2)."""
    top = 2.0 ** (2 * WORD - signed)
    below_top = top - top * 2.0**-x.type.dtype.precision
    magnitude = b.most(x, b.times(x, -1.0)) if signed else x
    high = b.to(b.times(magnitude, 2.0**-WORD), U32)
    low = b.to(b.minus(magnitude, b.times(b.to(high, x.type.dtype), 2.0**WORD)), U32)
    too_large = b.less(b.number(below_top, x.type), magnitude)
    limit = constant(b, (1 << (2 * WORD - signed)) - 1, x.type.lanes)
    if not signed:
        return select(b, too_large, limit, (low, high))
    negative = b.less(x, 0.0)
    edge = constant(b, 1 << (2 * WORD - 1), x.type.lanes)
    limit = select(b, negative, edge, limit)
    return select(b, too_large, limit, negate_if(b, negative, (low, high)))


def to_f32(b: Output, x: Pair, *, signed: bool, odd: bool = False) -> Reg:
    """Return x as f32, rounded once to nearest even, or to odd.

    The upper 32 bits of the significand, the last of them set where lower ones are, round as the whole does.
    """
    negative = b.less(b.number(TOP - 1, x[1].type), x[1]) if signed else None
    magnitude = negate_if(b, negative, x) if negative else x
    (low, high), zeros = normalise(b, magnitude)
    head = b.either(high, b.if_equal(low, 0, low, 1))
    if odd:
        extra = WORD - F32.precision
        rest = b.both(head, (1 << extra) - 1)
        head = b.left(b.either(b.right(head, extra), b.if_equal(rest, 0, rest, 1)), extra)
    scale = b.left(b.minus(b.number(F32.emax + WORD, zeros.type), zeros), mantissa_bits(F32))
    value = b.times(b.to(head, F32), b.as_bits(scale, F32))
    return b.where(negative, b.times(value, -1.0), value) if negative else value


def to_f64(b: Output, x: Pair, *, signed: bool) -> Reg:
    """Return x as f64, rounded once: both words are exact there."""
    high = b.to(b.to(x[1], I32) if signed else x[1], F64)
    return b.plus(b.times(high, 2.0**WORD), b.to(x[0], F64))
