"""Folding axes away: sums, extremes, statistics, and where the extremes are.

`axis` is one axis, several, or None for all; folded axes go, or stay with extent 1 with `keepdims`. Sums and products
of bools and of integers narrower than 32 bits give i32 (NumPy and PyTorch give 64 bits, which 32-bit devices pay for
dearly). f16 and bf16 accumulate in f32 and are rounded once. NaN wins in extremes; the first one in `argmax`, `argmin`.
Where NumPy and PyTorch differ, PyTorch is followed: `var` and `std` divide by n - 1. `max` and `min` give values alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from portkit.compiler import graph
from portkit.compiler.graph import Size, show
from portkit.errors import DTypeError, ShapeError
from portkit.spec.types import BOOL, I32
from portkit.tensor import elementwise, movement
from portkit.tensor.common import Axes, axes_of, one_axis, whole
from portkit.tensor.promotion import DTypeLike, accumulator, inexact, wide

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor


def fold(name: str, kind: str, x: Tensor, axis: Axes, keepdims: bool) -> Tensor:
    """Return a reduction of the graph's table over axes. Raises `AxisError`, `DTypeError`."""
    axes = axes_of(name, x, axis)
    try:
        kept = x.wrap(graph.reduce(kind, x.node, axes))
    except DTypeError as error:
        raise DTypeError(f"{name}: {error}; cast the tensor first") from None
    return kept if keepdims else drop(kept, axes)


