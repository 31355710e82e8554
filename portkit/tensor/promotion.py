"""Which dtype an operation on several dtypes has.

bool < integers < floats. Two integers give the smallest dtype that holds both (i32 with u32 gives i64); an integer
with a float gives the float's dtype; two floats give the smallest that holds both (f16 with bf16 gives f32). 64-bit
unsigned integers with signed ones have none: cast one. Python numbers are weak: they take the dtype of the tensor, and
only if their kind is higher than the tensor's do they bring one, i32 or f32. Tensors of rank 0 are not weak.
Sources: NumPy Enhancement Proposal 50 (weak Python numbers); PyTorch, "Type Promotion" (integers with floats).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from portkit.errors import DTypeError, near_names
from portkit.spec.types import (
    BF16,
    BOOL,
    DTYPES,
    F16,
    F32,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    DType,
    Kind,
)

Scalar: TypeAlias = bool | int | float
DTypeLike: TypeAlias = DType | str | type | np.dtype[Any]

DEFAULT_INT = I32
DEFAULT_FLOAT = F32

_PYTHON: dict[type, DType] = {bool: BOOL, int: DEFAULT_INT, float: DEFAULT_FLOAT}
_SIGNED = (I8, I16, I32, I64)
_UNSIGNED = (U8, U16, U32, U64)


def as_dtype(dtype: DTypeLike) -> DType:
    """Return the dtype named by a `DType`, its name, a NumPy dtype, or Python's bool, int or float.

    Raises `DTypeError` for what names none.
    """
    if isinstance(dtype, DType):
        return dtype
    if isinstance(dtype, type) and dtype in _PYTHON:
        return _PYTHON[dtype]
    if isinstance(dtype, str) and dtype in DTYPES:
        return DTYPES[dtype]
    if not isinstance(dtype, str):
        with suppress(TypeError):  # no dtype of NumPy's either
            dtype = np.dtype(dtype)
        name = getattr(dtype, "name", "")
        found = next((d for d in DTYPES.values() if d.numpy_name.rstrip("_") == name), None)
        if found is not None:
            return found
    known = " ".join(DTYPES)
    raise DTypeError(f"unknown dtype {dtype!r}{near_names(str(dtype), DTYPES)}; known are {known}")


@cache
def promote_pair(a: DType, b: DType) -> DType:
    """Return the dtype of an operation on dtypes `a` and `b`. Raises `DTypeError` where there is none."""
    if a is b:
        return a
    if a.is_float or b.is_float:
        return _float_pair(a, b)
    if a is BOOL or b is BOOL:
        return b if a is BOOL else a
    if a.is_signed is b.is_signed:
        return a if a.bits > b.bits else b
    signed, unsigned = (a, b) if a.is_signed else (b, a)
    if signed.bits > unsigned.bits:
        return signed
    if unsigned is U64:
        raise DTypeError(f"no dtype holds both {a} and {b}; cast one of them")
    return _SIGNED[_UNSIGNED.index(unsigned) + 1]


def _float_pair(a: DType, b: DType) -> DType:
    if not (a.is_float and b.is_float):
        return a if a.is_float else b
    if a.bits == b.bits:  # f16 with bf16, or the two of 8 bits
        return F32 if a.bits == BF16.bits else F16
    return a if a.bits > b.bits else b


def promote(dtypes: Iterable[DType], scalars: Iterable[Scalar] = ()) -> DType:
    """Return the dtype of an operation on dtypes and Python numbers; at least one of either. Raises `DTypeError`."""
    result: DType | None = None
    for dtype in dtypes:
        result = dtype if result is None else promote_pair(result, dtype)
    for scalar in scalars:
        result = _with_scalar(result, scalar)
    assert result is not None
    return result


_RANK = {Kind.BOOL: 0, Kind.SINT: 1, Kind.UINT: 1, Kind.FLOAT: 2}


def _with_scalar(dtype: DType | None, scalar: Scalar) -> DType:
    own = scalar_dtype(scalar)
    if dtype is None or _RANK[own.kind] > _RANK[dtype.kind]:
        return own
    return dtype


def scalar_dtype(scalar: Scalar) -> DType:
    """Return the dtype that a Python number brings where no tensor says otherwise: bool, i32 or f32."""
    return BOOL if isinstance(scalar, bool) else DEFAULT_INT if isinstance(scalar, int) else DEFAULT_FLOAT


def inexact(dtype: DType) -> DType:
    """Return the dtype itself if it is a float, else the default float."""
    return dtype if dtype.is_float else DEFAULT_FLOAT


def accumulator(dtype: DType) -> DType:
    """Return the dtype in which sums and products of `dtype` are formed and given: i32 for narrower integers."""
    return I32 if dtype.bits < I32.bits and not dtype.is_float else dtype


def wide(dtype: DType) -> DType:
    """Return the dtype in which composites compute: f32 for f16 and bf16, so that they round once, else itself."""
    return F32 if dtype in (F16, BF16) else dtype


__all__ = [
    "DEFAULT_FLOAT", "DEFAULT_INT", "DTypeLike", "Scalar", "accumulator", "as_dtype", "inexact", "promote",
    "promote_pair", "scalar_dtype", "wide",
]  # fmt: skip
