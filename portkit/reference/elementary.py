"""Elementary functions of f64 arguments to more than 60 correct bits, as a pair and a power of two.

A result is (head, tail, exponent): (head + tail) * 2^exponent with 0.5 <= |head| <= 1 roughly. The relative error is
below 2^-60 for every argument that is finite and not zero (positive for rsqrt, sqrt, log2).

Source: J.-M. Muller, Elementary Functions, 3rd edition, chapters 6 and 11 (tables with a short series; reduction of
large arguments against many digits of pi, after Payne and Hanek).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from math import ldexp
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.reference.rounding import two_product, two_sum

Doubles: TypeAlias = NDArray[np.float64]
Pair: TypeAlias = tuple[Doubles, Doubles]
Scaled: TypeAlias = tuple[Doubles, Doubles, NDArray[np.int64]]

RELATIVE_ERROR = 2.0**-60

_FINE = 128
"""exp2 is tabulated at multiples of 1/128."""
_LOG_FINE = 256
_SINE_FINE = 64
_FAR = 2.0**25
"""Arguments of sine beyond it are reduced in integer arithmetic."""
_PI_BITS = 1200


def pair_of(value: Fraction) -> tuple[float, float]:
    """Return a number as the nearest f64 and the nearest f64 of the rest."""
    head = float(value)
    return head, float(value - Fraction(head))


def _pairs(values: list[Fraction]) -> Pair:
    heads, tails = zip(*map(pair_of, values), strict=True)
    return np.array(heads), np.array(tails)


def _product(a: Pair, b: Pair) -> Pair:
    p, e = two_product(a[0], b[0])
    return two_sum(p, e + (a[0] * b[1] + a[1] * b[0]))


def _sum(a: Pair, b: Pair) -> Pair:
    s, e = two_sum(a[0], b[0])
    t, f = two_sum(a[1], b[1])
    s, e = two_sum(s, e + t)
    return two_sum(s, e + f)


def _constant(value: Fraction, like: Doubles) -> Pair:
    head, tail = pair_of(value)
    return np.full_like(like, head), np.full_like(like, tail)


@cache
def _logarithm_of_two() -> Fraction:
    with localcontext() as context:
        context.prec = 60
        return Fraction(Decimal(2).ln())


@cache
def _pi() -> int:
    """Return pi * 2^_PI_BITS, rounded down. Source: Machin's formula."""
    guard = 32
    one = 1 << (_PI_BITS + guard)

    def arctan_of_inverse(n: int) -> int:
        term = total = one // n
        k, sign = 1, 1
        while term:
            term //= n * n
            k, sign = k + 2, -sign
            total += sign * (term // k)
        return total

    return (4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))) >> guard


# --- algebraic ----------------------------------------------------------------------------------------------------


def recip(x: Doubles) -> Scaled:
    """Return 1 / x."""
    m, exponent = np.frexp(x)
    y = 0.5 / m
    p, e = two_product(m, y)
    return y, y * 2.0 * ((0.5 - p) - e), 1 - exponent.astype(np.int64)


def sqrt(x: Doubles) -> Scaled:
    """Return the square root."""
    m, half = _even(x)
    y = np.sqrt(m)
    p, e = two_product(y, y)
    return y, ((m - p) - e) / (2.0 * y), half


def rsqrt(x: Doubles) -> Scaled:
    """Return 1 / sqrt(x)."""
    m, half = _even(x)
    y = 0.5 / np.sqrt(m)
    square = two_product(y, y)
    p, e = _product((m, np.zeros_like(m)), square)
    return y, 2.0 * y * ((0.25 - p) - e), 1 - half


