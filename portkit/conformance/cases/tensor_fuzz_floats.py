"""Random graphs of f32 whose elements stay within a few units: sums, products, functions, folds, movement."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import portkit.tensor as t
from portkit.conformance.cases.tensor_fuzz_writer import LARGE, Writer, broadcasts, size
from portkit.tensor.tensor import Tensor

if TYPE_CHECKING:
    from portkit.compiler.graph import Node

Step = Callable[[Writer, Tensor], Tensor]


def _halved_sum(w: Writer, x: Tensor) -> Tensor:
    return (x + w.partner(x)) * 0.5


def _chosen(w: Writer, x: Tensor) -> Tensor:
    """A choice by an input, so that no condition is uncertain."""
    leaf = w.leaves[w.below(len(w.leaves))]
    return t.where(leaf > 0.0, x, t.neg(x)) if broadcasts(x, leaf) else t.relu(leaf)


def _multiplied(w: Writer, x: Tensor) -> Tensor:
    """The product with a matrix of fitting rows, scaled by their number."""
    if x.ndim < 1:
        return x * 0.5
    fitting = [y for y in w.pool if y.ndim == 2 and y.shape[0] == x.shape[-1]]
    return x @ fitting[w.below(len(fitting))] * (1 / 6) if fitting else t.sigmoid(x)


def _reduced(fold: Callable[..., Tensor]) -> Step:
    return lambda w, x: fold(x, axis=w.axis(x), keepdims=True) if x.ndim else t.abs(x)


def _along(f: Callable[..., Tensor]) -> Step:
    return lambda w, x: f(x, w.axis(x)) if x.ndim else t.tanh(x)


def _mapped(f: Callable[[Tensor], Tensor]) -> Step:
    return lambda _, x: f(x)


def _padded(w: Writer, x: Tensor) -> Tensor:
    widths = [(w.below(2), w.below(3)) for _ in range(x.ndim)]
    return t.pad(x, widths, 0.25)


def _permuted(w: Writer, x: Tensor) -> Tensor:
    return t.permute(x, *[int(a) for a in w.draws.permutation(x.ndim)]) if x.ndim > 1 else x * 1.5


def _sliced(w: Writer, x: Tensor) -> Tensor:
    return x[w.below(2) :: 1 + w.below(2)] if x.ndim and x.shape[0] != 1 else t.square(x)


def _doubled(w: Writer, x: Tensor) -> Tensor:
    return t.cat([x, t.sin(x)], w.axis(x)) if x.ndim and size(x) < LARGE else t.cos(x)


_STEPS: tuple[Step, ...] = (
    _halved_sum,
    lambda w, x: t.tanh(x * w.partner(x)),
    lambda w, x: t.maximum(x, w.partner(x)),
    _chosen,
    _multiplied,
    _multiplied,
    _reduced(t.mean),
    _reduced(t.max),
    lambda w, x: t.tanh(_reduced(t.sum)(w, x)),
    _along(t.softmax),
    lambda w, x: t.tanh(_along(t.cumsum)(w, x)),
    _mapped(t.sigmoid),
    _mapped(t.gelu),
    _mapped(lambda x: t.exp(t.neg(t.abs(x)))),
    _mapped(lambda x: t.sqrt(t.abs(x) + 0.5)),
    _mapped(lambda x: t.reciprocal(t.abs(x) + 0.5)),
    _mapped(lambda x: t.log1p(t.abs(x))),
    _mapped(lambda x: t.reshape(x, -1)),
    _padded,
    _permuted,
    _sliced,
    _doubled,
    _along(t.flip),
)


def float_graph(seed: str) -> list[Node]:
    """Return the outputs of a graph, the last tensor and one on the way; its sources have their contents."""
    w = Writer(seed, [("f32", "unit")] * 4)

    def step() -> Tensor:
        x = w.recent()
        return _STEPS[w.below(len(_STEPS))](w, x)

    made = w.write(step)
    return [made[-1], made[1]]
