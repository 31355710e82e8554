"""The matrix as tables: levels, strict outputs, extensions and forms by backend, and their Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from portkit.conformance.case import Level
from portkit.conformance.report import html
from portkit.conformance.site.columns import Column, Square, in_order
from portkit.conformance.verdict import Verdict
from portkit.spec.forms import EXTENSIONS, FORMS
from portkit.spec.types import DTYPES

Row = dict[str, Any]
_ABOUT: dict[str, Callable[[Column], str]] = {
    "backend": lambda c: c.subject.backend,
    "version": lambda c: c.subject.version,
    "device": lambda c: c.subject.device,
    "vendor": lambda c: c.subject.vendor,
    "evidence": lambda c: c.subject.evidence,
    "draft": lambda c: "yes" if c.draft else "no",
    "signature": lambda c: c.signed.state,
    "date": lambda c: c.date,
    "spec": lambda c: c.versions.spec,
    "suite": lambda c: c.versions.suite,
    "profile": lambda c: c.profile,
    "tier": lambda c: c.tier.value,
    "statement": lambda c: c.statement,
}
CSV_FIELDS = (*_ABOUT, "form", "dtype", "verdict", "cases", "elements", "error_share")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def tables(found: Sequence[Column]) -> dict[str, list[Row]]:
    """Return the tables of the matrix, a square for each column: levels, strict outputs, extensions and forms."""
    forms = in_order((form for column in found for form in column.squares), FORMS)
    return {
        "levels": _rows(found, [level.value for level in Level], _level, "levels"),
        "strict": _rows(found, ["equal to the reference"], _strict, "strict"),
        "extensions": _rows(found, EXTENSIONS, _extension, "operations"),
        "forms": _rows(found, forms, _form, "form-{}"),
    }


def _rows(
    found: Sequence[Column], names: Iterable[str], square: Callable[[Column, str], Row | None], anchor: str
) -> list[Row]:
    """Return one row of squares for each name for which any column has one; `anchor` is their place in the report."""
    rows: list[Row] = []
    for name in names:
        squares = [square(column, name) for column in found]
        links = [column.page(anchor.format(name)) for column in found]
        cells = [cell and {**cell, "link": link} for cell, link in zip(squares, links, strict=True)]
        if any(cells):
            rows.append({"name": name, "cells": cells})
    return rows


def _strict(column: Column, _: str) -> Row | None:
    """Return how many outputs that the spec fixes bit for bit are the reference's; None where strict is undeclared."""
    equal, fixed = column.strict
    if not fixed:
        return None
    verdict = Verdict.PASS if equal == fixed else Verdict.FAIL
    return {"verdict": verdict.value, "passed": equal, "cases": fixed}


def _level(column: Column, name: str) -> Row | None:
    counts = column.levels.get(Level(name))
    if not counts:
        return None
    verdict = html.worst(v for v, n in counts.items() if n)
    return {"verdict": verdict.value, "passed": counts.get(Verdict.PASS, 0), "cases": sum(counts.values())}


def _extension(column: Column, name: str) -> Row | None:
    """Return the worst verdict over an extension's forms, None where the backend declares none of them."""
    forms = [squares for form, squares in column.squares.items() if form in FORMS and FORMS[form].extension == name]
    return _folded({f"{n} {dtype}": s for n, squares in enumerate(forms) for dtype, s in squares.items()})


def _form(column: Column, name: str) -> Row | None:
    return _folded(column.squares.get(name, {}))


def _folded(squares: Mapping[str, Square]) -> Row | None:
    if not squares:
        return None
    dtypes = in_order((name.rpartition(" ")[2] for name in squares), DTYPES)
    verdict = html.worst(s.verdict for s in squares.values())
    return {"verdict": verdict.value, "dtypes": " ".join(dtypes), "cases": sum(s.cases for s in squares.values())}


# --- Markdown -----------------------------------------------------------------------------------------------------


def markdown(found: Sequence[Column], site: str = "") -> str:
    """Return the matrix as a Markdown table: a verdict and its number of cases in every square, linked to the report.

    `site` is the address of the folder that `build` wrote, as seen from the page that has the table.
    """
    heads = [f"{_escape(c.backend)}{' (draft)' if c.draft else ''}" for c in found]
    about = {
        "evidence": [c.subject.evidence for c in found],
        "device": [_escape(c.subject.device) for c in found],
        "signature": [signature(c) for c in found],
        "statement": [f"[{_escape(c.statement)}]({site}{c.page()})" for c in found],
    }
    parts = tables(found)
    lines = [f"| form | {' | '.join(heads)} |", f"|---|{'---|' * len(found)}"]
    lines += [f"| *{name}* | {' | '.join(squares)} |" for name, squares in about.items()]
    for title, rows in (("level ", parts["levels"]), ("strict outputs ", parts["strict"])):
        lines += [_line(f"*{title}{r['name']}*", r, "{passed:,} of {cases:,}", site) for r in rows]
    lines += [_line(f"`{r['name']}`", r, "{verdict} ({cases})", site) for r in parts["forms"]]
    return "\n".join(lines) + "\n"


def signature(column: Column) -> str:
    """Return what the matrix says of a report's signature, without the keys' names."""
    return {"unchecked": "signed by an unlisted key"}.get(column.signed.state, column.signed.state)


def _line(name: str, row: Row, text: str, site: str) -> str:
    squares = [f"[{text.format(**cell)}]({site}{cell['link']})" if cell else "-" for cell in row["cells"]]
    return f"| {name} | {' | '.join(squares)} |"


def _escape(text: str) -> str:
    """Return a text that means itself in a square of a Markdown table; HTML becomes harmless too."""
    one_line = " ".join(text.split())
    # Not every reader of Markdown takes a backslash before the last three for an escape.
    named = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "~": "&#126;", ":": "&#58;", "@": "&#64;"}
    return "".join(named.get(c) or (f"\\{c}" if c in "\\`*_{}[]()#+!|" else c) for c in one_line)


# --- CSV ----------------------------------------------------------------------------------------------------------


def comma_separated(found: Iterable[Column]) -> str:
    """Return the matrix as CSV (RFC 4180): a line for every backend, form and dtype; `error_share` is of the bound.

    A text that a spreadsheet would take for a formula is quoted with an apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(CSV_FIELDS)
    for column in found:
        about = [_cell(text(column)) for text in _ABOUT.values()]
        for form, squares in column.squares.items():
            for dtype, s in squares.items():
                error = f"{s.error:.6g}" if s.error else "0"
                writer.writerow([*about, form, dtype, s.verdict.value, s.cases, s.elements, error])
    return out.getvalue()


def _cell(text: str) -> str:
    one_line = " ".join(text.replace("\0", " ").split())
    return f"'{one_line}" if text.startswith(_FORMULA) or one_line.startswith(_FORMULA) else one_line
