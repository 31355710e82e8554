"""The terminal summary: what a person reads first, within 80 columns."""

from __future__ import annotations

import textwrap

from portkit.conformance.report.model import Report
from portkit.conformance.report.statement import EVIDENCE_MEANING
from portkit.conformance.verdict import Verdict

_WIDTH = 80
_CARDS = 3


def summary(report: Report) -> str:
    """Return the summary of a report as plain text."""
    parts = [_head(report), _levels(report)]
    if report.bit_exact_share is not None:
        equal = f"{100 * report.bit_exact_share:.2f} % of {len(report.strict_cases)}"
        parts.append(f"strict outputs equal to the reference bit for bit: {equal}")
    parts += _failures(report)
    return "\n\n".join(parts)


def _head(report: Report) -> str:
    subject = report.subject
    lines = [
        f"{subject.backend} {subject.version}: {report.statement}",
        f"device    {subject.device}",
        f"evidence  {subject.evidence}, {EVIDENCE_MEANING[subject.evidence]}",
        *(f"{name:<9} {value}" for name, value in report.limits.items()),
        f"versions  spec {report.versions.spec}, suite {report.versions.suite}, portkit {report.versions.portkit}",
    ]
    return "\n".join(textwrap.shorten(line, 200) if len(line) > _WIDTH * 3 else line for line in lines)


def _levels(report: Report) -> str:
    shown = [v.value for v in Verdict if report.counts.get(v.value)]
    rows = [("level", *shown), *((n, *(str(c.get(v, 0)) for v in shown)) for n, c in report.levels.items())]
    rows.append(("all", *(str(report.counts.get(v, 0)) for v in shown)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    table = [
        "  ".join(t.rjust(w) if i else t.ljust(w) for i, (t, w) in enumerate(zip(r, widths, strict=True))) for r in rows
    ]
    elements = sum(c.elements for c in report.cases)
    cells = f"{len(report.cells):,} of {report.declared_cells:,} declared cells"
    lines = [*table, f"{cells}, {elements:,} elements, {report.seconds:.1f} s"]
    if report.uncovered:
        lines.append(f"no case covers {', '.join(report.uncovered[:5])}{' ...' if len(report.uncovered) > 5 else ''}")
    return "\n".join(lines)


def _failures(report: Report) -> list[str]:
    shown = report.failures[:_CARDS]
    cards = [f"{'-' * _WIDTH}\n{failure.card}" for failure in shown]
    if len(report.failures) > len(shown):
        cards.append(f"{len(report.failures) - len(shown)} more failures are in report.html")
    return cards
