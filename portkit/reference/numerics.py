"""What each arithmetic form computes on arrays of one dtype: wrapped integers, and floats rounded once.

Every function here returns an operation on NumPy arrays of `dtype.numpy`, broadcast together; none raises, and none
warns under `np.errstate(all="ignore")`, which is the caller's to set. The operation to take is chosen once, when a
kernel is bound, so that running it costs no more than NumPy does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.errors import HarnessError
from portkit.reference import rounding
from portkit.reference.casts import cast, reinterpret
from portkit.spec.types import BF16, F16, F32, F64, DType

Array: TypeAlias = NDArray[Any]
Unary: TypeAlias = Callable[[Array], Array]
Binary: TypeAlias = Callable[[Array, Array], Array]
Ternary: TypeAlias = Callable[[Array, Array, Array], Array]

__all__ = [
    "add", "cast", "equal", "fold", "fold_lanes", "fused", "less", "math", "mul", "mul_hi", "pairwise", "reinterpret",
    "select", "self_check", "shift_left", "shift_right",
]  # fmt: skip


def _through_f32(step: Callable[..., Array], dtype: DType) -> Callable[..., Array]:
    """Return an f32 operation as one of f16 or bf16, rounded once (Spec: add_c2)."""
    return lambda *xs: step(*(x.astype(np.float32) for x in xs)).astype(dtype.numpy)


def _float_op(step: Callable[..., Array], dtype: DType) -> Callable[..., Array]:
    return _through_f32(step, dtype) if dtype in (F16, BF16) else step


@cache
def add(dtype: DType) -> Binary:
    """Return addition (Spec: add_c1, add_c2)."""
    return _float_op(np.add, dtype)


@cache
def mul(dtype: DType) -> Binary:
    """Return multiplication, the low half for integers (Spec: mul_c1, mul_c2)."""
    return _float_op(np.multiply, dtype)


@cache
def fused(dtype: DType) -> Ternary:
    """Return a*b + c, rounded once (Spec: fma_c1)."""
    return lambda a, b, c: rounding.fma(a, b, c, dtype)


# --- integers -----------------------------------------------------------------------------------------------------


@cache
def mul_hi(dtype: DType) -> Binary:
    """Return the upper half of the integer product (Spec: mul_c3)."""
    if dtype.bits == 64:
        return _mul_hi_signed if dtype.is_signed else _mul_hi_unsigned
    wide = np.int64 if dtype.is_signed else np.uint64
    return lambda a, b: ((a.astype(wide) * b) >> dtype.bits).astype(dtype.numpy)


def _mul_hi_unsigned(a: Array, b: Array) -> Array:
    """Source: Knuth, TAOCP 4.3.1: the schoolbook product of two digits of 32 bits."""
    low = 0xFFFFFFFF
    a0, a1, b0, b1 = a & low, a >> 32, b & low, b >> 32
    middle = a1 * b0 + ((a0 * b0) >> 32)
    return a1 * b1 + (middle >> 32) + ((a0 * b1 + (middle & low)) >> 32)


def _mul_hi_signed(a: Array, b: Array) -> Array:
    """Source: H. S. Warren, Hacker's Delight, 8-3: the signed high product from the unsigned one."""
    unsigned = _mul_hi_unsigned(a.view(np.uint64), b.view(np.uint64)).view(np.int64)
    return unsigned - np.where(a < 0, b, 0) - np.where(b < 0, a, 0)


@cache
def shift_left(dtype: DType) -> Binary:
    """Return the left shift by a count modulo the width (Spec: mul_c4)."""
    unsigned = np.dtype(f"u{dtype.bytes}")
    return lambda a, n: (a.view(unsigned) << (n.view(unsigned) & (dtype.bits - 1))).view(dtype.numpy)


@cache
def shift_right(dtype: DType) -> Binary:
    """Return the right shift by a count modulo the width, by signedness (Spec: mul_c4)."""
    return lambda a, n: a >> (n & (dtype.bits - 1))


# --- folds --------------------------------------------------------------------------------------------------------


