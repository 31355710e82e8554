"""Conversions between dtypes, each rounded once (Spec: cast_c1..c5, bits_c1)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.reference.rounding import narrow
from portkit.spec.types import F16, F32, F64, DType, Type

Array: TypeAlias = NDArray[Any]
Unary: TypeAlias = Callable[[Array], Array]


@cache
def cast(source: DType, target: DType) -> Unary:
    """Return the conversion from one number dtype to another, for arrays of any shape.

    Spec: cast_c1 (integers wrap), cast_c2 (truncate and saturate, NaN gives 0), cast_c3 and cast_c5 (round once),
    cast_c4 (exact).
    """
    if source == target:
        return lambda x: x
    if source.is_float and target.is_int:
        return _float_to_wide_int(target) if target.bits == 64 else _float_to_int(target)
    if source.is_int and target.is_float and target not in (F32, F64):
        return lambda x: narrow(_int_to_f64_odd(x), target)
    if source.is_float and target.is_float and not _is_native(source, target):
        return lambda x: narrow(x.astype(np.float64), target)
    return lambda x: x.astype(target.numpy)


def _is_native(source: DType, target: DType) -> bool:
    """Whether one NumPy conversion rounds at most once: from f32 or narrower to anything, and f64 to f32 or f16."""
    return source != F64 or target in (F32, F16)


def _float_to_int(target: DType) -> Unary:
    def convert(x: Array) -> Array:
        wide = x.astype(np.float64)
        if np.isnan(wide).any():
            wide = np.where(np.isnan(wide), 0.0, wide)
        return wide.clip(target.min_int, target.max_int).astype(np.int64).astype(target.numpy)

    return convert


def _float_to_wide_int(target: DType) -> Unary:
    top = 2.0 ** (target.bits - target.is_signed)
    below_top = float(np.nextafter(top, 0.0))

    def convert(x: Array) -> Array:
        wide = x.astype(np.float64)
        wide = np.where(np.isnan(wide), 0.0, wide)
        inside = wide.clip(target.min_int, below_top).astype(target.numpy)
        return np.where(wide >= top, np.asarray(target.max_int, target.numpy), inside)

    return convert


def _int_to_f64_odd(x: Array) -> NDArray[np.float64]:
    """Return integers as f64, those beyond 2^53 rounded to odd: rounding on to a narrower format is then right."""
    if x.dtype.itemsize < 8:
        return x.astype(np.float64)
    high = x >> 11
    odd = (high | ((x & 0x7FF) != 0)).astype(np.float64) * 2048.0
    is_exact = (high >= -(1 << 42)) & (high < 1 << 42)
    return np.where(is_exact, x.astype(np.float64), odd)


def reinterpret(source: Type, target: Type) -> Unary:
    """Return the function that reads the bits of one type as another of the same total size (Spec: bits_c1)."""
    if source.dtype.bits == target.dtype.bits:
        return lambda x: x.view(target.dtype.numpy)

    def convert(x: Array) -> Array:
        vector = x if source.lanes > 1 else x[..., None]
        bits = np.ascontiguousarray(vector).view(target.dtype.numpy)
        return bits if target.lanes > 1 else bits[..., 0]

    return convert
