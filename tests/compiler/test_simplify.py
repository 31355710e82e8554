"""Simplification: every rule applies, is exact bit for bit, and stops; what is not exact is left alone."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from portkit.compiler import graph as g
from portkit.compiler import simplify as simplifier
from portkit.compiler.functions import FUNCTIONS
from portkit.compiler.graph import Node
from portkit.compiler.index import Variable
from portkit.compiler.simplify import simplify
from portkit.compiler.simplify_functions import holds
from portkit.errors import SpecError
from portkit.spec.types import (
    BF16,
    BOOL,
    DTYPES,
    F8E4M3FN,
    F8E5M2,
    F16,
    F32,
    F64,
    I8,
    I32,
    U8,
    DType,
    decode,
    encode,
)
from tests.compiler.simplifying import SHAPE, array, check, one, special_bits, val, var

# --- exactness of functions ---------------------------------------------------------------------------------------


def operand_dtypes(name: str) -> list[DType]:
    return [DTYPES[d] for d in FUNCTIONS[name].dtypes]


def apply(name: str, operands: list[Node], result: DType) -> Node:
    return g.map_(name, *operands, dtype=result if FUNCTIONS[name].result == "given" else None)


def binary_cases() -> list[tuple[str, DType]]:
    return [(f.name, d) for f in FUNCTIONS.values() if f.arity == 2 for d in operand_dtypes(f.name)]


@pytest.mark.parametrize(("name", "dtype"), binary_cases(), ids=str)
def test_functions_of_a_special_constant_keep_their_bits(name: str, dtype: DType) -> None:
    bits = special_bits(dtype)
    x = var(dtype, (len(bits),))
    nodes: list[Node] = []
    for c in bits:
        constant = g.const_bits(dtype, c, x.shape)
        nodes += [g.map_(name, x, constant), g.map_(name, constant, x)]
    check(nodes, {x.attr: array(dtype, bits)})


@pytest.mark.parametrize(("name", "dtype"), binary_cases(), ids=str)
def test_functions_of_related_operands_keep_their_bits(name: str, dtype: DType) -> None:
    bits = special_bits(dtype)
    pairs = list(itertools.product(bits, bits))
    x, y = var(dtype, (len(pairs),)), var(dtype, (len(pairs),), "y")
    nodes = [g.map_(name, x, x), g.map_(name, x, y)]
    if dtype in operand_dtypes("neg"):
        minus_x, minus_y = g.map_("neg", x), g.map_("neg", y)
        nodes += [g.map_(name, *p) for p in ((minus_x, y), (x, minus_y), (minus_x, minus_y), (minus_x, x))]
    if FUNCTIONS[name].result == "same":
        inner = g.map_(name, x, y)
        nodes += [g.map_(name, *p) for p in ((x, inner), (inner, x), (inner, inner))]
        constants = [g.const_bits(dtype, c, x.shape) for c in bits]
        nodes += [g.map_(name, g.map_(name, x, c), d) for c, d in itertools.product(constants, constants)]
        nodes += [g.map_("neg", n) for n in (inner, g.map_(name, x, constants[-1])) if dtype in operand_dtypes("neg")]
    check(nodes, {x.attr: array(dtype, [p[0] for p in pairs]), y.attr: array(dtype, [p[1] for p in pairs])})


@pytest.mark.parametrize(("name", "dtype"), binary_cases(), ids=str)
def test_functions_of_two_constants_keep_their_bits(name: str, dtype: DType) -> None:
    bits = special_bits(dtype)
    check([g.map_(name, g.const_bits(dtype, a), g.const_bits(dtype, b)) for a in bits for b in bits], {})


SIMPLE = {"neg", "abs", "sign", "not", "floor", "ceil", "round", "trunc"}


@pytest.mark.parametrize(
    ("outer", "inner", "dtype"),
    [
        (f.name, e.name, d)
        for f in FUNCTIONS.values()
        for e in FUNCTIONS.values()
        if f.arity == e.arity == 1 and "given" not in (f.result, e.result)
        for d in operand_dtypes(f.name)
        if d in operand_dtypes(e.name) and {f.name, e.name} <= SIMPLE
    ],
    ids=str,
)
def test_a_function_of_a_function_keeps_its_bits(outer: str, inner: str, dtype: DType) -> None:
    bits = special_bits(dtype)
    x = var(dtype, (len(bits),))
    constants = [g.map_(outer, g.map_(inner, g.const_bits(dtype, b))) for b in bits]
    check([g.map_(outer, g.map_(inner, x)), *constants], {x.attr: array(dtype, bits)})


@pytest.mark.parametrize("first", DTYPES.values(), ids=str)
def test_casts_of_casts_keep_their_bits(first: DType) -> None:
    bits = special_bits(first)
    x = var(first, (len(bits),))
    nodes = [g.cast(g.cast(x, a), b) for a in DTYPES.values() for b in DTYPES.values()]
    constants = [g.cast(g.const_bits(first, b), a) for a in DTYPES.values() for b in bits]
    check([*nodes, *constants], {x.attr: array(first, bits)})


@pytest.mark.parametrize("narrow", [BOOL, I8, U8, F8E4M3FN, F8E5M2, F16, BF16], ids=str)
def test_a_dtype_that_holds_another_holds_each_of_its_values(narrow: DType) -> None:
    values = [decode(narrow, b) for b in range(2 if narrow is BOOL else 1 << narrow.bits)]
    for wide in DTYPES.values():
        exact = all(is_value(wide, v) for v in values if v == v)
        assert holds(wide, narrow) == (exact and (wide.is_float or not narrow.is_float)), wide


def is_value(dtype: DType, value: float) -> bool:
    try:
        return decode(dtype, encode(dtype, value)) == value
    except SpecError:
        return False


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_choices_keep_their_bits(dtype: DType) -> None:
    x, y, p = var(dtype), var(dtype, name="y"), var(BOOL, name="p")
    true, false = val(BOOL, True), val(BOOL, False)
    picks = [x, y, g.map_("where", p, x, y), g.map_("where", p, y, x), g.const_bits(dtype, 1, SHAPE)]
    if dtype is BOOL:
        picks += [true, false]
    conditions = [p, g.map_("not", p), true, false]
    nodes = [g.map_("where", c, a, b) for c in conditions for a in picks for b in picks]
    bits = special_bits(dtype)
    contents = [array(dtype, list(itertools.islice(itertools.cycle(b), 6))).reshape(SHAPE) for b in (bits, bits[::-1])]
    check(
        nodes, {x.attr: contents[0], y.attr: contents[1], p.attr: np.array([[True, False, True], [False, True, False]])}
    )


# --- random graphs ------------------------------------------------------------------------------------------------


class Graphs:
    """Random graphs of few nodes and many constants, so that rules meet."""

    def __init__(self, seed: int, rows: g.Size = 2) -> None:
        self.rng = np.random.default_rng(seed)
        self.sources = [var(d, (rows, 3), d.name) for d in (F32, F32, F16, I32, I32, U8, BOOL)]
        self.nodes = list(self.sources)

    def pick(self, options: list[Node] | tuple[Node, ...]) -> Node:
        return options[self.rng.integers(len(options))]

    def like(self, x: Node) -> Node:
        same_kind = [n for n in self.nodes if n.dtype is x.dtype and n.shape == x.shape]
        if self.rng.random() < 0.5:
            return self.pick(same_kind)
        bits = special_bits(x.dtype)
        return g.const_bits(x.dtype, bits[self.rng.integers(len(bits))], x.shape)

    def function(self, x: Node) -> Node:
        exact = [n for n, f in FUNCTIONS.items() if f.result != "given" and f.dtypes and x.dtype.name in f.dtypes]
        name = exact[self.rng.integers(len(exact))]
        if name == "where":
            conditions = [n for n in self.nodes if n.dtype is BOOL and n.shape == x.shape]
            return g.map_("where", self.pick(conditions), x, self.like(x)) if conditions else x
        others = [self.like(x) for _ in range(FUNCTIONS[name].arity - 1)]
        return g.map_(name, x, *others)

    def movement(self, x: Node) -> Node:
        rng = self.rng
        rank = range(x.rank)
        made = [
            lambda: g.permute(x, rng.permutation(x.rank).tolist()),
            lambda: g.reshape(x, (*x.shape[::-1], 1)),
            lambda: g.reshape(x, [n for n in x.shape if n != 1]),
            lambda: g.expand(x, [int(rng.integers(1, 4)) if n == 1 else n for n in x.shape]),
            lambda: g.flip(x, [a for a in rank if rng.random() < 0.5]),
            lambda: g.stride(x, [int(rng.integers(1, 3)) for _ in rank]),
            lambda: g.shrink(x, [self.span(n) for n in x.shape]),
            lambda: g.pad(x, rng.integers(0, 3, (x.rank, 2)).tolist(), special_bits(x.dtype)[rng.integers(2)]),
        ][rng.integers(8)]()
        return made if math.prod(n for n in made.shape if isinstance(n, int)) < 200 and made.rank < 6 else x

    def span(self, n: g.Size) -> tuple[g.Size, g.Size]:
        if not isinstance(n, int):
            return (0, n) if self.rng.random() < 0.6 else (n - 1, n)
        low, high = sorted(self.rng.integers(0, n + 1, 2).tolist())
        return low, high

    def fold(self, x: Node) -> Node:
        kinds = [k for k in g.REDUCTIONS if x.dtype.name in FUNCTIONS[k].dtypes]
        axes = [a for a in range(x.rank) if self.rng.random() < 0.5]
        return g.reduce(kinds[self.rng.integers(len(kinds))], x, axes)

    def indexed(self, x: Node) -> Node:
        """Return a gather, scatter or scan along an axis; indices are counted, constant or computed."""
        if not x.rank or 0 in x.shape:
            return x
        axis = int(self.rng.integers(x.rank))
        if self.rng.random() < 0.3 and x.dtype.name in FUNCTIONS["add"].dtypes:
            return g.scan(g.SCANS[self.rng.integers(4)], x, axis)
        index = self.index(x.shape, axis)
        if self.rng.random() < 0.6:
            return g.gather(x, index, axis)
        kind = "set" if x.dtype.name not in FUNCTIONS["add"].dtypes else g.SCATTERS[self.rng.integers(5)]
        return g.scatter(kind, x, index, self.like(x), axis)

    def index(self, shape: g.Shape, axis: int) -> Node:
        ones = tuple(n if a == axis else 1 for a, n in enumerate(shape))
        counted = g.expand(g.reshape(g.iota(shape[axis]), ones), shape)
        moved = g.map_("add", counted, g.const(I32, int(self.rng.integers(-1, 3)), shape))
        known = [n for n in self.nodes if n.dtype is I32 and n.shape == shape]
        options = [counted, moved, g.const(I32, int(self.rng.integers(-1, 3)), shape), *known]
        extent = g.const(I32, 3, shape)
        picked = self.pick(options)
        wrapped = g.map_("where", g.map_("lt", picked, g.const(I32, 0, shape)), g.map_("add", picked, extent), picked)
        return wrapped if self.rng.random() < 0.3 else picked

    def grow(self) -> None:
        x = self.pick(self.nodes[-6:]) if self.rng.random() < 0.7 else self.pick(self.sources)
        makers = (self.function, self.function, self.movement, self.movement, self.fold, self.convert, self.indexed)
        self.nodes.append(makers[self.rng.integers(len(makers))](x))

    def convert(self, x: Node) -> Node:
        return g.cast(x, (F32, F16, F64, I32, U8, BOOL)[self.rng.integers(6)])

    def contents(self) -> dict[g.Source, np.ndarray]:
        return {
            s.attr: array(s.dtype, self.rng.choice(np.array(special_bits(s.dtype), "u8"), 6).tolist()).reshape(2, 3)
            for s in self.sources
        }


@pytest.mark.parametrize("rows", [2, Variable("n", 1, 9)], ids=str)
@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_keep_their_values(seed: int, rows: g.Size) -> None:
    graphs = Graphs(seed, rows)
    for _ in range(40):
        graphs.grow()
    check(graphs.nodes, graphs.contents())


@pytest.mark.parametrize("seed", range(20))
def test_what_is_simplified_stays_as_it_is(seed: int) -> None:
    graphs = Graphs(1000 + seed)
    for _ in range(40):
        graphs.grow()
    simplified = simplify(graphs.nodes)
    assert simplify(simplified) == simplified


# --- large graphs -------------------------------------------------------------------------------------------------


def test_a_long_chain_needs_no_recursion() -> None:
    x = var(F32)
    for _ in range(5000):
        x = g.map_("exp", g.map_("mul", g.permute(g.permute(x, (1, 0)), (1, 0)), val(F32, 1)))
    assert len(g.topological([one(x)])) == 5001


def test_a_constant_is_folded_through_a_long_chain() -> None:
    x = val(I32, 1)
    for k in range(2000):
        x = g.map_("add", g.permute(x, (1, 0)), val(I32, k, x.shape[::-1]))
    assert one(x) is val(I32, 1 + sum(range(2000)))


def test_the_steps_taken_grow_in_line_with_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Node] = []
    step = simplifier._step
    monkeypatch.setattr(simplifier, "_step", lambda node, inputs: taken.append(node) or step(node, inputs))
    x, y = var(F32), var(F32, name="y")
    for k in range(1000):
        x, y = g.map_("add", y, g.map_("mul", x, val(F32, 1 + k % 3))), g.map_("neg", g.map_("neg", x))
    simplify([x, y])
    assert len(taken) < 4 * len(g.topological([x, y]))
