"""Rewritings of graphs that change no value: what a graph and its rewritings compute lies in one and the same bound.

A rewriting is made at a few nodes of a graph, chosen by the case. Each stands for its node in every use. `Places.kept`
stores what is in between, or leaves it to the compiler to see through: both are wanted, so a seed decides.

Exact rewritings keep every bit of every value. The others change only the order of a fold, of which the bound of the
node, any order of its terms, holds in every case (`portkit.conformance.graph_bounds`): a sum of sums and a running sum
are orders too. Sums written as single additions are not: each is bound to its own rounding.

Letters: x y operands, p a condition, n an extent.
Source: the rewritings are metamorphic relations in the sense of T. Y. Chen, S. C. Cheung, S. M. Yiu, "Metamorphic
testing: a new approach for generating next test cases", 1998 (arXiv:2002.12543).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from portkit.compiler import graph
from portkit.compiler.graph import SCANS, Node, map_
from portkit.conformance.cases.draws import Draws
from portkit.spec.types import BOOL, F32, F64, I32, U32, encode
from portkit.tensor.tensor import Tensor

MOST = 4
"""How many nodes of a graph are rewritten at most."""

Rewrite: TypeAlias = Callable[["Places", Node], Node]
Applies: TypeAlias = Callable[[Node], bool]


class Places:
    """What a rewriting may choose: places along axes, and whether a value in between is stored."""

    def __init__(self, case_id: str) -> None:
        self._draws = Draws(case_id)

    def below(self, count: int) -> int:
        return int(self._draws.integers(0, count - 1, 1)[0])

    def permutation(self, count: int) -> list[int]:
        return [int(n) for n in self._draws.permutation(count)]

    def kept(self, x: Node) -> Node:
        """Return a node, stored or not."""
        return graph.store(x) if self.below(2) else x

    def axis(self, x: Node, least: int = 2) -> int:
        """Return an axis with at least so many places."""
        found = [a for a, n in enumerate(extents(x)) if n >= least]
        return found[self.below(len(found))]


@dataclass(frozen=True, slots=True)
class Rewriting:
    """A row: nodes that it applies to, what it makes of one, whether it keeps every bit, and dtypes that it needs."""

    name: str
    applies: Applies
    rewrite: Rewrite
    exact: bool = True
    dtypes: tuple[str, ...] = ()

    def sites(self, outputs: Sequence[Node]) -> list[Node]:
        """Return the nodes that it applies to, of those that depend on an input."""
        return [node for node in _dependent(outputs) if self.applies(node)]

    def of(self, outputs: Sequence[Node], case_id: str) -> list[Node]:
        """Return a graph rewritten at some of these nodes; it has at least one."""
        places = Places(case_id)
        sites = self.sites(outputs)
        chosen = {sites[k] for k in places.permutation(len(sites))[: 1 + places.below(MOST)]}
        new: dict[Node, Node] = {}
        for node in graph.topological(outputs):
            made = graph.with_inputs(node, tuple(new[x] for x in node.inputs))
            new[node] = self.rewrite(places, made) if node in chosen else made
        return [new[node] for node in outputs]


def _dependent(outputs: Sequence[Node]) -> Iterator[Node]:
    found: set[Node] = set()
    for node in graph.topological(outputs):
        if node.op == "source" or any(x in found for x in node.inputs):
            found.add(node)
            yield node


def extents(x: Node) -> tuple[int, ...]:
    """Return the shape of a node whose extents are known."""
    return tuple(n for n in x.shape if isinstance(n, int))


# --- what a rewriting applies to ----------------------------------------------------------------------------------


def _extended(x: Node) -> bool:
    return any(n > 1 for n in extents(x))


def _even(x: Node) -> bool:
    return any(n > 1 and n % 2 == 0 for n in extents(x))


def _axes(x: Node) -> bool:
    return x.rank > 1


def _axis(x: Node) -> bool:
    return x.rank > 0


def _anything(_: Node) -> bool:
    return True


def _number(x: Node) -> bool:
    return x.dtype is not BOOL


def _float(x: Node) -> bool:
    return x.dtype.is_float


def _is_f32(x: Node) -> bool:
    return x.dtype is F32


def _is_map(*names: str) -> Applies:
    return lambda x: x.op == "map" and x.attr in names


def _above_minus_zero(x: Node) -> bool:
    """What is never -0.0, of which a sum makes +0.0."""
    return x.dtype.is_float and _is_map("abs", "exp", "sigmoid")(x)


def _commutative(x: Node) -> bool:
    return _is_map("add", "mul", "max", "min", "and", "or", "xor")(x) and x.inputs[0] is not x.inputs[1]


def _is_fold(*kinds: str) -> Applies:
    return lambda x: x.op == "reduce" and x.attr[0] in kinds


def _free_fold(x: Node) -> bool:
    """A fold of any order: sums and products of floats shorter than f32 are rounded once, so that these are not."""
    return x.op == "reduce" and x.attr[0] in SCANS and (not x.dtype.is_float or x.dtype in (F32, F64))


def _composite_fold(x: Node) -> bool:
    return _free_fold(x) and bool(_composite(x))


def _fold(x: Node) -> tuple[str, tuple[int, ...]]:
    """Return the kind and the axes of a fold."""
    kind, axes = x.attr
    return kind, tuple(axes)


def _composite(x: Node) -> list[int]:
    """Return the axes of a fold whose extent has a divisor."""
    _, axes = _fold(x)
    return [a for a in axes if _divisor(extents(x.inputs[0])[a]) > 1]


def _divisor(n: int) -> int:
    """Return the least divisor of n between 1 and n, else 1."""
    return next((d for d in range(2, n) if n % d == 0), 1)


# --- movement there and back --------------------------------------------------------------------------------------


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


def _span(x: Node, axis: int, start: int, stop: int) -> Node:
    ranges = [(start, stop) if a == axis else (0, n) for a, n in enumerate(extents(x))]
    return graph.shrink(x, ranges)


def _halves(w: Places, x: Node, axis: int) -> tuple[Node, Node]:
    """Return the parts of a node before and from some place of an axis on."""
    n = extents(x)[axis]
    at = 1 + w.below(n - 1)
    return _span(x, axis, 0, at), _span(x, axis, at, n)


def _concatenated(parts: Sequence[Node], axis: int) -> Node:
    from portkit.tensor.movement import cat

    return cat([Tensor.of(part) for part in parts], axis).node


def _joined(w: Places, x: Node) -> Node:
    """x -> cat(x[:k], x[k:])."""
    axis = w.axis(x)
    return _concatenated([w.kept(part) for part in _halves(w, x, axis)], axis)


def _interleaved(w: Places, x: Node) -> Node:
    """x -> reshape(cat(x[0::2], x[1::2]) along an axis of their own)."""
    shape = extents(x)
    even = [a for a, n in enumerate(shape) if n > 1 and n % 2 == 0]
    axis = even[w.below(len(even))]
    steps = [2 if a == axis else 1 for a in range(x.rank)]
    parts = (graph.stride(_span(x, axis, k, shape[axis]), steps) for k in (0, 1))
    apart = [graph.reshape(w.kept(p), (*p.shape[: axis + 1], 1, *p.shape[axis + 1 :])) for p in parts]
    return graph.reshape(_concatenated(apart, axis + 1), x.shape)


def _backwards(x: Node, axis: int) -> Node:
    """Return n-1 .. 0 along an axis, as an index of the shape of a node."""
    n = extents(x)[axis]
    falling = map_("sub", graph.const(I32, n - 1, (n,)), graph.iota(n))
    return graph.expand(graph.reshape(falling, [n if a == axis else 1 for a in range(x.rank)]), x.shape)


def _gathered(w: Places, x: Node) -> Node:
    """x -> gather(flip(x), n-1 .. 0)."""
    axis = w.axis(x)
    return graph.gather(w.kept(graph.flip(x, [axis])), w.kept(_backwards(x, axis)), axis)


def _scattered(w: Places, x: Node) -> Node:
    """x -> scatter(1s, n-1 .. 0, flip(x)), which sets every element."""
    axis = w.axis(x)
    start = graph.const(x.dtype, 1, x.shape)
    return graph.scatter("set", start, w.kept(_backwards(x, axis)), w.kept(graph.flip(x, [axis])), axis)


def expanded(x: Node, axis: int, n: int) -> Node:
    """Return a node n times along a new axis."""
    apart = graph.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))
    return graph.expand(apart, (*x.shape[:axis], n, *x.shape[axis:]))


def _repeated(w: Places, x: Node) -> Node:
    """x -> max(expand(x)) along a new axis."""
    axis = w.below(x.rank + 1)
    many = w.kept(expanded(x, axis, 2 + w.below(3)))
    return graph.reshape(graph.reduce("or" if x.dtype is BOOL else "max", many, [axis]), x.shape)


# --- arithmetic there and back ------------------------------------------------------------------------------------


def _negated(w: Places, x: Node) -> Node:
    """x -> --x; not not x of conditions."""
    name = "not" if x.dtype is BOOL else "neg"
    return map_(name, w.kept(map_(name, x)))


def _multiplied(w: Places, x: Node) -> Node:
    """x -> x * 1."""
    return map_("mul", x, w.kept(graph.const(x.dtype, 1, x.shape)))


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


# --- laws of one operation ----------------------------------------------------------------------------------------


def _commuted(w: Places, x: Node) -> Node:
    """x + y -> y + x; so too * max min & | ^."""
    left, right = x.inputs
    return map_(x.attr, w.kept(right), w.kept(left))


def _opposed(w: Places, x: Node) -> Node:
    """x + y -> x - -y;  x - y -> x + -y."""
    left, right = x.inputs
    return map_("sub" if x.attr == "add" else "add", left, w.kept(map_("neg", right)))


def _turned(w: Places, x: Node) -> Node:
    """where(p, x, y) -> where(not p, y, x)."""
    condition, first, second = x.inputs
    return map_("where", w.kept(map_("not", condition)), second, first)


_OPPOSITE = {"max": "min", "min": "max"}


def _mirrored(w: Places, x: Node) -> Node:
    """max(x) -> -min(-x);  min(x) -> -max(-x), along axes; of integers, of which one has no opposite, with ~ for -."""
    kind, axes = _fold(x)
    turn = "neg" if x.dtype.is_float else "not"
    return map_(turn, graph.reduce(_OPPOSITE[kind], w.kept(map_(turn, x.inputs[0])), axes))


def _parted(w: Places, x: Node) -> Node:
    """fold(x) -> fold(x[:k]) + fold(x[k:]), with the step of the fold for +."""
    kind, axes = _fold(x)
    parts = _halves(w, x.inputs[0], axes[w.below(len(axes))])
    return map_(kind, *(w.kept(graph.reduce(kind, part, axes)) for part in parts))


def _stepped(w: Places, x: Node) -> Node:
    """fold(x) along n = d m -> fold(fold(x) along m), then along d."""
    (kind, axes), (y,), axis = _fold(x), x.inputs, _composite(x)[0]
    n = extents(y)[axis]
    d = _divisor(n)
    split = graph.reshape(y, (*y.shape[:axis], d, n // d, *y.shape[axis + 1 :]))
    inner = w.kept(graph.reduce(kind, split, [axis + 1]))
    return graph.reshape(graph.reduce(kind, inner, [a + (a > axis) for a in axes]), x.shape)


def _running(w: Places, x: Node) -> Node:
    """fold(x) -> the last of the running fold of x."""
    kind, axes = _fold(x)
    (y,) = x.inputs
    for axis in axes:
        n = extents(y)[axis]
        y = _span(w.kept(graph.scan(kind, y, axis)), axis, n - 1, n)
    return y


REWRITINGS: tuple[Rewriting, ...] = (
    Rewriting("transposed", _axes, _transposed),
    Rewriting("parted", _free_fold, _parted, exact=False),
    Rewriting("flipped", _extended, _flipped),
    Rewriting("flattened", _extended, _flattened),
    Rewriting("padded", _axis, _padded),
    Rewriting("joined", _extended, _joined),
    Rewriting("interleaved", _even, _interleaved),
    Rewriting("gathered", _extended, _gathered),
    Rewriting("scattered", _extended, _scattered),
    Rewriting("repeated", _anything, _repeated),
    Rewriting("negated", _anything, _negated),
    Rewriting("multiplied", _number, _multiplied),
    Rewriting("doubled", _float, _doubled),
    Rewriting("summed", _above_minus_zero, _summed),
    Rewriting("converted", _is_f32, _converted, dtypes=("f64",)),
    Rewriting("seen_as_bits", _is_f32, _seen_as_bits, dtypes=("u32",)),
    Rewriting("chosen", _anything, _chosen),
    Rewriting("turned", _is_map("where"), _turned),
    Rewriting("commuted", _commutative, _commuted),
    Rewriting("opposed", _is_map("add", "sub"), _opposed),
    Rewriting("mirrored", _is_fold("max", "min"), _mirrored),
    Rewriting("stepped", _composite_fold, _stepped, exact=False),
    Rewriting("running", _free_fold, _running, exact=False),
)
