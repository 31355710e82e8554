"""Dynamic dimensions: extents that are bounded but not fixed, so that one compiled kernel serves all their values.

    n = Dimension("n", 1, 1024)
    y = model(dynamic(x, 0, n))         # compiled once, whatever extent up to 1024 the first axis of x has

Tensors whose shapes have the same dimension have the same extent there, or computing them together is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portkit.compiler import graph
from portkit.compiler.graph import Source, show
from portkit.compiler.index import Expr, Variable
from portkit.errors import AxisError, ShapeError
from portkit.tensor import realising
from portkit.tensor.base import HostBuffer

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor

Dimension = Variable
"""A dimension by name, with the least and the largest extent that it can have."""


def dynamic(x: Tensor, axis: int, dimension: Variable) -> Tensor:
    """Return the tensor with the extent of one axis known only as `dimension` to what is built on it.

    The tensor is computed if need be. Raises `AxisError`, and `ShapeError` for an extent outside the dimension's bounds
    or one that is dynamic already.
    """
    if not -x.ndim <= axis < x.ndim:
        raise AxisError(f"dynamic: axis {axis} is out of range for shape {show(x.shape)}")
    place = axis % x.ndim
    extent = x.shape[place]
    if not isinstance(extent, int):
        raise ShapeError(f"dynamic: axis {axis} of {show(x.shape)} is dynamic already")
    if not dimension.low <= extent <= dimension.high:
        bounds = f"{dimension.low} to {dimension.high}"
        raise ShapeError(f"dynamic: axis {axis} of {show(x.shape)} is not within {bounds} of dimension {dimension}")
    realising.realise([x])
    held: Source = x.node.attr
    extents: dict[Expr, int] = {**held.extents, dimension: extent}
    shape = (*x.shape[:place], dimension, *x.shape[place + 1 :])
    buffer = HostBuffer(held.buffer.array) if isinstance(held.buffer, HostBuffer) else held.buffer
    return x.wrap(graph.source(Source(x.dtype, shape, buffer, held.name, extents=extents)))
