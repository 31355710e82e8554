"""How a device computes with floats, found by inputs at which each fault gives another result.

Every measurement returns a word or two; those that a right device gives stand in `RIGHT`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from portkit.conformance.probing.bench import Bench, Body, Number, Operand
from portkit.conformance.probing.facts import YES
from portkit.spec.builder import Builder, Reg
from portkit.spec.types import DTYPES, DType, decode, encode, max_finite

NEAREST, SEPARATE, AS_WRITTEN, ORDERED = "nearest even", "each rounded", "as written", "+0 above -0"
PRESERVE, FLUSH = "preserve", "flush"

Round = Callable[[Fraction, Fraction, Fraction, Fraction], Fraction]
Measure = Callable[[Bench, DType], str]


# --- rounding -----------------------------------------------------------------------------------------------------


def _nearest_away(exact: Fraction, below: Fraction, above: Fraction, nearest: Fraction) -> Fraction:
    return max(below, above, key=abs) if exact - below == above - exact else nearest


_MODES: Mapping[str, Round] = {
    NEAREST: lambda exact, below, above, nearest: nearest,
    "toward zero": lambda exact, below, above, nearest: min(below, above, key=abs),
    "up": lambda exact, below, above, nearest: above,
    "down": lambda exact, below, above, nearest: below,
    "nearest, ties away": _nearest_away,
}


def rounded(dtype: DType, exact: Fraction, mode: str) -> Fraction:
    """Return a number, neither zero nor subnormal nor huge, rounded to the dtype."""
    bits = encode(dtype, exact)
    nearest = Fraction(decode(dtype, bits))
    if nearest == exact:
        return exact
    outward = abs(nearest) < abs(exact)
    other = Fraction(decode(dtype, bits + (1 if outward else -1)))
    return _MODES[mode](exact, min(nearest, other), max(nearest, other), nearest)


def add_rounding(bench: Bench, dtype: DType) -> str:
    """Add parts of the last place to 1: a quarter, a half (to even and to odd), three quarters."""
    one, last = Fraction(1), Fraction(1, 1 << (dtype.precision - 1))
    rows = [(first, last * part / 4) for first in (one, one + last) for part in (1, 2, 3)]
    rows += [(-a, -b) for a, b in rows]
    return _rounding(bench, dtype, "add", rows, [a + b for a, b in rows])


def mul_rounding(bench: Bench, dtype: DType) -> str:
    """Multiply numbers just above 1, whose products need twice the places; some lie in the middle of two."""
    step = Fraction(1, 1 << ((dtype.precision + 1) // 2))
    rows = [(1 + a * step, 1 + b * step) for a in (1, 2, 3) for b in (1, 3, 5)]
    rows += [(-a, b) for a, b in rows]
    return _rounding(bench, dtype, "mul", rows, [a * b for a, b in rows])


def _rounding(
    bench: Bench, dtype: DType, form: str, rows: Sequence[tuple[Fraction, Fraction]], exact: Sequence[Fraction]
) -> str:
    found = bench.each(lambda b, x: b.op(form, *x), dtype, dtype, *zip(*rows, strict=True))
    for mode in _MODES:
        if found == [rounded(dtype, x, mode) for x in exact]:
            return mode
    at = next(i for i, x in enumerate(exact) if found[i] != rounded(dtype, x, NEAREST))
    return f"{form} of {float(rows[at][0])!r} and {float(rows[at][1])!r} is {found[at]!r}"


# --- what a compiler may have rewritten -----------------------------------------------------------------------------


def contraction(bench: Bench, dtype: DType) -> str:
    """Subtract from (1+h)^2 what is left of it when it is rounded: only a fused operation leaves something."""
    h = Fraction(1, 1 << ((dtype.precision + 1) // 2))
    columns = ([1 + h, -1 - h], [1 + h, 1 + h], [-1 - 2 * h, 1 + 2 * h])
    found = bench.each(lambda b, x: b.add(b.mul(x[0], x[1]), x[2]), dtype, dtype, *columns)
    return SEPARATE if found == [0, 0] else "mul and add fused"


def reassociation(bench: Bench, dtype: DType) -> str:
    """Add 1 to a number that is too large to notice, and subtract that number again, in two ways."""
    large = 1 << (dtype.precision + 1)
    columns = ([large, -large], [1, 1], [-large, large])
    given = bench.each(lambda b, x: b.add(b.add(x[0], x[1]), x[2]), dtype, dtype, *columns)
    negated = bench.each(_less_itself, dtype, dtype, *columns[:2])
    return AS_WRITTEN if given + negated == [0, 0, 0, 0] else "sums reassociated"


def _less_itself(b: Builder, x: Sequence[Reg]) -> Reg:
    minus_one = b.const(x[0].type.dtype.name, -1)
    return b.add(b.add(x[0], x[1]), b.mul(x[0], minus_one))


# --- special values -------------------------------------------------------------------------------------------------


def subnormals(bench: Bench, dtype: DType) -> str:
    """Make a normal number of a subnormal one, a subnormal of a normal one, and add two."""
    least = Fraction(2) ** dtype.emin
    products = [(least / 4, Fraction(16)), (least, Fraction(1, 4)), (-least, Fraction(1, 2))]
    sums = [(least / 2, least / 4), (least, -least / 4)]
    found = bench.each(lambda b, x: b.mul(*x), dtype, dtype, *zip(*products, strict=True))
    found += bench.each(lambda b, x: b.add(*x), dtype, dtype, *zip(*sums, strict=True))
    exact = [a * b for a, b in products] + [a + b for a, b in sums]
    if found == exact:
        return PRESERVE
    if all(got in (x, 0) for got, x in zip(found[:-1], exact, strict=False)) and found[-1] in (exact[-1], 0, least):
        return FLUSH  # of the last sum either the operand or the result
    return "neither preserved nor zero"


_INF = math.inf
_NONFINITE: tuple[tuple[str, Body, tuple[Operand, ...], float], ...] = (
    ("inf + 1", lambda b, x: b.add(*x), (_INF, 1), _INF),
    ("inf - inf", lambda b, x: b.add(*x), (_INF, -_INF), math.nan),
    ("0 * inf", lambda b, x: b.mul(*x), (0, _INF), math.nan),
    ("-2 * inf", lambda b, x: b.mul(*x), (-2, _INF), -_INF),
    ("NaN + 1", lambda b, x: b.add(*x), (math.nan, 1), math.nan),
    ("NaN == NaN", lambda b, x: _truth(b, b.eq(*x), x[0]), (math.nan, math.nan), 0),
    ("NaN < 1", lambda b, x: _truth(b, b.lt(*x), x[0]), (math.nan, 1), 0),
    ("1 < inf", lambda b, x: _truth(b, b.lt(*x), x[0]), (1, _INF), 1),
)


def _truth(b: Builder, truth: Reg, like: Reg) -> Reg:
    name = like.type.dtype.name
    return b.op("phi.eq", truth, b.const("bool", True), b.const(name, 1), b.const(name, 0))


def nonfinite(bench: Bench, dtype: DType) -> str:
    """Return `yes`, or the first of the table that is not so."""
    for what, body, operands, wanted in _NONFINITE:
        [found] = bench.each(body, dtype, dtype, *([x] for x in operands))
        if not _same(found, wanted):
            return f"{what} is {found!r}"
    huge = max_finite(dtype)
    [found] = bench.each(lambda b, x: b.mul(*x), dtype, dtype, [huge], [2])
    return YES if found == _INF else f"overflow gives {found!r}"


def _same(a: Number, b: Number) -> bool:
    return (a != a and b != b) or (a == b and math.copysign(1, a) == math.copysign(1, b))


def nan_extremes(bench: Bench, dtype: DType) -> str:
    """Whether max and min give NaN where either operand is NaN."""
    for kind in ("max", "min"):
        columns = ([math.nan, 1, math.nan], [1, math.nan, math.nan])
        found = bench.each(_extreme(kind), dtype, dtype, *columns)
        if not all(x != x for x in found):
            return f"{kind} of NaN and 1 is {next(x for x in found if x == x)!r}"
    return YES


def zero_order(bench: Bench, dtype: DType) -> str:
    """Whether max takes +0 and min takes -0, whichever comes first."""
    for kind, wanted in (("max", 0.0), ("min", -0.0)):
        found = bench.each(_extreme(kind), dtype, dtype, [0.0, -0.0], [-0.0, 0.0])
        if not all(_same(x, wanted) for x in found):
            return f"{kind} ignores it"
    return ORDERED


def _extreme(kind: str) -> Body:
    return lambda b, x: b.op(f"reduce.{kind}", *x)


def clamping(bench: Bench, dtype: DType) -> str:
    """Whether casts to 32-bit integers cut, saturate, and make 0 of NaN."""
    given: list[Operand] = [2.75, -2.75, math.nan, _INF, -_INF]
    given += [Fraction(2) ** 31, -(Fraction(2) ** 33), Fraction(2) ** 32] if dtype.emax > 33 else []
    for name in ("i32", "u32"):
        target = DTYPES[name]
        found = bench.each(lambda b, x, name=name: b.cast(x[0], name), dtype, target, given)
        for x, got in zip(given, found, strict=True):
            if got != _cast(target, x):
                return f"{float(x)!r} to {name} is {got!r}"
    return YES


def _cast(target: DType, x: Operand) -> int:
    if x != x:
        return 0
    low, high = target.min_int, target.max_int
    return low if x <= low else high if x >= high else int(x)


RIGHT: tuple[tuple[str, Measure, str, str], ...] = (
    ("rounding of add", add_rounding, NEAREST, "add_c2"),
    ("rounding of mul", mul_rounding, NEAREST, "mul_c2"),
    ("mul, then add", contraction, SEPARATE, "numeric_c1"),
    ("order of sums", reassociation, AS_WRITTEN, "numeric_c1"),
)
"""What every device does, whatever it declares: name, measurement, the right answer, the clause that says so."""
RIGHT_NONFINITE: tuple[tuple[str, Measure, str, str], ...] = (
    ("NaN in max and min", nan_extremes, YES, "reduce_c2"),
    ("casts to integers", clamping, YES, "cast_c2"),
)
"""Likewise, of every device that has infinities and NaN."""
