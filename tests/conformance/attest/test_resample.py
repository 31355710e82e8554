"""Running a sample again: which cases are taken, and what is compared."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portkit.conformance.attest.resample import Sample, choose, resample, sample_size
from portkit.conformance.case import Tier
from portkit.conformance.journal import read
from portkit.conformance.report.build import from_journal
from portkit.conformance.report.model import CaseResult, Report
from portkit.conformance.run import RunOptions, run_suite
from portkit.conformance.verdict import Verdict
from portkit.errors import CannotRunHere, UsageError
from tests.conformance.report.runs import passing, report

CASES = report([*passing()]).cases
IDS = ("device/info/name", "ops/add/f32/special", "ops/add/i32/special", "ops/mul/f32/special", "ops/add/f32/strict")
STRICT = IDS[-1]


@pytest.mark.parametrize(
    ("text", "of", "size"),
    [
        ("1%", 1000, 10),
        ("0.1%", 1000, 1),
        ("1%", 5, 1),
        ("100%", 7, 7),
        ("50", 1000, 50),
        ("50", 7, 7),
        (" 12.5% ", 80, 10),
    ],
)
def test_a_size_is_a_share_or_a_number(text: str, of: int, size: int) -> None:
    assert sample_size(text, of) == size


@pytest.mark.parametrize("text", ["", "0", "0%", "-1", "101%", "1e3", "1.5", "x", "1 %%", "9" * 30])
def test_another_size_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="neither a share such as 1%"):
        sample_size(text, 100)


@given(st.integers(0, 2**32))
def test_a_seed_fixes_the_sample_and_a_larger_one_contains_it(seed: int) -> None:
    small, of = choose(CASES, "5", seed)
    large, _ = choose(CASES, "10", seed)
    assert of == len(CASES)
    assert small == choose(tuple(reversed(CASES)), "5", seed)[0]
    assert set(map(id, small)) <= set(map(id, large))
    assert len({case.id for case in large}) == 10


def test_every_case_is_taken_about_as_often_as_another() -> None:
    taken = [case.id for seed in range(1000) for case in choose(CASES[:20], "5", seed)[0]]
    assert {200 < taken.count(case.id) < 300 for case in CASES[:20]} == {True}


def test_what_depends_on_other_cases_or_on_luck_is_not_taken() -> None:
    odd = [msgspec.structs.replace(CASES[0], verdict=v, id=f"x/{v.value}") for v in Verdict]
    chosen, of = choose(odd, "100%", 1)
    assert {case.verdict.value for case in chosen} == {"pass", "waived", "fail", "crash", "timeout"}
    assert of == 5
    with pytest.raises(UsageError, match="no case that could be run again"):
        choose([case for case in odd if case.verdict is Verdict.BLOCKED], "1", 1)


def test_the_chance_to_meet_a_false_verdict_grows_with_the_sample() -> None:
    assert Sample(1, ("a",) * 13, 100, (), 0).power == pytest.approx(1 - 0.95**13)
    assert Sample(1, (), 100, (), 0).power == 0.0


# --- on a device --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cpu_report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    out = tmp_path_factory.mktemp("cpu")
    result = run_suite(RunOptions("cpu", out, tier=Tier.SMOKE, patterns=IDS))
    assert (int(result.exit_code), result.message) == (0, "")
    return from_journal(read(out / "journal.jsonl"))


def changed(given: Report, case_id: str, **changes: object) -> Report:
    cases: tuple[CaseResult, ...] = tuple(
        msgspec.structs.replace(case, **changes) if case.id == case_id else case for case in given.cases
    )
    return msgspec.structs.replace(given, cases=cases)


def test_an_honest_report_comes_out_the_same(cpu_report: Report) -> None:
    again = resample(cpu_report, "cpu", "100%", 7)
    assert (sorted(again.ids), again.differences, again.notes) == (sorted(IDS), (), ())
    assert (again.seed, again.of) == (7, len(IDS))
    assert again.digests == 1


def test_a_false_verdict_is_found(cpu_report: Report) -> None:
    again = resample(changed(cpu_report, IDS[1], verdict=Verdict.FAIL), "cpu", "100%", 7)
    assert [(d.id, d.reported, d.here) for d in again.differences] == [(IDS[1], "fail", "pass")]


def test_a_waived_case_that_passes_here_is_a_difference(cpu_report: Report) -> None:
    again = resample(changed(cpu_report, IDS[1], verdict=Verdict.WAIVED), "cpu", "100%", 7)
    assert [(d.reported, d.here) for d in again.differences] == [("waived", "pass")]


def test_a_false_digest_is_found(cpu_report: Report) -> None:
    again = resample(changed(cpu_report, STRICT, digest="0" * 64), "cpu", "100%", 7)
    assert [(d.id, d.reported, d.reason) for d in again.differences] == [
        (STRICT, "0" * 16, "the outputs have other bits")
    ]


def test_a_digest_that_was_taken_out_is_found(cpu_report: Report) -> None:
    again = resample(changed(cpu_report, STRICT, digest="", bit_exact=None), "cpu", "100%", 7)
    assert [(d.id, d.reported, d.reason) for d in again.differences] == [(STRICT, "no digest", "a digest is missing")]


def test_another_driver_is_a_note_and_no_difference(cpu_report: Report) -> None:
    subject = msgspec.structs.replace(cpu_report.subject, driver="other 1.0")
    again = resample(msgspec.structs.replace(cpu_report, subject=subject), "cpu", "1", 7)
    assert again.differences == ()
    assert again.notes[0].startswith("driver: other 1.0 in the report")


def test_a_report_of_another_suite_spec_or_device_is_not_run(cpu_report: Report) -> None:
    for field in ("suite", "spec"):
        versions = msgspec.structs.replace(cpu_report.versions, **{f"{field}_digest": "0" * 64})
        with pytest.raises(UsageError, match=f"the report is by the {field} 000000000000 of portkit"):
            resample(msgspec.structs.replace(cpu_report, versions=versions), "cpu", "1", 7)
    declared = msgspec.structs.replace(cpu_report.capabilities, lanes=(2,))
    with pytest.raises(UsageError, match=r"not of this backend: its lanes is \(2,\), here it is"):
        resample(msgspec.structs.replace(cpu_report, capabilities=declared), "cpu", "1", 7)


def test_a_device_that_is_not_there_cannot_run_a_sample(cpu_report: Report) -> None:
    with pytest.raises(CannotRunHere):
        resample(cpu_report, "tests.fakes.devices:CANNOT_RUN", "1", 7)


def test_nothing_is_left_behind(cpu_report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    resample(cpu_report, "cpu", "1", 7)
    assert list(tmp_path.iterdir()) == []
