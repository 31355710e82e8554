"""`jit`: replays give what running gives; what is stale is captured again or refused, and never silently wrong."""

from __future__ import annotations

import functools
import random as python_random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

from portkit.errors import DeviceMismatch, ShapeError, TensorError
from portkit.runtime.trace import recording
from portkit.tensor import Tensor, optim, random
from portkit.tensor.autograd import no_grad
from portkit.tensor.dynamic import Dimension, dynamic
from portkit.tensor.jit import Jit, jit


def full(value: float, *shape: int) -> Tensor:
    return Tensor(np.full(shape or (3,), value, np.float32))


def first(tensor: Tensor) -> float:
    return float(tensor.numpy().reshape(-1)[0])


# --- replaying ----------------------------------------------------------------------------------------------------


class Notes:
    """Notes what it is told where `jit` does not look: as far as constants go, it is of another package."""

    __module__ = "numpy"

    def __init__(self) -> None:
        self.told: list[Any] = []

    def tell(self, what: Any) -> None:
        self.told.append(what)


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


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    random.seed(0)
    yield
    random.seed(0)
