"""The pure forms on NumPy arrays: one short function per op, each literally its definition.

A register has shape (groups or 1, lanes or 1), a vector register one more axis of exactly its lanes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.reference import numerics
from portkit.spec.forms import FORMS
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import BOOL, DType, Type

Array: TypeAlias = NDArray[Any]


def binder(kernel: Kernel) -> Callable[[Instr], Callable[..., Array]]:
    """Return what gives the function of each pure instruction of a kernel: operands in text order to result."""
    constants = {i.result: i.imms for i in kernel.body if i.name == "mov.const"}

    def bind(instr: Instr) -> Callable[..., Array]:
        is_select = instr.name in ("phi.lt", "phi.eq") and instr.type == Type(BOOL)
        is_comparison = is_select and [constants.get(a) for a in instr.args[2:]] == [(1,), (0,)]
        return BINDERS[instr.name](_Op(instr, tuple(kernel.types[name] for name in instr.args), is_comparison))

    return bind


@dataclass(frozen=True, slots=True)
class Operation:
    """A pure instruction with the types of its operands."""

    instr: Instr
    operands: tuple[Type, ...]

    @property
    def dtype(self) -> DType:
        """The dtype of the first operand: for most forms that of the operation."""
        return self.operands[0].dtype

    @property
    def result(self) -> Type:
        """The type of the result."""
        assert self.instr.type is not None
        return self.instr.type

    @property
    def kind(self) -> str:
        """What a family's form is called: `max` of `reduce.max`."""
        return self.instr.form.kind


@dataclass(frozen=True, slots=True)
class _Op(Operation):
    """An operation as the values run binds it."""

    is_comparison: bool
    """A select of true and false: the result is the comparison itself."""


_Binder: TypeAlias = Callable[[_Op], Callable[..., Array]]


def _constant(op: _Op) -> Callable[..., Array]:
    dtype = op.result.dtype
    value = np.array([[op.instr.imms[0]]], f"u{dtype.bytes}").view(dtype.numpy)
    return lambda: value


def _splat(op: _Op) -> numerics.Unary:
    lanes = op.result.lanes
    return lambda x: np.repeat(x[..., None], lanes, axis=-1)


def _lane(op: _Op) -> numerics.Unary:
    lane = op.instr.imms[0]
    return lambda x: x[..., lane]


def _pack(op: _Op) -> Callable[..., Array]:
    def pack(*xs: Array) -> Array:
        return np.stack(np.broadcast_arrays(*xs), axis=-1)

    return pack


def _variadic(op: _Op) -> Callable[..., Array]:
    step = numerics.fold(op.kind, op.dtype)

    def fold(*xs: Array) -> Array:
        return reduce(step, xs)

    return fold


def _vector(op: _Op) -> numerics.Unary:
    fold = numerics.fold_lanes(op.kind, op.dtype)
    return lambda x: fold(x, 2)[..., 0]


def _compare(choose: Callable[[DType], numerics.Binary]) -> _Binder:
    def bind(op: _Op) -> Callable[[Array, Array, Array, Array], Array]:
        compare = choose(op.dtype)
        if op.is_comparison:
            return lambda a, b, x, y: compare(a, b)
        return lambda a, b, x, y: numerics.select(compare(a, b), x, y)

    return bind


_FORMS: dict[str, _Binder] = {
    "add": lambda op: numerics.add(op.dtype),
    "mul": lambda op: numerics.mul(op.dtype),
    "mul.hi": lambda op: numerics.mul_hi(op.dtype),
    "mul.shl": lambda op: numerics.shift_left(op.dtype),
    "mul.shr": lambda op: numerics.shift_right(op.dtype),
    "mul.add": lambda op: numerics.fused(op.dtype),
    "mov.const": _constant,
    "mov.cast": lambda op: numerics.cast(op.dtype, op.result.dtype),
    "mov.bits": lambda op: numerics.reinterpret(op.operands[0], op.result),
    "mov.splat": _splat,
    "mov.lane": _lane,
    "mov.pack": _pack,
    "phi.lt": _compare(numerics.less),
    "phi.eq": _compare(numerics.equal),
}
_FAMILIES: dict[str, _Binder] = {
    "reduce.": _variadic,
    "reduce.vec.": _vector,
    "mov.": lambda op: numerics.math(op.kind, op.dtype),
}
BINDERS: dict[str, _Binder] = _FORMS | {
    name: _FAMILIES[name.removesuffix(form.kind)] for name, form in FORMS.items() if form.kind and form.effect == "pure"
}
