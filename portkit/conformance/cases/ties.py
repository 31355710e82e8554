"""Inputs aimed at one rounding: results that lie exactly between two neighbours, and just beside.

Random operands almost never meet a tie, so round-half-away, truncation and double rounding pass them all. p is the
precision of a dtype; u its unit 2^(1-p).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from portkit.conformance.cases.draws import Draws, Integers, Patterns, compose, u64
from portkit.conformance.cases.inputs import Operands
from portkit.spec.types import DType, encode, max_finite

COUNT = 384


def add_ties(case_id: str, dtypes: Sequence[DType]) -> Operands:
    """Return a + b where b ends exactly at half an ulp of a, or one unit of b beside it."""
    draws, dtype = Draws(case_id), dtypes[0]
    p = dtype.precision
    exponents = draws.integers(max(dtype.emin + p + 1, -40), min(dtype.emax - 2, 40), COUNT)
    first = compose(dtype, draws.bits(1, COUNT), exponents, draws.bits(p - 1, COUNT))
    gap = draws.integers(1, p, COUNT)
    low = (gap - 1).astype(np.uint64)
    mantissas = np.where(gap == p, u64(0), ((draws.bits(p - 1, COUNT) | u64(1)) << low) & u64((1 << (p - 1)) - 1))
    second = compose(dtype, draws.bits(1, COUNT), exponents - gap, mantissas)
    return first, second + _beside(draws)


def mul_ties(case_id: str, dtypes: Sequence[DType]) -> Operands:
    """Return a * b where the product of the odd significands has exactly p + 1 bits, or nearly."""
    draws, dtype = Draws(case_id), dtypes[0]
    first, second = _odd_factors(draws, dtype)
    return first, second + np.where(np.arange(COUNT) % 4 == 3, u64(1), u64(0))


def fma_ties(case_id: str, dtypes: Sequence[DType]) -> Operands:
    """Return a * b + c of three kinds: a tie of the product broken by a tiny c, a product near half an ulp of c, and
    a c that cancels the product down to its rounding error."""
    parts = [maker(Draws(f"{case_id}:{number}"), dtypes[0]) for number, maker in enumerate(_FMA_KINDS)]
    first, second, third = (np.concatenate(column) for column in zip(*parts, strict=True))
    return first, second, third


def _tie_broken_by_c(draws: Draws, dtype: DType) -> Operands:
    """c is so small that adding it in twice the precision leaves the tie, which then rounds to even."""
    first, second = _odd_factors(draws, dtype)
    exponents = draws.integers(dtype.emin, dtype.emin + dtype.precision, COUNT)
    return first, second, compose(dtype, draws.bits(1, COUNT), exponents, draws.bits(dtype.precision - 1, COUNT))


def _product_near_half_ulp(draws: Draws, dtype: DType) -> Operands:
    """(1 + iu)(1 - iu) = 1 - (iu)^2: just below half an ulp of c, and exactly half where i is 0."""
    p = dtype.precision
    steps = draws.integers(0, 3, COUNT).astype(np.uint64)
    high = draws.integers(-2, min(10, dtype.emax // 4), COUNT)
    first = compose(dtype, draws.bits(1, COUNT), high, steps)
    one_below = u64(1 << (p - 1)) - (steps << u64(1))
    below = compose(dtype, draws.bits(1, COUNT), np.where(steps == 0, 0, -1), one_below & u64((1 << (p - 1)) - 1))
    third = compose(dtype, draws.bits(1, COUNT), high + p, draws.bits(p - 1, COUNT))
    return first, below, third


def _cancelled_product(draws: Draws, dtype: DType) -> Operands:
    p = dtype.precision
    first_bits, second_bits = draws.bits(p - 1, COUNT), draws.bits(p - 1, COUNT)
    signs = draws.bits(1, COUNT)
    first = compose(dtype, signs, np.zeros(COUNT, dtype=np.int64), first_bits)
    second = compose(dtype, signs, np.zeros(COUNT, dtype=np.int64), second_bits)
    scale, one = 1 << (p - 1), 1 << (p - 1)
    third = [
        encode(dtype, -Fraction((one + int(a)) * (one + int(b)), scale * scale))
        for a, b in zip(first_bits, second_bits, strict=True)
    ]
    return first, second, np.array(third, dtype=np.uint64) + _beside(draws)


_FMA_KINDS = (_tie_broken_by_c, _product_near_half_ulp, _cancelled_product)


def _odd_factors(draws: Draws, dtype: DType) -> tuple[Patterns, Patterns]:
    """Two numbers whose odd significands have p + 1 or p + 2 bits together."""
    p = dtype.precision
    width = draws.integers(2, p - 1, COUNT)
    other = p + 1 + draws.integers(0, 1, COUNT) - width
    return _odd(draws, dtype, width), _odd(draws, dtype, np.minimum(other, p))


def _odd(draws: Draws, dtype: DType, width: Integers) -> Patterns:
    """Odd significands of `width` bits, the leading one included, at exponents around 0."""
    p = dtype.precision
    keep = (width - 1).astype(np.uint64)
    tail = (draws.bits(p - 1, len(width)) & ((u64(1) << keep) - u64(1))) | u64(1)
    mantissas = np.where(width <= 1, u64(0), tail << (u64(p - 1) - keep))
    return compose(dtype, draws.bits(1, len(width)), draws.integers(-3, 3, len(width)), mantissas)


def _beside(draws: Draws) -> Patterns:
    """0, 0, +1 or -1 unit in the last place (as a wrapping addend)."""
    return draws.one_of([0, 0, 1, 0xFFFF_FFFF_FFFF_FFFF], COUNT)


# --- casts --------------------------------------------------------------------------------------------------------


def cast_ties(case_id: str, source: DType, target: DType) -> Operands:
    """Return operands of a cast at ties and just beside, at the ends of the target's range, by the kinds of both."""
    draws = Draws(case_id)
    maker = {
        (True, True): _float_to_float,
        (False, True): _integer_to_float,
        (True, False): _float_to_integer,
        (False, False): _integer_to_integer,
    }[source.is_float, target.is_float]
    return (maker(draws, source, target),)


