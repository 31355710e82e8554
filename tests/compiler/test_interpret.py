"""Nests by direct interpretation: each step from a graph to merged nests, and what a nest may not do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from portkit.compiler import graph as g
from portkit.compiler.graph import Node, Source, attend
from portkit.compiler.index import Axis, Variable
from portkit.compiler.interpret import interpret
from portkit.compiler.nest import Nest, Store, fold, index, lit, load, map_
from portkit.contract import Capabilities
from portkit.errors import HarnessError, UsageError
from portkit.spec.types import DTYPES, F32, I32
from tests.compiler.running import BASE, CPU, small_integers
from tests.compiler.stepwise import judge_nests, nests_of
from tests.compiler.test_compile import GRAPHS, SHAPE, Build


def vector(n: g.Size = 6) -> Node:
    return g.source(Source(I32, (n,)))


def copied(x: Node, of: Node, axis: Axis) -> Nest:
    return Nest((axis,), row_stores=(Store(x, axis, load(of, axis)),))


@pytest.mark.parametrize("capabilities", [CPU, BASE], ids=["cpu", "base"])
@pytest.mark.parametrize("build", GRAPHS.values(), ids=GRAPHS.keys())
def test_every_step_to_merged_nests_computes_what_the_graph_means(build: Build, capabilities: Capabilities) -> None:
    x, y = (g.source(Source(DTYPES["f32"], SHAPE)) for _ in range(2))
    contents = {x.attr: small_integers(x, 1), y.attr: small_integers(y, 2)}
    judge_nests([build(x, y)], contents, capabilities, {})


@pytest.mark.parametrize("kind", ["set", "add", "max"])
def test_a_nest_scatters_in_order(kind: str) -> None:
    x, at, values = (g.source(Source(d, (6, 8))) for d in (F32, I32, F32))
    contents = {n.attr: small_integers(n, i) for i, n in enumerate((x, at, values))}
    judge_nests([g.scatter(kind, x, at, values, 1)], contents, CPU, {})


def test_a_nest_gathers_zeros_out_of_range() -> None:
    x, at = (g.source(Source(I32, (6, 8))) for _ in range(2))
    contents = {n.attr: small_integers(n, i) for i, n in enumerate((x, at))}
    judge_nests([g.map_("add", g.gather(x, at, 0), x)], contents, CPU, {})


@pytest.mark.parametrize("size", [1, 5])
def test_a_dynamic_dimension_has_the_extent_that_it_is_given(size: int) -> None:
    n = Variable("n", 1, 9)
    x = g.source(Source(I32, (n, 3)))
    contents = {x.attr: np.arange(size * 3, dtype=np.int32).reshape(size, 3)}
    judge_nests([g.flip(x, [0]), g.reduce("add", x, [0])], contents, CPU, {n: size})


def test_attend_is_a_sum_weighted_by_the_softmax() -> None:
    scores, values = (g.source(Source(F32, (3, 5))) for _ in range(2))
    s, v = (np.random.default_rng(i).standard_normal((3, 5)).astype(np.float32) for i in range(2))
    node = attend(scores, values, 1)
    row, key = Axis(3), Axis(5)
    at = row * 5 + key
    weighted = fold("attend", (key,), load(scores, at), F32, load(values, at))
    nest = Nest((row,), folds=(weighted,), row_stores=(Store(node, row, weighted),))
    weights = np.exp(s.astype(np.float64))
    wanted = (weights * v).sum(1, keepdims=True) / weights.sum(1, keepdims=True)
    np.testing.assert_array_equal(interpret(nest, {scores: s, values: v})[node], wanted.astype(np.float32))


def test_a_fold_repeats_what_does_not_depend_on_its_axes() -> None:
    x, axis = vector(1), Axis(7)
    total = fold("add", (axis,), lit(I32, 3), I32)
    nest = Nest((), folds=(total,), row_stores=(Store(x, 0, total),))
    assert interpret(nest, {})[x] == [21]


def test_a_read_outside_of_a_memory_is_an_error() -> None:
    with pytest.raises(HarnessError, match="outside of it"):
        interpret(copied(vector(8), of := vector(6), Axis(8)), {of: np.zeros(6, np.int32)})


def test_a_read_outside_of_a_memory_is_none_where_its_guard_fails() -> None:
    x, of, axis = vector(8), vector(6), Axis(8)
    nest = Nest((axis,), row_stores=(Store(x, axis, load(of, axis, ((axis, 0, 5),), fill=7)),))
    assert interpret(nest, {of: np.arange(6, dtype=np.int32)})[x].tolist() == [0, 1, 2, 3, 4, 5, 7, 7]


@pytest.mark.parametrize("extent", [5, 7])
def test_an_element_that_is_stored_twice_or_never_is_an_error(extent: int) -> None:
    axis = Axis(extent)
    with pytest.raises(HarnessError, match="each of the 6 elements"):
        interpret(Nest((axis,), row_stores=(Store(vector(6), axis % 6, index(axis)),)), {})


def test_a_nest_of_many_points_is_refused() -> None:
    big = 1 << 23
    with pytest.raises(UsageError, match="too large to interpret"):
        interpret(copied(vector(big), of := vector(big), Axis(big)), {of: np.zeros(big, np.int32)})


def test_a_nest_that_folds_something_else_is_found_out() -> None:
    x = g.source(Source(I32, (4, 5)))
    wanted, (nest,) = nests_of([g.reduce("add", x, [1])], CPU)
    (total,) = nest.folds
    wrong = fold("max", total.attr[1], total.args[0], I32)
    changed = replace(nest, folds=(wrong,), row_stores=(replace(nest.row_stores[0], value=wrong),))
    contents = {x: small_integers(x, 1)}
    assert not np.array_equal(interpret(changed, contents)[wanted[0]], interpret(nest, contents)[wanted[0]])


def test_a_value_is_computed_at_every_point_of_its_axes() -> None:
    x, i, j = g.source(Source(I32, (2, 3))), Axis(2), Axis(3)
    value = map_("mul", I32, [index(i), index(j)])
    made = interpret(Nest((i,), (j,), inner_stores=(Store(x, i * 3 + j, value),)), {})[x]
    assert made.tolist() == [[0, 0, 0], [0, 1, 2]]
