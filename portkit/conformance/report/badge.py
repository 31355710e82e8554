"""`badge.svg`: one line for a README."""

from __future__ import annotations

import re

from portkit.conformance.report.html import pages
from portkit.conformance.report.model import Report

_GLYPH_WIDTH = 6.2
_PADDING = 12
_MAX_LETTERS = 60


def render(report: Report) -> str:
    """Return the badge as SVG; its text is the claim of the report's statement, without what explains it."""
    left = f"portkit {report.profile}"
    right = re.split(r"[:;]", report.statement)[0]
    texts = [text if len(text) <= _MAX_LETTERS else f"{text[: _MAX_LETTERS - 3]}..." for text in (left, right)]
    widths = [round(len(text) * _GLYPH_WIDTH) for text in texts]
    boxes = [width + _PADDING for width in widths]
    template = pages().get_template("badge.svg.j2")
    return template.render(texts=texts, widths=widths, boxes=boxes, passed=report.passed)
