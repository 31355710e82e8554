"""Random graphs rewritten: every rewriting keeps what it says, and finds faults that no graph as written shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portkit.compiler import graph
from portkit.compiler import simplify_folds as folds
from portkit.compiler import simplify_functions as functions
from portkit.compiler import simplify_views as views
from portkit.compiler.evaluate import evaluate
from portkit.compiler.functions import FUNCTIONS
from portkit.compiler.graph import Node, map_
from portkit.compiler.simplify import simplify
from portkit.conformance.case import Case, Tier
from portkit.conformance.cases import tensor_fuzz
from portkit.conformance.cases.collect import collect
from portkit.conformance.cases.tensor_fuzz import (
    FAMILIES,
    FLOATS,
    MIXED,
    REWRITINGS,
    Family,
    random_graph,
    rewritable,
    several,
    stored,
)
from portkit.conformance.cases.tensor_fuzz_rewrites import Rewriting
from portkit.conformance.cases.tensorcase import trial_of
from portkit.conformance.graph_bounds import graph_bounds
from portkit.conformance.graphs import COMPILER
from portkit.conformance.judge import judge_case
from portkit.conformance.verdict import Verdict
from portkit.contract import Capabilities
from portkit.reference.bounds import NumericModel
from portkit.runtime.client import DeviceClient
from portkit.spec.forms import CLASSES
from tests.conformance.cases.host_device import BASE, MAXIMAL

Arrays = list[np.ndarray[Any, Any]]
SEED = st.integers(0, MIXED.seeds[Tier.FULL] - 1)


def values(nodes: Sequence[Node]) -> Arrays:
    return evaluate(nodes, trial_of(nodes, BASE).contents)


def same(a: Arrays, b: Arrays) -> bool:
    return all(x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def rewriting(name: str) -> Rewriting:
    return next(r for r in REWRITINGS if r.name == name)


def rows(*, exact: bool) -> list[Any]:
    """Return each family with each of its rewritings, as parameters with names."""
    pairs = ((family, row) for family in FAMILIES for row in family.rewritings if row.exact == exact)
    return [pytest.param(family, row, id=f"{family.name}-{row.name}") for family, row in pairs]


# --- what rewritings keep -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "row"), rows(exact=True))
@settings(max_examples=3, deadline=None)
@given(seed=SEED)
def test_an_exact_rewriting_changes_no_bit_of_any_result(family: Family, row: Rewriting, seed: int) -> None:
    nodes = rewritable(seed, row, family)
    assert same(values(row.of(nodes, f"{seed}")), values(nodes))


@pytest.mark.parametrize(("family", "row"), rows(exact=False))
@settings(max_examples=3, deadline=None)
@given(seed=SEED)
def test_another_order_of_a_fold_stays_within_the_bounds_of_the_graph_as_it_was_written(
    family: Family, row: Rewriting, seed: int
) -> None:
    nodes = rewritable(seed, row, family)
    accepted = graph_bounds(nodes, trial_of(nodes, BASE).contents, BASE, NumericModel())
    for actual, admits in zip(values(row.of(nodes, f"{seed}")), accepted, strict=True):
        assert admits.accepts(actual.reshape(-1)).all()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@settings(max_examples=20, deadline=None)
@given(seed=SEED)
def test_several_rewritings_one_after_another_stay_within_the_bounds_too(family: Family, seed: int) -> None:
    nodes = random_graph(seed, family)
    accepted = graph_bounds(nodes, trial_of(nodes, BASE).contents, BASE, NumericModel())
    for actual, admits in zip(values(several(nodes, family.rewritings, f"{seed}")), accepted, strict=True):
        assert admits.accepts(actual.reshape(-1)).all()


@pytest.mark.parametrize(("family", "row"), [*rows(exact=True), *rows(exact=False)])
def test_every_rewriting_makes_another_graph_of_the_same_dtypes_and_shapes(family: Family, row: Rewriting) -> None:
    for seed in range(3):
        nodes = rewritable(seed, row, family)
        made = row.of(nodes, f"{seed}")
        assert [(n.dtype, n.shape) for n in made] == [(n.dtype, n.shape) for n in nodes]
        assert tuple(made) != nodes


def test_the_same_id_gives_the_same_rewriting() -> None:
    nodes = random_graph(3)
    first, again = (rewriting("padded").of(nodes, "id") for _ in range(2))
    assert all(a is b for a, b in zip(first, again, strict=True))


# --- mixed graphs -------------------------------------------------------------------------------------------------


@cache
def mixed_nodes() -> list[Node]:
    """Return the nodes of all mixed graphs."""
    return graph.topological([n for seed in range(MIXED.seeds[Tier.FULL]) for n in random_graph(seed, MIXED)])


@settings(max_examples=20, deadline=None)
@given(seed=SEED)
def test_every_result_of_a_mixed_graph_is_determined(seed: int) -> None:
    nodes = random_graph(seed, MIXED)
    accepted = graph_bounds(nodes, trial_of(nodes, BASE).contents, BASE, NumericModel())
    for actual, admits in zip(values(nodes), accepted, strict=True):
        assert admits.determined.all()
        assert admits.accepts(actual.reshape(-1)).all()


def test_mixed_graphs_use_every_function_of_integers_every_fold_and_every_movement() -> None:
    nodes = mixed_nodes()
    integers = {f.name for f in FUNCTIONS.values() if "i32" in f.dtypes}
    assert integers - {n.attr for n in nodes if n.op == "map"} == {"bits"}
    assert {n.attr[0] for n in nodes if n.op == "reduce"} == set(graph.REDUCTIONS)
    assert {n.attr[0] for n in nodes if n.op == "view"} == set(views.VIEW_RULES)
    assert {n.op for n in nodes} >= {"scan", "gather", "scatter"}


def test_mixed_graphs_have_tensors_of_every_width_of_integers_and_of_halves() -> None:
    nodes = mixed_nodes()
    assert {n.dtype.name for n in nodes} >= {*CLASSES["int"], "bool", "f32", "f16", "bf16"}


# --- which cases there are ----------------------------------------------------------------------------------------


def rewritten_cases(capabilities: Capabilities, family: Family = FLOATS) -> list[Case]:
    return [c for c in tensor_fuzz.cases(capabilities) if c.id.startswith(f"{family.rewritten}-")]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_graph_is_rewritten_in_every_way_and_in_several_in_tier_full(family: Family) -> None:
    names = {r.name for r in family.rewritings} | {"several"}
    assert len(names) == len(family.rewritings) + 1
    found = {c.id for c in rewritten_cases(MAXIMAL, family)}
    seeds = range(family.seeds[Tier.FULL])
    assert found == {f"{family.rewritten}-{seed:03}/{name}" for seed in seeds for name in names}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_rewriting_that_is_owed_has_its_turn_once_in_tier_standard(family: Family) -> None:
    early = [c.id.rpartition("/")[2] for c in rewritten_cases(MAXIMAL, family) if c.tier is not Tier.FULL]
    assert sorted(n for n in early if n != "several") == sorted(r.name for r in family.rewritings[: family.owed])
    assert "several" in early


def test_a_rewriting_to_a_dtype_that_the_device_cannot_hold_is_left_out() -> None:
    assert "converted" in {c.id.rpartition("/")[2] for c in rewritten_cases(MAXIMAL)}
    assert "converted" not in {c.id.rpartition("/")[2] for c in rewritten_cases(BASE)}


def test_cases_have_no_cell_that_is_not_declared() -> None:
    declared = set(tensor_fuzz.cells(MAXIMAL))
    assert {cell for case in tensor_fuzz.cases(MAXIMAL) for cell in case.cells} == declared


# --- faults that are found by rewriting ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A rule of the compiler made wrong: the table and the row that it is in, its name, what it does, who finds it."""

    rules: dict[str, tuple[Callable[[Node], Node | None], ...]]
    row: str
    rule: str
    wrong: Callable[[Node], Node | None]
    found_by: str

    def plant(self, patch: pytest.MonkeyPatch) -> None:
        row = self.rules[self.row]
        assert self.rule in [r.__name__ for r in row]
        patch.setitem(self.rules, self.row, tuple(self.wrong if r.__name__ == self.rule else r for r in row))


