"""Level `tensors`: unique readable ids, every declared cell covered, and smoke cases that pass on a base device."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

import portkit.tensor
from portkit.compiler.evaluate import evaluate
from portkit.compiler.functions import FUNCTIONS
from portkit.compiler.storage import storage
from portkit.conformance.case import Case, Level, Tier
from portkit.conformance.cases import PROFILES, cells, collect
from portkit.conformance.cases.tensor_fuzz import random_graph, stored
from portkit.conformance.cases.tensorcase import trial_of
from portkit.conformance.judge import judge_case
from portkit.conformance.verdict import Verdict
from portkit.conformance.worker import well_conditioned
from portkit.contract import Capabilities
from portkit.errors import DTypeError
from portkit.runtime.client import DeviceClient
from portkit.spec.types import DTYPES
from tests.conformance.cases.golden import check_golden
from tests.conformance.cases.host_device import BASE, MAXIMAL

TABLES = {"base": BASE, "maximal": MAXIMAL}
ALL = [case for case in collect(MAXIMAL, "compute") if case.level is Level.TENSORS]


def up_to_standard(capabilities: Capabilities) -> list[Case]:
    return [c for c in collect(capabilities, "compute") if c.tier is not Tier.FULL]


def test_compute_is_core_and_then_tensors() -> None:
    core, compute = collect(BASE, "core"), collect(BASE, "compute")
    assert [c.id for c in compute[: len(core)]] == [c.id for c in core]
    assert {c.level for c in compute[len(core) :]} == {Level.TENSORS}
    assert {c.level for c in core} == set(PROFILES["core"])


def test_ids_are_unique_and_consist_of_plain_characters() -> None:
    assert [i for i, count in Counter(c.id for c in ALL).items() if count > 1] == []
    assert [c.id for c in ALL if set(c.id) - set("abcdefghijklmnopqrstuvwxyz0123456789_-./")] == []


def test_the_list_of_ids_is_the_recorded_one() -> None:
    lines = "\n".join(f"{c.id} {c.tier.value}" for c in ALL)
    check_golden("ids of level tensors", hashlib.sha256(lines.encode()).hexdigest())


@pytest.mark.parametrize("capabilities", TABLES.values(), ids=TABLES.keys())
def test_every_cell_is_covered_by_a_case_up_to_standard(capabilities: Capabilities) -> None:
    covered = {cell for case in up_to_standard(capabilities) for cell in case.cells}
    assert [str(c) for c in cells(capabilities, "compute") if c not in covered] == []


def test_every_public_function_and_every_elementwise_function_has_a_cell() -> None:
    forms = {c.form for c in cells(BASE, "compute")}
    computed = set(portkit.tensor.FUNCTIONS) - {"from_numpy", "from_dlpack"}
    assert {f"tensor.{name}" for name in computed} <= forms
    assert {f"tensor.map.{name}" for name in FUNCTIONS} <= forms


def test_dtypes_that_cannot_be_held_have_no_cell() -> None:
    def can_be_held(name: str) -> bool:
        try:
            storage(DTYPES[name], BASE)
        except DTypeError:
            return False
        return True

    found = {c.dtype for c in cells(BASE, "compute") if c.form.startswith("tensor.")}
    assert found == {name for name in DTYPES if can_be_held(name)}


@pytest.mark.parametrize("seed", range(6))
def test_storing_every_step_changes_no_result(seed: int) -> None:
    nodes = random_graph(seed)
    contents = trial_of(nodes, BASE).contents
    for a, b in zip(evaluate(nodes, contents), evaluate(stored(nodes), contents), strict=True):
        assert a.tobytes() == b.tobytes()


def test_a_device_with_base_forms_only_passes_the_smoke_cases() -> None:
    with DeviceClient("tests.fakes.host:BASE_ONLY") as client:
        smoke = [
            c for c in collect(client.capabilities, "compute") if c.level is Level.TENSORS and c.tier is Tier.SMOKE
        ]
        found = {c.id: well_conditioned(judge_case(c, client)).verdict for c in smoke}
    assert len(found) > 20
    assert {i: v for i, v in found.items() if v is not Verdict.PASS} == {}
