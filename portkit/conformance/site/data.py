"""The scripts that the pages of a site read their data from: a page from the file system may not fetch files.

`data.js` has what every view needs, one letter for each square; `details.js` beside a report has the numbers of its
squares, and is loaded when they are asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from portkit.conformance.case import Level
from portkit.conformance.report.statement import EVIDENCE_MEANING
from portkit.conformance.site.columns import Column, in_order
from portkit.conformance.site.tables import signature
from portkit.conformance.verdict import Verdict
from portkit.spec.forms import FORMS
from portkit.spec.types import DTYPES

LETTERS = dict(zip(Verdict, "pnwbkftce", strict=True))
"""One letter for each verdict in the strings of squares."""
UNDECLARED = "-"

Key = tuple[str, str]
_DIGITS = 8
"""Of a digest, as many as tell drafts of one version apart."""


def keys(found: Sequence[Column]) -> list[Key]:
    """Return every form with a dtype of any column, in the order of the spec."""
    dtypes: dict[str, set[str]] = {}
    for column in found:
        for form, squares in column.squares.items():
            dtypes.setdefault(form, set()).update(squares)
    return [(form, dtype) for form in in_order(dtypes, FORMS) for dtype in in_order(dtypes[form], DTYPES)]


def letters(column: Column, known: Sequence[Key]) -> str:
    """Return a report's verdicts, a letter for each form with a dtype."""
    return "".join(_letter(column, form, dtype) for form, dtype in known)


def _letter(column: Column, form: str, dtype: str) -> str:
    square = column.squares.get(form, {}).get(dtype)
    return LETTERS[square.verdict] if square else UNDECLARED


def data_script(found: Sequence[Column]) -> str:
    """Return `data.js`: all reports of a registry, in the order given."""
    known = keys(found)
    forms = list(dict.fromkeys(form for form, _ in known))
    dtypes = in_order((dtype for _, dtype in known), DTYPES)
    content = {
        "verdicts": [[LETTERS[v], v.value, v.meaning.text] for v in Verdict],
        "evidence": EVIDENCE_MEANING,
        "levels": [level.value for level in Level],
        "dtypes": dtypes,
        "forms": [[form, *_kin(form)] for form in forms],
        "keys": [[forms.index(form), dtypes.index(dtype)] for form, dtype in known],
        "reports": [_report(column, known) for column in found],
    }
    return _script("SITE_DATA", content)


def _kin(form: str) -> tuple[str, str]:
    """Return the extension of a form, empty if it is a base form, and its operation; tensor functions have neither."""
    known = FORMS.get(form)
    return (known.extension, known.op.value) if known else ("", "tensor" if form.startswith("tensor.") else form)


def _report(column: Column, known: Sequence[Key]) -> dict[str, Any]:
    subject, versions = column.subject, column.versions
    return {
        "page": column.page(),
        "backend": subject.backend,
        "version": subject.version,
        "device": subject.device,
        "vendor": subject.vendor,
        "evidence": subject.evidence,
        "statement": column.statement,
        "claim": column.claim,
        "draft": column.draft,
        "signature": signature(column),
        "date": column.date,
        "spec": _identified(versions.spec, versions.spec_digest),
        "suite": _identified(versions.suite, versions.suite_digest),
        "profile": column.profile,
        "levels": {
            level.value: [counts.get(Verdict.PASS, 0), sum(counts.values())] for level, counts in column.levels.items()
        },
        "strict": column.strict,
        "squares": letters(column, known),
    }


def _identified(version: str, digest: str) -> str:
    """Return a version with the beginning of its digest: drafts of one version differ."""
    return f"{version}, {digest[:_DIGITS]}" if digest else version


def details_script(column: Column) -> str:
    """Return `details.js` of one report: the numbers of its squares by form and dtype, and its failures.

    Of a square: cases, elements, and the largest error as a share of its bound (-1 where it has no bound). Of a
    failure: id, verdict and form, in the order of the cards on the report's page.
    """
    squares = {
        form: {dtype: [s.cases, s.elements, _finite(s.error)] for dtype, s in row.items()}
        for form, row in column.squares.items()
    }
    failures = [[id_, verdict.value, form] for id_, verdict, form in column.failures]
    content = {"squares": squares, "failures": failures}
    return f"SITE_DETAILS[{_json(column.page())}] = {_json(content)};\n"


def _finite(error: float) -> float:
    if not math.isfinite(error):
        return -1
    short = float(f"{error:.4g}")
    return short if math.isfinite(short) else error  # the largest number was rounded up to infinity


def _script(name: str, content: object) -> str:
    return f'"use strict";\nconst {name} = {_json(content)};\nconst SITE_DETAILS = {{}};\n'


def _json(content: object) -> str:
    """Return JSON in ASCII; it may also stand in a page without ending the script."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
