"""The meaning of a graph, in NumPy: the judge of every later step.

Nothing here is fast and nothing is fused; each node is one array. Division by zero of integers gives 0, integers wrap,
f16 and bf16 sums accumulate in f32, max and min give NaN if any operand is NaN. The elementwise functions are in
`portkit.compiler.evaluate_functions`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.compiler import graph, index
from portkit.compiler.evaluate_functions import evaluate_function, narrow
from portkit.compiler.graph import Node, Source
from portkit.errors import DTypeError, ShapeError, UsageError
from portkit.spec.types import BF16, F16, DType

Array: TypeAlias = NDArray[Any]


def evaluate(outputs: Sequence[Node], inputs: Mapping[Source, Array], *, wide: bool = False) -> list[Array]:
    """Return the arrays that `outputs` stand for, given the contents of every source they need.

    With `wide`, floats of every dtype are carried as f64 and never rounded to their dtype (but for `bits`), which
    makes an oracle for error bounds: outputs of float dtype are then f64 arrays.
    Raises `UsageError` for a source without contents, `DTypeError` and `ShapeError` for contents that do not fit it.
    """
    order = graph.topological(outputs)
    evaluation = _Evaluation(inputs, wide, _bind(order, inputs))
    left = Counter(i for node in order for i in node.inputs)
    left.update(outputs)
    values: dict[Node, Array] = {}
    with np.errstate(all="ignore"):
        for node in order:
            values[node] = np.asarray(_OPS[node.op](evaluation, node, [values[i] for i in node.inputs]))
            for used in node.inputs:
                left[used] -= 1
                if not left[used]:
                    del values[used]
    return [values[node] for node in outputs]


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """What evaluation of one graph carries along: contents, whether floats are wide, and the values of variables."""

    inputs: Mapping[Source, Array]
    wide: bool
    variables: Mapping[index.Expr, int]

    def numpy(self, dtype: DType) -> np.dtype[Any]:
        return np.dtype(np.float64) if self.wide and dtype.is_float else dtype.numpy

    def shape(self, shape: graph.Shape) -> tuple[int, ...]:
        return tuple(map(self.size, shape))

    def size(self, n: graph.Size) -> int:
        value = index.evaluate(n, self.variables)
        assert isinstance(value, int)
        return value

    def scalar(self, dtype: DType, bits: int) -> Array:
        """Return the value of a bit pattern, shape ()."""
        unsigned = np.asarray(bits, f"u{dtype.bytes}")
        return unsigned.view(dtype.numpy).astype(self.numpy(dtype), copy=False)


def _bind(order: Sequence[Node], inputs: Mapping[Source, Array]) -> dict[index.Expr, int]:
    """Return the values of the variables among the extents of the sources, read off the contents' shapes."""
    found: dict[index.Expr, int] = {}
    for node in order:
        if node.op != "source" or node.attr not in inputs:
            continue
        for n, extent in zip(node.shape, inputs[node.attr].shape, strict=False):
            if isinstance(n, index.Variable) and found.setdefault(n, extent) != extent:
                raise ShapeError(f"dimension {n} is {found[n]} in one input and {extent} in another")
    return found


# --- leaves -------------------------------------------------------------------------------------------------------


def _source(e: _Evaluation, node: Node, _: list[Array]) -> Array:
    origin: Source = node.attr
    if origin not in e.inputs:
        told = f"{origin.name or origin.number}, {node.dtype} {graph.show(node.shape)}"
        raise UsageError(f"no contents for source {told}")
    array = e.inputs[origin]
    if array.dtype != node.dtype.numpy:
        raise DTypeError(f"source {origin.name or origin.number} is {node.dtype}, its contents are {array.dtype}")
    if array.shape != e.shape(node.shape):
        raise ShapeError(f"source {origin.name or origin.number} has shape {node.shape}, its contents {array.shape}")
    return array.astype(e.numpy(node.dtype), copy=False)


def _const(e: _Evaluation, node: Node, _: list[Array]) -> Array:
    return e.scalar(node.dtype, node.attr)


def _iota(e: _Evaluation, node: Node, _: list[Array]) -> Array:
    return np.arange(e.size(node.shape[0]), dtype=np.int32)


# --- computing ----------------------------------------------------------------------------------------------------


def _map(e: _Evaluation, node: Node, xs: list[Array]) -> Array:
    dtypes = tuple(i.dtype for i in node.inputs)
    return evaluate_function(node.attr, dtypes, node.dtype, xs, e.wide)


def _step(e: _Evaluation, kind: str, dtype: DType) -> Callable[[Array, Array], Array]:
    """Return one step of a fold, its result of the dtype."""
    return lambda a, b: evaluate_function(kind, (dtype, dtype), dtype, [a, b], e.wide)


def _reduce(e: _Evaluation, node: Node, xs: list[Array]) -> Array:
    kind, axes = node.attr
    narrow_float = node.dtype in (F16, BF16) and not e.wide
    x = xs[0].astype(np.float32) if narrow_float else xs[0]
    folded = fold_array(kind, node.dtype, x, axes)
    return narrow(folded, node.dtype) if narrow_float else folded


