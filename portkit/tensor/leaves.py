"""Which tensors gradients are collected for, what computed tensors were computed from, and whether to record at all.

A tensor with `requires_grad` is a leaf: gradients end there. Each value that it has had is one node, which nothing
else is equal to, so that a loss computed before an update still finds its way to the tensor.

A tensor that is computed becomes the source of its contents. Where a gradient could pass, the source remembers the
node that it was computed from, so that computing something early changes no gradient.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import weakref
from collections.abc import Collection, Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from portkit.compiler import graph
from portkit.compiler.graph import Node
from portkit.tensor.gradient_rules import passes

if TYPE_CHECKING:
    from portkit.tensor.base import Handle

_numbers = itertools.count()
_owners: weakref.WeakKeyDictionary[Node, weakref.ReferenceType[Handle]] = weakref.WeakKeyDictionary()
_origins: weakref.WeakKeyDictionary[Node, Node] = weakref.WeakKeyDictionary()


class _Mode(threading.local):
    recording = True


_mode = _Mode()


def variable(node: Node) -> Node:
    """Return a node of the same value that is equal to no other."""
    return graph.mark(node, "input", number=next(_numbers))


def own(tensor: Handle, node: Node) -> Node:
    """Return the node by which a leaf will hold a value; gradients by it are the leaf's, and go no further."""
    other = owner(node)
    mine = node if node.op == "source" and (other is None or other is tensor) else variable(graph.mark(node, "detach"))
    _owners[mine] = weakref.ref(tensor)
    return mine


def owner(node: Node) -> Handle | None:
    """Return the leaf that has or had a node as its value, if it still collects gradients."""
    found = _owners.get(node)
    tensor = found() if found is not None else None
    return tensor if tensor is not None and tensor.requires_grad else None


class Leaves(Collection[Node]):
    """All nodes that are values of leaves."""

    def __contains__(self, node: object) -> bool:
        return isinstance(node, Node) and owner(node) is not None

    def __iter__(self) -> Iterator[Node]:
        return (node for node in list(_owners) if owner(node) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


# --- what was computed early --------------------------------------------------------------------------------------


def computed(source: Node, origin: Node) -> None:
    """Remember what the contents of a source were computed from, if a gradient can pass there."""
    if _differentiable(origin):
        _origins[source] = origin


def _differentiable(node: Node) -> bool:
    """Return whether a node depends on a leaf or a variable in a way that a gradient can take."""
    seen: set[Node] = set()
    stack = [node]
    while stack:
        node = stack.pop()
        if node in seen or not node.dtype.is_float:
            continue
        seen.add(node)
        if node.op == "mark" and node.attr[0] == "input":
            return True
        if node in _origins or owner(node) is not None:
            return True
        stack.extend(x for k, x in enumerate(node.inputs) if passes(node, k))
    return False


def unfolded(outputs: Sequence[Node]) -> tuple[list[Node], dict[Node, Node]]:
    """Return outputs with sources replaced by what they were computed from, and the way back from those nodes."""
    known: dict[Node, Node] = {}
    frontier = list(outputs)
    while frontier:
        met = [n for n in graph.topological(frontier) if n.op == "source" and n not in known and n in _origins]
        known.update((n, _origins[n]) for n in met)
        frontier = [known[n] for n in met]
    whole: dict[Node, Node] = {}
    for source in sorted(known, key=lambda n: n.attr.number):  # made after all that it was computed from
        whole[source] = graph.substitute([known[source]], whole)[0]
    return graph.substitute(outputs, whole), {node: source for source, node in whole.items()}


# --- whether to record --------------------------------------------------------------------------------------------


def recorded(node: Node) -> Node:
    """Return the node as the result of an operation: inside `no_grad` no gradient passes it."""
    return node if _mode.recording else graph.mark(node, "detach")


def is_recording() -> bool:
    """Return whether gradients pass the results of operations that this thread makes now."""
    return _mode.recording


@contextlib.contextmanager
def recording(on: bool) -> Generator[None]:
    """Set for this thread whether gradients pass the results of operations made meanwhile."""
    before = _mode.recording
    _mode.recording = on
    try:
        yield
    finally:
        _mode.recording = before
