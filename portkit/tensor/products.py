"""Products of matrices: each is one multiplication of views and one sum over the last axes, which the compiler knows.

f16 and bf16 multiply and accumulate in f32 and are rounded once; integers stay integers and wrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from portkit.compiler import graph
from portkit.compiler.graph import Node, show
from portkit.errors import AxisError, DTypeError, ShapeError
from portkit.spec.types import BOOL, DType
from portkit.tensor import elementwise, movement
from portkit.tensor.common import Operand, broadcast_node, broadcast_shapes, one_axis, promote_for, tensors_of
from portkit.tensor.promotion import wide

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor


def contract(name: str, a: Node, b: Node, count: int, dtype: DType) -> Node:
    """Return the product of two nodes of broadcastable shapes, summed over the last `count` axes, which go."""
    shape = broadcast_shapes(name, a.shape, b.shape)
    within = wide(dtype)
    left, right = (broadcast_node(graph.cast(n, within), shape) for n in (a, b))
    total = graph.reduce("add", graph.map_("mul", left, right), range(len(shape) - count, len(shape)))
    return graph.cast(graph.reshape(total, shape[: len(shape) - count]), dtype)


def product_dtype(name: str, *tensors: Tensor) -> DType:
    """Return the promoted dtype of the operands of a product of matrices. Raises `DTypeError` for bools."""
    dtype = promote_for(name, [t.dtype for t in tensors])
    if dtype is BOOL:
        raise DTypeError(f"{name} is not defined on bool; cast one operand to i32 or f32")
    return dtype


def matmul(x: Tensor, y: Operand) -> Tensor:
    """Return the product of matrices (..., m, k) and (..., k, n); leading axes broadcast.

    A vector x counts as a row, a vector y as a column, and that axis goes from the result.
    Raises `ShapeError`, `DTypeError`, `DeviceMismatch`.
    """
    x, y = tensors_of("matmul", x, y)
    if not x.ndim or not y.ndim:
        raise ShapeError(f"matmul needs at least one axis, got {show(x.shape)} and {show(y.shape)}; multiply with *")
    dtype = product_dtype("matmul", x, y)
    rows = movement.unsqueeze(x, 0) if x.ndim == 1 else x
    columns = movement.unsqueeze(y, 1) if y.ndim == 1 else y
    if rows.shape[-1] != columns.shape[-2]:
        raise ShapeError(
            f"matmul: shapes {show(x.shape)} and {show(y.shape)} do not fit, {rows.shape[-1]} columns meet "
            f"{columns.shape[-2]} rows; transpose one of them"
        )
    left = movement.unsqueeze(rows, -2)  # (..., m, 1, k)
    right = movement.unsqueeze(movement.transpose(columns), -3)  # (..., 1, n, k)
    result = x.wrap(contract("matmul", left.node, right.node, 1, dtype))
    gone = [axis for axis, vector in ((-2, x.ndim == 1), (-1, y.ndim == 1)) if vector]
    return movement.squeeze(result, gone) if gone else result


def dot(x: Tensor, y: Operand) -> Tensor:
    """Return the inner product of two vectors. Raises `ShapeError`, `DTypeError`, `DeviceMismatch`."""
    x, y = tensors_of("dot", x, y)
    if x.ndim != 1 or y.ndim != 1:
        raise ShapeError(f"dot needs two vectors, got {show(x.shape)} and {show(y.shape)}; use matmul")
    return matmul(x, y)


def outer(x: Tensor, y: Operand) -> Tensor:
    """Return the products of all pairs of elements of two vectors, shape (m, n). Raises `ShapeError`."""
    x, y = tensors_of("outer", x, y)
    if x.ndim != 1 or y.ndim != 1:
        raise ShapeError(f"outer needs two vectors, got {show(x.shape)} and {show(y.shape)}; flatten them")
    return movement.unsqueeze(x, 1) * movement.unsqueeze(y, 0)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x @ weight.T + bias: x (..., k), weight (n, k), bias (n,). Raises as `matmul`."""
    if weight.ndim != 2 or not x.ndim or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"linear: input {show(x.shape)} does not fit weight {show(weight.shape)}; their last extents must agree"
        )
    if bias is None:
        return matmul(x, movement.transpose(weight))
    dtype = product_dtype("linear", x, weight, bias)
    product = matmul(elementwise.cast(x, wide(dtype)), elementwise.cast(movement.transpose(weight), wide(dtype)))
    return elementwise.cast(product + bias, dtype)


def tensordot(x: Tensor, y: Tensor, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """Return products summed over the last `axes` of x and first of y, or over pairs of axes.

    Raises `AxisError`, `ShapeError`, `DTypeError`.
    """
    x, y = tensors_of("tensordot", x, y)
    if isinstance(axes, int):
        axes = (range(x.ndim - axes, x.ndim), range(axes))
    over_x = [one_axis("tensordot", x, a) for a in axes[0]]
    over_y = [one_axis("tensordot", y, a) for a in axes[1]]
    if len(over_x) != len(over_y):
        raise AxisError(f"tensordot needs pairs of axes, got {over_x} and {over_y}")
    if [x.shape[a] for a in over_x] != [y.shape[a] for a in over_y]:
        raise ShapeError(
            f"tensordot: axes {over_x} of {show(x.shape)} and {over_y} of {show(y.shape)} differ in extent"
        )
    free_x = [a for a in range(x.ndim) if a not in over_x]
    free_y = [a for a in range(y.ndim) if a not in over_y]
    dtype = product_dtype("tensordot", x, y)
    left = movement.permute(x, [*free_x, *over_x])
    right = movement.permute(y, [*free_y, *over_y])
    left = movement.reshape(left, (*left.shape[: len(free_x)], *(1 for _ in free_y), *left.shape[len(free_x) :]))
    return x.wrap(contract("tensordot", left.node, right.node, len(over_x), dtype))
