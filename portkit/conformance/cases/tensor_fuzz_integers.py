"""Rewritings that keep every bit of integers and conditions: laws of bits, of division, of order, and wider dtypes.

Folds along several axes are here too: of whole numbers they are exact in any order.

Letters: x y operands, p q conditions, c m constants, k a shift.
"""

from __future__ import annotations

from portkit.compiler import graph
from portkit.compiler.graph import Node, map_
from portkit.conformance.cases.tensor_fuzz_rewrites import Places, Rewriting, expanded, fold_of
from portkit.spec.types import BOOL, DTYPES, I32

_WIDER = {"bool": "u8", "i8": "i16", "u8": "u16", "i16": "i32", "u16": "u32", "i32": "i64", "u32": "u64"}
_DIVISORS = (2, 3, 5, 7, 8, 10, 64)


def _is_bits(x: Node) -> bool:
    return x.dtype is BOOL or x.dtype.is_int


def _is_integer(x: Node) -> bool:
    return x.dtype.is_int


def _is_narrow(x: Node) -> bool:
    return x.dtype.name in _WIDER


def _is_condition(x: Node) -> bool:
    return x.dtype is BOOL


def _is_junction(x: Node) -> bool:
    return x.op == "map" and x.attr in ("and", "or")


def _is_sum(x: Node) -> bool:
    return x.op == "map" and x.attr in ("add", "sub") and x.dtype.is_int


def _has_two_axes(x: Node) -> bool:
    return x.op == "reduce" and len(fold_of(x)[1]) > 1


def _is_junction_of_conditions(x: Node) -> bool:
    return _is_junction(x) and x.dtype is BOOL


def _is_order(x: Node) -> bool:
    return x.op == "map" and x.attr == "lt" and x.inputs[0].dtype.is_int


def _constant(w: Places, x: Node) -> Node:
    """Return a constant of random bits, of the dtype and shape of a node."""
    bits = 0
    for _ in range(x.dtype.bytes if x.dtype is not BOOL else 0):
        bits = bits << 8 | w.below(256)
    return graph.const_bits(x.dtype, bits if x.dtype is not BOOL else w.below(2), x.shape)


def _widened(w: Places, x: Node) -> Node:
    """x -> x, by way of a wider dtype."""
    return graph.cast(w.kept(graph.cast(x, DTYPES[_WIDER[x.dtype.name]])), x.dtype)


def _masked(w: Places, x: Node) -> Node:
    """x -> (x & m) | (x & ~m)."""
    mask = _constant(w, x)
    return map_("or", w.kept(map_("and", x, mask)), w.kept(map_("and", x, map_("not", mask))))


def _exclusive(w: Places, x: Node) -> Node:
    """x -> (x ^ c) ^ c."""
    c = _constant(w, x)
    return map_("xor", w.kept(map_("xor", x, c)), c)


def _opposite(w: Places, x: Node) -> Node:
    """x & y -> ~(~x | ~y);  x | y -> ~(~x & ~y)."""
    negated = [w.kept(map_("not", y)) for y in x.inputs]
    return map_("not", map_("or" if x.attr == "and" else "and", *negated))


def _offset(w: Places, x: Node) -> Node:
    """x -> (x - c) + c, which wraps."""
    c = _constant(w, x)
    return map_("add", w.kept(map_("sub", x, c)), c)


def _divided(w: Places, x: Node) -> Node:
    """x -> (x idiv c) * c + x imod c;  x -> (x tdiv c) * c + x tmod c;  x idiv 6 as (x idiv 2) idiv 3."""
    if w.below(3) == 0:
        two, three, six = (graph.const(x.dtype, n, x.shape) for n in (2, 3, 6))
        sixth = map_("idiv", w.kept(map_("idiv", x, two)), three)
        return map_("add", map_("mul", sixth, six), map_("imod", x, six))
    quotient, remainder = (("idiv", "imod"), ("tdiv", "tmod"))[w.below(2)]
    divisor = _DIVISORS[w.below(len(_DIVISORS))]
    c = graph.const(x.dtype, -divisor if x.dtype.is_signed and w.below(2) else divisor, x.shape)
    whole = map_("mul", w.kept(map_(quotient, x, c)), c)
    return map_("add", whole, w.kept(map_(remainder, x, c)))


