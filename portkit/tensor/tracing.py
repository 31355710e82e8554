"""Tracing a function of tensors: which tensors from outside it reads, with stand-ins for their values meanwhile.

While a trace runs, a tensor that was made before it gets a new source for its value when it is first read; so what the
function computes is a graph of those sources, whatever the tensors hold. Tensors made during the trace are left alone.
In the end every tensor gets back what it held.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from portkit.compiler import graph
from portkit.compiler.graph import Node, Source
from portkit.errors import TensorError

if TYPE_CHECKING:
    from portkit.tensor.base import Handle


class Unknown:
    """The buffer of a stand-in: whoever needs what it holds is told that there is nothing yet."""

    @property
    def device(self) -> str:
        """Raise `TensorError`: the place of a value that a trace stands in for is asked for."""
        raise TensorError(
            "a captured function needs the value of a tensor while it is captured (item, numpy, to, or a tensor in an "
            "if); compute with tensors (where, masks), or return the tensor and look at it outside"
        )


@dataclass(slots=True)
class Seen:
    """A tensor from outside: what it held, its stand-in, and the gradient that it had."""

    tensor: Handle
    before: Node
    stand_in: Node
    grad: Handle | None


def stand_in(tensor: Handle) -> Node:
    """Return a new source for the value of a tensor."""
    return graph.source(Source(tensor.dtype, tensor.shape, Unknown()))


class Trace:
    """What one run of a function reads."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.seen: dict[int, Seen] = {}
        self._made: dict[int, Handle] = {}

    def made(self, tensor: Handle) -> None:
        """Note a tensor that is made during the trace."""
        self._made[id(tensor)] = tensor

    def inside(self, tensor: Handle) -> bool:
        """Whether a tensor was made during the trace."""
        return id(tensor) in self._made

    def read(self, tensor: Handle) -> None:
        """Give a tensor from outside its stand-in, the first time that it is read."""
        if id(tensor) in self._made or id(tensor) in self.seen:
            return
        node = stand_in(tensor)
        self.seen[id(tensor)] = Seen(tensor, tensor._node, node, tensor._grad)
        tensor._node = node
        if tensor.requires_grad:
            tensor.requires_grad = True  # a leaf's node is known as its own

    def restore(self) -> None:
        """Give every tensor back what it held before."""
        for seen in self.seen.values():
            seen.tensor._node, seen.tensor._grad = seen.before, seen.grad


_running: Trace | None = None
_one_at_a_time = threading.RLock()


def current() -> Trace | None:
    """Return the trace that runs in this thread, if there is one."""
    return _running if _running is not None and _running.thread == threading.get_ident() else None


def made(tensor: Handle) -> None:
    """Tell a running trace of a new tensor."""
    if _running is not None and _running.thread == threading.get_ident():
        _running.made(tensor)


def read(tensor: Handle) -> None:
    """Tell a running trace that a tensor is read."""
    if _running is not None and _running.thread == threading.get_ident():
        _running.read(tensor)


@contextmanager
def tracing() -> Generator[Trace]:
    """Trace what this thread does inside; the caller restores the tensors."""
    global _running
    with _one_at_a_time:
        _running = trace = Trace()
        try:
            yield trace
        finally:
            _running = None


def check_known(nodes: Iterable[Node]) -> None:
    """Raise `TensorError` where a node depends on a value that a trace stands in for."""
    for node in graph.topological(nodes):
        if node.op == "source" and isinstance(node.attr.buffer, Unknown):
            _ = node.attr.buffer.device
