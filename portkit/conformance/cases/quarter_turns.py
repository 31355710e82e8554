"""The numbers next to multiples of pi/2, on which sin needs the most digits of pi.

Source: J.-M. Muller et al., "Handbook of Floating-Point Arithmetic", 2018, section 10.2 (the worst cases of a reduction
are convergents of the continued fraction of 2^e / (pi/2)).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cache

import numpy as np

from portkit.conformance.cases.draws import Patterns
from portkit.spec.types import DType, encode

_PI = Fraction(31415926535897932384626433832795028841971693993751058209749445923078164062862089986280348253421170679)
_HALF_PI = _PI / 10**100 / 2
_MOST_EXPONENT = 128
"""Of the unit in the last place: beyond it more digits of pi would be needed here."""
_EACH = 2
"""How many numbers are taken of each exponent."""


@cache
def near_quarter_turns(dtype: DType) -> Patterns:
    """Return the bits of the numbers of each exponent that come closest to a multiple of pi/2."""
    least, most = dtype.emin - dtype.precision + 1, dtype.emax - dtype.precision + 1
    exponents = range(max(least, -dtype.precision), min(most, _MOST_EXPONENT) + 1)
    numbers = {whole * 2.0**exponent for exponent in exponents for whole in _closest(exponent, 1 << dtype.precision)}
    return np.array(sorted(encode(dtype, x) for x in numbers), dtype=np.uint64)


def _closest(exponent: int, limit: int) -> list[int]:
    """Return the integers below the limit whose product with 2^exponent is closest to a multiple of pi/2."""
    return [whole for whole in _denominators(Fraction(2) ** exponent / _HALF_PI, limit) if whole > 1][-_EACH:]


def _denominators(x: Fraction, limit: int) -> Iterator[int]:
    """Yield the denominators below the limit of the convergents of a number's continued fraction."""
    before, last = 1, 0
    while True:
        whole = x.numerator // x.denominator
        before, last = last, whole * last + before
        if last >= limit or x == whole:
            return
        yield last
        x = 1 / (x - whole)
