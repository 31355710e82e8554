"""Pooling: the maximum or the mean of windows over the axes after the second of (n, c, *spatial)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from portkit.compiler import graph
from portkit.compiler.graph import Size, show
from portkit.errors import ShapeError
from portkit.tensor import elementwise, movement, products, reductions
from portkit.tensor.common import sequence, static
from portkit.tensor.promotion import inexact, wide
from portkit.tensor.windows import windows

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor

Each: TypeAlias = int | Sequence[int]


def _spatial(name: str, x: Tensor, rank: int) -> range:
    """Return the last `rank` axes. Raises `ShapeError` where there is none for channels before them."""
    if x.ndim not in (rank + 1, rank + 2):
        raise ShapeError(f"{name} needs an input (n, c, *spatial) with {rank} spatial axes, got {show(x.shape)}")
    return range(x.ndim - rank, x.ndim)


def _rank(x: Tensor, *settings: Each) -> int:
    """Return the number of spatial axes: as many numbers as a setting has, else all axes after the second."""
    return next((len(s) for s in settings if isinstance(s, Sequence)), x.ndim - 2)


def _padded(x: Tensor, axes: Sequence[int], pads: Sequence[int], value: float | int | bool) -> Tensor:
    widths = dict(zip(axes, pads, strict=True))
    return movement.pad(x, [(widths.get(a, 0), widths.get(a, 0)) for a in range(x.ndim)], value)


def max_pool(x: Tensor, kernel: Each, stride: Each | None = None, padding: Each = 0, dilation: Each = 1) -> Tensor:
    """Return the maximum of each window, NaN if one is in it; the stride is the kernel by default.

    What is padded counts as lower than everything. Raises `ShapeError`.
    """
    rank = _rank(x, kernel)
    axes = _spatial("max_pool", x, rank)
    sizes = sequence(kernel, rank, "max_pool", "kernel")
    pads = sequence(padding, rank, "max_pool", "padding")
    _check_padding("max_pool", sizes, pads)
    rows = windows(
        _padded(x, axes, pads, _lowest(x)),
        axes,
        sizes,
        sizes if stride is None else sequence(stride, rank, "max_pool", "stride"),
        sequence(dilation, rank, "max_pool", "dilation"),
    )
    return reductions.max(rows, range(x.ndim, rows.ndim))


def avg_pool(
    x: Tensor, kernel: Each, stride: Each | None = None, padding: Each = 0, count_padding: bool = True
) -> Tensor:
    """Return the mean of each window; the stride is the kernel by default.

    Padded zeros count as elements unless `count_padding` is false. Raises `ShapeError`.
    """
    rank = _rank(x, kernel)
    axes = _spatial("avg_pool", x, rank)
    sizes = sequence(kernel, rank, "avg_pool", "kernel")
    pads = sequence(padding, rank, "avg_pool", "padding")
    _check_padding("avg_pool", sizes, pads)
    steps = sizes if stride is None else sequence(stride, rank, "avg_pool", "stride")
    dtype = inexact(x.dtype)
    x = elementwise.cast(x, wide(dtype))
    rows = windows(_padded(x, axes, pads, 0), axes, sizes, steps, (1,) * rank)
    if count_padding or not any(pads):
        return elementwise.cast(reductions.mean(rows, range(x.ndim, rows.ndim)), dtype)
    totals = reductions.sum(rows, range(x.ndim, rows.ndim))
    for axis, k, s, p in zip(axes, sizes, steps, pads, strict=True):
        totals = totals / elementwise.cast(_inside(totals, axis, x.shape[axis], k, s, p), totals.dtype)
    return elementwise.cast(totals, dtype)


def _inside(result: Tensor, axis: int, n: Size, k: int, s: int, p: int) -> Tensor:
    """Return how many places of each window along an axis are not padding."""
    start = reductions.place(result, axis) * s - p
    end = start.wrap(movement.extent_node(n, (1,) * result.ndim))
    return elementwise.minimum(start + k, end) - elementwise.maximum(start, 0)


def _check_padding(name: str, sizes: Sequence[int], pads: Sequence[int]) -> None:
    """Refuse windows that could lie in the padding as a whole. Raises `ShapeError`."""
    if any(2 * p > k for p, k in zip(pads, sizes, strict=True)):
        raise ShapeError(f"{name}: padding {list(pads)} is more than half of the kernel {list(sizes)}; pad before")


# --- adaptive -----------------------------------------------------------------------------------------------------


def _bins(name: str, x: Tensor, axis: int, count: int) -> Tensor:
    """Return which places belong to which of `count` bins, as bool (count, n).

    Bin i is floor(i n / count) .. ceil((i + 1) n / count) - 1.
    """
    n = static(name, x, axis)
    if count < 1 or n < 1:
        raise ShapeError(f"{name}: {n} places of {show(x.shape)} cannot make {count} bins")
    bins = movement.unsqueeze(x.wrap(graph.iota(count)), 1)
    place = movement.unsqueeze(x.wrap(graph.iota(n)), 0)
    return (place >= bins * n // count) & (place < ((bins + 1) * n + (count - 1)) // count)


def adaptive_avg_pool(x: Tensor, output: Each) -> Tensor:
    """Return the means of as many bins along each spatial axis as `output` says, of nearly one size.

    Raises `ShapeError`.
    """
    name = "adaptive_avg_pool"
    rank = _rank(x, output)
    dtype = inexact(x.dtype)
    x = elementwise.cast(x, wide(dtype))
    for axis, count in zip(_spatial(name, x, rank), sequence(output, rank, name, "output"), strict=True):
        n = static(name, x, axis)
        if count and n % count == 0:
            x = reductions.mean(movement.unflatten(x, axis, (count, n // count)), axis + 1)
            continue
        share = elementwise.cast(_bins(name, x, axis, count), x.dtype)
        share = share / reductions.sum(share, 1, keepdims=True)
        x = movement.moveaxis(products.matmul(movement.moveaxis(x, axis, -1), movement.transpose(share)), -1, axis)
    return elementwise.cast(x, dtype)


def adaptive_max_pool(x: Tensor, output: Each) -> Tensor:
    """Return the maxima of as many bins along each spatial axis as `output` says, of nearly one size.

    Raises `ShapeError`.
    """
    name = "adaptive_max_pool"
    rank = _rank(x, output)
    for axis, count in zip(_spatial(name, x, rank), sequence(output, rank, name, "output"), strict=True):
        n = static(name, x, axis)
        if count and n % count == 0:
            x = reductions.max(movement.unflatten(x, axis, (count, n // count)), axis + 1)
            continue
        rows = movement.unsqueeze(movement.moveaxis(x, axis, -1), -2)
        inside = elementwise.where(_bins(name, x, axis, count), rows, _lowest(x))
        x = movement.moveaxis(reductions.max(inside, -1), -1, axis)
    return x


def _lowest(x: Tensor) -> float | int:
    return -math.inf if x.dtype.is_float else x.dtype.min_int
