"""Between which values the integers of a graph lie, as far as a short look tells."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from portkit.compiler.graph import Node
from portkit.compiler.index import bounds
from portkit.spec.types import BOOL, decode

Span: TypeAlias = tuple[int, int]

DEPTH: Final = 6
"""How many operations deep to look."""


def span(x: Node, depth: int = DEPTH) -> Span:
    """Return the least and greatest value, both inclusive, of a node of integers or bools."""
    whole = (0, 1) if x.dtype is BOOL else (x.dtype.min_int, x.dtype.max_int)
    if x.op == "const":
        value = int(decode(x.dtype, x.attr))
        return value, value
    if x.op == "iota":
        return 0, max(bounds(x.shape[0])[1] - 1, 0)
    known = _known(x)
    if not depth or known is None or any(i.dtype.is_float for i in x.inputs):
        return whole
    low, high = known(*(span(i, depth - 1) for i in x.inputs))
    return (low, high) if whole[0] <= low and high <= whole[1] else whole  # beyond the dtype, it wraps


def _known(x: Node) -> Callable[..., Span] | None:
    if x.op == "map":
        return _MAPS.get(x.attr)
    if x.op == "view" and x.attr[0] == "pad":
        bits = int(decode(x.dtype, x.attr[2]))
        return partial(_either, (bits, bits))
    if x.op == "reduce" and x.attr[0] in ("max", "min"):
        return _same if all(bounds(n)[0] > 0 for n in x.inputs[0].shape) else None
    return _same if x.op in ("view", "store", "mark") else None


def _same(a: Span, *_: Span) -> Span:
    return a


def _either(a: Span, b: Span) -> Span:
    return min(a[0], b[0]), max(a[1], b[1])


def _chosen(_: Span, a: Span, b: Span) -> Span:
    return _either(a, b)


def _product(a: Span, b: Span) -> Span:
    corners = [x * y for x in a for y in b]
    return min(corners), max(corners)


def _greatest(a: Span, b: Span) -> Span:
    return max(a[0], b[0]), max(a[1], b[1])


def _least(a: Span, b: Span) -> Span:
    return min(a[0], b[0]), min(a[1], b[1])


_MAPS: Final[dict[str, Callable[..., Span]]] = {
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "sub": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "mul": _product,
    "neg": lambda a: (-a[1], -a[0]),
    "max": _greatest,
    "min": _least,
    "where": _chosen,
    "cast": _same,
}
