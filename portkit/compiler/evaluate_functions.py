"""What each elementwise function computes, in NumPy: the tables behind `portkit.compiler.evaluate`.

Arrays have the NumPy dtype of their `DType`; in *wide* evaluation arrays of every float dtype are f64 and nothing is
rounded on the way. Basic arithmetic (add, mul, div, sqrt, ...) of f16 and bf16 is done in f32 and rounded once;
functions such as exp are done in f64 and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.spec.types import BOOL, F16, F32, F64, DType

Array: TypeAlias = NDArray[Any]
Step: TypeAlias = Callable[..., Array]


def evaluate_function(name: str, dtypes: tuple[DType, ...], result: DType, operands: list[Array], wide: bool) -> Array:
    """Return an elementwise function of arrays whose dtypes are `dtypes`; `result` is the dtype it gives."""
    if name == "where":
        return np.where(*operands)
    if name == "cast":
        return cast(operands[0], dtypes[0], result, wide)
    if name == "bits":
        return _reinterpret(operands[0], dtypes[0], result, wide)
    dtype = dtypes[0]
    if not dtype.is_float:
        return _INTEGER[name](dtype, *operands).astype(result.numpy, copy=False)
    if wide:
        return _FLOAT[name](*operands)
    within = np.dtype(np.float64) if dtype == F64 or name in _ELEMENTARY else np.dtype(np.float32)
    value = _FLOAT[name](*(x.astype(within, copy=False) for x in operands))
    return value if result is BOOL else narrow(value, result)


# --- conversions --------------------------------------------------------------------------------------------------


def narrow(x: Array, dtype: DType) -> Array:
    """Return f32 or f64 values rounded once, to nearest even, to a float dtype."""
    if x.dtype == np.float64 and dtype not in (F64, F32, F16):
        x = _f32_odd(x)
    return x.astype(dtype.numpy, copy=False)


def _f32_odd(x: Array) -> Array:
    """Return f64 rounded to odd in f32, so that rounding on to a narrower format rounds once.

    Source: S. Boldo, G. Melquiond, "Emulation of a FMA and Correctly Rounded Sums", IEEE Trans. Computers 57(4), 2008.
    """
    near = x.astype(np.float32)
    back = near.astype(np.float64)
    bits = near.view(np.int32)
    inexact = (back != x) & ((bits & 1) == 0) & (x == x)
    away = 1 - 2 * (np.abs(back) > np.abs(x)).astype(np.int32)
    return (bits + away * inexact).astype(np.int32).view(np.float32)


def cast(x: Array, source: DType, target: DType, wide: bool = False) -> Array:
    """Return `x` converted; integers wrap, floats to integers truncate and saturate, NaN gives 0, bool is x != 0."""
    if target.is_float:
        if wide:
            return x.astype(np.float64, copy=False)
        return _int_to_float(x, target) if source.is_int else _to_float(x, target)
    if target is BOOL:
        return (x.astype(np.float64) != 0) if source.is_float else x != 0
    return _float_to_int(x, target) if source.is_float else x.astype(target.numpy)


def _to_float(x: Array, target: DType) -> Array:
    return x.astype(target.numpy) if x.dtype != np.float64 else narrow(x, target)


def _int_to_float(x: Array, target: DType) -> Array:
    """Return integers rounded once: f32 and f64 by NumPy, narrower through f64, beyond 2^53 rounded to odd."""
    if target in (F32, F64):
        return x.astype(target.numpy)
    if x.dtype.itemsize < 8:
        return narrow(x.astype(np.float64), target)
    high = x >> 11
    odd = (high | ((x & 0x7FF) != 0)).astype(np.float64) * 2048.0
    exact = (high >= -(1 << 42)) & (high < 1 << 42)
    return narrow(np.where(exact, x.astype(np.float64), odd), target)


def _float_to_int(x: Array, target: DType) -> Array:
    value = np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=math.inf, neginf=-math.inf)
    top = 2.0 ** (target.bits - target.is_signed)
    inside = np.clip(value, target.min_int, np.nextafter(top, 0.0)).astype(target.numpy)
    return np.where(value >= top, np.asarray(target.max_int, target.numpy), inside)


def _reinterpret(x: Array, source: DType, target: DType, wide: bool) -> Array:
    if wide and source.is_float:
        x = narrow(x, source)
    same = np.ascontiguousarray(x).view(target.numpy).reshape(x.shape)
    return same.astype(np.float64) if wide and target.is_float else same


# --- floats -------------------------------------------------------------------------------------------------------


def _zero_sign(choose: Callable[..., Array], both: Callable[..., Array]) -> Step:
    """Return max or min of floats with -0 below +0: where both are zero, the sign is negative if `both` says so."""

    def extreme(a: Array, b: Array) -> Array:
        zero = (a == 0) & (b == 0)
        signed = np.where(both(np.signbit(a), np.signbit(b)), -0.0, 0.0).astype(a.dtype)
        return np.where(zero, signed, choose(a, b))

    return extreme


def _recip(x: Array) -> Array:
    return np.divide(1.0, x, dtype=x.dtype)


def _rsqrt(x: Array) -> Array:
    return 1.0 / np.sqrt(x)


def _sign(x: Array) -> Array:
    """Return -1, 0 or 1; NaN and zeros stay as they are."""
    return np.where(x == 0, x, np.sign(x)).astype(x.dtype)


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1.0) / (1.0 + small)


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


_ARITHMETIC: dict[str, Step] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": _zero_sign(np.maximum, np.logical_and),
    "min": _zero_sign(np.minimum, np.logical_or),
    "lt": np.less,
    "eq": np.equal,
    "neg": np.negative,
    "abs": np.abs,
    "sign": _sign,
    "recip": _recip,
    "sqrt": np.sqrt,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "trunc": np.trunc,
}

_ELEMENTARY: dict[str, Step] = {
    "pow": np.power,
    "rsqrt": _rsqrt,
    "exp": np.exp,
    "exp2": np.exp2,
    "log": np.log,
    "log2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "erf": _erf,
}

_FLOAT: dict[str, Step] = {**_ARITHMETIC, **_ELEMENTARY}


# --- integers and bools -------------------------------------------------------------------------------------------


def _idiv(dtype: DType, a: Array, b: Array) -> Array:
    return np.where(b == 0, 0, np.floor_divide(a, b))


def _tdiv(dtype: DType, a: Array, b: Array) -> Array:
    return _idiv(dtype, a - np.fmod(a, b), b)


def _shift(operate: Step) -> Step:
    """Return a shift by a count modulo the width (Spec: mul_c4)."""

    def shift(dtype: DType, a: Array, n: Array) -> Array:
        return operate(a, n & np.asarray(dtype.bits - 1, n.dtype))

    return shift


def _mulhi(dtype: DType, a: Array, b: Array) -> Array:
    if dtype.bits < 64:
        wide = np.int64 if dtype.is_signed else np.uint64
        return (a.astype(wide) * b.astype(wide)) >> wide(dtype.bits)
    product = _mulhi_u64(a.view(np.uint64), b.view(np.uint64))
    if not dtype.is_signed:
        return product
    return product.view(np.int64) - np.where(a < 0, b, 0) - np.where(b < 0, a, 0)


def _mulhi_u64(a: Array, b: Array) -> Array:
    """Source: D. Knuth, TAOCP 4.3.1: the schoolbook product of two digits of 32 bits."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a0, a1, b0, b1 = a & low, a >> half, b & low, b >> half
    middle = a1 * b0 + ((a0 * b0) >> half)
    return a1 * b1 + (middle >> half) + ((a0 * b1 + (middle & low)) >> half)


def _plain(operate: Step) -> Step:
    def apply(_: DType, *xs: Array) -> Array:
        return operate(*xs)

    return apply


_INTEGER: dict[str, Step] = {
    "add": _plain(np.add),
    "sub": _plain(np.subtract),
    "mul": _plain(np.multiply),
    "max": _plain(np.maximum),
    "min": _plain(np.minimum),
    "idiv": _idiv,
    "imod": _plain(np.remainder),
    "tdiv": _tdiv,
    "tmod": _plain(np.fmod),
    "shl": _shift(np.left_shift),
    "shr": _shift(np.right_shift),
    "mulhi": _mulhi,
    "and": _plain(np.bitwise_and),
    "or": _plain(np.bitwise_or),
    "xor": _plain(np.bitwise_xor),
    "lt": _plain(np.less),
    "eq": _plain(np.equal),
    "neg": _plain(np.negative),
    "abs": _plain(np.abs),
    "sign": _plain(np.sign),
    "not": _plain(np.invert),
}

KNOWN = frozenset((*_FLOAT, *_INTEGER, "where", "cast", "bits"))
"""The functions that have a meaning here: those of `portkit.compiler.functions.FUNCTIONS`, and no more."""
