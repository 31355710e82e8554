"""Rearranging elements: none of these computes or copies, the compiler folds them into what reads them.

Where NumPy and PyTorch differ, PyTorch is followed: `repeat` tiles, `transpose` swaps two axes, `split` takes sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from portkit.compiler import graph
from portkit.compiler.graph import Node, Shape, Size, show
from portkit.compiler.index import Expr
from portkit.errors import AxisError, ShapeError
from portkit.spec.types import BOOL, I32, encode
from portkit.tensor.common import (
    Axes,
    at_least,
    axes_of,
    broadcast_node,
    broadcast_shapes,
    constant,
    one_axis,
    promote_for,
    sequence,
    static,
    tensors_of,
    whole,
)
from portkit.tensor.promotion import Scalar

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor

Ints: TypeAlias = Size | Sequence[Size]


def sizes(values: Sequence[Ints], name: str = "shape") -> tuple[Size, ...]:
    """Both spellings of several sizes, f(2, 3) and f((2, 3)), as one tuple. Raises `ShapeError` for what is no size."""
    flat: list[Size] = []
    for value in values:
        flat.extend(value if isinstance(value, Sequence) else (value,))
    return tuple(_size(name, n) for n in flat)


def _size(name: str, n: object) -> Size:
    if isinstance(n, (int, np.integer)) and not isinstance(n, bool):
        return int(cast(int, n))
    if not isinstance(n, Expr):
        raise ShapeError(f"{name}: an extent is an int, got {n!r}")
    return n


# --- shape --------------------------------------------------------------------------------------------------------


def reshape(x: Tensor, *shape: Ints) -> Tensor:
    """Return x with the same elements, in row-major order, in a shape where one may be -1. Raises `ShapeError`."""
    wanted = list(sizes(shape, "reshape"))
    if -1 in wanted:
        wanted[wanted.index(-1)] = _remaining(x, wanted)
    if any(isinstance(n, int) and n < 0 for n in wanted):
        raise ShapeError(f"reshape of {show(x.shape)} to {show(sizes(shape))}: only one extent can be -1, none lower")
    return x.wrap(graph.reshape(x.node, wanted))


def _remaining(x: Tensor, wanted: list[Size]) -> Size:
    """Return the extent that -1 stands for: what is left after the other extents."""
    others: Size = 1
    for n in wanted:
        others = others * n if n != -1 else others
    total = x.size
    if isinstance(total, int) and isinstance(others, int) and (others == 0 or total % others):
        raise ShapeError(
            f"reshape of {show(x.shape)} to {show(tuple(wanted))}: {total} elements do not divide by {others}"
        )
    return total // others


def flatten(x: Tensor, start: int = 0, end: int = -1) -> Tensor:
    """Return x with axes start .. end (inclusive) joined into one. Raises `AxisError`."""
    if x.ndim == 0:
        return reshape(x, 1)
    first, last = one_axis("flatten", x, start), one_axis("flatten", x, end)
    if first > last:
        raise AxisError(f"flatten: start {start} comes after end {end} in shape {show(x.shape)}")
    joined: Size = 1
    for n in x.shape[first : last + 1]:
        joined = joined * n
    return reshape(x, (*x.shape[:first], joined, *x.shape[last + 1 :]))


def unflatten(x: Tensor, axis: int, shape: Sequence[Size]) -> Tensor:
    """Return x with one axis split into several; one extent may be -1. Raises `AxisError`, `ShapeError`."""
    at = one_axis("unflatten", x, axis)
    inner = list(shape)
    if -1 in inner:
        known = math.prod(n for n in inner if isinstance(n, int) and n != -1)
        inner[inner.index(-1)] = x.shape[at] // known
    return reshape(x, (*x.shape[:at], *inner, *x.shape[at + 1 :]))


def squeeze(x: Tensor, axis: Axes = None) -> Tensor:
    """Return x without axes of extent 1: all, or of those named, where others stay. Raises `AxisError`."""
    gone = [a for a in axes_of("squeeze", x, axis) if x.shape[a] == 1]
    return reshape(x, tuple(n for a, n in enumerate(x.shape) if a not in gone))


def unsqueeze(x: Tensor, axis: int | Sequence[int]) -> Tensor:
    """Return x with axes of extent 1 inserted, at these places of the result. Raises `AxisError`."""
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    places = {one_axis("unsqueeze", x, a, extra=len(given)) for a in given}
    if len(places) != len(given):
        raise AxisError(f"unsqueeze: axes {list(given)} name one place twice")
    extents = iter(x.shape)
    return reshape(x, tuple(1 if i in places else next(extents) for i in range(x.ndim + len(given))))


def expand(x: Tensor, *shape: Ints) -> Tensor:
    """Return x with axes of extent 1 repeated, and leading axes added; -1 keeps an extent. Raises `ShapeError`."""
    wanted = list(sizes(shape, "expand"))
    missing = len(wanted) - x.ndim
    if missing < 0 or -1 in wanted[:missing] or any(isinstance(n, int) and n < -1 for n in wanted):
        raise ShapeError(f"expand of {show(x.shape)} to {show(tuple(wanted))}: give an extent for each axis")
    for i, n in enumerate(x.shape, missing):
        wanted[i] = n if wanted[i] == -1 else wanted[i]
    return x.wrap(_expanded("expand", x.node, tuple(wanted)))


def broadcast_to(x: Tensor, *shape: Ints) -> Tensor:
    """Return x broadcast to a shape: axes of extent 1 repeated, leading axes added. Raises `ShapeError`."""
    return expand(x, *shape)


def _expanded(name: str, node: Node, shape: Shape) -> Node:
    lead = len(shape) - node.rank
    if lead < 0 or any(n not in (1, m) for n, m in zip(node.shape, shape[lead:], strict=True)):
        raise ShapeError(f"{name}: {show(node.shape)} does not broadcast to {show(shape)}; only extents of 1 can grow")
    return broadcast_node(node, shape)


def broadcast_tensors(*tensors: Tensor) -> list[Tensor]:
    """Return tensors broadcast to one shape. Raises `ShapeError`."""
    shape = broadcast_shapes("broadcast_tensors", *(t.shape for t in tensors))
    return [t.wrap(broadcast_node(t.node, shape)) for t in tensors]


# --- order --------------------------------------------------------------------------------------------------------


def permute(x: Tensor, *order: int | Sequence[int]) -> Tensor:
    """Return x with axis i of the result being axis order[i] of x. Raises `AxisError`, `ShapeError`."""
    given = [a for part in order for a in (part if isinstance(part, Sequence) else (part,))]
    axes = [one_axis("permute", x, a) for a in given]
    if sorted(axes) != list(range(x.ndim)):
        raise AxisError(f"permute of {show(x.shape)} needs each of its {x.ndim} axes once, got {given}")
    return x.wrap(graph.permute(x.node, axes))


def transpose(x: Tensor, axis0: int = -2, axis1: int = -1) -> Tensor:
    """Return x with two axes swapped, by default the last two. Raises `AxisError`."""
    a, b = one_axis("transpose", x, axis0), one_axis("transpose", x, axis1)
    order = list(range(x.ndim))
    order[a], order[b] = order[b], order[a]
    return x.wrap(graph.permute(x.node, order))


def moveaxis(x: Tensor, source: int, destination: int) -> Tensor:
    """Return x with one axis moved to another place, the others in order. Raises `AxisError`."""
    start, end = one_axis("moveaxis", x, source), one_axis("moveaxis", x, destination)
    order = [a for a in range(x.ndim) if a != start]
    order.insert(end, start)
    return x.wrap(graph.permute(x.node, order))


def flip(x: Tensor, axis: Axes = None) -> Tensor:
    """Return x with the order along axes reversed, by default along all. Raises `AxisError`."""
    return x.wrap(graph.flip(x.node, axes_of("flip", x, axis)))


def roll(x: Tensor, shift: int | Sequence[int], axis: Axes = None) -> Tensor:
    """Return x moved along axes by shifts, what leaves the end entering at the start; without axis, x as if flat.

    Raises `AxisError`, `ShapeError`.
    """
    if axis is None:
        return reshape(roll(flatten(x), shift, 0), x.shape)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    for s, a in zip(sequence(shift, len(axes), "roll", "shift"), axes, strict=True):
        n = static("roll", x, one_axis("roll", x, a))
        if n and s % n:
            x = cat([narrow(x, a, n - s % n, s % n), narrow(x, a, 0, n - s % n)], a)
    return x


# --- parts --------------------------------------------------------------------------------------------------------


def shrink(x: Tensor, ranges: Sequence[tuple[Size, Size] | None]) -> Tensor:
    """Return the elements start .. stop-1 of each axis; None keeps an axis. Raises `ShapeError`."""
    full = [(0, n) if r is None else r for r, n in zip(ranges, x.shape, strict=False)]
    return x.wrap(graph.shrink(x.node, full if len(ranges) == x.ndim else ranges))  # type: ignore[arg-type]


def narrow(x: Tensor, axis: int, start: Size, length: Size) -> Tensor:
    """Return the elements start .. start+length-1 of one axis. Raises `AxisError`, `ShapeError`."""
    at = one_axis("narrow", x, axis)
    n = x.shape[at]
    if all(isinstance(v, int) for v in (start, length, n)) and not 0 <= start <= start + length <= n:  # type: ignore[operator]
        raise ShapeError(f"narrow of {show(x.shape)}: {length} elements from {start} are not inside axis {at}")
    return shrink(x, [(start, start + length) if a == at else None for a in range(x.ndim)])


def split(x: Tensor, sizes: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """Return parts of x along an axis: of one size, the last perhaps smaller, or of the sizes given.

    Raises `AxisError`, `ShapeError`.
    """
    n = static("split", x, one_axis("split", x, axis))
    if not isinstance(sizes, Sequence):
        if whole("split", "a size", sizes) < 1:
            raise ShapeError(f"split of {show(x.shape)}: a part has at least 1 element, got {sizes}")
        sizes = [min(sizes, n - start) for start in range(0, n, sizes)] or [0]
    if sum(sizes) != n or min(sizes, default=0) < 0:
        raise ShapeError(f"split of {show(x.shape)} on axis {axis}: sizes {list(sizes)} do not add up to {n}")
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(narrow(x, axis, start, size) for start, size in zip(starts, sizes, strict=True))


def chunk(x: Tensor, count: int, axis: int = 0) -> tuple[Tensor, ...]:
    """Return at most `count` parts along an axis, of one size but for the last. Raises `AxisError`, `ShapeError`."""
    n = static("chunk", x, one_axis("chunk", x, axis))
    if count < 1:
        raise ShapeError(f"chunk of {show(x.shape)} needs at least 1 part, got {count}")
    return split(x, max(1, -(-n // count)), axis)


def unbind(x: Tensor, axis: int = 0) -> tuple[Tensor, ...]:
    """Return the slices of x along an axis, which they lack. Raises `AxisError`, `ShapeError`."""
    at = one_axis("unbind", x, axis)
    shape = x.shape[:at] + x.shape[at + 1 :]
    return tuple(reshape(narrow(x, at, i, 1), shape) for i in range(static("unbind", x, at)))


def stride(x: Tensor, steps: Sequence[int]) -> Tensor:
    """Return every step-th element of each axis, the first included. Raises `ShapeError`."""
    return x.wrap(graph.stride(x.node, steps))


def diagonal(x: Tensor, axis0: int = -2, axis1: int = -1) -> Tensor:
    """Return the elements at equal places of two axes, as the last axis. Raises `AxisError`, `ShapeError`."""
    a, b = one_axis("diagonal", x, axis0), one_axis("diagonal", x, axis1)
    if a == b:
        raise AxisError(f"diagonal of {show(x.shape)} needs two axes, got {axis0} twice")
    order = [i for i in range(x.ndim) if i not in (a, b)]
    x = permute(x, *order, a, b)
    rest = x.shape[:-2]
    n = min(static("diagonal", x, -2), static("diagonal", x, -1))
    square = shrink(x, [*(None for _ in rest), (0, n), (0, n)])
    flat = pad(reshape(square, (*rest, n * n)), [(0, 0)] * len(rest) + [(0, n)])
    return reshape(shrink(reshape(flat, (*rest, n, n + 1)), [*(None for _ in rest), None, (0, 1)]), (*rest, n))


# --- more elements ------------------------------------------------------------------------------------------------


def pad(x: Tensor, widths: Sequence[tuple[Size, Size]], value: Scalar = 0) -> Tensor:
    """Return x with (before, after) elements of `value` around it, one pair for each axis. Raises `ShapeError`."""
    if not isinstance(widths, Sequence) or not all(isinstance(w, Sequence) and len(w) == 2 for w in widths):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ShapeError(f"pad of {show(x.shape)} needs (before, after) for each of its {x.ndim} axes, got {widths!r}")
    constant("pad", value, x.dtype)
    bits = encode(x.dtype, bool(value) if x.dtype is BOOL else value)
    return x.wrap(graph.pad(x.node, tuple(widths), bits))


def dilate(x: Tensor, steps: Sequence[int]) -> Tensor:
    """Return x with step - 1 zeros between the elements of each axis: what a slice with that step undoes.

    Raises `ShapeError`.
    """
    for axis, step in enumerate(sequence(steps, x.ndim, "dilate", "steps")):
        at_least(1, "dilate", step=step)
        if step > 1:
            shape = x.shape
            apart = unsqueeze(x, axis + 1)
            padded = pad(apart, [(0, step - 1 if a == axis + 1 else 0) for a in range(apart.ndim)])
            whole = reshape(padded, (*shape[:axis], shape[axis] * step, *shape[axis + 1 :]))
            x = narrow(whole, axis, 0, shape[axis] * step - (step - 1))
    return x


def cat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Return tensors joined along an axis, in the promoted dtype; the other extents agree.

    Raises `AxisError`, `ShapeError`, `DTypeError`, `DeviceMismatch`.
    """
    parts = tensors_of("cat", *tensors)
    first = parts[0]
    at = one_axis("cat", first, axis)
    for other in parts[1:]:
        if other.ndim != first.ndim or any(
            n != m for a, (n, m) in enumerate(zip(first.shape, other.shape, strict=True)) if a != at
        ):
            told = " and ".join(show(t.shape) for t in (first, other))
            raise ShapeError(f"cat: shapes {told} differ on an axis other than {at}; only axis {at} may differ")
    dtype = promote_for("cat", [t.dtype for t in parts])
    return first.wrap(_joined([graph.cast(t.node, dtype) for t in parts], at))


