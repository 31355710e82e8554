"""Graph -> graph: constants folded, exact algebra, movement merged; what is computed stays the same, bit for bit.

Rules are functions of a node whose inputs are simplified already; each returns the node that stands for it, or None.
A rule's docstring is its before and after. All are exact for every dtype, signed zeros, infinities and NaN included;
only payload and sign of a NaN are free (Spec: numeric_c6). What would not be exact is not here: x + 0.0 is not x.

    simplify_constants    what is the same value everywhere, and functions of constants
    simplify_functions    elementwise functions
    simplify_views        movement
    simplify_folds        reductions, scans, gathers and scatters
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from portkit.compiler.graph import Node, const_bits, with_inputs
from portkit.compiler.simplify_folds import FOLD_RULES
from portkit.compiler.simplify_functions import FUNCTION_RULES
from portkit.compiler.simplify_views import VIEW_RULES

Rule: TypeAlias = Callable[[Node], Node | None]

KEPT: Final = frozenset(("source", "const", "iota", "store", "mark"))
"""Operations that no rule looks at."""


def simplify(outputs: Sequence[Node]) -> list[Node]:
    """Return nodes of the same dtypes, shapes and values as `outputs`, with every rule applied until none applies.

    Linear in the number of nodes, and without recursion.
    """
    done: dict[Node, Node] = {}
    turned: dict[Node, Node] = {}
    stack = list(reversed(outputs))
    while stack:
        node = stack[-1]
        if node in done:
            stack.pop()
            continue
        if node in turned:  # what it was turned into has been simplified by now
            done[node] = done[turned[node]]
            continue
        waiting = [i for i in node.inputs if i not in done]
        if waiting:
            stack.extend(waiting)
            continue
        new = _step(node, tuple(done[i] for i in node.inputs))
        if new is node:
            done[node] = node
        else:
            turned[node] = new
            stack.append(new)
    return [done[n] for n in outputs]


def _step(node: Node, inputs: tuple[Node, ...]) -> Node:
    """Return what the first rule that applies makes of a node; the node itself if none does."""
    if any(new is not old for new, old in zip(inputs, node.inputs, strict=True)):
        return with_inputs(node, inputs)
    if node.op in KEPT:
        return node
    if 0 in node.shape:
        return const_bits(node.dtype, 0, node.shape)
    for rule in _rules(node):
        new = rule(node)
        if new is not None and new is not node:
            return new
    return node


def _rules(node: Node) -> tuple[Rule, ...]:
    if node.op == "map":
        return FUNCTION_RULES[node.attr]
    return VIEW_RULES[node.attr[0]] if node.op == "view" else FOLD_RULES[node.op]
