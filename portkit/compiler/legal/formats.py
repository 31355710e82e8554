"""Narrow float formats by bits: decoded to f32, f32 rounded to them, encoded from f32.

Everything is lane by lane, exact in integers, and keeps NaN a NaN. Subnormals are made without f32 subnormals, so that
a device that flushes those still has the narrow ones. Letters: u the bits of an f32, m those of its magnitude, h the
bits of a narrow float. Source: IEEE 754-2019, 3.4 (encodings) and 4.3.1 (roundTiesToEven).
"""

from __future__ import annotations

from dataclasses import dataclass

from portkit.compiler.legal.rewrite import Output
from portkit.spec.builder import Reg
from portkit.spec.types import BF16, F32, U32, DType, encode, infinity_bits, mantissa_bits, max_finite, nan_bits

SIGN = 1 << 31
MAGNITUDE = SIGN - 1
INFINITY = infinity_bits(F32)
QUIET = 1 << (mantissa_bits(F32) - 1)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the fields of a narrow format lie in those of f32."""

    dtype: DType

    @property
    def drop(self) -> int:
        """The bits of an f32 significand that the format has not."""
        return F32.precision - self.dtype.precision

    @property
    def rebias(self) -> int:
        """The difference of the exponent biases, in place in an f32."""
        return (self.dtype.emin - F32.emin) << mantissa_bits(F32)

    @property
    def sign(self) -> int:
        return 1 << (self.dtype.bits - 1)

    @property
    def quantum(self) -> float:
        """The smallest subnormal."""
        return 2.0 ** (self.dtype.emin - mantissa_bits(self.dtype))

    @property
    def least_normal(self) -> int:
        """The f32 bits of the smallest normal number."""
        return encode(F32, 2.0**self.dtype.emin)

    @property
    def greatest(self) -> int:
        """The f32 bits of the largest finite number."""
        return encode(F32, max_finite(self.dtype))

    @property
    def beyond(self) -> int:
        """The f32 bits of what a value too large becomes (Spec: cast_c3, cast_c5)."""
        return INFINITY if self.dtype.infinities else nan_bits(F32)


def decode_bits(b: Output, h: Reg, dtype: DType) -> Reg:
    """Return the f32 of the bits `h`, u32, of a narrow float; exact, NaN payloads in the upper bits."""
    f = Layout(dtype)
    if dtype == BF16:
        return b.as_bits(b.left(h, f.drop), F32)
    m = b.both(h, f.sign - 1)
    small = b.as_bits(b.times(b.to(m, F32), f.quantum), U32)
    normal = b.plus(b.left(m, f.drop), f.rebias)
    special = b.plus(normal, f.rebias) if dtype.infinities else b.number(nan_bits(F32), h.type)
    large = b.if_less(b.number(infinity_bits(dtype) - 1, h.type), m, special, normal)
    magnitude = b.if_less(m, 1 << mantissa_bits(dtype), small, large)
    sign = b.left(b.both(h, f.sign), F32.bits - dtype.bits)
    return b.as_bits(b.either(sign, magnitude), F32)


def round_to(b: Output, x: Reg, dtype: DType) -> Reg:
    """Return an f32 rounded to nearest even in a narrow format, still as an f32 (Spec: cast_c3, cast_c5)."""
    f = Layout(dtype)
    u = b.as_bits(x, U32)
    m = b.both(u, MAGNITUDE)
    odd = b.both(b.right(m, f.drop), 1)
    up = b.plus(b.plus(m, (1 << (f.drop - 1)) - 1), odd)
    rounded = b.both(up, -(1 << f.drop))
    if dtype != BF16:  # whose range is that of f32, so that this is all
        rounded = b.if_less(b.number(f.greatest, u.type), rounded, f.beyond, rounded)
        anchor = f.quantum * 2.0 ** mantissa_bits(F32)  # numbers from here to its double lie a quantum apart
        small = b.plus(b.plus(b.as_bits(m, F32), anchor), -anchor)
        rounded = b.if_less(m, f.least_normal, b.as_bits(small, U32), rounded)
    nan = b.both(b.either(m, QUIET), -(1 << f.drop))
    magnitude = b.if_less(b.number(INFINITY, u.type), m, nan, rounded)
    return b.as_bits(b.either(b.both(u, SIGN), magnitude), F32)


def encode_bits(b: Output, x: Reg, dtype: DType) -> Reg:
    """Return the bits, u32, of an f32 that a narrow format holds exactly, as `round_to` gives."""
    f = Layout(dtype)
    u = b.as_bits(x, U32)
    if dtype == BF16:
        return b.right(u, f.drop)
    m = b.both(u, MAGNITUDE)
    small = b.to(b.times(b.as_bits(m, F32), 1 / f.quantum), U32)
    normal = b.right(b.plus(m, -f.rebias), f.drop)
    special = b.right(b.plus(m, -2 * f.rebias), f.drop) if dtype.infinities else b.number(nan_bits(dtype), u.type)
    large = b.if_less(m, INFINITY, normal, special)
    magnitude = b.if_less(m, f.least_normal, small, large)
    sign = b.both(b.right(u, F32.bits - dtype.bits), f.sign)
    return b.either(sign, magnitude)


# --- rounding to odd ----------------------------------------------------------------------------------------------
# A number rounded to odd (cut, and its last bit set where something was lost) still rounds rightly to a format of at
# least two bits less. Source: S. Boldo, G. Melquiond, "Emulation of a FMA and Correctly Rounded Sums: Proved
# Algorithms Using Rounding to Odd", IEEE Trans. Computers 57(4), 2008.


def odd_from(b: Output, x: Reg) -> Reg:
    """Return an integer or f64 as f32, rounded to odd."""
    nearest = b.to(x, F32)
    return _to_odd(b, nearest, x, b.to(nearest, x.type.dtype))


def odd_sum(b: Output, p: Reg, c: Reg) -> Reg:
    """Return p + c, f32, rounded to odd; what the sum loses must not underflow. Source: Knuth, 1969 (TwoSum)."""
    s = b.plus(p, c)
    t = b.minus(s, p)
    lost = b.plus(b.minus(p, b.minus(s, t)), b.minus(c, t))
    return _to_odd(b, s, lost, b.number(0.0, s.type))


def _to_odd(b: Output, nearest: Reg, exact: Reg, rounded: Reg) -> Reg:
    """Return an f32 rounded to nearest as rounded to odd; `exact` and `rounded` compare as before and after rounding.

    Where neither is less, by NaN too, it stays.
    """
    u = b.as_bits(nearest, U32)
    up = b.if_less(u, SIGN, 1, -1)  # to the next number above: away from zero if positive
    change = b.if_less(exact, rounded, b.times(up, -1), b.if_less(rounded, exact, up, 0))
    return b.as_bits(b.plus(u, b.if_equal(b.both(u, 1), 0, change, 0)), F32)