def _joined(nodes: list[Node], axis: int) -> Node:
    """Return nodes joined: each padded to the whole, and chosen by its place along the axis."""
    total: Size = 0
    for node in nodes:
        total = total + node.shape[axis]
    rank = nodes[0].rank
    place = graph.reshape(graph.iota(total), tuple(total if a == axis else 1 for a in range(rank)))
    end: Size = total
    result: Node | None = None
    for node in reversed(nodes):
        start = end - node.shape[axis]
        whole = graph.pad(node, [(start, total - end) if a == axis else (0, 0) for a in range(rank)])
        if result is None:
            result = whole
        elif node.shape[axis] != 0:
            before = graph.map_("lt", place, extent_node(end, place.shape))
            result = graph.map_("where", graph.expand(before, whole.shape), whole, result)
        end = start
    assert result is not None
    return result


def extent_node(n: Size, shape: Shape) -> Node:
    """Return an extent as an i32 value, broadcast to a shape; a dynamic one is the last place of an iota, plus 1."""
    if isinstance(n, int):
        return graph.const(I32, n, shape)
    top = graph.reduce("max", graph.iota(n), [0])
    count = graph.map_("add", top, graph.const(I32, 1, (1,)))
    return graph.expand(graph.reshape(count, (1,) * len(shape)), shape)


