"""Reverse mode by graph rewriting: the gradient of a graph is a graph, and can be differentiated again.

The walk goes from the output to what it is differentiated by, users before inputs, in the reverse of one fixed order:
the cotangents of a node are added up in that order, so that a gradient is the same graph, and the same bits, every
time. The rules of the operations are in `portkit.tensor.gradient_rules`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from portkit.compiler import graph
from portkit.compiler.graph import Node, map_
from portkit.errors import DTypeError, ShapeError
from portkit.tensor import gradient_windows
from portkit.tensor.gradient_rules import carried, cotangent, passes


def gradients(output: Node, wrt: Sequence[Node], seed: Node | None = None) -> list[Node | None]:
    """Return d(sum of seed * output) / d(node) for each node of `wrt`, None where `output` does not depend on it.

    `seed` has the shape and dtype of `output`, ones by default. A gradient has the shape and dtype of its node.
    Takes time linear in the number of nodes. Raises `DTypeError` for an output that is no float, or an operation whose
    derivative is not implemented; `ShapeError` for a seed that does not fit.
    """
    return gradients_of([output], wrt, [seed_of(output, seed)])


def gradients_of(
    outputs: Sequence[Node], wrt: Sequence[Node], seeds: Sequence[Node], until: Collection[Node] = ()
) -> list[Node | None]:
    """Return the gradients of the sum of seed * output over several outputs; see `gradients`.

    The nodes of `until` count as independent of each other, whatever they are computed from.
    """
    order = graph.topological(outputs, until)
    wanted = frozenset(wrt)
    reached = _reached(order, wanted, until)
    parts: dict[Node, list[Node]] = {}
    for output, seed in zip(outputs, seeds, strict=True):
        if output in reached:
            parts.setdefault(output, []).append(graph.cast(seed, carried(output.dtype)))
    found: dict[Node, Node] = {}
    for node in reversed(order):
        if node not in parts:
            continue
        g = _total(parts.pop(node))
        if node in wanted:
            found[node] = g
        if node in until:
            continue
        for operand, part in _operands(node, g, reached):
            parts.setdefault(operand, []).append(part)
    return [graph.cast(found[n], n.dtype) if n in found else None for n in wrt]


def seed_of(output: Node, seed: Node | None) -> Node:
    """Return the checked weights of the elements of an output, ones by default. Raises `DTypeError`, `ShapeError`."""
    if not output.dtype.is_float:
        raise DTypeError(f"only floats have gradients, the output is {output.dtype}; cast it")
    if seed is None:
        return graph.const(carried(output.dtype), 1, output.shape)
    if seed.shape != output.shape or seed.dtype is not output.dtype:
        raise ShapeError(
            f"the output's gradient is {seed.dtype} {graph.show(seed.shape)}, "
            f"but the output is {output.dtype} {graph.show(output.shape)}"
        )
    return seed


def _reached(order: Sequence[Node], wrt: Collection[Node], until: Collection[Node]) -> set[Node]:
    """Return the nodes through which a cotangent can come to one of `wrt`."""
    reached: set[Node] = set()
    for node in order:
        through = node not in until and any(x in reached and passes(node, k) for k, x in enumerate(node.inputs))
        if through or node in wrt:
            reached.add(node)
    return reached


def _total(parts: Sequence[Node]) -> Node:
    total = parts[0]
    for part in parts[1:]:
        total = map_("add", total, part)
    return total


def _operands(node: Node, g: Node, reached: Collection[Node]) -> list[tuple[Node, Node]]:
    """Return the operands that take part and their cotangents."""
    if node.op == "mark" and node.attr[0] == "checkpoint":
        return _recomputed(node, g, reached)
    windows = gradient_windows.recognise(node)
    if windows is not None:
        part = gradient_windows.cotangent(windows, g)
        if part is not None:
            return [(windows.origin, part)]
    return [(x, cotangent(node, g, k)) for k, x in enumerate(node.inputs) if x in reached and passes(node, k)]


def _recomputed(node: Node, g: Node, reached: Collection[Node]) -> list[tuple[Node, Node]]:
    """Return the cotangents of a checkpoint's starting points, through a copy that is computed once `g` is known."""
    end, *starts = node.inputs
    count = node.attr[1]
    copies = {x: graph.mark(x, "again", g) if k < count else x for k, x in enumerate(starts)}
    copy = graph.substitute([end], copies)[0]
    wanted = [x for x in starts if x in reached]
    at = [copies[x] for x in wanted]
    found = gradients_of([copy], at, [g], frozenset(copies.values()))
    return [(x, graph.cast(part, carried(x.dtype))) for x, part in zip(wanted, found, strict=True) if part is not None]


def checkpoint(end: Node, starts: Sequence[Node]) -> Node:
    """Return `end` such that what lies between `starts` and it is computed anew for the gradient, rather than kept.

    What else that part of the graph uses is kept or recomputed as it would be without. `end` itself where it does not
    depend on `starts`.
    """
    within: set[Node] = set()
    used: dict[Node, None] = {}
    begin = frozenset(starts)
    for node in graph.topological([end], begin):
        if node not in begin and any(x in within or x in begin for x in node.inputs):
            within.add(node)
            used.update(dict.fromkeys(node.inputs))
    if end not in within:
        return end
    first = list(dict.fromkeys(x for x in starts if x in used))
    others = [x for x in used if x not in within and x not in begin and x.dtype.is_float and x.op != "const"]
    return graph.mark(end, "checkpoint", *first, *others, number=len(first))
