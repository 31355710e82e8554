"""A vendor who signs what did not happen: what a report may not say, whoever vouches for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from portkit import __version__
from portkit.conformance.registry import entries, publish
from portkit.conformance.report.model import decode_report
from portkit.conformance.verdict import Verdict
from portkit.errors import SchemaError
from tests.conformance.attest.attacks import forge
from tests.conformance.attest.published import edit, genuine, published, refusals, trusted, verified
from tests.conformance.report.runs import passing, report, run_folder


def test_a_coverage_table_that_its_cases_do_not_give_is_refused(tmp_path: Path) -> None:
    folder = genuine(tmp_path)
    made = decode_report((folder / "report.json").read_bytes(), "x")
    first = msgspec.structs.replace(made.cells[0], elements=made.cells[0].elements + 1)
    forged = forge(folder, msgspec.structs.replace(made, cells=(first, *made.cells[1:])))
    assert "of its coverage table does not follow from its cases" in refusals(verified(forged))["cases"]


def test_a_run_that_begins_in_the_future_is_refused(tmp_path: Path) -> None:
    started = "2999-01-01T00:00:00+00:00"
    with pytest.raises(SchemaError, match="its run began in the future"):
        published(tmp_path, started=started)
    folder = published(tmp_path)
    made = decode_report((folder / "report.json").read_bytes(), "x")
    forged = forge(folder, msgspec.structs.replace(made, started=started))
    assert "its run began in the future" in refusals(verified(forged))["consistency"]


@pytest.mark.parametrize("end", ["2026-99-99", "٢٠٩٩-01-01"])
def test_a_waiver_that_ends_on_no_day_is_refused(tmp_path: Path, end: str) -> None:
    reason = f"erratum (https://acme.example/1, until {end}); wrong"
    made = passing()
    waived = msgspec.structs.replace(made[0], verdict=Verdict.WAIVED, waived=Verdict.FAIL, reason=reason)
    source = run_folder(tmp_path / "run", [waived, *made[1:]])
    with pytest.raises(SchemaError, match="is waived without a reason, a link and an end"):
        publish(source, tmp_path / "registry", draft=False)


def test_of_two_ends_of_a_waiver_the_first_counts(tmp_path: Path) -> None:
    reason = "a (https://x.example, until 2020-01-01); b (https://x.example, until 2099-01-01); wrong"
    made = passing()
    waived = msgspec.structs.replace(made[0], verdict=Verdict.WAIVED, waived=Verdict.FAIL, reason=reason)
    source = run_folder(tmp_path / "run", [waived, *made[1:]])
    with pytest.raises(SchemaError, match="ended on 2020-01-01, before the run"):
        publish(source, tmp_path / "registry", draft=False)


@pytest.mark.parametrize("version", [__version__, "0.0.1"])
@pytest.mark.parametrize(
    ("file", "field", "check"),
    [
        ("report.json", "statement", "report"),
        ("manifest.json", "draft", "manifest"),
        ("attestation.json", "payload", "signature"),
    ],
)
def test_a_field_that_stands_twice_is_refused(tmp_path: Path, file: str, field: str, check: str, version: str) -> None:
    path = genuine(tmp_path, portkit=version) / file
    path.write_bytes(path.read_bytes().replace(b"{", f'{{"{field}":{_FIRST[field]},'.encode(), 1))
    said = f"the field {field} stands there twice"
    assert refusals(verified(path.parent, trusted()))[check].endswith(said)
    with pytest.raises(SchemaError, match=said):
        entries(tmp_path / "registry")


_FIRST = {"statement": '"conformant: all"', "draft": "false", "payload": '"e30="'}


@pytest.mark.parametrize("text", ["\x1b[2J", "\u202eevil", "a\0b"])
def test_a_text_that_could_lead_a_reader_astray_is_refused(tmp_path: Path, text: str) -> None:
    folder = published(tmp_path)
    edit(folder / "report.json", lambda r: r["subject"].update(device=text))
    assert "holds a text that could lead a reader astray" in refusals(verified(folder))["report"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"started": "2026-03-05T00:00:00+00:00"}, "begin"),
        ({"name": "other"}, "names"),
        ({"suite": "7"}, "versions"),
        ({"repeat": 5}, "repeats"),
    ],
)
def test_a_report_of_this_version_has_everything_from_its_journal(
    tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    source = run_folder(tmp_path / "run", portkit=__version__)
    folder = published(tmp_path, portkit=__version__, **changes)
    found = refusals(verified(folder, journal=source))
    assert f"gives another report: its {what} are others" in found["journal"]


def test_another_version_does_not_excuse_another_chip(tmp_path: Path) -> None:
    source = run_folder(tmp_path / "run")
    folder = published(tmp_path, portkit="0.0.9", name="other")
    assert "gives another report: its versions are others" in refusals(verified(folder, journal=source))["journal"]


def test_a_name_is_reserved_in_capitals_too() -> None:
    assert trusted(backends=("acme", "acme-*")).reserves("ACME-x")


def test_a_run_of_waived_cases_alone_passes_nothing() -> None:
    reason = "erratum (https://acme.example/1, until 2099-01-01); wrong"
    waived = [msgspec.structs.replace(one, verdict=Verdict.WAIVED, reason=reason) for one in passing()]
    assert not report(waived).passed
