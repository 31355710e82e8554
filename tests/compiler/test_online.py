"""Attention as one kernel: found however it is written, right at every edge, and never a matrix of all scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from portkit.compiler import graph as g
from portkit.compiler.compile import Compiled, compile_graph
from portkit.compiler.evaluate import evaluate
from portkit.compiler.extents import count, most
from portkit.compiler.graph import Node, Shape, Source
from portkit.compiler.index import Variable
from portkit.compiler.online import fold_attention, inside_attention
from portkit.compiler.plan import plan
from portkit.reference.checks import check
from portkit.spec.types import BF16, F16, F32, F64, I32, DType
from portkit.tensor import functional
from portkit.tensor.functional import scaled_dot_product_attention
from portkit.tensor.tensor import Tensor
from tests.compiler.running import BASE, CPU, run_graph

Array = NDArray[Any]
LONG_BODY = 2000
"""From here on the cpu device compiles without optimisation."""


@dataclass(frozen=True)
class Sizes:
    """Batch, queries, keys, the width of both, and the columns of the values."""

    batch: tuple[int, ...] = (2,)
    queries: int = 20
    keys: int = 33
    width: int = 8
    columns: int = 12

    def sources(self, dtype: DType = F32) -> list[Node]:
        rows = ((self.queries, self.width), (self.keys, self.width), (self.keys, self.columns))
        return [g.source(Source(dtype, (*self.batch, *r))) for r in rows]

    @property
    def scores(self) -> tuple[int, ...]:
        return (*self.batch, self.queries, self.keys)


def spread(x: Node, shape: Shape) -> Node:
    return g.expand(g.reshape(x, (*(1,) * (len(shape) - x.rank), *x.shape)), shape)


def transposed(x: Node) -> Node:
    return g.permute(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


def product(a: Node, b: Node) -> Node:
    """(..., m, k) times (..., n, k), summed over k."""
    (*batch, m, k), n = a.shape, b.shape[-2]
    full = (*batch, m, n, k)
    left = g.expand(g.reshape(a, (*batch, m, 1, k)), full)
    right = g.expand(g.reshape(b, (*batch, 1, n, k)), full)
    return g.reshape(g.reduce("add", g.map_("mul", left, right), [len(batch) + 2]), (*batch, m, n))


def softmax(s: Node) -> Node:
    axis = s.rank - 1
    powers = g.map_("exp", g.map_("sub", s, g.expand(g.reduce("max", s, [axis]), s.shape)))
    return g.map_("div", powers, g.expand(g.reduce("add", powers, [axis]), s.shape))


def scaled(s: Node, width: int) -> Node:
    return g.map_("mul", s, g.const(s.dtype, 1 / math.sqrt(width), s.shape))


def attention(inputs: Sequence[Node], finish: Callable[[Node], Node] = lambda s: s) -> Node:
    q, k, v = inputs
    return product(softmax(finish(scaled(product(q, k), most(q.shape[-1])))), transposed(v))


def causal(s: Node, ahead: int = 0) -> Node:
    """Mask the keys that come after a query's own; `ahead` keys came before the first query."""
    shape = s.shape
    rows = spread(g.reshape(g.iota(shape[-2]), (shape[-2], 1)), shape)
    rows = g.map_("add", rows, g.const(I32, ahead, shape)) if ahead else rows
    later = g.map_("lt", rows, spread(g.iota(shape[-1]), shape))
    return g.map_("where", later, g.const(s.dtype, -math.inf, shape), s)


def contents(nodes: list[Node], seed: int = 0) -> dict[Source, Array]:
    rng = np.random.default_rng(seed)
    return {n.attr: rng.standard_normal([most(i) for i in n.shape]).astype(n.dtype.numpy) for n in nodes}


