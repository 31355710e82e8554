"""a*b + c rounded once, for devices without the extension `fma`.

    r = mul.add a b c       ->     the product, exact in two words; aligned with c; added; rounded in integers

Letters: m the significand of a number as an integer, x its exponent. Numbers of two words have their leading bit in
bit 62, so that a sum stays inside. Where bits are shifted out, the last bit that stays is set; it lies far enough below
the last bit of the result for rounding not to tell. Subnormals need no device that keeps them.
Source: J. Hauser, Berkeley SoftFloat, release 3e, f32_mulAdd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from portkit.compiler.legal import pairs
from portkit.compiler.legal.formats import INFINITY, SIGN, odd_sum
from portkit.compiler.legal.pairs import Pair
from portkit.compiler.legal.rewrite import Output, Parts, Rewrite
from portkit.contract import Capabilities
from portkit.errors import UsageError
from portkit.spec.builder import Reg
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import BF16, BOOL, F16, F32, I32, U32, mantissa_bits

_STORED = mantissa_bits(F32)
_HIDDEN = 1 << _STORED
_BIAS = F32.emax
_FIELD = 255
"""The exponent field of infinities and NaN."""


def expand_fused(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """Return the kernel without mul.add where the device has none, each result the same.

    Raises `UsageError` for f64, for which there is no wider type to compute in.
    """
    rewrite = _Fused(kernel, capabilities)
    return rewrite.run() if any(map(rewrite.rule, kernel.body)) else kernel


class _Fused(Rewrite):
    def rule(self, instr: Instr) -> Callable[[Instr], Parts] | None:
        return self._fused if instr.name == "mul.add" and not self.capabilities.has("fma") else None

    def _fused(self, instr: Instr) -> Parts:
        b = self.b
        x, y, z = (self.one(name) for name in instr.args)
        dtype = x.type.dtype
        if dtype == F32:
            return (fused_nearest(b, x, y, z),)
        if dtype not in (F16, BF16):
            raise UsageError(
                f"kernel {self.kernel.name}: mul.add on {dtype} needs the extension fma, which "
                f"{self.capabilities.name} has not; write mul and add, which round twice"
            )
        x, y, z = (b.to(v, F32) for v in (x, y, z))
        return (b.to(fused_odd(b, x, y, z) if dtype == BF16 else odd_sum(b, b.times(x, y), z), dtype),)


def fused_nearest(b: Output, x: Reg, y: Reg, z: Reg) -> Reg:
    """Return x*y + z of f32 rounded to nearest even (Spec: fma_c1)."""
    return _fused(b, x, y, z, _nearest)


def fused_odd(b: Output, x: Reg, y: Reg, z: Reg) -> Reg:
    """Return x*y + z of f32 rounded to odd, from where a narrower format rounds rightly."""
    return _fused(b, x, y, z, _odd)


@dataclass(frozen=True, slots=True)
class _Number:
    """An f32 taken apart: sign bit, exponent field, the significand as an integer, and m * 2^x = |value|."""

    sign: Reg
    field: Reg
    significand: Reg
    exponent: Reg
    finite: Reg


def _unpack(b: Output, value: Reg) -> _Number:
    u = b.as_bits(value, U32)
    field = b.both(b.right(u, _STORED), _FIELD)
    fraction = b.both(u, _HIDDEN - 1)
    significand = b.if_equal(field, 0, fraction, b.either(fraction, _HIDDEN))
    exponent = b.plus(b.to(b.most(field, 1), I32), -_BIAS - _STORED)
    return _Number(b.both(u, SIGN), field, significand, exponent, b.less(field, _FIELD))


def _fused(b: Output, x: Reg, y: Reg, z: Reg, rounding: Callable[[Output, Reg, Reg], Reg]) -> Reg:
    p, q, r = (_unpack(b, value) for value in (x, y, z))
    sign = b.differ(p.sign, q.sign)
    exact = _add(b, sign, *_product(b, p, q), r)
    magnitude, exponent = exact.magnitude, exact.exponent
    result = b.either(exact.sign, rounding(b, *_head(b, magnitude, exponent)))
    result = b.where(pairs.equal(b, magnitude, pairs.constant(b, 0, x.type.lanes)), 0, result)
    no = b.pattern(BOOL, 0, x.type.lanes)
    nonzero = b.if_equal(p.significand, 0, no, b.if_equal(q.significand, 0, no, b.where(p.finite, q.finite, no)))
    product_alone = b.plus(b.times(x, y), z)  # a product that is exact: zero, infinite or NaN
    return b.where(nonzero, b.where(r.finite, b.as_bits(result, F32), z), product_alone)


@dataclass(frozen=True, slots=True)
class _Sum:
    """sign * magnitude * 2^exponent."""

    sign: Reg
    magnitude: Pair
    exponent: Reg


def _aligned(b: Output, words: Pair, exponent: Reg) -> tuple[Pair, Reg]:
    """Return a number with its leading bit in bit 62, and its exponent then; it has at most 62 bits."""
    normal, zeros = pairs.normalise(b, words)
    return _halved(b, normal), b.plus(b.minus(exponent, b.to(zeros, I32)), 1)


def _halved(b: Output, words: Pair) -> Pair:
    return b.either(b.right(words[0], 1), b.left(words[1], pairs.WORD - 1)), b.right(words[1], 1)


def _product(b: Output, p: _Number, q: _Number) -> tuple[Pair, Reg]:
    """Return the product exactly, not 0."""
    return _aligned(b, pairs.product(b, p.significand, q.significand), b.plus(p.exponent, q.exponent))


def _add(b: Output, sign: Reg, product: Pair, exponent: Reg, r: _Number) -> _Sum:
    addend, below = _aligned(b, pairs.widen(b, r.significand), r.exponent)
    distance = b.minus(exponent, below)  # of no matter where either is 0, or so small that it only sets the last bit
    swap = b.less(distance, 0)
    large = pairs.select(b, swap, addend, product)
    small = pairs.select(b, swap, product, addend)
    apart = b.to(b.least(b.most(distance, b.times(distance, -1)), 2 * pairs.WORD - 1), U32)
    small = pairs.shift_right_sticky(b, small, apart)
    large_sign = b.where(swap, r.sign, sign)
    opposed = b.differ(sign, r.sign)  # the sign bit set where they differ
    total = pairs.add(b, large, pairs.negate_if(b, b.equal(opposed, SIGN), small))
    negative = b.both(total[1], opposed)  # only a difference may be below zero
    total = pairs.negate_if(b, b.equal(negative, SIGN), total)
    return _Sum(b.differ(large_sign, negative), total, b.most(exponent, below))


# --- rounding -----------------------------------------------------------------------------------------------------

_EXTRA = pairs.WORD - F32.precision
"""Bits of a word below those of an f32 significand."""


def _head(b: Output, magnitude: Pair, exponent: Reg) -> tuple[Reg, Reg]:
    """Return the leading word of a number, and the bits of an f32 that its exponent alone gives.

    The significand with its hidden bit, added to these bits, raises the exponent field by one. A subnormal has field 0,
    and its word is shifted down to the place of the smallest normal number's.
    """
    (low, high), zeros = pairs.normalise(b, magnitude)
    word = b.either(high, b.if_equal(low, 0, low, 1))
    field = b.plus(b.minus(exponent, b.to(zeros, I32)), 2 * pairs.WORD - 1 + _BIAS)
    short = b.to(b.least(b.most(b.plus(b.times(field, -1), 1), 0), pairs.WORD - 1), U32)
    kept = b.right(word, short)
    word = b.either(kept, b.if_equal(b.left(kept, short), word, b.number(0, word.type), 1))
    return word, b.left(b.to(b.plus(b.most(field, 1), -1), U32), _STORED)


def _nearest(b: Output, word: Reg, base: Reg) -> Reg:
    """Return the bits of a magnitude rounded to nearest even; overflow gives infinity."""
    significand = b.right(word, _EXTRA)
    half = b.plus(b.both(significand, 1), (1 << (_EXTRA - 1)) - 1)
    up = b.right(b.plus(b.both(word, (1 << _EXTRA) - 1), half), _EXTRA)
    return b.least(b.plus(b.plus(base, significand), up), INFINITY)


def _odd(b: Output, word: Reg, base: Reg) -> Reg:
    """Return the bits of a magnitude rounded to odd, which never overflows."""
    significand = b.right(word, _EXTRA)
    rest = b.both(word, (1 << _EXTRA) - 1)
    significand = b.either(significand, b.if_equal(rest, 0, rest, 1))
    return b.least(b.plus(base, significand), INFINITY - 1)
