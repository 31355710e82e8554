"""Central differences in f64, with an error bound that comes from the step and the arithmetic, not from a literal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from portkit.compiler import graph
from portkit.compiler.evaluate import evaluate
from portkit.compiler.graph import Node, Shape, Source
from portkit.spec.types import F64
from portkit.tensor.gradient import gradients

EPS = float(np.finfo(np.float64).eps)
STEP = 2.0 ** round(np.log2(EPS) / 3)
"""Balances the truncation of a central difference (h^2) with its cancellation (eps / h)."""

ULPS = 16
"""How many roundings of the largest value a function may make between its inputs and its output."""

Function = Callable[..., Node]


def sources(arrays: Sequence[np.ndarray]) -> list[Source]:
    return [Source(F64, a.shape) for a in arrays]


def weights(shape: Shape) -> np.ndarray:
    """Return a fixed seed for an output: every element with a weight of its own."""
    fixed = tuple(n for n in shape if isinstance(n, int))
    return np.cos(np.arange(int(np.prod(fixed)), dtype=np.float64) + 1).reshape(fixed)


def arrays_of(outputs: Sequence[Node], given: Mapping[Source, np.ndarray]) -> list[np.ndarray]:
    """Return the arrays of nodes whose sources are given, or hold arrays of the host."""
    held = {n.attr: n.attr.buffer.array for n in graph.topological(outputs) if n.op == "source" and n.attr.buffer}
    return evaluate(outputs, {**held, **given})


def gradient(function: Function, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the gradients of sum(weights * function(*arrays)) by every array."""
    places = sources(arrays)
    nodes = [graph.source(s) for s in places]
    y = function(*nodes)
    seed = Source(F64, y.shape)
    found = gradients(y, nodes, graph.source(seed))
    contents = {**dict(zip(places, arrays, strict=True)), seed: weights(y.shape)}
    zeros = [graph.const(F64, 0, n.shape) for n in nodes]
    return arrays_of([z if g is None else g for g, z in zip(found, zeros, strict=True)], contents)


def differences(function: Function, arrays: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the central differences by every array, and a bound on how far they are from the derivative.

    The difference at twice the step errs by four times as much, so that the two differ by three times the error of the
    first; to which comes the rounding of two values of the function, over the step.
    """
    places = sources(arrays)
    y = function(*(graph.source(s) for s in places))

    def terms(changed: Sequence[np.ndarray]) -> np.ndarray:
        return weights(y.shape) * arrays_of([y], dict(zip(places, changed, strict=True)))[0]

    scale = float(np.abs(terms(arrays)).sum()) + max((float(np.abs(a).max(initial=0)) for a in arrays), default=0)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for k, array in enumerate(arrays):
        near, far = np.zeros(array.shape), np.zeros(array.shape)
        for at in np.ndindex(array.shape):
            for slope, h in ((near, STEP), (far, 2 * STEP)):
                up, down = array.copy(), array.copy()
                up[at] += h
                down[at] -= h
                width = up[at] - down[at]
                above = terms([*arrays[:k], up, *arrays[k + 1 :]])
                below = terms([*arrays[:k], down, *arrays[k + 1 :]])
                slope[at] = (above - below).sum() / width
        found.append((near, np.abs(near - far) + ULPS * EPS * scale / STEP))
    return found


def check(function: Function, *arrays: np.ndarray) -> None:
    """Assert that the gradients by every array are within the bounds of the central differences."""
    pairs = differences(function, arrays)
    for k, (actual, (expected, bound)) in enumerate(zip(gradient(function, arrays), pairs, strict=True)):
        assert actual.shape == expected.shape
        error = np.abs(actual - expected)
        assert (error <= bound).all(), f"operand {k}: {actual} for {expected}, off by {error} of {bound}"
