"""Tensors from nothing: constants and sequences, computed in place by what uses them and never stored.

A dtype that is not given is f32, or that of the numbers for `arange`. Tensors of one constant may be one graph node:
a parameter to differentiate by needs contents of its own, `Tensor(zeros(3).numpy())`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from portkit.compiler import graph
from portkit.compiler.graph import Size, show
from portkit.compiler.index import Expr
from portkit.errors import DTypeError, ShapeError
from portkit.tensor import elementwise, movement
from portkit.tensor.base import device_name
from portkit.tensor.common import constant, is_scalar, one_axis, whole
from portkit.tensor.promotion import DEFAULT_FLOAT, DTypeLike, Scalar, as_dtype, promote
from portkit.tensor.tensor import Tensor


def full(
    shape: Size | Sequence[Size], value: Scalar, dtype: DTypeLike | None = None, device: str | None = None
) -> Tensor:
    """Return a tensor of one value, by default of the value's dtype (i32, f32 or bool).

    Raises `ShapeError` for a negative extent, `DTypeError` for a value that does not fit.
    """
    extents = movement.sizes((shape,), "full")
    if not is_scalar(value):
        raise DTypeError(f"full: the value is a number, got {value!r}")
    if any(isinstance(n, int) and n < 0 for n in extents):
        raise ShapeError(f"full: shape {show(extents)} has a negative extent")
    wanted = promote((), [value]) if dtype is None else as_dtype(dtype)
    return Tensor.of(constant("full", value, wanted, extents), device_name(device))


def zeros(*shape: Size | Sequence[Size], dtype: DTypeLike = DEFAULT_FLOAT, device: str | None = None) -> Tensor:
    """Return zeros, of f32 by default. Raises `ShapeError`."""
    return full(movement.sizes(shape, "zeros"), 0, dtype, device)


def ones(*shape: Size | Sequence[Size], dtype: DTypeLike = DEFAULT_FLOAT, device: str | None = None) -> Tensor:
    """Return ones, of f32 by default. Raises `ShapeError`."""
    return full(movement.sizes(shape, "ones"), 1, dtype, device)


def full_like(x: Tensor, value: Scalar, dtype: DTypeLike | None = None) -> Tensor:
    """Return one value in the shape of x, and its dtype if none is given. Raises `DTypeError`."""
    return full(x.shape, value, dtype or x.dtype, x.device)


def zeros_like(x: Tensor, dtype: DTypeLike | None = None) -> Tensor:
    """Return zeros in the shape of x, and its dtype if none is given."""
    return full_like(x, 0, dtype)


def ones_like(x: Tensor, dtype: DTypeLike | None = None) -> Tensor:
    """Return ones in the shape of x, and its dtype if none is given."""
    return full_like(x, 1, dtype)


def arange(
    start: Scalar | Size,
    stop: Scalar | None = None,
    step: Scalar = 1,
    dtype: DTypeLike | None = None,
    device: str | None = None,
) -> Tensor:
    """Return start, start + step, ... below stop, as i32 or f32 by the numbers; one number is the stop.

    Each is start + i * step, computed in the dtype. `arange(n)` takes a dynamic extent too.
    Raises `ShapeError` for a step of 0, `DTypeError` for numbers that do not fit.
    """
    if isinstance(start, Expr):
        places = Tensor.of(graph.iota(start), device_name(device))
        return places if dtype is None else places.cast(dtype)
    if stop is None:
        start, stop = 0, start
    if step == 0 or not all(isinstance(n, (int, float)) and math.isfinite(n) for n in (start, stop, step)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ShapeError(
            f"arange from {start!r} to {stop!r} by {step!r}: these are finite numbers of Python, the step not 0"
        )
    wanted = promote((), [start, stop, step]) if dtype is None else as_dtype(dtype)
    count = max(0, math.ceil((stop - start) / step))
    places = Tensor.of(graph.iota(count), device_name(device)).cast(wanted)
    if wanted.name == "bool":
        raise DTypeError("arange has no bool sequence; give dtype='i32'")
    scaled = places if step == 1 else elementwise.mul(places, step)
    return scaled if start == 0 else elementwise.add(scaled, start)


def linspace(
    start: float, stop: float, count: int, dtype: DTypeLike = DEFAULT_FLOAT, device: str | None = None
) -> Tensor:
    """Return `count` evenly spaced numbers from start to stop, both included.

    The upper half is counted from the stop, so that both ends are exact. Raises `ShapeError` for a negative count.
    """
    if count < 0:
        raise ShapeError(f"linspace needs a count that is not negative, got {count}")
    if count < 2:
        return full((count,), float(start), dtype, device)
    step = (stop - start) / (count - 1)
    places = arange(count, device=device)
    wanted = as_dtype(dtype)
    rising = places.cast(wanted) * step + float(start)
    falling = float(stop) - ((count - 1) - places).cast(wanted) * step
    return elementwise.where(places < count // 2, rising, falling)


def eye(rows: int, columns: int | None = None, dtype: DTypeLike = DEFAULT_FLOAT, device: str | None = None) -> Tensor:
    """Return the identity matrix, rows x columns (square by default). Raises `ShapeError`."""
    for extent in (rows, rows if columns is None else columns):
        if whole("eye", "an extent", extent) < 0:
            raise ShapeError(f"eye: extents are not negative, got {extent}")
    down = arange(rows, device=device).unsqueeze(1)
    across = arange(rows if columns is None else columns, device=device).unsqueeze(0)
    return (down == across).cast(dtype)


def meshgrid(*axes: Tensor, indexing: str = "ij") -> list[Tensor]:
    """Return, for each vector, its values over the grid that they span; "xy" swaps the first two axes.

    Raises `ShapeError` for other than vectors.
    """
    if any(x.ndim != 1 for x in axes) or indexing not in ("ij", "xy"):
        raise ShapeError(f"meshgrid needs vectors and indexing 'ij' or 'xy', got {[show(x.shape) for x in axes]}")
    apart = [x.reshape(tuple(x.shape[0] if i == j else 1 for j in range(len(axes)))) for i, x in enumerate(axes)]
    grids = movement.broadcast_tensors(*apart)
    return [movement.transpose(g, 0, 1) for g in grids] if indexing == "xy" and len(axes) > 1 else grids


def one_hot(x: Tensor, count: int, dtype: DTypeLike = DEFAULT_FLOAT) -> Tensor:
    """Return for each integer of x a vector along a new last axis that is 1 there and 0 elsewhere.

    An integer out of 0 .. count-1 gives zeros. Raises `DTypeError` for floats, `ShapeError`.
    """
    if not x.dtype.is_int:
        raise DTypeError(f"one_hot needs integers, got {x.dtype}; cast them to i32")
    if whole("one_hot", "the count", count) < 0:
        raise ShapeError(f"one_hot: the count of classes is not negative, got {count}")
    return (x.unsqueeze(-1) == arange(count, dtype=x.dtype, device=x.device)).cast(dtype)


def _below(name: str, x: Tensor, offset: int) -> Tensor:
    """Return where the column is at most the row plus an offset, for the last two axes."""
    whole(name, "the offset", offset)
    rows, columns = x.shape[one_axis(name, x, -2)], x.shape[-1]
    down = arange(rows, device=x.device).unsqueeze(1)
    across = arange(columns, device=x.device).unsqueeze(0)
    return across <= down + offset


def tril(x: Tensor, offset: int = 0) -> Tensor:
    """Return the matrices of the last two axes with zeros above a diagonal. Raises `AxisError`."""
    return elementwise.where(_below("tril", x, offset), x, 0)


def triu(x: Tensor, offset: int = 0) -> Tensor:
    """Return the matrices of the last two axes with zeros below a diagonal. Raises `AxisError`."""
    return elementwise.where(_below("triu", x, offset - 1), 0, x)
