"""Units in the last place, neighbours, and directed rounding of exact numbers, for arrays of every float dtype.

An *ordinal* is the place of a float in the total order -inf ... -0, +0 ... +inf, as a signed integer of the same width;
-0 is -1 and +0 is 0. Neighbouring floats have neighbouring ordinals, NaNs lie beyond the infinities.

A *pair* (head, tail) of f64 arrays stands for the unevaluated sum head + tail, head being the nearest f64 of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from portkit.spec.types import F64, DType, max_finite

Array = NDArray[Any]
Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

_SIGNED = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}


def ordinal(x: Array) -> Array:
    """Return the ordinal of each float, as signed integers of the same width."""
    bits = x.view(_SIGNED[x.dtype.itemsize * 8])
    return bits ^ ((bits >> (bits.dtype.itemsize * 8 - 1)) & np.iinfo(bits.dtype).max)


def from_ordinal(place: Array, dtype: DType) -> Array:
    """Return the float at each ordinal; the inverse of `ordinal`."""
    return (place ^ ((place >> (dtype.bits - 1)) & np.iinfo(place.dtype).max)).view(dtype.numpy)


def next_up(x: Array, dtype: DType) -> Array:
    """Return the least float above each element; +inf and NaN stay, both zeros give the least positive number.

    Source: IEEE 754-2019, 5.3.1.
    """
    place = ordinal(x)
    step = np.where(place == -1, 2, 1).astype(place.dtype)
    still = np.isnan(x) | (x == np.inf)
    return np.where(still, x, from_ordinal(np.where(still, place, place + step), dtype))


def next_down(x: Array, dtype: DType) -> Array:
    """Return the greatest float below each element; -inf and NaN stay."""
    return -next_up(-x, dtype)


def ulp(x: Float64, dtype: DType) -> Float64:
    """Return the unit in the last place of `dtype` at each real number.

    It is 2^(max(e, emin) - p + 1) where 2^e <= |x| < 2^(e+1). Beyond the largest finite number it is that number's;
    NaN gives NaN.
    Source: Muller et al., Handbook of Floating-Point Arithmetic, 2nd edition, 2.3.2.
    """
    _, exponent = np.frexp(np.where(np.isfinite(x), x, 1.0))
    exponent = np.where(x == 0, dtype.emin, exponent - 1)
    exponent = np.where(np.isinf(x), dtype.emax, np.clip(exponent, dtype.emin, dtype.emax))
    return np.where(np.isnan(x), np.nan, np.ldexp(1.0, exponent - dtype.precision + 1))


def min_normal(dtype: DType) -> float:
    """Return the smallest positive normal number."""
    return 2.0**dtype.emin


def min_subnormal(dtype: DType) -> float:
    """Return the smallest positive number."""
    return 2.0 ** (dtype.emin - dtype.precision + 1)


def largest(dtype: DType) -> float:
    """Return the largest finite number."""
    return float(max_finite(dtype))


def is_subnormal(x: Array, dtype: DType) -> Bools:
    """Return where an element is neither zero nor normal."""
    return (np.abs(x) < dtype.numpy.type(min_normal(dtype))) & (x != 0)


def round_up(head: Float64, dtype: DType, tail: Float64 | float = 0.0) -> Array:
    """Return the least float of `dtype` that is not below head + tail.

    Infinity counts as the number after the largest finite one, 2^(emax + 1).
    """
    near = head.astype(dtype.numpy)
    near = np.where(_below(near, head, tail), next_up(near, dtype), near)
    before = next_down(near, dtype)
    exact = np.where(_below(before, head, tail) | np.isnan(near), near, before)
    beyond = -(2.0 ** (dtype.emax + 1)) if dtype is not F64 else -np.inf
    return np.where(head <= beyond, -np.inf, exact).astype(dtype.numpy)


def _below(x: Array, head: Float64, tail: Float64 | float) -> Bools:
    wide = x.astype(np.float64)
    return (wide < head) | ((wide == head) & (np.asarray(tail) > 0))


def round_down(head: Float64, dtype: DType, tail: Float64 | float = 0.0) -> Array:
    """Return the greatest float of `dtype` that is not above head + tail; see `round_up`."""
    return -round_up(-head, dtype, -np.asarray(tail))
