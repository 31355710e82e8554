"""The compatibility matrix: backends x levels, extensions, forms and dtypes, from a registry, as HTML and Markdown.

Every square leads to what the backend's report says of it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from portkit.conformance.case import Level
from portkit.conformance.files import writing
from portkit.conformance.registry import Entry, entries
from portkit.conformance.report import badge, html
from portkit.conformance.report.model import CellResult
from portkit.conformance.verdict import Verdict
from portkit.errors import UsageError
from portkit.spec.forms import EXTENSIONS, FORMS
from portkit.spec.types import DTYPES

Row = dict[str, Any]
_PARTS = {"index.html", "matrix.md", "reports"}
_MARK = '<meta name="generator" content="portkit matrix">'
"""By this line of its index an older site is known."""


def newest(found: list[Entry]) -> list[Entry]:
    """Return the newest report of each backend; `entries` lists newest first."""
    first: dict[str, Entry] = {}
    for entry in found:
        first.setdefault(entry.manifest.backend, entry)
    return list(first.values())


def page_of(entry: Entry, anchor: str = "") -> str:
    """Return the address of a report, or of a place in it, from the index of the site."""
    return f"reports/{quote(entry.folder)}/index.html" + (f"#{anchor}" if anchor else "")


def _rows(
    found: list[Entry], names: Iterable[str], square: Callable[[Entry, str], Row | None], anchor: str
) -> list[Row]:
    """Return one row of squares for each name for which any backend has one; `anchor` is their place in the report."""
    rows: list[Row] = []
    for name in names:
        squares = [square(entry, name) for entry in found]
        links = [page_of(entry, anchor.format(name)) for entry in found]
        cells = [cell and {**cell, "link": link} for cell, link in zip(squares, links, strict=True)]
        if any(cells):
            rows.append({"name": name, "cells": cells})
    return rows


def _strict(entry: Entry, _: str) -> Row | None:
    """Return how many outputs that the spec fixes bit for bit are the reference's; None where strict is undeclared."""
    fixed = entry.report.strict_cases
    if not fixed:
        return None
    equal = sum(case.bit_exact is True for case in fixed)
    verdict = Verdict.PASS if equal == len(fixed) else Verdict.FAIL
    return {"verdict": verdict.value, "passed": equal, "cases": len(fixed)}


def _level(entry: Entry, name: str) -> Row | None:
    counts = entry.report.levels.get(Level(name))
    if not counts:
        return None
    verdict = html.worst(v for v, n in counts.items() if n)
    return {"verdict": verdict.value, "passed": counts.get(Verdict.PASS, 0), "cases": sum(counts.values())}


def _extension(entry: Entry, name: str) -> Row | None:
    """Return the worst verdict over an extension's forms, None where the backend declares none of them."""
    return _square([c for c in entry.report.cells if c.form in FORMS and FORMS[c.form].extension == name])


def _form(entry: Entry, name: str) -> Row | None:
    return _square([c for c in entry.report.cells if c.form == name])


def _square(cells: list[CellResult]) -> Row | None:
    if not cells:
        return None
    dtypes = [d for d in DTYPES if any(c.dtype == d for c in cells)]
    verdict = html.worst(c.verdict for c in cells)
    return {"verdict": verdict.value, "dtypes": " ".join(dtypes), "cases": sum(c.cases for c in cells)}


def tables(found: list[Entry]) -> dict[str, list[Row]]:
    """Return the tables of the matrix, a column for each entry: levels, strict outputs, extensions and forms."""
    return {
        "levels": _rows(found, [level.value for level in Level], _level, "levels"),
        "strict": _rows(found, ["equal to the reference"], _strict, "strict"),
        "extensions": _rows(found, EXTENSIONS, _extension, "operations"),
        "forms": _rows(found, FORMS, _form, "form-{}"),
    }


