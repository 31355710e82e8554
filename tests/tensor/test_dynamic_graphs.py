"""Operations on a dynamic extent: one graph, which means for every extent what the graph of that extent means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from portkit.compiler import graph
from portkit.compiler.evaluate import evaluate
from portkit.compiler.graph import Source, source
from portkit.compiler.index import Variable
from portkit.errors import ShapeError
from portkit.spec.types import F32
from portkit.tensor import creation, elementwise, functional, movement
from portkit.tensor.dynamic import dynamic
from portkit.tensor.einstein import einsum
from portkit.tensor.realising import contents
from portkit.tensor.tensor import Tensor
from tests.tensor.judging import random, value

N = Variable("n", 3, 64)
W = Tensor(random(8, 8, seed=1))
KERNEL = Tensor(random(4, 8, 3, seed=2))

OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elementwise": lambda x: x * 2 + x.exp(),
    "broadcast": lambda x: x + W[0],
    "softmax over it": lambda x: x.softmax(0),
    "softmax beside it": lambda x: x.softmax(1),
    "mean over it": lambda x: x.mean(0),
    "variance over all": lambda x: x.var(),
    "argmax over it": lambda x: x.argmax(0),
    "running sum": lambda x: x.cumsum(0),
    "matmul": lambda x: x @ W,
    "matmul over it": lambda x: x.transpose() @ x,
    "einsum": lambda x: einsum("nd,md->nm", x, x),
    "layer norm": lambda x: functional.layer_norm(x, 8),
    "batch norm": lambda x: functional.batch_norm(x),
    "linear": lambda x: functional.linear(x, W, W[0]).gelu(),
    "attention": lambda x: functional.scaled_dot_product_attention(x, x, x, causal=True),
    "cross entropy": lambda x: functional.cross_entropy(x, x.argmax(1)),
    "convolution over it": lambda x: functional.conv1d(x.transpose().unsqueeze(0), KERNEL, padding=1),
    "convolution beside it": lambda x: functional.conv1d(x.unsqueeze(1), KERNEL[:, :1], stride=2),
    "pooling over it": lambda x: functional.max_pool(x.transpose().unsqueeze(0), 2),
    "padding": lambda x: x.pad([(1, 2), (0, 0)]),
    "join": lambda x: movement.cat([x, W, x], 0),
    "slice": lambda x: x[1:],
    "slice from the end": lambda x: x[-2:, ::2],
    "every second": lambda x: x[::2],
    "the last": lambda x: x[-1],
    "flip": lambda x: x.flip(0),
    "places": lambda x: x[Tensor([0, -1])],
    "assignment of a row": lambda x: with_row(x, 1),
    "assignment from the end": lambda x: with_row(x, -1),
    "tile": lambda x: x.tile(2, 1),
    "triangle": lambda x: creation.tril(x @ x.transpose()),
    "position": lambda x: x + creation.arange(x.shape[0]).unsqueeze(1),
    "where": lambda x: elementwise.where(x > 0, x, x.mean(0)),
    "flatten": lambda x: x.flatten().sum(),
}


def with_row(x: Tensor, row: int) -> Tensor:
    y = x + 0
    y[row] = 5
    return y


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_graph_of_a_dynamic_extent_means_the_same_at_every_extent(name: str) -> None:
    origin = Source(F32, (N, 8))
    dynamic = OPERATIONS[name](Tensor.of(source(origin)))
    for extent in (3, 4, 7, 16):
        data = random(extent, 8)
        fixed = OPERATIONS[name](Tensor(data))
        got = evaluate([dynamic.node], held(dynamic) | {origin: data})[0]
        wanted = value(fixed)
        assert got.shape == wanted.shape
        # The same sums, perhaps in another order, and a count that is a reciprocal rather than a constant.
        error = np.abs(got.astype(np.float64) - wanted).max(initial=0.0)
        assert error <= 4 * extent * np.spacing(np.float32(np.abs(wanted).max(initial=0.0)))


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_program_of_a_dynamic_extent_gives_the_same_at_every_extent_on_the_cpu(name: str) -> None:
    for extent in (3, 16, 33):
        x = Tensor(random(extent, 8))
        got = OPERATIONS[name](dynamic(x, 0, N)).numpy()
        wanted = value(OPERATIONS[name](x))
        assert got.shape == wanted.shape
        error = np.abs(got.astype(np.float64) - wanted).max(initial=0.0)
        assert error <= 8 * extent * np.spacing(np.float32(np.abs(wanted).max(initial=0.0)))


def held(tensor: Tensor) -> dict[Source, NDArray[Any]]:
    """Return the contents of the sources that have some."""
    found = [n for n in graph.topological([tensor.node]) if n.op == "source" and n.attr.buffer is not None]
    return {n.attr: contents(Tensor.of(n)) for n in found}


NEEDS_A_NUMBER: dict[str, Callable[[Tensor], object]] = {
    "sort": lambda x: x.sort(0),
    "topk": lambda x: x.topk(2, 0),
    "split": lambda x: x.split(2),
    "roll": lambda x: x.roll(1, 0),
    "unbind": lambda x: x.unbind(),
    "diagonal": lambda x: x.diagonal(),
    "interpolate": lambda x: functional.interpolate(x.transpose().unsqueeze(0), 4),
    "adaptive_avg_pool": lambda x: functional.adaptive_avg_pool(x.transpose().unsqueeze(0), 4),
}


@pytest.mark.parametrize("name", NEEDS_A_NUMBER)
def test_what_needs_a_fixed_extent_says_so(name: str) -> None:
    with pytest.raises(ShapeError, match=rf"{name}: axis . of .*n.* is dynamic; this operation needs a fixed extent"):
        NEEDS_A_NUMBER[name](Tensor.of(source(Source(F32, (N, 8)))))
