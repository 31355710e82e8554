"""Scalar instructions of gfx942 as functions of waves. Source: CDNA3 ISA, 5.1 to 5.6, 12.1 to 12.5.

A row of the table: the sizes of result and sources in words of 32 bits, what is computed on unsigned integers, and what
becomes of SCC: `nonzero` of the result, or the second value of the function (`also`), or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from portkit.emulators import gcn_integer as integer
from portkit.emulators.gcn_alu import Read, Step, raw_reader
from portkit.emulators.gcn_text import EXEC, VCC, Instruction
from portkit.emulators.gcn_waves import Array, Mask, Waves

_TOP = np.uint32(1 << 31)


Compute: TypeAlias = Callable[[Any], Any] | Callable[[Any, Any], Any] | Callable[[Any, Any, Any], Any]
Sets: TypeAlias = Literal["", "nonzero", "also"]


@dataclass(frozen=True, slots=True)
class Scalar:
    """An instruction; with `carry` the function also gets SCC, as its last operand."""

    result: int
    sources: tuple[int, ...]
    compute: Callable[..., Any]
    scc: Sets
    carry: bool


def _row(result: int, sources: tuple[int, ...], compute: Compute, scc: Sets = "", *, carry: bool = False) -> Scalar:
    return Scalar(result, sources, compute, scc, carry)


def _signed(x: Array) -> Array:
    return x.view(f"i{x.dtype.itemsize}")


def _add_overflow(a: Array, b: Array) -> tuple[Array, Mask]:
    total = a + b
    return total, ((a ^ total) & (b ^ total) & _TOP) != 0


def _subtract_overflow(a: Array, b: Array) -> tuple[Array, Mask]:
    difference = a - b
    return difference, ((a ^ b) & (a ^ difference) & _TOP) != 0


def _choose(better: Callable[[Array, Array], Mask], *, signed: bool) -> Callable[..., Any]:
    def run(a: Array, b: Array) -> tuple[Array, Mask]:
        first = better(_signed(a), _signed(b)) if signed else better(a, b)
        return np.where(first, a, b), first

    return run


def _shift(direction: Callable[..., Any], *, signed: bool = False) -> Callable[..., Any]:
    def run(x: Array, count: Array) -> Array:
        bits = 8 * x.dtype.itemsize
        by = (count & (bits - 1)).astype(x.dtype)
        return direction(_signed(x), _signed(by)).view(x.dtype) if signed else direction(x, by)

    return run


def _shifted_sum(count: int) -> Callable[..., Any]:
    def run(a: Array, b: Array) -> tuple[Array, Mask]:
        total = (a.astype(np.uint64) << np.uint64(count)) + b
        return total.astype(np.uint32), total >> np.uint64(32) != 0

    return run


def _field(*, signed: bool, words: int) -> Callable[..., Any]:
    """Extract the bits that the second operand names: 5 or 6 bits of offset, 7 of width from bit 16 on (S_BFE)."""

    def run(x: Array, where: Array) -> Array:
        first = (where & (32 * words - 1)).astype(x.dtype)
        width = np.minimum((where >> 16) & 0x7F, 32 * words).astype(x.dtype)
        rest = x.dtype.type(32 * words) - width
        top = (x >> first) << np.minimum(rest, 32 * words - 1)
        field = (_signed(top) >> _signed(rest)).view(x.dtype) if signed else top >> np.minimum(rest, 32 * words - 1)
        return np.where(width == 0, 0, field).astype(x.dtype)

    return run


def _half(x: Array, place: int) -> Array:
    return (x >> (16 * place)) & np.uint32(0xFFFF)


def _pack(first: int, second: int) -> Callable[[Any, Any], Any]:
    return lambda a, b: _half(a, first) | (_half(b, second) << 16)


def _trailing64(x: Array) -> Array:
    low, high = x.astype(np.uint32), (x >> np.uint64(32)).astype(np.uint32)
    return np.where(low != 0, integer.trailing(low), np.where(high != 0, integer.trailing(high) + np.uint32(32), ~low))


def _leading64(x: Array) -> Array:
    low, high = x.astype(np.uint32), (x >> np.uint64(32)).astype(np.uint32)
    return np.where(high != 0, integer.leading(high), np.where(low != 0, integer.leading(low) + np.uint32(32), ~high))


_LOGIC: dict[str, Callable[[Any, Any], Any]] = {
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "andn2": lambda a, b: a & ~b,
    "orn2": lambda a, b: a | ~b,
    "nand": lambda a, b: ~(a & b),
    "nor": lambda a, b: ~(a | b),
    "xnor": lambda a, b: ~(a ^ b),
}
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "eq": np.equal,
    "lg": np.not_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lt": np.less,
    "le": np.less_equal,
}
_HIGH = integer.high_product

SCALAR: dict[str, Scalar] = {
    "s_add_u32": _row(1, (1, 1), integer.add_carry, "also"),
    "s_add_i32": _row(1, (1, 1), _add_overflow, "also"),
    "s_sub_u32": _row(1, (1, 1), integer.subtract_borrow, "also"),
    "s_sub_i32": _row(1, (1, 1), _subtract_overflow, "also"),
    "s_addc_u32": _row(1, (1, 1), integer.add_with_carry, "also", carry=True),
    "s_subb_u32": _row(1, (1, 1), integer.subtract_with_borrow, "also", carry=True),
    "s_mul_i32": _row(1, (1, 1), np.multiply),
    "s_mul_hi_u32": _row(1, (1, 1), _HIGH),
    "s_mul_hi_i32": _row(1, (1, 1), lambda a, b: _HIGH(_signed(a), _signed(b))),
    "s_min_i32": _row(1, (1, 1), _choose(np.less_equal, signed=True), "also"),
    "s_min_u32": _row(1, (1, 1), _choose(np.less_equal, signed=False), "also"),
    "s_max_i32": _row(1, (1, 1), _choose(np.greater_equal, signed=True), "also"),
    "s_max_u32": _row(1, (1, 1), _choose(np.greater_equal, signed=False), "also"),
    "s_abs_i32": _row(1, (1,), lambda a: np.abs(_signed(a)).view(np.uint32), "nonzero"),
    "s_absdiff_i32": _row(1, (1, 1), lambda a, b: np.abs(_signed(a - b)).view(np.uint32), "nonzero"),
    "s_brev_b32": _row(1, (1,), integer.reverse),
    "s_sext_i32_i8": _row(1, (1,), lambda a: (_signed(a) << 24) >> 24),
    "s_sext_i32_i16": _row(1, (1,), lambda a: (_signed(a) << 16) >> 16),
    "s_ff1_i32_b32": _row(1, (1,), integer.trailing),
    "s_ff1_i32_b64": _row(1, (2,), _trailing64),
    "s_flbit_i32_b32": _row(1, (1,), integer.leading),
    "s_flbit_i32_b64": _row(1, (2,), _leading64),
    "s_flbit_i32": _row(1, (1,), lambda a: integer.leading_signs(_signed(a))),
    "s_bfm_b32": _row(1, (1, 1), lambda n, at: ((np.uint32(1) << (n & 31)) - np.uint32(1)) << (at & 31)),
    "s_pack_ll_b32_b16": _row(1, (1, 1), _pack(0, 0)),
    "s_pack_lh_b32_b16": _row(1, (1, 1), _pack(0, 1)),
    "s_pack_hh_b32_b16": _row(1, (1, 1), _pack(1, 1)),
    **{f"s_lshl{n}_add_u32": _row(1, (1, 1), _shifted_sum(n), "also") for n in (1, 2, 3, 4)},
    **{f"s_{name}_b{32 * n}": _row(n, (n, n), compute, "nonzero") for n in (1, 2) for name, compute in _LOGIC.items()},
    **{
        row: value
        for n, b in ((1, 32), (2, 64))
        for row, value in {
            f"s_mov_b{b}": _row(n, (n,), lambda x: x),
            f"s_not_b{b}": _row(n, (n,), np.invert, "nonzero"),
            f"s_lshl_b{b}": _row(n, (n, 1), _shift(np.left_shift), "nonzero"),
            f"s_lshr_b{b}": _row(n, (n, 1), _shift(np.right_shift), "nonzero"),
            f"s_ashr_i{b}": _row(n, (n, 1), _shift(np.right_shift, signed=True), "nonzero"),
            f"s_bfe_u{b}": _row(n, (n, 1), _field(signed=False, words=n), "nonzero"),
            f"s_bfe_i{b}": _row(n, (n, 1), _field(signed=True, words=n), "nonzero"),
            f"s_bcnt1_i32_b{b}": _row(1, (n,), integer.ones, "nonzero"),
            f"s_cselect_b{b}": _row(n, (n, n), lambda x, y, scc: np.where(scc, x, y), carry=True),
        }.items()
    },
}
"""By name; the comparisons, constants in place and the exec instructions have tables of their own."""

_COMPARISONS: dict[str, tuple[int, Callable[[Any, Any], Any]]] = {
    **{f"s_cmp_{name}_u32": (1, compute) for name, compute in _COMPARE.items()},
    **{
        f"s_cmp_{name}_i32": (1, lambda a, b, f=compute: f(_signed(a), _signed(b)))
        for name, compute in _COMPARE.items()
    },
    **{f"s_cmp_{name}_u64": (2, _COMPARE[name]) for name in ("eq", "lg")},
    "s_bitcmp0_b32": (1, lambda a, n: (a >> (n & 31)) & 1 == 0),
    "s_bitcmp1_b32": (1, lambda a, n: (a >> (n & 31)) & 1 == 1),
}
_IN_PLACE = {"s_addk_i32": "s_add_i32", "s_mulk_i32": "s_mul_i32"}
"""Instructions whose first operand is also the result, by the one that they abbreviate (CDNA3 ISA, 12.2: SOPK)."""
_BIT_SETS: dict[str, Scalar] = {
    "s_bitset0_b32": _row(1, (1, 1), lambda x, n: x & ~(np.uint32(1) << (n & 31))),
    "s_bitset1_b32": _row(1, (1, 1), lambda x, n: x | (np.uint32(1) << (n & 31))),
}
"""These also read their result, before they write it."""

BRANCHES: Mapping[str, Callable[[Waves], Mask]] = {
    "s_branch": lambda w: np.ones(w.count, np.bool_),
    "s_cbranch_scc0": lambda w: ~w.scc,
    "s_cbranch_scc1": lambda w: w.scc,
    "s_cbranch_vccz": lambda w: w.scalar_pair(VCC) == 0,
    "s_cbranch_vccnz": lambda w: w.scalar_pair(VCC) != 0,
    "s_cbranch_execz": lambda w: w.scalar_pair(EXEC) == 0,
    "s_cbranch_execnz": lambda w: w.scalar_pair(EXEC) != 0,
}
"""Which waves branch (CDNA3 ISA, 4.4)."""


def scalar_step(instruction: Instruction) -> Step | None:
    """Return a scalar instruction as a function of waves, None if the tables have none of that name."""
    name, operands = instruction.name, instruction.operands
    if name in SCALAR:
        row = SCALAR[name]
        return _step(row, operands[0].index, [_flat(instruction, 1 + k, n) for k, n in enumerate(row.sources)])
    if name in _IN_PLACE:
        row = SCALAR[_IN_PLACE[name]]
        return _step(row, operands[0].index, [_flat(instruction, 0, 1), _constant(instruction, signed=True)])
    if name == "s_movk_i32":
        return _step(SCALAR["s_mov_b32"], operands[0].index, [_constant(instruction, signed=True)])
    if name.startswith("s_cmpk_"):
        _, compare = _COMPARISONS[name.replace("cmpk", "cmp")]
        return _comparison(compare, [_flat(instruction, 0, 1), _constant(instruction, signed=name.endswith("i32"))])
    if name in _COMPARISONS:
        words, compare = _COMPARISONS[name]
        return _comparison(compare, [_flat(instruction, k, words) for k in range(2)])
    if name in _BIT_SETS:
        return _step(_BIT_SETS[name], operands[0].index, [_flat(instruction, 0, 1), _flat(instruction, 1, 1)])
    if name.endswith("_saveexec_b64"):
        return _save_exec(_LOGIC[name[2 : -len("_saveexec_b64")]], instruction)
    return None


def _flat(instruction: Instruction, place: int, words: int) -> Read:
    read = raw_reader(instruction.operands[place], 4 * words)
    return lambda w: read(w)[:, 0]


def _constant(instruction: Instruction, *, signed: bool) -> Read:
    """Return what reads a constant of 16 bits in the second operand."""
    number = instruction.operands[1].bits(2, is_float=False)
    number -= 0x10000 if signed and number >> 15 else 0
    constant = np.array([number], np.int64).astype(np.uint32)
    return lambda w: constant


def _step(row: Scalar, target: int, reads: list[Read]) -> Step:
    def run(w: Waves) -> None:
        values = [read(w) for read in reads]
        result = row.compute(*values, w.scc) if row.carry else row.compute(*values)
        if row.scc == "also":
            result, w.scc = result[0], w.each(result[1])
        elif row.scc:
            w.scc = w.each(result != 0)
        if row.result == 1:
            w.write_scalar(target, result.view(np.uint32))
        else:
            w.write_scalar_pair(target, result)

    return run


def _comparison(compare: Callable[..., Any], reads: list[Read]) -> Step:
    def run(w: Waves) -> None:
        w.scc = w.each(compare(*[read(w) for read in reads]))

    return run


def _save_exec(compute: Callable[..., Any], instruction: Instruction) -> Step:
    """Keep EXEC in the result, and make it what the operation gives of the source and EXEC (S_AND_SAVEEXEC_B64)."""
    target, source = instruction.operands[0].index, _flat(instruction, 1, 2)

    def run(w: Waves) -> None:
        operand, before = source(w), w.scalar_pair(EXEC)
        following = compute(operand, before)
        w.write_scalar_pair(EXEC, following)
        w.write_scalar_pair(target, before)
        w.scc = w.each(following != 0)

    return run