def markdown(found: list[Entry], site: str = "") -> str:
    """Return the matrix as a Markdown table: a verdict and its number of cases in every square, linked to the report.

    `site` is the address of the folder that `build` wrote, as seen from the page that has the table.
    """
    heads = [f"{_escape(e.manifest.backend)}{' (draft)' if e.manifest.draft else ''}" for e in found]
    about = {
        "evidence": [e.report.subject.evidence for e in found],
        "device": [_escape(e.report.subject.device) for e in found],
        "statement": [f"[{_escape(e.report.statement)}]({site}{page_of(e)})" for e in found],
    }
    parts = tables(found)
    lines = [f"| form | {' | '.join(heads)} |", f"|---|{'---|' * len(found)}"]
    lines += [f"| *{name}* | {' | '.join(squares)} |" for name, squares in about.items()]
    for title, rows in (("level ", parts["levels"]), ("strict outputs ", parts["strict"])):
        lines += [_line(f"*{title}{r['name']}*", r, "{passed:,} of {cases:,}", site) for r in rows]
    lines += [_line(f"`{r['name']}`", r, "{verdict} ({cases})", site) for r in parts["forms"]]
    return "\n".join(lines) + "\n"


def _line(name: str, row: Row, text: str, site: str) -> str:
    squares = [f"[{text.format(**cell)}]({site}{cell['link']})" if cell else "-" for cell in row["cells"]]
    return f"| {name} | {' | '.join(squares)} |"


def _escape(text: str) -> str:
    """Return a text that means itself in a square of a Markdown table; HTML becomes harmless too."""
    one_line = " ".join(text.split())
    # Not every reader of Markdown takes a backslash before the last three for an escape.
    named = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "~": "&#126;", ":": "&#58;", "@": "&#64;"}
    return "".join(named.get(c) or (f"\\{c}" if c in "\\`*_{}[]()#+!|" else c) for c in one_line)


def build(registry: Path, site: Path) -> Path:
    """Write the site (index.html, matrix.md and every report page) and return its index.

    The site is built beside its place and renamed over an older one. Raises as `registry.entries` does, and
    `UsageError` where something else is in its place, or where it cannot be written.
    """
    found = entries(registry)
    _require_free(site, registry)
    with writing(site):
        site.absolute().parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".matrix-", dir=site.absolute().parent))
        try:
            _write_site(scratch / "new", found)
            if site.exists():
                site.rename(scratch / "old")
            (scratch / "new").rename(site)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return site / "index.html"


def _require_free(site: Path, registry: Path) -> None:
    """Raise `UsageError` where writing the site would remove anything but an older site."""
    if registry.resolve().is_relative_to(site.resolve()):
        raise UsageError(f"{site} holds the registry itself; choose another folder with --out")
    if not (site.exists() or site.is_symlink()):
        return
    free = site.is_dir() and not site.is_symlink() and (not any(site.iterdir()) or _is_site(site))
    if not free:
        raise UsageError(f"{site} exists and is not a matrix site; choose another folder with --out")


def _is_site(folder: Path) -> bool:
    index = folder / "index.html"
    if {path.name for path in folder.iterdir()} - _PARTS or not index.is_file():
        return False
    with index.open(encoding="utf-8", errors="replace") as file:
        return _MARK in file.read(4096)


def _write_site(folder: Path, found: list[Entry]) -> None:
    shown = newest(found)
    page = html.pages().get_template("matrix.html.j2")
    context = {
        "style": html.style(),
        "mark": _MARK,
        "page_of": page_of,
        "newest": shown,
        "history": found,
        **tables(shown),
    }
    folder.mkdir()
    (folder / "index.html").write_text(page.render(context | tables(shown)), encoding="utf-8")
    (folder / "matrix.md").write_text(markdown(shown), encoding="utf-8")
    for entry in found:
        target = folder / "reports" / entry.folder
        target.mkdir(parents=True)
        (target / "index.html").write_text(html.render(entry.report), encoding="utf-8")
        (target / "badge.svg").write_text(badge.render(entry.report), encoding="utf-8")
