"""Writing a report's files: each to a temporary beside its place, then renamed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from portkit.conformance.report import badge, html, junit
from portkit.conformance.report.model import Report, encode_report


def write_files(report: Report, folder: Path) -> list[Path]:
    """Write report.json, report.html, junit.xml and badge.svg into a folder and return their paths."""
    files = {
        "report.json": encode_report(report),
        "report.html": html.render(report).encode(),
        "junit.xml": junit.render(report),
        "badge.svg": badge.render(report).encode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return [write_atomically(folder / name, content) for name, content in files.items()]


def write_atomically(path: Path, content: bytes) -> Path:
    """Replace a file's content so that a reader sees the old or the new one, never half of either."""
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(scratch).chmod(0o644)
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    return path
