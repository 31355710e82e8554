"""Registers of the bounds run: what is known of each element, as a few arrays of the same shape.

A register is a plain array where every element is determined, else an `Interval` (floats) or `Choices` (integers and
bool). The functions here move such registers about without computing: select by mask, gather, scatter, reshape.
Everything is written for one plane and applied to all of them; where two registers meet, both first get equal planes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Bools = NDArray[np.bool_]

MAX_ALTERNATIVES = 4
_NAMES = count(1)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an undetermined float came from, so that a maximum can be compared with its own members.

    `name` identifies a value: equal names, equal values; 0 is nameless. With `kind` +1 the value is the greatest of a
    set, `name` is the member with the highest upper end and `rest` the highest upper end of all others; with -1 the
    least, by lower ends; with 0 it is the named value itself.
    """

    name: NDArray[np.int64]
    rest: Array
    kind: NDArray[np.int8]


@dataclass(slots=True)
class Interval:
    """Floats between `lo` and `hi`, in the order that puts -0 before +0; `nan` where NaN is possible too.

    Both ends are NaN where the value is certainly NaN.
    """

    lo: Array
    hi: Array
    nan: Bools
    origin: Origin | None = field(default=None)

    def named(self) -> Origin:
        """Return the origin, giving every element a name of its own if it has none yet."""
        if self.origin is None:
            names = np.arange(self.lo.size, dtype=np.int64).reshape(self.lo.shape) + (next(_NAMES) << 32)
            self.origin = Origin(
                names, np.full(self.lo.shape, -np.inf).astype(self.lo.dtype), np.zeros(self.lo.shape, np.int8)
            )
        return self.origin


@dataclass(slots=True)
class Choices:
    """Integers or bools out of at most four alternatives; anything at all where `free`."""

    alternatives: tuple[Array, ...]
    free: Bools


Value: TypeAlias = Array | Interval | Choices
Shape: TypeAlias = tuple[int, ...]


def is_float(x: Array) -> bool:
    """Return whether an array holds floats; the kind of bfloat16 is not NumPy's 'f'."""
    return x.dtype.kind not in "iub"


def shape_of(x: Value) -> Shape:
    """Return the shape of every plane."""
    return planes(x)[0].shape


def dtype_of(x: Value) -> np.dtype[Any]:
    """Return the dtype of the elements."""
    return planes(x)[0].dtype


def planes(x: Value) -> tuple[Array, ...]:
    """Return the arrays that a register consists of."""
    if isinstance(x, Interval):
        origin = () if x.origin is None else (x.origin.name, x.origin.rest, x.origin.kind)
        return (x.lo, x.hi, x.nan, *origin)
    return (*x.alternatives, x.free) if isinstance(x, Choices) else (x,)


def rebuild(x: Value, parts: tuple[Array, ...]) -> Value:
    """Return a register of the same kind as `x` from its planes."""
    if isinstance(x, Interval):
        return Interval(parts[0], parts[1], parts[2], Origin(*parts[3:]) if parts[3:] else None)
    return Choices(parts[:-1], parts[-1]) if isinstance(x, Choices) else parts[0]


def each(function: Callable[[Array], Array], x: Value) -> Value:
    """Apply a function that moves elements about to every plane; what is moved keeps its identity."""
    if isinstance(x, Interval):
        x.named()
    return rebuild(x, tuple(function(plane) for plane in planes(x)))


def interval(x: Value) -> Interval:
    """Return a float register as an interval."""
    if isinstance(x, Interval):
        return x
    assert not isinstance(x, Choices)
    return Interval(x, x, np.isnan(x))


def choices(x: Value) -> Choices:
    """Return an integer or bool register as alternatives."""
    if isinstance(x, Choices):
        return x
    assert not isinstance(x, Interval)
    return Choices((x,), np.zeros(x.shape, np.bool_))


def alike(a: Value, b: Value) -> tuple[Value, Value]:
    """Return both registers with the same kind and number of planes."""
    if isinstance(a, Interval) or isinstance(b, Interval):
        left, right = interval(a), interval(b)
        if left.origin is not None or right.origin is not None:
            for side in (left, right):
                side.named()
        return left, right
    if isinstance(a, Choices) or isinstance(b, Choices):
        left, right = choices(a), choices(b)
        size = max(len(left.alternatives), len(right.alternatives))
        return _padded(left, size), _padded(right, size)
    return a, b


def _padded(x: Choices, size: int) -> Choices:
    missing = size - len(x.alternatives)
    return Choices(x.alternatives + x.alternatives[-1:] * missing, x.free) if missing else x


def where(mask: Bools, a: Value, b: Value) -> Value:
    """Return `a` in the elements of the mask and `b` elsewhere."""
    left, right = alike(a, b)
    return rebuild(left, tuple(np.where(mask, x, y) for x, y in zip(planes(left), planes(right), strict=True)))


def merged(mask: Bools, a: Interval, b: Interval) -> Interval:
    """Return `a` in the elements of the mask and `b` elsewhere, for intervals."""
    result = where(mask, a, b)
    assert isinstance(result, Interval)
    return result


def put(memory: Value, places: Any, value: Value) -> Value:
    """Return memory with `value` at the index expression `places`; plain planes are written in place."""
    target, source = alike(memory, value)
    parts: list[Array] = []
    for plane, new in zip(planes(target), planes(source), strict=True):
        writable = plane if target is memory else plane.copy()
        writable[places] = new
        parts.append(writable)
    return rebuild(target, tuple(parts))


def anything(dtype: np.dtype[Any], shape: Shape) -> Value:
    """Return a register of which nothing is known."""
    if dtype == np.bool_:
        return Choices((np.zeros(shape, np.bool_), np.ones(shape, np.bool_)), np.zeros(shape, np.bool_))
    zeros = np.zeros(shape, dtype)
    if not is_float(zeros):
        return Choices((zeros,), np.ones(shape, np.bool_))
    return Interval(
        np.full(shape, -np.inf).astype(dtype), np.full(shape, np.inf).astype(dtype), np.ones(shape, np.bool_)
    )


def forget(x: Value, mask: Bools) -> Value:
    """Return `x` with nothing known of the elements of the mask."""
    return where(mask, anything(dtype_of(x), shape_of(x)), x) if mask.any() else x


def undetermined(x: Value) -> Bools:
    """Return where more than one value is possible; a NaN of unknown payload counts as one."""
    if isinstance(x, Interval):
        bits = f"u{x.lo.dtype.itemsize}"
        sure = (x.lo.view(bits) == x.hi.view(bits)) & ~x.nan
        return ~(sure | np.isnan(x.lo))
    if isinstance(x, Choices):
        differ = [x.alternatives[0] != other for other in x.alternatives[1:]]
        return np.logical_or.reduce([x.free, *differ])
    return np.zeros(x.shape, np.bool_)


def settle(x: Value) -> Value:
    """Return the plain array of a register whose every element is determined, else the register."""
    if not isinstance(x, Interval | Choices) or undetermined(x).any():
        return x
    return x.lo if isinstance(x, Interval) else x.alternatives[0]