def _even(x: Doubles) -> tuple[Doubles, NDArray[np.int64]]:
    """Return m in [0.25, 1) and h with x = m * 4^h."""
    m, exponent = np.frexp(x)
    odd = exponent & 1
    return np.where(odd == 1, 0.5 * m, m), ((exponent + odd) // 2).astype(np.int64)


# --- exp2 and log2 ------------------------------------------------------------------------------------------------


@cache
def _powers() -> Pair:
    """Return 2^(j/128) for j from -64 to 64."""
    with localcontext() as context:
        context.prec = 50
        return _pairs([Fraction(Decimal(2) ** (Decimal(j) / _FINE)) for j in range(-_FINE // 2, _FINE // 2 + 1)])


def exp2(x: Doubles) -> Scaled:
    """Return 2^x; x is cut to [-5000, 5000], beyond which every format overflows or underflows."""
    x = np.clip(x, -5000.0, 5000.0)
    whole = np.rint(x)
    rest = x - whole
    place = np.rint(rest * _FINE)
    t = _product((rest - place / _FINE, np.zeros_like(rest)), _constant(_logarithm_of_two(), rest))
    tail = t[1] + t[0] * t[0] * _series(t[0], [1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040, 1 / 40320])
    index = place.astype(np.intp) + _FINE // 2
    table = _powers()[0][index], _powers()[1][index]
    p, e = two_product(table[0], t[0])
    head, low = two_sum(table[0], p)
    head, low = two_sum(head, low + (e + table[1] + table[0] * tail + table[1] * t[0]))
    tiny = (np.abs(low) < 2.0**-900) & (x != whole)  # however small, x decides on which side of 1 the power is
    low = np.where(tiny, np.copysign(2.0**-900, x), low)
    return 0.5 * head, 0.5 * low, whole.astype(np.int64) + 1


def _series(x: Doubles, coefficients: list[float]) -> Doubles:
    """Return the polynomial with the given coefficients, that of x^0 first."""
    value = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value


@cache
def _logarithms() -> Pair:
    """Return log2(j/256) for j from 181 to 363."""
    with localcontext() as context:
        context.prec = 50
        two = Decimal(2).ln()
        return _pairs([Fraction((Decimal(j) / _LOG_FINE).ln() / two) for j in range(181, 364)])


def log2(x: Doubles) -> Scaled:
    """Return the logarithm to base 2: that of a nearby multiple of 1/256, and 2/ln 2 * atanh of what is left."""
    m, exponent = np.frexp(x)
    small = m < np.sqrt(0.5)
    m, exponent = np.where(small, 2.0 * m, m), exponent - small
    near = np.rint(m * _LOG_FINE)
    f = near / _LOG_FINE
    top, bottom = m - f, two_sum(m, f)
    z = top / bottom[0]
    p, e = two_product(z, bottom[0])
    z_tail = (((top - p) - e) - z * bottom[1]) / bottom[0]
    cubic = z * z * z * _series(z * z, [1 / 3, 1 / 5, 1 / 7, 1 / 9])
    series = _product(two_sum(z, z_tail + cubic), _constant(2 / _logarithm_of_two(), z))
    index = near.astype(np.intp) - 181
    table = two_sum(exponent.astype(np.float64), _logarithms()[0][index])
    table = table[0], table[1] + _logarithms()[1][index]
    return _normal(_sum(two_sum(*table), series))


def _normal(value: Pair) -> Scaled:
    head, exponent = np.frexp(value[0])
    return head, np.ldexp(value[1], -exponent), exponent.astype(np.int64)


# --- sine ---------------------------------------------------------------------------------------------------------


def sin(x: Doubles) -> Scaled:
    """Return the sine."""
    quarter, rest = _reduced(x)
    sine, cosine = _sine_and_cosine(rest)
    odd = (quarter & 1) == 1
    sign = np.where((quarter & 2) == 2, -1.0, 1.0)
    return _normal((sign * np.where(odd, cosine[0], sine[0]), sign * np.where(odd, cosine[1], sine[1])))


def _reduced(x: Doubles) -> tuple[NDArray[np.int64], Pair]:
    """Return k modulo 4 and x - k * pi/2 for the nearest k."""
    near = np.where(np.abs(x) <= _FAR, x, 0.0)
    k = np.rint(near * float(Fraction(2 << _PI_BITS, _pi())))
    rest = (near, np.zeros_like(near))
    half_pi = Fraction(_pi(), 2 << _PI_BITS)
    for _ in range(3):
        part = float(half_pi)
        half_pi -= Fraction(part)
        p, e = two_product(k, np.full_like(k, part))
        rest = _sum(rest, (-p, -e))
    quarter = k.astype(np.int64) & 3
    for place in np.argwhere(np.abs(x) > _FAR):
        at = tuple(place)
        quarter[at], rest[0][at], rest[1][at] = _reduced_exactly(float(x[at]))
    return quarter, rest


def _reduced_exactly(x: float) -> tuple[int, float, float]:
    """Return the same for one number, in units of 2^-(_PI_BITS + 1)."""
    numerator, denominator = x.as_integer_ratio()  # the denominator is a power of two
    scaled, half_pi = numerator << (_PI_BITS + 2 - denominator.bit_length()), _pi()
    k = (2 * scaled + half_pi) // (2 * half_pi)
    rest = scaled - k * half_pi
    spare = max(0, rest.bit_length() - 120)
    digits, place = rest >> spare, spare - _PI_BITS - 1
    head = float(digits)
    return k & 3, ldexp(head, place), ldexp(float(digits - int(head)), place)


@cache
def _sine_table() -> tuple[Pair, Pair]:
    """Return sine and cosine of j/64 for j from -51 to 51."""
    points = [Fraction(j, _SINE_FINE) for j in range(-51, 52)]
    return _pairs([_taylor(c, 1) for c in points]), _pairs([_taylor(c, 0) for c in points])


def _taylor(x: Fraction, first: int) -> Fraction:
    """Return the sine (first power 1) or cosine (0) of |x| < 1 to 130 bits."""
    term = x**first
    total, power = term, first
    while power < 32:
        term *= -x * x / ((power + 1) * (power + 2))
        total, power = total + term, power + 2
    return total


def _sine_and_cosine(x: Pair) -> tuple[Pair, Pair]:
    """Return both for |x| up to pi/4, from a table at multiples of 1/64 and the addition theorems."""
    place = np.rint(x[0] * _SINE_FINE)
    s = two_sum(x[0] - place / _SINE_FINE, x[1])
    square = s[0] * s[0]
    sine = s[0], s[1] - s[0] * square * _series(square, [1 / 6, -1 / 120, 1 / 5040, -1 / 362880])
    versine = s[0] * s[1] + square * _series(square, [1 / 2, -1 / 24, 1 / 720, -1 / 40320])
    index = place.astype(np.intp) + 51
    a, b = ((part[0][index], part[1][index]) for part in _sine_table())
    return _rotated(a, b, sine, versine, _add), _rotated(b, a, sine, versine, _subtract)


def _add(a: Doubles, b: Doubles) -> Doubles:
    return a + b


def _subtract(a: Doubles, b: Doubles) -> Doubles:
    return a - b


def _rotated(a: Pair, b: Pair, sine: Pair, versine: Doubles, step: Callable[[Doubles, Doubles], Doubles]) -> Pair:
    """Return a * (1 - versine) + b * sine, or with minus."""
    p, e = two_product(b[0], sine[0])
    rest = e + b[0] * sine[1] + b[1] * sine[0]
    zero = np.zeros_like(p)
    head, tail = two_sum(a[0], step(zero, p))
    return two_sum(head, tail + (step(a[1], rest) - a[0] * versine))
