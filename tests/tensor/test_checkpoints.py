"""Checkpoints: the same gradients, from a part of the graph that is computed a second time after the forward pass."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import pytest

from portkit.compiler import graph
from portkit.compiler.compile import compile_graph
from portkit.compiler.graph import Node, Source, map_
from portkit.compiler.plan import lifetimes, place
from portkit.contract import find_backend
from portkit.spec.types import F32, F64
from portkit.tensor.gradient import checkpoint, gradients
from tests.tensor import differences

POINTS = np.array([0.3, -1.2, 0.8])


def block(x: Node) -> Node:
    return map_("exp", map_("sin", map_("mul", x, x)))


def checkpointed(x: Node) -> Node:
    return checkpoint(block(x), [x])


def test_a_checkpoint_has_the_value_and_the_gradient_of_what_it_wraps() -> None:
    plain = differences.gradient(lambda x: block(map_("tanh", x)), [POINTS])
    found = differences.gradient(lambda x: checkpointed(map_("tanh", x)), [POINTS])
    np.testing.assert_array_equal(found, plain)


def test_the_gradient_of_a_checkpoint_reads_nothing_that_was_computed_within_it() -> None:
    x = graph.source(Source(F64, (3,)))
    start = map_("tanh", x)
    within = set(graph.topological([block(start)])) - set(graph.topological([start]))
    (found,) = gradients(checkpointed(start), [start])
    assert found is not None
    assert not within & set(graph.topological([found]))


def test_what_is_computed_again_waits_for_the_gradient_that_needs_it() -> None:
    x = graph.source(Source(F64, (3,)))
    y = map_("mul", checkpointed(x), checkpointed(x))
    (found,) = gradients(y, [x])
    assert found is not None
    marks = [n for n in graph.topological([found]) if n.op == "mark" and n.attr[0] == "again"]
    assert len(marks) == 1
    assert marks[0].inputs[0] is x
    assert checkpointed(x) in graph.topological([marks[0].inputs[1]])


def test_a_chain_of_checkpoints_is_differentiated_one_at_a_time() -> None:
    def deep(x: Node) -> Node:
        for _ in range(4):
            x = checkpointed(map_("sin", x))
        return x

    differences.check(deep, POINTS)


def test_checkpoints_nest() -> None:
    def nested(x: Node) -> Node:
        return checkpoint(map_("cos", checkpointed(map_("sin", x))), [x])

    differences.check(nested, POINTS)


def test_what_a_checkpoint_takes_from_outside_has_its_gradient() -> None:
    """`w` and what is made of it outside both count once, though one comes from the other."""

    def function(x: Node, w: Node) -> Node:
        twice = map_("mul", w, w)
        return checkpoint(map_("mul", map_("sin", map_("mul", x, w)), twice), [x])

    differences.check(function, POINTS, POINTS[::-1].copy())


def test_a_starting_point_that_comes_from_another_counts_once() -> None:
    def function(x: Node) -> Node:
        y = map_("sin", x)
        return checkpoint(map_("mul", map_("mul", x, y), y), [x, y])

    differences.check(function, POINTS)


def test_a_checkpoint_is_differentiated_twice() -> None:
    def slope(x: Node) -> Node:
        (found,) = gradients(checkpointed(x), [x])
        assert found is not None
        return found

    differences.check(slope, POINTS)


def test_many_checkpoints_are_walked_in_time_linear_in_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    visited: list[Node] = []
    walk = graph.topological

    def counting(outputs: Iterable[Node], until: Collection[Node] = ()) -> list[Node]:
        order = walk(outputs, until)
        visited.extend(order)
        return order

    monkeypatch.setattr(graph, "topological", counting)

    def visits(count: int) -> int:
        visited.clear()
        x = y = graph.source(Source(F64, (1,)))
        for _ in range(count):
            y = checkpointed(y)
        gradients(y, [x])
        return len(visited)

    assert visits(80) - visits(40) == 2 * (visits(40) - visits(20))


def test_without_marks_nothing_is_computed_twice() -> None:
    x = graph.source(Source(F64, (3,)))
    (found,) = gradients(checkpointed(x), [x])
    (plain,) = gradients(block(x), [x])
    assert found is not None
    assert plain is not None
    assert graph.unmarked([found])[0] is plain
    assert graph.unmarked([found], ["detach", "checkpoint"])[0] is not plain


def planned(wrapped: bool) -> int:
    """Return the peak of planned memory for the gradients of eight blocks of two layers."""
    x = y = graph.source(Source(F32, (64, 64)))
    weights = [graph.source(Source(F32, (64, 64))) for _ in range(16)]
    for first, second in zip(weights[::2], weights[1::2], strict=True):
        start = y
        for weight in (first, second):
            y = map_("tanh", product(y, weight))
        y = checkpoint(y, [start]) if wrapped else y
    found = [g for g in gradients(y, [x, *weights]) if g is not None]
    program = compile_graph(found, find_backend("cpu").capabilities).program
    return place(lifetimes(program, {})).peak_live_bytes


def product(a: Node, b: Node) -> Node:
    left = graph.expand(graph.reshape(a, (64, 1, 64)), (64, 64, 64))
    right = graph.expand(graph.reshape(b, (1, 64, 64)), (64, 64, 64))
    return graph.reshape(graph.reduce("add", map_("mul", left, right), [2]), (64, 64))


def test_checkpoints_lower_the_peak_of_planned_memory() -> None:
    """Without, all 16 results are alive at once; with, 8 of them, and those of one block and its gradients."""
    one = 64 * 64 * 4
    assert planned(wrapped=False) >= 15 * one
    assert planned(wrapped=True) <= (7 + 4) * one
