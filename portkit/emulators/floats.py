"""Float arithmetic of chips on arrays, rounded as IEEE 754 asks: what NumPy does not offer, or rounds twice.

Two tools are behind most of it: the error of a sum is a float (Knuth's TwoSum), and a result *rounded to odd* in a
wider format can be rounded again without harm (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums:
proved algorithms using rounding to odd", 2008).
No function warns: infinities and NaN are results like others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

F16: TypeAlias = NDArray[np.float16]
F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
Floats: TypeAlias = NDArray[np.floating[Any]]
Ints: TypeAlias = NDArray[np.integer[Any]]

Rounding = Literal["nearest", "zero", "down", "up", "odd"]

_BITS = {2: np.int16, 4: np.int32, 8: np.int64}
_SPLIT = float(2**27 + 1)
_APART = 200
"""Operands whose exponents differ by more are as good as this far apart: only on which side the lesser lies matters."""
_LEAST_EXPONENT = -1020
"""Results below 2 to this power may be subnormal, which rounds them at another place."""

quiet = np.errstate(all="ignore")
"""Decorates functions whose infinities and NaN are no surprise."""


# --- tools --------------------------------------------------------------------------------------------------------


def two_sum(a: F64, b: F64) -> tuple[F64, F64]:
    """Return the sum rounded to nearest and its error, exactly, where nothing overflows."""
    total = a + b
    rest = total - a
    return total, (a - (total - rest)) + (b - rest)


def _two_product(a: F64, b: F64) -> tuple[F64, F64]:
    """Return the product rounded to nearest and its error (Dekker), exactly for operands from 0.5 to 1."""
    product = a * b
    ah, bh = (t - (t - x) for x, t in ((a, a * _SPLIT), (b, b * _SPLIT)))
    al, bl = a - ah, b - bh
    return product, al * bl - (((product - ah * bh) - al * bh) - ah * bl)


def _to_odd(nearest: F64, error: F64) -> F64:
    """Return the sum of the two rounded to odd, where `error` is less than half a unit of `nearest`."""
    bits = nearest.view(np.int64)
    inexact = (error != 0) & np.isfinite(nearest) & np.isfinite(error)
    step = np.where((bits ^ error.view(np.int64)) < 0, -1, 1)  # towards the error: away from zero, or back
    return np.where(inexact & ((bits & 1) == 0), bits + step, bits).view(np.float64)


def odd_sum(a: F64, b: F64) -> F64:
    """Return a + b in f64, rounded to odd."""
    return _to_odd(*two_sum(a, b))


# --- fused multiply-add -------------------------------------------------------------------------------------------


@quiet
def fma32(a: F32, b: F32, c: F32) -> F32:
    """Return a * b + c rounded once to f32; the product is exact in f64."""
    total, error = two_sum(a.astype(np.float64) * b, c.astype(np.float64))
    return (_to_odd(total, error) if error.any() else total).astype(np.float32)


@quiet
def fma16(a: F16, b: F16, c: F16) -> F16:
    """Return a * b + c rounded once to f16."""
    return odd_sum(a.astype(np.float64) * b, c.astype(np.float64)).astype(np.float16)


@quiet
def fma64(a: F64, b: F64, c: F64) -> F64:
    """Return a * b + c rounded once to f64, on mantissas and exponents apart, so that nothing over- or underflows."""
    finite = np.isfinite(a) & np.isfinite(b)
    plain = np.where(finite & ~np.isfinite(c), c, a * b + c)  # a product beyond f64 is still less than infinity
    simple = ~finite | ~np.isfinite(c) | (a == 0) | (b == 0)
    (ma, ea), (mb, eb), (mc, ec) = np.frexp(a), np.frexp(b), np.frexp(c)
    exponent = ea.astype(np.int64) + eb
    ec = np.where(c == 0, -_APART, ec.astype(np.int64) - exponent) + exponent
    high, low = _two_product(ma, mb)
    third = np.ldexp(mc, np.clip(ec - exponent, -_APART, _APART).astype(np.int32))
    th, tl = two_sum(third, low)
    vh, vl = two_sum(high, th)
    mantissa = vh + odd_sum(tl, vl)
    # With operands far apart the result is next to `third`, whose exponent was limited: take its own back.
    exponent = np.where(ec - exponent > _APART, ec - _APART, exponent)
    result = np.ldexp(mantissa, np.clip(exponent, -5000, 5000).astype(np.int32))
    result = np.where(simple, plain, result)
    tiny = ~simple & (mantissa != 0) & (np.frexp(mantissa)[1] + exponent <= _LEAST_EXPONENT)
    for at in np.flatnonzero(tiny):
        result.flat[at] = _exact_fma(float(a.flat[at]), float(b.flat[at]), float(c.flat[at]))
    return result


def _exact_fma(a: float, b: float, c: float) -> float:
    """Return a * b + c by rational arithmetic, whose conversion to float rounds once; for results near zero."""
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    return math.copysign(float(exact), exact)


# --- between formats ----------------------------------------------------------------------------------------------


@quiet
def narrow(x: Floats, dtype: type[np.floating[Any]], rounding: Rounding = "nearest") -> Any:
    """Return values rounded once to a narrower float format."""
    near = x.astype(dtype)
    if rounding == "nearest":
        return near
    back = near.astype(x.dtype)
    bits = near.view(_BITS[near.dtype.itemsize])
    return np.where(_wrong_side(x, back, bits, rounding), bits + _step(x, back, near), bits).view(near.dtype)


def _wrong_side(x: Floats, back: Floats, bits: Ints, rounding: Rounding) -> NDArray[np.bool_]:
    """Return where the nearest neighbour is not the one that the rounding asks for."""
    wrong = {
        "zero": np.abs(back) > np.abs(x),
        "down": back > x,
        "up": back < x,
        "odd": (back != x) & ((bits & 1) == 0),
    }[rounding]
    return wrong & np.isfinite(x)


def _step(x: Floats, back: Floats, near: Floats) -> Ints:
    """Return how the bits of `near` change to become the neighbour on the other side of `x`.

    From a zero on, that neighbour is the least subnormal with the sign of `x`, which the zero has already.
    """
    return np.where(np.abs(back) > np.abs(x), -1, 1).astype(_BITS[near.dtype.itemsize])


@quiet
def from_integer(x: Ints, dtype: type[np.floating[Any]]) -> Any:
    """Return integers rounded once to a float format, to nearest even."""
    return x.astype(dtype) if np.dtype(dtype).itemsize > 2 else odd_from_integer(x).astype(dtype)


def odd_from_integer(x: Ints) -> F64:
    """Return integers in f64 rounded to odd, as the sum of their halves, which are exact."""
    return (
        odd_sum((x >> 32).astype(np.float64) * 2.0**32, (x & 0xFFFFFFFF).astype(np.float64))
        if (x.dtype.itemsize == 8)
        else x.astype(np.float64)
    )


@quiet
def to_integer(x: Floats, dtype: np.dtype[Any] | type[np.integer[Any]]) -> Any:
    """Return whole floats as integers: what does not fit saturates, NaN gives 0. Round before."""
    info = np.iinfo(dtype)
    low, limit = float(info.min), float(info.max) + (1 if info.bits < 64 else 0)
    wide = x.astype(np.float64)
    inside = (wide >= low) & (wide < limit)
    whole = np.where(inside, wide, 0).astype(dtype)
    whole = np.where(wide >= limit, np.asarray(info.max, dtype), whole)
    return np.where(wide < low, np.asarray(info.min, dtype), whole)


WHOLE: dict[str, Callable[[Any], Any]] = {"nearest": np.rint, "zero": np.trunc, "down": np.floor, "up": np.ceil}
"""By rounding, the function that rounds to a whole number of the same format."""


def flushed(x: Floats) -> Any:
    """Return values with subnormals as zeros of their sign."""
    return np.where(np.abs(x) < np.finfo(x.dtype).smallest_normal, np.copysign(np.zeros_like(x), x), x)
