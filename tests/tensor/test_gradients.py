"""The gradient of every operation of a graph against central differences, and against its closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from portkit.compiler import graph
from portkit.compiler.evaluate import evaluate
from portkit.compiler.functions import FUNCTIONS
from portkit.compiler.graph import Node, Source, map_
from portkit.compiler.index import Variable
from portkit.errors import DTypeError, ShapeError
from portkit.spec.types import BF16, F8E4M3FN, F16, F32, F64, I32
from portkit.tensor.gradient import gradients
from portkit.tensor.gradient_rules import ELEMENTWISE
from tests.tensor import differences

NO_DERIVATIVE = {"sign", "floor", "ceil", "round", "trunc", "bits", "lt", "eq"}


def spread(low: float, high: float, shape: tuple[int, ...] = (5,)) -> np.ndarray:
    """Return fixed points of an interval in no order."""
    count = int(np.prod(shape))
    fractions = (np.arange(1, count + 1) * 0.6180339887498949) % 1
    return (low + (high - low) * fractions).reshape(shape)


Derivative = Callable[..., np.ndarray]
POINTS: dict[str, tuple[tuple[np.ndarray, ...], tuple[Derivative, ...]]] = {
    "add": ((spread(-2, 2), spread(1, 3)), (lambda x, y: 0 * x + 1, lambda x, y: 0 * x + 1)),
    "sub": ((spread(-2, 2), spread(1, 3)), (lambda x, y: 0 * x + 1, lambda x, y: 0 * x - 1)),
    "mul": ((spread(-2, 2), spread(1, 3)), (lambda x, y: y, lambda x, y: x)),
    "div": ((spread(-2, 2), spread(1, 3)), (lambda x, y: 1 / y, lambda x, y: -x / y**2)),
    "pow": ((spread(0.5, 2), spread(-2, 3)), (lambda x, y: y * x ** (y - 1), lambda x, y: x**y * np.log(x))),
    "max": ((spread(-2, 2), spread(-1, 3)), (lambda x, y: (x > y) * 1.0, lambda x, y: (y > x) * 1.0)),
    "min": ((spread(-2, 2), spread(-1, 3)), (lambda x, y: (x < y) * 1.0, lambda x, y: (y < x) * 1.0)),
    "neg": ((spread(-2, 2),), (lambda x: 0 * x - 1,)),
    "abs": ((spread(-2, 2),), (np.sign,)),
    "recip": ((spread(0.5, 3),), (lambda x: -1 / x**2,)),
    "sqrt": ((spread(0.5, 3),), (lambda x: 0.5 / np.sqrt(x),)),
    "rsqrt": ((spread(0.5, 3),), (lambda x: -0.5 * x**-1.5,)),
    "exp": ((spread(-2, 2),), (np.exp,)),
    "exp2": ((spread(-2, 2),), (lambda x: np.log(2) * np.exp2(x),)),
    "log": ((spread(0.5, 3),), (lambda x: 1 / x,)),
    "log2": ((spread(0.5, 3),), (lambda x: 1 / (x * np.log(2)),)),
    "sin": ((spread(-2, 2),), (np.cos,)),
    "cos": ((spread(-2, 2),), (lambda x: -np.sin(x),)),
    "tan": ((spread(-1, 1),), (lambda x: 1 / np.cos(x) ** 2,)),
    "tanh": ((spread(-2, 2),), (lambda x: 1 / np.cosh(x) ** 2,)),
    "sigmoid": ((spread(-2, 2),), (lambda x: 1 / (2 + np.exp(x) + np.exp(-x)),)),
    "erf": ((spread(-2, 2),), (lambda x: 2 / np.sqrt(np.pi) * np.exp(-(x**2)),)),
}


def even(shape: tuple[int, ...]) -> Node:
    """Return a bool node that is true at even positions."""
    count = int(np.prod(shape))
    two = graph.const(I32, 2, (count,))
    odd = map_("imod", graph.iota(count), two)
    return graph.reshape(map_("eq", odd, graph.const(I32, 0, (count,))), shape)


def test_every_function_on_floats_has_a_derivative_or_is_known_to_have_none() -> None:
    on_floats = {name for name, f in FUNCTIONS.items() if "f64" in f.dtypes}
    assert set(ELEMENTWISE) | NO_DERIVATIVE == on_floats
    assert set(POINTS) | {"where", "cast"} == set(ELEMENTWISE)


@pytest.mark.parametrize("name", POINTS)
def test_a_function_s_gradient_is_its_central_difference(name: str) -> None:
    differences.check(lambda *xs: map_(name, *xs), *POINTS[name][0])


@pytest.mark.parametrize("name", POINTS)
def test_a_function_s_gradient_is_its_closed_form(name: str) -> None:
    points, derivatives = POINTS[name]
    found = differences.gradient(lambda *xs: map_(name, *xs), points)
    for actual, derivative in zip(found, derivatives, strict=True):
        expected = derivative(*points) * differences.weights(actual.shape)
        np.testing.assert_allclose(actual, expected, rtol=differences.ULPS * differences.EPS)


@pytest.mark.parametrize("name", POINTS)
def test_a_function_s_second_derivative_is_the_difference_of_its_first(name: str) -> None:
    def first(*xs: Node) -> Node:
        """The gradients by each operand, each times a weight of its own so that they cannot cancel."""
        y = map_(name, *xs)
        found = gradients(y, xs)
        parts = [map_("mul", g, graph.const(F64, k + 1.5, g.shape)) for k, g in enumerate(found) if g is not None]
        total = parts[0]
        for part in parts[1:]:
            total = map_("add", total, part)
        return total

    differences.check(first, *POINTS[name][0])


def test_where_passes_the_gradient_to_the_value_chosen() -> None:
    differences.check(lambda x, y: map_("where", even((5,)), x, y), spread(-2, 2), spread(1, 3))


def test_ties_of_max_and_min_share_the_gradient_evenly() -> None:
    x = np.array([1.0, 2.0, 3.0])
    for name in ("max", "min"):
        for actual in differences.gradient(lambda a, b, name=name: map_(name, a, b), [x, x]):
            np.testing.assert_array_equal(actual, differences.weights((3,)) / 2)


def test_a_tie_with_a_constant_passes_no_gradient() -> None:
    for name in ("max", "min"):
        zero = graph.const(F64, 0, (3,))
        (actual,) = differences.gradient(lambda x, name=name, zero=zero: map_(name, x, zero), [np.zeros(3)])
        np.testing.assert_array_equal(actual, np.zeros(3))


def test_the_gradient_against_a_constant_needs_only_the_result() -> None:
    x = graph.source(Source(F64, (3,)))
    for name in ("max", "min"):
        y = map_(name, x, graph.const(F64, 0, (3,)))
        (found,) = gradients(y, [x])
        assert found is not None
        assert x not in graph.topological([found], [y])


def test_a_cast_to_another_float_passes_the_gradient() -> None:
    for dtype in (F16, BF16, F32, F8E4M3FN):
        (actual,) = differences.gradient(lambda x, d=dtype: graph.cast(graph.cast(x, d), F64), [spread(-2, 2)])
        seed = differences.weights((5,))
        through = F32 if dtype is F8E4M3FN else dtype
        np.testing.assert_array_equal(actual, seed.astype(through.numpy).astype(np.float64))


def test_the_gradient_by_an_8_bit_float_has_its_dtype() -> None:
    x = graph.source(Source(F8E4M3FN, (3,)))
    wide = graph.cast(x, F32)
    (found,) = gradients(map_("mul", wide, wide), [x])
    assert found is not None
    assert found.dtype is F8E4M3FN


def test_integers_and_what_passes_through_them_have_no_gradient() -> None:
    x = graph.source(Source(F64, (3,)))
    n = graph.source(Source(I32, (3,)))
    rounded = graph.cast(graph.cast(x, I32), F64)
    assert gradients(map_("add", rounded, graph.cast(n, F64)), [x, n]) == [None, None]


@pytest.mark.parametrize("name", sorted(NO_DERIVATIVE - {"bits", "lt", "eq"}))
def test_a_step_function_has_no_gradient(name: str) -> None:
    x = graph.source(Source(F64, (3,)))
    assert gradients(map_(name, x), [x]) == [None]


# --- reductions and scans -----------------------------------------------------------------------------------------

GRID = spread(-2, 2, (2, 3, 2))


@pytest.mark.parametrize("kind", ["add", "mul", "max", "min"])
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 2), (0, 1, 2)])
def test_a_reduction_s_gradient_is_its_central_difference(kind: str, axes: tuple[int, ...]) -> None:
    differences.check(lambda x: graph.reduce(kind, x, axes), GRID)


@pytest.mark.parametrize("zeros", [1, 2, 3])
def test_a_product_s_gradient_is_right_with_zeros_among_its_factors(zeros: int) -> None:
    x = spread(-2, 2, (2, 4))
    x[:, :zeros] = 0
    differences.check(lambda x: graph.reduce("mul", x, [1]), x)


@pytest.mark.parametrize("kind", ["max", "min"])
def test_elements_that_tie_for_an_extreme_share_the_gradient(kind: str) -> None:
    x = np.array([[1.0, 1.0, 1.0, 1.0], [-5.0, 5.0, -5.0, 5.0]])
    (actual,) = differences.gradient(lambda x: graph.reduce(kind, x, [1]), [x])
    found = x == getattr(x, kind)(axis=1, keepdims=True)
    np.testing.assert_array_equal(actual, found * differences.weights((2, 1)) / found.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("kind", ["add", "mul", "max", "min"])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_scan_s_gradient_is_its_central_difference(kind: str, axis: int) -> None:
    differences.check(lambda x: graph.scan(kind, x, axis), spread(-2, 2, (3, 5)))


@pytest.mark.parametrize("zeros", [[0], [2], [4], [1, 3], [0, 1, 2, 3, 4]])
def test_a_running_product_s_gradient_is_right_with_zeros_among_its_factors(zeros: list[int]) -> None:
    x = spread(-2, 2)
    x[zeros] = 0
    differences.check(lambda x: graph.scan("mul", x, 0), x)


@pytest.mark.parametrize("kind", ["max", "min"])
def test_the_last_of_those_that_tie_for_a_running_extreme_takes_the_gradient(kind: str) -> None:
    (actual,) = differences.gradient(lambda x: graph.scan(kind, x, 0), [np.array([1.0, 1.0, 1.0])])
    np.testing.assert_array_equal(actual, differences.weights((3,)))


@pytest.mark.parametrize("kind", ["add", "mul", "max", "min"])
def test_nothing_to_fold_has_an_empty_gradient(kind: str) -> None:
    for function in (lambda x: graph.reduce(kind, x, [0]), lambda x: graph.scan(kind, x, 0)):
        (actual,) = differences.gradient(function, [np.zeros((0, 3))])
        assert actual.shape == (0, 3)


# --- movement -----------------------------------------------------------------------------------------------------

MOVEMENTS: dict[str, Callable[[Node], Node]] = {
    "reshape": lambda x: graph.reshape(x, (3, 4)),
    "permute": lambda x: graph.permute(x, [2, 0, 1]),
    "expand": lambda x: graph.expand(graph.reshape(x, (2, 1, 3, 2, 1)), (2, 4, 3, 2, 2)),
    "shrink": lambda x: graph.shrink(x, [(0, 1), (1, 3), (0, 2)]),
    "flip": lambda x: graph.flip(x, [0, 1]),
    "stride": lambda x: graph.stride(x, [1, 2, 3]),
    "pad": lambda x: graph.pad(x, [(1, 0), (2, 3), (0, 1)], 7),
    "store": graph.store,
}


@pytest.mark.parametrize("name", MOVEMENTS)
def test_a_movement_s_gradient_is_its_central_difference(name: str) -> None:
    """Squared first, so that the gradient depends on where each element came from."""
    differences.check(lambda x: MOVEMENTS[name](map_("mul", x, x)), GRID)


def test_the_gradient_of_a_broadcast_is_one_sum() -> None:
    x = graph.source(Source(F64, (1, 4, 1)))
    grown = graph.expand(graph.expand(x, (3, 4, 1)), (3, 4, 5))
    (found,) = gradients(map_("mul", grown, grown), [x])
    assert found is not None
    assert found.op == "reduce"
    assert found.attr == ("add", (0, 2))
    assert [n.op for n in graph.topological([found])].count("reduce") == 1


# --- indexing -----------------------------------------------------------------------------------------------------


def index(values: np.ndarray) -> Node:
    """Return an i32 node of a matrix of known values, out of range ones included."""
    columns = [graph.const(I32, int(v), (1,)) for v in values.ravel()]
    total = graph.const(I32, 0, (len(columns),))
    for k, one in enumerate(columns):
        total = map_("add", total, graph.pad(one, [(k, len(columns) - k - 1)]))
    return graph.reshape(total, values.shape)


TAKEN = np.array([[0, 2, 2, -1], [1, 3, 0, 0]])


def test_a_gather_s_gradient_adds_up_what_was_taken_twice() -> None:
    differences.check(lambda x: graph.gather(map_("mul", x, x), index(TAKEN), 1), spread(-2, 2, (2, 3)))


@pytest.mark.parametrize("kind", ["set", "add", "max", "min"])
def test_a_scatter_s_gradient_is_its_central_difference(kind: str) -> None:
    x, values = spread(-2, 2, (2, 3)), spread(-2.5, 2.2, (2, 4))
    differences.check(lambda x, v: graph.scatter(kind, x, index(TAKEN), map_("mul", v, v), 1), x, values)


def test_a_product_scatter_s_gradient_by_its_target_is_its_central_difference() -> None:
    values = graph.const(F64, 1.5, TAKEN.shape)
    differences.check(lambda x: graph.scatter("mul", x, index(TAKEN), values, 1), spread(-2, 2, (2, 3)))


def test_a_product_scatter_s_gradient_by_its_values_is_refused() -> None:
    x, values = graph.source(Source(F64, (2, 3))), graph.source(Source(F64, (2, 4)))
    with pytest.raises(DTypeError, match="scatter mul has no gradient for its values"):
        gradients(graph.scatter("mul", x, index(TAKEN), values, 1), [values])


# --- the walk -----------------------------------------------------------------------------------------------------


def matmul(a: Node, b: Node) -> Node:
    """(m, k) by (k, n) to (m, n, 1)"""
    (m, k), (_, n) = a.shape, b.shape
    left = graph.expand(graph.reshape(a, (m, 1, k)), (m, n, k))
    right = graph.expand(graph.reshape(graph.permute(b, [1, 0]), (1, n, k)), (m, n, k))
    return graph.reduce("add", map_("mul", left, right), [2])


def test_the_gradient_of_a_matrix_product_is_again_a_sum_of_products_of_views() -> None:
    a, b = graph.source(Source(F64, (2, 3))), graph.source(Source(F64, (3, 4)))
    seed = graph.source(Source(F64, (2, 4, 1)))
    for found in gradients(matmul(a, b), [a, b], seed):
        assert found is not None
        kinds = [n.op for n in graph.topological([found]) if n.op not in ("view", "source")]
        assert kinds == ["map", "reduce"]


def test_the_gradient_of_a_matrix_product_is_its_central_difference() -> None:
    differences.check(matmul, spread(-2, 2, (2, 3)), spread(-1, 2, (3, 4)))


def test_a_node_used_twice_adds_up_its_gradients() -> None:
    differences.check(lambda x: map_("add", map_("mul", x, x), map_("sin", x)), spread(-2, 2))


def test_the_gradient_by_a_node_inside_the_graph_is_found_too() -> None:
    x = graph.source(Source(F64, (3,)))
    y = map_("sin", x)
    by_y, by_x = gradients(map_("mul", y, y), [y, x])
    assert by_y is not None
    assert by_x is not None
    values = np.array([0.1, 0.2, 0.3])
    np.testing.assert_array_equal(evaluate([by_y], {x.attr: values})[0], 2 * np.sin(values))
    np.testing.assert_array_equal(evaluate([by_x], {x.attr: values})[0], 2 * np.sin(values) * np.cos(values))


def test_a_gradient_is_the_same_graph_each_time() -> None:
    x, w = graph.source(Source(F64, (2, 3))), graph.source(Source(F64, (3, 4)))
    y = map_("tanh", matmul(x, w))
    assert gradients(y, [x, w]) == gradients(y, [x, w])


def test_a_chain_of_ten_thousand_nodes_is_differentiated_without_recursion() -> None:
    x = graph.source(Source(F64, (1,)))
    y = x
    for _ in range(10_000):
        y = map_("sin", y)
    (found,) = gradients(y, [x])
    assert found is not None
    assert len(graph.topological([found])) > 20_000


def test_an_output_of_integers_is_refused() -> None:
    x = graph.source(Source(I32, (3,)))
    with pytest.raises(DTypeError, match="only floats have gradients"):
        gradients(x, [x])


def test_a_seed_of_another_shape_is_refused() -> None:
    x = graph.source(Source(F64, (3,)))
    with pytest.raises(ShapeError, match=r"f64 \(2,\), but the output is f64 \(3,\)"):
        gradients(x, [x], graph.const(F64, 1, (2,)))


def test_no_gradient_passes_a_detached_node() -> None:
    differences_of = differences.gradient(lambda x: map_("mul", x, graph.mark(x, "detach")), [spread(-2, 2)])
    np.testing.assert_array_equal(differences_of[0], spread(-2, 2) * differences.weights((5,)))


def test_gradients_of_a_dynamic_dimension_serve_every_extent() -> None:
    n = Variable("n", 0, 8)
    x, w = graph.source(Source(F64, (n, 3))), graph.source(Source(F64, (3, 2)))
    y = map_("max", map_("tanh", matmul(x, w)), graph.const(F64, 0, (n, 2, 1)))
    by_x, by_w = gradients(y, [x, w])
    assert by_x is not None
    assert by_w is not None
    weight = spread(-1, 1, (3, 2))
    for extent in (0, 1, 5):
        rows = spread(-2, 2, (extent, 3))
        hidden = np.tanh(rows @ weight)
        slope = (hidden > 0) * (1 - hidden**2)
        found = evaluate([by_x, by_w], {x.attr: rows, w.attr: weight})
        for actual, expected in zip(found, (slope @ weight.T, rows.T @ slope), strict=True):
            np.testing.assert_allclose(actual, expected, atol=differences.ULPS * differences.EPS)


def test_a_product_of_a_dynamic_extent_has_a_gradient_and_a_running_one_is_refused() -> None:
    n = Variable("n", 1, 8)
    x = graph.source(Source(F64, (n,)))
    (found,) = gradients(graph.reduce("mul", x, [0]), [x])
    assert found is not None
    values = spread(-2, 2, (4,))
    others = [np.delete(values, k).prod() for k in range(4)]
    np.testing.assert_allclose(evaluate([found], {x.attr: values})[0], others, rtol=differences.ULPS * differences.EPS)
    with pytest.raises(ShapeError, match="needs a fixed extent, axis 0 has n; pad it"):
        gradients(graph.scan("mul", x, 0), [x])
