"""Computes the polynomials of `portkit.compiler.derived.formats` anew, and how well those there do.

    python -m bench.minimax [NAME ...]

prints for f32 and f64 the error of the coefficients in use, of the exact minimax polynomial with as many, and of that
rounded to the format. Source: J.-M. Muller, Elementary Functions, 3rd edition, chapter 3 (Remez' exchange algorithm).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from portkit.compiler.derived.formats import FORMATS
from portkit.spec.types import DType

mpmath: Any = importlib.import_module("mpmath")
"""Its types say of every number that it may be complex."""
mp, mpf = mpmath.mp, mpmath.mpf
Real: TypeAlias = Any

DIGITS = 60
_ROUNDS = 25
_GRID = 600
_ONE_BY_ONE = {24: 16, 53: 2}
"""By precision: how many coefficients are rounded one by one at most; further terms are too small to be fitted."""
_NEAR_ZERO = 1e-6
"""Stands for points nearer to zero, where the functions are quotients of nothing."""


@dataclass(frozen=True)
class Target:
    """A function to approximate on [low, high] such that weight(x) times the error is small."""

    function: Callable[[Real], Real]
    weight: Callable[[Real], Real]
    low: float
    high: float


def _odd(function: Callable[[Real], Real], high: float) -> Target:
    """(f(x)/x - 1)/s in s = x^2, for the relative error of f."""
    return Target(
        lambda s: (function(mpmath.sqrt(s)) / mpmath.sqrt(s) - 1) / s,
        lambda s: s * mpmath.sqrt(s) / function(mpmath.sqrt(s)),
        0.0,
        high**2,
    )


def _logarithm(scale: Callable[[], Real]) -> Target:
    """(log(1+f) - f log e)/f^2 for 1+f between sqrt(1/2) and sqrt(2)."""
    return Target(
        lambda f: (mpmath.log(1 + f) - f) / f**2 * scale(),
        lambda f: f**2 / abs(mpmath.log(1 + f) * scale()),
        0.5**0.5 - 1,
        2**0.5 - 1,
    )


def _ln2() -> Real:
    return mpmath.log(2)


def _atanh(z: Real) -> Real:
    s = mpmath.sqrt(z)
    return ((2 * mpmath.atanh(s) / s - 2) / z - mpf(2) / 3) / (z * _ln2())


def targets(dtype: DType) -> dict[str, Target]:
    """Return what each polynomial of a format approximates, by the name that it has there."""
    quarter, root = 0.7854, 3 - 8**0.5
    return {
        "exp": Target(lambda r: ((mpmath.exp(r) - 1) / r - 1) / r, lambda r: r**2 / mpmath.exp(r), -0.6935, 0.6935),
        "exp2": Target(lambda f: (mpf(2) ** f - 1) / f, lambda f: abs(f) / mpf(2) ** f, -0.5, 0.5),
        "log": _logarithm(lambda: mpf(1)),
        "log2": _logarithm(lambda: 1 / _ln2()),
        "tanh": _odd(mpmath.tanh, 0.625),
        "erf": Target(
            lambda s: mpmath.erf(mpmath.sqrt(s)) / mpmath.sqrt(s) - 1,
            lambda s: mpmath.sqrt(s) / mpmath.erf(mpmath.sqrt(s)),
            0.0,
            0.825**2,
        ),
        "erfc": Target(
            lambda t: mpmath.log(mpmath.erfc(t)) / t + 1,
            lambda t: t * mpmath.erfc(t) / mpmath.erf(t),
            0.825,
            FORMATS[dtype].erf_end,
        ),
        "sin": _odd(mpmath.sin, quarter),
        "tan": _odd(mpmath.tan, quarter),
        "cos": Target(
            lambda s: (mpmath.cos(mpmath.sqrt(s)) - 1 + s / 2) / s**2,
            lambda s: s**2 / mpmath.cos(mpmath.sqrt(s)),
            0.0,
            quarter**2,
        ),
        "atanh": Target(_atanh, lambda z: z**2 * _ln2() / 2, 0.0, root**2),
    }


def _points(target: Target, count: int) -> list[Real]:
    """Return Chebyshev's points of the interval."""
    middle, half = (mpf(target.low) + target.high) / 2, (mpf(target.high) - target.low) / 2
    found = [middle - half * mpmath.cos(mpmath.pi * n / count) for n in range(count + 1)]
    return [x if abs(x) > _NEAR_ZERO else mpf(_NEAR_ZERO) for x in found]


