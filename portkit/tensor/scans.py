"""Running folds along an axis, inclusive. f16 and bf16 accumulate in f32, each result rounded once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portkit.compiler import graph
from portkit.tensor import elementwise, movement
from portkit.tensor.common import one_axis
from portkit.tensor.promotion import accumulator, wide

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor


def _scan(name: str, kind: str, x: Tensor, axis: int) -> Tensor:
    at = one_axis(name, x, axis)
    return x.wrap(graph.scan(kind, x.node, at))


def _accumulated(name: str, kind: str, x: Tensor, axis: int) -> Tensor:
    dtype = accumulator(x.dtype)
    return elementwise.cast(_scan(name, kind, elementwise.cast(x, wide(dtype)), axis), dtype)


def cumsum(x: Tensor, axis: int) -> Tensor:
    """Return the sums of the elements up to each; dtypes as in `sum`. Raises `AxisError`, `DTypeError`."""
    return _accumulated("cumsum", "add", x, axis)


def cumprod(x: Tensor, axis: int) -> Tensor:
    """Return the products of the elements up to each; dtypes as in `sum`. Raises `AxisError`, `DTypeError`."""
    return _accumulated("cumprod", "mul", x, axis)


def cummax(x: Tensor, axis: int) -> Tensor:
    """Return the maximum of the elements up to each, NaN from the first NaN on. Raises `AxisError`, `DTypeError`."""
    return _scan("cummax", "max", x, axis)


def cummin(x: Tensor, axis: int) -> Tensor:
    """Return the minimum of the elements up to each, NaN from the first NaN on. Raises `AxisError`, `DTypeError`."""
    return _scan("cummin", "min", x, axis)


def diff(x: Tensor, axis: int = -1) -> Tensor:
    """Return the differences of neighbours along an axis, one fewer than elements. Raises `AxisError`, `ShapeError`."""
    n = x.shape[one_axis("diff", x, axis)]
    return movement.narrow(x, axis, 1, n - 1) - movement.narrow(x, axis, 0, n - 1)
