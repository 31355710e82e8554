"""The folder of a run: the journal is what counts, the report follows."""

from __future__ import annotations

from pathlib import Path

import pytest

from portkit.conformance.files import write_atomically
from portkit.conformance.journal import read
from portkit.conformance.report.build import from_journal
from portkit.conformance.report.folder import report_of
from portkit.conformance.report.model import load_report
from portkit.conformance.report.write import write_files
from portkit.errors import SchemaError, UsageError
from tests.conformance.report.runs import entry, journal, passing, report, run_folder, write_journal


def test_the_report_of_a_folder_is_made_from_its_journal(tmp_path: Path) -> None:
    run_folder(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    assert report_of(tmp_path)[0].statement == "conformant: core, standard tier"


def test_the_wall_time_is_kept_from_the_report_of_the_same_run(tmp_path: Path) -> None:
    assert report_of(run_folder(tmp_path))[0] == load_report(tmp_path)
    assert load_report(tmp_path).seconds == 1.5


def test_the_wall_time_of_another_run_is_not_taken(tmp_path: Path) -> None:
    write_files(report(started="2025-01-01T00:00:00+00:00"), tmp_path)
    assert report_of(write_journal(tmp_path, journal()))[0].seconds == 0.0


def test_a_run_that_was_killed_has_a_report_that_says_so(tmp_path: Path) -> None:
    write_journal(tmp_path, journal(passing()[:5], cases=9))
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"id":"ops/to')
    assert report_of(tmp_path)[0].statement.startswith("incomplete: 4 of")


def test_a_report_without_a_journal_is_read_as_it_is(tmp_path: Path) -> None:
    run_folder(tmp_path)
    (tmp_path / "journal.jsonl").unlink()
    assert report_of(tmp_path) == (load_report(tmp_path), None)
    assert report_of(tmp_path / "report.json") == (load_report(tmp_path), None)


def test_a_folder_with_neither_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a journal nor a report"):
        report_of(tmp_path)


def test_a_broken_journal_is_a_schema_error_even_beside_a_good_report(tmp_path: Path) -> None:
    run_folder(tmp_path)
    (tmp_path / "journal.jsonl").write_text("nonsense\n")
    with pytest.raises(SchemaError, match="not a journal"):
        report_of(tmp_path)


def test_the_files_of_a_report_can_be_read_by_others_and_leave_nothing_else(tmp_path: Path) -> None:
    write_files(from_journal(journal([entry()])), tmp_path / "a" / "b")
    found = sorted((tmp_path / "a" / "b").iterdir())
    assert [path.name for path in found] == ["badge.svg", "junit.xml", "report.html", "report.json"]
    assert {path.stat().st_mode & 0o777 for path in found} == {0o644}


def test_what_is_written_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "report.html").symlink_to(tmp_path / "mine")
    write_files(report(), tmp_path)
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "report.html").is_symlink()


def test_a_folder_that_is_a_file_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(UsageError, match=r"cannot write .*x"):
        write_files(report(), tmp_path / "x")


def test_a_write_that_fails_leaves_the_old_content_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_text("old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "x", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "old"


def test_the_journal_of_the_helper_is_read_as_it_was_made(tmp_path: Path) -> None:
    made = journal([entry()])
    assert read(write_journal(tmp_path, made) / "journal.jsonl") == made
    assert [path.name for path in tmp_path.iterdir()] == ["journal.jsonl"]
