"""The `math` forms as straight-line code: no library calls, no tables, the same for vectors and scalars.

Each function takes f32 or f64 and stays within the accuracy table of the spec; f16 and bf16 go through f32. The
polynomials interpolate at Chebyshev nodes, computed with 60 digits and rounded to the format.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log, nan, pi

from portkit.backends.toolkit.code import Code, Value


@dataclass(frozen=True, slots=True)
class Format:
    """The layout of f32 or f64, and polynomials that are good enough for it.

    `exp2`: (2^f - 1)/f for |f| <= 1/2; `atanh`: (2 atanh(s)/s - 2)/s^2 in s^2 for (1+s)/(1-s) between sqrt(1/2) and
    sqrt(2).
    """

    integer: str
    mantissa: int
    bias: int
    exp2: tuple[float, ...]
    atanh: tuple[float, ...]


# fmt: off
_FORMATS = {
    "float": Format(
        "i32", 23, 127,
        exp2=(0.6931471824645996, 0.24022650718688965, 0.055503569543361664, 0.009618083015084267,
              0.0013390863314270973, 0.00015453163359779865),
        atanh=(0.6666668653488159, 0.3998878002166748, 0.29579949378967285),
    ),
    "double": Format(
        "i64", 52, 1023,
        exp2=(0.6931471805599453, 0.24022650695910072, 0.055504108664821625, 0.00961812910762848, 0.001333355814640647,
              0.00015403530393370734, 1.5252733841556773e-05, 1.3215486808705563e-06, 1.0178057087733941e-07,
              7.0548973041554995e-09, 4.4558179083360645e-10, 2.5729324177362305e-11),
        atanh=(0.666666666666667, 0.39999999999899505, 0.28571428625975487, 0.2222221113479508, 0.18182889125261723,
               0.15331721600556042, 0.14616449685043406),
    ),
}
# sin(r)/r = 1 + r^2 (..) and cos(r) = 1 - r^2/2 + r^4 (..) in r^2, for |r| <= pi/4.
_SIN = (-0.166666641831398, 0.008332747966051102, -0.00019587890710681677)
_COS = (0.0416666641831398, -0.001388830249197781, 2.454794230288826e-05)
# fmt: on

_TWO_OVER_PI = 0x28BE60DB9391054A7F09D5F47D4D377036D8A5664F10E4107F9458EAF7
"""2/pi times 2^230, cut: a multiple of 2^-26 of it are eight words of 32 bits."""
_QUARTER_PI_BITS = 0x3F490FDB


def _polynomial(code: Code, x: Value, coefficients: tuple[float, ...]) -> Value:
    """Return c0 + x (c1 + x (c2 + ...)) by Horner's rule."""
    result = code.like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = code.op("fadd", code.op("fmul", result, x), coefficient)
    return result


def recip(code: Code, x: Value) -> Value:
    """Correctly rounded."""
    return code.op("fdiv", code.like(x, 1.0), x)


def sqrt(code: Code, x: Value) -> Value:
    """Correctly rounded."""
    return code.call("sqrt", x)


def rsqrt(code: Code, x: Value) -> Value:
    """Two correctly rounded steps, so less than 1.5 ulp; rsqrt(-0) is -inf as IEEE 754-2019, 9.2 asks."""
    return recip(code, sqrt(code, x))


def trunc(code: Code, x: Value) -> Value:
    """Exact (Spec: math_c2)."""
    return code.call("trunc", x)


def exp2(code: Code, x: Value) -> Value:
    """Split x into an integer n and |f| <= 1/2; 2^f by a polynomial, 2^n in two factors so that it underflows once."""
    form, op = _FORMATS[x.element], code.op
    top, bottom = form.bias + 2.0, -form.bias - form.mantissa - 2.0
    capped = code.select(code.compare("fcmp ogt", x, top), code.like(x, top), x)
    capped = code.select(code.compare("fcmp olt", capped, bottom), code.like(x, bottom), capped)
    # Adding 1.5 * 2^mantissa rounds to an integer and leaves it in the low bits.
    magic = code.like(x, 1.5 * 2.0**form.mantissa)
    shifted = op("fadd", capped, magic)
    fraction = op("fsub", capped, op("fsub", shifted, magic))
    power = op("fadd", op("fmul", fraction, _polynomial(code, fraction, form.exp2)), 1.0)
    whole = op("sub", code.convert("bitcast", shifted, form.integer), code.reinterpret(magic, form.integer, x.lanes))
    half = op("ashr", whole, 1)
    for part in (half, op("sub", whole, half)):
        scale = op("shl", op("add", part, form.bias), form.mantissa)
        power = op("fmul", power, code.convert("bitcast", scale, x.element))
    return power


