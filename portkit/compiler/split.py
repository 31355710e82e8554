"""Splitting reductions: one that has few results and much to read becomes two, so that the first can use all workers.

reduce add x[1000000] -> [1]      ->      reduce add x[64, 15625] -> [64, 1];  reduce add [64] -> [1]
"""

from __future__ import annotations

from collections.abc import Sequence

from portkit.compiler import graph
from portkit.compiler.extents import count
from portkit.compiler.graph import Node, topological, with_inputs
from portkit.spec.types import BF16, F16, F32

_LEAST_WORK = 1 << 16
_LEAST_PART = 1 << 10


def split_reductions(outputs: Sequence[Node], rows: int) -> list[Node]:
    """Return `outputs` with every large reduction to fewer than `rows` results made in two steps."""
    new: dict[Node, Node] = {}
    for node in topological(outputs):
        made = with_inputs(node, tuple(new[i] for i in node.inputs))
        new[node] = _split(made, rows) if made.op == "reduce" and made.attr[0] != "attend" else made
    return [new[n] for n in outputs]


def _split(node: Node, rows: int) -> Node:
    x = node.inputs[0]
    if not all(isinstance(n, int) for n in x.shape) or count(node.shape) >= rows or count(x.shape) < _LEAST_WORK:
        return node
    kind: str = node.attr[0]
    axes: tuple[int, ...] = node.attr[1]
    axis = max(axes, key=lambda a: (count((x.shape[a],)), -a))
    extent = count((x.shape[axis],))
    parts = _parts(extent, min(rows * 4, count(x.shape) // _LEAST_PART), rows)
    if parts == 1:
        return node
    if x.dtype in (F16, BF16) and kind in ("add", "mul"):
        return graph.cast(_two_steps(kind, graph.cast(x, F32), axes, axis, parts), x.dtype)
    return _two_steps(kind, x, axes, axis, parts)


def _two_steps(kind: str, x: Node, axes: Sequence[int], axis: int, parts: int) -> Node:
    whole = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    cut = (*x.shape[:axis], parts, count((x.shape[axis],)) // parts, *x.shape[axis + 1 :])
    inside = [a if a < axis else a + 1 for a in axes]  # the parts stand before what is left of the axis
    first = graph.store(graph.reduce(kind, graph.reshape(x, cut), inside))
    return graph.reshape(graph.reduce(kind, first, [axis]), whole)


def _parts(extent: int, most: int, rows: int) -> int:
    """Return a divisor of the extent, as large as is worth it and enough for all workers; 1 if there is none."""
    return next((p for p in range(min(most, extent), rows // 2, -1) if extent % p == 0), 1)
