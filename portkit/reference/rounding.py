"""Rounding exactly once: error-free sums and products, round-to-odd, and fused multiply-add on arrays.

A sum or product of narrow floats is formed in f64 *rounded to odd*: where it is inexact, its last bit is 1. Rounding
that to a format at least two bits narrower gives the correctly rounded result.

Letters: s the rounded sum, e its error, p a product, m a significand, x an exponent. All arrays are f64 where not
stated. Sources: S. Boldo, G. Melquiond, "Emulation of a FMA and Correctly Rounded Sums: Proved Algorithms Using
Rounding to Odd", IEEE Trans. Computers 57(4), 2008; T. J. Dekker, "A floating-point technique for extending the
available precision", Numer. Math. 18, 1971.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.spec.types import F16, F32, F64, DType

Array: TypeAlias = NDArray[Any]
Doubles: TypeAlias = NDArray[np.float64]

_SPLITTER = 2.0**27 + 1
_FAR = 140
"""An operand this many binary places below the other one only decides which way the result is rounded."""


def two_sum(a: Doubles, b: Doubles) -> tuple[Doubles, Doubles]:
    """Return a + b rounded to nearest, and the exact error (NaN where the sum is not finite). Source: Knuth, 1969."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a: Doubles, b: Doubles) -> tuple[Doubles, Doubles]:
    """Return a * b rounded to nearest, and the exact error, for |a|, |b| in [0.5, 1). Source: Dekker, 1971."""
    p = a * b
    a_high, b_high = _high_half(a), _high_half(b)
    a_low, b_low = a - a_high, b - b_high
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


def _high_half(a: Doubles) -> Doubles:
    t = _SPLITTER * a
    return t - (t - a)


def to_odd(s: Doubles, e: Doubles) -> Doubles:
    """Return s + e rounded to odd, where s is that sum rounded to nearest and e its error; e NaN counts as exact."""
    bits = s.view(np.int64)
    inexact = ((e > 0) | (e < 0)) & ((bits & 1) == 0)
    away = 1 - 2 * ((e > 0) != (s > 0)).astype(np.int64)
    return (bits + away * inexact).view(np.float64)


def add_odd(a: Doubles, b: Doubles) -> Doubles:
    """Return a + b rounded to odd."""
    return to_odd(*two_sum(a, b))


def f32_odd(x: Doubles) -> NDArray[np.float32]:
    """Return x rounded to odd in f32; NaN stays NaN."""
    r = x.astype(np.float32)
    back = r.astype(np.float64)
    bits = r.view(np.int32)
    inexact = (back != x) & ((bits & 1) == 0) & (x == x)
    away = 1 - 2 * (np.abs(back) > np.abs(x)).astype(np.int32)
    return (bits + away * inexact).view(np.float32)


def narrow(x: Doubles, dtype: DType) -> Array:
    """Return f64 values rounded once to nearest even in a float dtype (Spec: cast_c3, cast_c5)."""
    if dtype in (F64, F32, F16):
        return x.astype(dtype.numpy, copy=False)
    return f32_odd(x).astype(dtype.numpy)


def fma(a: Array, b: Array, c: Array, dtype: DType) -> Array:
    """Return a*b + c rounded once to nearest even, for arrays of one float dtype (Spec: fma_c1)."""
    if dtype == F64:
        return _fma_f64(a, b, c)
    p = a.astype(np.float64) * b.astype(np.float64)  # exact: twice the precision and range of any narrower format
    s = p + c.astype(np.float64)
    delicate = _maybe_midpoints(s, dtype)
    if delicate.any():
        p, c = np.broadcast_to(p, s.shape)[delicate], np.broadcast_to(c, s.shape)[delicate]
        s[delicate] = add_odd(p, c.astype(np.float64))
    return narrow(s, dtype)


def _maybe_midpoints(s: Doubles, dtype: DType) -> NDArray[np.bool_]:
    """Where s may lie halfway between two neighbours of a dtype; elsewhere it rounds as the exact sum does."""
    low = (1 << (F64.precision - dtype.precision - 1)) - 1
    return (s.view(np.int64) & low) == 0


def _fma_f64(a: Doubles, b: Doubles, c: Doubles) -> Doubles:
    a, b, c = np.broadcast_arrays(a, b, c)
    simple = ~(np.isfinite(a) & np.isfinite(b) & np.isfinite(c)) | (a == 0) | (b == 0) | (c == 0)
    if not simple.any():
        return _fma_finite(a, b, c)
    result = _fma_simple(a, b, c)
    rest = ~simple
    result[rest] = _fma_finite(a[rest], b[rest], c[rest])
    return result


def _fma_simple(a: Doubles, b: Doubles, c: Doubles) -> Doubles:
    """Return a*b + c where an operand is zero or not finite."""
    p = a * b
    result = p + c
    product_alone = (c == 0) & (a != 0) & (b != 0)  # a product that underflows keeps its sign
    addend_alone = np.isfinite(a) & np.isfinite(b) & ~np.isfinite(c)  # a product that overflows is no infinity
    return np.where(addend_alone, c, np.where(product_alone, p, result))


def _fma_finite(a: Doubles, b: Doubles, c: Doubles) -> Doubles:
    """Return a*b + c rounded once, for finite nonzero operands.

    The operands are scaled to significands below 1 so that nothing overflows or underflows. A result that will be
    subnormal is rounded at the right place by adding a power of two whose last place is the smallest subnormal.
    """
    (ma, xa), (mb, xb), (mc, xc) = np.frexp(a), np.frexp(b), np.frexp(c)
    xp = xa + xb
    x = np.maximum(xp, xc)
    scale = _power_of_two(np.maximum(xp - x, -_FAR))
    ph, pl = two_product(ma, mb)
    th, tl = two_sum(mc * _power_of_two(np.maximum(xc - x, -_FAR)), pl * scale)
    vh, vl = two_sum(ph * scale, th)
    z = add_odd(tl, vl)  # a*b + c is vh + z, up to a sticky last bit
    rough = vh + z
    least_normal = _power_of_two(np.maximum(F64.emin - x, -1000))
    anchor = np.where(np.abs(rough) < least_normal, np.copysign(least_normal, rough), 0.0)
    h, low = two_sum(anchor, vh)
    rounded = (h + add_odd(low, z)) - anchor
    return np.ldexp(np.copysign(rounded, rough), x)


def _power_of_two(exponent: NDArray[np.integer[Any]]) -> Doubles:
    """Return 2^exponent for exponents of normal f64 numbers."""
    return ((exponent.astype(np.int64) + F64.emax) << (F64.precision - 1)).view(np.float64)
