"""Dtypes, vector types, and the exact conversion between numbers and bit patterns.

A value of a dtype is always exchanged as its *bit pattern*, an unsigned Python integer, so that NaN payloads and
signed zeros survive every trip through text, JSON and files.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

from portkit.errors import SpecError
from portkit.spec.names import near, show

if TYPE_CHECKING:
    import numpy as np

MAX_LANES = 64


class Kind(Enum):
    """What the bits of a dtype mean."""

    BOOL = "bool"
    SINT = "signed integer"
    UINT = "unsigned integer"
    FLOAT = "float"
    TOKEN = "token"


@dataclass(frozen=True, slots=True, eq=False)
class DType:
    """A scalar number format; the set is closed, so that the name is the identity.

    `bits` is the width in memory; `precision` counts significand bits with the hidden one; `emax` is the largest
    exponent, `emin` the exponent of the smallest normal number. `infinities` is false where the top exponent holds
    numbers (f8e4m3fn). `numpy_name` is the NumPy (or ml_dtypes) name of the same format.
    """

    name: str
    kind: Kind
    bits: int
    base: bool = False
    precision: int = 0
    emax: int = 0
    emin: int = 0
    infinities: bool = True
    numpy_name: str = ""

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, DType) and self.name == other.name)

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def is_float(self) -> bool:
        return self.kind is Kind.FLOAT

    @property
    def is_int(self) -> bool:
        return self.kind in (Kind.SINT, Kind.UINT)

    @property
    def is_signed(self) -> bool:
        return self.kind is Kind.SINT

    @property
    def bytes(self) -> int:
        return self.bits // 8

    @property
    def min_int(self) -> int:
        return -(1 << (self.bits - 1)) if self.is_signed else 0

    @property
    def max_int(self) -> int:
        return (1 << (self.bits - self.is_signed)) - 1

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype of the same format; ml_dtypes is imported for bf16 and f8 only."""
        return _numpy_dtype(self.numpy_name)

    def __str__(self) -> str:
        return self.name


@cache
def _numpy_dtype(name: str) -> np.dtype[Any]:
    import numpy as np

    if hasattr(np, name):
        return np.dtype(getattr(np, name))
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name))


def _float(
    name: str,
    bits: int,
    precision: int,
    emax: int,
    emin: int,
    numpy_name: str,
    *,
    base: bool = False,
    infinities: bool = True,
) -> DType:
    return DType(name, Kind.FLOAT, bits, base, precision, emax, emin, infinities, numpy_name)


BOOL = DType("bool", Kind.BOOL, 8, base=True, numpy_name="bool_")
I32 = DType("i32", Kind.SINT, 32, base=True, numpy_name="int32")
U32 = DType("u32", Kind.UINT, 32, base=True, numpy_name="uint32")
F32 = _float("f32", 32, 24, 127, -126, "float32", base=True)
I8 = DType("i8", Kind.SINT, 8, numpy_name="int8")
U8 = DType("u8", Kind.UINT, 8, numpy_name="uint8")
I16 = DType("i16", Kind.SINT, 16, numpy_name="int16")
U16 = DType("u16", Kind.UINT, 16, numpy_name="uint16")
I64 = DType("i64", Kind.SINT, 64, numpy_name="int64")
U64 = DType("u64", Kind.UINT, 64, numpy_name="uint64")
F16 = _float("f16", 16, 11, 15, -14, "float16")
BF16 = _float("bf16", 16, 8, 127, -126, "bfloat16")
F64 = _float("f64", 64, 53, 1023, -1022, "float64")
F8E4M3FN = _float("f8e4m3fn", 8, 4, 8, -6, "float8_e4m3fn", infinities=False)
F8E5M2 = _float("f8e5m2", 8, 3, 15, -14, "float8_e5m2")
TOKEN = DType("token", Kind.TOKEN, 0)

DTYPES: dict[str, DType] = {
    d.name: d for d in (BOOL, I32, U32, F32, I8, U8, I16, U16, I64, U64, F16, BF16, F64, F8E4M3FN, F8E5M2)
}


@dataclass(frozen=True, slots=True)
class Type:
    """A dtype with a lane count, written `f32` or `f32x8`."""

    dtype: DType
    lanes: int = 1

    @property
    def scalar(self) -> Type:
        """The type of one lane."""
        return Type(self.dtype)

    @property
    def bits(self) -> int:
        return self.dtype.bits * self.lanes

    def with_dtype(self, dtype: DType) -> Type:
        return Type(dtype, self.lanes)

    def __str__(self) -> str:
        return self.dtype.name if self.lanes == 1 else f"{self.dtype.name}x{self.lanes}"


_TYPE = re.compile(r"(bool|[iu]\d+|b?f\d+(?:e\dm\d(?:fn)?)?)(?:x(\d{1,3}))?", re.ASCII)


