"""Rewritings by movement: there and back, apart and together, repeated and one of them taken."""

from __future__ import annotations

from collections.abc import Sequence

from portkit.compiler import graph
from portkit.compiler.graph import Node, map_
from portkit.conformance.cases.tensor_fuzz_rewrites import (
    Places,
    Rewriting,
    anything,
    expanded,
    extents,
    halves,
    is_extended,
    is_number,
    span,
)
from portkit.spec.types import BOOL, I32, encode
from portkit.tensor.tensor import Tensor


def _is_even(x: Node) -> bool:
    return any(n > 1 and n % 2 == 0 for n in extents(x))


def _has_axes(x: Node) -> bool:
    return x.rank > 1


def _has_axis(x: Node) -> bool:
    return x.rank > 0


def _transposed(w: Places, x: Node) -> Node:
    """x -> permute(permute(permute(x, p), q), (p q)^-1): with p^-1 alone, p q and q p would be the same."""
    first, second = w.permutation(x.rank), w.permutation(x.rank)
    if first == sorted(first):
        first = first[::-1]
    both = [first[a] for a in second]
    turned = graph.permute(w.kept(graph.permute(x, first)), second)
    return graph.permute(w.kept(turned), [both.index(a) for a in range(x.rank)])


def _flipped(w: Places, x: Node) -> Node:
    """x -> flip(flip(x, a), a)."""
    axes = {w.axis(x), w.axis(x)}
    return graph.flip(w.kept(graph.flip(x, axes)), axes)


def _flattened(w: Places, x: Node) -> Node:
    """x -> flip(reshape(flip(reshape(x)))): the row-major order backwards is every axis backwards."""
    flat = graph.flip(w.kept(graph.reshape(x, (graph.count(x.shape),))), [0])
    return graph.flip(graph.reshape(w.kept(flat), x.shape), range(x.rank))


def _padded(w: Places, x: Node) -> Node:
    """x -> shrink(shrink(pad(pad(x)))); the first shrink takes off some of the padding, the second what is left."""
    one = encode(x.dtype, 1)
    inner, outer = ([(1 + w.below(2), w.below(3)) for _ in x.shape] for _ in range(2))
    wide = w.kept(graph.pad(w.kept(graph.pad(x, inner, one)), outer, one))
    before, after = ([a[end] + b[end] for a, b in zip(inner, outer, strict=True)] for end in (0, 1))
    first, last = ([w.below(n + 1) for n in widths] for widths in (before, after))
    less = graph.shrink(wide, [(k, n - m) for k, n, m in zip(first, extents(wide), last, strict=True)])
    starts = [n - k for n, k in zip(before, first, strict=True)]
    return graph.shrink(w.kept(less), [(k, k + n) for k, n in zip(starts, extents(x), strict=True)])


def _concatenated(parts: Sequence[Node], axis: int) -> Node:
    from portkit.tensor.movement import cat

    return cat([Tensor.of(part) for part in parts], axis).node


def _joined(w: Places, x: Node) -> Node:
    """x -> cat(x[:k], x[k:])."""
    axis = w.axis(x)
    return _concatenated([w.kept(part) for part in halves(w, x, axis)], axis)


def _interleaved(w: Places, x: Node) -> Node:
    """x -> reshape(cat(x[0::2], x[1::2]) along an axis of their own)."""
    shape = extents(x)
    even = [a for a, n in enumerate(shape) if n > 1 and n % 2 == 0]
    axis = even[w.below(len(even))]
    steps = [2 if a == axis else 1 for a in range(x.rank)]
    parts = (graph.stride(span(x, axis, k, shape[axis]), steps) for k in (0, 1))
    apart = [graph.reshape(w.kept(p), (*p.shape[: axis + 1], 1, *p.shape[axis + 1 :])) for p in parts]
    return graph.reshape(_concatenated(apart, axis + 1), x.shape)


def _counting(x: Node, axis: int) -> Node:
    """Return 0 .. n-1 along an axis, as an index of the shape of a node."""
    n = extents(x)[axis]
    return graph.expand(graph.reshape(graph.iota(n), [n if a == axis else 1 for a in range(x.rank)]), x.shape)


