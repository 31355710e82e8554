"""The vector instructions of gfx942 whose results are more than one NumPy function.

Approximate instructions do what the manual allows at worst, not at best: f32 results are cut instead of rounded (1
ulp), those of f64 keep 25 bits, and where the manual says that subnormals are flushed, they are. Code that relies on
more fails here. Of one operand the reciprocal is right to the last bit: see `reciprocals`. Source: CDNA3 ISA, 12.8 to
12.12; LLVM's expansions of division and square root say what they rely on.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import copysign, inf, isfinite
from typing import Any

import numpy as np

from portkit.emulators.floats import flushed, fma32, fma64, narrow, odd_sum, to_integer
from portkit.emulators.gcn_waves import Array, Mask

_EXPONENTS = {
    np.dtype(np.float16): (10, 0x1F),
    np.dtype(np.float32): (23, 0xFF),
    np.dtype(np.float64): (52, 0x7FF),
}
_UNSIGNED = {np.dtype(np.float16): np.uint16, np.dtype(np.float32): np.uint32, np.dtype(np.float64): np.uint64}
_KEPT = np.uint64((1 << 64) - (1 << 28))
"""The bits of f64 that an approximate instruction gets right: 2^29 ulp is what LLVM's expansions take as given."""

Function = Callable[..., Array]


def bits(x: Array) -> Array:
    """Return floats as unsigned integers of their size."""
    return x.view(_UNSIGNED[x.dtype])


def sign(x: Array) -> Array:
    """Return the sign bits of floats."""
    return np.signbit(x)


def exponent(x: Array) -> Array:
    """Return the biased exponents of floats as int64."""
    fraction, mask = _EXPONENTS[x.dtype]
    return ((bits(x) >> fraction) & mask).astype(np.int64)


def _subnormal(x: Array) -> Mask:
    return (np.abs(x) < np.finfo(x.dtype).smallest_normal) & (x != 0)


# --- approximations -----------------------------------------------------------------------------------------------


def approximate32(compute: Function) -> Function:
    """Return a function of f32 that flushes subnormals, operands and results, and cuts its result."""

    def run(x: Array) -> Array:
        exact = compute(flushed(x).astype(np.float64))
        return flushed(narrow(exact, np.float32, "zero"))

    return run


def approximate64(compute: Function) -> Function:
    """Return a function of f64 whose results have 25 good bits."""

    def run(x: Array) -> Array:
        return (bits(compute(x)) & _KEPT).view(np.float64)

    return run


def reciprocals(approximation: Function) -> Function:
    """Return an approximate 1/x that is rounded to nearest where the significand of x is all ones.

    From a reciprocal of 1 - u (u half a unit) that is below 1 + 2u, the Newton steps that LLVM writes never reach
    1 + 2u, and 1 / (1 - u) would come out as 1. That these divisions are correctly rounded, as OpenCL's conformance
    tests of such operands ask, shows that the chip has the better start.
    """

    def run(x: Array) -> Array:
        ones = np.asarray((1 << (_EXPONENTS[x.dtype][0])) - 1, _UNSIGNED[x.dtype])
        return np.where(bits(x) & ones == ones, flushed(1 / x), approximation(x))

    return run


def exact16(compute: Function) -> Function:
    """Return a function of f16 that is correctly rounded, but for double rounding far below half a unit."""

    def run(x: Array) -> Array:
        return compute(x.astype(np.float64)).astype(np.float16)

    return run


def reciprocal(x: Array) -> Array:
    """1/x; of a zero an infinity with its sign."""
    return 1.0 / x


def reciprocal_root(x: Array) -> Array:
    """1/sqrt(x)."""
    return 1.0 / np.sqrt(x)


def sine_of_turns(x: Array) -> Array:
    """sin(2 pi x)."""
    return np.sin(2 * np.pi * np.fmod(x, 1.0))


def cosine_of_turns(x: Array) -> Array:
    """cos(2 pi x)."""
    return np.cos(2 * np.pi * np.fmod(x, 1.0))


