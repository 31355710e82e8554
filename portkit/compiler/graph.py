"""The graph language: what to compute, as immutable nodes that are equal only if they are the same object.

op        inputs             attr                      result
source    -                  a `Source`                the contents of a buffer
const     -                  bit pattern               one value, shape ()
iota      -                  -                         i32 0 .. n-1, shape (n,)
map       operands           function name             elementwise; every operand has the result's shape
reduce    x                  (kind, axes)              x folded over `axes`, which stay with extent 1; see `attend`
scan      x                  (kind, axis)              running fold along one axis, inclusive
view      x                  (movement, argument ...)  x rearranged: see `view`
gather    x, index           axis                      out[p] = x[p with p[axis] = index[p]], 0 where out of range
scatter   x, index, values   (kind, axis)              x with values folded in (or put, kind `set`) at index, in order
store     x                  -                         x, kept in memory: fusion stops here
mark      x, others          (kind, ...)               x; tells differentiation and ordering something: see `mark`

Nodes are hash-consed: building the same node twice gives the same object, so that common subexpressions are found for
free and identity is equality. An extent is an int, 0 included, or an index expression over bounded `Variable`s.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

from portkit.compiler.functions import result_dtype
from portkit.compiler.index import Expr
from portkit.errors import AxisError, DTypeError, ShapeError
from portkit.spec.types import I32, DType, encode

Size: TypeAlias = int | Expr
Shape: TypeAlias = tuple[Size, ...]

REDUCTIONS = ("add", "mul", "max", "min", "and", "or")
SCANS = ("add", "mul", "max", "min")
SCATTERS = ("set", "add", "mul", "max", "min")
MARKS = ("detach", "input", "checkpoint", "again")

_numbers = itertools.count()


@dataclass(eq=False, slots=True, weakref_slot=True)
class Source:
    """Where the contents of a source node come from: whatever the runtime keeps in `buffer`; identity is equality.

    `extents` gives the values that the variables in `shape` have for these contents.
    """

    dtype: DType
    shape: Shape
    buffer: Any = None
    name: str = ""
    number: int = field(default_factory=lambda: next(_numbers))
    extents: Mapping[Expr, int] = field(default_factory=dict[Expr, int])


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Node:
    """One operation of a graph; compare nodes with `is`."""

    op: str
    dtype: DType
    shape: Shape
    inputs: tuple[Node, ...] = ()
    attr: Any = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    def __repr__(self) -> str:
        attr = "" if self.attr is None else f" {self.attr}"
        return f"<{self.op}{attr} {self.dtype}{list(self.shape)}>"


_nodes: WeakValueDictionary[tuple[Any, ...], Node] = WeakValueDictionary()


def _node(op: str, dtype: DType, shape: Shape, inputs: tuple[Node, ...] = (), attr: Any = None) -> Node:
    key = (op, dtype, shape, tuple(map(id, inputs)), attr)
    found = _nodes.get(key)
    if found is None:
        found = Node(op, dtype, shape, inputs, attr)
        _nodes[key] = found
    return found


# --- leaves -------------------------------------------------------------------------------------------------------


def source(origin: Source) -> Node:
    """Return the node of a buffer's contents."""
    return _node("source", origin.dtype, origin.shape, attr=origin)


def const(dtype: DType, value: float | int | bool, shape: Shape = ()) -> Node:
    """Return a constant, rounded once to the dtype, broadcast to `shape`. Raises `SpecError` if it does not fit."""
    return const_bits(dtype, encode(dtype, value), shape)


def const_bits(dtype: DType, bits: int, shape: Shape = ()) -> Node:
    """Return the constant of a bit pattern, broadcast to `shape`."""
    scalar = _node("const", dtype, (), attr=bits)
    return expand(reshape(scalar, (1,) * len(shape)), shape) if shape else scalar


def iota(n: Size) -> Node:
    """Return 0 .. n-1 as i32, shape (n,)."""
    return _node("iota", I32, (n,))


# --- computing ----------------------------------------------------------------------------------------------------


