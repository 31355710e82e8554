"""Attention found in a graph: a weighted sum whose weights are a softmax of scores becomes one fold.

    m = max_j s;  p = exp(s - m) / sum_j exp(s - m);  out = sum_j p * v      ->      out = attend_j(s, v)

where s is an elementwise function of a product of matrices. The fold passes over j once, with a running maximum, a
running sum, and a result that is scaled again when the maximum grows, so that neither s nor p is ever in memory as a
whole. Sources: M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax", 2018; T. Dao et al.,
"FlashAttention", 2022.

It is done only where nothing else needs what lies between the product and the sum. Whether two operands are read at the
same place is decided on indices, so that it does not matter by which views they were brought there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from portkit.compiler.facts import axes_of_all, is_contraction, plain
from portkit.compiler.graph import Node, Size, attend, topological, view, with_inputs
from portkit.compiler.index import Axis, Index
from portkit.compiler.push import Indices, limits, push_view
from portkit.spec.types import F32, F64

_MOST_INSIDE = 64
"""Nodes between the product and the sum."""
_BYTES_FOR_EACH_COLUMN = 256
"""Shared memory that the smallest schedule takes for each column of keys and values."""


@dataclass(frozen=True, slots=True)
class _Found:
    """The scores, the views that bring them to the shape of the values, innermost first, and the values."""

    scores: Node
    views: tuple[Node, ...]
    values: Node


@dataclass(frozen=True, slots=True)
class _At:
    """A node at indices, and the views that were passed on the way down to it, outermost first."""

    node: Node
    at: Indices
    views: tuple[Node, ...] = ()


def fold_attention(outputs: Sequence[Node], shared_bytes: int) -> list[Node]:
    """Return `outputs` with every attention whose columns fit in `shared_bytes` made one fold; none if that is 0."""
    if shared_bytes == 0:
        return list(outputs)
    order = topological(outputs)
    users = _users(order)
    for output in outputs:
        users[output] = []  # needed by more than this graph
    new: dict[Node, Node] = {}
    for node in order:
        found = _find(node, users, shared_bytes)
        if found is None:
            new[node] = with_inputs(node, tuple(new[i] for i in node.inputs))
        else:
            scores = new[found.scores]
            for moved in found.views:
                scores = view(scores, moved.shape, *moved.attr)
            new[node] = attend(scores, new[found.values], _axis(node))
    return [new[n] for n in outputs]


def inside_attention(outputs: Sequence[Node]) -> frozenset[Node]:
    """Return the nodes from product to scores of every attention, which are computed inside it and nowhere else."""
    inside: set[Node] = set()
    for fold in topological(outputs):
        if fold.op == "reduce" and fold.attr[0] == "attend":
            scores = fold.inputs[0]
            at = tuple(Axis(n) if n != 1 else 0 for n in scores.shape)
            (product,) = _products(_At(scores, at), at[_axis(fold)])
            found = {product.node}
            for node in topological([scores], found):
                if not found.isdisjoint(node.inputs):
                    found.add(node)
            inside |= found
    return frozenset(inside)


def _users(order: Sequence[Node]) -> dict[Node, list[Node]]:
    users: dict[Node, list[Node]] = {n: [] for n in order}
    for node in order:
        for operand in node.inputs:
            users[operand].append(node)
    return users


# --- recognition --------------------------------------------------------------------------------------------------


def _find(node: Node, users: dict[Node, list[Node]], shared_bytes: int) -> _Found | None:
    """Return the attention that a sum is the last step of, None if it is not one."""
    if not _is_sum(node) or node.dtype not in (F32, F64):
        return None
    body = node.inputs[0]
    at = tuple(Axis(n) if n != 1 else 0 for n in body.shape)
    keys = at[_axis(node)]
    if not isinstance(keys, Axis) or limits(keys.extent)[0] < 1:
        return None
    for weights, values in (body.inputs, body.inputs[::-1]):
        scores = _softmax(_down(_At(weights, at)), keys)
        product = None if scores is None else _product(node, scores, _At(values, at), keys, shared_bytes)
        if scores is not None and product is not None and _alone(product, node, users):
            return _Found(scores.node, scores.views[::-1], values)
    return None


def _axis(fold: Node) -> int:
    """Return the one axis that a fold is along."""
    (axis,) = fold.attr[1]
    return axis


def _is_sum(node: Node) -> bool:
    """Whether a node is a sum of products along one axis."""
    if node.op != "reduce" or node.attr[0] != "add" or len(node.attr[1]) != 1:
        return False
    return _is(node.inputs[0], "mul")


def _is(node: Node, name: str) -> bool:
    return node.op == "map" and node.attr == name


def _down(place: _At | None) -> _At | None:
    """Return what a view, of a view ..., shows, and where; None where part of it is padding.

    Roundings to another float dtype on the way are passed: not to round weights in between only loses error.
    """
    while place is not None and (place.node.op == "view" or _rounds(place.node)):
        node, at, views = place.node, place.at, place.views
        if node.op == "view":
            at, guards = push_view(node, at)
            views = (*views, node)
            if guards:
                return None
        place = _At(node.inputs[0], at, views)
    return place


def _rounds(node: Node) -> bool:
    return _is(node, "cast") and node.dtype.is_float and node.inputs[0].dtype.is_float


def _softmax(weights: _At | None, keys: Axis) -> _At | None:
    """Return the scores s of weights exp(s - max s) / sum exp(s - max s), all along one axis."""
    for powers, total in _quotients(weights):
        power, below = _down(powers), _folded(total, "add", keys)
        if power is None or below is None or not _is(power.node, "exp") or not _same(power, below):
            continue
        difference = power.node.inputs[0]
        if not _is(difference, "sub"):
            continue
        scores, highest = (_At(n, power.at, power.views) for n in difference.inputs)
        if _same(_down(scores), _folded(highest, "max", keys)):
            return scores
    return None


def _quotients(weights: _At | None) -> Iterator[tuple[_At, _At]]:
    """Yield x and y of weights x / y or x * (1 / y)."""
    if weights is None or weights.node.op != "map" or weights.node.attr not in ("div", "mul"):
        return
    x, y = (_At(n, weights.at, weights.views) for n in weights.node.inputs)
    if weights.node.attr == "div":
        yield x, y
        return
    for power, inverse in ((x, y), (y, x)):
        below = _down(inverse)
        if below is not None and _is(below.node, "recip"):
            yield power, _At(below.node.inputs[0], below.at)


def _folded(place: _At, kind: str, keys: Axis) -> _At | None:
    """Return what a fold of a kind over an axis as long as `keys` folds, at `keys`."""
    fold = _down(place)
    if fold is None or fold.node.op != "reduce" or fold.node.attr[0] != kind or len(fold.node.attr[1]) != 1:
        return None
    axis = _axis(fold.node)
    body = fold.node.inputs[0]
    if keys in axes_of_all(fold.at) or body.shape[axis] != keys.extent:
        return None
    return _down(_At(body, tuple(keys if i == axis else e for i, e in enumerate(fold.at))))


def _same(a: _At | None, b: _At | None) -> bool:
    return a is not None and b is not None and a.node is b.node and a.at == b.at


# --- whether it can be done ---------------------------------------------------------------------------------------


def _product(node: Node, scores: _At, values: _At, keys: Axis, shared_bytes: int) -> Node | None:
    """Return the one product of queries and keys in scores, if its columns and those of the values fit."""
    products = list(_products(scores, keys)) if scores.node.dtype is node.dtype else []
    if len(products) != 1:
        return None
    (product,) = products
    sides = [_axes_under(_At(x, _body_indices(product))) for x in product.node.inputs[0].inputs]
    query, key = sides if keys in sides[1] else sides[::-1]
    beside = key | _axes_under(values)
    if keys in query or keys not in key or not (query & axes_of_all(scores.at)) - beside:
        return None
    depth: Size = product.node.inputs[0].shape[_axis(product.node)]
    columns = [depth, *(a.extent for a in beside - query - {keys})]
    fits = all(isinstance(n, int) for n in columns) and _width(columns) * node.dtype.bytes // 4 <= shared_bytes
    return product.node if fits and plain(product.at, product.node.shape) else None


def _width(columns: Sequence[Size]) -> int:
    return sum(n for n in columns if isinstance(n, int)) * _BYTES_FOR_EACH_COLUMN


def _body_indices(product: _At) -> Indices:
    reduced = product.node.attr[1]
    shape = product.node.inputs[0].shape
    return tuple(Axis(shape[i]) if i in reduced else e for i, e in enumerate(product.at))


def _products(scores: _At, keys: Index) -> Iterator[_At]:
    """Yield the products of matrices that scores are an elementwise function of."""
    stack, seen = [scores], set[tuple[Node, Indices]]()
    while stack and len(seen) <= _MOST_INSIDE:
        place = stack.pop()
        node, at = place.node, place.at
        if (node, at) in seen:
            continue
        seen.add((node, at))
        if node.op == "view":
            stack.append(_At(node.inputs[0], push_view(node, at)[0]))
        elif node.op == "map":
            stack += [_At(n, at) for n in node.inputs]
        elif _is_sum(node) and node.dtype is scores.node.dtype and keys in axes_of_all(at) and is_contraction(node):
            yield place


def _axes_under(place: _At) -> frozenset[Axis]:
    """Return the axes on which the value at a place depends; those of its indices where that would take long."""
    found: set[Axis] = set()
    stack, seen = [place], set[tuple[Node, Indices]]()
    while stack:
        top = stack.pop()
        if (top.node, top.at) in seen:
            continue
        if len(seen) > _MOST_INSIDE:
            return axes_of_all(place.at)
        seen.add((top.node, top.at))
        if top.node.op == "view":
            at, guards = push_view(top.node, top.at)
            found |= axes_of_all(tuple(e for e, _, _ in guards))
            stack.append(_At(top.node.inputs[0], at))
        elif top.node.op == "map":
            stack += [_At(n, top.at) for n in top.node.inputs]
        else:
            found |= axes_of_all(top.at)
    return frozenset(found)


def _alone(product: Node, last: Node, users: dict[Node, list[Node]]) -> bool:
    """Whether all that is computed from `product` is used for `last` only."""
    stack, seen = [product], {product}
    while stack:
        node = stack.pop()
        above = [] if node.op in ("store", "mark") else users[node]
        if not above or len(seen) > _MOST_INSIDE:
            return False
        fresh = {u for u in above if u is not last} - seen
        seen |= fresh
        stack.extend(fresh)
    return True
