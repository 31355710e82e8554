"""Random graphs rewritten: every rewriting keeps what it says, and finds faults that no graph as written shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from portkit.compiler.graph import Node, map_
from portkit.compiler.simplify import simplify
from portkit.conformance.case import Case, Tier
from portkit.conformance.cases import tensor_fuzz
from portkit.conformance.cases.tensor_fuzz import SEEDS, random_graph, rewritable, stored
from portkit.conformance.cases.tensor_fuzz_rewrites import REWRITINGS, Rewriting
from portkit.conformance.cases.tensorcase import trial_of
from portkit.conformance.graph_bounds import graph_bounds
from portkit.conformance.graphs import COMPILER
from portkit.conformance.judge import judge_case
from portkit.conformance.verdict import Verdict
from portkit.contract import Capabilities
from portkit.reference.bounds import NumericModel
from portkit.runtime.client import DeviceClient
from tests.conformance.cases.host_device import BASE, MAXIMAL

Arrays = list[np.ndarray[Any, Any]]
SEED = st.integers(0, SEEDS[Tier.FULL] - 1)
NAMES = [r.name for r in REWRITINGS]


def values(nodes: Sequence[Node]) -> Arrays:
    return evaluate(nodes, trial_of(nodes, BASE).contents)


def same(a: Arrays, b: Arrays) -> bool:
    return all(x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def rewriting(name: str) -> Rewriting:
    return next(r for r in REWRITINGS if r.name == name)


# --- what rewritings keep -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rewritten", [r for r in REWRITINGS if r.exact], ids=lambda r: r.name)
@settings(max_examples=6, deadline=None)
@given(seed=SEED)
def test_an_exact_rewriting_changes_no_bit_of_any_result(rewritten: Rewriting, seed: int) -> None:
    nodes = rewritable(seed, rewritten)
    assert same(values(rewritten.of(nodes, f"{seed}")), values(nodes))


@pytest.mark.parametrize("rewritten", [r for r in REWRITINGS if not r.exact], ids=lambda r: r.name)
@settings(max_examples=6, deadline=None)
@given(seed=SEED)
def test_another_order_of_a_fold_stays_within_the_bounds_of_the_graph_as_it_was_written(
    rewritten: Rewriting, seed: int
) -> None:
    nodes = rewritable(seed, rewritten)
    contents = trial_of(nodes, BASE).contents
    accepted = graph_bounds(nodes, contents, BASE, NumericModel())
    for actual, admits in zip(values(rewritten.of(nodes, f"{seed}")), accepted, strict=True):
        assert admits.accepts(actual.reshape(-1)).all()


@pytest.mark.parametrize("rewritten", REWRITINGS, ids=lambda r: r.name)
def test_every_rewriting_makes_another_graph_of_the_same_dtypes_and_shapes(rewritten: Rewriting) -> None:
    for seed in range(8):
        nodes = rewritable(seed, rewritten)
        made = rewritten.of(nodes, f"{seed}")
        assert [(n.dtype, n.shape) for n in made] == [(n.dtype, n.shape) for n in nodes]
        assert tuple(made) != nodes


def test_the_same_id_gives_the_same_rewriting() -> None:
    nodes = random_graph(3)
    first, again = (rewriting("padded").of(nodes, "id") for _ in range(2))
    assert all(a is b for a, b in zip(first, again, strict=True))


def test_names_of_rewritings_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES)


# --- which cases there are ----------------------------------------------------------------------------------------


def rewritten_cases(capabilities: Capabilities) -> list[Case]:
    return [c for c in tensor_fuzz.cases(capabilities) if c.id.startswith("tensors/rewritten/")]


def test_each_graph_is_rewritten_in_one_way_up_to_tier_standard_and_in_every_way_in_full() -> None:
    cases = rewritten_cases(MAXIMAL)
    assert len(cases) == SEEDS[Tier.FULL] * len(REWRITINGS)
    early = [c for c in cases if c.tier is not Tier.FULL]
    assert len({c.group for c in early}) == len(early) == SEEDS[Tier.STANDARD]


def test_every_rewriting_has_its_turn_in_tier_standard() -> None:
    early = [c for c in rewritten_cases(MAXIMAL) if c.tier is not Tier.FULL]
    assert {c.id.rpartition("/")[2] for c in early} == set(NAMES)


def test_a_rewriting_to_a_dtype_that_the_device_cannot_hold_is_left_out() -> None:
    assert "converted" in {c.id.rpartition("/")[2] for c in rewritten_cases(MAXIMAL)}
    assert "converted" not in {c.id.rpartition("/")[2] for c in rewritten_cases(BASE)}


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


def by_rule(fault: Fault) -> str:
    return fault.rule


@pytest.mark.parametrize("fault", FAULTS, ids=by_rule)
def test_a_fault_that_no_graph_as_it_was_written_shows_is_found_by_a_rewriting(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault.plant(monkeypatch)
    finder = rewriting(fault.found_by)
    found = False
    for seed in range(SEEDS[Tier.STANDARD]):
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
