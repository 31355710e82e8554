"""The pure forms on registers that are not determined, and where a form leaves determined operands open.

`bind` wraps the plain function of an instruction: as long as all operands are plain arrays and the spec frees nothing,
that function is all that runs. Letters: f the plain function, a b c x y operands in text order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, TypeAlias, TypeGuard

import numpy as np

from portkit.reference import choices, intervals, native, numerics
from portkit.reference.planes import (
    Array,
    Bools,
    Choices,
    Interval,
    Value,
    alike,
    dtype_of,
    each,
    forget,
    interval,
    is_float,
    planes,
    rebuild,
    settle,
    shape_of,
    undetermined,
    where,
)
from portkit.reference.products import free_product
from portkit.reference.pure import Operation
from portkit.reference.sums import Along, Rule, accumulator, free_sum
from portkit.reference.ulp import from_ordinal, ordinal
from portkit.spec.forms import Op as Opcode
from portkit.spec.types import DType, Type

Lifted: TypeAlias = Callable[..., Value]
Plain: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class NumericModel:
    """How the device computes with floats beyond what the kernel's header says.

    `flush` names the dtypes whose subnormals may be flushed to zero; without `nonfinite` nothing is claimed of
    operations on infinities and NaN, or giving them. Neither has a meaning under `numeric strict`.
    Spec: numeric_c7.
    """

    flush: frozenset[str] = frozenset()
    nonfinite: bool = True


STRICT = NumericModel()


@dataclass(frozen=True, slots=True)
class Op(Operation):
    """An operation with what decides its meaning; `preserved` says that NaN bits of its operands are known."""

    plain: Plain
    model: NumericModel
    strict: bool
    preserved: bool

    @property
    def sum_rule(self) -> Rule:
        return Rule(self.dtype, accumulator(self.dtype), self.model.flush)


def bind(op: Op) -> Lifted:
    """Return the function of a pure instruction, or of a reduction over lanes, on registers of any kind."""
    f = op.plain
    if not op.operands:
        return f
    general = _general(op)
    if op.instr.name in _MOVES:
        return lambda *xs: f(*xs) if all_plain(xs) else general(*xs)
    opens = _opens(op)

    def run(*xs: Value) -> Value:
        return f(*xs) if all_plain(xs) and not opens(*xs) else general(*xs)

    return _on_device(op, run)


_ROUND_TO_NORMAL = frozenset({"mul", "mul.add", "mov.cast", "mov.recip"})
"""Forms whose exact result may be below the normal range where the rounded one is not; sums are exact there."""


def all_plain(xs: tuple[Value, ...]) -> TypeGuard[tuple[Array, ...]]:
    """Return whether all registers are plain arrays."""
    return all(type(x) is np.ndarray for x in xs)


def _on_device(op: Op, run: Lifted) -> Lifted:
    """Return the function with what the numeric model adds around it: flushing, and silence beyond finite numbers."""
    sources = tuple(t.dtype for t in op.operands[: 2 if op.instr.name in _COMPARES else None])
    target = op.result.dtype if op.instr.name not in _COMPARES else None
    floats = [d for d in (*sources, target) if d is not None and d.is_float]
    flush = frozenset[str]() if _is_free_fold(op) else op.model.flush
    if not floats or (op.model.nonfinite and not any(d.name in flush for d in floats)):
        return run

    def treated(x: Value, dtype: DType, *, rounded: bool = False) -> Value:
        if dtype.name in flush:
            x = intervals.flushed(x, dtype, rounded=rounded)
        return x if op.model.nonfinite or not dtype.is_float else intervals.open_nonfinite(x)

    def on_device(*xs: Value) -> Value:
        inputs = (treated(x, d) for x, d in zip(xs, sources, strict=False))
        result = run(*inputs, *xs[len(sources) :])
        return result if target is None else treated(result, target, rounded=op.instr.name in _ROUND_TO_NORMAL)

    return on_device


# --- where determined operands are left open ----------------------------------------------------------------------


def _opens(op: Op) -> Callable[..., bool]:
    """Return what tells whether the spec leaves the result open although the operands are plain."""
    name, free = op.instr.name, op.dtype.is_float and not op.strict
    if name == "mov.bits":
        return _has_free_nan if op.dtype.is_float and not op.preserved else _never
    if free and (op.instr.form.extension == "math" and op.kind != "trunc"):
        return _always
    if free and _is_free_fold(op):
        return _always
    if free and op.kind in ("max", "min"):
        return _zeros_meet
    return _never


def _is_free_fold(op: Op) -> bool:
    """Whether the form is a sum or product over lanes: its own bound includes flushing."""
    return op.instr.name.startswith(("reduce.vec.", "reduce.group.")) and op.kind in ("add", "mul")


def _always(*_: Value) -> bool:
    return True


def _never(*_: Value) -> bool:
    return False


def _has_free_nan(x: Array) -> bool:
    return bool(np.isnan(x).any())


def _zeros_meet(*xs: Array) -> bool:
    """Whether zeros of both signs are among the elements: only then can the sign of a zero result be free."""
    zeros = [x[x == 0] for x in xs]
    signs = np.concatenate([np.signbit(z).ravel() for z in zeros])
    return bool(signs.any()) and not bool(signs.all())


# --- forms --------------------------------------------------------------------------------------------------------


def _general(op: Op) -> Lifted:
    if op.instr.name in _FLOAT_FORMS and op.dtype.is_float:
        return _FLOAT_FORMS[op.instr.name](op)
    if op.instr.name in _ANY_FORMS:
        return _ANY_FORMS[op.instr.name](op)
    if op.instr.form.op is Opcode.REDUCE:
        return _reduction(op)
    if op.instr.form.extension == "math":
        return _math(op)
    return partial(choices.lift, op.plain)


def _reduction(op: Op) -> Lifted:
    """reduce.KIND of operands, reduce.vec.KIND, reduce.group.KIND (Spec: reduce_c1, group_c1, group_c3)."""
    step, fold = _step(op), _lane_fold(op)

    def of_operands(*xs: Value) -> Value:
        return reduce(step, xs)

    def of_vector(x: Value) -> Value:
        return each(lambda plane: plane[..., 0], fold(x, 2))

    def of_group(x: Value) -> Value:
        return fold(x, 1)

    return {"": of_operands, "vec": of_vector, "group": of_group}[op.instr.form.extension]


def _step(op: Op) -> Callable[[Value, Value], Value]:
    """Return the step of a reduction on registers of any kind."""
    if not op.dtype.is_float:
        return partial(choices.lift, numerics.fold(op.kind, op.dtype))
    return partial(intervals.maximum if op.kind == "max" else intervals.minimum, free_zero=not op.strict)


def _lane_fold(op: Op) -> Callable[[Value, int], Value]:
    """Return a reduction of registers of any kind along an axis, which keeps length 1 (Spec: group_c1..c3)."""
    flush = op.dtype.name in op.model.flush
    step = _step(op)

    def fold(x: Value, axis: int) -> Value:
        if op.dtype.is_float and op.kind == "add":
            return free_sum(x, Along(axis), op.sum_rule)
        if op.dtype.is_float and op.kind == "mul":
            return free_product(x, axis, op.dtype, flush)
        return settle(_halves(step, x, axis))

    return fold


def _halves(step: Callable[[Value, Value], Value], x: Value, axis: int) -> Value:
    x = each(lambda plane: np.moveaxis(plane, axis, 0), x)
    odd: list[Value] = []
    while (size := shape_of(x)[0]) > 1:
        half = size // 2
        if size % 2:
            odd.append(each(lambda plane: plane[-1:], x))
        x = step(each(lambda plane, n=half: plane[:n], x), each(lambda plane, n=half: plane[n : 2 * n], x))
    return each(lambda plane: np.moveaxis(plane, 0, axis), reduce(step, odd, x))


def _math(op: Op) -> Lifted:
    return partial(intervals.monotone, op.plain) if op.kind == "trunc" else partial(native.admitted, op.kind, op.dtype)


def _moved(op: Op) -> Lifted:
    return partial(each, op.plain)


def _pack(op: Op) -> Lifted:
    def pack(*xs: Value) -> Value:
        most = reduce(lambda a, b: alike(a, b)[0], xs)
        same = [alike(x, most)[0] for x in xs]
        return rebuild(most, tuple(op.plain(*parts) for parts in zip(*map(planes, same), strict=True)))

    return pack


# --- conversions --------------------------------------------------------------------------------------------------


def _cast(op: Op) -> Lifted:
    source, target = op.dtype, op.result.dtype
    if source.is_float and target.is_float and not target.infinities:
        return partial(intervals.overflowing, op.plain, dtype=target)
    if source.is_float:
        return partial(intervals.monotone, op.plain) if target.is_float else _to_integers(op)
    return _from_integers(op) if target.is_float else partial(choices.lift, op.plain)


def _to_integers(op: Op) -> Lifted:
    """An interval that holds at most four integers, or four floats, gives alternatives."""
    f, dtype, unsigned = op.plain, op.dtype, f"u{op.result.dtype.bytes}"

    def convert(value: Value) -> Value:
        x = interval(value)
        least: Array = f(x.lo)
        most: Array = f(x.hi)
        span = most.view(unsigned) - least.view(unsigned)
        start = ordinal(x.lo).astype(np.int64)
        steps = ordinal(x.hi).astype(np.int64) - start
        options: list[Array] = []
        for number in range(4):
            near = (least.view(unsigned) + np.minimum(span, number).astype(unsigned)).view(least.dtype)
            place = (start + np.minimum(steps, number)).astype(ordinal(x.lo).dtype)
            options.append(np.where(span <= 3, near, f(from_ordinal(place, dtype))))
        if x.nan.any():
            options.append(options[0] * ~x.nan)
        return choices.collect(options, (span > 3) & ((steps > 3) | (steps < 0)))

    return convert


def _from_integers(op: Op) -> Lifted:
    source = op.dtype

    def convert(value: Value) -> Value:
        assert isinstance(value, Choices)
        ends = [op.plain(np.array(end, source.numpy)[None]) for end in (source.min_int, source.max_int)]
        parts = [op.plain(option) for option in value.alternatives]
        lo, hi = reduce(intervals.lower, parts), reduce(intervals.upper, parts)
        lo, hi = np.where(value.free, ends[0], lo), np.where(value.free, ends[1], hi)
        return settle(Interval(lo, hi, np.zeros(lo.shape, np.bool_)))

    return convert


def _bits(op: Op) -> Lifted:
    """The bits of an undetermined value, and of a NaN made by arithmetic, are unknown (Spec: bits_c1, numeric_c6)."""
    source, target = op.operands[0], op.result

    def convert(x: Value) -> Value:
        unknown = undetermined(x)
        if source.dtype.is_float and not op.preserved:
            unknown = unknown | np.isnan(planes(x)[0])
        return forget(op.plain(planes(x)[0]), _regrouped(unknown, source, target))

    return convert


def _regrouped(mask: Bools, source: Type, target: Type) -> Bools:
    """Return a mask over the elements of one type as that over the elements of another of the same size."""
    lanes: Bools = mask if source.lanes > 1 else mask[..., None]
    if target.lanes >= source.lanes:
        lanes = np.repeat(lanes, target.lanes // source.lanes, axis=-1)
    else:
        lanes = np.logical_or.reduce(lanes.reshape(*lanes.shape[:-1], target.lanes, -1), axis=-1)
    return lanes if target.lanes > 1 else lanes[..., 0]


# --- comparison and selection -------------------------------------------------------------------------------------


def _compare(op: Op) -> Lifted:
    names, less_than = op.instr.args, op.instr.name == "phi.lt"
    tells = less_than and op.dtype.is_float and op.dtype.name not in op.model.flush  # what is compared may be flushed
    plain = (numerics.less if less_than else numerics.equal)(op.dtype)

    def outcome(a: Value, b: Value) -> tuple[Bools, Bools]:
        if not op.dtype.is_float:
            return choices.certainly(choices.lift(plain, a, b))
        x, y = interval(a), interval(b)
        if names[0] == names[1]:
            never = np.zeros(x.lo.shape, np.bool_)
            return (never, ~never) if less_than else (~x.nan, np.isnan(x.lo))
        return intervals.less(x, y) if less_than else intervals.equal(x, y)

    def compare(a: Value, b: Value, x: Value, y: Value) -> Value:
        holds, fails = outcome(a, b)
        if tells and op.result == op.operands[0]:
            return _narrowed(names, a, b, x, y, holds, fails)
        return select(holds, fails, x, y)

    return compare


def select(holds: Bools, fails: Bools, x: Value, y: Value) -> Value:
    """Return x where a condition holds, y where it fails, and where it is open what both admit (Spec: select_c1)."""
    if (holds | fails).all():
        return settle(where(holds, x, y))
    if is_float(np.empty(0, dtype_of(x))):
        return intervals.select(holds, fails, x, y)
    return choices.select(holds, fails, x, y)


def _narrowed(names: tuple[str, ...], a: Value, b: Value, x: Value, y: Value, holds: Bools, fails: Bools) -> Value:
    """Select on a < b with what the outcome tells of a and b themselves, where they are what is selected.

    `phi.lt a b b a` is their maximum and keeps its origin; clips and absolute values keep their range.
    """
    if (holds | fails).all():
        return settle(where(holds, x, y))
    p, q = interval(a), interval(b)
    numbers = ~(p.nan | q.nan)
    taken = {names[0]: intervals.below(p, q), names[1]: intervals.above(q, p)}.get(names[2])
    left = {names[0]: intervals.above(p, q), names[1]: intervals.below(q, p)}.get(names[3])
    result = intervals.select(
        holds, fails, x if taken is None else where(numbers, taken, x), y if left is None else where(numbers, left, y)
    )
    extremes = {(names[1], names[0]): intervals.maximum, (names[0], names[1]): intervals.minimum}
    if (names[2], names[3]) in extremes:
        result = where(numbers, extremes[names[2], names[3]](a, b, free_zero=True), result)
    return settle(result)


_COMPARES = ("phi.lt", "phi.eq")
_MOVES = ("mov.splat", "mov.lane", "mov.pack")

_FLOAT_FORMS: dict[str, Callable[[Op], Lifted]] = {
    "add": lambda op: partial(intervals.add, op.plain),
    "mul": lambda op: partial(intervals.mul, op.plain),
    "mul.add": lambda op: partial(intervals.fma, op.plain),
}
_ANY_FORMS: dict[str, Callable[[Op], Lifted]] = {
    "mov.cast": _cast,
    "mov.bits": _bits,
    "mov.splat": _moved,
    "mov.lane": _moved,
    "mov.pack": _pack,
    "phi.lt": _compare,
    "phi.eq": _compare,
}