def error(target: Target, coefficients: Sequence[Real]) -> Real:
    """Return the largest weighted error of a polynomial, found on a grid."""
    return max(abs(e) for e in _errors(target, coefficients, _points(target, _GRID)))


def _errors(target: Target, coefficients: Sequence[Real], points: Sequence[Real]) -> list[Real]:
    return [target.weight(x) * (_value(coefficients, x) - target.function(x)) for x in points]


def _value(coefficients: Sequence[Real], x: Real) -> Real:
    """Return c0 + x (c1 + x (c2 + ...))."""
    total = mpf(0)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


def minimax(target: Target, count: int) -> list[Real]:
    """Return the coefficients of the polynomial of `count` terms with the least weighted error."""
    grid = _points(target, _GRID)
    points = _points(target, count)
    best: tuple[Real, list[Real]] = (mp.inf, [])
    for _ in range(_ROUNDS):
        rows = [[x**n for n in range(count)] + [(-1) ** i / target.weight(x)] for i, x in enumerate(points)]
        solved = mpmath.lu_solve(mpmath.matrix(rows), mpmath.matrix([target.function(x) for x in points]))
        coefficients = [solved[n] for n in range(count)]
        errors = _errors(target, coefficients, grid)
        worst: Real = max(abs(e) for e in errors)
        best = min(best, (worst, coefficients), key=lambda pair: pair[0])
        points = _alternation(grid, errors, count + 1)
        if len(points) <= count:
            break
    return best[1]


def _alternation(grid: Sequence[Real], errors: Sequence[Real], count: int) -> list[Real]:
    """Return where the error is largest between its changes of sign, at most `count` places without the least ends."""
    peaks: list[int] = []
    for place, value in enumerate(errors):
        if not peaks or (value > 0) != (errors[peaks[-1]] > 0):
            peaks.append(place)
        elif abs(value) > abs(errors[peaks[-1]]):
            peaks[-1] = place
    while len(peaks) > count:
        peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
    return [grid[place] for place in peaks]


def _nearest(x: Real, dtype: DType) -> Real:
    mantissa, exponent = mpmath.frexp(x)
    return mpmath.ldexp(mpmath.nint(mpmath.ldexp(mantissa, dtype.precision)), exponent - dtype.precision)


def rounded(target: Target, count: int, dtype: DType) -> list[Real]:
    """Return a polynomial with coefficients of a format: some rounded one by one while the rest is fitted anew, the
    others all at once, whichever number of the first errs least.
    """
    fixed: list[Real] = []
    left, tried = target, list[list[Real]]()
    while len(fixed) < min(count, _ONE_BY_ONE[dtype.precision]):
        fitted = [_nearest(c, dtype) for c in minimax(left, count - len(fixed))]
        tried.append([*fixed, *fitted])
        fixed.append(fitted[0])
        left = _without(left, fitted[0])
    return min(tried, key=lambda coefficients: error(target, coefficients))


def _without(target: Target, constant: Real) -> Target:
    """Return what is left to approximate by the higher terms."""
    return Target(
        lambda x: (target.function(x) - constant) / x, lambda x: target.weight(x) * abs(x), target.low, target.high
    )


def main(names: Sequence[str]) -> None:
    """Print the errors and the coefficients of the polynomials of both formats."""
    mp.dps = DIGITS
    for dtype, form in FORMATS.items():
        for name, target in targets(dtype).items():
            if names and name not in names:
                continue
            used = getattr(form, name)
            new = rounded(target, len(used), dtype)
            found = used, minimax(target, len(used)), new
            told = [f"2^{float(mpmath.log(error(target, c), 2)):.2f}" for c in found]
            print(f"{name} {dtype}: in use {told[0]}, minimax {told[1]}, rounded {told[2]}")
            print("   ", ", ".join(repr(float(c)) for c in new))


if __name__ == "__main__":
    main(sys.argv[1:])
