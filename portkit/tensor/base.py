"""What a tensor is made of: a graph node, a device, and how data of the host become a node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from portkit.compiler import graph
from portkit.compiler.graph import Node, Shape, Size, Source
from portkit.errors import DTypeError, ShapeError, UsageError
from portkit.runtime.buffers import aligned
from portkit.runtime.devices import default_name
from portkit.spec.types import BOOL, DTYPES, I32, DType
from portkit.tensor import tracing
from portkit.tensor.leaves import own, recorded
from portkit.tensor.promotion import DEFAULT_FLOAT, DTypeLike, as_dtype

Array: TypeAlias = NDArray[Any]

DEFAULT_DEVICE = default_name()
"""Where tensors are that name no device; the environment is read once."""


def device_name(device: str | None) -> str:
    """Return the name of a device, by default that of the default one. Raises `UsageError` for what is no name."""
    if device is not None and not isinstance(device, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"a device is named by the name of its backend, such as {DEFAULT_DEVICE!r}, got {device!r}")
    return device or DEFAULT_DEVICE


@dataclass(frozen=True, slots=True)
class HostBuffer:
    """Contents of a source in the memory of the host; never written to, so that tensors may share them."""

    array: Array


class Handle:
    """A node of a graph and the device that will compute it: what every tensor operation works on."""

    __slots__ = ("__weakref__", "_device", "_grad", "_node", "_requires_grad")

    _node: Node
    _device: str
    _requires_grad: bool
    _grad: Self | None

    @classmethod
    def of(cls, node: Node, device: str = DEFAULT_DEVICE) -> Self:
        """Return the tensor that a graph node computes on a device."""
        self = cls.__new__(cls)
        self._node = node
        self._device = device
        self._requires_grad = False
        self._grad = None
        tracing.made(self)
        return self

    def wrap(self, node: Node) -> Self:
        """Return the tensor that `node`, the result of an operation, computes on the device of this one."""
        return self.of(recorded(node), self._device)

    def _take(self, node: Node) -> None:
        """Take the value of a node; a leaf remains one."""
        tracing.read(self)
        self._node = own(self, node) if self._requires_grad else node

    @property
    def requires_grad(self) -> bool:
        """Whether this is a leaf: a tensor for which `backward` collects gradients in `grad`, and where they end.

        Results of operations on leaves are none themselves. Raises `DTypeError` when set for a dtype that is no float.
        """
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if wanted and not self.dtype.is_float:
            raise DTypeError(f"requires_grad: only floats have gradients, the tensor is {self.dtype}; cast it")
        self._requires_grad = wanted
        self._take(self._node)

    @property
    def grad(self) -> Self | None:
        """The gradient that `backward` collected for this leaf, None where there is none."""
        tracing.read(self)
        return self._grad

    @grad.setter
    def grad(self, gradient: Self | None) -> None:
        tracing.read(self)
        self._grad = gradient

    @property
    def node(self) -> Node:
        """What computes this tensor, as a graph."""
        tracing.read(self)
        return self._node

    @property
    def device(self) -> str:
        """The name of the device that holds or will compute this tensor."""
        return self._device

    @property
    def dtype(self) -> DType:
        """The number format of the elements."""
        return self._node.dtype

    @property
    def shape(self) -> Shape:
        """The extents; a dynamic dimension's is an index expression."""
        return self._node.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self._node.shape)

    @property
    def size(self) -> Size:
        """The number of elements."""
        total: Size = 1
        for n in self._node.shape:
            total = total * n
        return total


def source_of(array: Array, name: str = "") -> Node:
    """Return the node of an array that nobody will write to. Raises `DTypeError` for a dtype of no number format."""
    dtype = as_dtype(array.dtype)
    return graph.source(Source(dtype, array.shape, HostBuffer(array), name))


def host_array(data: Any, dtype: DTypeLike | None = None) -> Array:
    """Return a new array of numbers, nested sequences or an array, in the dtype, by default that of the data.

    Python integers give i32, floats f32. Raises `DTypeError` where a number does not fit, `ShapeError` for ragged data.
    """
    wanted = None if dtype is None else as_dtype(dtype)
    if isinstance(data, (np.ndarray, np.generic)) or hasattr(data, "__array__"):
        array: Array = np.asarray(cast(Any, data))
        known = as_dtype(array.dtype)
    else:
        array = _array_of_python(data)
        known = BOOL if array.dtype.kind == "b" else I32 if array.dtype.kind in "iu" else DEFAULT_FLOAT
        if (wanted or known).is_int:
            _check_range(array, wanted or known)
    target = wanted or known
    return _copied(array, target) if target is known else _converted(array, target)


def _copied(array: Array, dtype: DType) -> Array:
    """Return a copy that a device which works in the memory of the host uses in place."""
    copy = aligned(array.shape, dtype.numpy)
    with np.errstate(all="ignore"):
        copy[...] = array
    return copy


def _array_of_python(data: Any) -> Array:
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ShapeError(f"Tensor: the data is ragged: {error}; give sequences of one length at each depth") from error
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"Tensor: cannot make numbers of {type(data).__name__} data ({array.dtype})")
    return array


def _check_range(array: Array, dtype: DType) -> None:
    if array.dtype.kind in "iu" and array.size:
        low, high = int(array.min()), int(array.max())
        if low < dtype.min_int or high > dtype.max_int:
            wide = next((d for d in DTYPES.values() if d.is_int and d.min_int <= low and high <= d.max_int), None)
            hint = f"; give dtype={wide.name!r}" if wide else ""
            raise DTypeError(f"Tensor: {low if low < dtype.min_int else high} does not fit {dtype}{hint}")


def _converted(array: Array, target: DType) -> Array:
    """Return an array converted by the rules of the graph's cast, so that data and `Tensor.cast` agree."""
    from portkit.compiler.evaluate_functions import cast

    with np.errstate(all="ignore"):
        return np.ascontiguousarray(cast(array, as_dtype(array.dtype), target)).reshape(array.shape)
