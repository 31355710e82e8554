"""Layers against their closed forms in NumPy, and their gradients against central differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from portkit.compiler import graph
from portkit.compiler.graph import Node
from portkit.errors import ShapeError, UsageError
from portkit.tensor import pending
from portkit.tensor.nn import (
    GRU,
    LSTM,
    RNN,
    BatchNorm,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Embedding,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Linear,
    Module,
    MultiHeadAttention,
    RMSNorm,
    TransformerEncoderLayer,
)
from portkit.tensor.random import Generator
from portkit.tensor.tensor import Tensor
from tests.tensor import differences
from tests.tensor.test_gradients import spread

DEPTH = 64
"""More roundings than any of these layers makes in a row."""


def close(actual: Tensor, expected: np.ndarray) -> None:
    scale = float(np.abs(expected).max(initial=1))
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=DEPTH * differences.EPS * scale)


def wide(module: Module) -> Module:
    """Return a module in f64 with weights that are all different."""
    module.cast("f64")
    for n, tensor in enumerate(module.parameters()):
        tensor.assign(Tensor(spread(-0.5, 0.5 + n / 100, tuple(k for k in tensor.shape if isinstance(k, int)))))
    return module.realize()


def weights(module: Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in module.named_tensors()}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_linear_is_a_product_and_a_sum() -> None:
    layer, x = wide(Linear(3, 4)), spread(-2, 2, (2, 5, 3))
    w = weights(layer)
    close(layer(Tensor(x)), x @ w["weight"].T + w["bias"])


def test_first_weights_are_within_one_over_the_root_of_the_inputs() -> None:
    for layer, inputs in ((Linear(16, 50), 16), (Conv2d(4, 50, 2), 16), (ConvTranspose2d(50, 4, 2), 16)):
        found = np.abs(np.concatenate([p.numpy().ravel() for p in layer.parameters()]))
        assert 0.9 < found.max() * math.sqrt(inputs) <= 1


def test_embedding_takes_rows() -> None:
    layer, index = wide(Embedding(5, 3)), np.array([[0, 4], [2, 2]], np.int32)
    close(layer(Tensor(index)), weights(layer)["weight"][index])


def test_dropout_drops_its_share_in_training_only() -> None:
    x, rate = np.ones(10_000), 0.25
    layer = Dropout(rate, Generator(1))
    found = layer(Tensor(x)).numpy()
    assert set(np.unique(found)) == {0.0, 1 / (1 - rate)}
    assert abs((found == 0).mean() - rate) < 5 * math.sqrt(rate * (1 - rate) / x.size)
    np.testing.assert_array_equal(layer.eval()(Tensor(x)).numpy(), x)
    with pytest.raises(UsageError, match="share from 0 to 1"):
        Dropout(2.0)


def test_a_convolution_slides_its_weight() -> None:
    layer, x = wide(Conv1d(2, 3, 2, stride=2, padding=1)), spread(-2, 2, (2, 2, 5))
    w = weights(layer)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1)))
    rows = np.lib.stride_tricks.sliding_window_view(padded, 2, 2)[:, :, ::2]
    close(layer(Tensor(x)), np.einsum("nclk,ock->nol", rows, w["weight"]) + w["bias"][:, None])


def test_a_transposed_convolution_is_the_gradient_of_a_convolution() -> None:
    forward, back = wide(Conv2d(2, 3, 3, 2, 1, bias=False)), wide(ConvTranspose2d(3, 2, 3, 2, 1, bias=False))
    back.load_state_dict(forward.state_dict())
    x = Tensor(spread(-2, 2, (1, 2, 7, 5)), requires_grad=True)
    y = forward(x)
    seed = spread(-1, 1, tuple(y.shape))
    y.backward(Tensor(seed))
    assert x.grad is not None
    close(back(Tensor(seed)), x.grad.numpy())


def standardised(x: np.ndarray, axes: tuple[int, ...], epsilon: float = 1e-5) -> np.ndarray:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def test_norms_standardise_over_their_axes() -> None:
    x = spread(-2, 2, (3, 4, 5))
    layer = wide(LayerNorm((4, 5)))
    close(layer(Tensor(x)), standardised(x, (1, 2)) * weights(layer)["weight"] + weights(layer)["bias"])
    group = wide(GroupNorm(2, 4))
    normal = standardised(x.reshape(3, 2, 2, 5), (2, 3)).reshape(x.shape)
    close(group(Tensor(x)), normal * weights(group)["weight"][:, None] + weights(group)["bias"][:, None])
    close(InstanceNorm(4)(Tensor(x)), standardised(x, (2,)))
    rms = wide(RMSNorm(5))
    close(rms(Tensor(x)), x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * weights(rms)["weight"])


def test_batch_norm_uses_the_batch_in_training_and_its_running_means_after() -> None:
    layer, x = wide(BatchNorm(4, momentum=0.25)), spread(-2, 2, (3, 4, 5))
    w = weights(layer)
    mean, variance = np.zeros(4), np.ones(4)
    for k in range(1, 4):
        batch = x * k
        close(layer(Tensor(batch)), standardised(batch, (0, 2)) * w["weight"][:, None] + w["bias"][:, None])
        mean = 0.75 * mean + 0.25 * batch.mean((0, 2))
        variance = 0.75 * variance + 0.25 * batch.var((0, 2), ddof=1)
    close(layer.running_mean, mean)  # type: ignore[attr-defined]
    close(layer.running_var, variance)  # type: ignore[attr-defined]
    normal = (x - mean[:, None]) / np.sqrt(variance + 1e-5)[:, None]
    close(layer.eval()(Tensor(x)), normal * w["weight"][:, None] + w["bias"][:, None])


def test_running_means_wait_for_the_step_that_computes_the_batch() -> None:
    layer = wide(BatchNorm(4))
    pending.take()
    layer(Tensor(spread(-2, 2, (3, 4))))
    assert [t is layer.running_mean for t in pending.take()] == [True, False]  # type: ignore[attr-defined]


def test_running_means_do_not_wait_for_ever() -> None:
    layer, x = wide(BatchNorm(2, momentum=0.5)), spread(-2, 2, (3, 2))
    for _ in range(40):
        layer(Tensor(x))
    assert len(graph.topological([layer.running_mean.node])) < 600  # type: ignore[attr-defined]
    close(layer.running_mean, x.mean(0) * (1 - 0.5**40))  # type: ignore[attr-defined]


def lstm(w: dict[str, np.ndarray], x: np.ndarray, name: str = "l0", backwards: bool = False) -> np.ndarray:
    h = c = np.zeros((x.shape[1], w[f"weight_hh_{name}"].shape[1]))
    outputs: list[np.ndarray] = []
    for row in x[::-1] if backwards else x:
        gates = row @ w[f"weight_ih_{name}"].T + w[f"bias_ih_{name}"]
        i, f, g, o = np.split(gates + h @ w[f"weight_hh_{name}"].T + w[f"bias_hh_{name}"], 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs[::-1] if backwards else outputs)


def gru(w: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    h = np.zeros((x.shape[1], w["weight_hh_l0"].shape[1]))
    outputs: list[np.ndarray] = []
    for row in x:
        taken = np.split(row @ w["weight_ih_l0"].T + w["bias_ih_l0"], 3, 1)
        kept = np.split(h @ w["weight_hh_l0"].T + w["bias_hh_l0"], 3, 1)
        z = sigmoid(taken[1] + kept[1])
        new = np.tanh(taken[2] + sigmoid(taken[0] + kept[0]) * kept[2])
        h = (1 - z) * new + z * h
        outputs.append(h)
    return np.stack(outputs)


def rnn(w: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    h = np.zeros((x.shape[1], w["weight_hh_l0"].shape[1]))
    outputs: list[np.ndarray] = []
    for row in x:
        h = np.tanh(row @ w["weight_ih_l0"].T + w["bias_ih_l0"] + h @ w["weight_hh_l0"].T + w["bias_hh_l0"])
        outputs.append(h)
    return np.stack(outputs)


@pytest.mark.parametrize(("kind", "form"), [(LSTM, lstm), (GRU, gru), (RNN, rnn)])
def test_recurrent_layers_take_their_steps(kind: type, form: Callable[..., np.ndarray]) -> None:
    layer, x = wide(kind(3, 2)), spread(-2, 2, (4, 2, 3))
    outputs, last = layer(Tensor(x))
    expected = form(weights(layer), x)
    close(outputs, expected)
    close(last[0] if kind is LSTM else last, expected[-1:])


def test_recurrent_layers_stack_run_both_ways_and_continue() -> None:
    layer, x = wide(LSTM(3, 2, layers=2, bidirectional=True, batch_first=True)), spread(-2, 2, (2, 4, 3))
    w, rows = weights(layer), x.transpose(1, 0, 2)
    for n in range(2):
        rows = np.concatenate([lstm(w, rows, f"l{n}"), lstm(w, rows, f"l{n}_reverse", True)], 2)
    outputs, (h, c) = layer(Tensor(x))
    close(outputs, rows.transpose(1, 0, 2))
    assert h.shape == c.shape == (4, 2, 2)
    plain = wide(GRU(3, 2))
    whole, _ = plain(Tensor(rows[:, :, :3]))
    first, state = plain(Tensor(rows[:2, :, :3]))
    rest, _ = plain(Tensor(rows[2:, :, :3]), state)
    close(whole, np.concatenate([first.numpy(), rest.numpy()]))


def test_recurrent_layers_refuse_other_inputs() -> None:
    with pytest.raises(ShapeError, match=r"LSTM: the input is \(l, n, inputs\) of 3 inputs, got \(4, 2\)"):
        LSTM(3, 2)(Tensor(np.zeros((4, 2), np.float32)))
    with pytest.raises(ShapeError, match="has no steps"):
        GRU(3, 2)(Tensor(np.zeros((0, 2, 3), np.float32)))


def heads(w: dict[str, np.ndarray], query: np.ndarray, other: np.ndarray, count: int) -> np.ndarray:
    parts: list[np.ndarray] = []
    for x, weight, bias in zip(
        (query, other, other), np.split(w["in_proj_weight"], 3), np.split(w["in_proj_bias"], 3), strict=True
    ):
        y = x @ weight.T + bias
        parts.append(y.reshape(*y.shape[:2], count, -1).transpose(0, 2, 1, 3))
    q, k, v = parts
    scores = np.exp(q @ k.transpose(0, 1, 3, 2) / math.sqrt(q.shape[-1]))
    mixed = (scores / scores.sum(-1, keepdims=True)) @ v
    joined = mixed.transpose(0, 2, 1, 3).reshape(query.shape)
    return joined @ w["out_proj.weight"].T + w["out_proj.bias"]


def test_attention_mixes_values_by_the_likeness_of_queries_and_keys() -> None:
    layer, x, other = wide(MultiHeadAttention(4, 2)), spread(-2, 2, (2, 3, 4)), spread(-1, 2, (2, 5, 4))
    close(layer(Tensor(x)), heads(weights(layer), x, x, 2))
    close(layer(Tensor(x), Tensor(other)), heads(weights(layer), x, other, 2))
    with pytest.raises(ShapeError, match=r"operands are \(n, l, 4\), got \(3, 4\)"):
        layer(Tensor(x[0]))
    with pytest.raises(UsageError, match="does not divide into 3 heads"):
        MultiHeadAttention(4, 3)


def test_causal_attention_does_not_look_ahead() -> None:
    layer, x = wide(MultiHeadAttention(4, 2)), spread(-2, 2, (1, 3, 4))
    changed = x.copy()
    changed[0, 2] += 1
    found = [layer(Tensor(v), causal=True).numpy() for v in (x, changed)]
    np.testing.assert_array_equal(found[0][0, :2], found[1][0, :2])
    assert (found[0][0, 2] != found[1][0, 2]).all()


LAYERS: dict[str, tuple[Callable[[], Module], tuple[int, ...]]] = {
    "linear": (lambda: Linear(3, 2), (2, 3)),
    "convolution": (lambda: Conv2d(2, 2, 2, padding=1), (1, 2, 3, 2)),
    "transposed convolution": (lambda: ConvTranspose2d(2, 2, 2, 2), (1, 2, 2, 2)),
    "layer norm": (lambda: LayerNorm(4), (2, 4)),
    "batch norm": (lambda: BatchNorm(2), (3, 2, 2)),
    "group norm": (lambda: GroupNorm(1, 2), (2, 2, 2)),
    "rms norm": (lambda: RMSNorm(4), (2, 4)),
    "lstm": (lambda: LSTM(2, 2, layers=2), (2, 1, 2)),
    "gru": (lambda: GRU(2, 2), (2, 1, 2)),
    "attention": (lambda: MultiHeadAttention(2, 2), (1, 3, 2)),
    "transformer": (lambda: TransformerEncoderLayer(2, 1, 3, dropout=0.0), (1, 2, 2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_s_gradients_are_its_central_differences(name: str) -> None:
    make, shape = LAYERS[name]
    module = wide(make())
    parameters = module.parameters()
    values = [p.numpy() for p in parameters]

    def function(x: Node, *others: Node) -> Node:
        for parameter, node in zip(parameters, others, strict=True):
            parameter.requires_grad = False
            parameter.assign(Tensor.of(node))
        y = module(Tensor.of(x))
        return (y[0] if isinstance(y, tuple) else y).node

    differences.check(function, spread(-1, 1.5, shape), *values)
