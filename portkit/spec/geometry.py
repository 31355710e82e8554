"""Launch geometry: what the host computes before a launch (Spec: nest_c3, header_c3)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from math import prod

from portkit.errors import SpecError
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import DType, decode

MAX_GROUPS = 2**31 - 1


def wrap(value: int, dtype: DType) -> int:
    """Return `value` modulo 2^bits, in the range of an integer dtype (bool passes)."""
    return int(decode(dtype, value & ((1 << dtype.bits) - 1))) if dtype.is_int else value


def _fold(step: Callable[[int, int], int]) -> HostOp:
    def fold(dtype: DType, values: Sequence[int]) -> int:
        return wrap(reduce(step, values), dtype)

    return fold


def _multiply_high(dtype: DType, values: Sequence[int]) -> int:
    a, b = values
    return (a * b) >> dtype.bits


def _shift_left(dtype: DType, values: Sequence[int]) -> int:
    a, n = values
    return wrap(a << (n % dtype.bits), dtype)


def _shift_right(dtype: DType, values: Sequence[int]) -> int:
    a, n = values
    return wrap(a >> (n % dtype.bits), dtype)


def _cast(dtype: DType, values: Sequence[int]) -> int:
    return wrap(values[0], dtype)


def _less(_: DType, values: Sequence[int]) -> int:
    a, b, x, y = values
    return x if a < b else y


def _equal(_: DType, values: Sequence[int]) -> int:
    a, b, x, y = values
    return x if a == b else y


HostOp = Callable[[DType, Sequence[int]], int]

HOST_OPS: dict[str, HostOp] = {
    "add": _fold(operator.add),
    "mul": _fold(operator.mul),
    "mul.hi": _multiply_high,
    "mul.shl": _shift_left,
    "mul.shr": _shift_right,
    "reduce.max": _fold(max),
    "reduce.min": _fold(min),
    "reduce.and": _fold(int.__and__),
    "reduce.or": _fold(int.__or__),
    "reduce.xor": _fold(int.__xor__),
    "mov.cast": _cast,
    "phi.lt": _less,
    "phi.eq": _equal,
}
"""What the host computes a grid count with: the pure integer forms, each of the result dtype and its operands."""


def host_value(instr: Instr, known: Mapping[str, int]) -> int | None:
    """Return the value of a pure integer instruction of known operands, None if it is not one."""
    if instr.type is None or instr.type.lanes > 1 or instr.type.dtype.is_float:
        return None
    if instr.name == "mov.const":
        return int(decode(instr.type.dtype, instr.imms[0]))
    if instr.name not in HOST_OPS or any(a not in known for a in instr.args):
        return None
    return HOST_OPS[instr.name](instr.type.dtype, [known[a] for a in instr.args])


def grid_counts(kernel: Kernel, scalars: Mapping[str, int | float]) -> tuple[int, ...]:
    """Return the extent of each grid loop, outermost first, negative counts as 0.

    Raises `SpecError` (nest_c3) if a count is not computable by the host or the product is above 2^31-1.
    """
    known = {s.name: int(scalars[s.name]) for s in kernel.scalars if s.dtype.is_int}
    counts: list[int] = []
    for position in kernel.nest.setup:
        instr = kernel.body[position]
        if instr.name == "loop.grid":
            counts.append(max(0, _grid_count(instr, known)))
            continue
        value = host_value(instr, known)
        if value is not None:
            known[instr.result] = value
    if prod(counts) > MAX_GROUPS:
        raise SpecError(f"{prod(counts)} work-groups are more than 2^31-1", clause="nest_c3")
    return tuple(counts)


def _grid_count(instr: Instr, known: dict[str, int]) -> int:
    if instr.imms:
        return instr.imms[0]
    if instr.args[0] not in known:
        message = f"grid count {instr.args[0]} is not a pure integer function of scalars and constants"
        raise SpecError(message, clause="nest_c3")
    return known[instr.args[0]]


def buffer_extents(kernel: Kernel, scalars: Mapping[str, int | float]) -> tuple[int, ...]:
    """Return the extent in elements of each buffer, in header order."""
    return tuple(b.extent.evaluate(scalars) for b in kernel.buffers)
