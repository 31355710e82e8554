"""Gradients of strided and of overlapping views, written so that they stay cheap to index."""

from __future__ import annotations

from collections.abc import Sequence

from portkit.compiler import graph
from portkit.compiler.graph import Node, Shape, Size


def dilate(x: Node, steps: Sequence[int], shape: Shape) -> Node:
    """Return zeros of a shape with the elements of `x` at every step-th place: what `graph.stride` undoes.

    `[a, b]` by 2 to extent 3 is `[a, 0, b]`: each element gets an axis of its own, which is padded and merged.
    """
    split: list[Size] = []
    widths: list[tuple[Size, Size]] = []
    for n, step in zip(x.shape, steps, strict=True):
        split += [n, 1]
        widths += [(0, 0), (0, step - 1)]
    spread = graph.pad(graph.reshape(x, split), widths)
    merged = graph.reshape(spread, [n * step for n, step in zip(x.shape, steps, strict=True)])
    return graph.shrink(merged, [(0, n) for n in shape])
