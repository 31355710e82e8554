"""Gradients of random chains of movements, windows, products and sums, against central differences."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from portkit.compiler import graph
from portkit.compiler.graph import Node, map_
from portkit.spec.types import F64
from portkit.tensor.windows import _windows as windows_of
from tests.tensor import differences
from tests.tensor.test_gradients import spread

MOST = 160
"""Elements of a node in a chain."""


def extents(x: Node) -> list[int]:
    return [n for n in x.shape if isinstance(n, int)]


@st.composite
def chains(draw: st.DrawFn) -> tuple[tuple[int, ...], list[Callable[[Node, Node], Node]]]:
    """Return the shape of x, and steps from a node and the weights (4,) to the next node."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    steps = [draw(st.sampled_from(STEPS))(draw(st.integers(0, 2**16))) for _ in range(draw(st.integers(1, 6)))]
    return shape, steps


def padded(seed: int) -> Callable[[Node, Node], Node]:
    def step(x: Node, _: Node) -> Node:
        wide = graph.pad(x, [((seed >> k) % 2, (seed >> (k + 3)) % 3) for k in range(x.rank)])
        return wide if prod(extents(wide)) <= MOST else x

    return step


def shrunk(seed: int) -> Callable[[Node, Node], Node]:
    return lambda x, _: graph.shrink(x, [((seed >> k) % 2 if n > 1 else 0, n) for k, n in enumerate(extents(x))])


def permuted(seed: int) -> Callable[[Node, Node], Node]:
    return lambda x, _: graph.permute(x, [int(a) for a in np.random.default_rng(seed).permutation(x.rank)])


def flipped(seed: int) -> Callable[[Node, Node], Node]:
    return lambda x, _: graph.flip(x, [seed % x.rank])


def strided(seed: int) -> Callable[[Node, Node], Node]:
    return lambda x, _: graph.stride(x, [1 + (seed >> k) % 2 for k in range(x.rank)])


def reshaped(seed: int) -> Callable[[Node, Node], Node]:
    def step(x: Node, _: Node) -> Node:
        count = prod(extents(x))
        inner = next((d for d in range(1 + seed % 4, 0, -1) if count % d == 0), 1)
        shapes = [(count,), (count // inner, inner), (inner, count // inner), (1, inner, count // inner)]
        return graph.reshape(x, shapes[seed % len(shapes)])

    return step


def windowed(seed: int) -> Callable[[Node, Node], Node]:
    def step(x: Node, _: Node) -> Node:
        axis, size, pace, dilation = seed % x.rank, 1 + (seed >> 2) % 3, 1 + (seed >> 4) % 3, 1 + (seed >> 6) % 2
        if extents(x)[axis] < dilation * (size - 1) + 1 or x.rank > 4:
            return x
        rows = windows_of(x, axis, size, pace, dilation)
        return rows if prod(extents(rows)) <= MOST else x

    return step


def multiplied(seed: int) -> Callable[[Node, Node], Node]:
    """A sum of products with weights along a new axis, and perhaps along the axis that is summed."""

    def step(x: Node, w: Node) -> Node:
        axis = seed % x.rank
        n = extents(x)[axis]
        if prod(extents(x)) * 2 > MOST or n > 4 or x.rank > 4:
            return x
        shape = (2, *x.shape)
        left = graph.expand(graph.reshape(x, (1, *x.shape)), shape)
        line = [n if a == axis + 1 else 1 for a in range(len(shape))]
        right = graph.reshape(graph.shrink(w, [(0, n)]), line)
        if seed & 64:
            right = map_("sub", graph.expand(right, (2, *line[1:])), graph.const(F64, 0.5, (2, *line[1:])))
        return graph.reduce("add", map_("mul", left, graph.expand(right, shape)), [axis + 1])

    return step


def squared(_: int) -> Callable[[Node, Node], Node]:
    return lambda x, w: map_("mul", x, x)


STEPS = [padded, shrunk, permuted, flipped, strided, reshaped, windowed, windowed, multiplied, multiplied, squared]


@settings(max_examples=60, deadline=None)
@given(chains())
def test_a_random_chain_s_gradients_are_its_central_differences(
    chain: tuple[tuple[int, ...], list[Callable[[Node, Node], Node]]],
) -> None:
    shape, steps = chain

    def function(x: Node, w: Node) -> Node:
        for step in steps:
            x = step(x, w)
        return map_("sin", x)

    differences.check(function, spread(-1, 1, shape), spread(-1, 1.5, (4,)))
