"""Contractions in tiles: every shape, layout, prologue and epilogue gives what the graph means, to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product as pairs
from typing import Any

import msgspec
import numpy as np
import pytest

from portkit.backends.cpu import BACKEND
from portkit.compiler import graph as g
from portkit.compiler import tiling
from portkit.compiler.evaluate import evaluate
from portkit.compiler.generate import generate
from portkit.compiler.graph import Node, Source
from portkit.compiler.index import Expr, Variable
from portkit.compiler.schedule import RowSchedule
from portkit.compiler.tiles import TileSchedule, check_tiles
from portkit.compiler.tiling import choose_tiles, schedule_tiles
from portkit.contract import Tuning
from portkit.errors import UsageError
from portkit.spec.types import BF16, F16, F32, F64, I32
from tests.compiler.contracting import (
    CPU,
    Runner,
    checked,
    convolution,
    dynamic_integers,
    extents,
    integers,
    only_nest,
    product,
    source,
    turned,
)
from tests.compiler.running import run_graph


@pytest.fixture(scope="module")
def cpu() -> Iterator[Runner]:
    device = BACKEND.open()
    yield Runner(device)
    device.close()


def judge(cpu: Runner, outputs: list[Node], inputs: list[Node], kernels: int = 1) -> None:
    """See that a graph runs in tiles, in that many kernels, and gives exactly what it means on small integers."""
    contents = integers(inputs)
    got, compiled = cpu.run(outputs, contents)
    assert len(compiled.generated) == kernels
    assert any(isinstance(made.schedule, TileSchedule) for made in compiled.generated)
    for array, expected in zip(got, evaluate(outputs, contents), strict=True):
        np.testing.assert_array_equal(array, expected)


# --- shapes and layouts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("x_turned", "y_turned"), list(pairs([False, True], repeat=2)))
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [(64, 64, 64), (33, 50, 41), (4, 300, 129), (300, 5, 129), (100, 100, 7), (37, 53, 1001), (129, 260, 33)],
)
def test_a_product_of_any_shape_and_layout(cpu: Runner, m: int, n: int, k: int, x_turned: bool, y_turned: bool) -> None:
    x = source(*((k, m) if x_turned else (m, k)))
    y = source(*((n, k) if y_turned else (k, n)))
    judge(cpu, [product(turned(x) if x_turned else x, turned(y) if y_turned else y)], [x, y])


@pytest.mark.parametrize("dtype", [F64, F16, BF16, I32])
@pytest.mark.parametrize("y_turned", [False, True])
def test_a_product_of_every_dtype_with_a_wide_accumulator(cpu: Runner, dtype: Any, y_turned: bool) -> None:
    x, y = source(45, 70, dtype=dtype), source(*((37, 70) if y_turned else (70, 37)), dtype=dtype)
    wide = F32 if dtype.bits == 16 else dtype
    judge(cpu, [g.cast(product(x, turned(y) if y_turned else y, wide), dtype)], [x, y])


@pytest.mark.parametrize(("rows", "columns"), [((3,), (3,)), ((3,), (1,)), ((1, 2), (3, 1))])
def test_a_batch_of_products(cpu: Runner, rows: tuple[int, ...], columns: tuple[int, ...]) -> None:
    x, y = source(*rows, 33, 40), source(*columns, 40, 50)
    judge(cpu, [product(x, y)], [x, y])


@pytest.mark.parametrize("y_turned", [False, True])
def test_a_sum_that_is_longer_than_a_panel(cpu: Runner, y_turned: bool) -> None:
    x, y = source(20, 9001), source(*((40, 9001) if y_turned else (9001, 40)))
    judge(cpu, [product(x, turned(y) if y_turned else y)], [x, y])


@pytest.mark.parametrize(
    ("shape", "weights", "step", "padding"),
    [
        ((2, 8, 14, 14), (16, 8, 3, 3), 1, 1),
        ((1, 16, 28, 28), (32, 16, 3, 3), 2, 1),
        ((2, 8, 20, 20), (8, 8, 5, 5), 1, 2),
        ((3, 16, 7, 7), (16, 16, 3, 3), 1, 1),
        ((2, 8, 33, 33), (8, 8, 1, 1), 1, 0),
        ((1, 3, 40, 40), (16, 3, 7, 7), 2, 3),
    ],
)
def test_a_convolution_is_an_implicit_product(
    cpu: Runner, shape: tuple[int, ...], weights: tuple[int, ...], step: int, padding: int
) -> None:
    x, w = source(*shape), source(*weights)
    judge(cpu, [convolution(x, w, step, padding)], [x, w])


def test_a_long_run_of_columns_is_cut_along_the_sum(cpu: Runner) -> None:
    x, w = source(1, 40, 5, 1500), source(4, 40, 3, 3)
    judge(cpu, [convolution(x, w)], [x, w])


DYNAMIC: dict[str, tuple[tuple[int | str, ...], tuple[int | str, ...]]] = {
    "rows": (("n", 40), (40, 70)),
    "columns": ((45, 40), (40, "n")),
    "a batch": (("n", 45, 40), (1, 40, 70)),
    "rows of a batch": ((3, "n", 40), (3, 40, 70)),
    "rows and their batch": (("n", "m", 40), (1, 40, 70)),
}


@pytest.mark.parametrize("shapes", DYNAMIC.values(), ids=DYNAMIC.keys())
def test_one_kernel_serves_every_size_of_a_dimension(shapes: tuple[tuple[int | str, ...], ...]) -> None:
    variables = {"n": Variable("n", 0, 100), "m": Variable("m", 1, 9)}
    x, y = (g.source(Source(F32, tuple(variables[e] if isinstance(e, str) else e for e in shape))) for shape in shapes)
    output = relu(product(x, y))
    for sizes in ((1, 7), (33, 1), (100, 9), (0, 3)):
        known: dict[Expr, int] = dict(zip(variables.values(), sizes, strict=True))
        contents = dynamic_integers([x, y], known)
        (got,), compiled = run_graph([output], contents, CPU, known)
        assert isinstance(compiled.generated[0].schedule, TileSchedule)
        a, b = (contents[n.attr] for n in (x, y))
        np.testing.assert_array_equal(got, np.maximum(a @ b, 0))


# --- what is fused ----------------------------------------------------------------------------------------------------


def spread(x: Node, shape: tuple[int, ...]) -> Node:
    return g.expand(g.reshape(x, (1,) * (len(shape) - x.rank) + x.shape), shape)


def relu(x: Node) -> Node:
    return g.map_("max", x, g.const(x.dtype, 0, x.shape))


EPILOGUES: dict[str, Callable[[Node, Node, Node], list[Node]]] = {
    "bias": lambda y, bias, _: [g.map_("add", y, spread(bias, (45, 70)))],
    "bias of rows": lambda y, _, r: [g.map_("add", y, g.expand(g.shrink(r, ((0, 45), (3, 4))), (45, 70)))],
    "activation": lambda y, *_: [relu(y)],
    "residual": lambda y, _, residual: [relu(g.map_("add", y, residual))],
    "cast": lambda y, *_: [g.cast(y, F16)],
    "comparison": lambda y, *_: [g.map_("lt", y, g.const(F32, 1.0, (45, 70)))],
    "transpose": lambda y, *_: [g.store(g.permute(y, (1, 0)))],
    "two outputs": lambda y, bias, _: [y, relu(g.map_("add", y, spread(bias, (45, 70))))],
    "a padded output": lambda y, *_: [g.store(g.pad(y, ((0, 0), (0, 0))))],
}


@pytest.mark.parametrize("build", EPILOGUES.values(), ids=EPILOGUES.keys())
def test_what_follows_a_product_runs_on_its_tiles(cpu: Runner, build: Callable[..., list[Node]]) -> None:
    x, w, bias, residual = source(45, 40), source(40, 70), source(70), source(45, 70)
    outputs = build(product(x, w), bias, residual)
    used = {n for n in g.topological(outputs) if n.op == "source"}
    judge(cpu, outputs, [n for n in (x, w, bias, residual) if n in used])


def test_a_long_sum_with_an_epilogue(cpu: Runner) -> None:
    x, w, bias = source(20, 9001), source(9001, 40), source(40)
    judge(cpu, [relu(g.map_("add", product(x, w), spread(bias, (20, 40))))], [x, w, bias])


def test_what_comes_before_a_product_runs_in_its_packing(cpu: Runner) -> None:
    x, shift, w = source(45, 40), source(40), source(70, 40, dtype=I32)
    left = relu(g.map_("add", x, spread(shift, (45, 40))))
    right = g.map_("neg", g.cast(w, F32))
    judge(cpu, [product(left, turned(right))], [x, shift, w])


def test_an_operand_in_parts_with_zeros_around_them(cpu: Runner) -> None:
    x, w = source(30, 39), source(40, 70)
    left = g.pad(x, ((7, 8), (1, 0)))
    judge(cpu, [product(left, w)], [x, w])


def test_rows_gathered_by_number(cpu: Runner) -> None:
    table, numbers, w = source(9, 40), source(45, dtype=I32), source(40, 70)
    index = g.expand(g.reshape(numbers, (45, 1)), (45, 40))
    judge(cpu, [product(g.gather(table, index, 0), w)], [table, numbers, w])


def test_random_operands_stay_within_the_bound_of_a_sum_in_any_order(cpu: Runner) -> None:
    x, w = source(64, 300), source(300, 70)
    rng = np.random.default_rng(7)
    a, b = (rng.standard_normal(extents(n)).astype(np.float32) for n in (x, w))
    (got,), _ = cpu.run([product(x, w)], {x.attr: a, w.attr: b})
    exact = a.astype(np.float64) @ b.astype(np.float64)
    unit = 300 * np.finfo(np.float32).eps / 2
    assert (np.abs(got - exact) <= unit / (1 - unit) * (np.abs(a) @ np.abs(b)).astype(np.float64)).all()


# --- when rows are better ---------------------------------------------------------------------------------------------


def scheduled(output: Node) -> object:
    return generate(only_nest([output]), CPU).schedule


def test_a_small_product_is_computed_by_rows() -> None:
    assert isinstance(scheduled(product(source(16, 16), source(16, 16))), RowSchedule)


def test_a_product_with_a_vector_is_computed_by_rows() -> None:
    assert isinstance(scheduled(product(source(512, 512), source(512, 1))), RowSchedule)


def test_a_sum_over_a_dynamic_dimension_is_computed_by_rows() -> None:
    k = Variable("k", 1, 512)
    x, y = g.source(Source(F32, (64, k))), g.source(Source(F32, (64, k)))
    assert schedule_tiles(only_nest([product(x, turned(y))]), CPU) is None


def test_a_device_without_vectors_computes_by_rows() -> None:
    bare = msgspec.structs.replace(CPU, extensions=())
    assert schedule_tiles(only_nest([product(source(64, 64), source(64, 64))]), bare) is None


# --- schedules --------------------------------------------------------------------------------------------------------


def small(monkeypatch: pytest.MonkeyPatch, output: Node, lanes: int = 4) -> TileSchedule:
    """Return the heuristic's schedule of a small product for a device with short vectors and few registers."""
    monkeypatch.setattr(tiling, "LEAST_WORK", 1)
    tuning = Tuning(workers=2, vector_bytes=4 * lanes, vector_registers=16, cache_bytes=(1024, 4096))
    device = msgspec.structs.replace(CPU, lanes=(2, lanes), tuning=tuning)
    found = schedule_tiles(only_nest([output], device), device)
    assert found is not None
    return found[1]