def parse_type(text: str) -> Type:
    """Return the type written as `text`.

    Raises `SpecError` (type_c1 unknown dtype, type_c2 lane count outside 2..64).
    """
    match = _TYPE.fullmatch(text)
    if match is None or match[1] not in DTYPES:
        raise SpecError(f"unknown type {show(text)}{near(text, DTYPES)}", clause="type_c1")
    lanes = int(match[2]) if match[2] else 1
    if match[2] and not 2 <= lanes <= MAX_LANES:
        raise SpecError(f"lane count of {show(text)} is outside 2..{MAX_LANES}", clause="type_c2")
    return Type(DTYPES[match[1]], lanes)


# --- numbers <-> bit patterns -------------------------------------------------------------------------------------


def encode(dtype: DType, value: float | int | Fraction | bool) -> int:
    """Return the bit pattern of `value` in `dtype`, floats rounded once to nearest even (overflow gives infinity).

    Integers must be in range; NaN gives the canonical quiet NaN. Raises `SpecError` (const_c1) if out of range.
    Source: IEEE 754-2019, 4.3.1 (roundTiesToEven) and 3.4 (encodings).
    """
    finite = not isinstance(value, float) or math.isfinite(value)
    if not dtype.is_float:
        low, high = (0, 1) if dtype.kind is Kind.BOOL else (dtype.min_int, dtype.max_int)
        if not finite or value != int(value) or not low <= value <= high:
            raise SpecError(f"{value} does not fit {dtype}", clause="const_c1")
        return int(value) & ((1 << dtype.bits) - 1)
    if isinstance(value, float) and not finite:
        return _encode_nonfinite(dtype, value)
    negative = math.copysign(1.0, value) < 0 if isinstance(value, float) else value < 0
    sign = int(negative) << (dtype.bits - 1)
    return sign | _encode_magnitude(dtype, abs(Fraction(value)))


def _encode_nonfinite(dtype: DType, value: float) -> int:
    sign = int(math.copysign(1.0, value) < 0) << (dtype.bits - 1)
    if math.isnan(value):
        return nan_bits(dtype)
    if not dtype.infinities:
        raise SpecError(f"{dtype} has no infinities", clause="const_c1")
    return sign | infinity_bits(dtype)


def mantissa_bits(dtype: DType) -> int:
    """Return how many bits a float dtype stores of its significand."""
    return dtype.precision - 1


def infinity_bits(dtype: DType) -> int:
    """Return the bit pattern of +inf; for a format without infinities, that of its NaN."""
    mantissa = mantissa_bits(dtype)
    if not dtype.infinities:
        return nan_bits(dtype)
    return ((1 << (dtype.bits - 1 - mantissa)) - 1) << mantissa


def nan_bits(dtype: DType) -> int:
    """Return the bit pattern of the canonical quiet NaN."""
    mantissa = mantissa_bits(dtype)
    if not dtype.infinities:
        return (1 << (dtype.bits - 1)) - 1
    return infinity_bits(dtype) | (1 << (mantissa - 1))


def max_finite(dtype: DType) -> Fraction:
    """Return the largest finite number of a float dtype."""
    ulp = Fraction(2) ** (dtype.emax - mantissa_bits(dtype))
    top = (1 << dtype.precision) - 1 if dtype.infinities else (1 << dtype.precision) - 2
    return top * ulp


def _encode_magnitude(dtype: DType, value: Fraction) -> int:
    if value == 0:
        return 0
    mantissa = mantissa_bits(dtype)
    exponent = max(_floor_log2(value), dtype.emin)
    steps = value / Fraction(2) ** (exponent - mantissa)
    rounded = round(steps)  # Fraction.__round__ ties to even
    if rounded >> dtype.precision:
        exponent, rounded = exponent + 1, rounded >> 1
    if rounded * Fraction(2) ** (exponent - mantissa) > max_finite(dtype):
        return infinity_bits(dtype)
    if rounded < (1 << mantissa):
        return rounded  # subnormal
    return ((exponent - dtype.emin + 1) << mantissa) | (rounded - (1 << mantissa))


def _floor_log2(value: Fraction) -> int:
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if Fraction(2) ** guess <= value else guess - 1


def decode(dtype: DType, bits: int) -> float | int | bool:
    """Return the Python value of a bit pattern; every dtype's values are exact as int or float."""
    if dtype.kind is Kind.BOOL:
        return bool(bits)
    if dtype.is_int:
        return bits - (1 << dtype.bits) if dtype.is_signed and bits >> (dtype.bits - 1) else bits
    mantissa = mantissa_bits(dtype)
    sign = -1.0 if bits >> (dtype.bits - 1) else 1.0
    magnitude = bits & ((1 << (dtype.bits - 1)) - 1)
    if magnitude > infinity_bits(dtype) or (not dtype.infinities and magnitude == nan_bits(dtype)):
        return math.nan
    if magnitude == infinity_bits(dtype):
        return sign * math.inf
    exponent, fraction = magnitude >> mantissa, magnitude & ((1 << mantissa) - 1)
    if exponent == 0:
        return sign * math.ldexp(fraction, dtype.emin - mantissa)
    return sign * math.ldexp(fraction | (1 << mantissa), exponent - 1 + dtype.emin - mantissa)
