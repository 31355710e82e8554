"""The special values of every dtype, as bit patterns: where implementations go wrong first."""

from __future__ import annotations

from functools import cache

from portkit.spec.types import DType, infinity_bits, nan_bits


@cache
def finite_specials(dtype: DType) -> tuple[int, ...]:
    """Return the special finite values of a dtype: zeros, subnormals, powers of two and neighbours, extremes."""
    if dtype.name == "bool":
        return (0, 1)
    return _float_specials(dtype) if dtype.is_float else _integer_specials(dtype)


@cache
def nonfinite_specials(dtype: DType) -> tuple[int, ...]:
    """Return infinities and NaNs of a float dtype: quiet, negative, with payload, signalling."""
    if not dtype.is_float:
        return ()
    sign, infinity = 1 << (dtype.bits - 1), infinity_bits(dtype)
    if not dtype.infinities:
        return (nan_bits(dtype), sign | nan_bits(dtype))
    quiet = nan_bits(dtype)
    return (infinity, sign | infinity, quiet, sign | quiet, quiet | 1, infinity | 1)


def _float_specials(dtype: DType) -> tuple[int, ...]:
    mantissa, sign = dtype.precision - 1, 1 << (dtype.bits - 1)
    normal, top = 1 << mantissa, _largest(dtype)
    magnitudes = [0, 1, 2, 3, normal - 2, normal - 1, normal, normal + 1, top - 1, top]
    for exponent in _exponents(dtype):
        power = (exponent - dtype.emin + 1) << mantissa
        magnitudes += [power - 1, power, power + 1]
    one = (1 - dtype.emin) << mantissa
    alternating = 0x5555_5555_5555_5555 & (normal - 1)
    magnitudes += [
        one | (normal >> 1),
        one | alternating,
        (one + normal) | (normal >> 1),
        (one - 4 * normal) | alternating,
    ]
    unique = dict.fromkeys(m for m in magnitudes if 0 <= m <= top)
    return tuple(sign * negative | m for m in unique for negative in (0, 1))


def _largest(dtype: DType) -> int:
    return nan_bits(dtype) - 1 if not dtype.infinities else infinity_bits(dtype) - 1


def _exponents(dtype: DType) -> tuple[int, ...]:
    """Where powers of two matter: one, half the ulp of one, exact integers, half-way to underflow and overflow, the
    edges of the integer dtypes."""
    p = dtype.precision
    wanted = [0, 1, -1, -p, p - 1, p, dtype.emin // 2, dtype.emax // 2, dtype.emax, 7, 15, 31, 63]
    return tuple(dict.fromkeys(e for e in wanted if dtype.emin <= e <= dtype.emax))


def _integer_specials(dtype: DType) -> tuple[int, ...]:
    width, mask = dtype.bits, (1 << dtype.bits) - 1
    values = [0, 1, 2, 3, 5, 7, 10, -1, -2, -3, dtype.min_int, dtype.min_int + 1, dtype.max_int, dtype.max_int - 1]
    for power in _powers(width):
        values += [(1 << power) - 1, 1 << power, (1 << power) + 1, -(1 << power)]
    values += [0x5555_5555_5555_5555, 0xAAAA_AAAA_AAAA_AAAA, 0x0123_4567_89AB_CDEF]
    return tuple(dict.fromkeys(v & mask for v in values))


def _powers(width: int) -> tuple[int, ...]:
    return tuple(sorted({width // 4, width // 2 - 1, width // 2, width // 2 + 1, width - 2, width - 1}))


@cache
def shift_counts(dtype: DType) -> tuple[int, ...]:
    """Return shift counts inside, at and beyond the width, negative ones included (they are taken modulo the width)."""
    width, mask = dtype.bits, (1 << dtype.bits) - 1
    inside = [0, 1, 2, width // 2 - 1, width // 2, width - 2, width - 1]
    beyond = [width, width + 1, 2 * width - 1, 2 * width, -1, -width, dtype.max_int, dtype.min_int]
    return tuple(dict.fromkeys(v & mask for v in inside + beyond))