def bound(sizes: Sizes, given: Mapping[Any, Array], result: DType) -> float:
    """How far two ways to compute attention in f32 may be apart: each is off by half of it.

    A score is off by u for each of its operations; its exponential relatively by as much, and by its own roundings; the
    sums over keys by u for each key; the result is rounded once more.
    """
    u = 2.0**-F32.precision
    q, k, v, *masks = (np.abs(a.astype(float)) for a in given.values())
    values = np.max(v, where=np.isfinite(v), initial=0.0)
    masked = max((np.max(m, initial=0.0, where=np.isfinite(m)) for m in masks), default=0.0)
    score = (sizes.width + 4) * u * np.max(q @ k.swapaxes(-1, -2)) + 2 * u * masked
    exponentials = 8 * u
    relative = 2 * math.expm1(score + exponentials) + 2 * (sizes.keys + 4) * u + 2.0**-result.precision
    return 2 * relative * float(values)


def judge(sizes: Sizes, output: Node, given: dict[Source, Array]) -> Compiled:
    """Check that a graph runs in one kernel on a device with vectors, with the result that it means."""
    (got,), compiled = run_graph([output], given, CPU)
    (wanted,) = evaluate([output], given)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
    error = np.nanmax(np.abs(got.astype(np.float64) - wanted.astype(np.float64)), initial=0.0)
    assert error <= bound(sizes, given, output.dtype)
    assert len(compiled.program.launches) == 1
    assert len(compiled.program.launches[0].kernel.body) < LONG_BODY
    return compiled


SHAPES = {
    "one block": Sizes((), 16, 16, 4, 4),
    "ragged everywhere": Sizes((2,), 21, 19, 7, 5),
    "several blocks of queries and keys": Sizes((), 70, 67, 4, 4),
    "batches and heads": Sizes((2, 3), 5, 18, 4, 4),
    "one column": Sizes((2,), 8, 9, 4, 1),
    "more columns than a vector": Sizes((), 5, 9, 20, 35),
}


@pytest.mark.parametrize("name", SHAPES)
def test_attention_of_any_shape_is_one_kernel(name: str) -> None:
    sizes = SHAPES[name]
    inputs = sizes.sources()
    judge(sizes, attention(inputs), contents(inputs))


def test_causal_attention_is_one_kernel() -> None:
    sizes = Sizes((2,), 40, 40)
    inputs = sizes.sources()
    judge(sizes, attention(inputs, causal), contents(inputs))


@pytest.mark.parametrize("ahead", [-3, 0, 60, 300])
def test_causal_attention_reads_no_keys_of_blocks_that_all_its_queries_may_not_see(ahead: int) -> None:
    sizes = Sizes((), 70, 200, 4, 20)
    inputs = sizes.sources()
    judge(sizes, attention(inputs, lambda s: causal(s, ahead)), contents(inputs))


def test_an_infinite_value_of_a_key_that_is_masked_everywhere_still_spoils_its_column() -> None:
    sizes = Sizes((), 70, 200, 4, 20)
    inputs = sizes.sources()
    given = contents(inputs)
    given[inputs[2].attr][[150, 199], [3, 17]] = np.inf, np.nan
    judge(sizes, attention(inputs, causal), given)


def test_an_additive_mask_with_infinities_is_read_in_the_kernel() -> None:
    sizes = Sizes((2,), 20, 70)
    inputs = [*sizes.sources(), g.source(Source(F32, (20, 70)))]
    given = contents(inputs)
    given[inputs[3].attr][np.random.default_rng(1).random((20, 70)) < 0.4] = -np.inf
    mask = spread(inputs[3], sizes.scores)
    judge(sizes, attention(inputs[:3], lambda s: g.map_("add", s, mask)), given)


def test_a_row_whose_first_keys_are_all_masked_waits_for_the_first_one_that_is_not() -> None:
    sizes = Sizes((), 16, 150)
    inputs = [*sizes.sources(), g.source(Source(F32, sizes.scores))]
    given = contents(inputs)
    given[inputs[3].attr][:, :140] = -np.inf
    judge(sizes, attention(inputs[:3], lambda s: g.map_("add", s, inputs[3])), given)


