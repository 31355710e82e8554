"""Computing tensors: the one place where the lazy library meets what runs graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from portkit.compiler import graph
from portkit.compiler.graph import Source
from portkit.compiler.index import Expr, evaluate, leaves
from portkit.compiler.storage import from_device, storage, to_device
from portkit.errors import DeviceMismatch, ShapeError
from portkit.tensor import tracing
from portkit.tensor.base import HostBuffer

if TYPE_CHECKING:
    from portkit.runtime.buffers import Buffer
    from portkit.runtime.devices import RuntimeDevice
    from portkit.tensor.tensor import Tensor

MAX_RANK = 64
"""Axes of an array in NumPy."""


def realise(tensors: Sequence[Tensor]) -> None:
    """Compute tensors together, so that they share work; each becomes the source of its own contents.

    While a function is captured nothing is computed: all of it will be, by what is captured.
    Raises `DeviceMismatch` where a tensor needs contents that are on another device.
    """
    if tracing.current() is None:
        _realise(tensors)


def _realise(tensors: Sequence[Tensor]) -> None:
    from portkit.runtime.devices import open_device
    from portkit.runtime.programs import compute

    for name in dict.fromkeys(t.device for t in tensors):
        waiting = [t for t in tensors if t.device == name and t.node.op != "source"]
        if not waiting:
            continue
        device = open_device(name)
        nodes = [t.node for t in waiting]
        extents: dict[str, int] = {}
        for node in graph.topological(nodes):  # the program may need none of them, and still a shape of theirs
            if node.op == "source":
                note_extents(node.attr, extents)
        buffers = compute(device, nodes, lambda s, device=device, extents=extents: given(s, device, extents), extents)
        for tensor, node, buffer in zip(waiting, nodes, buffers, strict=True):
            tensor.rebind(graph.source(Source(node.dtype, node.shape, buffer, extents=extents_of(node.shape, extents))))


def given(source: Source, device: RuntimeDevice, extents: dict[str, int]) -> Buffer:
    """Return a source's contents on a device, and note the values of its dynamic extents."""
    note_extents(source, extents)
    return buffer_of(source, device)


def note_extents(source: Source, extents: dict[str, int]) -> None:
    """Add the values of a source's dynamic extents to those known. Raises `ShapeError` where they differ."""
    for dimension, extent in source.extents.items():
        if extents.setdefault(str(dimension), extent) != extent:
            other = extents[str(dimension)]
            raise ShapeError(f"dimension {dimension} is {other} in one tensor and {extent} in another")


def extents_of(shape: graph.Shape, extents: Mapping[str, int]) -> dict[Expr, int]:
    """Return the value of each dimension that a shape depends on."""
    return {leaf: extents[str(leaf)] for n in shape if isinstance(n, Expr) for leaf in leaves(n)}


def buffer_of(source: Source, device: RuntimeDevice) -> Buffer:
    """Return a source's contents on a device; an array of the host goes there the first time that it is needed."""
    from portkit.runtime.buffers import from_array

    held = source.buffer
    if isinstance(held, HostBuffer):
        stored = to_device(held.array, storage(source.dtype, device.capabilities))
        held = source.buffer = from_array(device, stored)
    if held.device is not device:
        held.device.check()  # closed, or left behind by a fork
        raise DeviceMismatch(f"a tensor on {held.device.name} is needed on {device.name}: use .to({device.name!r})")
    return held


def contents(tensor: Tensor) -> NDArray[Any]:
    """Return the elements as an array of the host, computed if need be; it is not to be written to.

    Raises `TensorError` while a function is captured for what depends on its arguments, `ShapeError` for more axes than
    arrays have.
    """
    if tensor.ndim > MAX_RANK:
        raise ShapeError(f"a tensor of rank {tensor.ndim} is no array, which has at most {MAX_RANK} axes; reshape it")
    if tracing.current() is not None:
        tracing.check_known([tensor.node])
    _realise([tensor])
    origin: Source = tensor.node.attr
    held = origin.buffer
    if isinstance(held, HostBuffer):
        return held.array
    shape = [int(evaluate(n, origin.extents)) for n in tensor.shape]
    stored = storage(tensor.dtype, held.device.capabilities)
    count = stored.bytes
    for n in shape:
        count *= n
    raw = held.array(np.uint8, (count,))
    raw.flags.writeable = False
    return from_device(raw.data, tensor.dtype, shape, stored)
