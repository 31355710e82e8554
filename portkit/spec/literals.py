"""Literals of the text form: what people write for a bit pattern, and back (Spec: const_c1).

Integers are decimal or hexadecimal; floats are decimal, hexadecimal (`0x1.8p+1`), `inf`, `nan` (canonical, quiet) or
`nan:0xPAYLOAD` (the significand field); bool is `true` or `false`. Each may carry a sign but bool.
"""

from __future__ import annotations

import re
from fractions import Fraction

from portkit.errors import SpecError
from portkit.spec.types import DType, Kind, encode, infinity_bits, mantissa_bits, max_finite, nan_bits

MAX_LITERAL = 1200
"""Characters; the longest exact decimal of an f64 has fewer than 800."""

_INTEGER = re.compile(r"([+-]?)(?:0[xX]([0-9a-fA-F]{1,64})|([0-9]{1,64}))")
_DECIMAL = re.compile(r"([+-]?)(?=\.?[0-9])([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,9}))?")
_HEXADECIMAL = re.compile(r"([+-]?)0[xX](?=\.?[0-9a-fA-F])([0-9a-fA-F]*)(?:\.([0-9a-fA-F]*))?[pP]([+-]?[0-9]{1,9})")
_NAN = re.compile(r"([+-]?)nan(?::0[xX]([0-9a-fA-F]{1,16}))?")
_INFINITY = re.compile(r"([+-]?)inf")
_FAR = 4000
"""An exponent beyond this is beyond every dtype whatever the digits (at most `MAX_LITERAL`) say."""


def parse_integer(text: str) -> int:
    """Return the integer that `text` spells; raises `SpecError` (const_c1)."""
    match = _INTEGER.fullmatch(text)
    if match is None:
        raise SpecError("expected an integer, such as 8 or 0x1f", clause="const_c1")
    sign, hexadecimal, decimal = match.groups()
    value = int(hexadecimal, 16) if hexadecimal else int(decimal)
    return -value if sign == "-" else value


def parse_literal(dtype: DType, text: str) -> int:
    """Return the bit pattern of a literal of `dtype`, rounded once to nearest even.

    Raises `SpecError` (const_c1) for one that does not read, or does not fit.
    """
    if dtype.kind is Kind.BOOL:
        if text not in ("true", "false"):
            raise SpecError("expected true or false", clause="const_c1")
        return int(text == "true")
    if dtype.is_int:
        return encode(dtype, parse_integer(text))
    return _parse_float(dtype, text)


def _parse_float(dtype: DType, text: str) -> int:
    special = _parse_special(dtype, text)
    if special is not None:
        return special
    sign = 1 << (dtype.bits - 1) if text.startswith("-") else 0
    magnitude = _parse_magnitude(dtype, text)
    if magnitude and encode(dtype, magnitude) >= infinity_bits(dtype):
        raise SpecError(f"the literal is beyond the largest {dtype}, write inf if that is meant", clause="const_c1")
    return sign | encode(dtype, magnitude)


def _parse_special(dtype: DType, text: str) -> int | None:
    sign = 1 << (dtype.bits - 1) if text.startswith("-") else 0
    if _INFINITY.fullmatch(text):
        if not dtype.infinities:
            raise SpecError(f"{dtype} has no infinities", clause="const_c1")
        return sign | infinity_bits(dtype)
    match = _NAN.fullmatch(text)
    if match is None:
        return None
    if match[2] is None:
        return sign | nan_bits(dtype)
    return sign | _nan_with_payload(dtype, int(match[2], 16))


def _nan_with_payload(dtype: DType, payload: int) -> int:
    top = nan_bits(dtype) >> mantissa_bits(dtype) << mantissa_bits(dtype)
    low, high = (1, (1 << mantissa_bits(dtype)) - 1) if dtype.infinities else (nan_bits(dtype) - top,) * 2
    if not low <= payload <= high:
        raise SpecError(f"a NaN payload of {dtype} is {low:#x} to {high:#x}", clause="const_c1")
    return top | payload


