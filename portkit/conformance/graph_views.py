"""Movement of sets of values: the views, gathers and scatters of graphs on registers of the bounds run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from portkit.reference.planes import (
    Array,
    Choices,
    Interval,
    Value,
    alike,
    each,
    forget,
    planes,
    put,
    rebuild,
    settle,
    shape_of,
    undetermined,
)

Shape = tuple[int, ...]
Step = Callable[[Value, Value], Value]


def moved(movement: str, shape: Shape, arguments: Sequence[Any], x: Value) -> Value:
    """Return a view of a register; `shape` is the result's, `arguments` are those of the view with known extents."""
    return _MOVEMENTS[movement](x, shape, *arguments)


def _pad(x: Value, shape: Shape, starts: Sequence[int], fill: Array) -> Value:
    """Every plane gets what it has for a determined element: its value, no NaN unless it is one, no origin."""
    if isinstance(x, Interval):
        x.named()
        fills: tuple[Any, ...] = (fill, fill, np.isnan(fill), 0, np.asarray(-np.inf).astype(fill.dtype), 0)
    elif isinstance(x, Choices):
        fills = (*(fill for _ in x.alternatives), False)
    else:
        fills = (fill,)
    return rebuild(x, tuple(_padded(p, shape, starts, f) for p, f in zip(planes(x), fills, strict=True)))


def _padded(plane: Array, shape: Shape, starts: Sequence[int], fill: Any) -> Array:
    result = np.full(shape, fill, plane.dtype)
    result[tuple(slice(start, start + n) for start, n in zip(starts, plane.shape, strict=True))] = plane
    return result


def _shrink(x: Value, shape: Shape, starts: Sequence[int]) -> Value:
    inside = tuple(slice(start, start + n) for start, n in zip(starts, shape, strict=True))
    return each(lambda plane: plane[inside], x)


def _moving(movement: Callable[..., Array]) -> Callable[..., Value]:
    """Return a movement of one plane as one of registers."""

    def move(x: Value, *arguments: Any) -> Value:
        return each(lambda plane: movement(plane, *arguments), x)

    return move


def _stride(plane: Array, shape: Shape, steps: Sequence[int]) -> Array:
    del shape
    return plane[tuple(slice(None, None, step) for step in steps)]


def _permute(plane: Array, shape: Shape, order: Sequence[int]) -> Array:
    del shape
    return plane.transpose(order)


def _flip(plane: Array, shape: Shape, axes: tuple[int, ...]) -> Array:
    del shape
    return np.flip(plane, axes)


_MOVEMENTS: dict[str, Callable[..., Value]] = {
    "reshape": _moving(np.reshape),
    "permute": _moving(_permute),
    "expand": _moving(np.broadcast_to),
    "shrink": _shrink,
    "flip": _moving(_flip),
    "stride": _moving(_stride),
    "pad": _pad,
}


def gathered(x: Value, places: Value, axis: int) -> Value:
    """Return the elements at `places` along an axis, 0 out of range, anything where the place is open."""
    at = planes(places)[0]
    n = shape_of(x)[axis]
    if n == 0:
        return np.zeros(at.shape, planes(x)[0].dtype)
    inside = (at >= 0) & (at < n)
    taken = each(lambda p: np.take_along_axis(p, np.clip(at, 0, n - 1), axis), x)
    zeros = np.zeros(at.shape, planes(x)[0].dtype)
    taken, none = alike(taken, zeros)
    parts = zip(planes(taken), planes(none), strict=True)
    return forget(settle(rebuild(taken, tuple(np.where(inside, p, q) for p, q in parts))), undetermined(places))


def scattered(step: Step | None, x: Value, places: Value, values: Value, axis: int) -> Value:
    """Return `x` with values folded in by `step`, or put without one, in ascending order along an axis."""
    if undetermined(places).any():
        return forget(x, np.ones(shape_of(x), np.bool_))
    at = np.moveaxis(planes(places)[0], axis, 0)
    memory = each(lambda p: np.moveaxis(p, axis, 0).copy(), x)
    given = each(lambda p: np.moveaxis(p, axis, 0), values)
    rest = np.indices(at.shape[1:], sparse=True)
    for number, row in enumerate(at):
        inside = (row >= 0) & (row < shape_of(memory)[0])
        others: list[Array] = [np.broadcast_to(r, row.shape)[inside] for r in rest]
        place = (row[inside], *others)
        value = each(lambda p, k=number, mask=inside: p[k][mask], given)
        if step is not None:
            value = step(each(lambda p, here=place: p[here], memory), value)
        memory = put(memory, place, value)
    return settle(each(lambda p: np.moveaxis(p, 0, axis), memory))


def scanned(step: Step, x: Value, axis: int) -> Value:
    """Return the running fold along an axis, in order."""
    along = each(lambda p: np.moveaxis(p, axis, 0), x)
    rows: list[Value] = []
    for number in range(shape_of(along)[0]):
        row = each(lambda p, k=number: p[k], along)
        rows.append(step(rows[-1], row) if rows else row)
    return settle(each(lambda p: np.moveaxis(p, 0, axis), stacked(rows))) if rows else x


def stacked(rows: Sequence[Value]) -> Value:
    """Return registers of one shape as one with a new first axis."""
    most = rows[0]
    for row in rows[1:]:
        most = alike(most, row)[0]
    same = [alike(row, most)[0] for row in rows]
    return rebuild(most, tuple(np.stack(parts) for parts in zip(*map(planes, same), strict=True)))


def halves(step: Step, x: Value, axis: int) -> Value:
    """Return the fold along an axis, which keeps length 1, by halves: for folds whose order does not matter."""
    x = each(lambda p: np.moveaxis(p, axis, 0), x)
    odd: list[Value] = []
    while (size := shape_of(x)[0]) > 1:
        half = size // 2
        if size % 2:
            odd.append(each(lambda p: p[-1:], x))
        x = step(each(lambda p, n=half: p[:n], x), each(lambda p, n=half: p[n : 2 * n], x))
    for one in odd:
        x = step(x, one)
    return settle(each(lambda p: np.moveaxis(p, 0, axis), x))
