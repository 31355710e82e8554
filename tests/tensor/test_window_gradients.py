"""Gradients of windows: right, and a convolution's is one sum of products that reads each tensor once."""

from __future__ import annotations

import numpy as np
import pytest

from portkit.compiler import graph
from portkit.compiler.graph import Node, Source, map_
from portkit.spec.types import F16, F32, F64
from portkit.tensor.convolution import conv
from portkit.tensor.gradient import gradients
from portkit.tensor.gradient_windows import PLACES
from portkit.tensor.tensor import Tensor
from portkit.tensor.windows import windows
from tests.tensor import differences
from tests.tensor.test_gradients import spread

CASES = [(1, 1, 1), (2, 1, 1), (3, 1, 1), (3, 2, 1), (2, 3, 1), (3, 1, 2), (2, 2, 3), (1, 2, 1), (3, 3, 1), (7, 1, 1)]


def sliding(x: Node, axes: list[int], size: int, step: int, dilation: int) -> Node:
    count = len(axes)
    return windows(Tensor.of(x), axes, [size] * count, [step] * count, [dilation] * count).node


@pytest.mark.parametrize(("size", "step", "dilation"), CASES)
def test_the_gradient_of_windows_along_one_axis_is_its_central_difference(size: int, step: int, dilation: int) -> None:
    """Squared, so that the cotangent depends on window and place and is no product."""

    def function(x: Node) -> Node:
        rows = sliding(x, [1], size, step, dilation)
        return map_("mul", rows, rows)

    differences.check(function, spread(-2, 2, (2, 7, 2)))


@pytest.mark.parametrize(("size", "step", "dilation"), CASES[:-1])
def test_the_gradient_of_a_mean_over_windows_is_its_central_difference(size: int, step: int, dilation: int) -> None:
    """The cotangent does not depend on the place within the window."""

    def function(x: Node) -> Node:
        return graph.reduce("add", sliding(map_("mul", x, x), [1, 2], size, step, dilation), [3, 4])

    differences.check(function, spread(-2, 2, (1, 5, 6)))


@pytest.mark.parametrize(("size", "step", "dilation"), CASES[:-1])
def test_the_gradient_of_a_convolution_is_its_central_difference(size: int, step: int, dilation: int) -> None:
    def function(x: Node, w: Node) -> Node:
        return conv(Tensor.of(x), Tensor.of(w), None, step, 1, dilation, 2).node

    differences.check(function, spread(-2, 2, (2, 4, 5)), spread(-1, 1, (2, 2, size)))


def test_the_gradient_of_a_convolution_over_two_axes_is_its_central_difference() -> None:
    def function(x: Node, w: Node) -> Node:
        return conv(Tensor.of(x), Tensor.of(w), None, (2, 1), (1, 0), (1, 2)).node

    differences.check(function, spread(-2, 2, (1, 2, 5, 5)), spread(-1, 1, (2, 2, 3, 2)))


def test_the_second_derivative_of_a_convolution_is_the_difference_of_its_first() -> None:
    def slope(x: Node, w: Node) -> Node:
        y = conv(Tensor.of(x), Tensor.of(w), None, 2, 1).node
        by_x, by_w = gradients(map_("mul", y, y), [x, w])
        assert by_x is not None
        assert by_w is not None
        total = graph.reduce("add", by_w, range(by_w.rank))
        return map_("add", by_x, graph.expand(graph.reshape(total, (1,) * by_x.rank), by_x.shape))

    differences.check(slope, spread(-2, 2, (1, 2, 6)), spread(-1, 1, (2, 2, 3)))


def test_windows_longer_than_are_put_back_one_by_one_have_a_gradient_too() -> None:
    def function(x: Node) -> Node:
        rows = sliding(x, [0], PLACES + 1, 1, 1)
        return map_("mul", rows, rows)

    differences.check(function, spread(-2, 2, (PLACES + 3,)))


@pytest.mark.parametrize("dtype", [F64, F32, F16])
@pytest.mark.parametrize(("step", "dilation", "groups"), [(1, 1, 1), (2, 1, 1), (1, 2, 2)])
def test_the_gradients_of_a_convolution_are_each_one_sum_of_products(
    dtype: graph.DType, step: int, dilation: int, groups: int
) -> None:
    x, w = graph.source(Source(dtype, (2, 4, 9, 8))), graph.source(Source(dtype, (6, 4 // groups, 3, 3)))
    y = conv(Tensor.of(x), Tensor.of(w), None, step, 1, dilation, groups).node
    seed = graph.source(Source(dtype, y.shape))
    for found in gradients(y, [x, w], seed):
        assert found is not None
        computing = [n for n in graph.topological([found]) if n.op not in ("view", "source")]
        kinds = [n.attr[0] if n.op == "reduce" else n.attr for n in computing if n.attr != "cast"]
        assert kinds == ["mul", "add"]


def test_a_constant_factor_moves_with_neither_axis() -> None:
    def function(x: Node) -> Node:
        rows = sliding(x, [1], 3, 1, 1)
        weighed = map_("mul", rows, graph.const(F64, 3, rows.shape))
        return graph.reduce("add", weighed, [2])

    differences.check(function, spread(-2, 2, (2, 7)))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize("extent", [7, 8, 9])
def test_the_gradient_of_a_strided_convolution_is_its_central_difference(size: int, step: int, extent: int) -> None:
    def function(x: Node, w: Node) -> Node:
        return conv(Tensor.of(x), Tensor.of(w), None, step).node

    differences.check(function, spread(-2, 2, (1, 2, extent)), spread(-1, 1, (3, 2, size)))


def test_windows_of_a_reshaped_tensor_pass_the_gradient_to_it() -> None:
    def function(x: Node) -> Node:
        rows = sliding(graph.reshape(map_("mul", x, x), (2, 6)), [1], 3, 1, 1)
        return map_("mul", rows, rows)

    differences.check(function, spread(-2, 2, (12,)))


def test_views_that_only_look_like_windows_keep_their_gradient() -> None:
    def function(x: Node) -> Node:
        repeated = graph.reshape(graph.expand(graph.reshape(x, (1, 6)), (4, 6)), (24,))
        rows = graph.reshape(graph.shrink(repeated, [(0, 24)]), (3, 8))
        chosen = graph.permute(graph.shrink(rows, [(0, 3), (1, 4)]), [1, 0])
        return map_("mul", chosen, chosen)

    differences.check(function, spread(-2, 2, (6,)))


def test_a_convolution_s_gradient_is_the_transposed_convolution_of_numpy() -> None:
    x, w = spread(-2, 2, (1, 1, 6)), spread(-1, 1, (1, 1, 3))
    found, _ = differences.gradient(lambda x, w: conv(Tensor.of(x), Tensor.of(w), None).node, [x, w])
    expected = np.convolve(differences.weights((4,)), w[0, 0])
    np.testing.assert_allclose(found[0, 0], expected, rtol=differences.ULPS * differences.EPS)


def test_overlapping_windows_are_put_back_without_a_sum_over_copies() -> None:
    x = graph.source(Source(F64, (2, 9)))
    rows = sliding(x, [1], 3, 2, 1)
    (found,) = gradients(map_("mul", rows, rows), [x])
    assert found is not None
    assert "reduce" not in {n.op for n in graph.topological([found])}