def is_view(x: Node, movement: str) -> bool:
    return x.op == "view" and x.attr[0] == movement


def is_map(x: Node, name: str) -> bool:
    return x.op == "map" and x.attr == name


def joins_axes_of_flips(node: Node) -> Node | None:
    """flip(flip(x, a), b) -> flip(x, a or b)."""
    (x,) = node.inputs
    return graph.flip(x.inputs[0], {*x.attr[1], *node.attr[1]}) if is_view(x, "flip") else None


def forgets_the_second_start(node: Node) -> Node | None:
    """shrink(shrink(x, a), b) -> shrink(x, a)."""
    (x,) = node.inputs
    return graph.view(x.inputs[0], node.shape, "shrink", x.attr[1]) if is_view(x, "shrink") else None


def ignores_the_bits(node: Node) -> Node | None:
    """pad(pad(x, a), b) -> pad(x, a + b) with the outer bits, whatever the inner ones."""
    (x,) = node.inputs
    if not is_view(x, "pad"):
        return None
    starts = tuple(a + b for a, b in zip(x.attr[1], node.attr[1], strict=True))
    return graph.view(x.inputs[0], node.shape, "pad", starts, node.attr[2])


def forgets_to_exchange(node: Node) -> Node | None:
    """where(not p, x, y) -> where(p, x, y)."""
    p, x, y = node.inputs
    return map_("where", p.inputs[0], x, y) if is_map(p, "not") else None