def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Return tensors of one shape joined along a new axis. Raises as `cat`."""
    parts = tensors_of("stack", *tensors)
    first = parts[0]
    at = one_axis("stack", first, axis, extra=1)
    if any(t.shape != first.shape for t in parts):
        raise ShapeError(f"stack needs tensors of one shape, got {' and '.join(show(t.shape) for t in parts)}")
    return cat([unsqueeze(t, at) for t in parts], at)


def tile(x: Tensor, *counts: int | Sequence[int]) -> Tensor:
    """Return x repeated as a whole, `counts` times along each axis; axes are added in front. Raises `ShapeError`."""
    wanted = [n for n in sizes(counts, "tile") if isinstance(n, int)]
    if min(wanted, default=1) < 0:
        raise ShapeError(f"tile of {show(x.shape)} needs counts that are not negative, got {wanted}")
    wanted = [1] * (x.ndim - len(wanted)) + wanted
    shape = (1,) * (len(wanted) - x.ndim) + x.shape
    apart = reshape(x, tuple(n for m in shape for n in (1, m)))
    repeated = expand(apart, tuple(n for c, m in zip(wanted, shape, strict=True) for n in (c, m)))
    return reshape(repeated, tuple(c * m for c, m in zip(wanted, shape, strict=True)))


def repeat(x: Tensor, *counts: int | Sequence[int]) -> Tensor:
    """Return x repeated as a whole, with at least a count for each axis (NumPy's `tile`). Raises `ShapeError`."""
    wanted = sizes(counts, "repeat")
    if len(wanted) < x.ndim:
        raise ShapeError(f"repeat of {show(x.shape)} needs a count for each axis, got {list(wanted)}; use tile")
    return tile(x, *counts)


def repeat_interleave(x: Tensor, count: int, axis: int | None = None) -> Tensor:
    """Return x with each element repeated in place along an axis (NumPy's `repeat`); without axis, x as if flat.

    Raises `AxisError`, `ShapeError`.
    """
    if axis is None:
        return repeat_interleave(flatten(x), count, 0)
    at = one_axis("repeat_interleave", x, axis)
    if count < 0:
        raise ShapeError(f"repeat_interleave of {show(x.shape)} needs a count that is not negative, got {count}")
    shape = x.shape
    apart = expand(unsqueeze(x, at + 1), (*shape[: at + 1], count, *shape[at + 1 :]))
    return reshape(apart, (*shape[:at], shape[at] * count, *shape[at + 1 :]))
