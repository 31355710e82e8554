"""Input sets of case operands: special values first, then random ones chosen to hurt.

Every function takes the case id and returns one pattern array per operand, all of one length. The id and the suite
version fix the bits. `portkit.conformance.cases.ties` adds the sets that are aimed at one rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from math import prod

import numpy as np

from portkit.conformance.cases.draws import Draws, Integers, Patterns, compose, exponent_of, u64
from portkit.conformance.cases.specials import finite_specials, nonfinite_specials
from portkit.spec.types import DType, encode

Operands = tuple[Patterns, ...]

CROSS_LIMIT = 12_000
"""Largest full cross product: every pair of special values; beyond it (three operands) a random sample is taken."""
SAMPLE_COUNT = 4096
RANDOM_COUNT = 1200
SMALL_COUNT = 512
SMALL_LIMIT = 8
"""Small-integer data lies in [-8, 8]: sums and products of a few stay exact in every dtype."""


def special(case_id: str, dtypes: Sequence[DType]) -> Operands:
    """Return the full cross product of the finite special values (sampled where it is too large)."""
    return cross(case_id, [finite_specials(d) for d in dtypes])


def nonfinite(case_id: str, dtypes: Sequence[DType]) -> Operands:
    """Return the combinations of special values in which at least one operand is infinite or NaN."""
    lists = [finite_specials(d)[::3] + nonfinite_specials(d) for d in dtypes]
    operands = cross(case_id, lists)
    hit = np.zeros(operands[0].shape, dtype=bool)
    for dtype, operand in zip(dtypes, operands, strict=True):
        hit |= np.isin(operand, np.array(nonfinite_specials(dtype), dtype=np.uint64))
    return tuple(operand[hit] for operand in operands)


def everything_special(case_id: str, dtypes: Sequence[DType]) -> Operands:
    """Return the cross product of all special values, NaNs and infinities included: for forms that move bits."""
    return cross(case_id, [finite_specials(d) + nonfinite_specials(d) for d in dtypes])


def cross(case_id: str, lists: Sequence[Sequence[int]]) -> Operands:
    """Return the full cross product of lists of patterns, or a random sample where it is above `CROSS_LIMIT`."""
    if prod(len(values) for values in lists) > CROSS_LIMIT:
        draws = Draws(case_id)
        return tuple(draws.one_of(values, SAMPLE_COUNT) for values in lists)
    rows = np.array(list(product(*lists)), dtype=np.uint64)
    return tuple(np.ascontiguousarray(column) for column in rows.T)


def random(case_id: str, dtypes: Sequence[DType]) -> Operands:
    """Return random operands: for floats wide exponents, near exponents, cancellation, large onto small and products
    at the ends of the range, in equal parts; for integers uniform bits and mixed magnitudes."""
    draws = Draws(case_id)
    first = dtypes[0]
    if first.is_float and all(d == first for d in dtypes):
        parts = [recipe(draws, first, len(dtypes), RANDOM_COUNT // len(_RECIPES)) for recipe in _RECIPES]
        return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
    return tuple(random_values(draws, d, RANDOM_COUNT) for d in dtypes)


def random_values(draws: Draws, dtype: DType, count: int) -> Patterns:
    """Return one operand of finite random values of any dtype."""
    if dtype.name == "bool":
        return draws.bits(1, count)
    if dtype.is_float:
        half = count // 2
        return np.concatenate([draws.finite(dtype, half), draws.floats(dtype, -4, 4, count - half)])
    mask = u64((1 << dtype.bits) - 1)
    magnitudes = draws.bits(dtype.bits, count) >> draws.integers(0, dtype.bits - 1, count).astype(np.uint64)
    negative = draws.bits(1, count).astype(bool) & dtype.is_signed
    mixed = np.where(negative, (~magnitudes + u64(1)) & mask, magnitudes)
    return np.where(np.arange(count) % 2 == 0, draws.bits(dtype.bits, count), mixed)


def bit_patterns(case_id: str, dtype: DType) -> Patterns:
    """Return uniform random bits of a dtype's width, whatever they mean."""
    return Draws(case_id).bits(dtype.bits, RANDOM_COUNT)


