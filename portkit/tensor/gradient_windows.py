"""Gradients of strided views and of overlapping windows, written so that they stay cheap to index and to compute.

The windows of `portkit.tensor.windows` are a chain of views of which one repeats the input. The plain inverse of that
chain would add up copies of something as large as all windows; there are two better ways:

- where the cotangent is a sum of products (the gradient of a convolution), windows of the other factor are taken, so
  that it is again one sum of products: a transposed convolution;
- otherwise each place within the windows is put where it came from, and these are added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


# --- windows of the other factor ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Step:
    """A node between a sum of products and the cotangent, and the axes of windows and of their places in its result."""

    node: Node
    axis: int
    place: int


def _through_product(w: Windows, g: Node) -> Node | None:
    """Return the cotangent as one sum of products, if `g` is one of factors that do not depend on both axes.

    With g[i, k] = sum_o a[o, i] b[o, k] the cotangent of x at j is sum_o,k a[o, (j - k dilation) / step] b[o, k]: the
    first factor becomes windows of itself, spread by the step and padded, with their places in reverse.
    """
    count = w.view.shape[w.axis]
    if w.size == 1 or not isinstance(count, int) or count == 1:
        return None  # an axis of one element cannot be told from others in a reshape
    steps, inside = _descend(_Step(g, w.axis, w.view.rank - 1))
    if inside is None:
        return None
    axes: tuple[int, ...] = ()
    product = inside.node
    if product.op == "reduce" and product.attr[0] == "add":
        axes, product = product.attr[1], product.inputs[0]
    if inside.axis in axes or inside.place in axes:
        return None
    factors = product.inputs if product.op == "map" and product.attr == "mul" else (product,)
    bases = [f.inputs[0] if f.op == "view" and f.attr[0] == "expand" else f for f in factors]
    moving = [b.shape[inside.place] == 1 for b in bases]
    if not any(moving) or not all(m or b.shape[inside.axis] == 1 for m, b in zip(moving, bases, strict=True)):
        return None
    shape = _with(product.shape, {inside.axis: w.extent})
    moved = [_reversed(w, b, inside) if m else b for m, b in zip(moving, bases, strict=True)]
    grown = [graph.expand(b, shape) for b in moved]
    total = graph.reduce("add", map_("mul", *grown) if len(grown) == 2 else grown[0], (*axes, inside.place))
    return _ascend(w, steps, total)


def _descend(top: _Step) -> tuple[list[_Step], _Step | None]:
    """Return the views and casts from a cotangent down to a sum or product, and that; None where an axis is lost."""
    steps: list[_Step] = []
    while True:
        node, axis, place = top.node, top.axis, top.place
        if node.op == "view" and node.attr[0] == "permute":
            order = node.attr[1]
            axis, place = order[axis], order[place]
        elif node.op == "view" and node.attr[0] == "reshape":
            before = _same_axis(node, axis)
            place_before = _same_axis(node, place)
            if before is None or place_before is None:
                return steps, None
            axis, place = before, place_before
        elif not (node.op == "map" and node.attr == "cast"):
            return steps, top
        steps.append(top)
        top = _Step(node.inputs[0], axis, place)


def _same_axis(reshaped: Node, axis: int) -> int | None:
    """Return the axis of the input of a reshape that is an axis of its result."""
    want = graph.count(reshaped.shape[:axis])
    before = reshaped.inputs[0].shape
    for a, n in enumerate(before):
        if n == reshaped.shape[axis] and graph.count(before[:a]) == want:
            return a
    return None


def _ascend(w: Windows, steps: Sequence[_Step], total: Node) -> Node:
    """Apply the views and casts again, to a result that has the extent of the input and no places of windows."""
    for step in reversed(steps):
        node = step.node
        if node.op == "map":
            total = graph.cast(total, node.dtype)
        elif node.attr[0] == "permute":
            total = graph.permute(total, node.attr[1])
        else:
            total = graph.reshape(total, _with(node.shape, {step.axis: w.extent, step.place: 1}))
    return graph.reshape(total, total.shape[:-1])


def _reversed(w: Windows, base: Node, at: _Step) -> Node:
    """Return windows of a factor that has extent 1 at the places: [j, k] is the element (j - k dilation) / step."""
    reach = (w.size - 1) * w.dilation
    padded = _spread(w, base, at.axis, reach, w.extent + reach)
    rows = graph.flip(windows_of(padded, at.axis, w.size, 1, w.dilation), [base.rank])
    last = base.rank
    order = [last if a == at.place else a for a in range(base.rank)]
    return graph.reshape(
        graph.permute(rows, [*order, at.place]), _with(padded.shape, {at.axis: w.extent, at.place: w.size})
    )