def map_(name: str, *operands: Node, dtype: DType | None = None) -> Node:
    """Return an elementwise function of operands of one shape; `dtype` is the result's, for `cast` and `bits` only.

    Raises `DTypeError`, `ShapeError`.
    """
    result = result_dtype(name, [o.dtype for o in operands], dtype)
    shape = operands[0].shape
    for other in operands[1:]:
        if other.shape != shape:
            raise ShapeError(f"{name} needs operands of one shape, got {show(shape)} and {show(other.shape)}")
    if name == "cast" and result is operands[0].dtype:
        return operands[0]
    return _node("map", result, shape, operands, name)


def cast(x: Node, dtype: DType) -> Node:
    """Return `x` converted to another dtype; `x` itself if it has it."""
    return map_("cast", x, dtype=dtype)


def reduce(kind: str, x: Node, axes: Iterable[int]) -> Node:
    """Return `x` folded over `axes`, which stay with extent 1; nothing to fold gives `x` itself.

    f16 and bf16 sums and products accumulate in f32 and are rounded once. Raises `DTypeError`, `ShapeError`.
    """
    wanted = tuple(sorted({_axis("reduce", x, a) for a in axes}))
    if kind not in REDUCTIONS:
        raise DTypeError(f"unknown reduction {kind!r}; known are {' '.join(REDUCTIONS)}")
    result_dtype(kind, [x.dtype, x.dtype])
    shape = tuple(1 if i in wanted else n for i, n in enumerate(x.shape))
    if shape == x.shape:
        return x
    return _node("reduce", x.dtype, shape, (x,), (kind, tuple(a for a in wanted if x.shape[a] != 1)))


def attend(scores: Node, values: Node, axis: int) -> Node:
    """Return `values` summed along an axis, weighted by the softmax of `scores`: a fold of two operands of one shape.

    The compiler makes it of a graph that says so in steps. Raises `DTypeError`, `ShapeError`.
    """
    result = result_dtype("mul", [scores.dtype, values.dtype])
    if scores.shape != values.shape:
        raise ShapeError(f"attend needs operands of one shape, got {show(scores.shape)} and {show(values.shape)}")
    along = _axis("attend", values, axis)
    shape = tuple(1 if i == along else n for i, n in enumerate(values.shape))
    return _node("reduce", result, shape, (scores, values), ("attend", (along,)))


def scan(kind: str, x: Node, axis: int) -> Node:
    """Return the running fold of `x` along one axis, inclusive, in order; each step is rounded to the dtype."""
    if kind not in SCANS:
        raise DTypeError(f"unknown scan {kind!r}; known are {' '.join(SCANS)}")
    result_dtype(kind, [x.dtype, x.dtype])
    return _node("scan", x.dtype, x.shape, (x,), (kind, _axis("scan", x, axis)))


def gather(x: Node, index: Node, axis: int) -> Node:
    """Return out[p] = x[p with p[axis] = index[p]]; 0 where the index is negative or too large.

    `index` is i32; its shape is that of `x` but for `axis`. Raises `DTypeError`, `ShapeError`.
    """
    at = _axis("gather", x, axis)
    _check_index("gather", x, index, at)
    return _node("gather", x.dtype, index.shape, (x, index), at)


def scatter(kind: str, x: Node, index: Node, values: Node, axis: int) -> Node:
    """Return `x` with `values[p]` folded into the element p with p[axis] = index[p]; out of range is left out.

    In ascending order along `axis`, so that the result is determined, sums and `set` included.
    Raises `DTypeError`, `ShapeError`.
    """
    at = _axis("scatter", x, axis)
    _check_index("scatter", x, index, at)
    if kind not in SCATTERS:
        raise DTypeError(f"unknown scatter {kind!r}; known are {' '.join(SCATTERS)}")
    if values.shape != index.shape or values.dtype is not x.dtype:
        raise ShapeError(
            f"scatter needs values of dtype {x.dtype} and shape {show(index.shape)}, "
            f"got {values.dtype} {show(values.shape)}"
        )
    return _node("scatter", x.dtype, x.shape, (x, index, values), (kind, at))


