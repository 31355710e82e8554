"""What every tensor operation shares: operands brought to one dtype and shape, and axes checked.

The modules of operations hold plain functions on tensors; `portkit.tensor.tensor.Tensor` lists them as its methods.
So they do not import it: their results come from `Handle.wrap`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

from portkit.compiler import graph
from portkit.compiler.graph import Node, Shape, Size, show
from portkit.errors import AxisError, DeviceMismatch, DTypeError, ShapeError, SpecError
from portkit.spec.types import BOOL, DType, encode
from portkit.tensor.base import Handle, host_array, source_of
from portkit.tensor.promotion import Scalar, as_dtype, promote

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor

Operand: TypeAlias = "Tensor | Scalar | NDArray[Any] | np.number[Any] | np.bool"
Axes: TypeAlias = int | Sequence[int] | None


def is_tensor(value: object) -> TypeGuard[Tensor]:
    """Whether a value is a tensor."""
    return isinstance(value, Handle)


def same_device(name: str, *values: object) -> Tensor:
    """Return the first tensor. Raises `DTypeError` where there is none, `DeviceMismatch` where they live apart."""
    tensors = [v for v in values if is_tensor(v)]
    if not tensors:
        raise DTypeError(
            f"{name} needs a tensor among its operands, got {' and '.join(type(v).__name__ for v in values)}; "
            "make one with Tensor(...)"
        )
    first = tensors[0]
    for other in tensors[1:]:
        if other.device != first.device:
            raise DeviceMismatch(
                f"{name}: operands are on {first.device} and {other.device}; move one with .to({first.device!r})"
            )
    return first


def tensors_of(name: str, *values: Operand) -> list[Tensor]:
    """Return operands as tensors, arrays made into some on the device of the first. Raises as `same_device`."""
    first = same_device(name, *values)
    return [v if is_tensor(v) else first.wrap(node_of(name, v)) for v in values]


def is_scalar(value: object) -> TypeGuard[Scalar]:
    """Whether a value is a plain Python number: NumPy scalars have a dtype of their own and are not."""
    return isinstance(value, (bool, int, float)) and not isinstance(value, np.generic)


def is_operand(value: object) -> bool:
    """Whether a value can be an operand beside a tensor."""
    return is_tensor(value) or is_scalar(value) or isinstance(value, (np.ndarray, np.generic))


def nodes_of(
    name: str, *values: Operand, dtype: DType | None = None, dtypes: Sequence[DType] = ()
) -> tuple[Tensor, list[Node]]:
    """Return the first tensor, and all operands as nodes of one shape and of `dtype`, or of `dtypes` one by one.

    Without either they get the promoted dtype. Raises `DTypeError`, `ShapeError`, `DeviceMismatch` that begin with
    `name`.
    """
    first = same_device(name, *values)
    nodes = [v if is_scalar(v) else node_of(name, v) for v in values]
    known = [n.dtype for n in nodes if isinstance(n, Node)]
    if not dtypes:
        target = dtype or promote_for(name, known, [v for v in nodes if not isinstance(v, Node)])
        dtypes = (target,) * len(nodes)
    shape = broadcast_shapes(name, *(n.shape for n in nodes if isinstance(n, Node)))
    return first, [as_node(name, n, d, shape) for n, d in zip(nodes, dtypes, strict=True)]


def node_of(name: str, value: object) -> Node:
    """Return the node of a tensor or array. Raises `DTypeError` for anything else."""
    if is_tensor(value):
        return value.node
    if isinstance(value, (np.ndarray, np.generic)):
        return source_of(host_array(value))
    raise DTypeError(f"{name} takes tensors and arrays, got {type(value).__name__}")


def dtype_of(name: str, value: object) -> DType:
    """Return the dtype of a tensor or array. Raises `DTypeError` for anything else."""
    if is_tensor(value):
        return value.dtype
    if isinstance(value, (np.ndarray, np.generic)):
        return as_dtype(cast("np.dtype[Any]", value.dtype))
    raise DTypeError(f"{name} takes tensors, arrays and numbers, got {type(value).__name__}")


def promote_for(name: str, dtypes: Sequence[DType], scalars: Sequence[Scalar] = ()) -> DType:
    """Return the promoted dtype; a failure is told of the operation `name`."""
    try:
        return promote(dtypes, scalars)
    except DTypeError as error:
        raise DTypeError(f"{name}: {error}") from None


def promoted(name: str, *operands: Operand) -> DType:
    """Return the promoted dtype of tensors, arrays and numbers. Raises `DTypeError`."""
    dtypes = [dtype_of(name, v) for v in operands if not is_scalar(v)]
    return promote_for(name, dtypes, [v for v in operands if is_scalar(v)])


def as_node(name: str, value: Node | Scalar, dtype: DType, shape: Shape) -> Node:
    """Return an operand as a node of a dtype, broadcast to a shape. Raises `DTypeError` if a number does not fit."""
    if isinstance(value, Node):
        return broadcast_node(graph.cast(value, dtype), shape)
    return constant(name, value, dtype, shape)


def constant(name: str, value: Scalar, dtype: DType, shape: Shape = ()) -> Node:
    """Return a Python number as a constant. Raises `DTypeError` where it does not fit the dtype."""
    try:
        bits = _encoded(dtype, bool(value) if dtype is BOOL else value, math.copysign(1.0, value))
    except (SpecError, OverflowError):
        raise DTypeError(f"{name}: {value} does not fit {dtype}; cast the tensor first") from None
    return graph.const_bits(dtype, bits, shape)


@lru_cache(maxsize=4096)
def _encoded(dtype: DType, value: Scalar, sign: float) -> int:
    """Return the bit pattern of a number; `sign` tells the two zeros apart, which are equal."""
    return encode(dtype, value)


def broadcast_shapes(name: str, *shapes: Shape) -> Shape:
    """Return the shape that all broadcast to, by the rules of NumPy. Raises `ShapeError`."""
    rank = max((len(s) for s in shapes), default=0)
    result: list[Size] = [1] * rank
    for shape in shapes:
        for place, n in enumerate(shape, rank - len(shape)):
            if result[place] == 1:
                result[place] = n
            elif n not in (1, result[place]):
                told = " and ".join(map(show, shapes))
                raise ShapeError(
                    f"{name}: shapes {told} do not broadcast, axis {place - rank} is {result[place]} and {n}; "
                    "reshape, or expand an axis of extent 1"
                )
    return tuple(result)


def broadcast_node(node: Node, shape: Shape) -> Node:
    """Return a node with leading axes added and extents of 1 repeated; the shapes are known to fit."""
    if node.shape == shape:
        return node
    lead = (1,) * (len(shape) - node.rank)
    return graph.expand(graph.reshape(node, lead + node.shape), shape)


# --- axes ---------------------------------------------------------------------------------------------------------


def one_axis(name: str, x: Tensor, axis: int, *, extra: int = 0) -> int:
    """Return an axis counted from the front; `extra` axes may be added by the operation. Raises `AxisError`."""
    rank = x.ndim + extra
    if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise AxisError(f"{name}: an axis is an int, got {axis!r}")
    if not -rank <= axis < rank:
        told = f"{-rank} .. {rank - 1}" if rank else "none: it has rank 0"
        raise AxisError(f"{name}: axis {axis} is out of range for shape {show(x.shape)}; its axes are {told}")
    return int(axis) % rank


def axes_of(name: str, x: Tensor, axis: Axes) -> tuple[int, ...]:
    """Return axes counted from the front, ascending; None stands for all. Raises `AxisError`."""
    if axis is None:
        return tuple(range(x.ndim))
    given = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    axes = [one_axis(name, x, a) for a in given]
    if len(set(axes)) != len(axes):
        raise AxisError(f"{name}: axes {list(given)} name one axis twice; name each once")
    return tuple(sorted(axes))


def static(name: str, x: Tensor, axis: int) -> int:
    """Return an extent that the operation needs as a number. Raises `ShapeError` for a dynamic one."""
    n = x.shape[axis]
    if not isinstance(n, int):
        raise ShapeError(
            f"{name}: axis {axis % x.ndim} of {show(x.shape)} is dynamic; this operation needs a fixed extent"
        )
    return n


def whole(name: str, what: str, value: int) -> int:
    """Return an argument that counts something, an int of Python or NumPy. Raises `ShapeError` for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ShapeError(f"{name}: {what} is an int, got {value!r}")
    return int(value)


def at_least(lowest: int, name: str, **counts: int) -> None:
    """Refuse counts that are no ints or below `lowest`, each told by its name. Raises `ShapeError`."""
    for what, value in counts.items():
        if whole(name, what, value) < lowest:
            raise ShapeError(f"{name}: {what} is at least {lowest}, got {value}")


def sequence(value: int | Sequence[int], count: int, name: str, what: str) -> tuple[int, ...]:
    """Return `count` integers from one, which stands for all, or as many. Raises `ShapeError`."""
    several = isinstance(value, Sequence) and not isinstance(value, str)
    numbers = tuple(whole(name, what, n) for n in (value if several else (value,) * count))  # type: ignore[union-attr]
    if len(numbers) != count:
        raise ShapeError(f"{name}: {what} needs one number or {count}, got {list(numbers)}")
    return numbers