def fold_array(kind: str, dtype: DType, x: Array, axes: tuple[int, ...]) -> Array:
    """Return an array folded over axes that stay, in the dtype that it has; `dtype` says what its elements mean."""
    return _extreme(kind, x, axes) if dtype.is_float and kind in ("max", "min") else _fold(kind, x, axes)


_FOLDS: dict[str, np.ufunc] = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
}


def _fold(kind: str, x: Array, axes: tuple[int, ...]) -> Array:
    """Return `x` folded over axes that stay; the fold of nothing is the operation's identity."""
    fold = _FOLDS[kind]
    keep = x.dtype if kind in ("add", "mul") else None
    if x.size == 0 and kind in ("max", "min"):
        return fold.reduce(x, axis=axes, keepdims=True, initial=_lowest(x.dtype, kind == "min"))
    return fold.reduce(x, axis=axes, keepdims=True, dtype=keep)


def _lowest(dtype: np.dtype[Any], opposite: bool) -> Any:
    """Return the least value of a dtype, or with `opposite` the greatest."""
    if dtype.kind not in "iu":
        return np.inf if opposite else -np.inf
    limits = np.iinfo(dtype)
    return limits.max if opposite else limits.min


def _extreme(kind: str, x: Array, axes: tuple[int, ...]) -> Array:
    """Return the maximum or minimum of floats, -0 below +0."""
    folded = _fold(kind, x, axes)
    sign = np.signbit(x) if kind == "min" else ~np.signbit(x)
    found = np.any((x == 0) & sign, axis=axes, keepdims=True)
    zero = np.where(found == (kind == "max"), 0.0, -0.0).astype(x.dtype)
    return np.where(folded == 0, zero, folded)


def _scan(e: _Evaluation, node: Node, xs: list[Array]) -> Array:
    kind, axis = node.attr
    step = _step(e, kind, node.dtype)
    result = np.moveaxis(xs[0].copy(), axis, 0)
    for k in range(1, len(result)):
        result[k] = step(result[k - 1], result[k])
    return np.moveaxis(result, 0, axis)


def _gather(e: _Evaluation, node: Node, xs: list[Array]) -> Array:
    x, places = xs
    n = x.shape[node.attr]
    if n == 0:
        return np.zeros(places.shape, x.dtype)
    taken = np.take_along_axis(x, np.clip(places, 0, n - 1), node.attr)
    return np.where((places >= 0) & (places < n), taken, np.zeros((), x.dtype))


def _scatter(e: _Evaluation, node: Node, xs: list[Array]) -> Array:
    """In ascending order along the axis, each position at once for all that differ in the other axes."""
    kind, axis = node.attr
    step = _latter if kind == "set" else _step(e, kind, node.dtype)
    x, places, values = (np.moveaxis(a, axis, 0) for a in xs)
    result = x.copy()
    rest = np.indices(places.shape[1:], sparse=True)
    for at, value in zip(places, values, strict=True):
        inside = (at >= 0) & (at < len(x))
        others: list[Array] = [np.broadcast_to(r, at.shape)[inside] for r in rest]
        place = (at[inside], *others)
        result[place] = step(result[place], value[inside])
    return np.moveaxis(result, 0, axis)


def _latter(_: Array, value: Array) -> Array:
    return value


def _same(e: _Evaluation, node: Node, xs: list[Array]) -> Array:
    return xs[0]


# --- movement -----------------------------------------------------------------------------------------------------


def _view(e: _Evaluation, node: Node, xs: list[Array]) -> Array:
    movement, *arguments = node.attr
    return _VIEWS[movement](e, node, xs[0], arguments)


def _shrink(e: _Evaluation, node: Node, x: Array, arguments: list[Any]) -> Array:
    spans = zip(e.shape(arguments[0]), e.shape(node.shape), strict=True)
    return x[tuple(slice(start, start + n) for start, n in spans)]


def _pad(e: _Evaluation, node: Node, x: Array, arguments: list[Any]) -> Array:
    starts, bits = arguments
    padded = np.full(e.shape(node.shape), e.scalar(node.dtype, bits))
    padded[tuple(slice(start, start + n) for start, n in zip(e.shape(starts), x.shape, strict=True))] = x
    return padded


_VIEWS: dict[str, Callable[[_Evaluation, Node, Array, list[Any]], Array]] = {
    "reshape": lambda e, node, x, _: x.reshape(e.shape(node.shape)),
    "permute": lambda e, node, x, arguments: x.transpose(arguments[0]),
    "expand": lambda e, node, x, _: np.broadcast_to(x, e.shape(node.shape)),
    "shrink": _shrink,
    "flip": lambda e, node, x, arguments: np.flip(x, arguments[0]),
    "stride": lambda e, node, x, arguments: x[tuple(slice(None, None, s) for s in arguments[0])],
    "pad": _pad,
}

_OPS: dict[str, Callable[[_Evaluation, Node, list[Array]], Array]] = {
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
