"""Elements by their places: `t[...]`, gathering and scattering by tensors of integers, and masks.

A place out of range reads 0 and is not written to, on every backend. In tensors of places, as in Python, -1 is the
last one. Repeated places are written in order: `set` keeps the last value, sums add in ascending order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from portkit.compiler import graph
from portkit.compiler.graph import Node, Shape, Size, show
from portkit.errors import AxisError, DTypeError, ShapeError
from portkit.spec.types import BOOL, I32
from portkit.tensor import elementwise, movement
from portkit.tensor.base import host_array, source_of
from portkit.tensor.common import (
    Operand,
    broadcast_node,
    broadcast_shapes,
    constant,
    is_scalar,
    is_tensor,
    node_of,
    one_axis,
    promoted,
    same_device,
)

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor

Places: TypeAlias = "Tensor | NDArray[Any] | Sequence[Any] | int"
"""Integers that say where: a tensor, an array, or numbers."""
Key: TypeAlias = Any
"""What may stand in brackets: ints, slices, None, `...`, tensors or sequences of ints, and tuples of these."""


# --- places -------------------------------------------------------------------------------------------------------


def wrapped(name: str, index: Tensor, count: Size) -> Tensor:
    """Return places as i32, negative ones counted from the end; those out of range of `count` become -1.

    Raises `DTypeError` for other than integers.
    """
    if not index.dtype.is_int:
        hint = "use masked_select(mask, size=...) or where" if index.dtype is BOOL else "cast it to i32"
        raise DTypeError(f"{name} needs places as integers, got {index.dtype}; {hint}")
    if index.dtype.bits < I32.bits:
        index = elementwise.cast(index, I32)
    end = elementwise.cast(index.wrap(movement.extent_node(count, ())), index.dtype)
    if index.dtype.is_signed:
        index = elementwise.where(index < 0, index + end, index)
        inside = (index >= 0) & (index < end)
    else:
        inside = index < end
    return elementwise.where(inside, elementwise.cast(index, I32), -1)


def take(x: Tensor, index: Places, axis: int = 0) -> Tensor:
    """Return the slices of x at places along an axis, which the axes of `index` replace.

    Raises `AxisError`, `DTypeError`, `DeviceMismatch`.
    """
    index = _places("take", x, index)
    at = one_axis("take", x, axis)
    return _taken(x, wrapped("take", index, x.shape[at]), at)


def _taken(x: Tensor, places: Tensor, axis: int) -> Tensor:
    """Return slices at places that are in range or -1."""
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    flat = movement.reshape(places, (*(1 for _ in before), places.size, *(1 for _ in after)))
    index = movement.expand(flat, (*before, places.size, *after))
    return movement.reshape(x.wrap(graph.gather(x.node, index.node, axis)), (*before, *places.shape, *after))


def embedding(weight: Tensor, index: Places) -> Tensor:
    """Return rows of weight (v, d) for integers (...), shape (..., d); out of range gives zeros.

    Raises `ShapeError`, `DTypeError`.
    """
    if weight.ndim != 2:
        raise ShapeError(f"embedding needs weights (v, d), got {show(weight.shape)}")
    return take(weight, index, 0)


def gather(x: Tensor, axis: int, index: Places) -> Tensor:
    """Return out[p] = x[p with p[axis] = index[p]]; other extents of `index` are at most those of x.

    Raises `AxisError`, `ShapeError`, `DTypeError`, `DeviceMismatch`.
    """
    index = _places("gather", x, index)
    at = one_axis("gather", x, axis)
    part = _fitted("gather", x, index, at)
    return x.wrap(graph.gather(part.node, wrapped("gather", index, x.shape[at]).node, at))


def take_along_axis(x: Tensor, index: Places, axis: int) -> Tensor:
    """Return out[p] = x[p with p[axis] = index[p]]; the other axes broadcast.

    Raises `AxisError`, `ShapeError`, `DTypeError`, `DeviceMismatch`.
    """
    index = _places("take_along_axis", x, index)
    at = one_axis("take_along_axis", x, axis)
    if index.ndim != x.ndim:
        raise ShapeError(f"take_along_axis: index {show(index.shape)} needs the {x.ndim} axes of {show(x.shape)}")
    mine, theirs = ([1 if a == at else n for a, n in enumerate(t.shape)] for t in (x, index))
    shape = broadcast_shapes("take_along_axis", tuple(mine), tuple(theirs))
    wide_x = movement.expand(x, (*shape[:at], x.shape[at], *shape[at + 1 :]))
    return gather(wide_x, at, movement.expand(index, (*shape[:at], index.shape[at], *shape[at + 1 :])))


def _fitted(name: str, x: Tensor, index: Tensor, axis: int) -> Tensor:
    """Return x cut to the extents of `index` but for one axis. Raises `ShapeError`."""
    if index.ndim != x.ndim:
        raise ShapeError(f"{name}: index {show(index.shape)} needs the {x.ndim} axes of {show(x.shape)}")
    for a, (n, m) in enumerate(zip(index.shape, x.shape, strict=True)):
        if a != axis and isinstance(n, int) and isinstance(m, int) and n > m:
            raise ShapeError(f"{name}: index {show(index.shape)} is larger than {show(x.shape)} on axis {a}")
    return movement.shrink(x, [None if a == axis else (0, n) for a, n in enumerate(index.shape)])


# --- scattering ---------------------------------------------------------------------------------------------------


def scatter(x: Tensor, axis: int, index: Places, values: Operand, reduce: str = "set") -> Tensor:
    """Return x with values[p] folded into the element p with p[axis] = index[p]; `reduce` is set add mul max or min.

    Along the axis in ascending order. `values` broadcast to `index`, whose other extents are at most those of x.
    Raises `AxisError`, `ShapeError`, `DTypeError`, `DeviceMismatch`.
    """
    at = one_axis("scatter", x, axis)
    index = _places("scatter", x, index)
    same_device("scatter", x, values)
    part = _fitted("scatter", x, index, at)
    places = wrapped("scatter", index, x.shape[at])
    folded = graph.scatter(reduce, part.node, places.node, values_for("scatter", x, values, index.shape), at)
    if part.shape == x.shape:
        return x.wrap(folded)
    return place_in(x, x.wrap(folded), [0] * x.ndim, [1] * x.ndim)


def scatter_add(x: Tensor, axis: int, index: Places, values: Operand) -> Tensor:
    """Return x with values[p] added to the element p with p[axis] = index[p]. Raises as `scatter`."""
    return scatter(x, axis, index, values, "add")


def values_for(name: str, x: Tensor, values: Operand, shape: Shape) -> Node:
    """Return values as a node of a shape, in the dtype of x. Raises `ShapeError`, `DTypeError`."""
    dtype = promoted(name, x, values)
    if dtype is not x.dtype:
        raise DTypeError(f"{name}: values of {dtype} do not fit into {x.dtype}; cast them to {x.dtype}")
    if is_scalar(values):
        return constant(name, values, dtype, shape)
    node = node_of(name, values)
    if broadcast_shapes(name, node.shape, shape) != shape:
        raise ShapeError(f"{name}: values of shape {show(node.shape)} do not fit into {show(shape)}")
    return broadcast_node(graph.cast(node, dtype), shape)


def place_in(x: Tensor, part: Tensor, starts: Sequence[Size], steps: Sequence[int]) -> Tensor:
    """Return x with the elements at start, start + step, ... of each axis replaced by those of `part`."""
    inside = part.wrap(constant("setitem", True, BOOL, part.shape))
    placed, mask = (_padded_to(movement.dilate(t, steps), starts, x.shape) for t in (part, inside))
    return part if placed is part else elementwise.where(mask, placed, x)


def _padded_to(part: Tensor, starts: Sequence[Size], shape: Shape) -> Tensor:
    ends = zip(starts, part.shape, shape, strict=True)
    return part.wrap(graph.pad(part.node, [(start, n - start - m) for start, m, n in ends]))


# --- brackets -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Range:
    """What brackets take of one axis: `count` elements from `start` by `step`, which may be negative."""

    start: Size
    count: Size
    step: int = 1

    @property
    def lowest(self) -> Size:
        return self.start if self.step > 0 else self.start + (self.count - 1) * self.step

    @property
    def span(self) -> Size:
        """How many elements there are from the lowest to the highest."""
        return 0 if self.count == 0 else (self.count - 1) * abs(self.step) + 1


@dataclass(frozen=True, slots=True)
class _Plan:
    """A key taken apart: what is taken of each axis, the tensors of places by axis, and the axes of the result.

    In `axes` an axis of the tensor stands as its number, a new one as None; an axis that an int takes is left out.
    """

    ranges: tuple[_Range, ...]
    places: dict[int, Tensor]
    axes: tuple[int | None, ...]


def getitem(x: Tensor, key: Key) -> Tensor:
    """Return elements by ints, slices (negative steps too), None, `...` and tensors of ints, as x[key].

    Tensors of places broadcast together; their axes come where the first of them stood, or first of all if other
    slices part them. An int takes its axis away before, as in PyTorch. A mask has no size that is known: use
    `masked_select`. Raises `AxisError`, `DTypeError`, `ShapeError`.
    """
    plan = _plan("getitem", x, key)
    node = _ranges(x.node, plan.ranges)
    rest = x.wrap(graph.reshape(node, tuple(1 if a is None else node.shape[a] for a in plan.axes)))
    return _at_places(rest, plan) if plan.places else rest


def _ranges(node: Node, ranges: Sequence[_Range]) -> Node:
    node = graph.shrink(node, [(r.lowest, r.lowest + r.span) if r.count != 0 else (0, 0) for r in ranges])
    node = graph.flip(node, [a for a, r in enumerate(ranges) if r.step < 0])
    return graph.stride(node, [abs(r.step) for r in ranges])


def _at_places(x: Tensor, plan: _Plan) -> Tensor:
    """Return x with the axes that have tensors of places joined to one, and taken there by row-major places."""
    at = [i for i, a in enumerate(plan.axes) if a in plan.places]
    tensors = [plan.places[a] for a in plan.axes if a in plan.places]
    shape = broadcast_shapes("getitem", *(t.shape for t in tensors))
    together = at == list(range(at[0], at[-1] + 1))
    place = at[0] if together else 0
    order = [a for a in range(x.ndim) if a not in at]
    order[place:place] = at
    extents = [x.shape[a] for a in at]
    joined = movement.flatten(movement.permute(x, order), place, place + len(at) - 1)
    return _taken(joined, _row_major(tensors, extents, shape), place)


def _row_major(tensors: Sequence[Tensor], extents: Sequence[Size], shape: Shape) -> Tensor:
    """Return places along several axes as those along the axis that joins them; -1 where one is out of range."""
    total: Tensor | None = None
    outside: Tensor | None = None
    for tensor, n in zip(tensors, extents, strict=True):
        places = movement.expand(wrapped("getitem", tensor, n), shape)
        out = places < 0
        total = places if total is None else total * _number(places, n) + places
        outside = out if outside is None else outside | out
    assert total is not None
    assert outside is not None
    return total if len(tensors) == 1 else elementwise.where(outside, -1, total)


def _number(like: Tensor, n: Size) -> Operand:
    return n if isinstance(n, int) else like.wrap(movement.extent_node(n, ()))


def setitem(x: Tensor, key: Key, values: Operand) -> Tensor:
    """Return x with `values`, broadcast, in place of x[key]; a bool mask takes a single value.

    Where tensors of places repeat one, its last value stays. Raises `AxisError`, `DTypeError`, `ShapeError`.
    """
    if is_tensor(key) and key.dtype is BOOL:
        return _set_masked(x, key, values)
    plan = _plan("setitem", x, key)
    if plan.places:
        return _set_places(x, key, values)
    extents = tuple(1 if a is None else plan.ranges[a].count for a in plan.axes)
    node = values_for("setitem", x, values, extents)
    part = graph.reshape(node, tuple(r.count for r in plan.ranges))
    part = graph.flip(part, [a for a, r in enumerate(plan.ranges) if r.step < 0])
    if any(r.count == 0 for r in plan.ranges):
        return x
    return place_in(x, x.wrap(part), [r.lowest for r in plan.ranges], [abs(r.step) for r in plan.ranges])


def _set_masked(x: Tensor, mask: Tensor, values: Operand) -> Tensor:
    same_device("setitem", x, mask)
    if mask.shape != x.shape[: mask.ndim]:
        raise ShapeError(f"setitem: mask {show(mask.shape)} does not fit the first axes of {show(x.shape)}")
    whole = movement.reshape(mask, (*mask.shape, *(1 for _ in range(x.ndim - mask.ndim))))
    value = x.wrap(values_for("setitem", x, values, x.shape[mask.ndim :]))
    return elementwise.where(whole, value, x)


def _set_places(x: Tensor, key: Key, values: Operand) -> Tensor:
    """Number the elements, from 1, look up the numbers at the key (0 out of range), and write there in flat order."""
    total = x.size
    numbers = movement.reshape(x.wrap(graph.iota(total)), x.shape) + 1
    wanted = getitem(numbers, key)
    node = values_for("setitem", x, values, wanted.shape)
    flat = graph.reshape(node, (wanted.size,))
    places = movement.flatten(wanted) - 1
    written = graph.scatter("set", graph.reshape(x.node, (total,)), places.node, flat, 0)
    return x.wrap(graph.reshape(written, x.shape))


# --- keys ---------------------------------------------------------------------------------------------------------


def _plan(name: str, x: Tensor, key: Key) -> _Plan:
    items = _complete(name, x, cast("tuple[Any, ...]", key) if isinstance(key, tuple) else (key,))
    ranges: list[_Range] = []
    places: dict[int, Tensor] = {}
    axes: list[int | None] = []
    for item in items:
        axis = len(ranges)
        if item is None:
            axes.append(None)
            continue
        n = x.shape[axis]
        if isinstance(item, slice):
            ranges.append(_slice(name, x, axis, cast("slice[Any, Any, Any]", item)))
            axes.append(axis)
        elif isinstance(item, (int, np.integer)) and not isinstance(item, bool):
            place: int = int(item)  # pyright: ignore[reportUnknownArgumentType]
            ranges.append(_Range(_int(name, x, axis, place), 1))
        else:
            places[axis] = _places(name, x, item)
            ranges.append(_Range(0, n))
            axes.append(axis)
    return _Plan(tuple(ranges), places, tuple(axes))


def _complete(name: str, x: Tensor, key: tuple[Any, ...]) -> list[Any]:
    """Return the items of a key with `...`, or the end, filled up with full slices. Raises `AxisError`."""
    dots = [i for i, item in enumerate(key) if item is Ellipsis]
    if len(dots) > 1:
        raise AxisError(f"{name}: a key has at most one '...', got {len(dots)}")
    taken = len([item for item in key if item is not None and item is not Ellipsis])
    if taken > x.ndim:
        raise AxisError(f"{name}: {taken} indices are too many for shape {show(x.shape)}")
    fill = [slice(None)] * (x.ndim - taken)
    at = dots[0] if dots else len(key)
    return [*key[:at], *fill, *key[at + 1 :]]


def _int(name: str, x: Tensor, axis: int, place: int) -> Size:
    n = x.shape[axis]
    if isinstance(n, int) and not -n <= place < n:
        raise AxisError(f"{name}: index {place} is out of range for axis {axis} of {show(x.shape)}")
    return place if place >= 0 else n + place


def _slice(name: str, x: Tensor, axis: int, item: slice) -> _Range:
    """Return what a slice takes; of a dynamic axis, whose bounds cannot be clamped, with steps above 0 only."""
    n, step = x.shape[axis], 1 if item.step is None else int(item.step)
    if step == 0:
        raise AxisError(f"{name}: the step of a slice of axis {axis} of {show(x.shape)} is 0")
    if isinstance(n, int) and all(isinstance(v, (int, np.integer, type(None))) for v in (item.start, item.stop)):
        taken = range(n)[item]
        return _Range(taken.start, len(taken), step)
    if step < 0:
        raise ShapeError(f"{name}: axis {axis} of {show(x.shape)} is dynamic; slice it with a step above 0, then flip")
    start, stop = (_bound(v, n, default) for v, default in ((item.start, 0), (item.stop, n)))
    return _Range(start, (stop - start + (step - 1)) // step, step)


def _bound(value: Any, n: Size, default: Size) -> Size:
    if value is None:
        return default
    return n + value if isinstance(value, int) and value < 0 else value


def _places(name: str, x: Tensor, item: Any) -> Tensor:
    """Return a tensor, array or sequence of places as a tensor. Raises `DTypeError`, `AxisError`."""
    if is_tensor(item):
        index = item
    elif isinstance(item, (np.ndarray, np.integer, int, list, range)) and not isinstance(item, bool):
        index = x.wrap(source_of(_numbers(name, item)))
    else:
        raise AxisError(f"{name}: an index is an int, slice, None, '...' or tensor of ints, got {item!r}")
    same_device(name, x, index)
    if index.dtype is BOOL:
        raise DTypeError(f"{name}: a mask has no size that is known; use masked_select(mask, size=...) or where")
    return index


def _numbers(name: str, item: Any) -> NDArray[Any]:
    try:
        return host_array(item) if np.size(item) else np.zeros(np.shape(item), np.int32)
    except ValueError:
        raise ShapeError(f"{name}: the index {item!r} is ragged; give lists of one length at each depth") from None
