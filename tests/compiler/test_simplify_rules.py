"""What simplification makes of a graph: each rule by an example, and what is left alone because it is not exact."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from portkit.compiler import graph as g
from portkit.compiler.evaluate import evaluate
from portkit.compiler.graph import Node
from portkit.compiler.index import Variable
from portkit.compiler.simplify import simplify
from portkit.spec.types import (
    BF16,
    BOOL,
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U32,
    encode,
)
from tests.compiler.simplifying import one, same, val, var

# --- rules that must apply ----------------------------------------------------------------------------------------

X32, Y32, XI, YI, XU, P = var(F32), var(F32, name="y"), var(I32), var(I32, name="y"), var(U32), var(BOOL)
P1 = var(BOOL, (3, 1))
CUBE = var(F32, (2, 3, 4))
BARE = var(F32, (2, 1, 4))
CUBE_I = var(I32, (2, 3, 4))
N = Variable("n", 1, 64)
DYNAMIC = var(F32, (N, 4))

MAPS: dict[str, tuple[Callable[[], Node], Callable[[], Node]]] = {
    "add -0.0": (lambda: g.map_("add", X32, val(F32, -0.0)), lambda: X32),
    "-0.0 add": (lambda: g.map_("add", val(F32, -0.0), X32), lambda: X32),
    "add 0": (lambda: g.map_("add", XI, val(I32, 0)), lambda: XI),
    "sub 0.0": (lambda: g.map_("sub", X32, val(F32, 0.0)), lambda: X32),
    "0 sub": (lambda: g.map_("sub", val(I32, 0), XI), lambda: g.map_("neg", XI)),
    "sub self": (lambda: g.map_("sub", XI, XI), lambda: val(I32, 0)),
    "add neg": (lambda: g.map_("add", X32, g.map_("neg", Y32)), lambda: g.map_("sub", X32, Y32)),
    "sub neg": (lambda: g.map_("sub", X32, g.map_("neg", Y32)), lambda: g.map_("add", X32, Y32)),
    "constants meet": (
        lambda: g.map_("sub", g.map_("add", XI, val(I32, 7)), val(I32, 9)),
        lambda: g.map_("add", XI, val(I32, -2)),
    ),
    "mul 1": (lambda: g.map_("mul", val(F32, 1), X32), lambda: X32),
    "mul -1": (lambda: g.map_("mul", X32, val(F32, -1)), lambda: g.map_("neg", X32)),
    "mul 0": (lambda: g.map_("mul", XI, val(I32, 0)), lambda: val(I32, 0)),
    "neg times neg": (lambda: g.map_("mul", g.map_("neg", X32), g.map_("neg", Y32)), lambda: g.map_("mul", X32, Y32)),
    "div 8": (lambda: g.map_("div", X32, val(F32, 8)), lambda: g.map_("mul", X32, val(F32, 0.125))),
    "div -1": (lambda: g.map_("div", X32, val(F32, -1)), lambda: g.map_("neg", X32)),
    "pow 2": (lambda: g.map_("pow", X32, val(F32, 2)), lambda: g.map_("mul", X32, X32)),
    "pow 0": (lambda: g.map_("pow", X32, val(F32, 0)), lambda: val(F32, 1)),
    "idiv 8": (lambda: g.map_("idiv", XI, val(I32, 8)), lambda: g.map_("shr", XI, val(I32, 3))),
    "imod 8": (lambda: g.map_("imod", XI, val(I32, 8)), lambda: g.map_("and", XI, val(I32, 7))),
    "imod 1": (lambda: g.map_("imod", XI, val(I32, 1)), lambda: val(I32, 0)),
    "tdiv of unsigned": (lambda: g.map_("tdiv", XU, val(U32, 4)), lambda: g.map_("shr", XU, val(U32, 2))),
    "idiv of idiv": (
        lambda: g.map_("idiv", g.map_("idiv", XI, val(I32, 3)), val(I32, 5)),
        lambda: g.map_("idiv", XI, val(I32, 15)),
    ),
    "max self": (lambda: g.map_("max", X32, X32), lambda: X32),
    "max of max": (lambda: g.map_("max", X32, g.map_("max", Y32, X32)), lambda: g.map_("max", Y32, X32)),
    "max -inf": (lambda: g.map_("max", X32, val(F32, -math.inf)), lambda: X32),
    "max of constants": (
        lambda: g.map_("max", g.map_("max", X32, val(F32, 1)), val(F32, 2)),
        lambda: g.map_("max", X32, val(F32, 2)),
    ),
    "xor self": (lambda: g.map_("xor", XI, XI), lambda: val(I32, 0)),
    "lt self": (lambda: g.map_("lt", X32, X32), lambda: val(BOOL, False)),
    "eq self": (lambda: g.map_("eq", XI, XI), lambda: val(BOOL, True)),
    "nothing below 0": (lambda: g.map_("lt", XU, val(U32, 0)), lambda: val(BOOL, False)),
    "eq true": (lambda: g.map_("eq", P, val(BOOL, True)), lambda: P),
    "cast eq 0": (lambda: g.map_("eq", g.cast(P, F32), val(F32, 0)), lambda: g.map_("not", P)),
    "where true": (lambda: g.map_("where", val(BOOL, True), X32, Y32), lambda: X32),
    "where same": (lambda: g.map_("where", P, X32, X32), lambda: X32),
    "where not": (lambda: g.map_("where", g.map_("not", P), X32, Y32), lambda: g.map_("where", P, Y32, X32)),
    "where viewed not": (
        lambda: g.map_("where", g.permute(g.expand(g.map_("not", P1), (3, 2)), (1, 0)), X32, Y32),
        lambda: g.map_("where", g.expand(g.reshape(P1, (1, 3)), (2, 3)), Y32, X32),
    ),
    "where where": (
        lambda: g.map_("where", P, g.map_("where", P, X32, Y32), g.map_("where", P, Y32, X32)),
        lambda: X32,
    ),
    "where and": (
        lambda: g.map_("where", P, g.map_("lt", X32, Y32), val(BOOL, False)),
        lambda: g.map_("and", P, g.map_("lt", X32, Y32)),
    ),
    "neg neg": (lambda: g.map_("neg", g.map_("neg", X32)), lambda: X32),
    "not not": (lambda: g.map_("not", g.map_("not", P)), lambda: P),
    "neg sub": (lambda: g.map_("neg", g.map_("sub", XI, YI)), lambda: g.map_("sub", YI, XI)),
    "abs neg": (lambda: g.map_("abs", g.map_("neg", X32)), lambda: g.map_("abs", X32)),
    "abs unsigned": (lambda: g.map_("abs", XU), lambda: XU),
    "floor round": (lambda: g.map_("floor", g.map_("round", X32)), lambda: g.map_("round", X32)),
    "floor integer": (lambda: g.map_("floor", g.cast(XI, F32)), lambda: g.cast(XI, F32)),
    "widen and back": (lambda: g.cast(g.cast(XI, I64), I32), lambda: XI),
    "through f64": (lambda: g.cast(g.cast(XI, F64), F32), lambda: g.cast(XI, F32)),
    "narrow and narrow": (lambda: g.cast(g.cast(XI, I16), I8), lambda: g.cast(XI, I8)),
    "sign change": (lambda: g.cast(g.cast(XI, U32), I32), lambda: XI),
    "bits of bits": (lambda: g.map_("bits", g.map_("bits", X32, dtype=I32), dtype=F32), lambda: X32),
    "folded": (lambda: g.map_("add", val(F32, 0.1), val(F32, 0.2)), lambda: val(F32, 0.1 + 0.2)),
    "iota is not negative": (
        lambda: wrap_negative(g.map_("add", g.iota(6), g.const(I32, 2, (6,))), 9),
        lambda: g.map_("add", g.iota(6), g.const(I32, 2, (6,))),
    ),
}  # fmt: skip


def wrap_negative(index: Node, extent: int) -> Node:
    shifted = g.map_("add", index, g.const(I32, extent, index.shape))
    return g.map_("where", g.map_("lt", index, g.const(I32, 0, index.shape)), shifted, index)


def index_of(axis: int, shape: tuple[int, ...], first: int) -> Node:
    """Return first + 0, 1, 2, ... along an axis, as an index of that shape."""
    ones = tuple(n if a == axis else 1 for a, n in enumerate(shape))
    counted = g.map_("add", g.iota(shape[axis]), g.const(I32, first, (shape[axis],)))
    return g.expand(g.reshape(counted, ones), shape)


VIEWS: dict[str, tuple[Callable[[], Node], Callable[[], Node]]] = {
    "permute back": (lambda: g.permute(g.permute(CUBE, (1, 2, 0)), (2, 0, 1)), lambda: CUBE),
    "permute of ones": (lambda: g.permute(BARE, (1, 0, 2)), lambda: g.reshape(BARE, (1, 2, 4))),
    "reshape back": (lambda: g.view(g.reshape(CUBE, (24,)), (2, 3, 4), "reshape"), lambda: CUBE),
    "expand twice": (
        lambda: g.expand(g.expand(g.reshape(X32, (1, 1, 2, 3)), (1, 5, 2, 3)), (4, 5, 2, 3)),
        lambda: g.expand(g.reshape(X32, (1, 1, 2, 3)), (4, 5, 2, 3)),
    ),
    "shrink twice": (
        lambda: g.shrink(g.shrink(CUBE, [(0, 2), (1, 3), (1, 4)]), [(1, 2), (0, 2), (1, 3)]),
        lambda: g.shrink(CUBE, [(1, 2), (1, 3), (2, 4)]),
    ),
    "flip twice": (lambda: g.flip(g.flip(CUBE, (0, 1)), (1, 2)), lambda: g.flip(CUBE, (0, 2))),
    "flip back": (lambda: g.flip(g.flip(CUBE, (0,)), (0,)), lambda: CUBE),
    "stride twice": (lambda: g.stride(g.stride(CUBE, (1, 1, 2)), (2, 3, 2)), lambda: g.stride(CUBE, (2, 3, 4))),
    "pad twice": (
        lambda: g.pad(g.pad(X32, [(1, 0), (0, 2)]), [(0, 3), (1, 1)]),
        lambda: g.pad(X32, [(1, 3), (1, 3)]),
    ),
    "pad and cut back": (lambda: g.shrink(g.pad(X32, [(1, 2), (0, 2)]), [(1, 3), (0, 3)]), lambda: X32),
    "cut of padding": (
        lambda: g.shrink(g.pad(X32, [(4, 0), (0, 0)], encode(F32, 7)), [(1, 3), (0, 3)]),
        lambda: val(F32, 7),
    ),
    "cut across an edge": (
        lambda: g.shrink(g.pad(X32, [(4, 4), (1, 1)]), [(1, 5), (0, 5)]),
        lambda: g.pad(g.shrink(X32, [(0, 1), (0, 3)]), [(3, 0), (1, 1)]),
    ),
    "dynamic pad and cut": (lambda: g.shrink(g.pad(DYNAMIC, [(3, N), (0, 0)]), [(3, N + 3), (0, 4)]), lambda: DYNAMIC),
    "permute of expand": (
        lambda: g.permute(g.expand(BARE, (2, 3, 4)), (2, 1, 0)),
        lambda: g.expand(g.permute(BARE, (2, 1, 0)), (4, 3, 2)),
    ),
    "unsqueeze of expand": (
        lambda: g.reshape(g.expand(BARE, (2, 3, 4)), (2, 1, 3, 4)),
        lambda: g.expand(g.reshape(BARE, (2, 1, 1, 4)), (2, 1, 3, 4)),
    ),
    "shrink of expand": (
        lambda: g.shrink(g.expand(BARE, (2, 3, 4)), [(0, 2), (1, 3), (1, 2)]),
        lambda: g.expand(g.shrink(BARE, [(0, 2), (0, 1), (1, 2)]), (2, 2, 1)),
    ),
    "flip of expand": (
        lambda: g.flip(g.expand(BARE, (2, 3, 4)), (0, 1)),
        lambda: g.expand(g.flip(BARE, (0,)), (2, 3, 4)),
    ),
    "stride of expand": (lambda: g.stride(g.expand(BARE, (2, 3, 4)), (1, 2, 1)), lambda: g.expand(BARE, (2, 2, 4))),
    "views of a constant": (
        lambda: g.stride(g.flip(g.shrink(g.permute(val(F32, 3, (4, 5)), (1, 0)), [(1, 5), (0, 4)]), (0,)), (2, 1)),
        lambda: val(F32, 3, (2, 4)),
    ),
    "pad of the same": (lambda: g.pad(val(F32, 0), [(1, 1), (0, 0)]), lambda: val(F32, 0, (4, 3))),
    "pad of nothing": (lambda: g.pad(var(F32, (0, 3)), [(1, 1), (0, 0)]), lambda: val(F32, 0, (2, 3))),
    "nothing": (lambda: g.map_("exp", g.shrink(X32, [(1, 1), (0, 3)])), lambda: val(F32, 0, (0, 3))),
}

FOLDS: dict[str, tuple[Callable[[], Node], Callable[[], Node]]] = {
    "sum of nothing": (lambda: g.reduce("add", var(F32, (2, 0)), [1]), lambda: val(F32, 0, (2, 1))),
    "max of nothing": (lambda: g.reduce("max", var(I32, (2, 0)), [1]), lambda: val(I32, I32.min_int, (2, 1))),
    "and of nothing": (lambda: g.reduce("and", var(BOOL, (0,)), [0]), lambda: val(BOOL, True, (1,))),
    "max of a constant": (lambda: g.reduce("max", val(F32, 3), [1]), lambda: val(F32, 3, (2, 1))),
    "sum of a constant": (lambda: g.reduce("add", val(I32, 3), [0, 1]), lambda: val(I32, 18, (1, 1))),
    "sum that wraps": (lambda: g.reduce("add", val(I8, 100), [1]), lambda: val(I8, 300 - 256, (2, 1))),
    "product of a constant": (lambda: g.reduce("mul", val(I32, -2), [1]), lambda: val(I32, -8, (2, 1))),
    "sum of ones": (lambda: g.reduce("add", val(BF16, 1), [0, 1]), lambda: val(BF16, 6, (1, 1))),
    "sum of zeros": (lambda: g.reduce("add", val(F16, 0), [1]), lambda: val(F16, 0, (2, 1))),
    "max of max": (
        lambda: g.reduce("max", g.reduce("max", CUBE, [1]), [0]),
        lambda: g.reduce("max", CUBE, [0, 1]),
    ),
    "integer sum of sum": (
        lambda: g.reduce("add", g.reduce("add", CUBE_I, [1]), [0]),
        lambda: g.reduce("add", CUBE_I, [0, 1]),
    ),
    "max along repeats": (lambda: g.reduce("max", g.expand(BARE, (2, 3, 4)), [1]), lambda: BARE),
    "sum outside of repeats": (
        lambda: g.reduce("add", g.expand(BARE, (2, 3, 4)), [2]),
        lambda: g.expand(g.reduce("add", BARE, [2]), (2, 3, 1)),
    ),
    "scan of one": (lambda: g.scan("add", BARE, 1), lambda: BARE),
    "gather of all": (lambda: g.gather(CUBE, index_of(1, (2, 3, 4), 0), 1), lambda: CUBE),
    "gather of a part": (
        lambda: g.gather(CUBE, index_of(2, (2, 3, 2), 1), 2),
        lambda: g.shrink(CUBE, [(0, 2), (0, 3), (1, 3)]),
    ),
    "gather of one": (
        lambda: g.gather(CUBE, g.const(I32, 2, (2, 3, 4)), 1),
        lambda: g.expand(g.shrink(CUBE, [(0, 2), (2, 3), (0, 4)]), (2, 3, 4)),
    ),
    "gather of none": (lambda: g.gather(CUBE, g.const(I32, 3, (2, 3, 4)), 1), lambda: val(F32, 0, (2, 3, 4))),
    "scatter of nothing": (
        lambda: g.scatter("add", X32, g.const(I32, 0, (2, 0)), val(F32, 1, (2, 0)), 1),
        lambda: X32,
    ),
}

GOLDEN = {**MAPS, **VIEWS, **FOLDS}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_rule_applies(name: str) -> None:
    before, after = GOLDEN[name]
    assert one(before()) is one(after())
    assert one(after()) is after()


def known(shape: g.Shape) -> list[int]:
    return [n if isinstance(n, int) else 5 for n in shape]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_rule_keeps_values(name: str) -> None:
    before = GOLDEN[name][0]()
    rng = np.random.default_rng(7)
    sources = [n for n in g.topological([before]) if n.op == "source"]
    contents = {
        s.attr: rng.integers(0, 2 if s.dtype is BOOL else 90, known(s.shape)).astype(s.dtype.numpy) for s in sources
    }
    (a,), (b,) = evaluate([before], contents), evaluate(simplify([before]), contents)
    assert same(before.dtype, np.ascontiguousarray(a), np.ascontiguousarray(b).reshape(a.shape))


KEPT: dict[str, Callable[[], Node]] = {
    "add 0.0": lambda: g.map_("add", X32, val(F32, 0.0)),
    "sub -0.0": lambda: g.map_("sub", X32, val(F32, -0.0)),
    "0.0 sub": lambda: g.map_("sub", val(F32, 0.0), X32),
    "mul 0.0": lambda: g.map_("mul", X32, val(F32, 0.0)),
    "float self sub": lambda: g.map_("sub", X32, X32),
    "float self eq": lambda: g.map_("eq", X32, X32),
    "max inf": lambda: g.map_("max", X32, val(F32, math.inf)),
    "div 3": lambda: g.map_("div", X32, val(F32, 3)),
    "div by what has no normal inverse": lambda: g.map_("div", X32, val(F32, 2.0**127)),
    "float constants": lambda: g.map_("add", g.map_("add", X32, val(F32, 1)), val(F32, 2)),
    "narrow and widen": lambda: g.cast(g.cast(X32, F16), F32),
    "rounded twice": lambda: g.cast(g.cast(var(F64), F32), F16),
    "saturates": lambda: g.cast(g.cast(XI, F64), I8),
    "signed tdiv": lambda: g.map_("tdiv", XI, val(I32, 4)),
    "exp of a constant": lambda: g.map_("exp", val(F32, 1)),
    "float sum of sum": lambda: g.reduce("add", g.reduce("add", CUBE, [1]), [0]),
    "float sum that is rounded": lambda: g.reduce("add", val(F32, 0.1, (3,)), [0]),
    "float sum beyond the digits": lambda: g.reduce("add", val(BF16, 1, (300,)), [0]),
    "float sum along repeats": lambda: g.reduce("add", g.expand(BARE, (2, 3, 4)), [1]),
    "pads that differ": lambda: g.pad(g.pad(X32, [(1, 0), (0, 2)], 1), [(0, 3), (1, 1)]),
    "pad of another": lambda: g.pad(val(F32, 1), [(1, 1), (0, 0)]),
    "gather beyond the end": lambda: g.gather(CUBE, index_of(2, (2, 3, 3), 2), 2),
    "gather along another axis": lambda: g.gather(var(F32, (3, 3)), index_of(0, (3, 3), 1), 1),
    "a mark": lambda: g.mark(X32, "again", Y32),
    "a store": lambda: g.store(val(F32, 1)),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_not_exact_is_left_alone(name: str) -> None:
    node = KEPT[name]()
    assert one(node) is node