# --- extremes -----------------------------------------------------------------------------------------------------


def _ordered(x: Array) -> Array:
    """Return integers in the order of the floats, -0 before +0."""
    signed = bits(x).view(f"i{x.dtype.itemsize}")
    return np.where(signed < 0, signed ^ np.iinfo(signed.dtype).max, signed)


def maximum(a: Array, b: Array) -> Array:
    """The greater, +0 over -0; a number over a NaN, but no number over a signalling one (IEEE mode)."""
    return _extreme(a, b, _ordered(a) >= _ordered(b))


def minimum(a: Array, b: Array) -> Array:
    """The lesser, -0 under +0; NaN as for `maximum`."""
    return _extreme(a, b, _ordered(a) <= _ordered(b))


def _extreme(a: Array, b: Array, first: Mask) -> Array:
    quiet = np.where(np.isnan(a), b, np.where(np.isnan(b), a, np.where(first, a, b)))
    return np.where(_signalling(a), a + a, np.where(_signalling(b), b + b, quiet))


def _signalling(x: Array) -> Mask:
    fraction = {2: 10, 4: 23, 8: 52}[x.dtype.itemsize]
    return np.isnan(x) & ((bits(x) >> (fraction - 1)) & 1 == 0)


def median(a: Array, b: Array, c: Array) -> Array:
    """The middle one of three."""
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))


def float_median(a: Array, b: Array, c: Array) -> Array:
    """The middle one of three floats; the least if one is NaN (CDNA3 ISA, V_MED3_F32)."""
    middle = maximum(minimum(a, b), minimum(maximum(a, b), c))
    return np.where(np.isnan(a) | np.isnan(b) | np.isnan(c), minimum(minimum(a, b), c), middle)


# --- division -----------------------------------------------------------------------------------------------------


def div_scale(x: Array, denominator: Array, numerator: Array) -> tuple[Array, Mask]:
    """Scale `x`, which is one of the two, so that Newton's steps neither over- nor underflow (V_DIV_SCALE_F32, _F64).

    The mask says that the quotient is scaled back at the end. A denominator whose reciprocal is subnormal is scaled
    down in both of its cases: scaled up, as one of them is printed in the manual, it would overflow.
    """
    power, apart, tiny = (64, 96, 23) if x.dtype == np.float32 else (128, 768, 53)
    of_denominator, of_numerator = bits(x) == bits(denominator), bits(x) == bits(numerator)
    inverse, quotient = _subnormal(1 / denominator), _subnormal(numerator / denominator)
    undefined = (numerator == 0) | (denominator == 0)
    far = exponent(numerator) - exponent(denominator) >= apart
    cases: tuple[tuple[Array, Array | int, bool], ...] = (
        (undefined, 0, False),
        (far, np.where(of_denominator, power, 0), True),
        (_subnormal(denominator), power, False),
        (inverse & quotient, np.where(of_denominator, -power, 0), True),
        (inverse, -power, False),
        (quotient, np.where(of_numerator, power, 0), True),
        (exponent(numerator) <= tiny, power, False),
    )
    conditions = [case[0] for case in cases]
    powers = np.select(conditions, [case[1] for case in cases], 0).astype(np.int32)
    marked = np.select(conditions, [np.full(x.shape, case[2]) for case in cases], False)
    scaled = np.ldexp(x, powers)
    return np.where(undefined, np.asarray(np.nan, x.dtype), scaled).astype(x.dtype), marked


def div_fmas32(a: Array, b: Array, c: Array, scale: Mask) -> Array:
    """a * b + c, scaled back by 2^64 or 2^-64 where the mask says so, rounded once (V_DIV_FMAS_F32)."""
    if not scale.any():
        return fma32(a, b, c)
    wide = odd_sum(a.astype(np.float64) * b, c.astype(np.float64))
    powers = np.where(exponent(c) > 127, 64, -64).astype(np.int32)
    return np.where(scale, np.ldexp(wide, powers), wide).astype(np.float32)


