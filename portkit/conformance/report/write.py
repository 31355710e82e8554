"""Writing a report's files, each as a whole."""

from __future__ import annotations

from pathlib import Path

from portkit.conformance.files import write_atomically, writing
from portkit.conformance.report import badge, html, junit
from portkit.conformance.report.model import Report, encode_report


def write_files(report: Report, folder: Path) -> list[Path]:
    """Write report.json, report.html, junit.xml and badge.svg into a folder and return their paths.

    Raises `UsageError` where the folder cannot be written.
    """
    files = {
        "report.json": encode_report(report),
        "report.html": html.render(report).encode(),
        "junit.xml": junit.render(report),
        "badge.svg": badge.render(report).encode(),
    }
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return [write_atomically(folder / name, content) for name, content in files.items()]
