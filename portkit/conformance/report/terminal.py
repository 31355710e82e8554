"""The terminal summary: what a person reads first, within 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from portkit.conformance.errata import standing
from portkit.conformance.report import sensitivity, stability
from portkit.conformance.report.brief import Found, brief_cards
from portkit.conformance.report.model import Report
from portkit.conformance.report.statement import EVIDENCE_MEANING
from portkit.conformance.verdict import Verdict

WIDTH = 80
CARDS = 3
_LABEL = 12
_NAMES = 5
_CODE = "    "
_WHOLE = ("replay",)
"""Lines that are for copying: they are never wrapped."""


_MOST_WORD = 240
"""A longer word is no path or command that anyone would copy."""


def summary(report: Report, found: Found | None = None, *, cards: int = CARDS) -> str:
    """Return the summary of a report as plain text: its headline, then `details`."""
    return f"{headline(report)}\n{details(report, found, cards=cards)}"


def headline(report: Report) -> str:
    """Return what was judged and what may be said of it, errata applied."""
    return wrapped(f"{report.subject.backend} {report.subject.version}: {standing(report).statement}", 4)


def details(report: Report, found: Found | None = None, *, cards: int = CARDS) -> str:
    """Return what stands below the headline, with at most so many failure cards.

    With its journal the cards also have what a report does not carry: the vendor's own text.
    """
    parts = [_head(report), table(report)]
    if report.bit_exact_share is not None:
        share = f"{100 * report.bit_exact_share:.2f} % of {len(report.strict_cases):,}"
        parts.append(f"results fixed bit for bit, equal to the reference: {share}")
    parts += varying(report)
    failed, shown = brief_cards(found, cards) if found else _cards(report, cards)
    parts += [f"{'-' * WIDTH}\n{wrap_card(card)}" for card in shown]
    if shown and failed > len(shown):
        parts.append(f"{'-' * WIDTH}\n{failed - len(shown):,} more did not pass; their cards are in report.html")
    return "\n\n".join(parts)


def _cards(report: Report, most: int) -> tuple[int, list[str]]:
    """Return how many cards a report has, and the first of them."""
    return len(report.failures), [failure.card for failure in report.failures[:most]]


def varying(report: Report) -> list[str]:
    """Return the table of the forms whose results vary, none where none does."""
    forms = report.determinism.forms if report.determinism else ()
    rows = [
        (f"  {f.form}", f"{f.identical:,} of {f.cases:,}", stability.verdict(f)) for f in forms if f.identical < f.cases
    ]
    if not rows:
        return []
    width, numbers = (max(len(row[k]) for row in rows) for k in (0, 1))
    lines = (wrapped(f"{name:<{width}}  {count:>{numbers}}  {how}", 4) for name, count, how in rows)
    return ["\n".join(["bit-identical cases of the forms that vary", *lines])]


def wrap_card(card: str) -> str:
    """Return a card whose prose fits the width; kernel text, source and the replay line stay as they are."""
    return "\n".join(wrapped(line, 10) for line in card.splitlines())


def wrapped(line: str, indent: int) -> str:
    """Return a line broken at the width, what follows indented; code and what is to be copied stays whole."""
    if len(line) <= WIDTH or line.startswith((_CODE, *_WHOLE)):
        return line
    flood = max(map(len, line.split()), default=0) > _MOST_WORD
    return textwrap.fill(
        line, WIDTH, subsequent_indent=" " * indent, break_long_words=flood, break_on_hyphens=False, tabsize=4
    )


def _head(report: Report) -> str:
    subject, versions = report.subject, report.versions
    device = [subject.device, *(text for text in (subject.driver, subject.compiler) if text)]
    facts = (
        ("device", "; ".join(device)),
        ("evidence", f"{subject.evidence}, {EVIDENCE_MEANING[subject.evidence]}"),
        *report.limits.items(),
        ("determinism", stability.sentence(report.determinism)),
        ("mutants", sensitivity.sentence(report.mutation_score)),
        ("versions", f"spec {versions.spec}, suite {versions.suite}, portkit {versions.portkit}"),
    )
    return "\n".join(wrapped(f"{name:<{_LABEL}}{value}", _LABEL) for name, value in facts)


def table(report: Report) -> str:
    """Return the verdicts by level, and how much was covered."""
    shown = [verdict for verdict in Verdict if report.counts.get(verdict)]
    rows = [("level", *(v.value for v in shown))]
    rows += [(level.value, *(f"{counts.get(v, 0):,}" for v in shown)) for level, counts in report.levels.items()]
    rows.append(("all", *(f"{report.counts.get(v, 0):,}" for v in shown)))
    elements = sum(c.elements for c in report.cases)
    time = f", {report.seconds:.1f} s" if report.seconds else ""
    lines = [
        aligned(rows),
        f"{len(report.cells):,} of {report.declared_cells:,} declared cells, {elements:,} elements{time}",
    ]
    if report.uncovered:
        more = " ..." if len(report.uncovered) > _NAMES else ""
        lines.append(wrapped(f"no case covers {', '.join(report.uncovered[:_NAMES])}{more}", 4))
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns, the first to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = (
        "  ".join(t.rjust(w) if i else t.ljust(w) for i, (t, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
