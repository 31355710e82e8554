"""Bit patterns that hurt: special values, neighbours of powers of two, and operands whose result is nearly a tie."""

from __future__ import annotations

from itertools import product

import numpy as np

from portkit.reference.generator import Stream, stream
from portkit.spec.types import DType, encode, infinity_bits, nan_bits


def specials(dtype: DType) -> list[int]:
    """Return both signs of zeros, extremes, powers of two and their neighbours; NaN and infinities too."""
    if dtype.is_int:
        values = {dtype.min_int, dtype.min_int + 1, dtype.max_int, dtype.max_int - 1, 0, 1, 2, 3, 7, dtype.bits}
        values |= {dtype.bits - 1, 1 << dtype.bits // 2, (1 << dtype.bits // 2) - 1}
        values |= {-1, -2, -3, -dtype.bits} if dtype.is_signed else set()
        return sorted(encode(dtype, v) for v in values if dtype.min_int <= v <= dtype.max_int)
    one, top = encode(dtype, 1), infinity_bits(dtype)
    least_normal = 1 << (dtype.precision - 1)
    magnitudes = {0, 1, 2, least_normal - 1, least_normal, least_normal + 1, top - 1, top, nan_bits(dtype)}
    magnitudes |= {
        one - 1,
        one,
        one + 1,
        encode(dtype, 2),
        encode(dtype, 3),
        encode(dtype, 2) - 1,
        one // 2,
        3 * one // 2,
    }
    return sorted({m | sign for m in magnitudes for sign in (0, 1 << (dtype.bits - 1))})


def random_bits(draws: Stream, dtype: DType, count: int) -> list[int]:
    """Return uniform patterns."""
    words = draws.bits(2 * count).astype(np.uint64)
    whole = (words[::2] << np.uint64(32)) | words[1::2]
    return (whole >> np.uint64(64 - dtype.bits)).tolist()


def near_one(draws: Stream, dtype: DType, count: int, spread: int = 3) -> list[int]:
    """Return floats of either sign with exponents from -spread to spread, and significands with few or many bits."""
    low = dtype.precision - 1
    significands = np.array(random_bits(draws, dtype, count), np.uint64) & np.uint64((1 << low) - 1)
    kept = draws.integers(0, low, count).astype(np.uint64)
    exponents = draws.integers(-spread, spread, count) - dtype.emin + 1
    signs = draws.integers(0, 1, count).astype(np.uint64) << np.uint64(dtype.bits - 1)
    return (signs | (exponents.astype(np.uint64) << np.uint64(low)) | (significands >> kept << kept)).tolist()


def pairs(dtype: DType, name: str) -> tuple[list[int], ...]:
    """Return two columns: all pairs of specials, uniform patterns, and for floats sums near ties."""
    draws = stream(f"{name}/{dtype}")
    columns = [list(column) for column in zip(*product(specials(dtype), repeat=2), strict=True)]
    for column in columns:
        column += random_bits(draws, dtype, 300)
    if dtype.is_float:
        for column, spread in zip(columns, (1, dtype.precision), strict=True):
            column += near_one(draws, dtype, 600, spread)
    return tuple(columns)


def triples(dtype: DType, name: str) -> tuple[list[int], ...]:
    """Return three columns for a*b + c: specials, random ones, and sums a hair beside a tie."""
    draws = stream(f"{name}/{dtype}")
    few = specials(dtype)[:: 3 if dtype.precision > 11 else 4]
    columns = [list(column) for column in zip(*product(few, repeat=3), strict=True)]
    for column, spread in zip(columns, (2, 2, dtype.precision), strict=True):
        column += random_bits(draws, dtype, 300) + near_one(draws, dtype, 600, spread)
    for row in fma_ties(dtype) + fma_extremes(dtype):
        for column, item in zip(columns, row, strict=True):
            column.append(item)
    return tuple(columns)


def fma_ties(dtype: DType) -> list[tuple[int, int, int]]:
    """Return operands whose exact sum is on a tie, or so little beside one that a wider sum rounds to it.

    Either a*b is half a unit of c, times 1 - u^2, 1 or 1 + 2u, or a*b is a tie itself and c is far below it.
    """
    p = dtype.precision
    one, u = encode(dtype, 1), 1 - p
    rows: list[tuple[int, int, int]] = []
    scales = (0, 3, dtype.emin + p, dtype.emax - 2)
    for scale, significand, sign in product(scales, range(4), (1, -1)):
        c = encode(dtype, sign * _two(scale) * (1 + significand * _two(u)))
        half = encode(dtype, _two(scale + u - 1))
        for a, b in ((half + 1, one - 1), (half, one), (half + 1, one + 1), (half + 1, one - 2), (half - 1, one + 1)):
            rows += [(a, b, c), (a | 1 << (dtype.bits - 1), b, c)]
    a, b = (encode(dtype, 1 + _two(-n)) for n in (p // 2, p - p // 2))
    far = [0, *(encode(dtype, sign * _two(k)) for k in (-3 * p, dtype.emin) for sign in (1, -1) if k >= dtype.emin)]
    return rows + [(a | sign, b, c) for c in far for sign in (0, 1 << (dtype.bits - 1))]


def fma_extremes(dtype: DType) -> list[tuple[int, int, int]]:
    """Return sums halfway between subnormals, or a hair beside, and products that overflow before c decides."""
    p, negative, top = dtype.precision, 1 << (dtype.bits - 1), infinity_bits(dtype)
    one = encode(dtype, 1)
    half = encode(dtype, _two(dtype.emin))  # times 2^-p: half of the least subnormal
    scale = encode(dtype, _two(-p))
    rows = [(half + i, scale + k, c) for i, k, c in product((-1, 0, 1), (-2, -1, 0, 1), (0, 1, 2, 3))]
    rows += [(top - 1, top - 1, negative | top), (top - 1, top - 1, top), (negative | (top - 1), top - 1, top)]
    rows += [
        (top - 1, one + 1, 0),
        (top - 1, one + 1, negative | (top - 1)),
        (top - 1, encode(dtype, 2), negative | top),
    ]
    return rows + [(a ^ negative, b, c) for a, b, c in rows]


def _two(exponent: int) -> float:
    return 2.0**exponent
