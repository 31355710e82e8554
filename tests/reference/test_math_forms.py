"""Native math forms of the reference: within the accuracy table of mpmath, with the special values of IEEE 754."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import pytest

from portkit.reference.generator import stream
from portkit.spec.forms import CLASSES, accuracy
from portkit.spec.types import DTYPES, DType, decode, encode, max_finite
from tests.reference import exact
from tests.reference.launch import run_form
from tests.reference.patterns import near_one, random_bits

REALS = [DTYPES[name] for name in CLASSES["real"]]
MATH: dict[str, Callable[[Any], Any]] = {
    "mov.rsqrt": lambda x: 1 / mpmath.sqrt(x),
    "mov.exp2": lambda x: mpmath.power(2, x),
    "mov.log2": lambda x: mpmath.log(x, 2),
    "mov.sin": mpmath.sin,
}


def ulp(dtype: DType, number: Fraction) -> Fraction:
    """Return the distance of neighbouring numbers at a positive real. Source: Muller, "On the definition of ulp(x)"."""
    exponent = math.frexp(float(number))[1] - 1
    return Fraction(2) ** (max(exponent, dtype.emin) - dtype.precision + 1)


def domain(form: str, dtype: DType) -> list[int]:
    """Return patterns in the domain of a function, whose results are neither huge nor tiny."""
    draws = stream(f"{form}/{dtype}")
    found = near_one(draws, dtype, 500, 4) + random_bits(draws, dtype, 300)
    limit = dtype.emax if form == "mov.exp2" else max_finite(dtype)
    positive = form in ("mov.rsqrt", "mov.log2")
    numbers = [(bits, float(decode(dtype, bits))) for bits in found]
    return [b for b, x in numbers if math.isfinite(x) and abs(x) < limit and x != 0 and not (positive and x < 0)]


@pytest.mark.parametrize("dtype", REALS, ids=str)
@pytest.mark.parametrize("form", MATH)
def test_a_math_form_is_within_the_accuracy_table(form: str, dtype: DType) -> None:
    patterns = domain(form, dtype)
    actual = run_form(form, dtype, (patterns,), numeric="fast")
    with mpmath.workprec(1200):  # enough to reduce the largest f64 modulo pi
        for bits, result in zip(patterns, actual, strict=True):
            number = mpmath.mpf(float(decode(dtype, bits)))
            true = MATH[form](number)
            error = abs(mpmath.mpf(float(decode(dtype, result))) - true)
            unit = ulp(dtype, Fraction(abs(float(true))))
            assert error <= accuracy(form, dtype) * mpmath.mpf(unit.numerator) / unit.denominator, (number, result)


SPECIAL = [
    ("mov.exp2", 0.0, 1.0), ("mov.exp2", -0.0, 1.0), ("mov.exp2", -math.inf, 0.0), ("mov.exp2", math.inf, math.inf),
    ("mov.log2", 0.0, -math.inf), ("mov.log2", -0.0, -math.inf), ("mov.log2", 1.0, 0.0), ("mov.log2", -1.0, math.nan),
    ("mov.log2", math.inf, math.inf), ("mov.rsqrt", 0.0, math.inf), ("mov.rsqrt", -0.0, -math.inf),
    ("mov.rsqrt", -1.0, math.nan), ("mov.rsqrt", math.inf, 0.0), ("mov.sin", 0.0, 0.0), ("mov.sin", -0.0, -0.0),
    ("mov.sin", math.inf, math.nan), ("mov.sin", -math.inf, math.nan), ("mov.exp2", math.nan, math.nan),
    ("mov.log2", math.nan, math.nan), ("mov.rsqrt", math.nan, math.nan), ("mov.sin", math.nan, math.nan),
]  # fmt: skip


@pytest.mark.parametrize("dtype", REALS, ids=str)
@pytest.mark.parametrize(("form", "operand", "expected"), SPECIAL)
def test_special_values_are_those_of_the_standard(form: str, operand: float, expected: float, dtype: DType) -> None:
    """Source: IEEE 754-2019, 9.2.1."""
    (result,) = run_form(form, dtype, ([encode(dtype, operand)],), numeric="fast")
    if math.isnan(expected):
        assert math.isnan(float(decode(dtype, result)))
    else:
        assert result == encode(dtype, expected)


@pytest.mark.parametrize("dtype", [d for d in REALS if d.bits == 16], ids=str)
@pytest.mark.parametrize("form", ["mov.recip", "mov.sqrt"])
def test_every_narrow_reciprocal_and_root_is_correctly_rounded(form: str, dtype: DType) -> None:
    patterns = list(range(0, 1 << 15, 5))
    expected = [exact.MATH[form](dtype, bits) for bits in patterns]
    actual = run_form(form, dtype, (patterns,))
    different = [b for b, got, want in zip(patterns, actual, expected, strict=True) if got != want != exact.NAN]
    assert different == []
