"""Computing tensors: the one place where the lazy library meets what runs graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from portkit.compiler import graph
from portkit.compiler.evaluate import evaluate
from portkit.tensor.base import HostBuffer, source_of

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor


def realise(tensors: Sequence[Tensor]) -> None:
    """Compute tensors together, so that they share work; each becomes the source of its own contents."""
    waiting = [t for t in tensors if t.node.op != "source"]
    if not waiting:
        return
    nodes = [t.node for t in waiting]
    contents = {n.attr: n.attr.buffer.array for n in graph.topological(nodes) if n.op == "source"}
    for tensor, array in zip(waiting, evaluate(nodes, contents), strict=True):
        tensor.rebind(source_of(np.asarray(array, order="C")))


def contents(tensor: Tensor) -> NDArray[Any]:
    """Return the elements as an array of the host, computed if need be; it is not to be written to."""
    realise([tensor])
    buffer = tensor.node.attr.buffer
    assert isinstance(buffer, HostBuffer)
    return buffer.array