def test_a_row_that_may_attend_to_nothing_is_nan_and_the_others_are_not() -> None:
    sizes = Sizes((), 16, 70)
    inputs = [*sizes.sources(), g.source(Source(F32, sizes.scores))]
    given = contents(inputs)
    given[inputs[3].attr][3] = -np.inf
    output = attention(inputs[:3], lambda s: g.map_("add", s, inputs[3]))
    judge(sizes, output, given)
    assert np.isnan(evaluate([output], given)[0]).any(axis=1).sum() == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_no_number_spoils_its_row_only(value: float) -> None:
    sizes = Sizes((), 16, 70)
    inputs = [*sizes.sources(), g.source(Source(F32, sizes.scores))]
    given = contents(inputs)
    given[inputs[3].attr][5, 66] = value
    judge(sizes, attention(inputs[:3], lambda s: g.map_("add", s, inputs[3])), given)


def test_scores_far_apart_underflow_to_no_weight() -> None:
    sizes = Sizes((), 16, 70)
    inputs = [*sizes.sources(), g.source(Source(F32, sizes.scores))]
    given = contents(inputs)
    given[inputs[3].attr] *= 100
    judge(sizes, attention(inputs[:3], lambda s: g.map_("add", s, inputs[3])), given)


@pytest.mark.parametrize("dtype", [F16, BF16])
def test_narrow_floats_are_computed_in_f32_and_rounded_once(dtype: DType) -> None:
    sizes = Sizes()
    inputs = sizes.sources(dtype)
    output = g.cast(attention([g.cast(n, F32) for n in inputs]), dtype)
    judge(sizes, output, contents(inputs))


def test_weights_that_pass_through_a_narrower_dtype_are_not_rounded_to_it() -> None:
    sizes = Sizes()
    q, k, v = inputs = sizes.sources()
    weights = g.cast(g.cast(softmax(product(q, k)), F16), F32)
    given = contents(inputs)
    (got,), compiled = run_graph([product(weights, transposed(v))], given, CPU)
    assert len(compiled.program.launches) == 1
    (unrounded,) = evaluate([product(softmax(product(q, k)), transposed(v))], given)
    assert np.max(np.abs(got - unrounded)) <= bound(sizes, given, F32)


@pytest.mark.parametrize("finish", [lambda s: s, causal], ids=["plain", "causal"])
def test_lengths_that_only_a_run_knows_take_one_kernel_for_all(finish: Callable[[Node], Node]) -> None:
    rows, columns = Variable("rows", 1, 80), Variable("columns", 1, 130)
    shapes = ((2, rows, 4), (2, columns, 4), (2, columns, 20))
    inputs = [g.source(Source(F32, shape)) for shape in shapes]
    output = attention(inputs, finish)
    for n, m in ((80, 130), (33, 65), (1, 1)):
        sizes = Sizes((2,), n, m, 4, 20)
        arrays = [contents([x])[x.attr] for x in sizes.sources()]
        given = dict(zip((i.attr for i in inputs), arrays, strict=True))
        (got,), compiled = run_graph([output], given, CPU, {rows: n, columns: m})
        assert len(compiled.program.launches) == 1
        assert np.max(np.abs(got - evaluate([output], given)[0])) <= bound(sizes, given, F32)


def test_attention_in_f64_is_as_precise_as_f64() -> None:
    inputs = Sizes().sources(F64)
    given = contents(inputs)
    output = attention(inputs)
    (got,), compiled = run_graph([output], given, CPU)
    assert len(compiled.program.launches) == 1
    unit = 2.0**-F32.precision
    assert np.max(np.abs(got - evaluate([output], given)[0])) < unit**1.5  # f32 anywhere would leave an error of a unit


def test_heads_of_queries_that_share_keys_run_together() -> None:
    sizes = Sizes((3,), 5, 18, 8, 4)
    q, k, v = sizes.sources()
    shared = [g.source(Source(F32, n.shape[1:])) for n in (k, v)]
    given = contents([q, *shared])
    repeated = [g.expand(g.reshape(n, (1, *n.shape)), (3, *n.shape)) for n in shared]
    judge(sizes, attention([q, *repeated]), given)


