"""Types and the encoding of numbers, against NumPy and ml_dtypes."""

from __future__ import annotations

import math
import pickle
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from portkit.errors import SpecError
from portkit.spec.types import (
    BF16,
    BOOL,
    DTYPES,
    F8E4M3FN,
    F8E5M2,
    F16,
    F32,
    F64,
    I8,
    I32,
    U8,
    DType,
    Type,
    decode,
    encode,
    infinity_bits,
    max_finite,
    nan_bits,
    parse_type,
)

NARROW = [F16, BF16, F8E4M3FN, F8E5M2]
narrow = pytest.mark.parametrize("dtype", NARROW, ids=str)
floats = pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.is_float], ids=str)


def patterns(dtype: DType) -> np.ndarray:
    return np.arange(1 << dtype.bits, dtype=f"u{dtype.bytes}")


@narrow
def test_decode_agrees_with_numpy_on_every_bit_pattern(dtype: DType) -> None:
    bits = patterns(dtype)
    with np.errstate(invalid="ignore"):  # signalling NaNs are among the patterns
        expected = bits.view(dtype.numpy).astype(np.float64)
    np.testing.assert_array_equal(np.array([decode(dtype, int(b)) for b in bits]), expected)


@narrow
def test_encode_undoes_decode_on_every_number(dtype: DType) -> None:
    numbers = [b for b in range(1 << dtype.bits) if not math.isnan(decode(dtype, b))]
    assert [encode(dtype, decode(dtype, b)) for b in numbers] == numbers


@narrow
def test_encode_rounds_ties_and_their_neighbours_as_numpy_does(dtype: DType) -> None:
    positive = patterns(dtype)[: infinity_bits(dtype)].view(dtype.numpy).astype(np.float32)
    ties = (positive[:-1] / 2 + positive[1:] / 2)[:: 1 if dtype.bits == 8 else 5]
    values = np.concatenate([ties, np.nextafter(ties, np.float32(np.inf)), np.nextafter(ties, np.float32(0))])
    with np.errstate(over="ignore"):
        expected = values.astype(dtype.numpy).view(f"u{dtype.bytes}")
    assert [encode(dtype, float(v)) for v in values] == expected.tolist()


@pytest.mark.parametrize(("value", "bits"), [(448.0, 0x7E), (464.0, 0x7E), (465.0, 0x7F), (1e9, 0x7F)])
def test_beyond_the_largest_f8e4m3fn_is_nan(value: float, bits: int) -> None:
    assert encode(F8E4M3FN, value) == bits


def test_f8e4m3fn_has_no_infinity() -> None:
    with pytest.raises(SpecError, match="no infinities"):
        encode(F8E4M3FN, math.inf)


@floats
def test_the_largest_number_encodes_to_the_pattern_below_infinity(dtype: DType) -> None:
    assert encode(dtype, max_finite(dtype)) == infinity_bits(dtype) - 1


@floats
def test_half_an_ulp_beyond_the_largest_number_overflows(dtype: DType) -> None:
    ulp = max_finite(dtype) - Fraction(decode(dtype, infinity_bits(dtype) - 2))
    assert encode(dtype, max_finite(dtype) + ulp * Fraction(3, 4)) == infinity_bits(dtype)


@floats
def test_the_canonical_nan_is_a_nan_and_zero_keeps_its_sign(dtype: DType) -> None:
    assert math.isnan(decode(dtype, nan_bits(dtype)))
    assert encode(dtype, math.nan) == nan_bits(dtype)
    assert encode(dtype, -0.0) == 1 << (dtype.bits - 1)


def test_a_fraction_is_rounded_once() -> None:
    tie = 1 + Fraction(1, 2**24)
    assert encode(F32, tie) == 0x3F800000
    assert encode(F32, tie + Fraction(1, 2**60)) == 0x3F800001


@pytest.mark.parametrize(
    ("dtype", "value"),
    [(I8, 128), (I8, -129), (U8, -1), (I32, 2**31), (I32, 1.5), (I32, math.inf), (I32, math.nan), (BOOL, 2)],
    ids=str,
)
def test_a_number_that_does_not_fit_is_refused(dtype: DType, value: float) -> None:
    with pytest.raises(SpecError, match="does not fit") as caught:
        encode(dtype, value)
    assert caught.value.clause == "const_c1"


@pytest.mark.parametrize("value", [-(2**31), -1, 0, 2**31 - 1])
def test_integers_round_trip_as_twos_complement(value: int) -> None:
    assert decode(I32, encode(I32, value)) == value
    assert encode(I32, value) == value % 2**32


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_the_numpy_dtype_has_the_same_width(dtype: DType) -> None:
    assert dtype.numpy.itemsize == dtype.bytes


def test_bf16_is_the_one_of_ml_dtypes() -> None:
    assert BF16.numpy == np.dtype(ml_dtypes.bfloat16)


@pytest.mark.parametrize("text", [*DTYPES, "f32x2", "boolx64", "f8e4m3fnx16"])
def test_a_type_prints_as_it_reads(text: str) -> None:
    assert str(parse_type(text)) == text


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        *((text, "type_c1") for text in ("f33", "", "token", "f32x", "f32 x2", "f32x\N{ARABIC-INDIC DIGIT THREE}")),
        *((text, "type_c2") for text in ("f32x1", "f32x0", "f32x65", "f32x999")),
    ],
)
def test_what_is_no_type_is_refused(text: str, clause: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_type(text)
    assert caught.value.clause == clause


def test_dtypes_and_types_survive_pickling() -> None:
    copy = pickle.loads(pickle.dumps(Type(F64, 4)))
    assert copy == Type(F64, 4)
    assert hash(copy) == hash(Type(F64, 4))
    assert copy != Type(F32, 4)