def _backwards(x: Node, axis: int) -> Node:
    """Return n-1 .. 0 along an axis, as an index of the shape of a node."""
    return map_("sub", graph.const(I32, extents(x)[axis] - 1, x.shape), _counting(x, axis))


def _gathered(w: Places, x: Node) -> Node:
    """x -> gather(flip(x), n-1 .. 0), or gather(x, 0 .. n-1)."""
    axis = w.axis(x)
    if w.below(4) == 0:
        return graph.gather(w.kept(x), _counting(x, axis), axis)
    return graph.gather(w.kept(graph.flip(x, [axis])), w.kept(_backwards(x, axis)), axis)


def _scattered(w: Places, x: Node) -> Node:
    """x -> scatter(1s, n-1 .. 0, flip(x)), which sets every element."""
    axis = w.axis(x)
    start = graph.const(x.dtype, 1, x.shape)
    return graph.scatter("set", start, w.kept(_backwards(x, axis)), w.kept(graph.flip(x, [axis])), axis)


# --- repeated, and one of them taken ------------------------------------------------------------------------------


def _repeated(w: Places, x: Node) -> Node:
    """x -> max(expand(x)) along a new axis."""
    axis = w.below(x.rank + 1)
    many = w.kept(expanded(x, axis, 2 + w.below(3)))
    return graph.reshape(graph.reduce("or" if x.dtype is BOOL else "max", many, [axis]), x.shape)


def _picked(w: Places, x: Node) -> Node:
    """x -> any of n m copies along two new axes, flipped, every second, axes exchanged."""
    axis, shape = w.below(x.rank + 1), extents(x)
    before, after = shape[:axis], shape[axis:]
    n, m = 2 + w.below(2), 3 + w.below(2)
    many = graph.expand(expanded(graph.reshape(x, (*before, 1, *after)), axis, n), (*before, n, m, *after))
    flipped = graph.flip(w.kept(many), [axis + 1])
    some = graph.stride(flipped, [2 if a == axis + 1 else 1 for a in range(x.rank + 2)])
    order = [*range(axis), axis + 1, axis, *range(axis + 2, x.rank + 2)]
    turned = w.kept(graph.permute(some, order))
    first, second = w.below(2), w.below(n)
    return graph.reshape(span(span(turned, axis, first, first + 1), axis + 1, second, second + 1), x.shape)


def _spread(w: Places, x: Node) -> Node:
    """x -> every second of every second of x, each element 4 times."""
    axis, shape = w.axis(x, least=1), extents(x)
    wide = graph.reshape(expanded(x, axis + 1, 4), (*shape[:axis], 4 * shape[axis], *shape[axis + 1 :]))
    steps = [2 if a == axis else 1 for a in range(x.rank)]
    return graph.stride(w.kept(graph.stride(w.kept(wide), steps)), steps)


def _looked_up(w: Places, x: Node) -> Node:
    """x -> gather(expand(x), k) along a new axis."""
    axis, n = w.below(x.rank + 1), 1 + w.below(3)
    many = w.kept(expanded(x, axis, n))
    at = graph.const(I32, w.below(n), (*x.shape[:axis], 1, *x.shape[axis:]))
    return graph.reshape(graph.gather(many, w.kept(at), axis), x.shape)


def _scanned(w: Places, x: Node) -> Node:
    """x -> the last of the running maxima of expand(x) along a new axis."""
    axis, n = w.below(x.rank + 1), 1 + w.below(3)
    largest = w.kept(graph.scan("max", w.kept(expanded(x, axis, n)), axis))
    return graph.reshape(span(largest, axis, n - 1, n), x.shape)


MOVEMENT: tuple[Rewriting, ...] = (
    Rewriting("transposed", _has_axes, _transposed),
    Rewriting("flipped", is_extended, _flipped),
    Rewriting("flattened", is_extended, _flattened),
    Rewriting("padded", _has_axis, _padded),
    Rewriting("joined", is_extended, _joined),
    Rewriting("interleaved", _is_even, _interleaved),
    Rewriting("gathered", is_extended, _gathered),
    Rewriting("scattered", is_extended, _scattered),
    Rewriting("repeated", anything, _repeated),
    Rewriting("picked", anything, _picked),
    Rewriting("spread", _has_axis, _spread),
    Rewriting("looked_up", anything, _looked_up),
    Rewriting("scanned", is_number, _scanned),
)
