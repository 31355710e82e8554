"""What a graph may compute on a device that keeps its declared accuracy, however it is fused: one set per output.

Each node is evaluated on the sets of its operands: functions within the accuracy that the compiler promises for the
device, sums and products within the bound of any order, comparisons of open values left open. What a compiler may do
beyond the graph's own roundings is let in where it does so:

- a product that is summed may be exact (one fused multiply-add rounds it together with the sum),
- a sum of sums may be one sum,
- a sum weighted by a softmax may be taken in one pass with rescaled partial sums.

Letters: u the unit roundoff, e the bound of exp in ulp, n the number of terms.
Sources: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, 3.1, 4.2; M. Milakov,
N. Gimelshein, "Online normalizer calculation for softmax", 2018 (arXiv:1805.02867).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from portkit.compiler import graph, index
from portkit.compiler.accuracy import ulp_bound
from portkit.compiler.features import Features
from portkit.compiler.graph import Node, Source
from portkit.conformance.graph_functions import Function, apply, treat
from portkit.conformance.graph_views import gathered, halves, moved, scanned, scattered
from portkit.contract import Capabilities
from portkit.reference import lifting
from portkit.reference.acceptance import Acceptance, acceptance
from portkit.reference.bounds import NumericModel
from portkit.reference.planes import Array, Interval, Value, each, interval, planes, settle, shape_of
from portkit.reference.products import free_product
from portkit.reference.sums import Along, Rule, accumulator, free_sum
from portkit.reference.ulp import min_normal, next_down, next_up, round_down, round_up
from portkit.spec.types import BF16, F16, F32, F64, DType

_PASSED = ("view", "mark", "store")
"""Operations that move values and compute nothing."""


def graph_bounds(
    outputs: Sequence[Node], contents: Mapping[Source, Array], capabilities: Capabilities, model: NumericModel
) -> list[Acceptance]:
    """Return what each output admits, its elements in row-major order, given the contents of every source.

    `contents` have shapes; dynamic dimensions get their values from them.
    """
    device = _Device(Features.of(capabilities), model, capabilities.has("vec"))
    values = _Evaluation(outputs, contents, device).run()
    with np.errstate(all="ignore"):
        flat = [settle(each(lambda plane: np.ascontiguousarray(plane).reshape(-1), v)) for v in values]
        return [acceptance(n.dtype, v, nan_bits=False) for n, v in zip(outputs, flat, strict=True)]


@dataclass(frozen=True, slots=True)
class _Device:
    """How a device computes: native functions, float model, and whether attention is taken in one pass."""

    features: Features
    model: NumericModel
    online: bool


class _Evaluation:
    """The values of the nodes of one graph."""

    def __init__(self, outputs: Sequence[Node], contents: Mapping[Source, Array], device: _Device) -> None:
        self.outputs = graph.unmarked(outputs)
        self.contents = contents
        self.device = device
        self.order = graph.topological(self.outputs)
        self.summed = _summed(self.order)
        self.variables = _bind(self.order, contents)
        self.values: dict[Node, Value] = {}

    def run(self) -> list[Value]:
        """Return the values of the outputs."""
        with np.errstate(all="ignore"):
            for node in self.order:
                value = _OPERATIONS[node.op](self, node, [self.values[x] for x in node.inputs])
                self.values[node] = treat(value, node.dtype, self.device.model)
        return [self.values[node] for node in self.outputs]

    def shape(self, shape: graph.Shape) -> tuple[int, ...]:
        return tuple(int(index.evaluate(n, self.variables)) for n in shape)

    def function(self, name: str, operands: Sequence[DType], result: DType) -> Function:
        return Function(name, tuple(operands), result, self.device.features, self.device.model)

    def step(self, kind: str, dtype: DType) -> Callable[[Value, Value], Value]:
        """Return one step of a fold of a kind."""
        return partial(apply, self.function(kind, (dtype, dtype), dtype))


def _bind(order: Sequence[Node], contents: Mapping[Source, Array]) -> dict[index.Expr, int]:
    sources = [node for node in order if node.op == "source"]
    extents = ((n, m) for s in sources for n, m in zip(s.shape, contents[s.attr].shape, strict=True))
    return {n: m for n, m in extents if isinstance(n, index.Variable)}


def _summed(order: Sequence[Node]) -> set[Node]:
    """Return the nodes that are added up with nothing in between but movement."""
    found: set[Node] = set()
    for node in reversed(order):
        if node in found and node.op in _PASSED:
            found.add(node.inputs[0])
        if node.op == "reduce" and node.attr[0] == "add":
            found.add(node.inputs[0])
    return found


# --- leaves and functions -----------------------------------------------------------------------------------------


def _source(e: _Evaluation, node: Node, _: list[Value]) -> Value:
    return e.contents[node.attr]


def _const(e: _Evaluation, node: Node, _: list[Value]) -> Value:
    return _of_bits(node.dtype, node.attr)


def _of_bits(dtype: DType, bits: int) -> Array:
    return np.asarray(bits, f"u{dtype.bytes}").view(dtype.numpy)


def _iota(e: _Evaluation, node: Node, _: list[Value]) -> Value:
    return np.arange(e.shape(node.shape)[0], dtype=np.int32)


def _map(e: _Evaluation, node: Node, xs: list[Value]) -> Value:
    result = apply(e.function(node.attr, [x.dtype for x in node.inputs], node.dtype), *xs)
    if node.attr == "mul" and node.dtype.is_float and node in e.summed:
        return _or_exact(result, xs, node.dtype)
    return result


def _or_exact(rounded: Value, factors: Sequence[Value], dtype: DType) -> Value:
    """Return a rounded product, widened so that it holds the exact one too."""
    if lifting.all_plain(tuple(factors)) and dtype is not F64:
        a, b = (planes(x)[0].astype(np.float64) for x in factors)
        product = a * b  # exact: of at most 24 digits each
        return settle(Interval(round_down(product, dtype), round_up(product, dtype), np.isnan(product)))
    if lifting.all_plain(tuple(factors)) and _integral(*(planes(x)[0] for x in factors)):
        return rounded
    return _spread(rounded, dtype)


def _integral(a: Array, b: Array) -> bool:
    """Whether products of f64 are exact because they are small integers."""
    product = np.abs(a * b)
    return bool(((np.rint(a) == a) & (np.rint(b) == b) & (product < 2.0**53)).all())


def _spread(x: Value, dtype: DType) -> Interval:
    """Return a register widened by a unit in the last place on each side."""
    known = interval(x)
    return Interval(next_down(known.lo, dtype), next_up(known.hi, dtype), known.nan)


# --- folds --------------------------------------------------------------------------------------------------------


def _reduce(e: _Evaluation, node: Node, xs: list[Value]) -> Value:
    kind, axes = node.attr
    x = _together(xs[0], axes)
    shape = e.shape(node.shape)
    if shape_of(x)[-1] == 0:
        return np.full(shape, _identity(kind, node.dtype), node.dtype.numpy)
    folded = _fold(e, node, kind, x)
    if node.dtype.is_float and node in e.summed and kind == "add":
        folded = _spread(folded, node.dtype)  # not rounded here where the outer sum takes its terms
    return each(lambda plane: plane.reshape(shape), folded)


def _together(x: Value, axes: Sequence[int]) -> Value:
    """Return a register with some of its axes as one last axis."""

    def last(plane: Array) -> Array:
        kept = [a for a in range(plane.ndim) if a not in axes]
        swapped = plane.transpose([*kept, *axes])
        return swapped.reshape(*(plane.shape[a] for a in kept), -1 if plane.size else _size(plane, axes))

    return each(last, x)


def _size(plane: Array, axes: Sequence[int]) -> int:
    return int(np.prod([plane.shape[a] for a in axes], dtype=np.int64))


def _identity(kind: str, dtype: DType) -> Any:
    if kind in ("max", "min") and dtype.is_float:
        return -np.inf if kind == "max" else np.inf
    ends = {"max": dtype.min_int, "min": dtype.max_int} if dtype.is_int else {"max": False, "min": True}
    table: dict[str, Any] = {"add": 0, "mul": 1, "and": -1 if dtype.is_int else True, "or": 0, **ends}
    return table[kind]


def _fold(e: _Evaluation, node: Node, kind: str, x: Value) -> Value:
    axis = len(shape_of(x)) - 1
    if node.dtype.is_float and kind == "add":
        terms = _rescaled(e, node, x) if e.device.online else x
        return free_sum(terms, Along(axis), Rule(node.dtype, accumulator(node.dtype), e.device.model.flush))
    if node.dtype.is_float and kind == "mul":
        return _product(e, x, axis, node.dtype)
    return halves(e.step(kind, node.dtype), x, axis)


def _product(e: _Evaluation, x: Value, axis: int, dtype: DType) -> Value:
    """Return a product in any order; of f16 and bf16 in f32, rounded once."""
    if dtype not in (F16, BF16):
        return free_product(x, axis, dtype, dtype.name in e.device.model.flush)
    wide = apply(e.function("cast", (dtype,), F32), x)
    product = free_product(wide, axis, F32, "f32" in e.device.model.flush)
    return apply(e.function("cast", (F32,), dtype), product)


def _rescaled(e: _Evaluation, node: Node, terms: Value) -> Value:
    """Return the terms of a sum weighted by a softmax, widened by what taking it in one pass may add.

    A partial sum is rescaled by exp(m - m') at most n times, each with an error of e ulp, that is 2 e u, and a rounding
    of the product; the arguments of these add up to that of the whole exponential, so they add no more than its own
    rounding. The division comes last in place of first, and weights may keep digits that a cast would take.
    """
    rounding = _softmax_rounding(node)
    if rounding is None:
        return terms
    u = 2.0**-node.dtype.precision
    count = shape_of(terms)[-1]
    share = count * (2 * ulp_bound("exp", node.dtype, e.device.features) + 1) * u + 8 * u + rounding
    known = interval(terms)
    size = np.maximum(np.abs(known.lo), np.abs(known.hi)).astype(np.float64)
    slack = share * size + count * min_normal(node.dtype) * np.max(size, axis=-1, keepdims=True)
    lo = round_down(known.lo.astype(np.float64) - slack, node.dtype)
    hi = round_up(known.hi.astype(np.float64) + slack, node.dtype)
    return Interval(lo, hi, known.nan)


def _softmax_rounding(node: Node) -> float | None:
    """Return the unit roundoff of casts between the softmax and the sum that it weighs, None if there is no softmax."""
    body = _below(node.inputs[0])[0]
    if node.dtype not in (F32, F64) or body.op != "map" or body.attr != "mul":
        return None
    for factor in body.inputs:
        weights, rounding = _below(factor)
        if weights.op == "map" and weights.attr in ("div", "mul"):
            powers = [_below(x)[0] for x in weights.inputs]
            if any(p.op == "map" and p.attr == "exp" for p in powers):
                return rounding
    return None


def _below(node: Node) -> tuple[Node, float]:
    """Return what is below movement and casts between floats, and the largest unit roundoff of these casts."""
    rounding = 0.0
    while node.op in _PASSED or (node.op == "map" and node.attr == "cast" and node.inputs[0].dtype.is_float):
        if node.op == "map":
            rounding = max(rounding, 2.0**-node.dtype.precision)
        node = node.inputs[0]
    return node, rounding


# --- movement -----------------------------------------------------------------------------------------------------


def _scan(e: _Evaluation, node: Node, xs: list[Value]) -> Value:
    kind, axis = node.attr
    return scanned(e.step(kind, node.dtype), xs[0], axis)


def _gather(e: _Evaluation, node: Node, xs: list[Value]) -> Value:
    return gathered(xs[0], xs[1], node.attr)


def _scatter(e: _Evaluation, node: Node, xs: list[Value]) -> Value:
    kind, axis = node.attr
    return scattered(None if kind == "set" else e.step(kind, node.dtype), xs[0], xs[1], xs[2], axis)


def _same(e: _Evaluation, node: Node, xs: list[Value]) -> Value:
    return xs[0]


def _view(e: _Evaluation, node: Node, xs: list[Value]) -> Value:
    movement, *arguments = node.attr
    if movement in ("shrink", "pad"):
        arguments[0] = e.shape(arguments[0])
    if movement == "pad":
        arguments[1] = _of_bits(node.dtype, arguments[1])
    return moved(movement, e.shape(node.shape), arguments, xs[0])


_OPERATIONS: dict[str, Callable[[_Evaluation, Node, list[Value]], Value]] = {
    "source": _source,
    "const": _const,
    "iota": _iota,
    "map": _map,
    "reduce": _reduce,
    "scan": _scan,
    "view": _view,
    "gather": _gather,
    "scatter": _scatter,
    "store": _same,
    "mark": _same,
}
