"""Literals: what people write for a bit pattern, and the shortest text that says it."""

from __future__ import annotations

import math
import random
import struct

import numpy as np
import pytest

from portkit.errors import SpecError
from portkit.spec.literals import format_literal, parse_literal
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
    U32,
    U64,
    DType,
    decode,
    encode,
)

EVERY = [d for d in DTYPES.values() if d.bits == 8 and d != BOOL]
SAMPLED = [d for d in DTYPES.values() if d.bits > 8]


def significant_digits(text: str) -> str:
    return text.lstrip("-").partition("e")[0].replace(".", "").strip("0")


@pytest.mark.parametrize("dtype", EVERY, ids=str)
def test_every_pattern_of_a_byte_round_trips(dtype: DType) -> None:
    assert [parse_literal(dtype, format_literal(dtype, bits)) for bits in range(256)] == list(range(256))


@pytest.mark.parametrize("dtype", SAMPLED, ids=str)
def test_patterns_of_every_magnitude_round_trip(dtype: DType) -> None:
    rng = random.Random(dtype.name)
    edges = [(1 << k) + d for k in range(dtype.bits) for d in (-1, 0, 1) if 0 <= (1 << k) + d < 1 << dtype.bits]
    bits = [*edges, *(rng.getrandbits(dtype.bits) for _ in range(1000))]
    assert [parse_literal(dtype, format_literal(dtype, b)) for b in bits] == bits


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_half_floats_round_trip_with_at_most_five_digits(dtype: DType) -> None:
    digits = {F16: 5, BF16: 4}[dtype]
    for bits in range(0, 1 << 15, 7):
        text = format_literal(dtype, bits)
        assert parse_literal(dtype, text) == bits
        assert "nan" in text or len(significant_digits(text)) <= digits


def test_an_f64_prints_as_short_as_in_python() -> None:
    rng = random.Random(64)
    for bits in (rng.getrandbits(64) for _ in range(2000)):
        value = struct.unpack("<d", struct.pack("<Q", bits))[0]
        if math.isfinite(value):
            text = format_literal(F64, bits)
            assert float(text) == value
            assert significant_digits(text) == significant_digits(repr(value))


def test_an_f32_prints_the_digits_that_numpy_finds() -> None:
    bits = np.random.default_rng(32).integers(0, 2**32, 2000, dtype=np.uint32)
    for pattern, value in zip(bits.tolist(), bits.view(np.float32), strict=True):
        if np.isfinite(value):
            shortest = np.format_float_scientific(value, unique=True, trim="-")
            again = np.format_float_scientific(np.float64(format_literal(F32, pattern)), unique=True, trim="-")
            assert again == shortest


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (0.1, "0.1"),
        (-2.5, "-2.5"),
        (1e-7, "1e-07"),
        (1e20, "1e+20"),
        (3.4028235e38, "3.4028235e+38"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
    ],
    ids=str,
)
def test_an_f32_prints_the_shortest_decimal(value: float, text: str) -> None:
    assert format_literal(F32, encode(F32, value)) == text


@pytest.mark.parametrize(
    ("dtype", "text", "bits"),
    [
        (F32, "0x1.8p+1", 0x40400000),
        (F32, "-0x.8p0", 0xBF000000),
        (F32, "0X1P-149", 1),
        (F32, "1", 0x3F800000),
        (F32, ".5", 0x3F000000),
        (F32, "5.", 0x40A00000),
        (F32, "+2e0", 0x40000000),
        (F32, "-0", 0x80000000),
        (F32, "1e-999999999", 0),
        (F32, "0e999999999", 0),
        (F32, "-nan", 0xFFC00000),
        (F32, "nan:0x1", 0x7F800001),
        (F32, "-nan:0x7fffff", 0xFFFFFFFF),
        (F16, "65504", 0x7BFF),
        (F16, "65519", 0x7BFF),
        (BF16, "0.1", 0x3DCD),
        (F64, "5e-324", 1),
        (F8E4M3FN, "448", 0x7E),
        (F8E4M3FN, "nan", 0x7F),
        (F8E4M3FN, "-nan:0x7", 0xFF),
        (F8E5M2, "inf", 0x7C),
        (I32, "-1", 0xFFFFFFFF),
        (I32, "0x7fffffff", 0x7FFFFFFF),
        (I32, "-0x80000000", 0x80000000),
        (U64, "18446744073709551615", 2**64 - 1),
        (BOOL, "true", 1),
        (BOOL, "false", 0),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_literal_reads_as_its_bit_pattern(dtype: DType, text: str, bits: int) -> None:
    assert parse_literal(dtype, text) == bits


def test_a_decimal_halfway_is_rounded_to_even_and_a_digit_beyond_it_up() -> None:
    halfway = format(1 + 2.0**-24, ".24f")
    assert parse_literal(F32, halfway) == 0x3F800000
    assert parse_literal(F32, f"{halfway}{'0' * 500}1") == 0x3F800001


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        (F32, ""),
        (F32, "."),
        (F32, "e5"),
        (F32, "1e"),
        (F32, "0x"),
        (F32, "0x3f800000"),
        (F32, "1_0"),
        (F32, "1.5f"),
        (F32, "--1"),
        (F32, "infinity"),
        (F32, "nan:0x0"),
        (F32, "nan:0x800000"),
        (F32, "nan:1"),
        (F32, "3.5e38"),
        (F32, "1e999999999"),
        (F32, "0x1p128"),
        (F32, "1" * 1201),
        (F32, "\N{ARABIC-INDIC DIGIT THREE}"),
        (F16, "65520"),
        (F8E4M3FN, "inf"),
        (F8E4M3FN, "465"),
        (F8E4M3FN, "nan:0x1"),
        (I32, "1.0"),
        (I32, "2147483648"),
        (I32, "9" * 65),
        (I32, "0x"),
        (I8, "-129"),
        (U32, "-1"),
        (BOOL, "1"),
        (BOOL, "True"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_literal_that_does_not_read_or_fit_is_refused(dtype: DType, text: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_literal(dtype, text)
    assert caught.value.clause == "const_c1"


def test_a_hexadecimal_integer_for_a_float_gets_a_hint() -> None:
    with pytest.raises(SpecError, match=r"a hexadecimal float needs an exponent, as in 0x1.8p\+1"):
        parse_literal(F32, "0x3f800000")


def test_decimals_are_rounded_in_their_own_dtype() -> None:
    text = "2049.0009765625"  # through f32 it would become 2049 and then tie down to 2048
    assert decode(F16, parse_literal(F16, "2049.0001")) == 2050
    assert decode(F16, parse_literal(F16, "2049")) == 2048
    assert decode(F16, parse_literal(F16, f"2049.{'0' * 30}1")) == 2050
    assert decode(F32, parse_literal(F32, text)) == float(text)
