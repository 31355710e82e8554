"""The recorded kill matrix of this suite, the page made of it, and a hunt in several processes."""

from __future__ import annotations

from portkit.conformance.cases.collect import collect
from portkit.conformance.mutants import page, record
from portkit.conformance.mutants.kills import hunt
from portkit.conformance.mutants.record import Job
from portkit.conformance.mutants.table import MUTANTS, distinguishable, equivalent
from portkit.contract import find_backend


def test_the_recorded_suite_finds_every_mutant_of_the_table() -> None:
    found = record.load()
    assert set(found.mutants) == {mutant.name for mutant in distinguishable()}
    assert record.survivors(found) == []


def test_recorded_killers_are_cases_of_their_tier() -> None:
    tiers = {case.id: case.tier for case in collect(find_backend("cpu").capabilities)}
    killers = {killer.case: killer.tier for found in record.load().mutants.values() for killer in found.killers}
    assert {case: tiers.get(case) for case in killers} == killers


def test_equivalent_mutants_are_not_in_the_record() -> None:
    assert not {mutant.name for mutant in equivalent()} & set(record.load().mutants)


def test_the_page_names_every_mutant_and_why_some_are_equivalent() -> None:
    text = page.page()
    assert all(f"`{name}`" in text for name in MUTANTS)
    assert all(mutant.equivalent in text for mutant in equivalent())


def test_a_hunt_in_worker_processes_finds_each_fault_and_says_how_far_it_is() -> None:
    case = "ops/mul.hi/i32/random"
    work = [Job((case,), ("mul-hi-is-unsigned",)), Job(("device/copy/whole",), ("copy-is-short",))]
    done: list[int] = []
    found = hunt("cpu", work, 2, done.append)
    assert {(k.mutant, k.case) for k in found.kills} == {
        ("mul-hi-is-unsigned", case),
        ("copy-is-short", "device/copy/whole"),
    }
    assert done == [1, 2]
