"""Compiled graphs against the meaning of the graph, on a device with everything and on one with base forms only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from portkit.compiler import graph as g
from portkit.compiler.evaluate import evaluate
from portkit.compiler.graph import Node, Source
from portkit.compiler.index import Variable
from portkit.contract import Capabilities
from portkit.spec.types import BOOL, DTYPES, F32, I32
from tests.compiler.running import BASE, CPU, run_graph, small_integers

Build = Callable[[Node, Node], Node]


def spread(x: Node, shape: g.Shape) -> Node:
    return g.expand(x, shape)


def matmul(a: Node, b: Node) -> Node:
    (m, k), n = a.shape, b.shape[1]
    left = g.expand(g.reshape(a, (m, 1, k)), (m, n, k))
    right = g.expand(g.reshape(g.permute(b, (1, 0)), (1, n, k)), (m, n, k))
    return g.reshape(g.reduce("add", g.map_("mul", left, right), [2]), (m, n))


def centred(x: Node, axis: int) -> Node:
    return g.map_("sub", x, spread(g.reduce("max", x, [axis]), x.shape))


def wrapped(x: Node, n: int) -> Node:
    """Indices inside 0 .. n-1 and a few outside."""
    return g.map_("add", x, g.const(x.dtype, n // 2, x.shape))


GRAPHS: dict[str, Build] = {
    "a map": lambda x, y: g.map_("add", g.map_("mul", x, y), x),
    "a broadcast row": lambda x, y: g.map_("mul", x, spread(g.shrink(y, ((0, 1), (0, y.shape[1]))), x.shape)),
    "a broadcast column": lambda x, y: g.map_("mul", x, spread(g.shrink(y, ((0, y.shape[0]), (0, 1))), x.shape)),
    "a sum of rows": lambda x, y: g.reduce("add", g.map_("mul", x, y), [1]),
    "a sum of columns": lambda x, y: g.reduce("add", g.map_("mul", x, y), [0]),
    "a sum of everything": lambda x, y: g.reduce("add", g.map_("mul", x, y), [0, 1]),
    "a maximum": lambda x, y: g.reduce("max", g.map_("sub", x, y), [1]),
    "a product": lambda x, _: g.reduce("mul", g.shrink(x, ((0, 3), (0, 4))), [0]),
    "rows less their maximum": lambda x, _: centred(x, 1),
    "columns less their maximum": lambda x, _: centred(x, 0),
    "two folds one after the other": lambda x, _: g.reduce("add", centred(x, 1), [1]),
    "a transpose": lambda x, y: g.permute(g.map_("add", x, y), (1, 0)),
    "a flip": lambda x, _: g.flip(x, (0, 1)),
    "a pad with another value": lambda x, _: g.pad(x, ((1, 2), (3, 0)), 5 if x.dtype.is_int else 0),
    "a pad of a sum": lambda x, y: g.pad(g.reduce("add", g.map_("mul", x, y), [1]), ((2, 1), (0, 1))),
    "every third element": lambda x, _: g.stride(x, (2, 3)),
    "a reshape across axes": lambda x, _: g.reshape(x, (x.shape[1], x.shape[0])),
    "a reshape of a transpose": lambda x, _: g.reshape(g.permute(x, (1, 0)), x.shape),
    "a select": lambda x, y: g.map_("where", g.map_("lt", x, y), x, y),
    "a matmul": lambda x, y: matmul(x, g.permute(y, (1, 0))),
    "a matmul with an epilogue": lambda x, y: g.map_("max", *[matmul(x, g.permute(y, (1, 0)))] * 2),
    "a matmul of a matmul": lambda x, y: matmul(matmul(x, g.permute(y, (1, 0))), y),
    "a running sum": lambda x, _: g.scan("add", x, 1),
    "a running maximum of columns": lambda x, y: g.scan("max", g.map_("add", x, y), 0),
    "a stored node": lambda x, y: g.map_("add", g.store(g.map_("mul", x, y)), x),
    "a sliding sum": lambda x, _: g.map_(
        "add", g.shrink(x, ((0, x.shape[0]), (0, 10))), g.shrink(x, ((0, x.shape[0]), (3, 13)))
    ),
}
SHAPE = (9, 37)


@pytest.mark.parametrize("capabilities", [CPU, BASE], ids=["cpu", "base"])
@pytest.mark.parametrize("dtype", ["f32", "i32"])
@pytest.mark.parametrize("build", GRAPHS.values(), ids=GRAPHS.keys())
def test_a_compiled_graph_computes_what_the_graph_means(build: Build, dtype: str, capabilities: Capabilities) -> None:
    x, y = (g.source(Source(DTYPES[dtype], SHAPE)) for _ in range(2))
    contents = {x.attr: small_integers(x, 1), y.attr: small_integers(y, 2)}
    output = build(x, y)
    (got,), _ = run_graph([output], contents, capabilities)
    np.testing.assert_array_equal(got, evaluate([output], contents)[0])


@pytest.mark.parametrize("capabilities", [CPU, BASE], ids=["cpu", "base"])
@pytest.mark.parametrize("dtype", ["i8", "u8", "i16", "u16", "u32", "i64", "u64", "f16", "bf16"])
@pytest.mark.parametrize("name", ["a map", "a sum of rows", "a maximum", "a transpose", "a matmul"])
def test_every_dtype_computes_what_the_graph_means(name: str, dtype: str, capabilities: Capabilities) -> None:
    x, y = (g.source(Source(DTYPES[dtype], (5, 7))) for _ in range(2))
    contents = {x.attr: small_integers(x, 1), y.attr: small_integers(y, 2)}
    output = GRAPHS[name](x, y)
    (got,), _ = run_graph([output], contents, capabilities)
    np.testing.assert_array_equal(got, evaluate([output], contents)[0])


@pytest.mark.parametrize("capabilities", [CPU, BASE], ids=["cpu", "base"])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_gather_gives_zero_where_the_index_is_out_of_range(axis: int, capabilities: Capabilities) -> None:
    x, index = g.source(Source(F32, (6, 8))), g.source(Source(I32, (6, 8)))
    contents = {x.attr: small_integers(x, 1), index.attr: small_integers(index, 2)}
    output = g.map_("add", g.gather(x, wrapped(index, 4), axis), x)
    (got,), _ = run_graph([output], contents, capabilities)
    np.testing.assert_array_equal(got, evaluate([output], contents)[0])


@pytest.mark.parametrize("capabilities", [CPU, BASE], ids=["cpu", "base"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("kind", ["set", "add", "max"])
def test_a_scatter_folds_values_in_order(kind: str, axis: int, capabilities: Capabilities) -> None:
    x, index, values = (g.source(Source(d, (6, 8))) for d in (F32, I32, F32))
    contents = {n.attr: small_integers(n, i) for i, n in enumerate((x, index, values))}
    output = g.scatter(kind, x, wrapped(index, 4), values, axis)
    (got,), _ = run_graph([output], contents, capabilities)
    np.testing.assert_array_equal(got, evaluate([output], contents)[0])


@pytest.mark.parametrize("capabilities", [CPU, BASE], ids=["cpu", "base"])
def test_bools_are_stored_and_read_back(capabilities: Capabilities) -> None:
    x, y = (g.source(Source(F32, SHAPE)) for _ in range(2))
    contents = {x.attr: small_integers(x, 1), y.attr: small_integers(y, 2)}
    less = g.map_("lt", x, y)
    every = g.reduce("and", g.store(less), [1])
    got, _ = run_graph([less, every], contents, capabilities)
    for array, expected in zip(got, evaluate([less, every], contents), strict=True):
        assert array.dtype == np.bool_
        np.testing.assert_array_equal(array, expected)


def test_one_kernel_serves_every_size_of_a_dynamic_dimension() -> None:
    n = Variable("n", 1, 64)
    x = g.source(Source(F32, (n, 5)))
    output = g.map_("add", g.map_("mul", x, x), x)
    total = g.reduce("add", x, [0])
    for size in (1, 7, 16, 64):
        contents = {x.attr: np.arange(size * 5, dtype=np.float32).reshape(size, 5)}
        got, compiled = run_graph([output, total], contents, CPU, {n: size})
        wanted = evaluate([output, total], contents)
        for array, expected in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(array, expected)
        assert len(compiled.program.launches) == 2


def test_equal_kernels_are_made_once() -> None:
    x = g.source(Source(F32, (8, 8)))
    layers = [x]
    for _ in range(3):
        layers.append(g.store(g.map_("add", g.store(g.map_("mul", layers[-1], x)), x)))
    _, compiled = run_graph([layers[-1]], {x.attr: small_integers(x, 1)}, CPU)
    assert len({id(launch.kernel) for launch in compiled.program.launches}) < len(compiled.program.launches)


def test_a_bool_source_is_read_as_a_bool() -> None:
    x = g.source(Source(BOOL, (4, 6)))
    contents = {x.attr: small_integers(x, 3)}
    output = g.map_("not", x)
    (got,), _ = run_graph([output], contents, CPU)
    np.testing.assert_array_equal(got, ~contents[x.attr])


def test_a_gather_of_what_is_computed_gives_zero_out_of_range() -> None:
    x, index = g.source(Source(I32, (6, 8))), g.source(Source(I32, (6, 8)))
    contents = {x.attr: small_integers(x, 1), index.attr: small_integers(index, 2)}
    output = g.gather(g.map_("add", x, g.const(I32, 5, x.shape)), wrapped(index, 4), 1)
    (got,), _ = run_graph([output], contents, CPU)
    np.testing.assert_array_equal(got, evaluate([output], contents)[0])


def test_a_gather_whose_index_is_a_fold_waits_for_the_fold() -> None:
    x, index = g.source(Source(I32, (6, 8))), g.source(Source(I32, (6, 8)))
    contents = {x.attr: small_integers(x, 1), index.attr: small_integers(index, 2)}
    place = g.reduce("max", index, [0, 1])
    output = g.gather(g.shrink(g.flip(x, [0]), ((0, 6), (3, 4))), place, 0)
    (got,), _ = run_graph([output], contents, CPU)
    np.testing.assert_array_equal(got, evaluate([output], contents)[0])


def test_a_scatter_along_an_axis_of_one_element_writes_it() -> None:
    x, values = g.source(Source(F32, (1, 5))), g.source(Source(F32, (1, 5)))
    contents = {x.attr: small_integers(x, 1), values.attr: small_integers(values, 2)}
    output = g.scatter("add", x, g.const(I32, 0, (1, 5)), values, 0)
    (got,), _ = run_graph([output], contents, CPU)
    np.testing.assert_array_equal(got, evaluate([output], contents)[0])


def test_a_second_fold_of_several_axes_over_tiles_of_rows_reads_its_own_places() -> None:
    x = g.source(Source(F32, (3, 64, 4)))
    total = g.reduce("add", x, [0, 2])
    output = g.reduce("max", g.map_("sub", x, g.expand(total, x.shape)), [0, 2])
    contents = {x.attr: small_integers(x, 1)}
    (got,), _ = run_graph([output], contents, CPU)
    np.testing.assert_array_equal(got, evaluate([output], contents)[0])


@pytest.mark.parametrize("columns", [16, 37])
@pytest.mark.parametrize("kind", ["set", "add", "max"])
def test_rows_that_scatter_to_the_same_places_go_in_vectors(kind: str, columns: int) -> None:
    x, values = g.source(Source(F32, (6, columns))), g.source(Source(F32, (9, columns)))
    places = g.source(Source(I32, (9, 1)))
    contents = {n.attr: small_integers(n, i) for i, n in enumerate((x, values, places))}
    output = g.scatter(kind, x, spread(places, values.shape), values, 0)
    (got,), compiled = run_graph([output], contents, CPU)
    np.testing.assert_array_equal(got, evaluate([output], contents)[0])
    assert any(instr.name == "store.vec" for instr in compiled.program.launches[0].kernel.body)
