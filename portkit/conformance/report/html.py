"""`report.html`: one self-contained page; everything that comes from outside is escaped by the template engine."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

import jinja2

from portkit.conformance.report import sensitivity, stability
from portkit.conformance.report.model import CellResult, Report
from portkit.conformance.report.statement import EVIDENCE_MEANING
from portkit.conformance.verdict import Verdict
from portkit.spec.forms import FORMS
from portkit.spec.types import DTYPES

_MARKS = {
    Verdict.PASS: "\N{CHECK MARK}",
    Verdict.UNSUPPORTED: "n/a",
    Verdict.BLOCKED: "\N{MIDDLE DOT}",
    Verdict.FLAKY: "~",
    Verdict.WAIVED: "w",
}
SHOWN_ERRORS = 40
_WRONG_MARK = "\N{MULTIPLICATION X}"


@cache
def pages() -> jinja2.Environment:
    """Return the template environment; autoescape is on for every template."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("portkit.conformance.report", "pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["grouped"] = lambda number: f"{number:,}"
    environment.filters["share"] = share
    return environment


@cache
def style() -> str:
    """Return the one style sheet of every page."""
    return resources.files("portkit.conformance.report").joinpath("pages/style.css").read_text(encoding="utf-8")


def share(value: float) -> str:
    """Return an error as a share of its bound; without bound any error is infinitely large."""
    return f"{value:.3f}" if value < 1000 else f"{value:.1e}" if value < 1e300 else "\N{INFINITY}"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the most serious of some verdicts."""
    return max(verdicts, key=lambda verdict: verdict.severity)


def _cell(found: list[CellResult]) -> dict[str, str]:
    verdict = worst(c.verdict for c in found)
    cases, elements = sum(c.cases for c in found), sum(c.elements for c in found)
    lanes = " ".join(str(n) for n in sorted({c.lanes for c in found}))
    return {
        "verdict": verdict.value,
        "mark": _MARKS.get(verdict, _WRONG_MARK),
        "title": f"{verdict.value}: {cases:,} cases, {elements:,} elements; lanes {lanes}",
    }


def matrix(cells: tuple[CellResult, ...]) -> dict[str, Any]:
    """Return forms x dtypes, lane counts and cast sources folded into one square each."""
    grid: dict[tuple[str, str], list[CellResult]] = {}
    for cell in cells:
        grid.setdefault((cell.form, cell.dtype), []).append(cell)
    dtypes = [name for name in DTYPES if any(dtype == name for _, dtype in grid)]
    forms = [name for name in FORMS if any(form == name for form, _ in grid)]
    rows = [
        {"form": form, "cells": [_cell(grid[form, d]) if (form, d) in grid else None for d in dtypes]} for form in forms
    ]
    return {"dtypes": dtypes, "rows": rows}


def error_bars(cells: tuple[CellResult, ...]) -> list[dict[str, Any]]:
    """Return the largest error share by form and dtype, largest first, where any error is admitted."""
    largest: dict[str, float] = {}
    for cell in cells:
        if cell.error_share > 0:
            name = f"{cell.form} {cell.dtype}"
            largest[name] = max(largest.get(name, 0.0), cell.error_share)
    ranked = sorted(largest.items(), key=lambda item: (-item[1], item[0]))
    return [
        {"name": name, "share": share, "percent": min(100.0, 100 * share), "over": share > 1} for name, share in ranked
    ]


def _legend(report: Report) -> list[tuple[str, str]]:
    """Return the marks on the page and what they mean, the best first."""
    present = sorted({c.verdict for c in report.cells}, key=lambda verdict: verdict.severity)
    wrong = [v.value for v in present if v not in _MARKS]
    legend = [(_MARKS[v], v.value) for v in present if v in _MARKS]
    return [*legend, (_WRONG_MARK, " or ".join(wrong))] if wrong else legend


def render(report: Report, template: jinja2.Template | None = None, **more: Any) -> str:
    """Return the report as one HTML page without any reference outside itself.

    Another template that extends this page's may be given, and what else it shows.
    """
    page = template or pages().get_template("report.html.j2")
    return page.render(
        report=report,
        style=style(),
        evidence_meaning=EVIDENCE_MEANING[report.subject.evidence],
        verdicts=list(Verdict),
        matrix=matrix(report.cells),
        marks=_legend(report),
        errors=error_bars(report.cells),
        shown_errors=SHOWN_ERRORS,
        determinism=stability.sentence(report.determinism),
        mutants=sensitivity.sentence(report.mutation_score),
        stability_of=stability.verdict,
        unlisted=sum(not c.verdict.passes for c in report.cases) - sum(not f.verdict.passes for f in report.failures),
        **more,
    )
