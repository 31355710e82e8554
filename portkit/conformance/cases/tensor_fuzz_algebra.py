"""Rewritings by arithmetic: there and back, what is absorbed, and laws of one operation."""

from __future__ import annotations

from collections.abc import Callable

from portkit.compiler import graph
from portkit.compiler.graph import Node, map_
from portkit.conformance.cases.tensor_fuzz_rewrites import Places, Rewriting, anything, expanded, is_map, is_number
from portkit.spec.types import BOOL, F32, F64, U32


def _is_float(x: Node) -> bool:
    return x.dtype.is_float


def _is_f32(x: Node) -> bool:
    return x.dtype is F32


def _above_minus_zero(x: Node) -> bool:
    """What is never -0.0, of which a sum makes +0.0."""
    return x.dtype.is_float and is_map("abs", "exp", "sigmoid")(x)


def _commutative(x: Node) -> bool:
    return is_map("add", "mul", "max", "min", "and", "or", "xor")(x) and x.inputs[0] is not x.inputs[1]


def _negated(w: Places, x: Node) -> Node:
    """x -> --x, (x * -1) * -1 or -0 - (-0 - x); not not x of conditions."""
    if x.dtype is BOOL:
        return map_("not", w.kept(map_("not", x)))
    step = _NEGATIONS[w.below(3 if x.dtype.is_float or x.dtype.is_signed else 2)]
    return step(w.kept(step(x)))


def _subtracted(x: Node) -> Node:
    return map_("sub", graph.const(x.dtype, -0.0 if x.dtype.is_float else 0, x.shape), x)


_NEGATIONS: tuple[Callable[[Node], Node], ...] = (
    lambda x: map_("neg", x),
    _subtracted,
    lambda x: map_("mul", x, graph.const(x.dtype, -1, x.shape)),
)


def _ones(w: Places, x: Node) -> Node:
    """Return 1 in the shape of a node: as it is, moved, or a product of ones."""
    one = graph.const(x.dtype, 1, x.shape)
    return (
        one,
        graph.flip(one, range(x.rank)),
        graph.reshape(graph.reduce("mul", expanded(one, 0, 3), [0]), x.shape),
    )[w.below(3)]


def _multiplied(w: Places, x: Node) -> Node:
    """x -> x * 1."""
    return map_("mul", x, w.kept(_ones(w, x)))


def _absorbed(w: Places, x: Node) -> Node:
    """x -> max(x, min(x, y)) or min(x, max(x, y)), with y = 1 or x; of conditions with | and &."""
    names = ("or", "and") if x.dtype is BOOL else ("max", "min")
    outer, inner = names if w.below(2) else names[::-1]
    other = graph.const(x.dtype, 1, x.shape) if w.below(2) else x
    return map_(outer, x, w.kept(map_(inner, x, other)))


def _doubled(w: Places, x: Node) -> Node:
    """x -> (x + x) * 0.5, exact for what is not near the largest number."""
    return map_("mul", w.kept(map_("add", x, x)), graph.const(x.dtype, 0.5, x.shape))


def _summed(w: Places, x: Node) -> Node:
    """x -> sum(expand(x)) * 0.5 along a new axis of 2; x is stored, so that none of its products is added unrounded."""
    axis = w.below(x.rank + 1)
    total = graph.reshape(graph.reduce("add", w.kept(expanded(graph.store(x), axis, 2)), [axis]), x.shape)
    return map_("mul", total, graph.const(x.dtype, 0.5, x.shape))


def _converted(w: Places, x: Node) -> Node:
    """x -> f32(f64(x))."""
    return graph.cast(w.kept(graph.cast(x, F64)), F32)


def _seen_as_bits(w: Places, x: Node) -> Node:
    """x -> the f32 of its bits in words of u32."""
    return map_("bits", w.kept(map_("bits", x, dtype=U32)), dtype=F32)


def _chosen(w: Places, x: Node) -> Node:
    """x -> where(p, x, x), or where(p, where(p, x, 1), where(p, 1, x)), with p = x of conditions, else 0 < x."""
    condition = x if x.dtype is BOOL else map_("lt", graph.const(x.dtype, 0, x.shape), x)
    other = graph.const(x.dtype, 1, x.shape) if w.below(2) else x
    first, second = map_("where", condition, x, other), map_("where", condition, other, x)
    return map_("where", condition, w.kept(first), w.kept(second))


def _commuted(w: Places, x: Node) -> Node:
    """x + y -> y + x; so too * max min & | ^."""
    left, right = x.inputs
    return map_(x.attr, w.kept(right), w.kept(left))


def _applied_again(w: Places, x: Node) -> Node:
    """max(x, y) -> max(x, max(x, y)); so too min & |."""
    first = x.inputs[w.below(2)]
    return map_(x.attr, first, w.kept(x))


def _opposed(w: Places, x: Node) -> Node:
    """x + y -> x - -y;  x - y -> x + -y."""
    left, right = x.inputs
    return map_("sub" if x.attr == "add" else "add", left, w.kept(map_("neg", right)))


def _turned(w: Places, x: Node) -> Node:
    """where(p, x, y) -> where(not p, y, x)."""
    condition, first, second = x.inputs
    return map_("where", w.kept(map_("not", condition)), second, first)


ALGEBRA: tuple[Rewriting, ...] = (
    Rewriting("negated", anything, _negated),
    Rewriting("multiplied", is_number, _multiplied),
    Rewriting("absorbed", anything, _absorbed),
    Rewriting("doubled", _is_float, _doubled),
    Rewriting("summed", _above_minus_zero, _summed),
    Rewriting("converted", _is_f32, _converted, dtypes=("f64",)),
    Rewriting("seen_as_bits", _is_f32, _seen_as_bits, dtypes=("u32",)),
    Rewriting("chosen", anything, _chosen),
    Rewriting("turned", is_map("where"), _turned),
    Rewriting("commuted", _commutative, _commuted),
    Rewriting("applied_again", is_map("max", "min", "and", "or"), _applied_again),
    Rewriting("opposed", is_map("add", "sub"), _opposed),
)
