"""Rewritings of folds: in other orders, by the opposite fold, for more rows than are needed."""

from __future__ import annotations

from portkit.compiler import graph
from portkit.compiler.graph import SCANS, Node, map_
from portkit.conformance.cases.tensor_fuzz_rewrites import (
    Applies,
    Places,
    Rewriting,
    expanded,
    extents,
    fold_of,
    halves,
    span,
)
from portkit.spec.types import F32, F64


def _is_fold(*kinds: str) -> Applies:
    return lambda x: x.op == "reduce" and x.attr[0] in kinds


def _free_fold(x: Node) -> bool:
    """A fold of any order: sums and products of floats shorter than f32 are rounded once, so that these are not."""
    return x.op == "reduce" and x.attr[0] in SCANS and (not x.dtype.is_float or x.dtype in (F32, F64))


def _composite_fold(x: Node) -> bool:
    return _free_fold(x) and bool(_composite(x))


def _composite(x: Node) -> list[int]:
    """Return the axes of a fold whose extent has a divisor."""
    _, axes = fold_of(x)
    return [a for a in axes if _divisor(extents(x.inputs[0])[a]) > 1]


def _divisor(n: int) -> int:
    """Return the least divisor of n between 1 and n, else 1."""
    return next((d for d in range(2, n) if n % d == 0), 1)


_OPPOSITE = {"max": "min", "min": "max"}


def _mirrored(w: Places, x: Node) -> Node:
    """max(x) -> -min(-x);  min(x) -> -max(-x), along axes; of integers, of which one has no opposite, with ~ for -."""
    kind, axes = fold_of(x)
    turn = "neg" if x.dtype.is_float else "not"
    return map_(turn, graph.reduce(_OPPOSITE[kind], w.kept(map_(turn, x.inputs[0])), axes))


def _parted(w: Places, x: Node) -> Node:
    """fold(x) -> fold(x[:k]) + fold(x[k:]), with the step of the fold for +."""
    kind, axes = fold_of(x)
    parts = halves(w, x.inputs[0], axes[w.below(len(axes))])
    return map_(kind, *(w.kept(graph.reduce(kind, part, axes)) for part in parts))


def _stepped(w: Places, x: Node) -> Node:
    """fold(x) along n = d m -> fold(fold(x) along m), then along d."""
    (kind, axes), (y,), axis = fold_of(x), x.inputs, _composite(x)[0]
    n = extents(y)[axis]
    d = _divisor(n)
    split = graph.reshape(y, (*y.shape[:axis], d, n // d, *y.shape[axis + 1 :]))
    inner = w.kept(graph.reduce(kind, split, [axis + 1]))
    return graph.reshape(graph.reduce(kind, inner, [a + (a > axis) for a in axes]), x.shape)


def _running(w: Places, x: Node) -> Node:
    """fold(x) -> the last of the running fold of x."""
    kind, axes = fold_of(x)
    (y,) = x.inputs
    for axis in axes:
        n = extents(y)[axis]
        y = span(w.kept(graph.scan(kind, y, axis)), axis, n - 1, n)
    return y


def _copied(w: Places, x: Node) -> Node:
    """fold(x) -> any of the folds of n copies of x."""
    (kind, axes), (y,) = fold_of(x), x.inputs
    new, n = w.below(x.rank + 1), 2 + w.below(3)
    many = graph.reduce(kind, w.kept(expanded(y, new, n)), [a + (a >= new) for a in axes])
    k = w.below(n)
    return graph.reshape(span(w.kept(many), new, k, k + 1), x.shape)


FOLDS: tuple[Rewriting, ...] = (
    Rewriting("parted", _free_fold, _parted, exact=False),
    Rewriting("stepped", _composite_fold, _stepped, exact=False),
    Rewriting("running", _free_fold, _running, exact=False),
    Rewriting("copied", _free_fold, _copied, exact=False),
    Rewriting("mirrored", _is_fold("max", "min"), _mirrored),
)
