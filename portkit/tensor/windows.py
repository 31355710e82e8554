"""Sliding windows as a view: no element is copied, and the position of each is exactly i * stride + k * dilation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from portkit.compiler import graph
from portkit.compiler.graph import Node, Size, show
from portkit.errors import ShapeError

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor


def windows(
    x: Tensor, axes: Sequence[int], sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Tensor:
    """Return every window along axes: each axis of extent n gets the number of windows, (n - d(k-1) - 1) // s + 1.

    The places within the windows are new last axes, in the order of `axes`. Raises `ShapeError` where no window fits.
    """
    node = x.node
    for axis, size, step, dilation in zip(axes, sizes, strides, dilations, strict=True):
        node = _windows(node, axis, size, step, dilation)
    return x.wrap(node)


def _windows(x: Node, axis: int, k: int, s: int, d: int) -> Node:
    """Return windows along one axis, their places last.

    A row of n is repeated, cut into k rows of n + d, and the ends are dropped: row j begins j * d later than row 0,
    because j * (n + d) is j * d once whole rows of n are taken off. Then the windows begin at the columns 0, s, 2s, ...
    """
    n, reach = x.shape[axis], d * (k - 1) + 1
    if min(k, s, d) < 1 or (isinstance(n, int) and n < reach):
        raise ShapeError(
            f"windows of {k} by steps of {s}, dilated by {d}, do not fit axis {axis} of {show(x.shape)}; pad it"
        )
    count = (n - reach) // s + 1
    if k == 1:
        return graph.reshape(_every(x, axis, count, s), (*x.shape[:axis], count, *x.shape[axis + 1 :], 1))
    rows = _side_by_side(x, axis, count, k) if d == 1 and s == k else _overlapping(x, axis, count, k, s, d)
    order = [a for a in range(rows.rank) if a != axis + 1]
    return graph.permute(rows, [*order, axis + 1])


def _side_by_side(x: Node, axis: int, count: Size, k: int) -> Node:
    """Return windows that neither overlap nor leave gaps, shape (..., count, k, ...): one reshape."""
    whole = _cut(x, axis, count * k)
    return graph.reshape(whole, (*x.shape[:axis], count, k, *x.shape[axis + 1 :]))


def _overlapping(x: Node, axis: int, count: Size, k: int, s: int, d: int) -> Node:
    """Return windows in general, shape (..., count, k, ...)."""
    n = x.shape[axis]
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    copies = k + (-(-k * d // n) if isinstance(n, int) else k * d)  # at least k (n + d) elements
    repeated = graph.expand(graph.reshape(x, (*before, 1, n, *after)), (*before, copies, n, *after))
    row = graph.reshape(repeated, (*before, copies * n, *after))
    rows = graph.reshape(_cut(row, axis, (n + d) * k), (*before, k, n + d, *after))
    chosen = _every(rows, axis + 1, count, s)
    order = list(range(chosen.rank))
    order[axis], order[axis + 1] = axis + 1, axis
    return graph.permute(chosen, order)


def _every(x: Node, axis: int, count: Size, s: int) -> Node:
    """Return `count` elements along an axis, s apart, from the first."""
    span = _cut(x, axis, (count - 1) * s + 1)
    return graph.stride(span, [s if a == axis else 1 for a in range(x.rank)])


def _cut(x: Node, axis: int, length: Size) -> Node:
    """Return the first elements along an axis."""
    return graph.shrink(x, [(0, length if a == axis else n) for a, n in enumerate(x.shape)])
