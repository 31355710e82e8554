"""How each operation of a graph passes a cotangent back to its operands.

`g` is the cotangent of a node, of the node's shape. Every rule is linear in `g` and is itself made of graph operations,
so that gradients can be differentiated again. Where a function has no derivative, the choice is:

- max, min (elementwise, over axes, scattered): operands that tie share the cotangent evenly, as in JAX and
  `torch.amax`; against a constant a tie passes none, so that the derivative of max(x, 0) at 0 is 0, as in PyTorch
- running max, min: of operands that tie the last one takes it, as in PyTorch
- abs at 0: 0; x ** y in x at y = 0: 0; x ** y in y at x = 0: 0
- sqrt at 0: 0 rather than infinity, so that the norm of zeros and the deviation of equal numbers have gradient 0
- floor, ceil, round, trunc, sign, and everything of integers or bools: no gradient
- a cast between float dtypes passes the cotangent, f8 included
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from portkit.compiler import graph
from portkit.compiler.graph import Node, Shape, map_
from portkit.errors import DTypeError
from portkit.spec.types import F32, I32, DType
from portkit.tensor import gradient_folds, gradient_windows

Rule: TypeAlias = Callable[[Node, Node], Node]
"""From a node and its cotangent to the cotangent of one operand."""


def carried(dtype: DType) -> DType:
    """Return the dtype of the cotangent of a dtype: itself, but f32 for the 8-bit floats, which have no arithmetic."""
    return F32 if dtype.is_float and dtype.bits == 8 else dtype


def passes(node: Node, operand: int) -> bool:
    """Return whether a cotangent of `node` reaches one of its operands at all."""
    if not (node.dtype.is_float and node.inputs[operand].dtype.is_float):
        return False
    if node.op == "map":
        return ELEMENTWISE.get(node.attr, ())[operand : operand + 1] not in ((), (None,))
    if node.op == "mark":
        return node.attr[0] != "detach" and operand == 0
    return True


def cotangent(node: Node, g: Node, operand: int) -> Node:
    """Return the cotangent of an operand that `passes`. Raises `DTypeError` where the derivative is not implemented."""
    if node.op == "map":
        rule = ELEMENTWISE[node.attr][operand]
        assert rule is not None
        return rule(node, g)
    return _OPS[node.op](node, g, operand)


# --- elementwise --------------------------------------------------------------------------------------------------


def _add(a: Node, b: Node) -> Node:
    return map_("add", a, b)


def _sub(a: Node, b: Node) -> Node:
    return map_("sub", a, b)


def _mul(a: Node, b: Node) -> Node:
    return map_("mul", a, b)


def _div(a: Node, b: Node) -> Node:
    return map_("div", a, b)


def _neg(a: Node) -> Node:
    return map_("neg", a)


def _scaled(a: Node, factor: float) -> Node:
    return _mul(a, graph.const(a.dtype, factor, a.shape))


def _zero(a: Node) -> Node:
    return graph.const(a.dtype, 0.0, a.shape)


def _one(a: Node) -> Node:
    return graph.const(a.dtype, 1.0, a.shape)


def _x(z: Node) -> Node:
    return z.inputs[0]


def _y(z: Node) -> Node:
    return z.inputs[1]


def _extreme(z: Node, g: Node, mine: Node, other: Node) -> Node:
    """Return g where `mine` won, half of it where both tie; against a constant, where z itself beats the constant.

    The last needs no more of the forward pass than its result.
    """
    won, lost = (z, other) if _constant(other) else (mine, other)
    better = map_("lt", lost, won) if z.attr == "max" else map_("lt", won, lost)
    if _constant(other):
        return map_("where", better, g, _zero(g))
    tied = map_("where", map_("eq", mine, other), _scaled(g, 0.5), _zero(g))
    return map_("where", better, g, tied)


def _constant(x: Node) -> bool:
    while x.op == "view":
        x = x.inputs[0]
    return x.op == "const"


def _pow_base(z: Node, g: Node) -> Node:
    slope = _mul(_y(z), map_("pow", _x(z), _sub(_y(z), _one(z))))
    return map_("where", map_("eq", _y(z), _zero(z)), _zero(g), _mul(g, slope))


def _pow_exponent(z: Node, g: Node) -> Node:
    slope = _mul(z, map_("log", _x(z)))
    return map_("where", map_("eq", _x(z), _zero(z)), _zero(g), _mul(g, slope))


def _erf(z: Node, g: Node) -> Node:
    return _mul(g, _scaled(map_("exp", _neg(_mul(_x(z), _x(z)))), 2 / math.sqrt(math.pi)))


def _cast(z: Node, g: Node) -> Node:
    return graph.cast(g, carried(_x(z).dtype))


ELEMENTWISE: dict[str, tuple[Rule | None, ...]] = {
    "add": (lambda z, g: g, lambda z, g: g),
    "sub": (lambda z, g: g, lambda z, g: _neg(g)),
    "mul": (lambda z, g: _mul(g, _y(z)), lambda z, g: _mul(g, _x(z))),
    "div": (lambda z, g: _div(g, _y(z)), lambda z, g: _neg(_mul(_div(g, _y(z)), z))),
    "pow": (_pow_base, _pow_exponent),
    "max": (lambda z, g: _extreme(z, g, _x(z), _y(z)), lambda z, g: _extreme(z, g, _y(z), _x(z))),
    "min": (lambda z, g: _extreme(z, g, _x(z), _y(z)), lambda z, g: _extreme(z, g, _y(z), _x(z))),
    "where": (None, lambda z, g: map_("where", _x(z), g, _zero(g)), lambda z, g: map_("where", _x(z), _zero(g), g)),
    "neg": (lambda z, g: _neg(g),),
    "abs": (lambda z, g: _mul(g, map_("sign", _x(z))),),
    "recip": (lambda z, g: _neg(_mul(g, _mul(z, z))),),
    "sqrt": (lambda z, g: map_("where", map_("eq", z, _zero(z)), _zero(g), _div(_scaled(g, 0.5), z)),),
    "rsqrt": (lambda z, g: _mul(_scaled(g, -0.5), _mul(z, _mul(z, z))),),
    "exp": (lambda z, g: _mul(g, z),),
    "exp2": (lambda z, g: _mul(g, _scaled(z, math.log(2))),),
    "log": (lambda z, g: _div(g, _x(z)),),
    "log2": (lambda z, g: _div(g, _scaled(_x(z), math.log(2))),),
    "sin": (lambda z, g: _mul(g, map_("cos", _x(z))),),
    "cos": (lambda z, g: _neg(_mul(g, map_("sin", _x(z)))),),
    "tan": (lambda z, g: _mul(g, _add(_one(z), _mul(z, z))),),
    "tanh": (lambda z, g: _mul(g, _sub(_one(z), _mul(z, z))),),
    "sigmoid": (lambda z, g: _mul(g, _mul(z, _sub(_one(z), z))),),
    "erf": (_erf,),
    "cast": (_cast,),
}
"""A rule for each operand of each function that has a derivative; None for an operand that none reaches."""


# --- movement -----------------------------------------------------------------------------------------------------


def _reshape(v: Node, g: Node) -> Node:
    return graph.reshape(g, _x(v).shape)


def _permute(v: Node, g: Node) -> Node:
    order = v.attr[1]
    return graph.permute(g, sorted(range(len(order)), key=order.__getitem__))


def _expand(v: Node, g: Node) -> Node:
    grown = [i for i, (n, m) in enumerate(zip(_x(v).shape, v.shape, strict=True)) if n != m]
    return gradient_folds.sum_over(g, grown)


def _shrink(v: Node, g: Node) -> Node:
    spans = zip(v.attr[1], v.shape, _x(v).shape, strict=True)
    return graph.pad(g, [(start, whole - start - n) for start, n, whole in spans])


def _flip(v: Node, g: Node) -> Node:
    return graph.flip(g, v.attr[1])


def _stride(v: Node, g: Node) -> Node:
    return gradient_windows.dilate(g, v.attr[1], _x(v).shape)


def _pad(v: Node, g: Node) -> Node:
    spans = [(start, start + n) for start, n in zip(v.attr[1], _x(v).shape, strict=True)]
    return gradient_windows.shrunk(g, spans)


_VIEWS: dict[str, Rule] = {
    "reshape": _reshape,
    "permute": _permute,
    "expand": _expand,
    "shrink": _shrink,
    "flip": _flip,
    "stride": _stride,
    "pad": _pad,
}


# --- indexing -----------------------------------------------------------------------------------------------------


def _zeros(dtype: DType, shape: Shape) -> Node:
    return graph.const(dtype, 0, shape)


def _gather(node: Node, g: Node, _: int) -> Node:
    x, index = node.inputs
    return graph.scatter("add", _zeros(g.dtype, x.shape), index, g, node.attr)


def _scatter(node: Node, g: Node, operand: int) -> Node:
    kind, axis = node.attr
    return _SCATTERS[kind](node, g, axis, operand == 0)


def _scatter_add(node: Node, g: Node, axis: int, target: bool) -> Node:
    return g if target else graph.gather(g, node.inputs[1], axis)


def _scatter_set(node: Node, g: Node, axis: int, target: bool) -> Node:
    """Of several values put in one place only the last counts: only it has a gradient."""
    _, index, _ = node.inputs
    if target:
        return graph.scatter("set", g, index, _zeros(g.dtype, index.shape), axis)
    position = along(axis, index.shape)
    last = graph.scatter("set", _zeros(I32, node.shape), index, position, axis)
    stays = map_("eq", graph.gather(last, index, axis), position)
    taken = graph.gather(g, index, axis)
    return map_("where", stays, taken, _zero(taken))


def _scatter_mul(node: Node, g: Node, axis: int, target: bool) -> Node:
    _, index, values = node.inputs
    if not target:
        raise DTypeError("scatter mul has no gradient for its values; detach them, or multiply gathered elements")
    return _mul(g, graph.scatter("mul", _one(g), index, values, axis))


def _scatter_extreme(node: Node, g: Node, axis: int, target: bool) -> Node:
    x, index, values = node.inputs
    kept = map_("eq", x, node)
    reached = map_("eq", values, graph.gather(node, index, axis))
    count = graph.scatter("add", graph.cast(kept, g.dtype), index, graph.cast(reached, g.dtype), axis)
    share = _div(g, count)
    if target:
        return map_("where", kept, share, _zero(g))
    taken = graph.gather(share, index, axis)
    return map_("where", reached, taken, _zero(taken))


_SCATTERS: dict[str, Callable[[Node, Node, int, bool], Node]] = {
    "add": _scatter_add,
    "set": _scatter_set,
    "mul": _scatter_mul,
    "max": _scatter_extreme,
    "min": _scatter_extreme,
}


def along(axis: int, shape: Shape) -> Node:
    """Return i32 positions along one axis, in a shape."""
    line = tuple(n if i == axis else 1 for i, n in enumerate(shape))
    return graph.expand(graph.reshape(graph.iota(shape[axis]), line), shape)


# --- the table ----------------------------------------------------------------------------------------------------

_OPS: dict[str, Callable[[Node, Node, int], Node]] = {
    "reduce": lambda node, g, _: gradient_folds.REDUCTIONS[node.attr[0]](node, g),
    "scan": lambda node, g, _: gradient_folds.SCANS[node.attr[0]](node, g),
    "view": lambda node, g, _: _VIEWS[node.attr[0]](node, g),
    "gather": _gather,
    "scatter": _scatter,
    "store": lambda node, g, _: g,
    "mark": lambda node, g, _: g,
}