def _float_to_float(draws: Draws, source: DType, target: DType) -> Patterns:
    p, q = source.precision, target.precision
    low, high = max(source.emin, target.emin - q - 1), min(source.emax, target.emax + 1)
    exponents = draws.integers(low, high, COUNT)
    dropped = np.clip(p - q + np.maximum(0, target.emin - exponents), 0, p - 1).astype(np.uint64)
    half = np.where(dropped > 0, u64(1) << (np.maximum(dropped, u64(1)) - u64(1)), u64(0))
    kept = (draws.bits(p - 1, COUNT) >> dropped) << dropped
    patterns = compose(source, draws.bits(1, COUNT), exponents, kept | half) + _beside(draws)
    return np.concatenate([patterns, _overflow_border(source, target)])


def _overflow_border(source: DType, target: DType) -> Patterns:
    """The largest finite target number plus half its ulp, which rounds to infinity, and its neighbours."""
    top = max_finite(target)
    half_ulp = Fraction(2) ** (target.emax - target.precision)
    if top + half_ulp >= max_finite(source):
        return np.zeros(0, dtype=np.uint64)
    at, sign = encode(source, top + half_ulp), 1 << (source.bits - 1)
    return np.array([s | at + step for s in (0, sign) for step in (-1, 0, 1)], dtype=np.uint64)


def _integer_to_float(draws: Draws, source: DType, target: DType) -> Patterns:
    width = source.bits - source.is_signed
    anything, long = draws.integers(2, width, COUNT), draws.integers(min(target.precision + 1, width), width, COUNT)
    used = np.where(np.arange(COUNT) % 4 == 0, anything, long)
    values = (draws.bits(64, COUNT) | u64(1 << 63)) >> (64 - used).astype(np.uint64)
    dropped = np.maximum(used - target.precision, 0).astype(np.uint64)
    half = np.where(dropped > 0, u64(1) << (np.maximum(dropped, u64(1)) - u64(1)), u64(0))
    beside = np.where(dropped > 1, _beside(draws), u64(0))
    values = ((values >> dropped) << dropped | half) + beside
    negative = draws.bits(1, COUNT).astype(bool) & source.is_signed
    return np.where(negative, ~values + u64(1), values) & u64((1 << source.bits) - 1)


def _float_to_integer(draws: Draws, source: DType, target: DType) -> Patterns:
    borders = (target.min_int, target.max_int, target.max_int + 1, target.min_int - 1, 0, 1, -1, 2, 100)
    offsets = (Fraction(0), Fraction(1, 2), Fraction(-1, 2), Fraction(3, 4))
    patterns: list[int] = []
    for value in (border + offset for border in borders for offset in offsets):
        if abs(value) < max_finite(source) / 2:
            at = encode(source, value)
            patterns += [at, at + 1, max(at - 1, 0)]
    exponents = draws.integers(-2, min(target.bits, source.emax), COUNT)
    rest = compose(source, draws.bits(1, COUNT), exponents, draws.bits(source.precision - 1, COUNT))
    return np.concatenate([np.array(patterns, dtype=np.uint64), rest])


def _integer_to_integer(draws: Draws, source: DType, target: DType) -> Patterns:
    edges = [1 << k for k in {source.bits - 1, min(source.bits, target.bits) - 1}]
    table = [(edge + step) & ((1 << source.bits) - 1) for edge in edges for step in (-2, -1, 0, 1)]
    return np.concatenate([np.array(table, dtype=np.uint64), draws.bits(source.bits, COUNT)])
