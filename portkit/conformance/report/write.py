"""Writing a report's files: each to a temporary beside its place, then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from portkit.conformance.report import badge, html, junit
from portkit.conformance.report.model import Report, encode_report
from portkit.errors import UsageError


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


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Turn what the file system refuses into a `UsageError` that names the path."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
