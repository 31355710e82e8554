"""The folder of a run: its journal, and the report that follows from it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from portkit.conformance import journal as journals
from portkit.conformance.journal import Journal
from portkit.conformance.report.build import from_journal
from portkit.conformance.report.consistency import check_consistent
from portkit.conformance.report.model import Report, load_report
from portkit.errors import PortkitError, UsageError

JOURNAL = "journal.jsonl"


def journal_of(folder: Path) -> Journal | None:
    """Return the journal of a run's folder, None where there is none. Raises `SchemaError` for a broken one."""
    path = folder / JOURNAL
    return journals.read(path) if path.is_file() else None


def report_of(path: Path) -> tuple[Report, Journal | None]:
    """Return the report of a run and its journal, where it has one.

    `path` is a run's folder or a report file. In a folder the journal is what counts: the report is made from it again,
    so that a run that was killed has one too. Only its wall time is taken from the report that lies there.

    Raises `UsageError` where there is neither, `SchemaError` for a file that does not fit, or contradicts itself.
    """
    if not path.is_dir():
        return _alone(path), None
    journal = journal_of(path)
    if journal is None:
        if not (path / "report.json").exists():
            raise UsageError(f"{path} holds neither a journal nor a report; give the folder that portkit conform wrote")
        return _alone(path), None
    return from_journal(journal, seconds=_seconds(path, journal)), journal


def _alone(path: Path) -> Report:
    """Return a report without its journal, which may be anybody's."""
    report = load_report(path)
    check_consistent(report)
    return report


def _seconds(folder: Path, journal: Journal) -> float:
    """Return the wall time that the report of the same run gives, 0 where there is none."""
    with contextlib.suppress(PortkitError):
        earlier = load_report(folder)
        if earlier.started == journal.header.started and len(earlier.cases) == len(journal.entries):
            return earlier.seconds
    return 0.0
