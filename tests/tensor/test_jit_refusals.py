"""`jit`: what is stale is captured again or refused, and never silently wrong."""

from __future__ import annotations

import functools
import random as python_random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from portkit.errors import DeviceMismatch, ShapeError, TensorError
from portkit.tensor import Tensor
from portkit.tensor.autograd import no_grad
from portkit.tensor.jit import Jit, jit
from tests.tensor.capturing import Notes, first, full

# --- stale captures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((full(1), 2), (full(1), 3)),
        ((full(1), 2), (full(1), 2.0)),
        ((full(1), 1), (full(1), True)),
        ((full(1), 0.0), (full(1), -0.0)),
        ((full(1), 2), (full(1, 4), 2)),
        ((full(1), 2), (Tensor([1, 1, 1]), 2)),
        ((full(1), 2), (full(1).cast("f16"), 2)),
        ((full(1), (2, "a")), (full(1), (2, "b"))),
        ((full(1), {"a": 1}), (full(1), {"b": 1})),
        ((full(1), np.arange(3)), (full(1), np.arange(3) + 1)),
        ((full(1), {1, 2}), (full(1), {1, 3})),
        ((full(1), None), (full(1), full(1))),
    ],
    ids=str,
)
def test_another_kind_of_call_is_captured_anew(one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    @jit
    def same(x: Tensor, y: Any) -> tuple[Tensor, Any]:
        return x + 0, y

    for _ in range(2):
        for x, y in (one, other):
            result, constant = same(x, y)
            assert result.dtype == x.dtype
            assert result.shape == x.shape
            assert repr(constant) == repr(y)
    assert same.captured == 2


def test_one_tensor_given_twice_is_another_call_than_two() -> None:
    @jit
    def sum_of(x: Tensor, y: Tensor) -> Tensor:
        return x + y

    x = full(1)
    assert [first(sum_of(x, x)), first(sum_of(x, full(5))), first(sum_of(x, x))] == [2, 6, 2]
    assert sum_of.captured == 2


FACTOR: float = 2.0


class Settings:
    factor = 2.0


def helper(x: Tensor) -> Tensor:
    return x * FACTOR


def test_a_global_that_changes_is_noticed_also_where_a_called_function_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    scale = jit(lambda x: helper(x) + Settings.factor)
    assert first(scale(full(1))) == 4
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert first(scale(full(1))) == 5
    monkeypatch.setattr(Settings, "factor", 7.0)
    assert first(scale(full(1))) == 10
    monkeypatch.setitem(globals(), "helper", lambda x: x)
    assert first(scale(full(1))) == 8
    assert scale.captured == 4


def test_what_a_function_closes_over_is_noticed_when_it_changes() -> None:
    factor, table, array = 2, {"offset": [1]}, np.array([5.0], np.float32)

    @jit
    def apply(x: Tensor) -> Tensor:
        return x * factor + table["offset"][0] + Tensor(array)

    assert first(apply(full(1))) == 8
    factor = 3
    assert first(apply(full(1))) == 9
    table["offset"][0] = 2
    assert first(apply(full(1))) == 10
    array[0] = 6
    assert first(apply(full(1))) == 11
    assert apply.captured == 4


def test_a_large_array_that_could_change_is_refused() -> None:
    array = np.zeros(1 << 20, np.float32)
    with pytest.raises(TensorError, match=r"uses array, 4194304 bytes .* make a Tensor of it outside"):
        jit(lambda x: x + Tensor(array[:3]))(full(1))


def test_a_tensor_that_a_name_stands_for_is_noticed_when_it_is_another() -> None:
    w = full(2)
    multiply = jit(lambda x: x * w)
    assert first(multiply(full(3))) == 6
    w = full(5)
    assert first(multiply(full(3))) == 15


def test_a_mode_of_differentiation_is_part_of_the_call() -> None:
    w = full(2)
    w.requires_grad = True

    @jit
    def lose(x: Tensor) -> Tensor:
        return (x * w).sum()

    lose(full(1))
    with no_grad():
        lose(full(1))
    w.requires_grad = False
    lose(full(1))
    assert lose.captured == 3


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "look",
    [lambda x: x.item(), lambda x: x.numpy(), lambda x: x.tolist(), lambda x: float(x.sum().item())],
    ids=["item", "numpy", "tolist", "item of a result"],
)
def test_a_function_that_needs_a_value_in_python_is_refused(look: Callable[[Tensor], Any]) -> None:
    with pytest.raises(TensorError, match="needs the value of a tensor while it is captured"):
        jit(lambda x: x * look(x))(full(1, 1))