def div_fmas64(a: Array, b: Array, c: Array, scale: Mask) -> Array:
    """The same by 2^128 (V_DIV_FMAS_F64)."""
    plain = fma64(a, b, c)
    if not scale.any():
        return plain
    a, b, c, scale = np.broadcast_arrays(a, b, c, scale)
    result = np.broadcast_to(plain, a.shape).copy()
    for at in zip(*np.nonzero(scale), strict=True):
        result[at] = _scaled_fma(float(a[at]), float(b[at]), float(c[at]))
    return result


def _scaled_fma(a: float, b: float, c: float) -> float:
    large = abs(c) >= 2.0
    if not all(map(isfinite, (a, b, c))):
        return a * b + c
    exact = (Fraction(a) * Fraction(b) + Fraction(c)) * Fraction(2) ** (128 if large else -128)
    try:
        return copysign(float(exact), c)
    except OverflowError:
        return copysign(inf, c)


def div_fixup(quotient: Array, denominator: Array, numerator: Array) -> Array:
    """Return the quotient with the right sign, or what zeros, infinities, NaN and ranges ask for (V_DIV_FIXUP).

    Where all operands are numbers, a NaN for a quotient came from steps that overflowed, as the result does.
    """
    negative = sign(numerator) ^ sign(denominator)
    least = {2: -40, 4: -150, 8: -1075}[quotient.dtype.itemsize]
    infinite = (denominator == 0) | np.isinf(numerator)
    zero = np.isinf(denominator) | (numerator == 0) | (exponent(numerator) - exponent(denominator) < least)
    size = np.select([infinite, zero, np.isnan(quotient)], [np.inf, 0.0, np.inf], np.abs(quotient))
    signed = np.where(negative, -size, size)
    undefined = ((denominator == 0) & (numerator == 0)) | (np.isinf(denominator) & np.isinf(numerator))
    nan = undefined | np.isnan(numerator) | np.isnan(denominator)
    return np.where(nan, np.nan, signed).astype(quotient.dtype)


# --- parts of floats ----------------------------------------------------------------------------------------------


def load_exponent(x: Array, power: Array) -> Array:
    """x * 2^power, rounded once."""
    return np.ldexp(x, np.clip(power, -5000, 5000).astype(np.int32))


def mantissa(x: Array) -> Array:
    """The mantissa in [0.5, 1) with its sign; infinities and NaN as they are."""
    return np.where(np.isfinite(x), np.frexp(x)[0], x).astype(x.dtype)


def power(x: Array) -> Array:
    """The exponent that goes with `mantissa`; 0 for what is not finite."""
    return np.where(np.isfinite(x), np.frexp(x)[1], 0).astype(np.int32)


def fraction(x: Array) -> Array:
    """x - floor(x), less than 1."""
    return np.minimum(x - np.floor(x), np.nextafter(np.asarray(1, x.dtype), np.asarray(0, x.dtype)))


def to_int(dtype: type[np.integer[Any]]) -> Function:
    """Return the conversion of floats to an integer type: cut, saturated, 0 for NaN."""

    def run(x: Array) -> Array:
        return to_integer(np.trunc(x), dtype)

    return run


def classes(x: Array, wanted: Array) -> Mask:
    """Whether each float is of one of the wanted classes (V_CMP_CLASS: bits 0 to 9)."""
    negative, nan = sign(x), np.isnan(x)
    sizes = [np.isinf(x), ~_subnormal(x) & np.isfinite(x) & (x != 0), _subnormal(x), x == 0]
    members = [_signalling(x), nan & ~_signalling(x), *(s & negative & ~nan for s in sizes)]
    members += [s & ~negative & ~nan for s in reversed(sizes)]
    result = np.zeros(np.broadcast_shapes(x.shape, wanted.shape), np.bool_)
    for place, member in enumerate(members):
        result |= member & ((wanted >> place) & 1 == 1)
    return result


def half_of_fma(a: Array, b: Array, c: Array) -> Array:
    """a * b + c in f32, then rounded to f16 (V_FMA_MIXLO_F16)."""
    return fma32(a, b, c).astype(np.float16)