CHANGES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "one row": {"rows": 1, "group": 1, "row_block": 5},
    "one vector": {"vectors": 1, "panel": 12, "stride": 12},
    "blocks of the sum": {"depth": 3, "unroll": 2},
    "one block of rows": {"row_block": 1 << 6},
    "rows packed along the sum": {"left": "along k"},
    "rows packed side by side": {"left": "along m"},
    "in place": {"right": "direct"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize(("m", "n", "k"), [(8, 16, 8), (7, 13, 10)])
def test_every_legal_schedule_is_valid_and_gives_the_same(
    monkeypatch: pytest.MonkeyPatch, m: int, n: int, k: int, change: dict[str, Any]
) -> None:
    x, y = source(m, k), source(k, n)
    outputs, contents = [relu(product(x, y))], integers([x, y])
    schedule = replace(small(monkeypatch, outputs[0]), **change)
    (got,), _ = checked(outputs, contents, schedule)
    np.testing.assert_array_equal(got, evaluate(outputs, contents)[0])


@pytest.mark.parametrize("padding", [0, 1])
def test_the_kernel_of_a_convolution_is_valid(monkeypatch: pytest.MonkeyPatch, padding: int) -> None:
    x, w = source(1, 2, 6, 6), source(4, 2, 3, 3)
    outputs, contents = [convolution(x, w, 1, padding)], integers([x, w])
    found = small(monkeypatch, outputs[0])
    length = 4 + 2 * padding
    schedule = replace(found, swapped=True, columns=2, right="runs", panel=2 * length, stride=32)
    (got,), _ = checked(outputs, contents, schedule)
    np.testing.assert_array_equal(got, evaluate(outputs, contents)[0])


@pytest.mark.parametrize("depth", [6, 12, 24])
def test_rows_are_packed_in_runs_of_the_sum(monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    x, y = source(4, 4, 5), source(7, 4, 6)
    left = g.expand(g.reshape(g.pad(x, ((0, 0), (0, 0), (1, 0))), (4, 1, 4, 6)), (4, 7, 4, 6))
    right = g.expand(g.reshape(y, (1, 7, 4, 6)), (4, 7, 4, 6))
    outputs, contents = [g.reduce("add", g.map_("mul", left, right), [2, 3])], integers([x, y])
    found = small(monkeypatch, outputs[0])
    schedule = replace(found, swapped=False, left="runs", right="columns", depth=depth, row_block=found.group * 4)
    (got,), _ = checked(outputs, contents, schedule)
    np.testing.assert_array_equal(got.reshape(4, 7), evaluate(outputs, contents)[0].reshape(4, 7))


def test_a_schedule_is_read_back_as_it_was_written() -> None:
    found = schedule_tiles(only_nest([product(source(64, 64), source(64, 64))]), CPU)
    assert found is not None
    assert msgspec.json.decode(msgspec.json.encode(found[1]), type=TileSchedule) == found[1]


def test_a_schedule_for_what_is_no_contraction_is_refused() -> None:
    found = schedule_tiles(only_nest([product(source(64, 64), source(64, 64))]), CPU)
    assert found is not None
    with pytest.raises(UsageError, match="no contraction"):
        choose_tiles(only_nest([relu(source(64, 64))]), CPU, found[1])


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no rows": ({"rows": 0}, "has a 0"),
    "lanes": ({"lanes": 3}, "3 lanes are not declared"),
    "groups": ({"rows": 3, "group": 4, "row_block": 12}, "no whole tiles of 3"),
    "row blocks": ({"rows": 3, "group": 3, "row_block": 4}, "no whole groups"),
    "stride": ({"stride": 1}, "do not hold a panel"),
    "panels": ({"panel": 17}, "no multiple"),
    "steps": ({"depth": 65}, "longer than the sum"),
    "runs": ({"right": "runs"}, "one axis has no runs"),
    "memory": ({"right": "columns", "stride": 1 << 20}, "bytes of shared memory"),
}


@pytest.mark.parametrize(("change", "reason"), WRONG.values(), ids=WRONG.keys())
def test_a_schedule_that_does_not_fit_is_refused_with_the_reason(change: dict[str, Any], reason: str) -> None:
    found = schedule_tiles(only_nest([product(source(64, 64), source(64, 64))]), CPU)
    assert found is not None
    with pytest.raises(UsageError, match=reason):
        check_tiles(found[0], replace(found[1], **change), CPU)


def test_a_factor_that_is_computed_cannot_be_read_in_place() -> None:
    found = schedule_tiles(only_nest([product(relu(source(64, 64)), relu(source(64, 64)))]), CPU)
    assert found is not None
    with pytest.raises(UsageError, match="left factor is not stored evenly"):
        check_tiles(found[0], replace(found[1], left="direct"), CPU)
    with pytest.raises(UsageError, match="right factor is not contiguous"):
        check_tiles(found[0], replace(found[1], right="direct"), CPU)