def drop(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Return x without axes that were folded to extent 1."""
    return movement.reshape(x, tuple(n for a, n in enumerate(x.shape) if a not in axes))


def sum(x: Tensor, axis: Axes = None, keepdims: bool = False, dtype: DTypeLike | None = None) -> Tensor:
    """Return the sum over axes, 0 for none, in `dtype` or that of x (i32 for narrower integers and bool).

    Raises `AxisError`, `DTypeError`.
    """
    return fold("sum", "add", elementwise.cast(x, dtype or accumulator(x.dtype)), axis, keepdims)


def prod(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return the product over axes, 1 for none; dtypes as in `sum`. Raises `AxisError`, `DTypeError`."""
    return fold("prod", "mul", elementwise.cast(x, accumulator(x.dtype)), axis, keepdims)


def max(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return the largest element over axes, NaN if there is one. Raises `AxisError`, `ShapeError` of no elements."""
    _refuse_empty("max", x, axes_of("max", x, axis))
    return fold("max", "or" if x.dtype is BOOL else "max", x, axis, keepdims)


def min(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return the smallest element over axes, NaN if there is one. Raises `AxisError`, `ShapeError` of no elements."""
    _refuse_empty("min", x, axes_of("min", x, axis))
    return fold("min", "and" if x.dtype is BOOL else "min", x, axis, keepdims)


def any(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return whether any element over axes is other than zero, as bool. Raises `AxisError`."""
    return fold("any", "or", elementwise.cast(x, BOOL), axis, keepdims)


def all(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return whether every element over axes is other than zero, as bool. Raises `AxisError`."""
    return fold("all", "and", elementwise.cast(x, BOOL), axis, keepdims)


def count_nonzero(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return how many elements over axes are other than zero, as i32. Raises `AxisError`."""
    return sum(elementwise.cast(x, BOOL), axis, keepdims)


def _refuse_empty(name: str, x: Tensor, axes: Sequence[int]) -> None:
    for a in axes:
        if x.shape[a] == 0:
            raise ShapeError(f"{name} of {show(x.shape)} over axis {a}: no elements have no {name}; check for 0 first")


# --- statistics ---------------------------------------------------------------------------------------------------


def times_share(x: Tensor, count: Size) -> Tensor:
    """Return x / count as a product with 1 / count, which a dynamic count computes on the device."""
    if isinstance(count, int):
        return elementwise.mul(x, 1.0 / count if count else math.nan)
    number = x.wrap(movement.extent_node(count, ()))
    return elementwise.mul(x, elementwise.reciprocal(elementwise.cast(number, x.dtype)))


def _count(x: Tensor, axes: Sequence[int]) -> Size:
    total: Size = 1
    for a in axes:
        total = total * x.shape[a]
    return total


def mean(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return the mean over axes, of integers as f32, NaN of no elements. Raises `AxisError`."""
    axes = axes_of("mean", x, axis)
    dtype = inexact(x.dtype)
    total = sum(elementwise.cast(x, wide(dtype)), axes, keepdims)
    return elementwise.cast(times_share(total, _count(x, axes)), dtype)


def var(x: Tensor, axis: Axes = None, keepdims: bool = False, correction: int = 1) -> Tensor:
    """Return the sum of squared distances from the mean over axes, divided by n - correction.

    In two passes; of integers as f32; infinite or NaN where n <= correction. Raises `AxisError`, `ShapeError`.
    """
    axes = axes_of("var", x, axis)
    correction = whole("var", "the correction", correction)
    dtype = inexact(x.dtype)
    x = elementwise.cast(x, wide(dtype))
    squares = sum(elementwise.square(x - mean(x, axes, keepdims=True)), axes, keepdims)
    left = _count(x, axes) - correction
    if isinstance(left, int) and left <= 0:
        return elementwise.cast(squares / 0.0, dtype)
    return elementwise.cast(times_share(squares, left), dtype)


def std(x: Tensor, axis: Axes = None, keepdims: bool = False, correction: int = 1) -> Tensor:
    """Return the square root of `var`. Raises `AxisError`, `ShapeError`."""
    spread = var(elementwise.cast(x, wide(inexact(x.dtype))), axis, keepdims, correction)
    return elementwise.cast(elementwise.sqrt(spread), inexact(x.dtype))


def logsumexp(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return log(sum(exp(x))) over axes, shifted by the maximum so that it does not overflow. Raises `AxisError`."""
    axes = axes_of("logsumexp", x, axis)
    dtype = inexact(x.dtype)
    x = elementwise.cast(x, wide(dtype))
    top = elementwise.detach(max(x, axes, keepdims=True))
    top = elementwise.where(elementwise.isfinite(top), top, 0.0)
    total = elementwise.log(sum(elementwise.exp(x - top), axes, keepdims=True)) + top
    return elementwise.cast(total if keepdims else drop(total, axes), dtype)


def norm(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return the Euclidean norm over axes. Raises `AxisError`."""
    dtype = inexact(x.dtype)
    squares = sum(elementwise.square(elementwise.cast(x, wide(dtype))), axis, keepdims)
    return elementwise.cast(elementwise.sqrt(squares), dtype)


# --- places -------------------------------------------------------------------------------------------------------


def place(x: Tensor, axis: int) -> Tensor:
    """Return each element's place along an axis as i32, with extent 1 elsewhere."""
    n = x.shape[axis]
    return x.wrap(graph.reshape(graph.iota(n), tuple(n if a == axis else 1 for a in range(x.ndim))))


def _first(name: str, x: Tensor, best: str, axis: int | None, keepdims: bool) -> Tensor:
    """Return the lowest place where x is its extreme or NaN: an extreme that is no NaN has none beside it."""
    if axis is None:
        flat = _first(name, movement.flatten(x), best, 0, keepdims=False)
        return movement.reshape(flat, (1,) * x.ndim) if keepdims else flat
    at = one_axis(name, x, axis)
    _refuse_empty(name, x, (at,))
    x = elementwise.cast(x, I32) if x.dtype is BOOL else x
    hit = elementwise.eq(x, fold(name, best, x, at, keepdims=True))
    if x.dtype.is_float:
        hit = elementwise.logical_or(hit, elementwise.isnan(x))
    none = x.wrap(movement.extent_node(x.shape[at], (1,) * x.ndim))
    return fold(name, "min", elementwise.where(hit, place(x, at), none), at, keepdims)


def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Return the place of the first largest element along an axis as i32, of the first NaN if any; None: of all, flat.

    Raises `AxisError`, `ShapeError` of no elements.
    """
    return _first("argmax", x, "max", axis, keepdims)


def argmin(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Return the place of the first smallest element along an axis as i32, of the first NaN if any; None: of all, flat.

    Raises `AxisError`, `ShapeError` of no elements.
    """
    return _first("argmin", x, "min", axis, keepdims)
