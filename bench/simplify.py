"""How many graph nodes are simplified per second: a chain of attention-like blocks, about 10,000 nodes.

Prints the nodes before and after, and nodes per second: the median of repetitions.
"""

from __future__ import annotations

import statistics
import time

from portkit.compiler import graph as g
from portkit.compiler.graph import Node
from portkit.compiler.simplify import simplify
from portkit.spec.types import F32

BLOCKS = 500
REPETITIONS = 7
N = 64


def block(x: Node, weight: Node) -> Node:
    """Return a product of matrices, a softmax, a scale and a sum with the input, with movement that cancels."""
    left = g.expand(g.reshape(x, (N, N, 1)), (N, N, N))
    right = g.expand(g.reshape(weight, (1, N, N)), (N, N, N))
    y = g.reshape(g.reduce("add", g.map_("mul", left, right), [1]), (N, N))
    e = g.map_("exp", g.map_("sub", y, g.expand(g.reduce("max", y, [1]), (N, N))))
    y = g.map_("div", e, g.expand(g.reduce("add", e, [1]), (N, N)))
    y = g.map_("add", g.map_("mul", g.const(F32, 0.5, (N, N)), y), x)
    return g.map_("add", y, g.permute(g.permute(y, (1, 0)), (1, 0)))


def main() -> None:
    """Build the graph, simplify it, and print the rate."""
    x = g.source(g.Source(F32, (N, N)))
    for _ in range(BLOCKS):
        x = block(x, g.source(g.Source(F32, (N, N))))
    before = len(g.topological([x]))
    seconds: list[float] = []
    result = x
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        (result,) = simplify([x])
        seconds.append(time.perf_counter() - start)
    after = len(g.topological([result]))
    print(f"{before} -> {after} nodes, {before / statistics.median(seconds):,.0f} nodes/s")


if __name__ == "__main__":
    main()
