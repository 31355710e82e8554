"""Rules for reductions, scans, gathers and scatters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeAlias

from portkit.compiler import graph
from portkit.compiler.graph import Node, const_bits, map_
from portkit.compiler.index import bounds
from portkit.compiler.simplify_constants import like, neutral, number, uniform, wrapped
from portkit.spec.types import DType, encode, max_finite

Rule: TypeAlias = Callable[[Node], Node | None]

_IDEMPOTENT: Final = frozenset(("max", "min", "and", "or"))


def _associative(node: Node) -> bool:
    """Whether a reduction gives the same bits in any order and grouping; sums and products of floats do not."""
    return node.attr[0] in _IDEMPOTENT or not node.dtype.is_float


# --- reductions ---------------------------------------------------------------------------------------------------


def fold_of_nothing(node: Node) -> Node | None:
    """reduce(x) -> the neutral element where there is nothing to fold: 0, 1, -inf, inf, all ones."""
    (x,) = node.inputs
    kind: str = node.attr[0]
    if 0 not in x.shape:  # the result has no extent of 0, so that it is one of those folded
        return None
    bits = encode(node.dtype, 0) if kind == "add" else neutral(kind, node.dtype)
    assert bits is not None
    return const_bits(node.dtype, bits, node.shape)


def fold_of_constant(node: Node) -> Node | None:
    """max(c) -> c, also min & |;  sum(c) -> c * n, product(c) -> c^n of integers;  sum(0.0), product(1.0) alike.

    Sums of floats too where no partial sum is rounded.
    """
    (x,) = node.inputs
    bits = uniform(x)
    if bits is None or not _never_empty(x, node.attr[1]):
        return None
    kind, axes = node.attr
    unchanged = kind in _IDEMPOTENT or (kind == "mul" and number(x) == 1) or (kind == "add" and bits == 0)
    if unchanged:
        return const_bits(node.dtype, bits, node.shape)
    count, value = _count(x, axes), number(x)
    if count is None or value is None:
        return None
    if node.dtype.is_float:
        return like(node, value * count) if kind == "add" and _sums_exactly(node.dtype, value, count) else None
    return wrapped(node, int(value) * count if kind == "add" else pow(int(value), count, 1 << node.dtype.bits))


def _sums_exactly(dtype: DType, value: float, count: int) -> bool:
    """Whether every partial sum of `count` equal floats is a number of the dtype, and so the sum in any order.

    f16 and bf16 accumulate in f32, but the result must fit them too. Source: Spec: accuracy_c2.
    """
    if not math.isfinite(value) or value == 0:
        return False
    whole, _ = value.as_integer_ratio()
    odd = abs(whole) // (whole & -whole)
    return odd * count <= 1 << dtype.precision and abs(value) * count <= max_finite(dtype)


def _never_empty(x: Node, axes: tuple[int, ...]) -> bool:
    return all(bounds(n)[0] > 0 for a, n in enumerate(x.shape) if a in axes)


def _count(x: Node, axes: tuple[int, ...]) -> int | None:
    """Return how many elements are folded into one, if it is known."""
    total = 1
    for a in axes:
        n = x.shape[a]
        if not isinstance(n, int):
            return None
        total *= n
    return total


def fold_of_fold(node: Node) -> Node | None:
    """reduce(reduce(x, a), b) -> reduce(x, a and b), of one kind; not sums and products of floats, which round."""
    (x,) = node.inputs
    if x.op != "reduce" or x.attr[0] != node.attr[0] or not _associative(node):
        return None
    return graph.reduce(node.attr[0], x.inputs[0], (*x.attr[1], *node.attr[1]))


def fold_along_repeats(node: Node) -> Node | None:
    """max(expand(x)) -> max(x), also min & |;  sum(expand(x)) -> sum(x) * n of integers: along what is repeated."""
    (x,) = node.inputs
    kind, axes = node.attr
    along = tuple(a for a in axes if a in _repeats(x))
    count = _count(x, along)
    summed = kind == "add" and node.dtype.is_int and count is not None
    if not along or not _never_empty(x, along) or not (kind in _IDEMPOTENT or summed):
        return None
    shape = tuple(1 if a in along else n for a, n in enumerate(x.shape))
    rest = graph.reduce(kind, graph.expand(x.inputs[0], shape), [a for a in axes if a not in along])
    return map_("mul", rest, wrapped(node, count or 1)) if summed else rest


def repeats_outside(node: Node) -> Node | None:
    """reduce(expand(x), a) -> expand(reduce(x, a)) for what is repeated along other axes: done once, not for each."""
    (x,) = node.inputs
    kind, axes = node.attr
    if not any(a not in axes for a in _repeats(x)):
        return None
    inner = tuple(n if a in axes else m for a, (n, m) in enumerate(zip(x.shape, x.inputs[0].shape, strict=True)))
    return graph.expand(graph.reduce(kind, graph.expand(x.inputs[0], inner), axes), node.shape)


def _repeats(x: Node) -> frozenset[int]:
    """Return the axes along which a node is an extent of 1, repeated."""
    if x.op != "view" or x.attr[0] != "expand":
        return frozenset()
    return frozenset(a for a, (n, m) in enumerate(zip(x.shape, x.inputs[0].shape, strict=True)) if n != m)


# --- scans, gathers and scatters ----------------------------------------------------------------------------------


def scan_of_one(node: Node) -> Node | None:
    """scan(x) -> x along an extent of 1."""
    return node.inputs[0] if node.shape[node.attr[1]] == 1 else None


def gather_of_range(node: Node) -> Node | None:
    """gather(x, first + 0, 1, 2, ...) -> shrink(x), or x, where that is inside x."""
    x, index = node.inputs
    axis: int = node.attr
    first = _first_of_range(index, axis)
    n, extent = index.shape[axis], x.shape[axis]
    if first is None or not isinstance(n, int) or not isinstance(extent, int) or not 0 <= first <= extent - n:
        return None
    whole = [(0, m) for m in x.shape]
    return graph.shrink(x, [*whole[:axis], (first, first + n), *whole[axis + 1 :]])


def gather_of_nothing(node: Node) -> Node | None:
    """gather(empty x, index) -> 0."""
    return like(node, 0) if 0 in node.inputs[0].shape else None


def gather_of_one(node: Node) -> Node | None:
    """gather(x, c) -> expand(shrink(x)) at one constant index, and 0 where it is out of range."""
    x, index = node.inputs
    axis: int = node.attr
    at, extent = number(index), x.shape[axis]
    if at is None or not isinstance(extent, int):
        return None
    if not 0 <= at < extent:
        return like(node, 0)
    whole = [(0, m) for m in x.shape]
    return graph.expand(graph.shrink(x, [*whole[:axis], (int(at), int(at) + 1), *whole[axis + 1 :]]), node.shape)


def _first_of_range(index: Node, axis: int) -> int | None:
    """Return k of an index that is k + 0, 1, 2, ... along one axis; None if it is not known to be."""
    x, first, at = index, 0, axis
    while x.op != "iota":
        if x.op == "map" and x.attr == "add" and (step := number(x.inputs[1])) is not None:
            first += int(step)
            below: int | None = at
        else:
            below = _axis_below(x, at)
        if below is None:
            return None
        x, at = x.inputs[0], below
    return first


def _axis_below(x: Node, axis: int) -> int | None:
    """Return the axis of a view's input that runs along an axis of the view, element by element; None if none does."""
    if x.op != "view" or x.attr[0] not in ("reshape", "expand"):
        return None
    n, (y,) = x.shape[axis], x.inputs
    if x.attr[0] == "expand":
        return axis if y.shape[axis] == n else None
    return y.shape.index(n) if n != 1 and [m for m in y.shape if m != 1] == [n] else None


def nothing_to_scatter(node: Node) -> Node | None:
    """scatter(x, empty index, values) -> x."""
    return node.inputs[0] if 0 in node.inputs[1].shape else None


FOLD_RULES: Final[dict[str, tuple[Rule, ...]]] = {
    "reduce": (fold_of_nothing, fold_of_constant, fold_of_fold, fold_along_repeats, repeats_outside),
    "scan": (scan_of_one,),
    "gather": (gather_of_nothing, gather_of_one, gather_of_range),
    "scatter": (nothing_to_scatter,),
}
"""The rules for each operation that is neither elementwise nor movement, in the order in which they are tried."""
