"""Gradients of tensors: leaves, `backward`, functional gradients, `no_grad`, `checkpoint`."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Collection, Iterable

import numpy as np
import pytest

from portkit.compiler import graph
from portkit.compiler.graph import Node
from portkit.errors import AxisError, DTypeError, ShapeError, UsageError
from portkit.tensor.autograd import checkpoint, enable_grad, grad, jvp, no_grad, value_and_grad, vjp
from portkit.tensor.tensor import Tensor
from tests.tensor import differences

X = np.array([0.5, -1.25, 2.0])


def leaf(values: np.ndarray = X) -> Tensor:
    return Tensor(values, dtype="f64", requires_grad=True)


def slope(x: Tensor) -> np.ndarray:
    assert x.grad is not None
    return x.grad.numpy()


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(actual, expected, rtol=differences.ULPS * differences.EPS)


def test_backward_gives_each_leaf_its_gradient() -> None:
    x, y = leaf(), leaf(X + 1)
    (x * x * y).sum().backward()
    np.testing.assert_array_equal(slope(x), 2 * X * (X + 1))
    np.testing.assert_array_equal(slope(y), X * X)


def test_backward_twice_adds_up() -> None:
    x = leaf()
    for _ in range(2):
        (x * x).sum().backward()
    np.testing.assert_array_equal(slope(x), 4 * X)


def test_backward_takes_weights_of_the_elements() -> None:
    x = leaf()
    (x * x).backward(Tensor(X))
    np.testing.assert_array_equal(slope(x), 2 * X * X)


def test_backward_of_several_elements_without_weights_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"backward: the gradient of \(3,\) elements needs a weight for each"):
        Tensor(X).exp().backward()


def test_backward_without_a_leaf_is_refused() -> None:
    with pytest.raises(UsageError, match="depends on none that requires_grad"):
        Tensor(X).sum().backward()


def test_an_integer_tensor_is_no_leaf() -> None:
    with pytest.raises(DTypeError, match="only floats have gradients"):
        Tensor([1, 2], requires_grad=True)


def test_a_leaf_that_was_computed_meanwhile_still_has_its_gradient() -> None:
    x = (Tensor(X) * 2).requires_grad_()
    loss = (x * x).sum()
    x.realize()
    loss.backward()
    np.testing.assert_array_equal(slope(x), 4 * X)
    x.grad = None
    (x * x).sum().backward()
    np.testing.assert_array_equal(slope(x), 4 * X)


def test_a_loss_that_was_looked_at_can_still_be_differentiated() -> None:
    x = leaf()
    loss = (x * x).sum()
    assert loss.item() == (X * X).sum()
    loss.backward()
    np.testing.assert_array_equal(slope(x), 2 * X)


def test_values_computed_on_the_way_pass_gradients_and_are_not_computed_again() -> None:
    x = leaf()
    y = (x * x).realize()
    z = y.exp().realize()
    (y * z).sum().backward()
    assert x.grad is not None
    sources = [n for n in graph.topological([x.grad.node]) if n.op == "source"]
    assert z.node in sources
    assert not [n for n in graph.topological([x.grad.node]) if n.attr == "exp"]
    expected = np.exp(X * X) * (2 * X) + X * X * np.exp(X * X) * (2 * X)
    close(slope(x), expected)


def test_values_computed_within_a_function_pass_gradients() -> None:
    def function(x: Tensor) -> Tensor:
        y = x * x
        return y.sum() if y.sum().item() > 1 and y.realize().numpy()[0] > 0 else x.sum()

    np.testing.assert_array_equal(grad(function)(Tensor(X)).numpy(), 2 * X)
    np.testing.assert_array_equal(grad(lambda x: grad(function)(x).sum())(Tensor(X)).numpy(), [2, 2, 2])


def test_a_computed_value_of_no_leaf_holds_nothing_alive() -> None:
    before = Tensor(X)
    gone = weakref.ref(before.node)
    after = (before * 2).realize()
    del before
    gc.collect()
    assert gone() is None
    np.testing.assert_array_equal(after.numpy(), 2 * X)


def test_steps_along_a_gradient_hold_no_earlier_step_alive() -> None:
    """But for the first, which what compiles a graph may remember it by."""
    x = Tensor(X)
    steps: list[weakref.ReferenceType[Node]] = []
    for _ in range(4):
        x = (x - grad(lambda x: (x * x).sum())(x) * 0.25).realize()
        steps.append(weakref.ref(x.node))
    gc.collect()
    assert [step() is None for step in steps[1:]] == [True, True, False]
    np.testing.assert_array_equal(x.numpy(), X / 16)


def test_gradients_can_be_differentiated_where_asked_for() -> None:
    x = leaf()
    (x * x * x).sum().backward(create_graph=True)
    first = x.grad
    assert first is not None
    x.grad = None
    first.sum().backward()
    np.testing.assert_array_equal(slope(x), 6 * X)
    (x * x * x).sum().backward()
    plain = x.grad
    assert plain is not None
    with pytest.raises(UsageError, match="depends on none"):
        plain.sum().backward()


def test_leaves_of_equal_value_have_gradients_of_their_own() -> None:
    x, y = ((Tensor(X) * 0).requires_grad_() for _ in range(2))
    (x + y * 3).sum().backward()
    np.testing.assert_array_equal(slope(x), np.ones(3))
    np.testing.assert_array_equal(slope(y), np.full(3, 3.0))


def test_a_leaf_made_of_another_is_one_of_its_own() -> None:
    x = leaf()
    y = Tensor(x, requires_grad=True)
    (x + y * 3).sum().backward()
    np.testing.assert_array_equal(slope(x), np.ones(3))
    np.testing.assert_array_equal(slope(y), np.full(3, 3.0))


def test_an_update_of_a_leaf_is_not_differentiated() -> None:
    x = leaf()
    for _ in range(3):
        x.grad = None
        (x * x).sum().backward()
        x.assign(x - slope(x) * 0.25)
    np.testing.assert_array_equal(x.numpy(), X / 8)


def test_a_leaf_that_is_none_any_more_collects_nothing() -> None:
    x, y = leaf(), leaf()
    loss = (x * y).sum()
    x.requires_grad = False
    loss.backward()
    assert x.grad is None
    np.testing.assert_array_equal(slope(y), X)


def test_a_leaf_that_nobody_holds_is_freed() -> None:
    x = leaf()
    gone = weakref.ref(x)
    node = weakref.ref(x.node)
    del x
    gc.collect()
    assert gone() is None
    assert node() is None


def test_no_gradient_passes_what_is_computed_within_no_grad() -> None:
    x = leaf()
    with no_grad():
        frozen = x * x
        with enable_grad():
            alive = x * 3
    (frozen * alive).sum().backward()
    np.testing.assert_array_equal(slope(x), 3 * X * X)


def test_no_grad_decorates_functions() -> None:
    x = leaf()

    @no_grad()
    def frozen(x: Tensor) -> Tensor:
        return x * x

    (x * frozen(x)).sum().backward()
    np.testing.assert_array_equal(slope(x), X * X)


def test_detach_stops_the_gradient() -> None:
    x = leaf()
    (x * x.detach()).sum().backward()
    np.testing.assert_array_equal(slope(x), X)


def test_grad_gives_the_gradient_by_each_argument_that_is_asked_for() -> None:
    def function(x: Tensor, y: Tensor) -> Tensor:
        return (x * x * y).sum()

    x, y = Tensor(X), Tensor(X + 1)
    np.testing.assert_array_equal(grad(function)(x, y).numpy(), 2 * X * (X + 1))
    np.testing.assert_array_equal(grad(function, 1)(x, y).numpy(), X * X)
    by_x, by_y = grad(function, (0, -1))(x, y)
    np.testing.assert_array_equal(by_x.numpy(), 2 * X * (X + 1))
    np.testing.assert_array_equal(by_y.numpy(), X * X)


def test_grad_tells_one_tensor_given_twice_apart() -> None:
    x = Tensor(X)
    np.testing.assert_array_equal(grad(lambda a, b: (a * b * b).sum())(x, x).numpy(), X * X)


def test_grad_of_grad_is_the_second_derivative() -> None:
    second = grad(lambda x: grad(lambda y: (y * y * y).sum())(x).sum())
    np.testing.assert_array_equal(second(Tensor(X)).numpy(), 6 * X)


def test_value_and_grad_gives_both() -> None:
    value, found = value_and_grad(lambda x: (x * x).sum())(Tensor(X))
    assert value.item() == (X * X).sum()
    np.testing.assert_array_equal(found.numpy(), 2 * X)


def test_grad_by_what_the_function_does_not_use_is_zero() -> None:
    found = grad(lambda x, y: x.sum(), 1)(Tensor(X), Tensor(X))
    np.testing.assert_array_equal(found.numpy(), np.zeros(3))


def test_grad_works_within_no_grad() -> None:
    with no_grad():
        found = grad(lambda x: (x * x).sum())(Tensor(X))
    np.testing.assert_array_equal(found.numpy(), 2 * X)


def test_grad_refuses_arguments_without_gradient() -> None:
    with pytest.raises(AxisError, match="no argument 1 among 1"):
        grad(lambda x: x.sum(), 1)(Tensor(X))
    with pytest.raises(DTypeError, match="argument 0 is i32"):
        grad(lambda x: x.sum())(Tensor([1, 2]))
    with pytest.raises(DTypeError, match="argument 0 is float"):
        grad(lambda x: Tensor(X).sum())(2.0)
    with pytest.raises(ShapeError, match="needs a weight for each"):
        grad(lambda x: x * x)(Tensor(X))


def test_vjp_weighs_the_rows_of_the_jacobian() -> None:
    value, pull = vjp(lambda x, y: x * y, Tensor(X), Tensor(X + 1))
    np.testing.assert_array_equal(value.numpy(), X * (X + 1))
    by_x, by_y = pull(Tensor(X))
    np.testing.assert_array_equal(by_x.numpy(), X * (X + 1))
    np.testing.assert_array_equal(by_y.numpy(), X * X)


@pytest.mark.parametrize("wrapped", [False, True])
def test_jvp_is_the_derivative_along_a_direction(wrapped: bool) -> None:
    """Along (1, X): cos(x) y + sin(x) X, inside a checkpoint or not."""

    def function(x: Tensor, y: Tensor) -> Tensor:
        return x.sin() * y

    x, y = Tensor(X), Tensor(X + 1)
    _, along = jvp(checkpoint(function) if wrapped else function, (x, y), (x * 0 + 1, x))
    assert all(n.attr.name != "weight" for n in graph.topological([along.node]) if n.op == "source")
    close(along.numpy(), np.cos(X) * (X + 1) + np.sin(X) * X)


def test_jvp_of_a_sum_takes_every_tangent() -> None:
    _, along = jvp(lambda x, y: x + y, (Tensor(X), Tensor(X)), (Tensor(X), Tensor(X * 2)))
    np.testing.assert_array_equal(along.numpy(), 3 * X)


def test_jvp_wants_a_tangent_for_each_argument() -> None:
    with pytest.raises(UsageError, match="1 arguments need as many tangents, got 0"):
        jvp(lambda x: x, (Tensor(X),), ())


def test_checkpoint_gives_the_same_value_and_gradients() -> None:
    def block(x: Tensor, scale: Tensor) -> Tensor:
        return (x.sin() * scale).exp()

    found: list[tuple[np.ndarray, ...]] = []
    for function in (block, checkpoint(block)):
        x, w = leaf(), leaf(X + 2)
        value = function(x * 2, scale=w)
        value.sum().backward()
        found.append((value.numpy(), slope(x), slope(w)))
    for plain, again in zip(*found, strict=True):
        np.testing.assert_array_equal(plain, again)


def test_checkpoint_passes_tuples_of_results() -> None:
    x = leaf()
    one, two = checkpoint(lambda x: (x.sin(), x * x))(x)
    (one * two).sum().backward()
    close(slope(x), np.cos(X) * (X * X) + 2 * (np.sin(X) * X))


def test_gradients_are_the_same_bits_each_time() -> None:
    def once() -> bytes:
        x, w = leaf(np.linspace(-1, 1, 12).reshape(3, 4)), leaf(np.linspace(0, 2, 8).reshape(4, 2))
        (x @ w).tanh().sum().backward()
        return slope(x).tobytes() + slope(w).tobytes()

    assert once() == once()


def test_backward_visits_each_node_a_few_times_however_many_leaves_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    visited: list[int] = []
    walk = graph.topological

    def counting(outputs: Iterable[Node], until: Collection[Node] = ()) -> list[Node]:
        order = walk(outputs, until)
        visited.append(len(order))
        return order

    monkeypatch.setattr(graph, "topological", counting)

    def visits(count: int) -> int:
        weights = [leaf() for _ in range(count)]
        y = Tensor(X)
        for w in weights:
            y = y * w + w
        loss = y.sum()
        visited.clear()
        loss.backward()
        return sum(visited)

    assert visits(40) - visits(20) == 2 * (visits(20) - visits(10))
