"""The floats of emulated chips: fused operations and conversions against exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from portkit.emulators import floats

TINY64, TINY32 = 2.0**-1074, 2.0**-149


def some_doubles(seed: int, count: int = 400, spread: int = 60) -> np.ndarray:
    """Doubles whose exponents vary by so much that sums cancel, round and swallow."""
    rng = np.random.default_rng(seed)
    return np.ldexp(rng.uniform(-1, 1, count), rng.integers(-spread, spread, count).astype(np.int32))


def exact_fma(a: float, b: float, c: float) -> float:
    """Rounded once by Python's division of integers."""
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    return float(exact) if exact else a * b + c


def single(exact: Fraction) -> float:
    """Round a fraction to f32: to 24 bits, or to the subnormals' unit."""
    if not exact:
        return 0.0
    exponent = max(math.frexp(float(exact))[1] - 24, -149)
    return math.ldexp(round(exact / Fraction(2) ** exponent), exponent)


def test_fma_of_doubles_is_rounded_once() -> None:
    a, b, c = (some_doubles(seed) for seed in (1, 2, 3))
    c[:100] = -(a[:100] * b[:100])  # what is left is the product's own rounding error
    c[100:200] = a[100:200] * b[100:200] * 2.0**53
    expected = [exact_fma(*row) for row in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)]
    assert floats.fma64(a, b, c).tolist() == expected


@pytest.mark.parametrize(
    ("a", "b", "c"),
    [
        (2.0**-600, 2.0**-500, 2.0**-1074),  # a product below every double
        (2.0**-537, 1.5 * 2.0**-537, TINY64),  # ties at the subnormals' unit
        (1 + 2.0**-52, 2.0**-1022, -(2.0**-1022)),
        (2.0**600, 2.0**600, -(2.0**1023)),  # a product above every double
        (2.0**600, 2.0**423, -(2.0**1023)),
        (1.5, 1.5, 2.0**1000),
        (2.0**500, 2.0**500, 2.0**-1000),
        (-(2.0**-1074), 0.25, 0.0),
    ],
)
def test_fma_of_doubles_is_exact_at_the_ends_of_the_range(a: float, b: float, c: float) -> None:
    try:
        expected = exact_fma(a, b, c)
    except OverflowError:
        expected = math.inf
    found = float(floats.fma64(*(np.array([x]) for x in (a, b, c)))[0])
    assert (found, math.copysign(1, found)) == (expected, math.copysign(1, expected))


@pytest.mark.parametrize("fma", [floats.fma64, floats.fma32])
def test_fma_keeps_infinities_nan_and_the_sign_of_zero(fma) -> None:
    dtype = np.float64 if fma is floats.fma64 else np.float32
    a, b, c = (
        np.array(x, dtype) for x in ([math.inf, math.inf, 0, -0.0, 1], [1, 0, math.inf, 1, -1], [1, 1, 1, -0.0, 1])
    )
    found = fma(a, b, c)
    assert found[0] == math.inf
    assert np.isnan(found[1:3]).all()
    assert np.signbit(found).tolist()[3:] == [True, False]


def test_a_product_beyond_doubles_is_less_than_infinity() -> None:
    large = np.array([1e308])
    assert floats.fma64(large, large, np.array([-math.inf])).tolist() == [-math.inf]


def test_fma_of_singles_is_rounded_once() -> None:
    a, b, c = (some_doubles(seed).astype(np.float32) for seed in (4, 5, 6))
    c[:100] = (-(a[:100].astype(float) * b[:100])).astype(np.float32)
    rows = zip(a.tolist(), b.tolist(), c.tolist(), strict=True)
    assert floats.fma32(a, b, c).tolist() == [single(Fraction(x) * Fraction(y) + Fraction(z)) for x, y, z in rows]