def _check_index(name: str, x: Node, index: Node, axis: int) -> None:
    if index.dtype is not I32:
        raise DTypeError(f"{name} needs an i32 index, got {index.dtype}")
    rest = tuple(n for i, n in enumerate(index.shape) if i != axis)
    if index.rank != x.rank or rest != tuple(n for i, n in enumerate(x.shape) if i != axis):
        raise ShapeError(f"{name} on axis {axis}: index {show(index.shape)} does not fit {show(x.shape)}")


def store(x: Node) -> Node:
    """Return `x`, which will be kept in memory rather than recomputed where it is used."""
    return x if x.op in ("source", "store") else _node("store", x.dtype, x.shape, (x,))


def mark(x: Node, kind: str, *others: Node, number: int | None = None) -> Node:
    """Return `x` with a note that changes no value; `unmarked` takes the notes off before compilation.

    detach       no gradient passes
    input        a variable to differentiate by, other than all else: each has its own `number`
    checkpoint   the gradient computes `x` anew from the first `number` of `others`; those that follow are what else
                 the part of the graph that ends in `x` uses
    again        `x` for use only after `others[0]` is known; what is built on it is another node than what is built
                 on `x`, so that a part of a graph can be computed a second time later
    """
    if kind == "detach" and (x.op in ("const", "iota") or not x.dtype.is_float or x.attr == ("detach",)):
        return x
    return _node("mark", x.dtype, x.shape, (x, *others), (kind,) if number is None else (kind, number))


# --- movement -----------------------------------------------------------------------------------------------------


def view(x: Node, shape: Shape, *movement: Any) -> Node:
    """Return the view node; use the functions below, which check their arguments.

    ("reshape",) to `shape`; ("permute", order); ("expand",) extents of 1 to those of `shape`; ("shrink", starts);
    ("flip", axes); ("stride", steps) every step-th element; ("pad", starts, bits) with `bits` around the data.
    """
    return _node("view", x.dtype, shape, (x,), movement)


def reshape(x: Node, shape: Sequence[Size]) -> Node:
    """Return `x` with the same elements in row-major order in another shape. Raises `ShapeError`."""
    wanted = tuple(shape)
    if wanted == x.shape:
        return x
    if count(wanted) != count(x.shape):
        raise ShapeError(f"cannot reshape {show(x.shape)} to {show(wanted)}: the number of elements differs")
    if x.op == "view" and x.attr == ("reshape",):
        return reshape(x.inputs[0], wanted)
    return view(x, wanted, "reshape")


def permute(x: Node, order: Sequence[int]) -> Node:
    """Return `x` with axis i of the result being axis order[i] of `x`. Raises `ShapeError`."""
    axes = tuple(_axis("permute", x, a) for a in order)
    if sorted(axes) != list(range(x.rank)):
        raise ShapeError(f"permute of {show(x.shape)} needs each axis once, got {list(order)}")
    if axes == tuple(range(x.rank)):
        return x
    return view(x, tuple(x.shape[a] for a in axes), "permute", axes)


def expand(x: Node, shape: Sequence[Size]) -> Node:
    """Return `x` with axes of extent 1 repeated to the extents of `shape`. Raises `ShapeError`."""
    wanted = tuple(shape)
    if wanted == x.shape:
        return x
    if len(wanted) != x.rank or any(n not in (1, m) for n, m in zip(x.shape, wanted, strict=False)):
        raise ShapeError(f"cannot expand {show(x.shape)} to {show(wanted)}: only extents of 1 can grow")
    return view(x, wanted, "expand")


def shrink(x: Node, ranges: Sequence[tuple[Size, Size]]) -> Node:
    """Return the elements start .. stop-1 of each axis. Raises `ShapeError`."""
    spans = tuple(ranges)
    if len(spans) != x.rank:
        raise ShapeError(f"shrink of {show(x.shape)} needs {x.rank} ranges, got {len(spans)}")
    for (start, stop), n in zip(spans, x.shape, strict=True):
        if all(isinstance(v, int) for v in (start, stop, n)) and not 0 <= start <= stop <= n:  # type: ignore[operator]
            raise ShapeError(f"shrink of {show(x.shape)}: {start}..{stop} is not inside 0..{n}")
    shape = tuple(stop - start for start, stop in spans)
    return x if shape == x.shape else view(x, shape, "shrink", tuple(start for start, _ in spans))


