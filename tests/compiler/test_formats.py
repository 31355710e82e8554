"""The polynomials of the derivations approximate what they are said to, and constants are split without loss."""

from __future__ import annotations

from dataclasses import fields
from fractions import Fraction

import pytest

from bench.minimax import DIGITS, error, minimax, mpmath, targets
from portkit.compiler.derived.formats import FORMATS, HALF_PI, LN2, LOG2_E, scaled_pi
from portkit.spec.types import F32, F64, DType

SHARE = 0.6
"""Of half a unit in the last place: what a polynomial may take of the error of its function."""
POLYNOMIALS = [field.name for field in fields(FORMATS[F32]) if field.type == "Coefficients"]


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_a_polynomial_errs_by_a_fraction_of_the_last_place(name: str, dtype: DType) -> None:
    with mpmath.workdps(DIGITS):
        worst = error(targets(dtype)[name], getattr(FORMATS[dtype], name))
        assert worst < SHARE * 2.0**-dtype.precision


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_every_coefficient_is_a_number_of_its_format(dtype: DType) -> None:
    form = FORMATS[dtype]
    for name in POLYNOMIALS:
        for coefficient in getattr(form, name):
            assert form.rounded(Fraction(coefficient)) == Fraction(coefficient), (name, coefficient)


def test_the_exchange_algorithm_finds_the_best_line_of_the_exponential() -> None:
    with mpmath.workdps(DIGITS):
        target = targets(F32)["exp2"]
        line = minimax(target, 2)
        assert error(target, line) < error(target, [mpmath.log(2), mpmath.log(2) ** 2 / 2])


def test_a_constant_in_two_parts_has_a_short_head_and_keeps_its_value() -> None:
    form = FORMATS[F64]
    head, tail = form.split(LN2, 40)
    assert (head * 2**40).denominator == 1
    assert abs(LN2 - head - tail) < Fraction(2) ** -92


def test_the_constants_are_those_of_mathematics() -> None:
    with mpmath.workdps(80):
        for constant, exact in ((LN2, mpmath.log(2)), (LOG2_E, 1 / mpmath.log(2)), (HALF_PI, mpmath.pi / 2)):
            assert abs(mpmath.mpf(constant.numerator) / constant.denominator - exact) < mpmath.mpf(10) ** -50


@pytest.mark.parametrize("bits", [1, 64, 1300])
def test_pi_is_cut_to_as_many_bits_as_are_wanted(bits: int) -> None:
    with mpmath.workprec(bits + 40):
        assert scaled_pi(bits) == int(mpmath.floor(mpmath.ldexp(mpmath.pi, bits)))
