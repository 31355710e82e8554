"""Random graphs whose results are exact in whatever order a device computes them.

Floats are small whole numbers: of every node the largest magnitude is known, and it is clamped before a sum could
round. So compiled graphs are compared bit for bit. The same seed gives the same graph.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.compiler import graph as g
from portkit.compiler.extents import count, most
from portkit.compiler.graph import Node, Source
from portkit.compiler.index import Expr, Variable, evaluate
from portkit.spec.forms import CLASSES
from portkit.spec.types import BF16, BOOL, DTYPES, F16, F32, F64, I32, I64, U8, DType, encode

EXTENTS = (0, 1, 1, 2, 2, 3, 3, 4, 5, 7, 8, 11, 16, 17, 31, 37, 64, 100)
ARITH = tuple(DTYPES[name] for name in CLASSES["arith"])
STORED = (*ARITH, BOOL, *(DTYPES[name] for name in ("f8e4m3fn", "f8e5m2")))
COMMON = (F32, F32, I32, I32, F16, BF16, I64, U8)
LARGEST = {"f64": 1 << 40, "f32": 1 << 20, "f16": 1 << 9, "bf16": 1 << 6, "f8e4m3fn": 1 << 3, "f8e5m2": 1 << 2}
"""Magnitudes up to which whole numbers are exact, with room for one more operation."""

Step: TypeAlias = "Callable[[Maker], Node | None]"


@dataclass(frozen=True)
class RandomGraph:
    """Outputs, the contents of their sources, and the values of dynamic dimensions."""

    outputs: list[Node]
    contents: dict[Source, NDArray[Any]]
    variables: dict[Expr, int]


@dataclass
class Maker:
    """A graph under construction: its random numbers, what was made so far, and the magnitude of each node."""

    r: random.Random
    dtypes: Sequence[DType] = COMMON
    most_elements: int = 3000
    variables: dict[Expr, int] = field(default_factory=dict[Expr, int])
    pool: list[Node] = field(default_factory=list[Node])
    largest: dict[Node, int] = field(default_factory=dict[Node, int])

    # --- picking ----------------------------------------------------------------------------------------------------

    def any(self) -> Node:
        """Return a node of the graph, rather a late one."""
        return self.pool[max(self.r.randrange(len(self.pool)) for _ in range(2))]

    def of(self, dtypes: Sequence[DType]) -> Node:
        """Return a node of one of some dtypes: there already, or cast."""
        fitting = [n for n in self.pool if n.dtype in dtypes]
        return self.r.choice(fitting) if fitting and self.r.random() < 0.9 else self.cast(self.any(), dtypes)

    def arith(self) -> Node:
        return self.of(ARITH)

    def axis(self, x: Node) -> int | None:
        return self.r.randrange(x.rank) if x.rank else None

    def beside(self, x: Node) -> Node:
        """Return an operand for a function of `x`: of its dtype and shape."""
        r = self.r
        fitting = [n for n in self.pool if n.dtype is x.dtype and n.shape == x.shape]
        if fitting and r.random() < 0.5:
            return r.choice(fitting)
        if r.random() < 0.2:
            return self.constant(x.dtype, x.shape)
        return self.fitted(self.cast(self.any(), [x.dtype]), x.shape)

    def constant(self, dtype: DType, shape: g.Shape) -> Node:
        value = (
            self.r.randrange(0 if dtype.name.startswith("u") else -3, 4) if dtype is not BOOL else self.r.random() < 0.5
        )
        return self.noted(g.const(dtype, value, shape), 4)

    # --- magnitudes -------------------------------------------------------------------------------------------------

    def noted(self, x: Node, largest: int) -> Node:
        self.largest[x] = max(self.largest.get(x, 0), largest)
        return x

    def size(self, x: Node) -> int:
        return self.largest[x]

    def bounded(self, x: Node, most_: int) -> Node:
        """Return `x`, clamped if it is of floats that could be larger than `most_`."""
        if not x.dtype.is_float or self.size(x) <= most_:
            return x
        wide = x if x.dtype in ARITH else g.cast(x, F32)
        low, high = (g.const(wide.dtype, v, x.shape) for v in (-min(most_, 4), min(most_, 4)))
        return self.noted(g.cast(g.map_("max", g.map_("min", wide, high), low), x.dtype), 4)

    def exact(self, x: Node, repeats: int = 1, power: int = 1) -> Node:
        """Return `x`, small enough that its power times `repeats` is exact."""
        limit = LARGEST.get(x.dtype.name, 0)
        return self.bounded(x, max(int((limit / max(repeats, 1)) ** (1 / power)), 1))

    def cast(self, x: Node, dtypes: Sequence[DType]) -> Node:
        if x.dtype in dtypes:
            return x
        to = self.r.choice(list(dtypes))
        if to.is_float:
            if x.dtype.is_float or x.dtype is BOOL:
                x = self.bounded(x, LARGEST[to.name])
            elif self.size(x) > LARGEST[to.name]:
                x = self.remainder(x)
        elif x.dtype.is_float and to is not BOOL:  # to integers, where what is out of range is not defined
            x = self.cast(x, [F32]) if x.dtype not in ARITH else x
            x = self.bounded(x if to.is_signed else self.noted(g.map_("abs", x), self.size(x)), 100)
        return self.noted(g.cast(x, to), 1 if to is BOOL else self.size(x) if to.is_float else to.max_int)

    def remainder(self, x: Node) -> Node:
        """Return small whole numbers made of integers of any size."""
        return self.noted(g.map_("imod", x, g.const(x.dtype, 5, x.shape)), 4)

    # --- shapes -----------------------------------------------------------------------------------------------------

    def shape(self) -> g.Shape:
        """Return a shape of few elements, dynamic dimensions among them."""
        shape: list[g.Size] = []
        for _ in range(self.r.choice([0, 1, 1, 2, 2, 2, 3, 3, 4])):
            n = self.r.choice([*EXTENTS, *list(self.variables) * 6])
            if (n != 0 or self.r.random() < 0.3) and count((*shape, n)) <= self.most_elements // 2:
                shape.append(n)
        return tuple(shape)

    def fitted(self, x: Node, shape: g.Shape) -> Node:
        """Return the elements of `x` moved to another shape: repeated, cut and padded."""
        r, largest = self.r, self.size(x)
        if x.shape != shape and g.count(x.shape) == g.count(shape):
            x = g.reshape(x, shape)
        if x.rank > len(shape):
            x = (
                g.reshape(x, (g.count(x.shape[: x.rank - len(shape) + 1]), *x.shape[x.rank - len(shape) + 1 :]))
                if shape
                else g.reshape(self.first(x), ())
            )
        if x.rank < len(shape):
            x = g.reshape(x, (*(1,) * (len(shape) - x.rank), *x.shape))
        for axis, n in enumerate(shape):
            x = self._fitted_axis(x, axis, n, r)
        return self.noted(x, largest)

    def first(self, x: Node) -> Node:
        """Return the first element of each axis, zeros where there is none."""
        empty = [(0, 1 if (not isinstance(n, int) and n.low == 0) or n == 0 else 0) for n in x.shape]
        return g.shrink(g.pad(x, empty), [(0, 1)] * x.rank)

    def _fitted_axis(self, x: Node, axis: int, n: g.Size, r: random.Random) -> Node:
        old = x.shape[axis]
        if old == n:
            return x
        if old == 1:
            return g.expand(x, tuple(n if a == axis else m for a, m in enumerate(x.shape)))
        if isinstance(old, int) and isinstance(n, int):
            if old > n:
                start = r.randrange(old - n + 1)
                return self.cut(x, axis, start, start + n)
            before = r.randrange(n - old + 1)
            return self.padded(x, axis, before, n - old - before)
        one = self.cut(self.padded(x, axis, 0, 1), axis, 0, 1)
        return g.expand(one, tuple(n if a == axis else m for a, m in enumerate(x.shape)))

    def cut(self, x: Node, axis: int, start: g.Size, stop: g.Size) -> Node:
        return g.shrink(x, [(start, stop) if a == axis else (0, n) for a, n in enumerate(x.shape)])

    def padded(self, x: Node, axis: int, before: int, after: int, bits: int = 0) -> Node:
        return g.pad(x, [(before, after) if a == axis else (0, 0) for a in range(x.rank)], bits)


# --- steps --------------------------------------------------------------------------------------------------------


def _binary(m: Maker) -> Node | None:
    x = m.arith()
    y = m.beside(x)
    name = m.r.choice(["add", "sub", "mul", "max", "min"])
    if name in ("max", "min"):
        return m.noted(g.map_(name, x, y), max(m.size(x), m.size(y)))
    power = 2 if name == "mul" else 1
    x, y = (m.exact(n, 1 if name == "mul" else 2, power) for n in (x, y))
    largest = m.size(x) * m.size(y) if name == "mul" else m.size(x) + m.size(y)
    return m.noted(g.map_(name, x, y), largest)


def _unary(m: Maker) -> Node | None:
    x = m.arith()
    names = ["neg", "abs", "sign"]
    if x.dtype.is_float:
        names += ["floor", "ceil", "round", "trunc", "roots"]
    name = m.r.choice(names)
    if name == "roots":
        return m.noted(g.map_("floor", g.map_("sqrt", g.map_("abs", x))), m.size(x))
    return m.noted(g.map_(name, x), m.size(x))


def _integer(m: Maker) -> Node | None:
    x = m.of([d for d in STORED if d.is_int])
    name = m.r.choice(["idiv", "imod", "tdiv", "tmod", "and", "or", "xor", "shr", "shl"])
    if name in ("shr", "shl"):
        return m.noted(g.map_(name, x, g.const(x.dtype, m.r.randrange(x.dtype.bits), x.shape)), x.dtype.max_int)
    return m.noted(g.map_(name, x, m.beside(x)), x.dtype.max_int)


def _logical(m: Maker) -> Node | None:
    x = m.arith()
    made = g.map_(m.r.choice(["lt", "eq"]), x, m.beside(x))
    if m.r.random() < 0.3:
        made = g.map_("not", made)
    return m.noted(made, 1)


def _where(m: Maker) -> Node | None:
    x = m.any()
    y = m.beside(x)
    condition = m.fitted(m.cast(m.of([BOOL]), [BOOL]), x.shape)
    return m.noted(g.map_("where", condition, x, y), max(m.size(x), m.size(y)))


def _cast(m: Maker) -> Node | None:
    return m.cast(m.any(), [m.r.choice(STORED if m.r.random() < 0.3 else m.dtypes)])


def _permute(m: Maker) -> Node | None:
    x = m.any()
    return m.noted(g.permute(x, m.r.sample(range(x.rank), x.rank)), m.size(x))


def _reshape(m: Maker) -> Node | None:
    """Merge two neighbours, cut an axis in two, or add one of extent 1."""
    x, r = m.any(), m.r
    axis = m.axis(x)
    shape = list(x.shape)
    choice = r.randrange(4)
    if axis is None or choice == 0:
        shape.insert(r.randrange(x.rank + 1), 1)
    elif choice == 1 and axis + 1 < x.rank:
        shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
    elif choice == 2 and all(isinstance(n, int) for n in shape):
        shape = [count(x.shape)]
    else:
        n = shape[axis]
        if isinstance(n, int) and n > 1:
            part = r.choice([p for p in range(1, n + 1) if n % p == 0])
            shape[axis : axis + 1] = [part, n // part]
    return m.noted(g.reshape(x, shape), m.size(x)) if len(shape) <= 6 else None


def _expand(m: Maker) -> Node | None:
    x, r = m.any(), m.r
    shape = tuple(r.choice([2, 3, 5, *m.variables]) if n == 1 and r.random() < 0.6 else n for n in x.shape)
    return m.noted(g.expand(x, shape), m.size(x))


def _shrink(m: Maker) -> Node | None:
    x, spans = m.any(), list[tuple[g.Size, g.Size]]()
    for n in x.shape:
        start = m.r.randrange(most(n) if isinstance(n, int) else n.low + 1) if n != 0 and m.r.random() < 0.5 else 0
        stop = m.r.randrange(start, n + 1) if isinstance(n, int) and m.r.random() < 0.5 else n
        spans.append((start, stop))
    return m.noted(g.shrink(x, spans), m.size(x))


def _flip(m: Maker) -> Node | None:
    x = m.any()
    return m.noted(g.flip(x, [a for a in range(x.rank) if m.r.random() < 0.5]), m.size(x))


def _stride(m: Maker) -> Node | None:
    x = m.any()
    return m.noted(g.stride(x, [m.r.choice([1, 1, 2, 3]) for _ in x.shape]), m.size(x))


def _pad(m: Maker) -> Node | None:
    x = m.any()
    value = m.r.choice([0, 0, 1, 3]) if x.dtype is not BOOL else m.r.random() < 0.5
    widths = [(m.r.randrange(3), m.r.randrange(3)) if m.r.random() < 0.6 else (0, 0) for _ in x.shape]
    return m.noted(g.pad(x, widths, encode(x.dtype, value)), max(m.size(x), 3))


def _reduce(m: Maker) -> Node | None:
    kind = m.r.choice(["add", "add", "add", "max", "min", "mul", "and", "or"])
    x = m.of([d for d in STORED if d.is_int or d is BOOL]) if kind in ("and", "or") else m.arith()
    axes = [a for a in range(x.rank) if m.r.random() < 0.6]
    repeats = count(tuple(x.shape[a] for a in axes))
    if kind == "mul" and x.dtype.is_float:
        x = m.noted(g.map_("sign", x), 1)
    if kind == "add":
        x = m.exact(x, max(repeats, 1))
    made = m.noted(g.reduce(kind, x, axes), max(m.size(x) * (repeats if kind == "add" else 1), 1))
    if kind in ("max", "min") and x.dtype.is_float and 0 in [x.shape[a] for a in axes]:
        return None  # infinite
    return made


def _centred(m: Maker) -> Node | None:
    """What softmax and norms look like: a fold, used again along the axis that it folds."""
    x = m.arith()
    axis = m.axis(x)
    if axis is None or not isinstance(x.shape[axis], int) or x.shape[axis] == 0:
        return None
    x = m.exact(x, 2 * most(x.shape[axis]))
    kind = m.r.choice(["max", "min", "add"])
    largest = m.size(x) * (most(x.shape[axis]) if kind == "add" else 1)
    y = m.noted(g.map_("sub", x, g.expand(g.reduce(kind, x, [axis]), x.shape)), m.size(x) + largest)
    if m.r.random() < 0.5:
        return y
    y = m.exact(y, most(x.shape[axis]))
    return m.noted(g.reduce("add", y, [axis]), m.size(y) * most(x.shape[axis]))


def _contract(m: Maker) -> Node | None:
    """A product of matrices, one of them perhaps turned, made of the elements of two nodes."""
    r = m.r
    rows, columns, depth = (r.choice([1, 3, 4, 5, 8, 16, 17, 33]) for _ in range(3))
    if rows * columns > m.most_elements or rows * columns * depth > 1 << 16:
        return None
    x, y = m.arith(), m.arith()
    y = m.cast(y, [x.dtype])
    x, y = m.exact(x, depth, 2), m.exact(y, depth, 2)
    x, y = m.fitted(x, (rows, depth)), m.fitted(y, (columns, depth))
    full = (rows, columns, depth)
    left, right = (g.expand(g.reshape(n, s), full) for n, s in ((x, (rows, 1, depth)), (y, (1, columns, depth))))
    made = g.reshape(g.reduce("add", g.map_("mul", left, right), [2]), (rows, columns))
    return m.noted(made, m.size(x) * m.size(y) * depth)


def _scan(m: Maker) -> Node | None:
    x = m.arith()
    axis = m.axis(x)
    if axis is None:
        return None
    kind = m.r.choice(["add", "add", "max", "min"])
    repeats = most(x.shape[axis]) if kind == "add" else 1
    if kind == "add":
        x = m.bounded(x, max(LARGEST.get(x.dtype.name, 0) // max(repeats, 1), 1))
    return m.noted(g.scan(kind, x, axis), m.size(x) * max(repeats, 1))


def _places(m: Maker, shape: g.Shape) -> Node:
    """Return indices, some of them out of range."""
    x = m.cast(m.any(), [I32])
    near = g.map_("sub", m.remainder(x), g.const(I32, 1, x.shape))
    return m.fitted(m.noted(near, 4), shape)


def _gather(m: Maker) -> Node | None:
    x = m.any()
    axis = m.axis(x)
    if axis is None:
        return None
    shape = tuple(m.r.choice([1, 2, 5, n]) if a == axis else n for a, n in enumerate(x.shape))
    return m.noted(g.gather(x, _places(m, shape), axis), m.size(x))


def _scatter(m: Maker) -> Node | None:
    kind = m.r.choice(["set", "set", "add", "max", "min"])
    x = m.any() if kind == "set" else m.arith()
    axis = m.axis(x)
    if axis is None:
        return None
    steps = m.r.choice([1, 2, 5, x.shape[axis]])
    shape = tuple(steps if a == axis else n for a, n in enumerate(x.shape))
    values = m.fitted(m.cast(m.any(), [x.dtype]), shape)
    times = most(steps) + 1
    x, values = (m.bounded(n, max(LARGEST.get(x.dtype.name, 0) // times, 1)) for n in (x, values))
    largest = max(m.size(x), m.size(values)) * (times if kind == "add" else 1)
    return m.noted(g.scatter(kind, x, _places(m, shape), values, axis), largest)


def _store(m: Maker) -> Node | None:
    x = m.any()
    return m.noted(g.store(x), m.size(x))


def _again(m: Maker) -> Node | None:
    x = m.any()
    return m.noted(g.mark(x, "again", m.any()), m.size(x))


def _leaf(m: Maker) -> Node | None:
    if m.r.random() < 0.5:
        return m.noted(g.iota(m.r.choice([1, 4, 9, *m.variables])), 100)
    return m.constant(m.r.choice(m.dtypes), m.shape())


STEPS: dict[Step, int] = {
    _binary: 8, _unary: 3, _integer: 2, _logical: 2, _where: 2, _cast: 2, _permute: 3, _reshape: 4, _expand: 3,
    _shrink: 2, _flip: 1, _stride: 1, _pad: 3, _reduce: 5, _centred: 3, _contract: 2, _scan: 1, _gather: 2, _scatter: 1,
    _store: 1, _again: 1, _leaf: 1,
}  # fmt: skip
"""Each with how often it is taken."""


def random_graph(
    seed: int, steps: int = 12, dtypes: Sequence[DType] = COMMON, without: Sequence[DType] = (F64,)
) -> RandomGraph:
    """Return the random graph of a seed; no node of it has a dtype of `without`."""
    r = random.Random(seed)
    m = Maker(r, [d for d in dtypes if d not in without])
    if r.random() < 0.2:
        high = r.choice([1, 3, 9, 20])
        variable = Variable("n", r.randrange(high), high)
        m.variables[variable] = r.randrange(variable.low, high + 1)
    sources = [g.source(Source(r.choice(m.dtypes), m.shape())) for _ in range(r.randrange(1, 4))]
    for node in sources:
        m.pool.append(m.noted(node, 4))
    for _ in range(r.randrange(1, steps + 1)):
        made = r.choices(list(STEPS), list(STEPS.values()))[0](m)
        if made is not None and made.rank <= 6 and count(made.shape) <= m.most_elements and made.dtype not in without:
            m.pool.append(made)
    outputs = [m.any() for _ in range(r.choice([1, 1, 1, 2, 3]))]
    known = {n for node in g.topological(outputs) if node.op == "source" for n in node.shape}
    outputs += [g.source(Source(I32, (v,))) for v in m.variables if v not in known]  # or nothing says what it is
    needed = {n.attr: n for n in g.topological(outputs) if n.op == "source"}
    numbers = np.random.default_rng(seed)
    return RandomGraph(outputs, {s: _contents(n, numbers, m.variables) for s, n in needed.items()}, m.variables)


def _contents(node: Node, numbers: np.random.Generator, variables: dict[Expr, int]) -> NDArray[Any]:
    unsigned = node.dtype.name.startswith("u") or node.dtype is BOOL
    shape = [int(evaluate(n, variables)) for n in node.shape]
    return numbers.integers(0 if unsigned else -4, 2 if node.dtype is BOOL else 5, shape).astype(node.dtype.numpy)
