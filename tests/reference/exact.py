"""The spec's arithmetic in exact rational numbers on bit patterns: slow, scalar, and sharing nothing with NumPy.

Every function takes and gives bit patterns; a NaN result is `NAN`, whatever its payload (Spec: numeric_c6).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from portkit.spec.types import DType, decode, encode, infinity_bits

NAN = -1


def value(dtype: DType, bits: int) -> float:
    """Return the float of a pattern; a Python float holds every float dtype exactly."""
    return float(decode(dtype, bits))


def rounded(dtype: DType, exact: Fraction, *, negative_zero: bool = False) -> int:
    """Return the pattern nearest to an exact number, with its sign even where it rounds to zero."""
    negative = negative_zero if exact == 0 else exact < 0
    magnitude = encode(dtype, abs(exact))
    if magnitude == infinity_bits(dtype) and not dtype.infinities:
        return NAN
    return magnitude | negative << (dtype.bits - 1)


def special(dtype: DType, result: float) -> int:
    """Return the pattern of an infinity or a NaN."""
    if math.isnan(result) or not dtype.infinities:
        return NAN
    return infinity_bits(dtype) | (result < 0) << (dtype.bits - 1)


def _is_negative(x: float) -> bool:
    return math.copysign(1.0, x) < 0


# --- floats -------------------------------------------------------------------------------------------------------


def add(dtype: DType, a: int, b: int) -> int:
    x, y = value(dtype, a), value(dtype, b)
    if not (math.isfinite(x) and math.isfinite(y)):
        return special(dtype, x + y)
    return rounded(dtype, Fraction(x) + Fraction(y), negative_zero=_is_negative(x) and _is_negative(y))


def mul(dtype: DType, a: int, b: int) -> int:
    x, y = value(dtype, a), value(dtype, b)
    if not (math.isfinite(x) and math.isfinite(y)):
        return special(dtype, x * y)
    return rounded(dtype, Fraction(x) * Fraction(y), negative_zero=_is_negative(x) != _is_negative(y))


def fma(dtype: DType, a: int, b: int, c: int) -> int:
    x, y, z = (value(dtype, v) for v in (a, b, c))
    product_negative = _is_negative(x) != _is_negative(y)
    if not (math.isfinite(x) and math.isfinite(y)):
        return special(dtype, x * y + z)
    if not math.isfinite(z):
        return special(dtype, z)
    both_negative = product_negative and _is_negative(z)
    product_is_zero = x == 0 or y == 0
    return rounded(dtype, Fraction(x) * Fraction(y) + Fraction(z), negative_zero=both_negative and product_is_zero)


def maximum(dtype: DType, a: int, b: int) -> int:
    x, y = value(dtype, a), value(dtype, b)
    if math.isnan(x) or math.isnan(y):
        return NAN
    return a if (x, not _is_negative(x)) >= (y, not _is_negative(y)) else b


def minimum(dtype: DType, a: int, b: int) -> int:
    x, y = value(dtype, a), value(dtype, b)
    if math.isnan(x) or math.isnan(y):
        return NAN
    return a if (x, not _is_negative(x)) <= (y, not _is_negative(y)) else b


def recip(dtype: DType, a: int) -> int:
    x = value(dtype, a)
    if math.isnan(x):
        return NAN
    sign = _is_negative(x) << (dtype.bits - 1)
    if math.isinf(x):
        return sign
    return sign | (infinity_bits(dtype) if x == 0 else rounded(dtype, 1 / abs(Fraction(x))))


def sqrt(dtype: DType, a: int) -> int:
    """The square root to 2 p + 64 bits by integers, made odd where inexact, then rounded once."""
    x = value(dtype, a)
    if math.isnan(x) or x < 0:
        return NAN
    if x == 0 or math.isinf(x):
        return a
    exact = Fraction(x)
    places = 2 * dtype.precision + 64 - min(0, dtype.emin) * 2
    scaled = exact * 4**places
    root = math.isqrt(scaled.numerator // scaled.denominator)
    return rounded(dtype, Fraction(2 * root + (Fraction(root) ** 2 != scaled), 2 * 2**places))


def trunc(dtype: DType, a: int) -> int:
    x = value(dtype, a)
    if not math.isfinite(x):
        return special(dtype, x)
    return rounded(dtype, Fraction(math.trunc(x)), negative_zero=_is_negative(x))


# --- integers -----------------------------------------------------------------------------------------------------


def _wrapped(step: Callable[[DType, int, int], int]) -> Callable[[DType, int, int], int]:
    def apply(dtype: DType, a: int, b: int) -> int:
        return step(dtype, int(decode(dtype, a)), int(decode(dtype, b))) & ((1 << dtype.bits) - 1)

    return apply


INTEGER: dict[str, Callable[[DType, int, int], int]] = {
    "add": _wrapped(lambda _, a, b: a + b),
    "mul": _wrapped(lambda _, a, b: a * b),
    "mul.hi": _wrapped(lambda t, a, b: (a * b) >> t.bits),
    "mul.shl": _wrapped(lambda t, a, n: a << (n % t.bits)),
    "mul.shr": _wrapped(lambda t, a, n: a >> (n % t.bits)),
    "reduce.max": _wrapped(lambda _, a, b: max(a, b)),
    "reduce.min": _wrapped(lambda _, a, b: min(a, b)),
    "reduce.and": _wrapped(lambda _, a, b: a & b),
    "reduce.or": _wrapped(lambda _, a, b: a | b),
    "reduce.xor": _wrapped(lambda _, a, b: a ^ b),
}
FLOAT: dict[str, Callable[[DType, int, int], int]] = {
    "add": add,
    "mul": mul,
    "reduce.max": maximum,
    "reduce.min": minimum,
}
MATH: dict[str, Callable[[DType, int], int]] = {"mov.recip": recip, "mov.sqrt": sqrt, "mov.trunc": trunc}


# --- casts --------------------------------------------------------------------------------------------------------


def cast(source: DType, target: DType, a: int) -> int:
    """Spec: cast_c1..c5."""
    if source.is_int:
        number = int(decode(source, a))
        return number & ((1 << target.bits) - 1) if target.is_int else rounded(target, Fraction(number))
    x = value(source, a)
    if target.is_float:
        if not math.isfinite(x):
            return special(target, x)
        return rounded(target, Fraction(x), negative_zero=_is_negative(x))
    return _to_int(target, x) & ((1 << target.bits) - 1)


def _to_int(target: DType, x: float) -> int:
    if math.isnan(x):
        return 0
    if math.isinf(x):
        return target.min_int if x < 0 else target.max_int
    return max(target.min_int, min(target.max_int, math.trunc(x)))
