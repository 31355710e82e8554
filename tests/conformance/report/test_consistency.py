"""A report that was changed by hand contradicts itself, and the field is named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from portkit import __version__
from portkit.conformance.digest import suite_digest
from portkit.conformance.report.consistency import check_consistent
from portkit.conformance.report.model import CellResult, Determinism, FormStability, MutationScore, Report
from portkit.conformance.verdict import Verdict
from portkit.errors import SchemaError
from portkit.spec import forms
from tests.conformance.report.runs import entry, passing, report

replace = msgspec.structs.replace


def failing() -> Report:
    return report([*passing()[1:], entry(passing()[0].id)])


@pytest.mark.parametrize(
    "made",
    [
        report(),
        failing(),
        report(tier="smoke"),
        report(mutant="x"),
        report(patterns=("ops",)),
        report(passing()[:9], cases=20),
        report([]),
        report(evidence="stand-in"),
        report(spec_digest="a" * 64),
    ],
    ids=range(9),
)
def test_a_report_as_it_was_made_is_consistent(made: Report) -> None:
    check_consistent(made)


def scored(killed: int, mutants: int, version: str = __version__) -> Report:
    """A report of this suite that says how good it is."""
    versions = replace(report().versions, portkit=version, suite_digest=suite_digest(), spec_digest=forms.digest())
    return replace(report(), versions=versions, mutation_score=MutationScore(killed, mutants))


def test_another_version_may_have_measured_the_suite_on_other_faults() -> None:
    check_consistent(scored(9, 10, "0.0.1"))


def forged(**changes: Any) -> Report:
    return replace(failing(), **changes)


def with_case(**changes: Any) -> Report:
    made = failing()
    edited = (replace(c, **changes) if c.verdict is Verdict.FAIL else c for c in made.cases)
    return replace(made, cases=tuple(edited))


def with_pass(**changes: Any) -> Report:
    made = report()
    return replace(made, cases=(replace(made.cases[0], **changes), *made.cases[1:]))


def passed(cell: CellResult) -> CellResult:
    return replace(cell, verdict=Verdict.PASS)


EDITS = {
    "a claim that its cases do not support": (forged(passed=True), "claim"),
    "another statement": (forged(statement="conformant: core, standard tier"), "statement"),
    "a failure turned into a pass": (with_case(verdict=Verdict.PASS), "counts"),
    "counts of its own": (forged(counts={Verdict.PASS: 1000}), "counts"),
    "levels of its own": (forged(levels={}), "counts"),
    "a case twice": (forged(cases=failing().cases + failing().cases[:1]), "list of cases"),
    "fewer planned cases than there are": (forged(planned=3), "list of cases"),
    "fewer cases than planned": (forged(planned=10_000), "coverage|claim|statement"),
    "a digest without comparison": (with_case(digest="a" * 64), "digests"),
    "a cell that is not declared": (
        forged(cells=(*failing().cells, replace(failing().cells[0], form="nonsense"))),
        "coverage",
    ),
    "a cell twice": (forged(cells=failing().cells + failing().cells[:1]), "coverage"),
    "a cell left out": (forged(cells=failing().cells[1:]), "coverage"),
    "fewer declared cells": (forged(declared_cells=3), "coverage"),
    "limits of its own": (forged(limits={"strict": "declared"}), "limits"),
    "another backend": (forged(subject=replace(failing().subject, backend="other")), "subject"),
    "stronger evidence": (
        replace(
            report(evidence="stand-in"),
            subject=report().subject,
            statement=report().statement,
        ),
        "subject",
    ),
    "a card of a case that passes": (
        forged(failures=(replace(failing().failures[0], id=passing()[5].id),)),
        "failures",
    ),
    "a pass beyond its bound": (with_pass(error_share=9.0), "figures"),
    "a pass that failed": (with_pass(failed=1, runs=3), "figures"),
    "more ill-conditioned elements than there are": (with_pass(ill_conditioned=1000), "figures"),
    "a case that varies without being repeated": (with_pass(varying={"repeat": 1}), "figures"),
    "a day that is none": (forged(started="2026-99-99T00:00:00+00:00"), "begin"),
    "a cell better than any case": (
        replace(report([entry("ops/x", cells=("add/f32",))]), cells=tuple(map(passed, failing().cells))),
        "coverage",
    ),
    "a cell of more cases than there are": (
        forged(cells=(replace(failing().cells[0], cases=10**6), *failing().cells[1:])),
        "coverage",
    ),
    "a card twice": (forged(failures=failing().failures * 2), "failures"),
    "runs that did not happen": (
        forged(determinism=Determinism(100, (), 0, 0, (FormStability("add", 1, 1),))),
        "determinism",
    ),
    "a mutation score of its own": (scored(10_000, 10_000), "mutation score"),
    "more faults found than planted": (scored(11, 10, "0.0.1"), "mutation score"),
    "a hidden mutant": (replace(report(mutant="x"), mutant=""), "claim"),
}


@pytest.mark.parametrize(("made", "field"), EDITS.values(), ids=EDITS.keys())
def test_an_edited_report_contradicts_itself(made: Report, field: str) -> None:
    with pytest.raises(SchemaError, match=rf"its ({field}) does not follow"):
        check_consistent(made)
