"""What a graph admits: whatever a device that keeps its promises may compute lies inside, and nothing beyond."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from portkit.compiler import graph
from portkit.compiler.evaluate import evaluate
from portkit.compiler.features import BASE as NO_FEATURES
from portkit.compiler.functions import FUNCTIONS
from portkit.compiler.graph import Node, Source, map_
from portkit.conformance.cases.tensor_fuzz import random_graph
from portkit.conformance.cases.tensorcase import Input, trial_of
from portkit.conformance.graph_bounds import graph_bounds
from portkit.conformance.graph_functions import Function, apply
from portkit.reference.acceptance import Acceptance
from portkit.reference.bounds import NumericModel
from portkit.reference.planes import Choices, Interval, interval
from portkit.reference.ulp import next_down, next_up, ordinal
from portkit.spec.types import BOOL, F16, F32, F64, I32, DType
from portkit.tensor.base import source_of
from tests.fakes.host import BASE, CPU

IEEE = NumericModel()
Array = np.ndarray[Any, Any]


def bounds(*outputs: Node, model: NumericModel = IEEE, capabilities: Any = BASE) -> list[Acceptance]:
    return graph_bounds(outputs, trial_of(outputs, BASE).contents, capabilities, model)


def floats(*values: float, dtype: DType = F32) -> Node:
    return source_of(np.array(values, dtype.numpy))


def random(*shape: int, dtype: str = "f32", seed: str = "", holds: str = "unit") -> Node:
    return source_of(Input(shape, dtype, holds).contents(f"{shape}{seed}"))


def test_a_tensor_without_axes_is_bounded_as_any_other() -> None:
    five = graph.reshape(source_of(np.array([17], np.int32)), ())
    (found,) = bounds(graph.cast(map_("imod", five, graph.const(I32, 5, ())), F32))
    assert [bool(found.accepts(np.array([x], np.float32))) for x in (2, 3)] == [True, False]


# --- soundness ----------------------------------------------------------------------------------------------------


def reversed_sums(outputs: Sequence[Node]) -> list[Node]:
    """Return a graph whose folds take their terms in the opposite order, and in two steps where they have two axes."""
    new: dict[Node, Node] = {}
    for node in graph.topological(outputs):
        made = graph.with_inputs(node, tuple(new[x] for x in node.inputs))
        if made.op == "reduce":
            kind, axes = made.attr
            made = made.inputs[0]
            for axis in axes:
                made = graph.reduce(kind, graph.flip(made, [axis]), [axis])
        new[node] = made
    return [new[node] for node in outputs]


@pytest.mark.parametrize("seed", range(0, 24, 2))
def test_a_random_graph_lies_inside_its_bounds_however_its_sums_are_ordered(seed: int) -> None:
    nodes = random_graph(seed)
    contents = trial_of(nodes, BASE).contents
    accepted = graph_bounds(nodes, contents, BASE, IEEE)
    for outputs in (list(nodes), reversed_sums(nodes)):
        for actual, admitted in zip(evaluate(outputs, contents), accepted, strict=True):
            assert admitted.accepts(actual.reshape(-1)).all()


@pytest.mark.parametrize("seed", range(0, 24, 6))
def test_the_float_next_to_what_a_random_graph_admits_is_refused(seed: int) -> None:
    for admitted in bounds(*random_graph(seed)):
        closed = np.isfinite(admitted.lo) & np.isfinite(admitted.hi)
        assert closed.any()
        assert not admitted.accepts(next_up(admitted.hi, F32))[closed].any()
        assert not admitted.accepts(next_down(admitted.lo, F32))[closed].any()


_REAL = [f for f in FUNCTIONS.values() if "f32" in f.dtypes and f.name not in ("bits", "cast", "where")]


def _interval(rng: np.random.Generator, dtype: DType, count: int) -> tuple[Interval, Array]:
    """Return intervals of every width and, for each, a float inside."""
    middle = (rng.standard_normal(count) * 10.0 ** rng.integers(-3, 3, count)).astype(dtype.numpy)
    width = 10.0 ** rng.integers(-7, 1, count)
    a, b = (middle * (1 + s * width) for s in (-1, 1))
    lo, hi = np.minimum(a, b).astype(dtype.numpy), np.maximum(a, b).astype(dtype.numpy)
    share = rng.random(count)
    inside = (lo + (hi.astype(np.float64) - lo) * share).astype(dtype.numpy)
    return Interval(lo, hi, np.zeros(count, np.bool_)), np.clip(inside, lo, hi)


@pytest.mark.parametrize("dtype", [F32, F16, F64], ids=str)
@pytest.mark.parametrize("function", _REAL, ids=lambda f: f.name)
def test_a_function_of_floats_inside_intervals_lies_inside_its_result(function: Any, dtype: DType) -> None:
    rng = np.random.default_rng(len(function.name))
    sets, members = zip(*(_interval(rng, dtype, 2000) for _ in range(function.arity)), strict=True)
    result = BOOL if function.result == "bool" else dtype
    f = Function(function.name, (dtype,) * function.arity, result, NO_FEATURES, IEEE)
    with np.errstate(all="ignore"):
        admitted, value = apply(f, *sets), f.plain(*members)
        if isinstance(admitted, Choices):
            assert np.logical_or.reduce([option == value for option in admitted.alternatives]).all()
        elif result is not BOOL:
            found = interval(admitted)
            inside = (ordinal(found.lo) <= ordinal(value)) & (ordinal(value) <= ordinal(found.hi))
            assert np.where(np.isnan(value), found.nan, inside).all()


# --- exactness ----------------------------------------------------------------------------------------------------


def determined(accepted: Acceptance, wanted: Sequence[Any]) -> bool:
    return bool(accepted.determined.all()) and accepted.lo.tolist() == list(wanted)


def test_a_sum_of_two_floats_is_rounded_once() -> None:
    x, y = floats(1.0, 2.0**24), floats(2.0**-24, 1.0)
    assert determined(bounds(map_("add", x, y))[0], [1.0, 2.0**24])


def test_integers_are_exact_through_every_operation() -> None:
    x = source_of(np.arange(-6, 6, dtype=np.int32).reshape(3, 4))
    total = graph.reduce("add", map_("mul", x, x), [1])
    assert determined(bounds(graph.scan("add", total, 0))[0], [86, 92, 146])


def test_a_sum_that_no_order_rounds_is_exact() -> None:
    accepted = bounds(graph.reduce("add", random(40, holds="small"), [0]))[0]
    assert accepted.determined.all()


def test_a_sum_of_random_floats_is_open_by_the_error_of_any_order() -> None:
    accepted = bounds(graph.reduce("add", random(40), [0]))[0]
    assert not accepted.determined.any()
    assert float(accepted.hi[0] - accepted.lo[0]) < 40 * 40 * 2.0**-23


def test_a_product_that_is_summed_may_be_exact_or_rounded() -> None:
    x = floats(1.0 + 2.0**-23, -1.0)
    accepted = bounds(graph.reduce("add", map_("mul", x, floats(1.0 + 2.0**-23, 1.0)), [0]))[0]
    assert accepted.accepts(np.array([2.0**-22], np.float32)).all()  # rounded
    assert accepted.accepts(np.array([2.0**-22 + 2.0**-46], np.float32)).all()  # exact


def test_a_product_that_is_not_summed_is_rounded() -> None:
    x = floats(1.0 + 2.0**-23)
    assert bounds(map_("mul", x, x))[0].determined.all()


def test_a_half_precision_sum_is_accumulated_in_single_and_rounded_once() -> None:
    x = source_of(np.full(4096, 0.5, np.float16))
    assert determined(bounds(graph.reduce("add", x, [0]))[0], [2048.0])


# --- what is not known --------------------------------------------------------------------------------------------


def test_a_comparison_of_open_values_leaves_both_outcomes() -> None:
    total = graph.reduce("add", random(40), [0])
    half = graph.const(F32, float(evaluate([total], trial_of([total], BASE).contents)[0][0]), (1,))
    accepted = bounds(map_("lt", total, half))[0]
    assert accepted.accepts(np.array([True])).all()
    assert accepted.accepts(np.array([False])).all()


def test_what_is_gathered_at_an_open_place_is_not_claimed() -> None:
    total = graph.reduce("add", random(40), [0])
    place = graph.cast(map_("mul", total, graph.const(F32, 2.0**20, (1,))), I32)
    accepted = bounds(graph.gather(random(7), place, 0))[0]
    assert accepted.ill_conditioned.all()


def test_a_function_with_a_bound_admits_that_and_no_more() -> None:
    accepted = bounds(map_("exp", floats(1.0)))[0]
    exact = np.array([np.e], np.float32)
    assert accepted.accepts(exact).all()
    assert not accepted.accepts(exact + 4 * np.spacing(exact)).any()


def test_a_device_that_flushes_may_give_zero_for_a_subnormal() -> None:
    tiny = floats(2.0**-130)
    node = map_("add", tiny, tiny)
    zero = np.zeros(1, np.float32)
    assert not bounds(node)[0].accepts(zero).any()
    assert bounds(node, model=NumericModel(flush=frozenset({"f32"})))[0].accepts(zero).all()


def test_a_device_without_infinities_owes_nothing_where_one_arises() -> None:
    node = map_("add", floats(3e38), floats(3e38))
    assert not bounds(node)[0].ill_conditioned.any()
    assert bounds(node, model=NumericModel(nonfinite=False))[0].ill_conditioned.all()


def test_attention_may_be_taken_in_one_pass_on_a_device_with_vectors() -> None:
    from portkit.tensor import scaled_dot_product_attention
    from portkit.tensor.tensor import Tensor

    tensors = [Tensor.of(random(1, 5, 4, seed=str(n))) for n in range(3)]
    node = scaled_dot_product_attention(*tensors).node
    steps, online = (bounds(node, capabilities=c)[0] for c in (BASE, CPU.capabilities))
    assert (online.hi - online.lo > steps.hi - steps.lo).all()
    assert float(np.max(online.hi - online.lo)) < 1e-4


def test_a_dynamic_dimension_has_the_size_of_its_contents() -> None:
    from portkit.compiler.index import Variable

    origin = Source(F32, (Variable("n", 1, 9), 2))
    contents: Mapping[Source, Array] = {origin: np.ones((4, 2), np.float32)}
    accepted = graph_bounds([graph.reduce("add", graph.source(origin), [0])], contents, BASE, IEEE)[0]
    assert determined(accepted, [4.0, 4.0])