def flip(x: Node, axes: Iterable[int]) -> Node:
    """Return `x` with the order along `axes` reversed."""
    wanted = tuple(sorted({a for a in (_axis("flip", x, a) for a in axes) if x.shape[a] != 1}))
    return view(x, x.shape, "flip", wanted) if wanted else x


def stride(x: Node, steps: Sequence[int]) -> Node:
    """Return every step-th element of each axis, the first included. Raises `ShapeError`."""
    if len(steps) != x.rank or any(s < 1 for s in steps):
        raise ShapeError(f"stride of {show(x.shape)} needs {x.rank} positive steps, got {list(steps)}")
    shape = tuple((n + s - 1) // s for n, s in zip(x.shape, steps, strict=True))
    return x if all(s == 1 for s in steps) else view(x, shape, "stride", tuple(steps))


def pad(x: Node, widths: Sequence[tuple[Size, Size]], bits: int = 0) -> Node:
    """Return `x` with `widths` elements of a bit pattern before and after along each axis. Raises `ShapeError`."""
    if len(widths) != x.rank or any(isinstance(w, int) and w < 0 for pair in widths for w in pair):
        raise ShapeError(f"pad of {show(x.shape)} needs {x.rank} pairs that are not negative, got {list(widths)}")
    shape = tuple(n + low + high for n, (low, high) in zip(x.shape, widths, strict=True))
    return x if shape == x.shape else view(x, shape, "pad", tuple(low for low, _ in widths), bits)


# --- walking ------------------------------------------------------------------------------------------------------


def topological(outputs: Iterable[Node], until: Collection[Node] = ()) -> list[Node]:
    """Return every node that `outputs` need, inputs before users, without recursion.

    The nodes of `until` are returned where they are met; what only they need is not.
    """
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(n, False) for n in outputs]
    stack.reverse()
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            if node not in until:
                stack.extend((i, False) for i in reversed(node.inputs) if i not in seen)
    return order


def substitute(outputs: Sequence[Node], replacements: Mapping[Node, Node]) -> list[Node]:
    """Return `outputs` with nodes replaced wherever they are used; what does not depend on them stays the same node.

    A replacement has the dtype and shape of what it replaces.
    """
    if not replacements:
        return list(outputs)
    new: dict[Node, Node] = {}
    for node in topological(outputs, replacements):
        kept = replacements.get(node)
        new[node] = with_inputs(node, tuple(new[i] for i in node.inputs)) if kept is None else kept
    return [new[n] for n in outputs]


def unmarked(outputs: Sequence[Node], kinds: Iterable[str] = MARKS) -> list[Node]:
    """Return `outputs` without the marks of the given kinds.

    Without `again` too, what was to be computed a second time is computed once: less work, more memory.
    """
    gone = frozenset(kinds)
    new: dict[Node, Node] = {}
    for node in topological(outputs):
        inputs = tuple(new[i] for i in node.inputs)
        new[node] = inputs[0] if node.op == "mark" and node.attr[0] in gone else with_inputs(node, inputs)
    return [new[n] for n in outputs]


def with_inputs(node: Node, inputs: tuple[Node, ...]) -> Node:
    """Return the node that does the same to other inputs, whose dtypes and shapes are those of its own."""
    same = all(a is b for a, b in zip(inputs, node.inputs, strict=True))
    return node if same else _node(node.op, node.dtype, node.shape, inputs, node.attr)


def count(shape: Iterable[Size]) -> Size:
    """Return the number of elements of a shape."""
    total: Size = 1
    for n in shape:
        total = total * n
    return total


def show(shape: Shape) -> str:
    """Return a shape as it stands in messages: (2, 3)."""
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def _axis(name: str, x: Node, axis: int) -> int:
    if not -x.rank <= axis < x.rank:
        raise AxisError(f"{name}: axis {axis} is out of range for shape {show(x.shape)}")
    return axis % x.rank
