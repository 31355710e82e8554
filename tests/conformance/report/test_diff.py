"""What got worse between two reports, and nothing else."""

from __future__ import annotations

import msgspec
import pytest

from portkit.conformance.report.diff import differences, regressions
from portkit.conformance.verdict import Verdict
from tests.conformance.report.runs import entry, report


def found(
    before: list[Verdict | None], after: list[Verdict | None], **changes: object
) -> list[tuple[str, str, str, str]]:
    old, new = ([entry(f"ops/{k}", v) for k, v in enumerate(verdicts) if v is not None] for verdicts in (before, after))
    return [(c.id, c.before, c.after, c.note) for c in regressions(report(old), report(new, **changes))]


@pytest.mark.parametrize("verdict", Verdict)
def test_the_same_verdict_is_no_regression(verdict: Verdict) -> None:
    assert found([verdict], [verdict]) == []


def test_a_better_verdict_is_no_regression() -> None:
    assert found([Verdict.CRASH, Verdict.FAIL], [Verdict.FAIL, Verdict.PASS]) == []


def test_a_more_serious_verdict_is_one() -> None:
    assert found([Verdict.PASS], [Verdict.FAIL]) == [("ops/0", "pass", "fail", "")]


def test_a_pass_that_became_unsupported_is_one() -> None:
    assert found([Verdict.PASS], [Verdict.UNSUPPORTED]) == [("ops/0", "pass", "unsupported", "")]


def test_a_case_that_is_not_run_any_more_is_one() -> None:
    assert found([Verdict.PASS, Verdict.PASS], [Verdict.PASS]) == [("ops/1", "pass", "", "not run any more")]


def test_a_selection_does_not_owe_the_other_cases() -> None:
    assert found([Verdict.PASS, Verdict.PASS], [Verdict.PASS], patterns=("ops/0",)) == []


def test_a_new_case_that_passes_is_none_and_one_that_fails_is() -> None:
    assert found([], [Verdict.PASS]) == []
    assert found([], [Verdict.FAIL]) == [("ops/0", "", "fail", "new")]


def test_strict_outputs_that_changed_are_one() -> None:
    old, new = (report([entry(verdict=Verdict.PASS, digest=d * 64, reference_digest=d * 64)]) for d in "ab")
    assert [(c.before, c.after, c.note) for c in regressions(old, new)] == [("pass", "pass", "strict outputs differ")]
    versions = msgspec.structs.replace(new.versions, suite_digest="c" * 64)
    other = msgspec.structs.replace(new, versions=versions)
    assert regressions(old, other) == []  # the suite may give the case other inputs
    assert regressions(old, old) == []


def test_the_most_serious_regressions_come_first() -> None:
    changes = found([Verdict.PASS] * 4, [Verdict.FLAKY, Verdict.CRASH, Verdict.FAIL, None])
    assert [change[0] for change in changes] == ["ops/1", "ops/2", "ops/0", "ops/3"]


def test_what_else_differs_between_the_runs_is_told() -> None:
    other = report(tier="smoke", name="other", suite_digest="d" * 64, mutant="m")
    told = differences(report(), other)
    assert told == [
        "backend: chip before, other after",
        "tier: standard before, smoke after",
        "planted fault: none before, m after",
        f"suite: {'b' * 12} before, {'d' * 12} after",
    ]


def test_two_runs_of_the_same_differ_in_nothing() -> None:
    assert differences(report(), report()) == []