@cache
def fold(kind: str, dtype: DType) -> Binary:
    """Return the step of a reduction: add mul max min and or xor (Spec: reduce_c1..c3)."""
    if kind in ("max", "min") and dtype.is_float:
        return _float_op(_EXTREMES[kind, dtype == F64], dtype)
    table: dict[str, Callable[..., Any]] = {
        "add": add(dtype), "mul": mul(dtype), "max": np.maximum, "min": np.minimum,
        "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    }  # fmt: skip
    return table[kind]


def _extreme(choose: Callable[..., Array], join: Callable[..., Array], bits: type[np.signedinteger[Any]]) -> Binary:
    """Return a maximum or minimum of floats that orders -0 below +0 (Spec: reduce_c2, numeric_c4).

    Equal operands differ at most in the sign of zero, so joining their bits picks the right one.
    """

    def extreme(a: Array, b: Array) -> Array:
        result = choose(a, b)
        if result.all():
            return result
        return np.where(a == b, join(a.view(bits), b.view(bits)).view(result.dtype), result)

    return extreme


_EXTREMES: dict[tuple[str, bool], Binary] = {
    ("max", False): _extreme(np.maximum, np.bitwise_and, np.int32),
    ("min", False): _extreme(np.minimum, np.bitwise_or, np.int32),
    ("max", True): _extreme(np.maximum, np.bitwise_and, np.int64),
    ("min", True): _extreme(np.minimum, np.bitwise_or, np.int64),
}


def pairwise(step: Binary, x: Array, axis: int) -> Array:
    """Return x folded by halves along an axis, which keeps length 1 (Spec: numeric_c5).

    An element without a partner is folded with the identity, that is, kept.
    """
    x = np.moveaxis(x, axis, 0)
    while len(x) > 1:
        half = 1 << (len(x) - 1).bit_length() - 1
        folded = step(x[: len(x) - half], x[half:])
        x = np.concatenate((folded, x[len(x) - half : half])) if len(folded) < half else folded
    return np.moveaxis(x, 0, axis)


@cache
def fold_lanes(kind: str, dtype: DType) -> Callable[[Array, int], Array]:
    """Return a whole reduction along an axis, which keeps length 1 (Spec: group_c1..c3, numeric_c5).

    f16 and bf16 sums accumulate in f32 and are rounded once. The sum of integers is the same in any order.
    """
    step = fold(kind, dtype)
    if kind == "add" and dtype in (F16, BF16):
        return lambda x, axis: pairwise(np.add, x.astype(np.float32), axis).astype(dtype.numpy)
    if dtype.is_float:
        return lambda x, axis: pairwise(step, x, axis)
    assert isinstance(step, np.ufunc)
    keep = dtype.numpy if kind in ("add", "mul") else None
    return lambda x, axis: step.reduce(x, axis=axis, keepdims=True, dtype=keep)


# --- comparisons and selection ------------------------------------------------------------------------------------


@cache
def less(dtype: DType) -> Binary:
    """Return a < b as bool, false on NaN (Spec: select_c2)."""
    return _compare_bf16(np.less) if dtype == BF16 else np.less


@cache
def equal(dtype: DType) -> Binary:
    """Return a == b as bool, false on NaN (Spec: select_c2)."""
    return _compare_bf16(np.equal) if dtype == BF16 else np.equal


def _compare_bf16(compare: Callable[..., Array]) -> Binary:
    return lambda a, b: compare(a.astype(np.float32), b.astype(np.float32))


_BITS_OF_SIZE = {size: np.dtype(f"i{size}") for size in (1, 2, 4, 8)}


def select(condition: Array, x: Array, y: Array) -> Array:
    """Return x where the condition holds, else y, bits unchanged (Spec: select_c3).

    The result may be smaller than the condition where all of it agrees: x or y as it is. Otherwise whole words are
    masked, which on a random condition takes a seventh of the time of `np.where`.
    """
    if condition.all():
        return x
    if not condition.any():
        return y
    bits = _BITS_OF_SIZE[x.dtype.itemsize]
    mask = np.negative(condition.view(np.int8)).astype(bits, copy=False)
    a, b = x.view(bits), y.view(bits)
    return (b ^ ((a ^ b) & mask)).view(x.dtype)


# --- math forms ---------------------------------------------------------------------------------------------------


def _recip(x: Array) -> Array:
    return np.divide(x.dtype.type(1), x)


def _rsqrt(x: Array) -> Array:
    return np.divide(1.0, np.sqrt(x))


_EXACT_MATH: dict[str, Unary] = {"recip": _recip, "sqrt": np.sqrt, "trunc": np.trunc}
_DOUBLE_MATH: dict[str, Unary] = {"rsqrt": _rsqrt, "exp2": np.exp2, "log2": np.log2, "sin": np.sin}


@cache
def math(kind: str, dtype: DType) -> Unary:
    """Return a math form: recip, sqrt and trunc correctly rounded, the others from f64 (Spec: math_c1, math_c2).

    In f32 a quotient or root of f16 or bf16 numbers cannot lie so near a midpoint that rounding it again goes wrong.
    Source: S. A. Figueroa, "When is double rounding innocuous?", SIGNUM 30(3), 1995.
    """
    if kind in _EXACT_MATH:
        return _float_op(_EXACT_MATH[kind], dtype)
    wide = _DOUBLE_MATH[kind]
    return wide if dtype == F64 else lambda x: rounding.narrow(wide(x.astype(np.float64)), dtype)


# --- the machine's own arithmetic ---------------------------------------------------------------------------------

_PROBE_INPUTS = {
    F32: np.array([2.0**-126, 2.0**-149, 1.0, 1.0, -1.0], np.float32),
    F64: np.array([2.0**-1022, 2.0**-1074, 1.0, 1.0, -1.0], np.float64),
}
_PROBE_FACTORS = {
    F32: np.array([0.5, 1.0, 1.0 + 2.0**-23, 1.0, 1.0], np.float32),
    F64: np.array([0.5, 1.0, 1.0 + 2.0**-52, 1.0, 1.0], np.float64),
}
_PROBE_ADDENDS = {
    F32: np.array([0.0, 2.0**-149, 2.0**-24, 2.0**-24, -(2.0**-24)], np.float32),
    F64: np.array([0.0, 2.0**-1074, 2.0**-53, 2.0**-53, -(2.0**-53)], np.float64),
}
_PROBE_BITS = {
    F32: np.array([0x00400000, 2, 0x3F800002, 0x3F800000, 0xBF800000], np.uint32).tobytes(),
    F64: np.array([2**51, 2, 0x3FF0000000000002, 0x3FF0000000000000, 0xBFF0000000000000], np.uint64).tobytes(),
}


def self_check() -> None:
    """Verify that NumPy's arithmetic is that of IEEE 754 in this thread now: subnormals kept, ties to nearest even.

    A native library can switch either off for the whole process. Raises `HarnessError`. It takes some microseconds.
    """
    for dtype, bits in _PROBE_BITS.items():
        if (_PROBE_INPUTS[dtype] * _PROBE_FACTORS[dtype] + _PROBE_ADDENDS[dtype]).tobytes() != bits:
            raise HarnessError(
                f"{dtype} arithmetic of this process is not IEEE 754: a loaded library has changed the floating-point "
                "mode (flush-to-zero or rounding direction); run the reference in a process of its own"
            )
