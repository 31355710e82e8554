"""The meaning of a nest, in NumPy: the judge of fusion, and of every step from nest to nest.

Each axis is a dimension of arrays that broadcast, so that a value at every point of its axes is one array. Nothing is
fast: a nest of many points is refused. What a nest may not do is an error here, not a result: read outside a memory
where its guards hold, store an element twice or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.compiler import index
from portkit.compiler.evaluate import fold_array
from portkit.compiler.evaluate_functions import evaluate_function, narrow
from portkit.compiler.graph import Node
from portkit.compiler.index import Axis, Expr, Index
from portkit.compiler.index import Value as IndexValue
from portkit.compiler.nest import Guards, Nest, Scan, Scatter, Store, Value, subvalues
from portkit.errors import HarnessError, UsageError

Array: TypeAlias = NDArray[Any]

MOST_POINTS = 1 << 22
"""Points at which one value is computed."""
MOST_AXES = 64
"""Dimensions of an array of NumPy."""


def interpret(
    nest: Nest, contents: Mapping[Node, Array], variables: Mapping[Expr, int] | None = None
) -> dict[Node, Array]:
    """Return what a nest stores, by node, given the contents of what it loads and the values of dynamic dimensions.

    Raises `UsageError` for a nest that is too large, `HarnessError` for one that breaks the rules of nests.
    """
    with np.errstate(all="ignore"):
        return _Interpretation(nest, contents, variables or {}).run()


class _Interpretation:
    def __init__(self, nest: Nest, contents: Mapping[Node, Array], variables: Mapping[Expr, int]) -> None:
        self.nest = nest
        self.contents = {node: np.ascontiguousarray(array).reshape(-1) for node, array in contents.items()}
        self.variables = variables
        self.axes = nest.axes
        if len(self.axes) > MOST_AXES:
            raise UsageError(f"a nest of {len(self.axes)} axes is too large to interpret; at most {MOST_AXES}")
        self.extents = {axis: self.size(axis.extent) for axis in self.axes}
        self.numbers: dict[Expr, Any] = {**variables, **{axis: self.places(axis) for axis in self.axes}}
        self.known: dict[Value, Array] = {}

    def run(self) -> dict[Node, Array]:
        for value in subvalues(self.nest.roots):
            self.over(np.zeros(()), value.axes)  # refuse what is too large before it is made
            self.known[value] = self.value(value)
        rows, inner = self.nest.rows, self.nest.inner
        made = {s.node: self.stored(s, self.known[s.value], rows) for s in self.nest.row_stores}
        made |= {s.node: self.stored(s, self.known[s.value], (*rows, *inner)) for s in self.nest.inner_stores}
        match self.nest.sequence:
            case Scan() as scan:
                made[scan.store.node] = self.scan(scan)
            case Scatter() as scatter:
                made[scatter.base.node] = self.scatter(scatter)
            case None:
                pass
        return {node: array.reshape([self.size(n) for n in node.shape]) for node, array in made.items()}

    # --- axes and indices -------------------------------------------------------------------------------------------

    def size(self, extent: Index) -> int:
        return int(index.evaluate(extent, self.variables))

    def places(self, axis: Axis) -> Array:
        """Return 0 .. extent-1 along the dimension of an axis."""
        return np.arange(self.extents[axis]).reshape([-1 if a is axis else 1 for a in self.axes])

    def over(self, array: Array, axes: Iterable[Axis]) -> Array:
        """Return an array repeated along some axes."""
        wanted = frozenset(axes)
        own = array.shape if array.ndim else (1,) * len(self.axes)
        shape = [self.extents[a] if a in wanted else n for a, n in zip(self.axes, own, strict=True)]
        if prod(shape) > MOST_POINTS:
            raise UsageError(f"a nest of {prod(shape)} points is too large to interpret; at most {MOST_POINTS}")
        return np.broadcast_to(array, shape)

    def dimensions(self, axes: Iterable[Axis]) -> tuple[int, ...]:
        return tuple(self.axes.index(a) for a in axes)

    def index(self, expression: Index) -> Array:
        leaves = (leaf for leaf in index.leaves(expression) if isinstance(leaf, IndexValue))
        gathered = {leaf: self.known[leaf.tag.value].astype(np.int64) for leaf in leaves}
        return np.asarray(index.evaluate(expression, {**self.numbers, **gathered}))

    def holds(self, guards: Guards) -> Array:
        every = np.asarray(True)
        for expression, low, high in guards:
            value = self.index(expression)
            every = every & (low <= value) & (value <= self.index(high))
        return every

    # --- values -----------------------------------------------------------------------------------------------------

    def value(self, value: Value) -> Array:
        """Return a value at every point, given its operands there."""
        arguments = [self.known[a] for a in value.args]
        match value.op:
            case "load":
                found = self.load(*value.attr)
            case "lit":
                found = _literal(value, value.attr)
            case "index":
                found = self.index(value.attr).astype(np.int32)
            case "map":
                dtypes = tuple(a.dtype for a in value.args)
                found = evaluate_function(value.attr, dtypes, value.dtype, arguments, False)
            case "select":
                found = np.where(self.holds(value.attr), *arguments)
            case "fold":
                found = self.fold(value, arguments)
            case _:
                raise HarnessError(f"a nest has no {value.op}")
        return self.over(np.asarray(found), ())

    def load(self, memory: Node, at: Index, guards: Guards, fill: int) -> Array:
        elements, place, other = self.contents[memory], self.index(at), _literal(memory, fill)
        if 0 in self.extents.values():  # some points are none, and this one may be one of them
            elements = np.append(elements, other)
            place = np.clip(place, 0, len(elements) - 1)
        inside = self.holds(guards)
        if np.any(inside & ((place < 0) | (place >= len(elements)))):
            raise HarnessError(f"a nest reads {memory} of {len(elements)} elements at {at}, outside of it")
        return np.where(inside, elements[np.where(inside, place, 0)], other) if inside.any() else other

    def fold(self, fold: Value, arguments: list[Array]) -> Array:
        kind, axes = fold.attr
        body, *others = (self.over(a, axes) for a in arguments)
        dimensions = self.dimensions(axes)
        if kind != "attend":
            return fold_array(kind, fold.dtype, body, dimensions)
        (values,) = others
        scores = body.astype(np.float64)
        weights = np.exp(scores - scores.max(axis=dimensions, keepdims=True, initial=-np.inf))
        total = (weights * values).sum(axis=dimensions, keepdims=True)
        return narrow(total / weights.sum(axis=dimensions, keepdims=True), fold.dtype)

    # --- what is kept -----------------------------------------------------------------------------------------------

    def stored(self, store: Store, value: Array, axes: Iterable[Axis]) -> Array:
        """Return the flat contents of a memory of which each element is stored once, at the points of some axes."""
        at, elements = np.broadcast_arrays(self.over(self.index(store.index), axes), self.over(value, axes))
        size = prod(self.size(n) for n in store.node.shape)
        if not np.array_equal(np.sort(at, axis=None), np.arange(size)):
            raise HarnessError(f"a nest does not store each of the {size} elements of {store.node} once: {store.index}")
        made = np.empty(size, store.node.dtype.numpy)
        made[at.reshape(-1)] = elements.reshape(-1)
        return made

    def scan(self, scan: Scan) -> Array:
        along = (*self.nest.rows, scan.axis)
        value = scan.store.value
        running = np.moveaxis(self.over(self.known[value], along).copy(), self.axes.index(scan.axis), 0)
        for step in range(1, len(running)):
            operands = [running[step - 1], running[step]]
            running[step] = evaluate_function(scan.kind, (value.dtype, value.dtype), value.dtype, operands, False)
        return self.stored(scan.store, np.moveaxis(running, 0, self.axes.index(scan.axis)), along)

    def scatter(self, scatter: Scatter) -> Array:
        rows, base = self.nest.rows, scatter.base
        made = self.stored(base, self.known[base.value], (*rows, scatter.axis))
        dtype, extent = base.node.dtype, self.extents[scatter.axis]
        along = (*rows, scatter.steps)
        at, values = (self.over(self.known[v], along) for v in (scatter.at, scatter.values))
        numbers = {**self.numbers, scatter.axis: at.astype(np.int64)}
        places = self.over(np.asarray(index.evaluate(base.index, numbers)), along)
        for step in range(self.extents[scatter.steps]):
            one = (slice(None),) * self.axes.index(scatter.steps) + (step,)
            inside = (at[one] >= 0) & (at[one] < extent)
            where, new = places[one][inside], values[one][inside]
            if scatter.kind != "set":
                new = evaluate_function(scatter.kind, (dtype, dtype), dtype, [made[where], new], False)
            made[where] = new
        return made


def _literal(of: Value | Node, bits: int) -> Array:
    return np.asarray(bits, f"u{of.dtype.bytes}").view(of.dtype.numpy)