def test_keys_and_values_that_are_computed_are_computed_once_for_each_block() -> None:
    sizes = Sizes()
    q, k, v = sizes.sources()
    flipped = g.map_("add", g.flip(k, (2,)), k)
    judge(sizes, attention([q, flipped, g.map_("mul", v, v)]), contents([q, k, v]))


def test_what_follows_elementwise_is_part_of_the_kernel() -> None:
    sizes = Sizes()
    inputs = sizes.sources()
    rest = g.source(Source(F32, (2, 20, 12)))
    output = g.map_("add", g.map_("mul", attention(inputs), rest), rest)
    judge(sizes, output, contents([*inputs, rest]))


def test_a_result_with_heads_inside_is_stored_where_it_belongs() -> None:
    sizes = Sizes((3,), 20, 18, 4, 8)
    inputs = sizes.sources()
    judge(sizes, g.permute(attention(inputs), (1, 0, 2)), contents(inputs))
    judge(sizes, transposed(attention(inputs)), contents(inputs))


def test_weights_as_a_product_with_the_inverse_of_the_sum_are_found_too() -> None:
    sizes = Sizes()
    q, k, v = inputs = sizes.sources()
    s = product(q, k)
    powers = g.map_("exp", g.map_("sub", s, g.expand(g.reduce("max", s, [2]), s.shape)))
    inverse = g.map_("recip", g.reduce("add", powers, [2]))
    weights = g.map_("mul", g.expand(inverse, s.shape), powers)
    judge(sizes, product(weights, transposed(v)), contents(inputs))


def test_weights_that_are_needed_elsewhere_stay_in_memory() -> None:
    q, k, v = inputs = Sizes((), 20, 20, 8, 8).sources()
    weights = softmax(product(q, k))
    outputs = [product(weights, transposed(v)), g.reduce("max", weights, [0])]
    given = contents(inputs)
    got, compiled = run_graph(outputs, given, CPU)
    assert len(compiled.program.launches) > 1
    sizes = Sizes((), 20, 20, 8, 8)
    for result, wanted in zip(got, evaluate(outputs, given), strict=True):
        assert np.max(np.abs(result - wanted)) <= bound(sizes, given, F32)


def test_a_softmax_along_another_axis_than_the_sum_is_not_attention() -> None:
    q, k, v = inputs = Sizes((), 20, 20, 8, 8).sources()
    weights = transposed(softmax(product(q, k)))
    folded = fold_attention([product(weights, transposed(v))], CPU.limits.shared_bytes)
    assert inside_attention(folded) == frozenset()
    assert all(n.attr[0] != "attend" for n in g.topological(folded) if n.op == "reduce")
    assert len(inputs) == 3


def test_a_device_without_vectors_computes_attention_in_steps() -> None:
    sizes = Sizes((), 6, 7, 4, 5)
    inputs = sizes.sources()
    given = contents(inputs)
    (got,), compiled = run_graph([attention(inputs)], given, BASE)
    assert len(compiled.program.launches) > 1
    assert np.max(np.abs(got - evaluate([attention(inputs)], given)[0])) <= bound(sizes, given, F32)


def test_a_device_with_few_buffers_and_little_shared_memory_keeps_operands_first() -> None:
    few = replace(CPU, limits=replace(CPU.limits, buffers=8, shared_bytes=1 << 14))
    sizes = Sizes()
    pairs = [sizes.sources(), sizes.sources()]
    masks = [g.source(Source(F32, sizes.scores)) for _ in range(3)]
    given = contents([*pairs[0], *pairs[1], *masks])
    inputs = [g.map_("max", a, b) for a, b in zip(*pairs, strict=True)]
    mask = g.map_("min", g.map_("max", masks[0], masks[1]), masks[2])
    output = attention(inputs, lambda s: g.map_("add", s, mask))
    (got,), compiled = run_graph([output], given, few)
    assert max(len(launch.buffers) for launch in compiled.program.launches) <= 8
    assert any(f.attr[0] == "attend" for nest in compiled.nests for f in nest.folds)
    known = dict(enumerate(evaluate([*inputs, mask], given)))
    assert np.max(np.abs(got - evaluate([output], given)[0])) <= bound(sizes, known, F32)


