"""Masks: choosing elements by bools, in tensors whose size is known beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portkit.compiler import graph
from portkit.compiler.graph import show
from portkit.errors import DTypeError, ShapeError
from portkit.spec.types import BOOL
from portkit.tensor import elementwise, movement, scans
from portkit.tensor.common import Operand, at_least, broadcast_shapes, constant, same_device

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor


def masked_fill(x: Tensor, mask: Tensor, value: Operand) -> Tensor:
    """Return x with `value` where the mask holds, in the dtype of x; all broadcast.

    Raises `ShapeError`, `DTypeError`.
    """
    if mask.dtype is not BOOL:
        raise DTypeError(f"masked_fill needs a bool mask, got {mask.dtype}; compare first")
    return elementwise.cast(elementwise.where(mask, value, x), x.dtype)


def masked_select(x: Tensor, mask: Tensor, size: int) -> Tensor:
    """Return the elements where the mask holds, in row-major order, as a vector of `size`.

    If there are fewer, zeros follow; if there are more, the rest is left out. Raises `ShapeError`, `DTypeError`.
    """
    same_device("masked_select", x, mask)
    if mask.dtype is not BOOL:
        raise DTypeError(f"masked_select needs a bool mask, got {mask.dtype}; compare first")
    at_least(0, "masked_select", size=size)
    shape = broadcast_shapes("masked_select", x.shape, mask.shape)
    flat, chosen = (movement.flatten(movement.expand(t, shape)) for t in (x, mask))
    places = elementwise.where(chosen, scans.cumsum(chosen, 0) - 1, -1)
    empty = constant("masked_select", 0, x.dtype, (size,))
    return x.wrap(graph.scatter("set", empty, places.node, flat.node, 0))


def nonzero(x: Tensor, size: int) -> Tensor:
    """Return the places of the elements other than zero, one row each, as i32 (size, ndim), in row-major order.

    If there are fewer than `size`, rows of -1 follow; if there are more, the rest is left out.
    """
    if x.ndim == 0:
        raise ShapeError("nonzero needs at least one axis, got (); reshape it to (1,)")
    at_least(0, "nonzero", size=size)
    mask = elementwise.cast(x, BOOL)
    places = movement.reshape(mask.wrap(graph.iota(x.size)), x.shape)
    flat = masked_select(places + 1, mask, size) - 1
    columns: list[Tensor] = []
    rest = flat
    for n in reversed(x.shape):
        if not isinstance(n, int):
            raise ShapeError(f"nonzero: {show(x.shape)} has a dynamic axis; its places need fixed extents")
        columns.append(elementwise.where(flat < 0, -1, rest % n))
        rest = rest // n
    return movement.stack(columns[::-1], 1)
