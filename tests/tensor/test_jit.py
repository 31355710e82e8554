"""`jit`: replays give what running gives, for tensors from outside and gradients too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

from portkit.errors import ShapeError
from portkit.runtime.trace import recording
from portkit.tensor import Tensor, optim, random
from portkit.tensor.dynamic import Dimension, dynamic
from portkit.tensor.jit import Jit, jit
from tests.tensor.capturing import Notes, first, full


def test_the_python_of_a_function_runs_once_for_calls_alike() -> None:
    notes = Notes()

    @jit
    def triple(x: Tensor) -> Tensor:
        notes.tell("ran")
        return x * 3

    assert [first(triple(full(v))) for v in (1, 2, 5)] == [3, 6, 15]
    assert triple.captured == len(notes.told) == 1


def test_results_keep_their_structure_and_constants() -> None:
    class Pair(NamedTuple):
        low: Tensor
        high: Tensor

    @jit
    def both(x: Tensor) -> Any:
        return {"pair": Pair(x - 1, x + 1), "rest": [x, ("text", 5, None)]}

    for value in (1.0, 2.0):
        x = full(value)
        result = both(x)
        assert (first(result["pair"].low), first(result["pair"].high)) == (value - 1, value + 1)
        assert isinstance(result["pair"], Pair)
        assert result["rest"][0] is x
        assert result["rest"][1] == ("text", 5, None)


def test_arguments_may_be_nested_and_named() -> None:
    @jit
    def weigh(parts: dict[str, list[Tensor]], *, by: Tensor) -> Tensor:
        return parts["a"][0] * by - parts["a"][1]

    for value in (1.0, 2.0):
        assert first(weigh({"a": [full(value), full(1)]}, by=full(10))) == 10 * value - 1
    assert weigh.captured == 1


def test_results_of_one_replay_survive_the_next() -> None:
    add = jit(lambda x: x + 1)
    results = [add(full(v)) for v in range(5)]
    assert [first(r) for r in results] == [1, 2, 3, 4, 5]


def test_a_lazy_argument_is_computed_first() -> None:
    add = jit(lambda x: x + 1)
    assert [first(add(full(v) * 2)) for v in (1, 2)] == [3, 5]


def test_a_function_without_tensors_or_results_is_replayed_too() -> None:
    nothing = jit(lambda n: n + 1)
    assert [nothing(1), nothing(1), nothing(2)] == [2, 2, 3]
    assert nothing.captured == 2


def test_a_captured_function_inside_another_is_part_of_that_one() -> None:
    inner = jit(lambda x: x * 2)
    outer = jit(lambda x: inner(x) + 1)
    assert [first(outer(full(v))) for v in (1, 2)] == [3, 5]
    assert (inner.captured, outer.captured) == (0, 1)


def test_a_method_is_captured_for_each_object() -> None:
    @dataclass
    class Scale:
        factor: float

        @jit
        def __call__(self, x: Tensor) -> Tensor:
            return x * self.factor

    two, three = Scale(2.0), Scale(3.0)
    assert [first(s(full(v))) for v in (1, 2) for s in (two, three)] == [2, 3, 4, 6]
    two.factor = 5.0
    assert first(two(full(1))) == 5


def test_one_capture_serves_all_extents_of_a_dimension() -> None:
    n = Dimension("n", 1, 100)
    scale = jit(lambda x: (x * 2, x.sum()))
    for extent in (3, 100, 7, 3):
        doubled, total = scale(dynamic(full(1, extent, 2), 0, n))
        assert doubled.numpy().shape == (extent, 2)
        assert first(doubled) == 2
        assert first(total) == 2 * extent
    assert scale.captured == 1
    with pytest.raises(ShapeError, match="dimension n is"):
        jit(lambda x, y: x.sum() + y.sum())(dynamic(full(1, 3), 0, n), dynamic(full(1, 4), 0, n))


def test_whoever_traces_sees_the_kernels_of_a_replay() -> None:
    double = jit(lambda x: x * 2)
    double(full(1))
    with recording() as trace:
        assert first(double(full(3))) == 6
    assert len(trace.events) == 1
    assert double.captured == 1


# --- tensors from outside -----------------------------------------------------------------------------------------


def test_a_tensor_from_outside_is_read_again_at_each_replay() -> None:
    w = full(2)
    multiply = jit(lambda x: x * w)
    assert first(multiply(full(3))) == 6
    w.assign(full(4))
    assert first(multiply(full(3))) == 12
    w += 1
    assert first(multiply(full(3))) == 15
    assert multiply.captured == 1


def test_an_argument_is_not_taken_for_the_tensor_from_outside_that_it_was() -> None:
    w = full(2)
    add = jit(lambda x: x + w)
    assert first(add(w)) == 4
    assert first(add(full(10))) == 12


def test_a_tensor_that_is_assigned_to_gets_a_new_value_at_each_replay() -> None:
    count, total = full(0), full(0)

    @jit
    def add(x: Tensor) -> Tensor:
        count.assign(count + 1)
        total.assign(total + x * count)
        return total * 2

    assert [first(add(full(v))) for v in (1, 1, 1, 2)] == [2, 6, 12, 28]
    assert (first(count), first(total)) == (4, 14)
    assert add.captured == 1


def test_an_argument_that_is_assigned_to_is_the_callers() -> None:
    @jit
    def increase(x: Tensor) -> None:
        x += 1

    a, b = full(1), full(5)
    increase(a)
    increase(b)
    increase(a)
    assert (first(a), first(b), increase.captured) == (3, 6, 1)


def test_equal_tensors_from_outside_are_kept_apart() -> None:
    a, b = Tensor.of(full(0).node), Tensor.of(full(0).node)
    b = Tensor.of(a.node)

    @jit
    def change(x: Tensor) -> Tensor:
        a.assign(a + x)
        return a + b * 100

    assert [first(change(full(1))) for _ in range(3)] == [1, 2, 3]


def test_random_numbers_go_on_from_call_to_call() -> None:
    random.seed(7)
    plain = [random.rand(4).numpy() for _ in range(4)]
    draw = jit(lambda: random.rand(4))
    random.seed(7)
    captured = [draw().numpy() for _ in range(4)]
    np.testing.assert_array_equal(captured, plain)
    assert draw.captured <= 2


def test_the_first_random_numbers_of_a_process_go_on_from_call_to_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "_default", None)
    draw = jit(lambda: random.rand(4))
    drawn = [draw().tolist() for _ in range(3)]
    monkeypatch.setattr(random, "_default", None)
    assert drawn == [random.rand(4).tolist() for _ in range(3)]


def test_a_seed_between_replays_starts_another_stream() -> None:
    draw = jit(lambda: random.rand(4))
    drawn: list[Any] = []
    for seed in (3, 4, 3):
        random.seed(seed)
        drawn.append([draw().tolist(), draw().tolist()])
    assert drawn[0] == drawn[2] != drawn[1]


# --- gradients and training ---------------------------------------------------------------------------------------


def training(wrap: Callable[[Callable[..., Any]], Callable[..., Any]], clear: str) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(3)
    w, c = (Tensor(rng.standard_normal(shape).astype(np.float32)) for shape in ((4, 3), (3,)))
    for p in (w, c):
        p.requires_grad = True
    optimizer = optim.Adam([w, c], 0.05)

    def step(x: Tensor, y: Tensor) -> Tensor:
        if clear == "first":
            optimizer.zero_grad()
        loss = (x.matmul(w) + c - y).square().mean()
        if clear == "before backward":
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if clear == "last":
            optimizer.zero_grad()
        return loss

    run = wrap(step)
    losses = []
    for _ in range(8):
        x, y = (Tensor(rng.standard_normal(shape).astype(np.float32)) for shape in ((5, 4), (5, 3)))
        losses.append(run(x, y).numpy())
        optimizer.learning_rate *= 0.9
    if isinstance(run, Jit):
        assert run.captured <= 2
    return [np.array(losses), w.numpy(), c.numpy(), *([] if w.grad is None else [w.grad.numpy()])]


@pytest.mark.parametrize("clear", ["first", "before backward", "last", "never"])
def test_a_captured_training_step_gives_the_same_bits(clear: str) -> None:
    for plain, captured in zip(training(lambda f: f, clear), training(jit, clear), strict=True):
        np.testing.assert_array_equal(captured, plain)


def test_gradients_of_an_argument_are_the_callers() -> None:
    @jit
    def lose(x: Tensor) -> None:
        x.square().sum().backward()

    for value in (1.0, 3.0):
        x = full(value)
        x.requires_grad = True
        lose(x)
        assert x.grad is not None
        assert first(x.grad) == 2 * value
        lose(x)
        assert first(x.grad) == 4 * value
