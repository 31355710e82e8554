"""What the arithmetic instructions of PTX compute: a table from whole mnemonics to functions on arrays.

A mnemonic that is not in the table is unknown, modifiers included, so the table grows by need. Each function takes one
array or scalar for each operand, with the NumPy type of the operand's PTX type, and returns the result. Section numbers
are those of the PTX ISA manual, chapter 9.7 (instructions).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from portkit.emulators import floats

Compute = Callable[..., Any]
_where: Compute = np.where

TYPES: Mapping[str, np.dtype[Any]] = {
    "pred": np.dtype(np.bool_),
    **{f"{kind}{bits}": np.dtype(f"uint{bits}") for kind in "bu" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"f{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    "f16x2": np.dtype(np.uint32),
}
"""How values of a type are held; two halves are held as the register that they share."""


@dataclass(frozen=True, slots=True)
class Operation:
    """The types of the results and of the operands, and the function between them."""

    results: tuple[str, ...]
    operands: tuple[str, ...]
    compute: Compute


# --- integers (9.7.1) and shifts (9.7.8) --------------------------------------------------------------------------


def _wide(a: Any) -> Any:
    """Return an integer in twice its bits; 64 bits have no wider type and are multiplied by halves."""
    return a.astype(np.dtype(f"{a.dtype.kind}{2 * a.dtype.itemsize}"))


def _mul_hi(a: Any, b: Any) -> Any:
    if a.dtype.itemsize == 8:
        return _mul_hi_64(a, b)
    return (_wide(a) * _wide(b) >> (8 * a.dtype.itemsize)).astype(a.dtype)


def _mul_hi_64(a: Any, b: Any) -> Any:
    """Add up the four products of halves; a signed factor below zero counts 2^64 too much as an unsigned one."""
    x, y, low = a.view(np.uint64), b.view(np.uint64), np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    (xh, xl), (yh, yl) = (x >> shift, x & low), (y >> shift, y & low)
    middle = xh * yl + (xl * yl >> shift)
    other = xl * yh + (middle & low)
    high = xh * yh + (middle >> shift) + (other >> shift)
    if a.dtype.kind == "i":
        high = high - _where(a < 0, y, 0).astype(np.uint64) - _where(b < 0, x, 0).astype(np.uint64)
    return high.view(a.dtype)


def _divide(a: Any, b: Any) -> Any:
    """Truncate; dividing by zero gives an unspecified value, here all ones (9.7.1.9)."""
    safe = _where(b == 0, b.dtype.type(1), b)
    if a.dtype.kind == "u":
        quotient = a // safe
    else:
        magnitude = np.dtype(f"u{a.dtype.itemsize}")  # that of the least number has no sign bit to spare
        sign = _where((a < 0) != (safe < 0), -1, 1).astype(a.dtype)
        quotient = (np.abs(a).view(magnitude) // np.abs(safe).view(magnitude)).view(a.dtype) * sign
    return _where(b == 0, ~a.dtype.type(0), quotient)


def _remainder(a: Any, b: Any) -> Any:
    return a - _divide(a, b) * b


def _shl(a: Any, count: Any) -> Any:
    """A count beyond the width is taken as the width (9.7.8.7)."""
    width = 8 * a.dtype.itemsize
    return _where(count >= width, a.dtype.type(0), a << np.minimum(count, width - 1).astype(a.dtype))


def _shr(a: Any, count: Any) -> Any:
    width = 8 * a.dtype.itemsize
    shifted = a >> np.minimum(count, width - 1).astype(a.dtype)
    return shifted if a.dtype.kind == "i" else _where(count >= width, a.dtype.type(0), shifted)


def _funnel_left(a: Any, b: Any, count: Any) -> Any:
    """The upper half of (b, a) shifted left, count modulo 32 (9.7.8.6)."""
    both = (b.astype(np.uint64) << np.uint64(32)) | a
    return (both << (count & 31).astype(np.uint64) >> np.uint64(32)).astype(np.uint32)


def _funnel_right(a: Any, b: Any, count: Any) -> Any:
    both = (b.astype(np.uint64) << np.uint64(32)) | a
    return (both >> (count & 31).astype(np.uint64)).astype(np.uint32)


def _extract(a: Any, position: Any, length: Any) -> Any:
    """The bits [position, position + length), extended by the sign of the last one or by zeros (9.7.1.20)."""
    width = 8 * a.dtype.itemsize
    position, length = (np.minimum(x & 255, width) for x in (position, length))
    length = np.minimum(length, width - position)
    up = _shl(a, (width - position - length).astype(np.uint32))
    return _where(length == 0, a.dtype.type(0), _shr(up, (width - length).astype(np.uint32)))


def _insert(a: Any, b: Any, position: Any, length: Any) -> Any:
    """The low bits of `a` in place of those of `b` (9.7.1.21)."""
    position, length = (np.minimum(x & 255, 8 * a.dtype.itemsize) for x in (position, length))
    mask = _shl(~_shl(~a.dtype.type(0), length), position)
    return (b & ~mask) | (_shl(a, position) & mask)


def _reverse(a: Any) -> Any:
    """Bits from last to first (9.7.1.19): neighbours, pairs and nibbles change places, then bytes."""
    for shift, mask in ((1, 0x5555_5555), (2, 0x3333_3333), (4, 0x0F0F_0F0F)):
        few, keep = a.dtype.type(shift), a.dtype.type(mask)
        a = ((a >> few) & keep) | ((a & keep) << few)
    return a.byteswap()


def _permute(a: Any, b: Any, selector: Any) -> Any:
    """Four bytes of (b, a), chosen by nibbles; the top bit of a nibble spreads the sign of its byte (9.7.9.7)."""
    both, result = (b.astype(np.uint64) << np.uint64(32)) | a, np.uint32(0)
    for place in range(4):
        nibble = (selector >> np.uint32(4 * place)) & 15
        byte = (both >> ((nibble & 7) * 8).astype(np.uint64)).astype(np.uint32) & np.uint32(255)
        spread = _where(byte & 128, np.uint32(255), np.uint32(0))
        result = result | (_where(nibble & 8, spread, byte) << np.uint32(8 * place))
    return result


def _mad(a: Any, b: Any, c: Any) -> Any:
    return a * b + c


def _mul_wide(a: Any, b: Any) -> Any:
    return _wide(a) * _wide(b)


def _mad_wide(a: Any, b: Any, c: Any) -> Any:
    return _wide(a) * _wide(b) + c


def _count_ones(a: Any) -> Any:
    return np.bitwise_count(a).astype(np.uint32)


_INTEGERS = ("s16", "u16", "s32", "u32", "s64", "u64")
_WIDER = {"s16": "s32", "u16": "u32", "s32": "s64", "u32": "u64"}
_BITS = ("b16", "b32", "b64")

_ARITHMETIC: Mapping[str, Compute] = {
    "add": np.add,
    "sub": np.subtract,
    "mul.lo": np.multiply,
    "mul.hi": _mul_hi,
    "div": _divide,
    "rem": _remainder,
    "min": np.minimum,
    "max": np.maximum,
}


def _integers() -> dict[str, Operation]:
    table = {f"{name}.{t}": Operation((t,), (t, t), f) for name, f in _ARITHMETIC.items() for t in _INTEGERS}
    table |= {f"mad.lo.{t}": Operation((t,), (t, t, t), _mad) for t in _INTEGERS}
    table |= {f"mul.wide.{t}": Operation((w,), (t, t), _mul_wide) for t, w in _WIDER.items()}
    table |= {f"mad.wide.{t}": Operation((w,), (t, t, w), _mad_wide) for t, w in _WIDER.items()}
    signed = [t for t in _INTEGERS if t[0] == "s"]
    table |= {f"neg.{t}": Operation((t,), (t,), np.negative) for t in signed}
    table |= {f"abs.{t}": Operation((t,), (t,), np.abs) for t in signed}
    table |= {f"shr.{t}": Operation((t,), (t, "u32"), _shr) for t in _INTEGERS}
    table |= {f"shl.{t}": Operation((t,), (t, "u32"), _shl) for t in _BITS}
    table |= {f"bfe.{t}": Operation((t,), (t, "u32", "u32"), _extract) for t in _INTEGERS[2:]}
    table |= {f"bfi.{t}": Operation((t,), (t, t, "u32", "u32"), _insert) for t in _BITS[1:]}
    return table | {
        "brev.b32": Operation(("b32",), ("b32",), _reverse),
        "popc.b32": Operation(("u32",), ("b32",), _count_ones),
        "prmt.b32": Operation(("b32",), ("b32", "b32", "b32"), _permute),
        "shf.l.wrap.b32": Operation(("b32",), ("b32", "b32", "u32"), _funnel_left),
        "shf.r.wrap.b32": Operation(("b32",), ("b32", "b32", "u32"), _funnel_right),
    }


def _logic() -> dict[str, Operation]:
    """Bitwise operations (9.7.8.1-5); on predicates they are logical."""
    functions = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
    kinds = (*_BITS, "pred")
    table = {f"{name}.{t}": Operation((t,), (t, t), f) for name, f in functions.items() for t in kinds}
    return table | {f"not.{t}": Operation((t,), (t,), np.invert) for t in kinds}


# --- floats (9.7.3, 9.7.4) ----------------------------------------------------------------------------------------


def _extreme(pick: Compute, of_zeros: Compute) -> Compute:
    """The other operand for a NaN, signalling or not, which the chip does not tell apart; -0 below +0 (9.7.3.11)."""

    def compute(a: Any, b: Any) -> Any:
        bits = np.dtype(f"u{a.dtype.itemsize}")
        zeros = of_zeros(a.view(bits), b.view(bits)).view(a.dtype)
        ordered = _where((a == 0) & (b == 0), zeros, pick(a, b))
        return _where(np.isnan(a), b, _where(np.isnan(b), a, ordered))

    return compute


def _reciprocal(a: Any) -> Any:
    return a.dtype.type(1) / a


def _copy_sign(sign: Any, magnitude: Any) -> Any:
    """The sign comes first (9.7.3.2)."""
    return np.copysign(magnitude, sign)


def _approximate_exp2(a: Any) -> Any:
    """Cut, not rounded: the hardware is within 2 ulp, and who relies on more must fail (9.7.3.21)."""
    cut = floats.narrow(np.exp2(a.astype(np.float64)), np.float32, "zero")
    return _where(a >= 128, np.float32(np.inf), cut)


def _or_nan(extreme: Compute) -> Compute:
    def compute(a: Any, b: Any) -> Any:
        return _where(np.isnan(a) | np.isnan(b), a.dtype.type(np.nan), extreme(a, b))

    return compute


_MAX, _MIN = _extreme(np.maximum, np.bitwise_and), _extreme(np.minimum, np.bitwise_or)
_EXTREMES: Mapping[str, Compute] = {"max": _MAX, "min": _MIN, "max.NaN": _or_nan(_MAX), "min.NaN": _or_nan(_MIN)}
_FMA: Mapping[str, Compute] = {"f16": floats.fma16, "f32": floats.fma32, "f64": floats.fma64}


def _floats() -> dict[str, Operation]:
    two: Mapping[str, Compute] = {"add.rn": np.add, "sub.rn": np.subtract, "mul.rn": np.multiply, "div.rn": np.divide}
    one: Mapping[str, Compute] = {"sqrt.rn": np.sqrt, "rcp.rn": _reciprocal}
    table: dict[str, Operation] = {}
    for t in ("f16", "f32", "f64"):
        table |= {f"{name}.{t}": Operation((t,), (t, t), f) for name, f in {**two, **_EXTREMES}.items()}
        table |= {
            f"{name}.{t}": Operation((t,), (t,), f) for name, f in {**one, "abs": np.abs, "neg": np.negative}.items()
        }
        table[f"copysign.{t}"] = Operation((t,), (t, t), _copy_sign)
        table[f"fma.rn.{t}"] = Operation((t,), (t, t, t), _FMA[t])
    table["ex2.approx.f32"] = Operation(("f32",), ("f32",), _approximate_exp2)
    return table


def _halves(compute: Compute) -> Compute:
    """Compute on both halves of registers (9.7.4); the results are halves side by side."""

    def both(*operands: Any) -> Any:
        flat = np.broadcast_arrays(*(np.atleast_1d(x) for x in operands))
        return compute(*(np.ascontiguousarray(x).view(np.float16) for x in flat))

    return both


def _two_halves(compute: Compute) -> Compute:
    both = _halves(compute)

    def packed(*operands: Any) -> Any:
        result = both(*operands).view(np.uint32)
        return result if any(np.ndim(x) for x in operands) else result[0]

    return packed


def _narrow_two(upper: Any, lower: Any) -> Any:
    """The first operand goes into the upper half (9.7.9.21)."""
    high, low = (x.astype(np.float16).view(np.uint16).astype(np.uint32) for x in (upper, lower))
    return (high << np.uint32(16)) | low


def _two_truths(compute: Compute) -> Compute:
    both = _halves(compute)

    def pair(*operands: Any) -> Any:
        result = both(*operands)
        rows = result[0::2], result[1::2]
        return rows if any(np.ndim(x) for x in operands) else tuple(row[0] for row in rows)

    return pair


# --- comparison and selection (9.7.6, 9.7.7) ----------------------------------------------------------------------

_COMPARISONS: Mapping[str, Compute] = {
    "eq": np.equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def _apart(a: Any, b: Any) -> Any:
    return (a < b) | (a > b)


def _unordered(a: Any, b: Any) -> Any:
    return np.isnan(a) | np.isnan(b)


def _not(compare: Compute) -> Compute:
    def negated(a: Any, b: Any) -> Any:
        return ~compare(a, b)

    return negated


_OF_FLOATS: Mapping[str, Compute] = {
    **_COMPARISONS,
    "ne": _apart,
    "equ": _not(_apart),
    "neu": np.not_equal,
    "ltu": _not(np.greater_equal),
    "leu": _not(np.greater),
    "gtu": _not(np.less_equal),
    "geu": _not(np.less),
    "num": _not(_unordered),
    "nan": _unordered,
}
"""Those that end in `u`, and `nan`, hold for NaN too."""


def _select(a: Any, b: Any, chosen: Any) -> Any:
    return _where(chosen, a, b)


def _comparisons() -> dict[str, Operation]:
    table = {f"setp.{name}.{t}": Operation(("pred",), (t, t), f) for name, f in _COMPARISONS.items() for t in _INTEGERS}
    equal = {"eq": np.equal, "ne": np.not_equal}
    table |= {f"setp.{name}.{t}": Operation(("pred",), (t, t), f) for name, f in equal.items() for t in _BITS}
    table |= {f"setp.ne.{t}": Operation(("pred",), (t, t), np.not_equal) for t in _INTEGERS}
    for name, f in _OF_FLOATS.items():
        table |= {f"setp.{name}.{t}": Operation(("pred",), (t, t), f) for t in ("f16", "f32", "f64")}
        table[f"setp.{name}.f16x2"] = Operation(("pred", "pred"), ("f16x2", "f16x2"), _two_truths(f))
    select = (*_BITS, *_INTEGERS, "f32", "f64")
    return table | {f"selp.{t}": Operation((t,), (t, t, "pred"), _select) for t in select}


def _pairs_of_halves() -> dict[str, Operation]:
    names = {"add.rn": np.add, "sub.rn": np.subtract, "mul.rn": np.multiply, **_EXTREMES}
    table = {f"{name}.f16x2": Operation(("f16x2",), ("f16x2",) * 2, _two_halves(f)) for name, f in names.items()}
    return table | {
        "abs.f16x2": Operation(("f16x2",), ("f16x2",), _two_halves(np.abs)),
        "neg.f16x2": Operation(("f16x2",), ("f16x2",), _two_halves(np.negative)),
        "fma.rn.f16x2": Operation(("f16x2",), ("f16x2",) * 3, _two_halves(floats.fma16)),
        "cvt.rn.f16x2.f32": Operation(("f16x2",), ("f32", "f32"), _narrow_two),
    }


# --- conversion (9.7.9.21) ----------------------------------------------------------------------------------------

_FLOATS = ("f16", "f32", "f64")
_ANY_INTEGER = ("s8", "u8", *_INTEGERS)
_WHOLE = {"rni": "nearest", "rzi": "zero", "rmi": "down", "rpi": "up"}


def _as(name: str) -> Compute:
    dtype = TYPES[name]

    def convert(a: Any) -> Any:
        return a.astype(dtype)

    return convert


def _from_integer(name: str) -> Compute:
    kind: Any = TYPES[name].type

    def convert(a: Any) -> Any:
        return floats.from_integer(a, kind)

    return convert


def _to_integer(rounding: str, name: str) -> Compute:
    whole, dtype = floats.WHOLE[rounding], TYPES[name]

    def convert(a: Any) -> Any:
        return floats.to_integer(whole(a), dtype)

    return convert


def _conversions() -> dict[str, Operation]:
    """Integers are cut or extended, floats rounded once, and floats saturate as integers, NaN giving 0."""
    table: dict[str, Operation] = {}
    for to in _ANY_INTEGER:
        table |= {f"cvt.{to}.{t}": Operation((to,), (t,), _as(to)) for t in _ANY_INTEGER}
    for place, to in enumerate(_FLOATS):
        table |= {f"cvt.rn.{to}.{t}": Operation((to,), (t,), _from_integer(to)) for t in _ANY_INTEGER}
        table |= {f"cvt.{to}.{t}": Operation((to,), (t,), _as(to)) for t in _FLOATS[:place]}
        table |= {f"cvt.rn.{to}.{t}": Operation((to,), (t,), _as(to)) for t in _FLOATS[place + 1 :]}
    for name, rounding in _WHOLE.items():
        for t in _FLOATS:
            table[f"cvt.{name}.{t}.{t}"] = Operation((t,), (t,), floats.WHOLE[rounding])
            table |= {f"cvt.{name}.{to}.{t}": Operation((to,), (t,), _to_integer(rounding, to)) for to in _INTEGERS}
    return table


def _same(a: Any) -> Any:
    return a


def _moves() -> dict[str, Operation]:
    kinds = (*_BITS, *_INTEGERS, "f32", "f64", "pred")
    return {f"mov.{t}": Operation((t,), (t,), _same) for t in kinds}


OPERATIONS: Mapping[str, Operation] = {
    **_integers(),
    **_logic(),
    **_floats(),
    **_pairs_of_halves(),
    **_comparisons(),
    **_conversions(),
    **_moves(),
}
