"""Rules for movement: views of views become one, and constants and expanded extents come out of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from portkit.compiler import graph
from portkit.compiler.graph import Node, Shape, Size, const_bits
from portkit.compiler.index import at_most
from portkit.compiler.simplify_constants import uniform

Rule: TypeAlias = Callable[[Node], Node | None]


def _is(x: Node, movement: str) -> bool:
    return x.op == "view" and x.attr[0] == movement


def _repeated(x: Node) -> tuple[bool, ...]:
    """Return for each axis of an expand whether it repeats an extent of 1."""
    return tuple(a != b for a, b in zip(x.inputs[0].shape, x.shape, strict=True))


def constant_moved(node: Node) -> Node | None:
    """view(constant) -> constant; a pad only if it is with the same bits."""
    bits = uniform(node.inputs[0])
    if bits is None or (node.attr[0] == "pad" and bits != node.attr[2]):
        return None
    return const_bits(node.dtype, bits, node.shape)


# --- the same movement twice --------------------------------------------------------------------------------------


def reshape_of_reshape(node: Node) -> Node | None:
    """reshape(reshape(x)) -> reshape(x), or x if it has that shape."""
    (x,) = node.inputs
    return graph.reshape(x.inputs[0], node.shape) if _is(x, "reshape") else None


def permute_of_permute(node: Node) -> Node | None:
    """permute(permute(x, p), q) -> permute(x, p of q)."""
    (x,) = node.inputs
    return graph.permute(x.inputs[0], [x.attr[1][a] for a in node.attr[1]]) if _is(x, "permute") else None


def expand_of_expand(node: Node) -> Node | None:
    """expand(expand(x)) -> expand(x)."""
    (x,) = node.inputs
    return graph.view(x.inputs[0], node.shape, "expand") if _is(x, "expand") else None


def shrink_of_shrink(node: Node) -> Node | None:
    """shrink(shrink(x, a), b) -> shrink(x, a + b)."""
    (x,) = node.inputs
    if not _is(x, "shrink"):
        return None
    starts = tuple(a + b for a, b in zip(x.attr[1], node.attr[1], strict=True))
    return graph.view(x.inputs[0], node.shape, "shrink", starts)


def flip_of_flip(node: Node) -> Node | None:
    """flip(flip(x, a), b) -> flip(x, a without b and b without a)."""
    (x,) = node.inputs
    return graph.flip(x.inputs[0], set(x.attr[1]) ^ set(node.attr[1])) if _is(x, "flip") else None


def stride_of_stride(node: Node) -> Node | None:
    """stride(stride(x, a), b) -> stride(x, a * b)."""
    (x,) = node.inputs
    if not _is(x, "stride"):
        return None
    steps = tuple(a * b for a, b in zip(x.attr[1], node.attr[1], strict=True))
    return graph.view(x.inputs[0], node.shape, "stride", steps)


def pad_of_pad(node: Node) -> Node | None:
    """pad(pad(x, a), b) -> pad(x, a + b), both with the same bits."""
    (x,) = node.inputs
    if not _is(x, "pad") or x.attr[2] != node.attr[2]:
        return None
    starts = tuple(a + b for a, b in zip(x.attr[1], node.attr[1], strict=True))
    return graph.view(x.inputs[0], node.shape, "pad", starts, node.attr[2])


# --- one movement out of another ----------------------------------------------------------------------------------


def permute_of_ones(node: Node) -> Node | None:
    """permute(x) -> reshape(x) where only extents of 1 change places."""
    order = [a for a in node.attr[1] if node.inputs[0].shape[a] != 1]
    return graph.view(node.inputs[0], node.shape, "reshape") if order == sorted(order) else None


def permute_of_expand(node: Node) -> Node | None:
    """permute(expand(x)) -> expand(permute(x))."""
    (x,) = node.inputs
    if not _is(x, "expand"):
        return None
    return graph.view(graph.permute(x.inputs[0], node.attr[1]), node.shape, "expand")


def reshape_of_expand(node: Node) -> Node | None:
    """reshape(expand(x)) -> expand(reshape(x)) where the reshape only adds and removes extents of 1."""
    (x,) = node.inputs
    if not _is(x, "expand"):
        return None
    before = [(n, m) for n, m in zip(x.shape, x.inputs[0].shape, strict=True) if n != 1]
    if [n for n, _ in before] != [n for n in node.shape if n != 1]:
        return None
    extents = iter(m for _, m in before)
    small = tuple(1 if n == 1 else next(extents) for n in node.shape)
    return graph.expand(graph.reshape(x.inputs[0], small), node.shape)


def cut_of_expand(node: Node) -> Node | None:
    """shrink(expand(x)) -> expand(shrink(x)); flip and stride alike; extents that are repeated need none of them."""
    (x,) = node.inputs
    if not _is(x, "expand"):
        return None
    repeated = _repeated(x)
    small = tuple(1 if r else n for r, n in zip(repeated, node.shape, strict=True))
    inner = _RESTRICT[node.attr[0]](x.inputs[0], small, repeated, node.attr[1])
    return graph.expand(inner, node.shape)


def _shrink_rest(x: Node, small: Shape, repeated: tuple[bool, ...], starts: Shape) -> Node:
    kept = tuple(0 if r else s for r, s in zip(repeated, starts, strict=True))
    return x if small == x.shape else graph.view(x, small, "shrink", kept)


def _flip_rest(x: Node, small: Shape, repeated: tuple[bool, ...], axes: tuple[int, ...]) -> Node:
    return graph.flip(x, [a for a in axes if not repeated[a]])


def _stride_rest(x: Node, small: Shape, repeated: tuple[bool, ...], steps: tuple[int, ...]) -> Node:
    kept = tuple(1 if r else s for r, s in zip(repeated, steps, strict=True))
    return x if set(kept) == {1} else graph.view(x, small, "stride", kept)


_RESTRICT: Final[dict[str, Callable[[Node, Shape, tuple[bool, ...], Any], Node]]] = {
    "shrink": _shrink_rest,
    "flip": _flip_rest,
    "stride": _stride_rest,
}


def shrink_of_pad(node: Node) -> Node | None:
    """shrink(pad(x)) -> shrink(x) inside the data, a constant outside of it, pad(shrink(x)) across known edges."""
    (x,) = node.inputs
    if not _is(x, "pad"):
        return None
    (data,) = x.inputs
    spans = [
        (start - before, start - before + n)  # in coordinates of the data
        for start, before, n in zip(node.attr[1], x.attr[1], node.shape, strict=True)
    ]
    if any(at_most(stop, 0) or at_most(n, start) for (start, stop), n in zip(spans, data.shape, strict=True)):
        return const_bits(node.dtype, x.attr[2], node.shape)
    if all(at_most(0, start) and at_most(stop, n) for (start, stop), n in zip(spans, data.shape, strict=True)):
        return (
            graph.view(data, node.shape, "shrink", tuple(start for start, _ in spans))
            if node.shape != data.shape
            else data
        )
    parts = [_cut(start, stop, n) for (start, stop), n in zip(spans, data.shape, strict=True)]
    known = [p for p in parts if p is not None]
    if len(known) < len(parts):
        return None
    return graph.pad(graph.shrink(data, [inside for inside, _ in known]), [around for _, around in known], x.attr[2])


Pair: TypeAlias = tuple[Size, Size]


def _cut(start: Size, stop: Size, extent: Size) -> tuple[Pair, Pair] | None:
    """Return which part of 0 .. extent lies in start .. stop, and how far the span reaches beyond on either side."""
    if isinstance(start, int) and isinstance(stop, int) and isinstance(extent, int):
        return (max(start, 0), min(stop, extent)), (max(-start, 0), max(stop - extent, 0))
    inside = at_most(0, start) and at_most(stop, extent)
    return ((start, stop), (0, 0)) if inside else None


def pad_of_nothing(node: Node) -> Node | None:
    """pad(x) -> constant where x has no elements."""
    return const_bits(node.dtype, node.attr[2], node.shape) if 0 in node.inputs[0].shape else None


VIEW_RULES: Final[dict[str, tuple[Rule, ...]]] = {
    "reshape": (constant_moved, reshape_of_reshape, reshape_of_expand),
    "permute": (constant_moved, permute_of_permute, permute_of_expand, permute_of_ones),
    "expand": (constant_moved, expand_of_expand),
    "shrink": (constant_moved, shrink_of_shrink, cut_of_expand, shrink_of_pad),
    "flip": (constant_moved, flip_of_flip, cut_of_expand),
    "stride": (constant_moved, stride_of_stride, cut_of_expand),
    "pad": (pad_of_nothing, constant_moved, pad_of_pad),
}
"""The rules for each movement, in the order in which they are tried."""
