"""Softmax, norms, attention, activations and losses against their formulas in f64."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from portkit.compiler import graph
from portkit.errors import AxisError, DTypeError, ShapeError, UsageError
from portkit.spec.types import BF16, F16, F32, F64, DType
from portkit.tensor import functional as f
from portkit.tensor.tensor import Tensor
from tests.tensor.judging import close, random, same, value

Array = NDArray[np.float64]
FLOATS = [F32, F64, F16, BF16]


def softmax(x: Array, axis: Any = -1) -> Array:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def standard(x: Array, axes: Any, epsilon: float = 1e-5) -> Array:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


# --- softmax and norms --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("axis", [-1, 0, (0, 1), None], ids=str)
def test_softmax_and_its_logarithm_are_their_formulas(dtype: DType, axis: Any) -> None:
    x = random(5, 6).astype(dtype.numpy)
    exact = softmax(x.astype(np.float64), axis)
    close(f.softmax(Tensor(x), axis), exact, 16)
    close(f.log_softmax(Tensor(x), axis), np.log(exact), 16)


def test_softmax_of_large_numbers_neither_overflows_nor_divides_by_zero() -> None:
    x = np.array([[1e4, 1e4], [-1e30, 0], [-math.inf, 0]], np.float32)
    same(f.softmax(Tensor(x)), np.array([[0.5, 0.5], [0, 1], [0, 1]], np.float32))
    assert np.isneginf(value(f.log_softmax(Tensor(x)))[2, 0])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_norms_are_their_formulas(dtype: DType) -> None:
    x = random(3, 4, 5, 2).astype(dtype.numpy)
    w, b = random(5, 2, seed=1).astype(dtype.numpy), random(5, 2, seed=2).astype(dtype.numpy)
    c, d = random(4, seed=3).astype(dtype.numpy), random(4, seed=4).astype(dtype.numpy)
    X, W, B, C, D = (v.astype(np.float64) for v in (x, w, b, c, d))
    channel = lambda v: v[:, None, None]  # noqa: E731
    t, *p = map(Tensor, (x, w, b, c, d))
    close(f.layer_norm(t, (5, 2), p[0], p[1]), standard(X, (2, 3)) * W + B, 40)
    close(f.rms_norm(t), X / np.sqrt((X**2).mean(-1, keepdims=True) + 1e-6), 40)
    close(f.rms_norm(t, (5, 2), p[0]), X / np.sqrt((X**2).mean((2, 3), keepdims=True) + 1e-6) * W, 40)
    close(f.batch_norm(t, None, None, p[2], p[3]), standard(X, (0, 2, 3)) * channel(C) + channel(D), 40)
    known = (X - channel(C)) / np.sqrt(channel(np.abs(D)) + 1e-5)
    close(f.batch_norm(t, p[2], p[3].abs()), known, 40)
    groups = standard(X.reshape(3, 2, 2, 5, 2), (2, 3, 4)).reshape(X.shape)
    close(f.group_norm(t, 2, p[2], p[3]), groups * channel(C) + channel(D), 40)
    close(f.instance_norm(t), standard(X, (2, 3)), 40)
    close(f.normalize(t, 1), X / np.linalg.norm(X, axis=1, keepdims=True), 40)


def test_a_norm_of_constants_is_zero_and_not_nan() -> None:
    same(f.layer_norm(Tensor(np.full((2, 4), 3.0, np.float32)), 4), np.zeros((2, 4), np.float32))


# --- attention ----------------------------------------------------------------------------------------------------


def attended(q: Array, k: Array, v: Array, mask: Array | None = None, scale: float | None = None) -> Array:
    scores = q @ k.swapaxes(-1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    return softmax(scores if mask is None else scores + mask) @ v


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_attention_is_its_formula(dtype: DType) -> None:
    q, k, v = (random(2, 3, n, 8, seed=n).astype(dtype.numpy) for n in (5, 7, 7))
    exact = q.astype(np.float64), k.astype(np.float64), v.astype(np.float64)
    attention = partial(f.scaled_dot_product_attention, Tensor(q), Tensor(k), Tensor(v))
    allowed = np.tri(5, 7) > 0
    close(attention(), attended(*exact), 40)
    close(attention(scale=0.5), attended(*exact, scale=0.5), 40)
    masked = attended(*exact, mask=np.where(allowed, 0, -math.inf))
    close(attention(mask=Tensor(allowed)), masked, 40)
    close(attention(causal=True), masked, 40)
    bias = random(5, 7)
    close(attention(mask=Tensor(bias)), attended(*exact, mask=bias.astype(np.float64)), 40)


def test_heads_of_keys_and_values_are_shared_by_groups_of_queries() -> None:
    q, k, v = random(1, 6, 4, 8), random(1, 2, 5, 8, seed=1), random(1, 2, 5, 3, seed=2)
    exact = attended(q.astype(np.float64), k.repeat(3, 1).astype(np.float64), v.repeat(3, 1).astype(np.float64))
    close(f.scaled_dot_product_attention(Tensor(q), Tensor(k), Tensor(v)), exact, 40)


# --- activations --------------------------------------------------------------------------------------------------

ERF = np.vectorize(math.erf)
SIGMOID: Callable[[Array], Array] = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "softplus": lambda x: np.logaddexp(0, x),
    "log_sigmoid": lambda x: -np.logaddexp(0, -x),
    "silu": lambda x: x * SIGMOID(x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "gelu": lambda x: x * 0.5 * (1 + ERF(x / math.sqrt(2))),
    "hardsigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hardswish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "hardtanh": lambda x: np.clip(x, -1, 1),
    "softsign": lambda x: x / (1 + np.abs(x)),
}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_its_formula(name: str, dtype: DType) -> None:
    x = (random(60) * 4).astype(dtype.numpy)
    close(getattr(f, name)(Tensor(x)), ACTIVATIONS[name](x.astype(np.float64)), 12)


@pytest.mark.parametrize("name", ["softplus", "log_sigmoid", "silu", "mish", "gelu", "elu"])
def test_an_activation_does_not_overflow(name: str) -> None:
    got = value(getattr(f, name)(Tensor([-1e4, 1e4])))
    assert np.isfinite(got).all()


def test_the_approximate_gelu_is_its_formula() -> None:
    x = random(40)
    e = x.astype(np.float64)
    wanted = 0.5 * e * (1 + np.tanh(math.sqrt(2 / math.pi) * (e + 0.044715 * e**3)))
    close(f.gelu(Tensor(x), "tanh"), wanted, 12)


def test_dropout_takes_its_noise_and_keeps_the_mean() -> None:
    x = np.ones((4,), np.float32)
    noise = Tensor([0.1, 0.3, 0.25, 0.9])
    same(f.dropout(Tensor(x), noise, 0.25), np.array([0, 4 / 3, 4 / 3, 4 / 3], np.float32))
    same(f.dropout(Tensor(x), noise, 0.0), x)
    same(f.dropout(Tensor(x), noise, 1.0), x * 0)


# --- losses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_of_two_tensors_are_their_formulas(reduction: str) -> None:
    a, b = random(4, 3), random(4, 3, seed=1)
    x, t = a.astype(np.float64), b.astype(np.float64)
    p, q = SIGMOID(x).astype(np.float32), SIGMOID(t).astype(np.float32)
    P, Q = p.astype(np.float64), q.astype(np.float64)
    fold: Callable[[Array], Any] = {"mean": np.mean, "sum": np.sum, "none": lambda v: v}[reduction]
    A, B = Tensor(a), Tensor(b)
    close(f.mse_loss(A, B, reduction), fold((x - t) ** 2), 20)
    close(f.l1_loss(A, B, reduction), fold(np.abs(x - t)), 20)
    far = np.abs(x - t)
    close(f.huber_loss(A, B, 0.5, reduction), fold(np.where(far <= 0.5, 0.5 * far**2, 0.5 * (far - 0.25))), 20)
    entropy = -(Q * np.log(P) + (1 - Q) * np.log1p(-P))
    close(f.binary_cross_entropy(Tensor(p), Tensor(q), reduction), fold(entropy), 40)
    close(f.binary_cross_entropy_with_logits(A, Tensor(q), reduction), fold(np.logaddexp(0, x) - Q * x), 40)
    close(f.kl_div(A, Tensor(q), reduction), fold(Q * (np.log(Q) - x)), 40)


def test_the_divergence_of_probability_zero_is_zero() -> None:
    same(f.kl_div(Tensor([-1.0]), Tensor([0.0]), "none"), np.zeros(1, np.float32))


def test_binary_cross_entropy_of_certainty_is_limited() -> None:
    same(f.binary_cross_entropy(Tensor([0.0, 1.0]), Tensor([1.0, 1.0]), "none"), np.array([100, 0], np.float32))


def chosen(x: Array, target: NDArray[Any]) -> Array:
    logs = x - np.log(np.exp(x).sum(1, keepdims=True))
    return -np.take_along_axis(logs, target[:, None], 1)[:, 0]


@pytest.mark.parametrize("shape", [(6, 5), (3, 5, 2), (2, 5, 2, 3)])
def test_cross_entropy_with_classes_is_its_formula(shape: tuple[int, ...]) -> None:
    x = random(*shape)
    target = np.random.default_rng(0).integers(0, 5, (shape[0], *shape[2:]))
    losses = chosen(x.astype(np.float64), target)
    close(f.cross_entropy(Tensor(x), Tensor(target)), losses.mean(), 30)
    close(f.cross_entropy(Tensor(x), Tensor(target), reduction="none"), losses, 30)
    close(f.cross_entropy(Tensor(x), Tensor(target.astype(np.uint8)), reduction="sum"), losses.sum(), 30)


def test_cross_entropy_weighs_classes_and_ignores_one() -> None:
    x, target = random(6, 5), np.array([0, 1, 2, 3, 4, 1])
    w = np.array([1, 2, 0, 4, 5], np.float32)
    losses, weights = chosen(x.astype(np.float64), target), w[target].astype(np.float64)
    close(f.cross_entropy(Tensor(x), Tensor(target), Tensor(w)), (losses * weights).sum() / weights.sum(), 30)
    left = target != 1
    close(f.cross_entropy(Tensor(x), Tensor(target), ignore=1), losses[left].mean(), 30)


def test_cross_entropy_with_probabilities_and_smoothing_is_its_formula() -> None:
    x, target = random(4, 5), np.array([0, 4, 2, 2])
    logs = np.log(softmax(x.astype(np.float64), 1))
    p = np.eye(5)[target]
    smooth = p * 0.9 + 0.1 / 5
    close(f.cross_entropy(Tensor(x), Tensor(p.astype(np.float32))), -(p * logs).sum(1).mean(), 30)
    close(f.cross_entropy(Tensor(x), Tensor(target), smoothing=0.1), -(smooth * logs).sum(1).mean(), 30)


def test_cross_entropy_leaves_out_ignored_samples_and_classes_out_of_range() -> None:
    x = random(4, 5)
    few = Tensor([2, -100, 7, 3])
    logs = np.log(softmax(x.astype(np.float64), 1))
    close(f.cross_entropy(Tensor(x), few), -(logs[0, 2] + logs[3, 3]) / 2, 30)
    smooth = 0.8 * logs[[0, 3], [2, 3]] + 0.2 * logs[[0, 3]].mean(1)
    close(f.cross_entropy(Tensor(x), few, smoothing=0.2), -smooth.mean(), 30)
    poisoned = x.copy()
    poisoned[1] = math.nan
    assert np.isfinite(value(f.cross_entropy(Tensor(poisoned), few)))


def test_an_impossible_class_that_is_not_wanted_costs_nothing() -> None:
    x = Tensor([[0.0, -math.inf]])
    same(f.cross_entropy(x, Tensor([0])), np.float32(0))


def test_a_single_sample_may_lack_its_axis() -> None:
    x = random(5)
    close(f.cross_entropy(Tensor(x), Tensor(3)), chosen(x.astype(np.float64)[None], np.array([3]))[0], 30)


# --- graphs and errors --------------------------------------------------------------------------------------------


def test_softmax_is_two_reductions_over_the_axis() -> None:
    node = f.softmax(Tensor(random(4, 8))).node
    kinds = [n.attr for n in graph.topological([node]) if n.op == "reduce"]
    assert kinds == [("max", (1,)), ("add", (1,))]


X = Tensor(random(4, 6))
Q = Tensor(random(2, 4, 8))
ERRORS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "softmax": (lambda: f.softmax(X, 2), AxisError, r"softmax: axis 2 is out of range for shape \(4, 6\)"),
    "layer norm": (lambda: f.layer_norm(X, 4), ShapeError, r"layer_norm: input \(4, 6\) does not end in .* \(4,\)"),
    "rms norm": (lambda: f.rms_norm(X, (4,)), ShapeError, "rms_norm: input"),
    "group norm": (lambda: f.group_norm(X, 4), ShapeError, "6 channels .* do not divide into 4 groups"),
    "batch norm": (lambda: f.batch_norm(X, X[0], X[:, 0]), ShapeError,
        r"\(4,\) does not fit the 6 channels of \(4, 6\)"),
    "batch rank": (lambda: f.batch_norm(X[0]), ShapeError, r"batch_norm needs an input \(n, c, ...\), got \(6,\)"),
    "attention": (lambda: f.scaled_dot_product_attention(Q, Q[..., :4], Q), ShapeError,
        r"query, key and value are .* got \(2, 4, 8\), \(2, 4, 4\), \(2, 4, 8\)"),
    "heads": (lambda: f.scaled_dot_product_attention(Tensor(random(3, 4, 8)), Q, Q), ShapeError,
        "3 heads .* no multiple of 2"),
    "both masks": (lambda: f.scaled_dot_product_attention(Q, Q, Q, X[:, :4] > 0, True), UsageError, "not both"),
    "gelu": (lambda: f.gelu(X, "sigmoid"), UsageError, "unknown approximation 'sigmoid'; it is 'none' or 'tanh'"),
    "dropout": (lambda: f.dropout(X, X, 1.5), UsageError, "the rate is a share from 0 to 1, got 1.5"),
    "loss shapes": (lambda: f.mse_loss(X, X[0]), ShapeError, r"mse_loss: prediction \(4, 6\) and target \(6,\) differ"),
    "reduction": (lambda: f.l1_loss(X, X, "max"), UsageError, "unknown reduction 'max'; it is mean, sum, none"),
    "classes": (lambda: f.cross_entropy(X, Tensor([0, 1])), ShapeError, r"target \(2,\) does not fit \(4, 6\)"),
    "class dtype": (lambda: f.nll_loss(X, Tensor([0.0] * 4)), DTypeError,
        "the target holds classes, as integers, got f32"),
    "smoothing": (lambda: f.cross_entropy(X, Tensor([0] * 4), Tensor([1.0] * 6), smoothing=0.1), UsageError,
        "no weight is taken"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_what_does_not_fit_is_refused_by_the_name_of_the_operation(name: str) -> None:
    act, error, text = ERRORS[name]
    with pytest.raises(error, match=text):
        act()
