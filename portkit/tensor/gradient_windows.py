"""Gradients of strided views and of overlapping windows, written so that they stay cheap to index and to compute.

The windows of `portkit.tensor.windows` are a chain of views of which one repeats the input. The plain inverse of that
chain would add up copies of something as large as all windows; there are two better ways:

- where the cotangent is a sum of products (the gradient of a convolution), windows of the other factor are taken, so
  that it is again one sum of products: a transposed convolution;
- otherwise each place within the windows is put where it came from, and these are added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from portkit.compiler import graph
from portkit.compiler.graph import Node, Shape, Size, map_
from portkit.tensor.windows import _windows as windows_of

PLACES = 16
"""Up to how many places of a window are put back one by one."""
LONGEST = 9
"""Views in the chain of one axis of windows, and one more."""


def dilate(x: Node, steps: Sequence[int], shape: Shape) -> Node:
    """Return zeros of a shape with the elements of `x` at every step-th place: what `graph.stride` undoes.

    `[a, b]` by 2 to extent 3 is `[a, 0, b]`: each element gets an axis of its own, which is padded and merged.
    """
    split: list[Size] = []
    widths: list[tuple[Size, Size]] = []
    for n, step in zip(x.shape, steps, strict=True):
        split += [n, 1]
        widths += [(0, 0), (0, step - 1)]
    spread = graph.pad(graph.reshape(x, split), widths)
    merged = graph.reshape(spread, [n * step for n, step in zip(x.shape, steps, strict=True)])
    return graph.shrink(merged, [(0, n) for n in shape])


@dataclass(frozen=True, slots=True)
class Windows:
    """A view by windows of `size` along an axis of an extent; the places within them are its last axis.

    `origin` has the elements that are viewed, perhaps in another shape.
    """

    view: Node
    origin: Node
    axis: int
    extent: int
    size: int
    step: int
    dilation: int


def recognise(view: Node) -> Windows | None:
    """Return the windows that a view is, if it is overlapping windows along one axis of fixed extent.

    The parameters are read off the chain; building the windows with them again has to give the same node.
    """
    steps: list[int] = [1]
    rows: list[Shape] = []
    node = view
    for _ in range(LONGEST):
        if node.op != "view":
            return None
        if node.attr[0] == "expand":
            return _parsed(view, node, max(steps), rows)
        steps += node.attr[1] if node.attr[0] == "stride" else ()
        rows += [node.shape] if node.attr[0] == "reshape" else []
        node = node.inputs[0]
    return None


def _parsed(view: Node, repeated: Node, step: int, rows: Sequence[Shape]) -> Windows | None:
    line = repeated.inputs[0]
    grown = [a for a, (n, m) in enumerate(zip(line.shape, repeated.shape, strict=True)) if n != m]
    size = view.shape[-1] if view.rank else 0
    if len(grown) != 1 or grown[0] + 1 >= repeated.rank:
        return None
    axis = grown[0]
    n = repeated.shape[axis + 1]
    cut = [shape for shape in rows if len(shape) == repeated.rank and shape[axis] == size]
    if not cut or not isinstance(n, int) or not isinstance(size, int):
        return None
    wide = cut[0][axis + 1]
    x = graph.reshape(line, (*line.shape[:axis], *line.shape[axis + 1 :]))
    if not isinstance(wide, int) or wide <= n or windows_of(x, axis, size, step, wide - n) is not view:
        return None
    return Windows(view, line.inputs[0] if line.attr == ("reshape",) else line, axis, n, size, step, wide - n)


def cotangent(w: Windows, g: Node) -> Node | None:
    """Return the cotangent of `w.origin` from that of the windows; None where the inverse of the views does as well."""
    found = _through_product(w, g) or (_placed(w, g) if w.size <= PLACES else None)
    return None if found is None else graph.reshape(found, w.origin.shape)


# --- one place of the windows after the other ---------------------------------------------------------------------


def _placed(w: Windows, g: Node) -> Node:
    total: Node | None = None
    for k in range(w.size):
        spans: list[tuple[Size, Size]] = [*((0, n) for n in g.shape[:-1]), (k, k + 1)]
        part = graph.reshape(graph.shrink(g, spans), g.shape[:-1])
        placed = _spread(w, part, w.axis, k * w.dilation, w.extent)
        total = placed if total is None else map_("add", total, placed)
    assert total is not None
    return total


def _spread(w: Windows, x: Node, axis: int, start: int, extent: int) -> Node:
    """Return `x` with the elements along an axis at start, start + step, ... of a larger extent, zeros elsewhere."""
    count = x.shape[axis]
    assert isinstance(count, int)
    length = (count - 1) * w.step + 1
    steps = [w.step if a == axis else 1 for a in range(x.rank)]
    apart = dilate(x, steps, _with(x.shape, {axis: length}))
    return graph.pad(apart, [(start, extent - start - length) if a == axis else (0, 0) for a in range(x.rank)])


def _with(shape: Shape, extents: dict[int, Size]) -> Shape:
    return tuple(extents.get(a, n) for a, n in enumerate(shape))


# --- into a sum of products ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Step:
    """A node between a sum of products and a cotangent, and the axes of its result that are followed."""

    node: Node
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Product:
    """A cotangent as a sum over axes of a product, under views and casts that keep the axes that are followed apart.

    A factor is given before it is expanded, with extent 1 along the axes that it does not depend on.
    """

    steps: tuple[_Step, ...]
    axes: tuple[int, ...]
    shape: Shape
    summed: tuple[int, ...]
    factors: tuple[Node, ...]

    def sum_of(self, factors: Sequence[Node], shape: Shape, summed: Sequence[int]) -> Node:
        """Return the sum over axes of the product of as many other factors, expanded to a shape."""
        grown = [graph.expand(f, shape) for f in factors]
        return graph.reduce("add", map_("mul", *grown) if len(grown) == 2 else grown[0], summed)

    def above(self, total: Node, extents: Sequence[Size]) -> Node:
        """Return the views and casts over a sum in which the axes that are followed have other extents."""
        for step in reversed(self.steps):
            node = step.node
            changed = dict(zip(step.axes, extents, strict=True))
            if node.op == "map":
                total = graph.cast(total, node.dtype)
            elif node.attr[0] == "permute":
                total = graph.permute(total, node.attr[1])
            elif node.attr[0] == "reshape":
                total = graph.reshape(total, _with(node.shape, changed))
            else:
                spans = [(start, start + n) for start, n in zip(node.attr[1], node.shape, strict=True)]
                total = graph.shrink(total, [(0, changed[a]) if a in changed else pair for a, pair in enumerate(spans)])
        return total


_BETWEEN = ("permute", "reshape", "shrink")


def _product_of(g: Node, axes: tuple[int, ...]) -> _Product | None:
    """Return a cotangent as a sum of products; None if it is none, or an axis is summed or lost on the way."""
    steps: list[_Step] = []
    node = g
    while (node.op == "view" and node.attr[0] in _BETWEEN) or (node.op == "map" and node.attr == "cast"):
        steps.append(_Step(node, axes))
        found = _before(node, axes)
        if found is None:
            return None
        node, axes = node.inputs[0], found
    summed: tuple[int, ...] = ()
    if node.op == "reduce" and node.attr[0] == "add":
        summed, node = node.attr[1], node.inputs[0]
    if not set(axes).isdisjoint(summed):
        return None
    operands = node.inputs if node.op == "map" and node.attr == "mul" else (node,)
    factors = tuple(f.inputs[0] if f.op == "view" and f.attr[0] == "expand" else f for f in operands)
    return _Product(tuple(steps), axes, node.shape, summed, factors)


def _before(node: Node, axes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the axes of the input of a view or cast that are `axes` of its result, whole."""
    if node.op == "map":
        return axes
    if node.attr[0] == "permute":
        return tuple(node.attr[1][a] for a in axes)
    if node.attr[0] == "shrink":
        return axes if all(node.shape[a] == node.inputs[0].shape[a] for a in axes) else None
    found = [_same_axis(node, a) for a in axes]
    return None if None in found else tuple(a for a in found if a is not None)


