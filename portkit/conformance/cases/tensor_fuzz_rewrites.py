"""Rewritings of graphs that change no value: what a graph and its rewritings compute lies in one and the same bound.

A rewriting is made at a few nodes of a graph, chosen by the case. Each stands for its node in every use. `Places.kept`
stores what is in between, or leaves it to the compiler to see through: both are wanted, so a seed decides.

Exact rewritings keep every bit of every value. The others change only the order of a fold, of which the bound of the
node, any order of its terms, holds in every case (`portkit.conformance.graph_bounds`): a sum of sums and a running sum
are orders too. Sums written as single additions are not: each is bound to its own rounding.

    tensor_fuzz_movement    movement there and back
    tensor_fuzz_algebra     arithmetic there and back, laws of one operation
    tensor_fuzz_folds       folds in other orders
    tensor_fuzz_integers    what holds of integers and conditions alone

Letters: x y operands, p a condition, c a constant, n an extent.
Source: the rewritings are metamorphic relations in the sense of T. Y. Chen, S. C. Cheung, S. M. Yiu, "Metamorphic
testing: a new approach for generating next test cases", 1998 (arXiv:2002.12543).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from portkit.compiler import graph
from portkit.compiler.graph import Node
from portkit.conformance.cases.draws import Draws
from portkit.spec.types import BOOL

MOST = 4
"""How many nodes of a graph are rewritten at most."""

Rewrite: TypeAlias = Callable[["Places", Node], Node]
Applies: TypeAlias = Callable[[Node], bool]


class Places:
    """What a rewriting may choose: places along axes, and whether a value in between is stored."""

    def __init__(self, case_id: str) -> None:
        self._draws = Draws(case_id)

    def below(self, count: int) -> int:
        return int(self._draws.integers(0, count - 1, 1)[0])

    def permutation(self, count: int) -> list[int]:
        return [int(n) for n in self._draws.permutation(count)]

    def kept(self, x: Node) -> Node:
        """Return a node, stored or not."""
        return graph.store(x) if self.below(2) else x

    def axis(self, x: Node, least: int = 2) -> int:
        """Return an axis with at least so many places."""
        found = [a for a, n in enumerate(extents(x)) if n >= least]
        return found[self.below(len(found))]


@dataclass(frozen=True, slots=True)
class Rewriting:
    """A row: nodes that it applies to, what it makes of one, whether it keeps every bit, and dtypes that it needs."""

    name: str
    applies: Applies
    rewrite: Rewrite
    exact: bool = True
    dtypes: tuple[str, ...] = ()

    def sites(self, outputs: Sequence[Node]) -> list[Node]:
        """Return the nodes that it applies to, of those that depend on an input."""
        return [node for node in _dependent(outputs) if self.applies(node)]

    def of(self, outputs: Sequence[Node], case_id: str) -> list[Node]:
        """Return a graph rewritten at some of these nodes; it has at least one."""
        places = Places(case_id)
        sites = self.sites(outputs)
        chosen = {sites[k] for k in places.permutation(len(sites))[: 1 + places.below(MOST)]}
        new: dict[Node, Node] = {}
        for node in graph.topological(outputs):
            made = graph.with_inputs(node, tuple(new[x] for x in node.inputs))
            new[node] = self.rewrite(places, made) if node in chosen else made
        return [new[node] for node in outputs]


def _dependent(outputs: Sequence[Node]) -> Iterator[Node]:
    found: set[Node] = set()
    for node in graph.topological(outputs):
        if node.op == "source" or any(x in found for x in node.inputs):
            found.add(node)
            yield node


def extents(x: Node) -> tuple[int, ...]:
    """Return the shape of a node whose extents are known."""
    return tuple(n for n in x.shape if isinstance(n, int))


# --- what several rewritings need ---------------------------------------------------------------------------------


def anything(_: Node) -> bool:
    """Every node."""
    return True


def is_number(x: Node) -> bool:
    """Whether a node is of numbers, not of conditions."""
    return x.dtype is not BOOL


def is_extended(x: Node) -> bool:
    """Whether some axis has more than one place."""
    return any(n > 1 for n in extents(x))


def is_map(*names: str) -> Applies:
    """Return whether a node is one of some elementwise functions."""
    return lambda x: x.op == "map" and x.attr in names


def fold_of(x: Node) -> tuple[str, tuple[int, ...]]:
    """Return the kind and the axes of a fold."""
    kind, axes = x.attr
    return kind, tuple(axes)


def span(x: Node, axis: int, start: int, stop: int) -> Node:
    """Return the places from start to before stop of an axis."""
    ranges = [(start, stop) if a == axis else (0, n) for a, n in enumerate(extents(x))]
    return graph.shrink(x, ranges)


def halves(w: Places, x: Node, axis: int) -> tuple[Node, Node]:
    """Return the parts of a node before and from some place of an axis on."""
    n = extents(x)[axis]
    at = 1 + w.below(n - 1)
    return span(x, axis, 0, at), span(x, axis, at, n)


def expanded(x: Node, axis: int, n: int) -> Node:
    """Return a node n times along a new axis."""
    apart = graph.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))
    return graph.expand(apart, (*x.shape[:axis], n, *x.shape[axis:]))
