"""`badge.svg`: one line for a README."""

from __future__ import annotations

from portkit.conformance.report.html import pages
from portkit.conformance.report.model import Report

_GLYPH_WIDTH = 6.6
_PADDING = 12


def render(report: Report) -> str:
    """Return the badge as SVG; its text is the report's statement."""
    left = f"portkit {report.profile}"
    right = report.statement.partition(":")[0]
    widths = [round(len(text) * _GLYPH_WIDTH) + _PADDING for text in (left, right)]
    return pages().get_template("badge.svg.j2").render(left=left, right=right, widths=widths, passed=report.passed)
