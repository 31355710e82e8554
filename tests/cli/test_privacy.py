"""A real run with failures, a crash and hostile device texts: its report tells nothing of the machine or the source."""

from __future__ import annotations

import getpass
import platform
import tempfile
from pathlib import Path

import pytest

from portkit.conformance.journal import read
from portkit.conformance.report.folder import report_of
from portkit.conformance.report.write import write_files
from portkit.conformance.run import RunOptions, run_suite
from portkit.conformance.verdict import Verdict

PUBLIC = ("report.json", "report.html", "junit.xml", "badge.svg")
SOURCE = ("define void", "target triple", "getelementptr", "evaluator of")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the folders of three runs: with a planted fault, with a wrong and dying device, and with a loud one."""
    planted, faulty, loud = (tmp_path_factory.mktemp(name) for name in ("planted", "faulty", "loud"))
    suite = "tests.conformance.suite"
    run_suite(RunOptions("cpu", planted, mutant="add-rounds-toward-zero", patterns=("ops/add/f32/special",)))
    run_suite(RunOptions("tests.fakes.devices:FAULTY", faulty, suite=f"{suite}:collect_wrong"))
    run_suite(RunOptions("tests.cli.loud:LOUD", loud, suite=f"{suite}:collect_one"))
    for folder in (planted, faulty, loud):
        write_files(report_of(folder)[0], folder)
    return [planted, faulty, loud]


def published(folder: Path) -> str:
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in PUBLIC)


def test_the_runs_have_something_to_hide(runs: list[Path]) -> None:
    for folder in runs:
        journal = read(folder / "journal.jsonl")
        assert any(e.verdict is not Verdict.PASS for e in journal.entries.values())
    secrets = "".join((folder / "journal.jsonl").read_text() for folder in runs)
    assert "define" in secrets
    assert "/opt/vendor" in secrets
    assert tempfile.gettempdir() in secrets


def test_a_report_holds_no_source(runs: list[Path]) -> None:
    for folder in runs:
        assert [word for word in SOURCE if word in published(folder)] == []


def test_a_report_holds_no_path(runs: list[Path]) -> None:
    private = {tempfile.gettempdir(), str(Path.home()), str(Path.cwd()), "/opt/", "/usr/", "/home/", "C:\\"}
    for folder in runs:
        text = published(folder)
        assert [path for path in {*private, str(folder)} if len(path) > 1 and path in text] == []


def test_a_report_holds_no_name_of_host_or_user(runs: list[Path]) -> None:
    names = {platform.node(), getpass.getuser()} - {"root", "runner", "localhost", ""}
    for folder in runs:
        assert [name for name in names if len(name) > 2 and name in published(folder)] == []
