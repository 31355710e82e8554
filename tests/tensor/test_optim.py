"""Optimizers against NumPy, step by step, and their place in a training loop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from portkit.errors import ShapeError, UsageError
from portkit.tensor import random
from portkit.tensor.optim import SGD, Adam, AdamW, Optimizer, clip_gradients
from portkit.tensor.tensor import Tensor

EPS = float(np.finfo(np.float64).eps)
START = np.array([[0.5, -1.25], [2.0, 0.0]])
STEPS = 5
ROUNDINGS = 40
"""More than the operations of one step, each of which may round."""
RATE = 0.125

Rule = Callable[[np.ndarray, np.ndarray, dict[str, np.ndarray], int], np.ndarray]


def slope_at(p: np.ndarray) -> np.ndarray:
    """The gradient of sum(p^2 (1 + p / 4))"""
    return 2 * p + 0.75 * p * p


def sgd(p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray], t: int) -> np.ndarray:
    return p - RATE * g


def momentum(p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray], t: int) -> np.ndarray:
    state["v"] = g if t == 1 else 0.5 * state["v"] + g
    return p - RATE * state["v"]


def nesterov(p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray], t: int) -> np.ndarray:
    state["v"] = g if t == 1 else 0.5 * state["v"] + g
    return p - RATE * (g + 0.5 * state["v"])


def adam(p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray], t: int) -> np.ndarray:
    state["m"] = 0.75 * state.get("m", 0 * p) + 0.25 * g
    state["v"] = 0.5 * state.get("v", 0 * p) + 0.5 * g**2
    return p - RATE * (state["m"] / (1 - 0.75**t)) / (np.sqrt(state["v"] / (1 - 0.5**t)) + 0.25)


def decayed(rule: Rule) -> Rule:
    return lambda p, g, state, t: rule(p, g + 0.25 * p, state, t)


def adamw(p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray], t: int) -> np.ndarray:
    return adam(p - RATE * 0.25 * p, g, state, t)


BETAS, EPSILON = (0.75, 0.5), 0.25
RULES: dict[str, tuple[Callable[[list[Tensor]], Optimizer], Rule]] = {
    "sgd": (lambda p: SGD(p, RATE), sgd),
    "sgd decay": (lambda p: SGD(p, RATE, weight_decay=0.25), decayed(sgd)),
    "momentum": (lambda p: SGD(p, RATE, 0.5), momentum),
    "momentum decay": (lambda p: SGD(p, RATE, 0.5, 0.25), decayed(momentum)),
    "nesterov": (lambda p: SGD(p, RATE, 0.5, nesterov=True), nesterov),
    "adam": (lambda p: Adam(p, RATE, BETAS, EPSILON), adam),
    "adam decay": (lambda p: Adam(p, RATE, BETAS, EPSILON, 0.25), decayed(adam)),
    "adamw": (lambda p: AdamW(p, RATE, BETAS, EPSILON, 0.25), adamw),
}


def parameter(values: np.ndarray = START, dtype: str = "f64") -> Tensor:
    return Tensor(values, dtype, requires_grad=True)


def loss_of(p: Tensor) -> Tensor:
    return (p * p * (1 + p * 0.25)).sum()


@pytest.mark.parametrize("name", RULES)
def test_an_optimizer_takes_the_steps_of_its_closed_form(name: str) -> None:
    make, rule = RULES[name]
    p = parameter()
    optimizer = make([p])
    expected, state = START.copy(), dict[str, np.ndarray]()
    for t in range(1, STEPS + 1):
        optimizer.zero_grad()
        loss_of(p).backward()
        optimizer.step()
        expected = rule(expected, slope_at(expected), state, t)
        # Steps contract: what was off before is off by less after, so that the roundings of each step add up.
        np.testing.assert_allclose(p.numpy(), expected, rtol=ROUNDINGS * t * EPS, atol=ROUNDINGS * t * EPS)


def test_adam_corrects_its_means_accurately_in_f32() -> None:
    """The mean of squares is 1 - 0.999 of the square at first, and as f32 0.999 is off by 1e-8: 1e-5 of that."""
    p = parameter(np.array([4.0]), "f32")
    optimizer = Adam([p], RATE, epsilon=0.0)
    p.sum().backward()
    optimizer.step()
    np.testing.assert_allclose(p.numpy(), [4 - RATE], rtol=RATE / 4 * ROUNDINGS * 2.0**-24)


def test_adam_s_first_step_is_the_rate_in_the_direction_of_the_gradient() -> None:
    p = parameter(np.array([3.0, -2.0, 0.5]))
    optimizer = Adam([p], RATE, epsilon=0.0)
    (p * Tensor([5.0, -7.0, 1e-3], "f64")).sum().backward()
    optimizer.step()
    np.testing.assert_allclose(p.numpy(), [3.0 - RATE, -2.0 + RATE, 0.5 - RATE], rtol=ROUNDINGS * EPS)


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_state_of_narrow_parameters_is_kept_wide(dtype: str) -> None:
    p = parameter(START, dtype)
    optimizer = Adam([p], RATE)
    loss_of(p).backward()
    optimizer.step()
    assert p.dtype.name == dtype
    assert {t.dtype.name for tensors in optimizer.state.values() for t in tensors} == {"f32"}


def test_parameters_without_a_gradient_stay() -> None:
    p, other = parameter(), parameter()
    optimizer = Adam([p, other], RATE)
    loss_of(p).backward()
    optimizer.step()
    np.testing.assert_array_equal(other.numpy(), START)
    assert (p.numpy() != START).sum() == 3


def test_a_parameter_given_twice_moves_once() -> None:
    p = parameter()
    optimizer = SGD([p, p], RATE)
    loss_of(p).backward()
    optimizer.step()
    np.testing.assert_allclose(p.numpy(), START - RATE * slope_at(START), rtol=ROUNDINGS * EPS)


def test_a_step_computes_the_loss_and_other_waiting_values_too() -> None:
    p = parameter()
    optimizer = SGD([p], RATE)
    generator = random.Generator(1)
    noisy = p + random.rand(2, 2, dtype="f64", generator=generator)
    loss, other = loss_of(noisy), noisy * 2
    loss.backward()
    optimizer.step(other)
    assert {t.node.op for t in (p, loss, other, generator.state_dict()["draws"])} == {"source"}


def test_the_learning_rate_can_be_set_between_steps() -> None:
    p = parameter()
    optimizer = SGD([p], RATE)
    optimizer.learning_rate = 0.5
    assert optimizer.learning_rate == 0.5
    p.sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(p.numpy(), START - 0.5)


def test_a_state_continues_where_it_was_taken() -> None:
    found: list[np.ndarray] = []
    for interrupted in (False, True):
        p = parameter()
        optimizer: Optimizer = Adam([p], RATE)
        for step in range(4):
            if interrupted and step == 2:
                state = optimizer.state_dict()
                p = parameter(p.numpy())
                optimizer = Adam([p], 1.0)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            loss_of(p).backward()
            optimizer.step()
        found.append(p.numpy())
    np.testing.assert_array_equal(found[0], found[1])


def test_a_state_that_does_not_fit_is_refused() -> None:
    optimizer = Adam([parameter()], RATE)
    with pytest.raises(UsageError, match=r"missing \['mean.0', 'square.0'\], unknown \[\]"):
        optimizer.load_state_dict(SGD([parameter()], RATE).state_dict())
    other = Adam([parameter(np.zeros(3))], RATE)
    with pytest.raises(ShapeError, match=r"'mean.0' is \(3,\), the optimizer has \(2, 2\)"):
        optimizer.load_state_dict(other.state_dict())


def test_what_cannot_be_optimized_is_refused() -> None:
    with pytest.raises(UsageError, match="needs parameters, got none"):
        SGD([])
    with pytest.raises(UsageError, match=r"parameter 0 of shape \(2, 2\) has no requires_grad"):
        SGD([Tensor(START)])
    with pytest.raises(UsageError, match="no parameter has a gradient"):
        SGD([parameter()]).step()
    with pytest.raises(UsageError, match="nesterov needs a momentum"):
        SGD([parameter()], nesterov=True)
    with pytest.raises(UsageError, match="betas are two, from 0 to below 1"):
        Adam([parameter()], betas=(0.9, 1.0))


def test_clipping_scales_all_gradients_to_a_norm_only_if_theirs_is_larger() -> None:
    p, q = parameter(np.zeros(2)), parameter(np.zeros((1, 2)))
    for most, expected in ((6.5, [1.5, 2.0, 6.0, 0.0]), (20.0, [3.0, 4.0, 12.0, 0.0])):
        p.grad, q.grad = Tensor([3.0, 4.0], "f64"), Tensor([[12.0, 0.0]], "f64")
        assert clip_gradients([p, q], most).item() == 13
        found = [v for g in (p.grad, q.grad) for v in np.ravel(g.numpy())]
        np.testing.assert_allclose(found, expected, rtol=2.0**-23)
    with pytest.raises(UsageError, match="no parameter has a gradient"):
        clip_gradients([parameter()], 1.0)


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
def test_a_rate_that_is_no_number_from_0_up_is_refused(rate: float) -> None:
    optimizer = SGD([Tensor([1.0], requires_grad=True)])
    with pytest.raises(UsageError, match="a learning rate is a number from 0 up"):
        optimizer.learning_rate = rate


def test_one_beta_is_refused() -> None:
    with pytest.raises(UsageError, match="betas are two"):
        Adam([Tensor([1.0], requires_grad=True)], betas=(0.9,))  # type: ignore[arg-type]
