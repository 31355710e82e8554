"""Errata: which cases count no more, and what a report says without them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import msgspec
import pytest

from portkit.conformance.errata import Erratum, load_errata, published, standing
from portkit.conformance.report import terminal
from portkit.conformance.report.model import Report, encode_report
from portkit.conformance.verdict import Verdict
from portkit.errors import SchemaError
from tests.cli.calls import Portkit, caller
from tests.conformance.report.runs import entry, passing, report, run_folder

LINK = "https://example.com/errata/1"
LINE = f"""
[[erratum]]
name = "2027-01"
cases = "ops/mul"
suites = ["{"a" * 64}"]
date = 2027-01-15
reason = "the expected value was wrong"
link = "{LINK}"
"""


@pytest.fixture
def portkit(capsys: pytest.CaptureFixture[str]) -> Portkit:
    return caller(capsys)


def failed() -> Report:
    """Return a whole run of tier standard in which one case fails."""
    return report([*passing(), entry("ops/wrong/f32", Verdict.FAIL)], tier="standard")


def erratum(found: Report, cases: str = "ops/wrong", name: str = "1") -> Erratum:
    return Erratum(name, cases, (found.versions.suite_digest,), dt.date(2027, 1, 15), "wrong", LINK)


def test_without_errata_a_report_says_what_it_says() -> None:
    found = failed()
    assert (standing(found, ()).statement, standing(found, ()).passed) == (found.statement, False)


def test_a_case_that_is_withdrawn_does_not_count_against_a_report() -> None:
    found = failed()
    now = standing(found, [erratum(found)])
    assert now.passed
    assert now.statement.endswith("; 1 withdrawn case, erratum 1")
    assert now.statement.startswith(report(passing(), tier="standard").statement)
    assert now.withdrawn == {"ops/wrong/f32": "1"}


def test_what_else_fails_still_counts() -> None:
    found = report([*passing(), entry("ops/wrong/f32"), entry("ops/wrongly/f32")], tier="standard")
    assert not standing(found, [erratum(found)]).passed


def test_nothing_passes_because_all_of_it_is_withdrawn() -> None:
    found = failed()
    assert not standing(found, [erratum(found, "*")]).passed


def test_a_case_that_is_missing_is_not_made_up_for() -> None:
    found = report([*passing(), entry("ops/wrong/f32")], tier="standard", cases=len(passing()) + 2)
    now = standing(found, [erratum(found)])
    assert not now.passed
    assert now.statement.startswith("incomplete: 1 of")


def test_an_erratum_means_the_suites_that_it_names_alone() -> None:
    found = failed()
    other = msgspec.structs.replace(erratum(found), suites=("0" * 64,))
    assert standing(found, [other]).withdrawn == {}


def test_of_two_errata_of_one_case_the_first_is_named() -> None:
    found = failed()
    assert standing(found, [erratum(found), erratum(found, "ops", "2")]).withdrawn["ops/wrong/f32"] == "1"


def test_a_report_is_not_changed_by_errata() -> None:
    found = failed()
    before = encode_report(found)
    standing(found, [erratum(found)])
    assert encode_report(found) == before


def test_the_summary_says_what_was_withdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    found = failed()
    monkeypatch.setattr("portkit.conformance.errata.published", lambda: (erratum(found),))
    assert "1 withdrawn case, erratum 1" in " ".join(terminal.headline(found).split())


def test_a_report_that_passes_without_what_was_withdrawn_is_one_that_passes(
    portkit: Portkit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = run_folder(tmp_path, [*passing(), entry("ops/wrong/f32", Verdict.FAIL)], tier="standard")
    assert portkit("report", out).status == 1
    monkeypatch.setattr("portkit.conformance.errata.published", lambda: (erratum(failed()),))
    assert portkit("report", out).status == 0


def test_the_list_in_the_package_is_one() -> None:
    assert all(isinstance(one, Erratum) for one in published())


def test_a_list_is_read(tmp_path: Path) -> None:
    (tmp_path / "errata.toml").write_text(LINE)
    assert load_errata(tmp_path / "errata.toml") == (
        Erratum("2027-01", "ops/mul", ("a" * 64,), dt.date(2027, 1, 15), "the expected value was wrong", LINK),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LINE + LINE, "2027-01 stands there twice"),
        (LINE.replace("a" * 64, "a" * 63), "suites"),
        (LINE.replace("2027-01-15", '"soon"'), "date"),
        (LINE.replace("https://", "javascript:"), "link"),
        (LINE + "more = 1\n", "more"),
        ("[[erratum", "not a list of errata"),
    ],
)
def test_what_is_no_list_is_refused_with_the_field(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "errata.toml").write_text(text)
    with pytest.raises(SchemaError, match=message):
        load_errata(tmp_path / "errata.toml")