def _parse_magnitude(dtype: DType, text: str) -> Fraction:
    """Return the exact absolute value; one too far out for its digits to matter is replaced by a nearer one."""
    if len(text) > MAX_LITERAL:
        raise SpecError(f"a literal has at most {MAX_LITERAL} characters", clause="const_c1")
    for pattern, base, radix, step in ((_HEXADECIMAL, 16, 2, 4), (_DECIMAL, 10, 10, 1)):
        match = pattern.fullmatch(text)
        if match:
            _, whole, part, exponent = match.groups()
            digits = int((whole + (part or "")) or "0", base)
            power = int(exponent or 0) - step * len(part or "")
            return _scaled(dtype, digits, radix, power)
    hint = "; a hexadecimal float needs an exponent, as in 0x1.8p+1" if "0x" in text.lower() else ""
    raise SpecError(f"expected a float, such as 1.5, 0x1.8p+1, inf or nan{hint}", clause="const_c1")


def _scaled(dtype: DType, digits: int, radix: int, power: int) -> Fraction:
    if not digits:
        return Fraction(0)
    if power > _FAR:
        return max_finite(dtype) * 4
    if power < -_FAR - 4 * MAX_LITERAL:
        return Fraction(0)
    return digits * Fraction(radix) ** power


# --- bit pattern -> literal ---------------------------------------------------------------------------------------


def format_literal(dtype: DType, bits: int) -> str:
    """Return the literal of a bit pattern: for a float the shortest decimal that reads back as the same bits."""
    if dtype.kind is Kind.BOOL:
        return "true" if bits else "false"
    if dtype.is_int:
        return str(bits - (1 << dtype.bits) if dtype.is_signed and bits >> (dtype.bits - 1) else bits)
    sign = "-" if bits >> (dtype.bits - 1) else ""
    magnitude = bits & ((1 << (dtype.bits - 1)) - 1)
    if magnitude == 0:
        return f"{sign}0.0"
    if dtype.infinities and magnitude == infinity_bits(dtype):
        return f"{sign}inf"
    if magnitude >= infinity_bits(dtype):
        payload = magnitude & ((1 << mantissa_bits(dtype)) - 1)
        return f"{sign}nan" if magnitude == nan_bits(dtype) else f"{sign}nan:{payload:#x}"
    return sign + _spell(*shortest(dtype, magnitude))


def shortest(dtype: DType, magnitude: int) -> tuple[int, int]:
    """Return digits and a power of ten: the shortest decimal that rounds to a positive finite bit pattern.

    Of several the nearest. Source: Steele and White, "How to print floating-point numbers accurately", 1990.
    """
    mantissa = mantissa_bits(dtype)
    field, fraction = magnitude >> mantissa, magnitude & ((1 << mantissa) - 1)
    significand = fraction | (1 << mantissa) if field else fraction
    exponent = max(field, 1) - 1 + dtype.emin - mantissa
    # The interval that rounds here, in quarters of an ulp; below a power of two the neighbour is twice as near.
    below = 1 if fraction == 0 and field > 1 else 2
    quarter = Fraction(2) ** (exponent - 2)
    low, high = (4 * significand - below) * quarter, (4 * significand + 2) * quarter
    value = 4 * significand * quarter
    power = _floor_log10(high)
    while True:
        digits = _nearest_inside(low, high, value, Fraction(10) ** power, inclusive=significand % 2 == 0)
        if digits is not None:
            break
        power -= 1
    while digits % 10 == 0:
        digits, power = digits // 10, power + 1
    return digits, power


def _floor_log10(value: Fraction) -> int:
    guess = len(str(value.numerator)) - len(str(value.denominator))
    return guess if Fraction(10) ** guess <= value else guess - 1


def _nearest_inside(low: Fraction, high: Fraction, value: Fraction, unit: Fraction, *, inclusive: bool) -> int | None:
    """Return the multiple of `unit` in the interval that is nearest to `value`, None if there is none."""
    first, last = -(-low // unit), high // unit
    if not inclusive:
        first += first * unit == low
        last -= last * unit == high
    return min(max(round(value / unit), first), last) if first <= last else None


def _spell(digits: int, power: int) -> str:
    text = str(digits)
    point = len(text) + power  # where the point stands, counted from the first digit
    if -4 < point <= 17:
        text = "0" * (1 - point) + text + "0" * (point - len(text))
        point = max(point, 1)
        return f"{text[:point]}.{text[point:] or '0'}"
    fraction = f".{text[1:]}" if len(text) > 1 else ""
    return f"{text[0]}{fraction}e{point - 1:+03d}"