def _shifted(w: Places, x: Node) -> Node:
    """x -> ((x shr k) shl k) + (x & (2^k - 1))."""
    k = w.below(x.dtype.bits)
    by, mask = graph.const(x.dtype, k, x.shape), graph.const_bits(x.dtype, (1 << k) - 1, x.shape)
    high = map_("shl", w.kept(map_("shr", x, by)), by)
    return map_("add", high, w.kept(map_("and", x, mask)))


def _summed(w: Places, x: Node) -> Node:
    """x -> sum(expand(x)) - x * (n - 1) along a new axis of n."""
    axis, n = w.below(x.rank + 1), 2 + w.below(3)
    total = graph.reshape(graph.reduce("add", w.kept(expanded(x, axis, n)), [axis]), x.shape)
    return map_("sub", total, map_("mul", x, graph.const(x.dtype, n - 1, x.shape)))


def _compared(w: Places, x: Node) -> Node:
    """x < y -> not (y < x or x == y)."""
    left, right = x.inputs
    return map_("not", map_("or", w.kept(map_("lt", right, left)), w.kept(map_("eq", left, right))))


def _counted(w: Places, x: Node) -> Node:
    """p -> i32(p) == 1;  p -> not (i32(p) == 0)."""
    number = w.kept(graph.cast(x, I32))
    if w.below(2):
        return map_("eq", number, graph.const(I32, 1, x.shape))
    return map_("not", map_("eq", number, graph.const(I32, 0, x.shape)))


def _guarded(w: Places, x: Node) -> Node:
    """x -> where((x & 7) < 8, x, c)."""
    seven, eight = (graph.const(x.dtype, n, x.shape) for n in (7, 8))
    return map_("where", map_("lt", w.kept(map_("and", x, seven)), eight), x, _constant(w, x))


def _branched(w: Places, x: Node) -> Node:
    """p & q -> where(p, q, false);  p | q -> where(p, true, q)."""
    p, q = x.inputs
    known = graph.const(BOOL, x.attr == "or", x.shape)
    return map_("where", w.kept(p), known, q) if x.attr == "or" else map_("where", w.kept(p), q, known)


def _reversed(w: Places, x: Node) -> Node:
    """x - y -> -(y - x);  x + y -> -(-x - y)."""
    left, right = x.inputs
    other = map_("neg", left) if x.attr == "add" else right
    return map_("neg", w.kept(map_("sub", other, right if x.attr == "add" else left)))


def _in_turn(w: Places, x: Node) -> Node:
    """fold(x) along two axes -> fold(fold(x) along one) along the other."""
    (kind, axes), (y,) = fold_of(x), x.inputs
    k = w.below(len(axes))
    return graph.reduce(kind, w.kept(graph.reduce(kind, y, [axes[k]])), [*axes[:k], *axes[k + 1 :]])


REWRITINGS_OF_INTEGERS: tuple[Rewriting, ...] = (
    Rewriting("widened", _is_narrow, _widened),
    Rewriting("divided", _is_integer, _divided),
    Rewriting("shifted", _is_integer, _shifted),
    Rewriting("masked", _is_bits, _masked),
    Rewriting("exclusive", _is_bits, _exclusive),
    Rewriting("opposite", _is_junction, _opposite),
    Rewriting("offset", _is_integer, _offset),
    Rewriting("repeated_sum", _is_integer, _summed),
    Rewriting("compared", _is_order, _compared),
    Rewriting("counted", _is_condition, _counted),
    Rewriting("guarded", _is_integer, _guarded),
    Rewriting("branched", _is_junction_of_conditions, _branched),
    Rewriting("reversed", _is_sum, _reversed),
    Rewriting("in_turn", _has_two_axes, _in_turn),
)