def _same_axis(reshaped: Node, axis: int) -> int | None:
    """Return the axis of the input of a reshape that is an axis of its result."""
    want = graph.count(reshaped.shape[:axis])
    before = reshaped.inputs[0].shape
    for a, n in enumerate(before):
        if n == reshaped.shape[axis] and graph.count(before[:a]) == want:
            return a
    return None


def shrunk(g: Node, spans: Sequence[tuple[Size, Size]]) -> Node:
    """Return part of a cotangent: of a sum of products, the sum of parts, so that no more of it is computed."""
    shape = tuple(stop - start for start, stop in spans)
    axes = tuple(a for a, (n, m) in enumerate(zip(g.shape, shape, strict=True)) if n != m)
    if any(g.shape[a] == 1 or shape[a] == 1 for a in axes):
        return graph.shrink(g, spans)  # an axis of one element cannot be told from others in a reshape
    product = _product_of(g, axes)
    if product is None or not product.summed:
        return graph.shrink(g, spans)
    wanted = {at: spans[a] for at, a in zip(product.axes, axes, strict=True)}
    extents = [shape[a] for a in axes]
    parts = [
        graph.shrink(f, [wanted[a] if a in wanted and n != 1 else (0, n) for a, n in enumerate(f.shape)])
        for f in product.factors
    ]
    inside = _with(product.shape, dict(zip(product.axes, extents, strict=True)))
    return product.above(product.sum_of(parts, inside, product.summed), extents)


