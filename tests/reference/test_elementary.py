"""Elementary functions beyond f64 precision, against mpmath."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from portkit.reference import elementary
from portkit.reference.generator import stream
from portkit.spec.types import F64
from tests.reference.floats import draw

FUNCTIONS: dict[str, tuple[Callable[[NDArray], elementary.Scaled], Callable[[Any], Any]]] = {
    "recip": (elementary.recip, lambda x: 1 / x),
    "sqrt": (elementary.sqrt, mpmath.sqrt),
    "rsqrt": (elementary.rsqrt, lambda x: 1 / mpmath.sqrt(x)),
    "exp2": (elementary.exp2, lambda x: mpmath.power(2, x)),
    "log2": (elementary.log2, lambda x: mpmath.log(x, 2)),
    "sin": (elementary.sin, mpmath.sin),
}
HARD_FOR_SINE = [6381956970095103 * 2.0**797, 1e22, 3.141592653589793, 5 * 3.141592653589793e5, 2.0**1023]
"""The f64 nearest to a multiple of pi/2, and others near one. Source: Muller, Elementary Functions, 11.2."""


def arguments(kind: str) -> NDArray:
    x = draw(stream(f"elementary/{kind}"), F64, 300)
    near_one = 1.0 + stream(f"one/{kind}").integers(-40, 40, 60) * 2.0**-52
    x = np.concatenate((x[np.isfinite(x) & (x != 0)], near_one[near_one != 1], HARD_FOR_SINE))
    if kind in ("sqrt", "rsqrt", "log2"):
        x = np.abs(x)
    if kind == "exp2":
        x = x[np.abs(x) < 1100]
    return x[x != 1] if kind == "log2" else x


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_the_relative_error_is_within_what_is_stated(kind: str) -> None:
    function, true = FUNCTIONS[kind]
    x = arguments(kind)
    head, tail, exponent = function(x)
    with mpmath.workprec(1300):
        got = [
            (mpmath.mpf(h) + mpmath.mpf(t)) * mpmath.mpf(2) ** int(e)
            for h, t, e in zip(head.tolist(), tail.tolist(), exponent.tolist(), strict=True)
        ]
        errors = [abs(g / true(mpmath.mpf(v)) - 1) for g, v in zip(got, x.tolist(), strict=True)]
        assert max(errors) < elementary.RELATIVE_ERROR


def test_huge_exponents_are_cut_where_every_format_has_ended() -> None:
    _, _, exponent = elementary.exp2(np.array([1e300, -1e300]))
    assert exponent.tolist() == [5001, -4999]