def log2(code: Code, x: Value) -> Value:
    """Split x into 2^e and 1+f between sqrt(1/2) and sqrt(2); with s = f/(f+2), ln(1+f) = 2 atanh(s).

    As 2s = f - s f, that is f - s (f - s^2 P(s^2)), where the error of s counts for little.
    """
    form, op = _FORMATS[x.element], code.op
    subnormal = code.compare("fcmp olt", x, 2.0 ** (1 - form.bias))
    normal = code.select(subnormal, op("fmul", x, 2.0**form.mantissa), x)
    bits = code.convert("bitcast", normal, form.integer)
    root = code.reinterpret(code.like(x, 0.5**0.5), form.integer, x.lanes)
    exponent = op("ashr", op("sub", bits, root), form.mantissa)
    scaled = code.convert("bitcast", op("sub", bits, op("shl", exponent, form.mantissa)), x.element)
    f = op("fsub", scaled, 1.0)
    s = op("fdiv", f, op("fadd", f, 2.0))
    square = op("fmul", s, s)
    correction = op("fmul", s, op("fsub", f, op("fmul", square, _polynomial(code, square, form.atanh))))
    small = op("fmul", op("fsub", f, correction), 1 / log(2))
    shift = code.select(subnormal, code.like(exponent, -form.mantissa), 0)
    whole = code.convert("sitofp", op("add", exponent, shift), x.element)
    return _log2_special(code, x, op("fadd", whole, small))


def _log2_special(code: Code, x: Value, result: Value) -> Value:
    """Zero gives -inf, a negative number NaN, and what is not a finite number gives itself."""
    finite = code.select(code.compare("fcmp olt", x, inf), result, x)
    positive = code.select(code.compare("fcmp olt", x, 0.0), code.like(x, nan), finite)
    return code.select(code.compare("fcmp oeq", x, 0.0), code.like(x, -inf), positive)


def sin(code: Code, x: Value) -> Value:
    """Reduce |x| to a quadrant and |r| <= pi/4, then a polynomial for sin or cos, in f32.

    Source of the reduction: Payne and Hanek, "Radian reduction for trigonometric functions", 1983.
    """
    op = code.op
    bits = code.convert("bitcast", x, "i32")
    magnitude = op("and", bits, 0x7FFFFFFF)
    small = code.compare("icmp ult", magnitude, _QUARTER_PI_BITS)
    quadrant, far = _reduce(code, magnitude)
    quadrant = code.select(small, code.like(quadrant, 0), quadrant)
    r = code.select(small, code.convert("bitcast", magnitude, "float"), far)
    square = op("fmul", r, r)
    sine = op("fadd", op("fmul", op("fmul", r, square), _polynomial(code, square, _SIN)), r)
    tail = op("fmul", op("fmul", square, square), _polynomial(code, square, _COS))
    cosine = op("fadd", op("fsub", code.like(x, 1.0), op("fmul", square, 0.5)), tail)
    chosen = code.select(code.convert("trunc", quadrant, "i1"), cosine, sine)
    flip = op("and", op("xor", op("shl", quadrant, 30), bits), -(1 << 31))
    signed = code.convert("bitcast", op("xor", code.convert("bitcast", chosen, "i32"), flip), "float")
    return code.select(code.compare("icmp ult", magnitude, 0x7F800000), signed, code.like(x, nan))


def _reduce(code: Code, magnitude: Value) -> tuple[Value, Value]:
    """Return the quadrant (i32, modulo 4) and remainder of a float of at least pi/4, given by its bits.

    Of the significand times 2/pi, shifted by the exponent, the bits above the quadrant do not count: of 2/pi it takes
    96 bits from where the exponent says. Of the product's top 64 bits two are the quadrant and 62 the fraction, of
    which cancellation takes at most 30.
    """
    op = code.op
    significand = code.convert("zext", op("or", op("and", magnitude, 0x7FFFFF), 0x800000), "i64")
    # Below pi/4 the result is not used: any shift in range will do.
    exponent = code.call("smax", op("sub", op("lshr", magnitude, 23), 126), 0)
    high, middle, low = (op("mul", significand, word) for word in _window(code, exponent))
    turns = op("add", op("add", op("shl", high, 32), middle), op("lshr", low, 32))
    quadrant = op("lshr", op("add", turns, 1 << 61), 62)
    fraction = op("sub", turns, op("shl", quadrant, 62))
    remainder = op("fmul", code.convert("sitofp", fraction, "float"), pi / 2 * 2.0**-62)
    return code.convert("trunc", quadrant, "i32"), remainder


def _window(code: Code, start: Value) -> list[Value]:
    """Return three words (i64 below 2^32) of 2^-26 * 2/pi from a bit 0..159 on, counted from the top."""
    words = [_TWO_OVER_PI >> (224 - 32 * place) & 0xFFFFFFFF for place in range(8)]
    shift = code.convert("zext", code.op("and", start, 31), "i64")
    skipped = [code.compare("icmp uge", start, 32 * count) for count in range(1, 5)]
    found: list[Value] = []
    for place in range(4):
        word = code.like(shift, words[place])
        for count, more in enumerate(skipped, 1):
            word = code.select(more, code.like(shift, words[place + count]), word)
        found.append(word)
    pairs = (code.op("or", code.op("shl", a, 32), b) for a, b in itertools.pairwise(found))
    return [code.op("lshr", code.op("shl", pair, shift), 32) for pair in pairs]


FUNCTIONS: dict[str, Callable[[Code, Value], Value]] = {
    "recip": recip,
    "sqrt": sqrt,
    "rsqrt": rsqrt,
    "exp2": exp2,
    "log2": log2,
    "sin": sin,
    "trunc": trunc,
}