def _through_product(w: Windows, g: Node) -> Node | None:
    """Return the cotangent as one sum of products, if `g` is one of factors that do not depend on both axes.

    With g[i, k] = sum_o a[o, i] b[o, k] the cotangent of x at j is sum_o,k a[o, (j - k dilation) / step] b[o, k]: the
    first factor becomes windows of itself, spread by the step and padded, with their places in reverse.
    """
    count = w.view.shape[w.axis]
    if w.size == 1 or not isinstance(count, int) or count == 1:
        return None  # an axis of one element cannot be told from others in a reshape
    product = _product_of(g, (w.axis, w.view.rank - 1))
    if product is None:
        return None
    axis, place = product.axes
    kinds = [(f.shape[axis] != 1, f.shape[place] != 1) for f in product.factors]
    if (True, True) in kinds or (True, False) not in kinds:
        return None
    # Places that fill up the last turn have to be zero in some factor.
    if w.step > 1 and w.dilation == 1 and ((False, True) in kinds or w.size % w.step == 0):
        total = _in_phases(w, product)
    else:
        factors = [_reversed(w, f, axis, place) if f.shape[axis] != 1 else f for f in product.factors]
        shape = _with(product.shape, {axis: w.extent, place: w.size})
        total = product.sum_of(factors, shape, (*product.summed, place))
    above = product.above(total, (w.extent, 1))
    return graph.reshape(above, above.shape[:-1])


def _in_phases(w: Windows, product: _Product) -> Node:
    """Return the sum for windows that step further than their places are apart, without the zeros between steps.

    With j = step q + r and k = step t + r' only r' = r meet: the cotangent at (q, r) is sum_o,t a[o, q - t] b[o, t, r].
    So r is one more axis of the other factor, after `axis`, and (q, r) together are j.
    """
    axis, place = product.axes
    turns = -(-w.size // w.step)
    rounds = -(-w.extent // w.step)
    whole = replace(w, step=1, size=turns, extent=rounds)
    factors: list[Node] = []
    for f in product.factors:
        if f.shape[axis] != 1:
            factors.append(_inserted(_reversed(whole, f, axis, place), axis + 1))
        elif f.shape[place] != 1:
            factors.append(_split(f, axis, place, turns, w.step))
        else:
            factors.append(_inserted(f, axis + 1))
    inside = _with(product.shape, {axis: rounds, place: turns})
    summed = [a + (a > axis) for a in (*product.summed, place)]
    total = product.sum_of(factors, (*inside[: axis + 1], w.step, *inside[axis + 1 :]), summed)
    merged = (*total.shape[:axis], rounds * w.step, *total.shape[axis + 2 :])
    return graph.shrink(graph.reshape(total, merged), [(0, n) for n in _with(merged, {axis: w.extent})])


def _inserted(x: Node, at: int) -> Node:
    return graph.reshape(x, (*x.shape[:at], 1, *x.shape[at:]))


def _split(x: Node, axis: int, place: int, turns: int, step: int) -> Node:
    """Return an axis of places as one of turns, in its place, and one of steps after `axis`; zeros fill it up."""
    n = x.shape[place]
    filled = graph.pad(x, [(0, turns * step - n) if a == place else (0, 0) for a in range(x.rank)])
    apart = graph.reshape(filled, (*x.shape[:place], turns, step, *x.shape[place + 1 :]))
    order = [a + (a > place) for a in range(x.rank)]
    return graph.permute(apart, [*order[: axis + 1], place + 1, *order[axis + 1 :]])


def _reversed(w: Windows, factor: Node, axis: int, place: int) -> Node:
    """Return windows of a factor that has extent 1 at the places: [j, k] is the element (j - k dilation) / step."""
    reach = (w.size - 1) * w.dilation
    padded = _spread(w, factor, axis, reach, w.extent + reach)
    last = factor.rank
    rows = graph.flip(windows_of(padded, axis, w.size, 1, w.dilation), [last])
    moved = graph.permute(rows, [*(last if a == place else a for a in range(last)), place])
    return graph.reshape(moved, _with(padded.shape, {axis: w.extent, place: w.size}))