def takes_the_other_branch(node: Node) -> Node | None:
    """where(p, where(p, x, y), z) -> where(p, y, z)."""
    p, x, z = node.inputs
    return map_("where", p, x.inputs[2], z) if is_map(x, "where") and x.inputs[0] is p else None


def subtracts_the_wrong_way(node: Node) -> Node | None:
    """x + -y -> y - x."""
    x, y = node.inputs
    return map_("sub", y.inputs[0], x) if is_map(y, "neg") else None


def forgets_repeats_of_sums(node: Node) -> Node | None:
    """fold(expand(x)) -> fold(x), also of sums."""
    (x,) = node.inputs
    kind, axes = node.attr
    if not is_view(x, "expand") or not all(x.inputs[0].shape[a] == 1 for a in axes):
        return None
    return graph.expand(x.inputs[0], node.shape) if kind in ("add", "max", "min") else None


FAULTS = (
    Fault(views.VIEW_RULES, "flip", "flip_of_flip", joins_axes_of_flips, "flipped"),
    Fault(views.VIEW_RULES, "shrink", "shrink_of_shrink", forgets_the_second_start, "padded"),
    Fault(views.VIEW_RULES, "pad", "pad_of_pad", ignores_the_bits, "padded"),
    Fault(functions.FUNCTION_RULES, "where", "negated_condition", forgets_to_exchange, "turned"),
    Fault(functions.FUNCTION_RULES, "where", "condition_again", takes_the_other_branch, "chosen"),
    Fault(functions.FUNCTION_RULES, "add", "sum_with_negated", subtracts_the_wrong_way, "opposed"),
    Fault(folds.FOLD_RULES, "reduce", "fold_along_repeats", forgets_repeats_of_sums, "summed"),
)


def rules_reached(graphs: Iterable[Sequence[Node]], patch: pytest.MonkeyPatch) -> set[str]:
    """Return the names of the rules of the simplifier that make something of a node of some graphs."""
    found: set[str] = set()

    def watched(rule: Callable[[Node], Node | None]) -> Callable[[Node], Node | None]:
        def run(node: Node) -> Node | None:
            made = rule(node)
            if made is not None and made is not node:
                found.add(rule.__name__)
            return made

        return run

    with patch.context() as inner:
        for table in (views.VIEW_RULES, functions.FUNCTION_RULES, folds.FOLD_RULES):
            for row, rules in list(table.items()):
                inner.setitem(table, row, tuple(map(watched, rules)))
        for nodes in graphs:
            simplify(nodes)
    return found


def test_rewritings_reach_three_times_as_many_rules_as_the_graphs_that_they_are_made_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graphs = [random_graph(seed) for seed in range(FLOATS.seeds[Tier.STANDARD])]
    made = [c.graph(MAXIMAL) for c in rewritten_cases(MAXIMAL) if c.tier is not Tier.FULL and c.graph]
    written = rules_reached(graphs, monkeypatch)
    rewritten = rules_reached([trial.compiled for trial in made], monkeypatch)
    assert len(rewritten) > 3 * len(written) > 0


def test_the_standard_tier_reaches_every_rule_of_the_simplifier(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [c.graph(MAXIMAL) for c in collect(MAXIMAL, "compute") if c.tier is not Tier.FULL and c.graph]
    tables = (views.VIEW_RULES, functions.FUNCTION_RULES, folds.FOLD_RULES)
    every = {rule.__name__ for table in tables for rules in table.values() for rule in rules}
    assert every - rules_reached([trial.compiled or trial.nodes for trial in trials], monkeypatch) == set()


def by_rule(fault: Fault) -> str:
    return fault.rule


@pytest.mark.parametrize("fault", FAULTS, ids=by_rule)
def test_a_fault_that_no_graph_as_it_was_written_shows_is_found_by_a_rewriting(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault.plant(monkeypatch)
    finder = rewriting(fault.found_by)
    found = False
    for seed in range(FLOATS.seeds[Tier.STANDARD]):
        nodes = random_graph(seed)
        wanted = values(nodes)
        for written in (nodes, stored(nodes)):
            assert same(values(simplify(written)), wanted)
        if finder.sites(nodes):
            found |= not same(values(simplify(finder.of(nodes, f"{seed}"))), wanted)
    assert found


def test_on_a_device_the_rewritten_case_fails_and_accuses_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = FAULTS[0]
    fault.plant(monkeypatch)
    cases = (c for c in rewritten_cases(BASE) if c.id.endswith(f"/{fault.found_by}"))
    with DeviceClient("tests.fakes.host:BASE_ONLY") as client:
        entry = next(e for e in (judge_case(case, client) for case in cases) if e.verdict is not Verdict.PASS)
    assert entry.verdict is Verdict.FAIL
    assert entry.card is not None
    assert entry.card.suspect == COMPILER
