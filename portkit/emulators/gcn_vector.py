"""The table of gfx942's vector instructions: the types of results and sources, and what is computed lane by lane.

A type is a letter and a size in bits (`f32`, `i16`, `u64`), or `mask`, a truth value for each lane in a pair of scalar
registers. A source written `=f32` is the result's register before; `vcc` is read though the text does not name it.
Source: CDNA3 ISA, 12.7 to 12.12, named as there in lower case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from portkit.emulators import gcn_integer as integer
from portkit.emulators import gcn_math as math
from portkit.emulators.floats import fma16, fma32, fma64

Unary: TypeAlias = Callable[[Any], Any]
Binary: TypeAlias = Callable[[Any, Any], Any]
Ternary: TypeAlias = Callable[[Any, Any, Any], Any]
Compute: TypeAlias = Unary | Binary | Ternary | Callable[[Any, Any, Any, Any], Any]

_F, _I, _U = ("f16", "f32", "f64"), ("i16", "i32", "i64"), ("u16", "u32", "u64")
_FMA: Mapping[str, Ternary] = {"f16": fma16, "f32": fma32, "f64": fma64}
_NUMPY: Mapping[str, Any] = {
    "f16": np.float16,
    "f32": np.float32,
    "f64": np.float64,
    "i16": np.int16,
    "i32": np.int32,
    "u16": np.uint16,
    "u32": np.uint32,
}


@dataclass(frozen=True, slots=True)
class Vector:
    """An instruction: the types of what it writes and reads, and the function between."""

    results: tuple[str, ...]
    sources: tuple[str, ...]
    compute: Callable[..., Any]


def _same(type_: str, count: int, compute: Compute) -> Vector:
    return Vector((type_,), (type_,) * count, compute)


def _row(results: tuple[str, ...], sources: tuple[str, ...], compute: Compute) -> Vector:
    return Vector(results, sources, compute)


# --- comparisons --------------------------------------------------------------------------------------------------

_ORDERED: dict[str, Binary] = {
    "lt": np.less,
    "eq": np.equal,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_OF_FLOATS: dict[str, Binary] = {
    **_ORDERED,
    "lg": lambda a, b: (a < b) | (a > b),
    "o": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
    "u": lambda a, b: np.isnan(a) | np.isnan(b),
    "nge": lambda a, b: ~(a >= b),
    "nlg": lambda a, b: ~((a < b) | (a > b)),
    "ngt": lambda a, b: ~(a > b),
    "nle": lambda a, b: ~(a <= b),
    "neq": lambda a, b: ~(a == b),
    "nlt": lambda a, b: ~(a < b),
}
_OF_INTEGERS: dict[str, Binary] = {**_ORDERED, "ne": np.not_equal}


def _comparisons() -> Iterator[tuple[str, Vector]]:
    for table, types in ((_OF_FLOATS, _F), (_OF_INTEGERS, (*_I, *_U))):
        for name, compute in table.items():
            for t in types:
                yield f"v_cmp_{name}_{t}", _row(("mask",), (t, t), compute)
    for t in _F:
        yield f"v_cmp_class_{t}", _row(("mask",), (t, "u32"), math.classes)


# --- floats -------------------------------------------------------------------------------------------------------

_BINARY_FLOATS: dict[str, Binary] = {
    "add": np.add,
    "sub": np.subtract,
    "subrev": lambda a, b: b - a,
    "mul": np.multiply,
    "max": math.maximum,
    "min": math.minimum,
}
_UNARY_FLOATS: dict[str, Unary] = {
    "trunc": np.trunc,
    "floor": np.floor,
    "ceil": np.ceil,
    "rndne": np.rint,
    "fract": math.fraction,
    "frexp_mant": math.mantissa,
}
_APPROXIMATE: dict[str, Unary] = {
    "rcp": math.reciprocal,
    "rsq": math.reciprocal_root,
    "sqrt": np.sqrt,
    "exp": np.exp2,
    "log": np.log2,
    "sin": math.sine_of_turns,
    "cos": math.cosine_of_turns,
}
_TERNARY_FLOATS: dict[str, Ternary] = {
    "max3": lambda a, b, c: math.maximum(math.maximum(a, b), c),
    "min3": lambda a, b, c: math.minimum(math.minimum(a, b), c),
    "med3": math.float_median,
    "div_fixup": math.div_fixup,
}


def _floats() -> Iterator[tuple[str, Vector]]:
    for t in _F:
        yield from ((f"v_{name}_{t}", _same(t, 2, f)) for name, f in _BINARY_FLOATS.items())
        yield from ((f"v_{name}_{t}", _same(t, 1, f)) for name, f in _UNARY_FLOATS.items())
        yield from ((f"v_{name}_{t}", _same(t, 3, f)) for name, f in _TERNARY_FLOATS.items())
        fma = _FMA[t]
        yield f"v_fma_{t}", _same(t, 3, fma)
        yield f"v_fmac_{t}", _row((t,), (t, t, f"={t}"), fma)
        yield f"v_ldexp_{t}", _row((t,), (t, "i16" if t == "f16" else "i32"), math.load_exponent)
        yield f"v_frexp_exp_{'i16' if t == 'f16' else 'i32'}_{t}", _row(("i32",), (t,), math.power)
    for name, compute in _APPROXIMATE.items():
        yield f"v_{name}_f16", _same("f16", 1, math.exact16(compute))
        yield f"v_{name}_f32", _same("f32", 1, math.approximate32(compute))
    for name in ("rsq", "sqrt"):
        yield f"v_{name}_f64", _same("f64", 1, math.approximate64(_APPROXIMATE[name]))
    yield "v_rcp_f64", _same("f64", 1, math.reciprocals(math.approximate64(math.reciprocal)))
    for name in ("rcp", "rcp_iflag"):
        yield f"v_{name}_f32", _same("f32", 1, math.reciprocals(math.approximate32(math.reciprocal)))
    yield "v_fmamk_f32", _same("f32", 3, fma32)
    yield "v_fmaak_f32", _same("f32", 3, fma32)
    for t, fmas in (("f32", math.div_fmas32), ("f64", math.div_fmas64)):
        yield f"v_div_scale_{t}", _row((t, "mask"), (t, t, t), math.div_scale)
        yield f"v_div_fmas_{t}", _row((t,), (t, t, t, "vcc"), fmas)


# --- conversions --------------------------------------------------------------------------------------------------

_TO_FLOAT = (
    *("f16_f32", "f32_f16", "f32_f64", "f64_f32"),
    *("f16_i16", "f16_u16", "f32_i32", "f32_u32", "f64_i32", "f64_u32"),
)
_TO_INTEGER = ("i32_f32", "u32_f32", "i32_f64", "u32_f64", "i16_f16", "u16_f16")


def _conversions() -> Iterator[tuple[str, Vector]]:
    for name in _TO_FLOAT:
        target, source = name.split("_")
        yield f"v_cvt_{name}", _row((target,), (source,), lambda x, d=_NUMPY[target]: x.astype(d))
    for name in _TO_INTEGER:
        target, source = name.split("_")
        yield f"v_cvt_{name}", _row((target,), (source,), math.to_int(_NUMPY[target]))
    for place in range(4):
        yield f"v_cvt_f32_ubyte{place}", _row(("f32",), ("u32",), _byte(place))


def _byte(place: int) -> Unary:
    return lambda x: ((x >> (8 * place)) & 0xFF).astype(np.float32)


# --- integers -----------------------------------------------------------------------------------------------------

_BINARY_INTEGERS: dict[str, Binary] = {
    "add": np.add,
    "sub": np.subtract,
    "subrev": lambda a, b: b - a,
    "max": np.maximum,
    "min": np.minimum,
}
_BITWISE: dict[str, tuple[int, Compute]] = {
    "and": (2, np.bitwise_and),
    "or": (2, np.bitwise_or),
    "xor": (2, np.bitwise_xor),
    "xnor": (2, lambda a, b: ~(a ^ b)),
    "not": (1, np.invert),
    "mov": (1, lambda x: x),
    "or3": (3, lambda a, b, c: a | b | c),
    "and_or": (3, lambda a, b, c: (a & b) | c),
    "bfi": (3, integer.insert),
    "alignbit": (3, integer.align_bits),
    "alignbyte": (3, integer.align_bytes),
    "perm": (3, integer.permute),
    "bfrev": (1, integer.reverse),
    "ffbl": (1, integer.trailing),
}
_SHIFTS: dict[str, tuple[str, Binary]] = {
    "lshlrev": ("u", integer.shift(np.left_shift)),
    "lshrrev": ("u", integer.shift(np.right_shift)),
    "ashrrev": ("i", integer.shift(np.right_shift)),
}
_TERNARY_U32: dict[str, Ternary] = {
    "add3": lambda a, b, c: a + b + c,
    "lshl_add": lambda a, n, c: (a << (n & 31)) + c,
    "add_lshl": lambda a, b, n: (a + b) << (n & 31),
    "xad": lambda a, b, c: (a ^ b) + c,
    "bfe": integer.extract,
    "mad_u32_u24": lambda a, b, c: integer.product24(a, b) + c,
}
_CARRIES: dict[str, tuple[bool, Compute]] = {
    "add_co_u32": (False, integer.add_carry),
    "addc_co_u32": (True, integer.add_with_carry),
    "sub_co_u32": (False, integer.subtract_borrow),
    "subb_co_u32": (True, integer.subtract_with_borrow),
    "subrev_co_u32": (False, lambda a, b: integer.subtract_borrow(b, a)),
    "subbrev_co_u32": (True, lambda a, b, borrow: integer.subtract_with_borrow(b, a, borrow)),
}


def _integers() -> Iterator[tuple[str, Vector]]:
    for t in ("u16", "u32", "i16", "i32"):
        yield from ((f"v_{name}_{t}", _same(t, 2, f)) for name, f in _BINARY_INTEGERS.items())
        yield f"v_max3_{t}", _same(t, 3, lambda a, b, c: np.maximum(np.maximum(a, b), c))
        yield f"v_min3_{t}", _same(t, 3, lambda a, b, c: np.minimum(np.minimum(a, b), c))
        yield f"v_med3_{t}", _same(t, 3, math.median)
    for bits in (16, 32, 64):
        for name, (letter, compute) in _SHIFTS.items():
            result, count = f"{letter}{bits}", "u32" if bits == 64 else f"u{bits}"
            # On 64 bits the text says b64 for the logical shifts, on the arithmetic one i64 everywhere.
            yield f"v_{name}_{'b' if letter == 'u' else 'i'}{bits}", _row((result,), (count, result), compute)
    yield from ((f"v_{name}_b32", _same("u32", n, f)) for name, (n, f) in _BITWISE.items())
    yield from ((f"v_{name}_u32".replace("_u24_u32", "_u24"), _same("u32", 3, f)) for name, f in _TERNARY_U32.items())
    for name, (with_carry, compute) in _CARRIES.items():
        sources = ("u32", "u32", "mask") if with_carry else ("u32", "u32")
        yield f"v_{name}", _row(("u32", "mask"), sources, compute)


_OTHERS: dict[str, Vector] = {
    "v_mov_b64": _same("u64", 1, lambda x: x),
    "v_lshl_or_b32": _same("u32", 3, lambda a, n, c: (a << (n & 31)) | c),
    "v_bfe_i32": _row(("i32",), ("i32", "u32", "u32"), integer.extract),
    "v_lshl_add_u64": _row(("u64",), ("u64", "u32", "u64"), lambda a, n, c: (a << (n & 63).astype(np.uint64)) + c),
    "v_mul_lo_u32": _same("u32", 2, np.multiply),
    "v_mul_lo_u16": _same("u16", 2, np.multiply),
    "v_mul_hi_u32": _same("u32", 2, integer.high_product),
    "v_mul_hi_i32": _same("i32", 2, integer.high_product),
    "v_mul_u32_u24": _same("u32", 2, integer.product24),
    "v_mul_i32_i24": _same("i32", 2, integer.product24),
    "v_mad_i32_i24": _same("i32", 3, lambda a, b, c: integer.product24(a, b) + c),
    "v_mad_u64_u32": _row(("u64", "mask"), ("u32", "u32", "u64"), integer.wide_product(np.uint64)),
    "v_mad_i64_i32": _row(("i64", "mask"), ("i32", "i32", "i64"), integer.wide_product(np.int64)),
    "v_mad_u16": _same("u16", 3, lambda a, b, c: a * b + c),
    "v_mad_i16": _same("i16", 3, lambda a, b, c: a * b + c),
    "v_mad_legacy_u16": _same("u16", 3, lambda a, b, c: a * b + c),
    "v_ffbh_u32": _same("u32", 1, integer.leading),
    "v_ffbh_i32": _row(("u32",), ("i32",), integer.leading_signs),
    "v_bcnt_u32_b32": _same("u32", 2, lambda x, n: integer.ones(x) + n),
    "v_cndmask_b32": _row(("f32",), ("f32", "f32", "mask"), lambda no, yes, mask: np.where(mask, yes, no)),
    "v_pack_b32_f16": _row(("u32",), ("u16", "u16"), lambda a, b: a.astype(np.uint32) | (b.astype(np.uint32) << 16)),
}

VECTOR: dict[str, Vector] = {
    **dict(_comparisons()),
    **dict(_floats()),
    **dict(_conversions()),
    **dict(_integers()),
    **_OTHERS,
}
"""By name without the suffix of the encoding."""

PACKED: dict[str, Vector] = {
    f"v_pk_{name}": VECTOR[f"v_{name}"]
    for name in (
        *(f"{kind}_f32" for kind in ("add", "mul", "fma")),
        *(f"{kind}_f16" for kind in ("add", "mul", "fma", "max", "min")),
        *(f"{kind}_{t}" for kind in ("add", "sub", "max", "min") for t in ("i16", "u16")),
        *("mul_lo_u16", "mad_u16", "mad_i16", "lshlrev_b16", "lshrrev_b16", "ashrrev_i16", "mov_b32"),
    )
}
"""Instructions that do the same on the two halves of a register, or on two registers (CDNA3 ISA, 6.6)."""

MIXED = {"v_fma_mix_f32": fma32, "v_fma_mixlo_f16": math.half_of_fma, "v_fma_mixhi_f16": math.half_of_fma}
"""Instructions whose sources are f32 or f16, as `op_sel_hi` says."""
