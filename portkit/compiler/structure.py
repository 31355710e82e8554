"""The structure of a graph: what is equal for graphs that differ only in which sources they read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portkit.compiler.graph import Node, Source, topological


def structure(outputs: Sequence[Node]) -> tuple[tuple[Any, ...], list[Source]]:
    """Return a hashable structure, and the sources in the order in which it numbers them."""
    numbers: dict[Node, int] = {}
    sources: list[Source] = []
    rows: list[tuple[Any, ...]] = []
    for node in topological(outputs):
        attr = node.attr
        if node.op == "source":
            attr = len(sources)
            sources.append(node.attr)
        elif node.op == "mark":
            attr = attr[0]  # the number only keeps nodes apart
        rows.append((node.op, node.dtype.name, node.shape, tuple(numbers[i] for i in node.inputs), attr))
        numbers[node] = len(numbers)
    return (tuple(rows), tuple(numbers[n] for n in outputs)), sources