def test_fma_of_singles_breaks_no_tie_that_only_f64_sees() -> None:
    """1 + 2^-24 is a tie for f32; the 2^-80 beside it is lost to f64."""
    a, b = np.array([2.0**-40, 2.0**-40], np.float32), np.array([2.0**-40, -(2.0**-40)], np.float32)
    c = np.array([1 + 2.0**-23, 1], np.float32)
    half = np.float32(2.0**-12)
    exact_ties = floats.fma32(np.full(2, half), np.full(2, half), c)
    assert exact_ties.tolist() == [1 + 2.0**-22, 1]
    above = floats.fma32(
        np.array([1 + 2.0**-12], np.float32), np.array([2.0**-24], np.float32), np.array([1], np.float32)
    )
    assert above.tolist() == [1 + 2.0**-23]
    assert floats.fma32(a, b, np.array([1, 1], np.float32)).tolist() == [1, 1]


def test_fma_of_narrow_floats_is_rounded_once() -> None:
    one = np.array([1], np.float16)
    assert floats.fma16(np.array([2.0**-11], np.float16), one, one).tolist() == [1]
    assert floats.fma16(np.array([2.0**-11 * 1.5], np.float16), one, one).tolist() == [1 + 2.0**-10]


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        ("nearest", [1, -1, 0, math.inf]),
        ("zero", [1, -1, 0, 3.4028234663852886e38]),
        ("up", [1 + 2.0**-23, -1, TINY32, math.inf]),
        ("down", [1, -1 - 2.0**-23, 0, 3.4028234663852886e38]),
        ("odd", [1 + 2.0**-23, -1 - 2.0**-23, TINY32, 3.4028234663852886e38]),
    ],
)
def test_a_double_is_narrowed_in_each_direction(rounding: floats.Rounding, expected: list[float]) -> None:
    values = np.array([1 + 2.0**-30, -1 - 2.0**-30, 2.0**-160, 1e39])
    assert floats.narrow(values, np.float32, rounding).tolist() == expected


def test_what_fits_is_narrowed_alike_in_every_direction() -> None:
    values = np.array([0.0, -0.0, 1.5, -TINY32, math.inf, -math.inf])
    for rounding in ("nearest", "zero", "up", "down", "odd"):
        assert floats.narrow(values, np.float32, rounding).tolist() == values.tolist()


def test_long_integers_become_narrow_floats_in_one_rounding() -> None:
    """2^35 + 2^24 + 1 is just above a tie of f16 that f32 rounds to the tie itself."""
    values = np.array([2048 + 1, 4096 + 2 + 1, (1 << 63) - 1, -(1 << 63)], np.int64)
    assert floats.from_integer(values, np.float16).tolist() == [2048, 4100, math.inf, -math.inf]
    assert floats.from_integer(np.array([(1 << 24) + 1, (1 << 62) + (1 << 38) + 1], np.int64), np.float32).tolist() == [
        float(1 << 24),
        float((1 << 62) + (1 << 39)),
    ]


def test_floats_saturate_as_integers_and_nan_is_zero() -> None:
    values = np.array([1e30, -1e30, math.nan, math.inf, -3], np.float32)
    assert floats.to_integer(values, np.int32).tolist() == [2**31 - 1, -(2**31), 0, 2**31 - 1, -3]
    assert floats.to_integer(values, np.uint8).tolist() == [255, 0, 0, 255, 0]
    assert floats.to_integer(values, np.int64).tolist() == [2**63 - 1, -(2**63), 0, 2**63 - 1, -3]
    assert floats.to_integer(values, np.uint64).tolist() == [2**64 - 1, 0, 0, 2**64 - 1, 0]


def test_flushing_keeps_the_sign_and_every_normal_number() -> None:
    found = floats.flushed(np.array([TINY32, -TINY32, 2.0**-126, math.inf], np.float32))
    assert found.tolist() == [0, 0, 2.0**-126, math.inf]
    assert np.signbit(found).tolist() == [False, True, False, False]
