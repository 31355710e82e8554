"""What values an integer register can have: an interval analysis over one kernel.

Each register of an integer dtype gets the interval that is certain to hold its values in every lane and iteration. An
operation that may wrap gives the whole range of its dtype, as do loads and carried values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from portkit.spec.kernel import Extent, Instr, Kernel
from portkit.spec.types import BOOL, I32, DType, Type, decode


@dataclass(frozen=True, slots=True)
class Interval:
    """All integers from `lo` to `hi`."""

    lo: int
    hi: int

    def hull(self, other: Interval) -> Interval:
        return Interval(min(self.lo, other.lo), max(self.hi, other.hi))


def whole(dtype: DType) -> Interval:
    """Return every value of an integer dtype."""
    return Interval(dtype.min_int, dtype.max_int)


def _fit(dtype: DType, lo: int, hi: int) -> Interval:
    """Return the interval, or everything where it may wrap."""
    return Interval(lo, hi) if dtype.min_int <= lo and hi <= dtype.max_int else whole(dtype)


def _add(dtype: DType, a: Interval, b: Interval) -> Interval:
    return _fit(dtype, a.lo + b.lo, a.hi + b.hi)


def _mul(dtype: DType, a: Interval, b: Interval) -> Interval:
    ends = [x * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    return _fit(dtype, min(ends), max(ends))


def _shl(dtype: DType, a: Interval, n: Interval) -> Interval:
    if n.lo != n.hi:
        return whole(dtype)
    factor = 1 << (n.lo % dtype.bits)
    return _mul(dtype, a, Interval(factor, factor))


def _shr(dtype: DType, a: Interval, n: Interval) -> Interval:
    if n.lo != n.hi:
        return Interval(min(a.lo, 0), max(a.hi, 0))
    count = n.lo % dtype.bits
    return Interval(a.lo >> count, a.hi >> count)


def _max(dtype: DType, *values: Interval) -> Interval:
    return Interval(max(v.lo for v in values), max(v.hi for v in values))


def _min(dtype: DType, *values: Interval) -> Interval:
    return Interval(min(v.lo for v in values), min(v.hi for v in values))


def _and(dtype: DType, *values: Interval) -> Interval:
    """One operand that is never negative bounds the result."""
    tops = [v.hi for v in values if v.lo >= 0]
    return Interval(0, min(tops)) if tops else whole(dtype)


def _select(dtype: DType, a: Interval, b: Interval, x: Interval, y: Interval) -> Interval:
    return x.hull(y)


def _pack(dtype: DType, *values: Interval) -> Interval:
    return _min(dtype, *values).hull(_max(dtype, *values))


def _cast(dtype: DType, a: Interval) -> Interval:
    return _fit(dtype, a.lo, a.hi)


_RULES: dict[str, Callable[..., Interval]] = {
    "add": _add,
    "mul": _mul,
    "mul.shl": _shl,
    "mul.shr": _shr,
    "reduce.max": _max,
    "reduce.min": _min,
    "reduce.and": _and,
    "mov.splat": lambda dtype, a: a,
    "mov.lane": lambda dtype, a: a,
    "mov.pack": _pack,
    "mov.cast": _cast,
    "phi.lt": _select,
    "phi.eq": _select,
}


def intervals(kernel: Kernel, scalars: Mapping[str, int | float] | None = None) -> dict[str, Interval]:
    """Return the interval of every register of an integer dtype; scalars that are given are known exactly."""
    known = scalars or {}
    found: dict[str, Interval] = {}
    for scalar in kernel.scalars:
        if scalar.dtype.is_int:
            value = known.get(scalar.name)
            found[scalar.name] = whole(scalar.dtype) if value is None else Interval(int(value), int(value))
    for instr in kernel.body:
        if instr.type is not None and instr.type.dtype.is_int:
            found[instr.result] = _interval(kernel, instr, instr.type.dtype, found)
    return found


def _interval(kernel: Kernel, instr: Instr, dtype: DType, found: Mapping[str, Interval]) -> Interval:
    if instr.name == "mov.const":
        value = int(decode(dtype, instr.imms[0]))
        return Interval(value, value)
    if instr.form.op.value == "loop":
        count = instr.imms[0] if instr.imms else found[instr.args[0]].hi
        return Interval(0, max(0, count - 1))
    rule = _RULES.get(instr.name)
    if rule is None:
        return whole(dtype)
    compared = instr.name in ("phi.lt", "phi.eq")  # what is compared may be a float; only the choices count
    operands = [found.get(a, whole(I32)) if compared and k < 2 else found[a] for k, a in _typed(kernel, instr, found)]
    return rule(dtype, *operands) if operands else whole(dtype)


def _typed(kernel: Kernel, instr: Instr, found: Mapping[str, Interval]) -> list[tuple[int, str]]:
    """Return the numbered operands, none where one that counts is no integer (a cast from float)."""
    numbered = list(enumerate(instr.args))
    counted = numbered[2:] if instr.name in ("phi.lt", "phi.eq") else numbered
    return numbered if all(name in found for _, name in counted) else []


class Facts:
    """What a gate says: `a < b` for every lane where it is true."""

    def __init__(self, kernel: Kernel) -> None:
        self._by_result = {i.result: i for i in kernel.body if i.result}

    def comparisons(self, gate: str) -> list[tuple[str, str]]:
        """Return the pairs (a, b) with a < b wherever the register `gate` is true."""
        instr = self._by_result.get(gate)
        if instr is None:
            return []
        if instr.name in ("reduce.and", "mov.splat"):
            return [pair for arg in instr.args for pair in self.comparisons(arg)]
        if instr.name == "phi.lt" and self._is_false(instr.args[3]):
            return [(instr.args[0], instr.args[1]), *self.comparisons(instr.args[2])]
        return []

    def _is_false(self, register: str) -> bool:
        instr = self._by_result.get(register)
        if instr is not None and instr.name == "mov.splat":
            return self._is_false(instr.args[0])
        return instr is not None and instr.name == "mov.const" and instr.type == Type(BOOL) and not instr.imms[0]


def refine(index: str, gate: str, found: Mapping[str, Interval], facts: Facts) -> Interval:
    """Return the interval of `index` in the lanes where `gate` is true."""
    lo, hi = found[index].lo, found[index].hi
    for a, b in facts.comparisons(gate):
        if a == index and b in found:
            hi = min(hi, found[b].hi - 1)
        if b == index and a in found:
            lo = max(lo, found[a].lo + 1)
    return Interval(lo, hi)


def below_extent(index: str, gate: str, extent: Extent, facts: Facts) -> bool:
    """Whether the gate itself says `index < extent`, the extent being one scalar."""
    return len(extent.factors) == 1 and any(a == index and b == extent.factors[0] for a, b in facts.comparisons(gate))