def unit_values(draws: Draws, dtype: DType, count: int) -> Patterns:
    """Return well-scaled values: floats with exponents -3 to 0, integers uniform in a small range."""
    if dtype.is_float:
        return draws.floats(dtype, -3, 0, count)
    return small_values(draws, dtype, count)


def small(case_id: str, dtypes: Sequence[DType]) -> Operands:
    """Return small integers (exact in every dtype) for which the exact answer is required."""
    draws = Draws(case_id)
    return tuple(small_values(draws, d, SMALL_COUNT) for d in dtypes)


def small_values(draws: Draws, dtype: DType, count: int, limit: int = SMALL_LIMIT) -> Patterns:
    """Return integers in [-limit, limit] (from 0 for unsigned dtypes), as patterns of the dtype."""
    low = 0 if not dtype.is_signed and not dtype.is_float else -limit
    table = _small_table(dtype, low, limit)
    return draws.one_of(table, count)


@cache
def _small_table(dtype: DType, low: int, high: int) -> tuple[int, ...]:
    return tuple(encode(dtype, value) for value in range(low, high + 1))


# --- recipes for float operands -----------------------------------------------------------------------------------


def _wide(draws: Draws, dtype: DType, operands: int, count: int) -> list[Patterns]:
    return [draws.finite(dtype, count) for _ in range(operands)]


def _near(draws: Draws, dtype: DType, operands: int, count: int) -> list[Patterns]:
    return [draws.floats(dtype, -3, 3, count) for _ in range(operands)]


def _cancelling(draws: Draws, dtype: DType, operands: int, count: int) -> list[Patterns]:
    """The second operand is minus the first but for a few low bits; a third is about minus the product."""
    first = draws.floats(dtype, -4, 4, count)
    noise = draws.bits(3, count) >> draws.integers(0, 2, count).astype(np.uint64)
    second = (first ^ noise) ^ u64(1 << (dtype.bits - 1))
    rest = [
        compose(
            dtype,
            draws.bits(1, count),
            2 * exponent_of(dtype, first) + draws.integers(-1, 1, count),
            draws.bits(dtype.precision - 1, count),
        )
        for _ in range(operands - 2)
    ]
    return [first, second, *rest][:operands]


def _large_onto_small(draws: Draws, dtype: DType, operands: int, count: int) -> list[Patterns]:
    """Exponents differ by about the precision, so that a sum keeps only a few bits, or half of one."""
    low = max(dtype.emin, dtype.emin // 2)
    first = draws.floats(dtype, low + dtype.precision // 2, dtype.emax // 2, count)
    gap = draws.integers(dtype.precision - 2, dtype.precision + 2, count)
    others = [_at(draws, dtype, exponent_of(dtype, first) - gap) for _ in range(operands - 1)]
    flip = draws.bits(1, count).astype(bool)
    if operands < 2:
        return [first]
    return [np.where(flip, others[0], first), np.where(flip, first, others[0]), *others[1:]]


def _ends_of_range(draws: Draws, dtype: DType, operands: int, count: int) -> list[Patterns]:
    """Exponents whose sum lies about the largest exponent, or where products become subnormal."""
    half = count // 2
    sums = np.concatenate(
        [
            draws.integers(dtype.emax - 2, dtype.emax + 1, half),
            draws.integers(dtype.emin - dtype.precision - 1, dtype.emin + 1, count - half),
        ]
    )
    first = draws.integers(dtype.emin // 2, dtype.emax // 2, count)
    columns = [_at(draws, dtype, first), _at(draws, dtype, sums - first)]
    columns += [_at(draws, dtype, sums + draws.integers(-2, 2, count)) for _ in range(operands - 2)]
    return columns[:operands]


def _at(draws: Draws, dtype: DType, exponents: Integers) -> Patterns:
    count = len(exponents)
    return compose(dtype, draws.bits(1, count), exponents, draws.bits(dtype.precision - 1, count))


_RECIPES: tuple[Callable[[Draws, DType, int, int], list[Patterns]], ...] = (
    _wide,
    _near,
    _cancelling,
    _large_onto_small,
    _ends_of_range,
)
