"""The gradients of tensor functions, each a composite of graph operations, against central differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import portkit.tensor as pt
from portkit.compiler import graph
from portkit.compiler.graph import Node, Source
from portkit.spec.types import F32
from portkit.tensor import functional as F
from portkit.tensor.gradient import gradients
from portkit.tensor.tensor import Tensor
from tests.tensor import differences
from tests.tensor.test_gradients import spread

Function = Callable[..., Tensor]

ROW = (spread(-2, 2, (2, 5)),)
POSITIVE = (spread(0.5, 3, (2, 5)),)
PAIR = (spread(-2, 2, (2, 3)), spread(0.5, 2, (2, 3)))
IMAGE = (spread(-2, 2, (1, 2, 4, 5)),)
MATRICES = (spread(-2, 2, (2, 3)), spread(-1, 1, (3, 2)))
HEADS = tuple(spread(-1, high, (1, 2, 3, 2)) for high in (1.0, 1.5, 2.0))
PLACES = np.array([[0, 2], [2, -1]], np.int32)
CLASSES = np.array([1, 0, 2], np.int32)
SHARES = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.6, 0.2, 0.2]])


def per_class() -> tuple[np.ndarray, ...]:
    return (spread(-2, 2, (3, 3)),)


CASES: dict[str, tuple[Function, tuple[np.ndarray, ...]]] = {
    # elementwise composites
    "broadcast": (lambda x, y: x * y.exp() - y, (spread(-2, 2, (2, 1, 3)), spread(-1, 1, (4, 1)))),
    "floor_divide remainder": (lambda x, y: x % y, PAIR),
    "clip": (lambda x: x.clip(-1.0, 1.5), ROW),
    "square reciprocal": (lambda x: x.square() + x.reciprocal(), POSITIVE),
    "expm1": (lambda x: x.expm1(), ROW),
    "log1p": (lambda x: x.log1p(), POSITIVE),
    "log10": (lambda x: x.log10(), POSITIVE),
    "pow of numbers": (lambda x: x**3 + x**0.5 + 2.0**x, POSITIVE),
    "where": (lambda x, y: pt.where(x > 0, x * y, y), PAIR),
    "contiguous": (lambda x: (x * x).contiguous() * 3, ROW),
    # reductions
    "mean var std": (lambda x: x.mean(1) + x.var(1) + x.std(1), ROW),
    "var of all": (lambda x: x.var(correction=0), ROW),
    "prod": (lambda x: x.prod(1), ROW),
    "max min": (lambda x: x.max(1) * x.min(1), ROW),
    "logsumexp": (lambda x: x.logsumexp(1), ROW),
    "norm": (lambda x: x.norm(1), ROW),
    "cumsum cumprod": (lambda x: x.cumsum(1) * x.cumprod(1), ROW),
    "cummax": (lambda x: pt.cummax(x, 1), ROW),
    "sort": (lambda x: x.sort(1) * x, ROW),
    "topk": (lambda x: x.topk(2, 1)[0], ROW),
    # movement and indexing
    "cat stack": (lambda x, y: pt.stack([pt.cat([x, y], 1), pt.cat([y, x], 1)]).square(), PAIR),
    "slices": (lambda x: (x[:, 1:4:2] * x[:, ::-2][:, :2]) + x[:, None, 2], ROW),
    "roll repeat": (lambda x: pt.roll(x, 2, 1) * pt.tile(x[:, :1], (1, 5)) * pt.repeat_interleave(x, 1, 1), ROW),
    "assignment": (lambda x: assigned(x), ROW),
    "take": (lambda x: pt.take(x, Tensor(PLACES), 1).square(), ROW),
    "gather": (lambda x: x.gather(1, Tensor(PLACES)).square(), ROW),
    "embedding": (lambda w: F.embedding(w, Tensor(CLASSES)).square(), (spread(-2, 2, (4, 3)),)),
    "scatter_add": (lambda x, y: x.scatter_add(1, Tensor(PLACES), y[:, :2].square()), PAIR),
    "tril triu": (lambda x: F.tril(x).square() + F.triu(x, 1), (spread(-2, 2, (3, 3)),)),
    "masked_fill": (lambda x: pt.masked_fill(x.square(), x > 0, 0.0), ROW),
    # products
    "matmul": (lambda x, y: x @ y, MATRICES),
    "batched matmul": (lambda x, y: x @ y, (spread(-2, 2, (2, 1, 2, 3)), spread(-1, 1, (3, 3, 2)))),
    "vectors": (lambda x, y: (x @ y) * pt.outer(x, y).sum(0), (spread(-2, 2, (3,)), spread(-1, 1, (3,)))),
    "linear": (lambda x, w: F.linear(x, w.mT), MATRICES),
    "einsum": (lambda x, y: pt.einsum("ij,jk->ki", x, y) + pt.einsum("ij,ji->", x, y), MATRICES),
    "tensordot": (lambda x, y: pt.tensordot(x, y, 1), MATRICES),
    # activations and norms
    "relu": (F.relu, ROW),
    "leaky_relu elu": (lambda x: F.leaky_relu(x) * F.elu(x), ROW),
    "selu softplus": (lambda x: F.selu(x) * F.softplus(x), ROW),
    "log_sigmoid silu": (lambda x: F.log_sigmoid(x) * F.silu(x), ROW),
    "mish": (F.mish, ROW),
    "gelu": (lambda x: F.gelu(x) * F.gelu(x, "tanh"), ROW),
    "hard": (lambda x: F.hardswish(x * 2) + F.hardtanh(x) + F.relu6(x * 4), ROW),
    "softsign": (F.softsign, ROW),
    "dropout": (lambda x: F.dropout(x, Tensor(spread(0, 1, (2, 5))), 0.4), ROW),
    "softmax": (F.softmax, ROW),
    "log_softmax": (lambda x: F.log_softmax(x, 0), ROW),
    "layer_norm": (lambda x, w: F.layer_norm(x, 5, w[0], w[1]), (*ROW, spread(0.5, 2, (2, 5)))),
    "rms_norm": (lambda x, w: F.rms_norm(x, 5, w[0]), (*ROW, spread(0.5, 2, (2, 5)))),
    "group_norm": (lambda x: F.group_norm(x, 2), IMAGE),
    "instance_norm": (lambda x: F.instance_norm(x), IMAGE),
    "batch_norm": (lambda x: F.batch_norm(x), (spread(-2, 2, (3, 2, 2)),)),
    "normalize": (F.normalize, ROW),
    # space
    "conv1d": (lambda x, w: F.conv1d(x, w, w[:, 0, 0], 2, 1), (spread(-1, 1, (1, 2, 6)), spread(-1, 1, (2, 2, 3)))),
    "conv_transpose": (
        lambda x, w: F.conv_transpose1d(x, w, None, 2, 1, 1),
        (spread(-1, 1, (1, 2, 3)), spread(-1, 1, (2, 2, 3))),
    ),
    "unfold": (lambda x: F.unfold(x, 2).square(), IMAGE),
    "max_pool": (lambda x: F.max_pool(x, 2), IMAGE),
    "overlapping max_pool": (lambda x: F.max_pool(x, 3, 2, 1), IMAGE),
    "avg_pool": (lambda x: F.avg_pool(x, 3, 1, 1, False), IMAGE),
    "adaptive pools": (lambda x: F.adaptive_avg_pool(x, (3, 2)) * F.adaptive_max_pool(x, (3, 2)), IMAGE),
    "interpolate": (lambda x: F.interpolate(x, scale=2.0, mode="linear"), IMAGE),
    # attention and losses
    "attention": (F.scaled_dot_product_attention, HEADS),
    "causal attention": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, causal=True), HEADS),
    "mse_loss": (F.mse_loss, PAIR),
    "l1_loss": (F.l1_loss, PAIR),
    "huber_loss": (F.huber_loss, PAIR),
    "binary_cross_entropy": (lambda x: F.binary_cross_entropy(x.sigmoid(), Tensor(spread(0, 1, (2, 5)))), ROW),
    "with logits": (lambda x: F.binary_cross_entropy_with_logits(x, Tensor(spread(0, 1, (2, 5)))), ROW),
    "kl_div": (lambda x: F.kl_div(F.log_softmax(x), Tensor(SHARES)), per_class()),
    "cross_entropy": (lambda x: F.cross_entropy(x, Tensor(CLASSES)), per_class()),
    "cross_entropy of shares": (lambda x: F.cross_entropy(x, Tensor(SHARES)), per_class()),
    "nll_loss": (lambda x: F.nll_loss(F.log_softmax(x), Tensor(CLASSES)), per_class()),
}


def assigned(x: Tensor) -> Tensor:
    y = x * x
    y[:, 1] = x[:, 0] * 3
    y[0] += x[1]
    return y


@pytest.mark.parametrize("name", CASES)
def test_a_function_s_gradient_is_its_central_difference(name: str) -> None:
    function, operands = CASES[name]

    def on_nodes(*nodes: Node) -> Node:
        return function(*map(Tensor.of, nodes)).node

    differences.check(on_nodes, *operands)


def test_gradients_of_attention_share_its_weights_and_keep_nothing_of_the_forward_pass() -> None:
    nodes = [graph.source(Source(F32, (2, 16, 8))) for _ in range(3)]
    query, key, value = map(Tensor.of, nodes)
    y = F.scaled_dot_product_attention(query, key, value)
    found = [g for g in gradients(y.node, nodes, graph.source(Source(F32, y.shape))) if g is not None]
    powers = [n for n in graph.topological(found) if n.attr == "exp"]
    assert len(powers) == 1
    assert powers[0] not in graph.topological([y.node])


@pytest.mark.parametrize("function", [lambda x: x.norm(1), lambda x: x.std(1), lambda x: x.abs()])
def test_the_gradient_at_zero_is_zero_and_no_nan(function: Function) -> None:
    def on_nodes(x: Node) -> Node:
        return function(Tensor.of(x)).node

    (found,) = differences.gradient(on_nodes, [np.zeros((2, 3))])
    np.testing.assert_array_equal(found, np.zeros((2, 3)))


def test_softmax_of_masked_scores_has_no_gradient_there_and_no_nan() -> None:
    def function(x: Node) -> Node:
        x_ = Tensor.of(x)
        return F.softmax(pt.where(Tensor([[True, False, True]]), x_, -np.inf)).node

    (found,) = differences.gradient(function, [spread(-2, 2, (2, 3))])
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[:, 1], np.zeros(2))
