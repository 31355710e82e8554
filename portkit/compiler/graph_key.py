"""What a graph computes, as a digest: equal for graphs that differ only in where their sources' contents come from.

Compiling is slow and a training loop builds the same graph each time round, so programs are kept by this key. It costs
a few microseconds a node. Marks that mean nothing to the compiler are passed over, and nodes that are then equal count
once, so that the key of a graph is that of the graph without marks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, cast

from portkit.compiler.graph import Node, Shape, Source, topological
from portkit.compiler.index import Expr, Variable
from portkit.errors import HarnessError, UsageError
from portkit.spec.types import DType

_PASSED_OVER = frozenset(("detach", "input", "checkpoint"))


def graph_key(outputs: Sequence[Node], passed_over: Iterable[str] = _PASSED_OVER) -> tuple[bytes, list[Source]]:
    """Return the key of a graph, and its sources in the order in which the key numbers them."""
    key = _Key(frozenset(passed_over))
    for node in topological(outputs):
        key.add(node)
    text = "\n".join((*key.numbers, repr([key.places[id(n)] for n in outputs]), repr(key.variables)))
    return hashlib.sha256(text.encode()).digest(), key.sources


class _Key:
    """Numbers nodes by what they say, in order."""

    def __init__(self, passed_over: frozenset[str]) -> None:
        self.numbers: dict[str, int] = {}
        self.places: dict[int, int] = {}
        self.sources: list[Source] = []
        self.variables: dict[str, tuple[int, int]] = {}
        self._passed_over = passed_over
        self._sources: dict[int, int] = {}
        self._shapes: dict[Shape, str] = {}

    def add(self, node: Node) -> None:
        """Number a node whose inputs have numbers."""
        if node.op == "mark" and node.attr[0] in self._passed_over:
            self.places[id(node)] = self.places[id(node.inputs[0])]
            return
        inputs = [self.places[id(i)] for i in node.inputs]
        shape = self._shapes.get(node.shape) or self._shapes.setdefault(node.shape, self._text(node.shape))
        attr = node.attr if type(node.attr) is str else self._text(node.attr)
        said = f"{node.op} {node.dtype.name} {shape} {inputs} {attr}"
        self.places[id(node)] = self.numbers.setdefault(said, len(self.numbers))

    def _text(self, value: Any) -> str:
        """Return a value in words that no other value has."""
        if isinstance(value, tuple):
            return f"({','.join(map(self._text, cast('tuple[Any, ...]', value)))})"
        if isinstance(value, Source):
            return self._source(value)
        if isinstance(value, DType):
            return value.name
        if isinstance(value, Expr):
            return self._expression(value)
        if value is None or isinstance(value, (str, int)):
            return repr(value)
        raise HarnessError(f"a graph holds {value!r}, of which its key knows nothing")

    def _source(self, source: Source) -> str:
        if id(source) not in self._sources:
            self._sources[id(source)] = len(self.sources)
            self.sources.append(source)
        return f"s{self._sources[id(source)]}"

    def _expression(self, e: Expr) -> str:
        for leaf in e.leaves:
            if not isinstance(leaf, Variable):
                raise HarnessError(f"a graph depends on {e}, which is not known at launch")
            known = self.variables.setdefault(leaf.name, (leaf.low, leaf.high))
            if known != (leaf.low, leaf.high):
                raise UsageError(
                    f"dimension {leaf.name} has two ranges in one graph: {known} and {leaf.low, leaf.high}"
                )
        return f"<{e}>"