@pytest.mark.parametrize("lanes", [(2,), (2, 4, 8)])
def test_a_device_with_vectors_but_nothing_else_beyond_the_base_runs_it_in_one_kernel(lanes: tuple[int, ...]) -> None:
    plain = replace(BASE, extensions=("vec",), lanes=lanes)
    sizes = Sizes((), 21, 30)
    inputs = sizes.sources()
    given = contents(inputs)
    (got,), compiled = run_graph([attention(inputs, causal)], given, plain)
    assert len(compiled.program.launches) == 1
    assert np.max(np.abs(got - evaluate([attention(inputs, causal)], given)[0])) <= bound(sizes, given, F32)


TENSORS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "plain": lambda q, k, v: scaled_dot_product_attention(q, k, v),
    "causal": lambda q, k, v: scaled_dot_product_attention(q, k, v, causal=True),
    "scaled": lambda q, k, v: scaled_dot_product_attention(q, k, v, scale=0.3),
    "mask to add": lambda q, k, v: scaled_dot_product_attention(q, k, v, mask=Tensor(np.ones((20, 33), np.float32))),
    "mask of truths": lambda q, k, v: scaled_dot_product_attention(q, k, v, mask=Tensor(np.ones((20, 33), np.bool_))),
    "fewer heads of keys": lambda q, k, v: scaled_dot_product_attention(q, k[:, :2], v[:, :2]),
    "one head of keys": lambda q, k, v: scaled_dot_product_attention(q, k[:, :1], v[:, :1]),
    "by hand": lambda q, k, v: functional.softmax(q @ k.transpose(-1, -2) * 0.5) @ v,
    "f16 by hand": lambda q, k, v: functional.softmax(q.cast(F16) @ k.cast(F16).transpose(-1, -2)) @ v.cast(F16),
}


@pytest.mark.parametrize("name", TENSORS)
def test_attention_of_tensors_is_one_kernel(name: str) -> None:
    q, k, v = (Tensor(np.ones((2, 4, n, 8), np.float32)) for n in (20, 33, 33))
    program = compile_graph([TENSORS[name](q, k, v).node], CPU).program
    assert len(program.launches) == 1
    assert all(slot.role != "temporary" for slot in program.slots)


def test_a_device_with_many_workers_splits_no_part_of_it() -> None:
    many = replace(CPU, tuning=replace(CPU.tuning, workers=256))
    output = attention(Sizes((), 64, 2048, 16, 16).sources())
    assert len(compile_graph([output], many).program.launches) == 1


@pytest.mark.parametrize("finish", [lambda s: s, causal], ids=["plain", "causal"])
def test_no_matrix_of_all_scores_is_planned_for_a_thousand_positions(finish: Callable[[Node], Node]) -> None:
    positions = 1024
    sizes = Sizes((8,), positions, positions, 64, 64)
    program = compile_graph([attention(sizes.sources(), finish)], CPU).program
    assert len(program.launches) == 1
    assert all(count(slot.shape) < positions * positions for slot in program.slots)
    assert plan(program).arena_bytes == 0
    shared = sum(s.extent * s.dtype.bytes for s in program.launches[0].kernel.shared)
    assert shared < positions * positions


def test_layers_of_attention_are_a_kernel_each() -> None:
    q, k, v = Sizes((), 20, 20, 8, 8).sources()
    first = attention([q, k, v])
    program = compile_graph([attention([first, k, first])], CPU).program
    assert len(program.launches) == 2


def test_the_kernel_is_valid_on_its_inputs() -> None:
    sizes = Sizes((), 21, 35, 4, 5)
    inputs = sizes.sources()
    kernel = compile_graph([attention(inputs, causal)], CPU).program.launches[0].kernel
    arrays = [*contents(inputs).values(), np.zeros((21, 5), np.float32)]
    check(kernel, {}, {b.name: a.ravel() for b, a in zip(kernel.buffers, arrays, strict=True)})