def test_what_depends_on_no_argument_may_be_looked_at() -> None:
    @jit
    def shift(x: Tensor) -> Tensor:
        return x + Tensor([1.0, 2.0]).sum().item()

    assert [first(shift(full(v))) for v in (1, 2)] == [4, 5]


def test_a_function_that_changes_python_constants_is_refused_by_name() -> None:
    class Counter:
        def __init__(self) -> None:
            self.steps = 0

    counter = Counter()

    @jit
    def count(x: Tensor) -> Tensor:
        counter.steps += 1
        return x + counter.steps

    with pytest.raises(TensorError, match=r"running it changes counter\.steps, which a replay would not"):
        count(full(1))


def test_what_a_partial_function_holds_is_looked_at() -> None:
    def scale(by: list[float], x: Tensor) -> Tensor:
        return x * by[0]

    by = [2.0]
    captured = jit(functools.partial(scale, by))
    assert first(captured(full(3))) == 6
    by[0] = 5.0
    assert first(captured(full(3))) == 15


@pytest.mark.parametrize(
    "draw",
    [python_random.random, np.random.random, functools.partial(np.random.default_rng(1).random)],
    ids=["python", "numpy", "a generator of numpy"],
)
def test_random_numbers_of_others_are_refused(draw: Callable[[], float]) -> None:
    with pytest.raises(TensorError, match="running it changes"):
        jit(lambda x: x + draw())(full(1))


def test_an_iterator_is_refused() -> None:
    numbers = iter(range(5))
    with pytest.raises(TensorError, match=r"can reach an iterator, numbers, .* outside"):
        jit(lambda x: x + next(numbers))(full(1))


def test_a_function_that_fills_a_cache_the_first_time_is_captured_the_second() -> None:
    cache: dict[str, int] = {}

    @jit
    def add(x: Tensor) -> Tensor:
        return x + cache.setdefault("one", 1)

    assert [first(add(full(v))) for v in (1, 2)] == [2, 3]
    assert add.captured == 1


def test_an_error_inside_leaves_every_tensor_as_it_was() -> None:
    w = full(2)
    w.requires_grad = True
    before = w.node

    @jit
    def fail(x: Tensor) -> Tensor:
        (x * w).sum().backward()
        w.assign(w * 3)
        return w.reshape(7)

    with pytest.raises(ShapeError):
        fail(full(1))
    assert w.node is before
    assert w.grad is None
    assert first(full(1) + 1) == 2


def test_a_tensor_that_escapes_from_a_capture_has_no_value() -> None:
    notes = Notes()

    @jit
    def leak(x: Tensor) -> Tensor:
        y = x + 1
        notes.tell(y)
        return y * 2

    leak(full(1))
    with pytest.raises(TensorError, match="while it is captured"):
        notes.told[0].numpy()


def test_tensors_of_two_devices_are_refused() -> None:
    elsewhere = Tensor.of(full(1).node, "tests.runtime.programs:PLAIN")
    with pytest.raises(DeviceMismatch):
        jit(lambda x: (x + 1, elsewhere * 2))(full(1))


def test_a_function_keeps_its_name_and_words() -> None:
    @jit
    def documented(x: Tensor) -> Tensor:
        """Says what it does."""
        return x

    assert isinstance(documented, Jit)
    assert getattr(documented, "__name__", "") == "documented"
    assert documented.__doc__ == "Says what it does."


def test_captures_that_are_longest_unused_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portkit.tensor.jit._MOST", 2)
    add = jit(lambda x, n: x + n)
    for n in (1, 2, 1, 3, 1):
        assert first(add(full(0), n)) == n
    assert add.captured == 3
    add(full(0), 2)
    assert add.captured == 4
