"""The compatibility matrix: backends x forms and dtypes, from a registry, as HTML and Markdown."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from portkit.conformance.registry import Entry, entries
from portkit.conformance.report import html
from portkit.errors import UsageError
from portkit.spec.forms import FORMS
from portkit.spec.types import DTYPES


def _newest(found: list[Entry]) -> list[Entry]:
    """Return the newest report of each backend; `entries` lists newest first."""
    first: dict[str, Entry] = {}
    for entry in found:
        first.setdefault(entry.manifest.backend, entry)
    return list(first.values())


def _share(entry: Entry, form: str) -> dict[str, Any] | None:
    """Return how a backend does on one form, None where it declares none of its cells."""
    cells = [c for c in entry.report.cells if c.form == form]
    if not cells:
        return None
    verdict = html.worst([c.verdict for c in cells])
    dtypes = [d for d in DTYPES if any(c.dtype == d for c in cells)]
    return {"verdict": verdict, "dtypes": " ".join(dtypes), "cases": sum(c.cases for c in cells)}


def table(found: list[Entry]) -> list[dict[str, Any]]:
    """Return one row for each form that any backend declares."""
    rows = ({"form": form, "cells": [_share(entry, form) for entry in found]} for form in FORMS)
    return [row for row in rows if any(row["cells"])]


def markdown(found: list[Entry]) -> str:
    """Return the matrix as a Markdown table: a verdict and its number of cases in every square."""
    heads = [f"{e.manifest.backend}{' (draft)' if e.manifest.draft else ''}" for e in found]
    lines = [f"| form | {' | '.join(heads)} |", f"|---|{'---|' * len(found)}"]
    lines.append(f"| *evidence* | {' | '.join(e.report.subject.evidence for e in found)} |")
    lines.append(f"| *statement* | {' | '.join(_escape(e.report.statement) for e in found)} |")
    for row in table(found):
        squares = [f"{c['verdict']} ({c['cases']})" if c else "-" for c in row["cells"]]
        lines.append(f"| `{row['form']}` | {' | '.join(squares)} |")
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+!|" else c for c in text).replace("\n", " ")


def build(registry: Path, site: Path) -> Path:
    """Write the site (index.html, matrix.md and every report page) and return its index.

    The site is built beside its place and renamed over it. Raises as `registry.entries` does.
    """
    found = entries(registry)
    site.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".matrix-", dir=site.parent))
    try:
        _write_site(scratch, found)
        scratch.chmod(0o755)
        if site.exists():
            _remove_old_site(site)
        scratch.rename(site)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return site / "index.html"


def _remove_old_site(site: Path) -> None:
    """Remove an earlier site, but nothing that is not one."""
    if any(site.iterdir()) and not (site / "matrix.md").is_file():
        raise UsageError(f"{site} exists and is not a matrix site; choose another folder with --out")
    shutil.rmtree(site)


def _write_site(folder: Path, found: list[Entry]) -> None:
    newest = _newest(found)
    page = html.pages().get_template("matrix.html.j2")
    context = {"style": html.style(), "newest": newest, "rows": table(newest), "history": found}
    (folder / "index.html").write_text(page.render(context))
    (folder / "matrix.md").write_text(markdown(newest))
    for entry in found:
        target = folder / "reports" / entry.folder
        target.mkdir(parents=True)
        (target / "index.html").write_text(html.render(entry.report))
