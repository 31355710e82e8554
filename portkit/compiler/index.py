"""Index expressions: integers over iteration axes, dimensions known at launch, and values known at run time.

Expressions are immutable, equal only if they are the same object, and simplified as they are built; see
`portkit.compiler.integers` for the canonical form. Whatever is constant is a plain int.

    minimum maximum          the lesser and the greater of two
    at_most less             comparisons: True, False, or None where neither is proven
    substitute evaluate      other expressions, or numbers, for leaves
    ravel unravel            row-major position of a coordinate, and back
    reshape_index            the coordinate that an element has in another shape
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from portkit.compiler.expression import (
    Axis,
    Expr,
    Index,
    Maximum,
    Minimum,
    Product,
    Quotient,
    Remainder,
    Sum,
    Value,
    Variable,
    bounds,
    intern,
)
from portkit.compiler.integers import add, at_most, exact, linear, multiply, quotient, remainder
from portkit.errors import ShapeError

__all__ = [
    "Axis",
    "Expr",
    "Index",
    "Maximum",
    "Minimum",
    "Product",
    "Quotient",
    "Remainder",
    "Sum",
    "Value",
    "Variable",
    "at_most",
    "bounds",
    "evaluate",
    "exact",
    "has_parts",
    "leaves",
    "less",
    "linear",
    "maximum",
    "minimum",
    "ravel",
    "reshape_index",
    "substitute",
    "unravel",
]

Number: TypeAlias = "int | np.ndarray[Any, Any]"


def leaves(e: Index) -> frozenset[Expr]:
    """Return the axes, variables and values of an expression."""
    return frozenset() if isinstance(e, int) else e.leaves


def less(a: Index, b: Index) -> bool | None:
    """Return whether a < b: True and False are proven, None is not known."""
    return at_most(add(a, 1), b)


# --- minimum and maximum ------------------------------------------------------------------------------------------


def minimum(a: Index, b: Index) -> Index:
    """Return the lesser of two expressions; what is proven not to be the least is left out."""
    return _extreme(Minimum, min, lambda p, q: at_most(p, q) is True, a, b)


def maximum(a: Index, b: Index) -> Index:
    """Return the greater of two expressions; what is proven not to be the greatest is left out."""
    return _extreme(Maximum, max, lambda p, q: at_most(q, p) is True, a, b)


def _extreme(
    cls: type[Expr], best: Callable[..., int], wins: Callable[[Index, Index], bool], a: Index, b: Index
) -> Index:
    kept: list[Index] = []
    for e in (*_branches(cls, a), *_branches(cls, b)):
        if not any(wins(k, e) for k in kept):
            kept = [*(k for k in kept if not wins(e, k)), e]
    if len(kept) == 1:
        return kept[0]
    kept.sort(key=lambda e: (isinstance(e, int), 0 if isinstance(e, int) else e.number))
    low, high = (best(bounds(e)[side] for e in kept) for side in (0, 1))
    return low if low == high else intern(cls, tuple(kept), low, high, kept)


def _branches(cls: type[Expr], e: Index) -> tuple[Index, ...]:
    return e.args if isinstance(e, cls) else (e,)


# --- walking ------------------------------------------------------------------------------------------------------


def _parts(e: Expr) -> tuple[Any, ...]:
    """Return the operands of an expression; a leaf has none."""
    if type(e) is Sum:
        return tuple(atom for atom, _ in e.args[0])
    return () if type(e) in (Axis, Variable, Value) else e.args


def _postorder(e: Expr, done: Callable[[Expr], bool]) -> Iterator[Expr]:
    """Yield what `e` is made of, operands first, leaving out what is done; without recursion."""
    stack = [e]
    while stack:
        top = stack[-1]
        waiting = [] if done(top) else [p for p in _parts(top) if isinstance(p, Expr) and not done(p)]
        if waiting:
            stack.extend(waiting)
            continue
        stack.pop()
        if not done(top):
            yield top


def has_parts(e: Expr, count: int) -> bool:
    """Return whether an expression is made of at least that many different ones, itself included."""
    seen = {e}
    stack = [e]
    while stack and len(seen) < count:
        fresh = [p for p in _parts(stack.pop()) if isinstance(p, Expr) and p not in seen]
        seen.update(fresh)
        stack += fresh
    return len(seen) >= count


def substitute(e: Index, replacements: Mapping[Expr, Index]) -> Index:
    """Return the expression with other expressions for leaves, simplified again.

    The extent of an axis is not part of an expression: replacing a dimension leaves the axes over it as they are.
    """
    if isinstance(e, int) or e.leaves.isdisjoint(replacements):
        return e
    known: dict[Expr, Index] = {}

    def done(x: Expr) -> bool:
        if x not in known and x.leaves.isdisjoint(replacements):
            known[x] = x
        return x in known

    for x in _postorder(e, done):
        parts = [p if isinstance(p, int) else known[p] for p in _parts(x)]
        known[x] = _REBUILD[type(x)](x, parts) if parts else replacements[x]
    return known[e]


def _rebuild_sum(e: Expr, parts: list[Index]) -> Index:
    result: Index = e.args[1]
    for (_, k), part in zip(e.args[0], parts, strict=True):
        result = add(result, part, k)
    return result


_REBUILD: Final[dict[type[Expr], Callable[[Expr, list[Index]], Index]]] = {
    Sum: _rebuild_sum,
    Product: lambda e, parts: functools.reduce(multiply, parts),
    Quotient: lambda e, parts: quotient(parts[0], parts[1]) if parts[1] != 0 else 0,
    Remainder: lambda e, parts: remainder(parts[0], parts[1]) if parts[1] != 0 else 0,
    Minimum: lambda e, parts: functools.reduce(minimum, parts),
    Maximum: lambda e, parts: functools.reduce(maximum, parts),
}


def evaluate(e: Index, numbers: Mapping[Expr, Number]) -> Number:
    """Return the value of an expression, given that of each leaf: ints, or integer arrays that broadcast.

    A division by zero, which only an empty dimension can lead to, gives 0. Raises `KeyError` for a missing leaf.
    """
    if isinstance(e, int):
        return e
    known: dict[Expr, Number] = {}
    for x in _postorder(e, known.__contains__):
        parts: list[Number] = [p if isinstance(p, int) else known[p] for p in _parts(x)]
        known[x] = _EVALUATE[type(x)](x, parts) if parts else numbers[x]
    return known[e]


def _divide(x: Any, d: Any) -> Any:
    if isinstance(x, int) and isinstance(d, int):
        return x // d if d else 0
    return np.where(np.equal(d, 0), 0, x // np.maximum(d, 1))


_EVALUATE: Final[dict[type[Expr], Callable[[Expr, list[Any]], Any]]] = {
    Sum: lambda e, parts: sum(k * part for (_, k), part in zip(e.args[0], parts, strict=True)) + e.args[1],
    Product: lambda e, parts: functools.reduce(operator.mul, parts),
    Quotient: lambda e, parts: _divide(*parts),
    Remainder: lambda e, parts: (parts[0] - parts[1] * _divide(*parts)) * (parts[1] != 0),
    Minimum: lambda e, parts: functools.reduce(_lesser, parts),
    Maximum: lambda e, parts: functools.reduce(_greater, parts),
}


def _lesser(a: Any, b: Any) -> Any:
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else np.minimum(a, b)


def _greater(a: Any, b: Any) -> Any:
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else np.maximum(a, b)


# --- shapes -------------------------------------------------------------------------------------------------------


def ravel(indices: Sequence[Index], shape: Sequence[Index]) -> Index:
    """Return the row-major position of a coordinate in a shape."""
    position: Index = 0
    for i, n in zip(indices, shape, strict=True):
        position = add(multiply(position, n), i)
    return position


def unravel(position: Index, shape: Sequence[Index]) -> tuple[Index, ...]:
    """Return the coordinate in a shape of a row-major position, which is taken to be inside it."""
    coordinate: list[Index] = []
    inside = [axis for axis, n in enumerate(shape) if n != 1]
    if any(n == 0 for n in shape):
        return (0,) * len(shape)
    for axis in reversed(range(len(shape))):
        if axis not in inside:
            coordinate.append(0)
        elif axis == inside[0]:  # inside the shape, so no remainder is needed
            coordinate.append(position)
        else:
            coordinate.append(remainder(position, shape[axis]))
            position = quotient(position, shape[axis])
    return tuple(reversed(coordinate))


def reshape_index(
    indices: Sequence[Index], new_shape: Sequence[Index], old_shape: Sequence[Index]
) -> tuple[Index, ...]:
    """Return the coordinate in `old_shape` of the element at `indices` in `new_shape`, in row-major order.

    Both shapes are cut into groups of dimensions that match, so that a dimension which stays passes through as it is.
    Raises `ShapeError` if the shapes do not have the same number of elements.
    """
    if 0 in new_shape or 0 in old_shape:
        return (0,) * len(old_shape)
    result: list[Index] = []
    for new, old in _groups(new_shape, old_shape):
        position = ravel([indices[i] for i in new], [new_shape[i] for i in new])
        result += unravel(position, [old_shape[i] for i in old])
    return tuple(result)


def _groups(new: Sequence[Index], old: Sequence[Index]) -> Iterator[tuple[range, range]]:
    """Yield ranges of dimensions of both shapes with the same number of elements, as short as is known."""
    i = j = 0
    while i < len(new) or j < len(old):
        start, begin = i, j
        left, i = (new[i], i + 1) if i < len(new) else (1, i)
        right, j = (old[j], j + 1) if j < len(old) else (1, j)
        while left != right:
            if i < len(new) and (j == len(old) or at_most(left, right)):
                left, i = multiply(left, new[i]), i + 1
            elif j < len(old):
                right, j = multiply(right, old[j]), j + 1
            else:
                raise ShapeError(f"shapes {tuple(new)} and {tuple(old)} differ in their number of elements")
        yield range(start, i), range(begin, j)
