"""Gradients of reductions and scans.

Products are differentiated without a division, so that zeros among the factors are right: what multiplies a factor is
the product of those before it times that of those after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from portkit.compiler import graph
from portkit.compiler.graph import Node, Size, map_
from portkit.errors import ShapeError
from portkit.spec.types import I32, encode


def sum_over(x: Node, axes: Iterable[int]) -> Node:
    """Return the sum over axes, which stay with extent 1, as one reduction where `x` is itself such a sum.

    `add[1](add[0](x))` becomes `add[0, 1](x)`: a sum is rounded once, and one loop nest computes it.
    """
    wanted = tuple(axes)
    while x.op == "reduce" and x.attr[0] == "add":
        wanted, x = (*wanted, *x.attr[1]), x.inputs[0]
    return graph.reduce("add", x, wanted)


# --- reductions ---------------------------------------------------------------------------------------------------


def _sum(node: Node, g: Node) -> Node:
    return graph.expand(g, node.inputs[0].shape)


def _extreme(node: Node, g: Node) -> Node:
    """Elements that tie share the cotangent."""
    x = node.inputs[0]
    found = map_("eq", x, graph.expand(node, x.shape))
    count = graph.reduce("add", graph.cast(found, g.dtype), node.attr[1])
    share = graph.expand(map_("div", g, count), x.shape)
    return map_("where", found, share, graph.const(g.dtype, 0, x.shape))


def _product(node: Node, g: Node) -> Node:
    """The reduced axes are laid out as one, along which the factors before and after are multiplied up."""
    x = node.inputs[0]
    axes: tuple[int, ...] = node.attr[1]
    if 0 in x.shape:
        return graph.expand(g, x.shape)
    order = [*(i for i in range(x.rank) if i not in axes), *axes]
    moved = graph.permute(x, order)
    line = graph.reshape(moved, (*moved.shape[: x.rank - len(axes)], graph.count([x.shape[i] for i in axes])))
    last = line.rank - 1
    after = graph.flip(_shifted(_running(graph.flip(line, [last])), last, 1, 1), [last])
    others = map_("mul", _shifted(_running(line), last, 1, 1), after)
    back = graph.permute(graph.reshape(others, moved.shape), sorted(range(x.rank), key=order.__getitem__))
    return map_("mul", graph.expand(g, x.shape), back)


def _running(x: Node) -> Node:
    return graph.scan("mul", x, x.rank - 1)


def _shifted(x: Node, axis: int, by: int, fill: float) -> Node:
    """Return `x` moved up `by` places along an axis, with `fill` in the places that become free."""
    spans: list[tuple[Size, Size]] = [(0, n) for n in x.shape]
    spans[axis] = (0, x.shape[axis] - by)
    widths: list[tuple[Size, Size]] = [(0, 0)] * x.rank
    widths[axis] = (by, 0)
    return graph.pad(graph.shrink(x, spans), widths, encode(x.dtype, fill))


REDUCTIONS: dict[str, Callable[[Node, Node], Node]] = {
    "add": _sum,
    "mul": _product,
    "max": _extreme,
    "min": _extreme,
}


# --- scans --------------------------------------------------------------------------------------------------------


def _running_sum(node: Node, g: Node) -> Node:
    axis = node.attr[1]
    return graph.flip(graph.scan("add", graph.flip(g, [axis]), axis), [axis])


def _running_extreme(node: Node, g: Node) -> Node:
    """The cotangent goes to the last element so far that equals the extreme; where none does (NaN), nowhere."""
    x = node.inputs[0]
    axis: int = node.attr[1]
    line = tuple(n if i == axis else 1 for i, n in enumerate(x.shape))
    position = graph.expand(graph.reshape(graph.iota(x.shape[axis]), line), x.shape)
    found = map_("where", map_("eq", x, node), position, graph.const(I32, -1, x.shape))
    return graph.scatter("add", graph.const(g.dtype, 0, x.shape), graph.scan("max", found, axis), g, axis)


def _running_product(node: Node, g: Node) -> Node:
    """dx[i] = (x[0] ... x[i-1]) r[i], where r[i] = g[i] + x[i+1] r[i+1].

    The recurrence is solved in log2(n) steps, each doubling the span that is accounted for (Hillis and Steele 1986);
    each step is kept in memory, as the next reads it at two places.
    """
    x = node.inputs[0]
    axis: int = node.attr[1]
    n = x.shape[axis]
    if not isinstance(n, int):
        raise ShapeError(f"the gradient of a running product needs a fixed extent, axis {axis} has {n}; pad it")
    if 0 in x.shape:
        return g
    total = graph.flip(g, [axis])
    factor = _shifted(graph.flip(x, [axis]), axis, 1, 0)
    span = 1
    while span < n:
        total = graph.store(map_("add", total, map_("mul", factor, _shifted(total, axis, span, 0))))
        factor = graph.store(map_("mul", factor, _shifted(factor, axis, span, 0)))
        span *= 2
    return map_("mul", _shifted(node, axis, 1, 1), graph.flip(total, [axis]))


SCANS: dict[str, Callable[[Node, Node], Node]] = {
    "add": _running_sum,
    "mul": _running_product,
    "max": _running_extreme,
    "min": _running_extreme,
}
