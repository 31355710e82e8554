"""What the matrix keeps of a published report: one column, small enough that a site holds hundreds of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal
from urllib.parse import quote

import msgspec

from portkit.conformance.attest.checks import Signed
from portkit.conformance.case import Level, Tier
from portkit.conformance.errata import standing
from portkit.conformance.registry import Entry
from portkit.conformance.report import html, sensitivity, stability
from portkit.conformance.report.model import CellResult, Failure, MutationScore, Report, Subject, Versions
from portkit.conformance.verdict import Verdict
from portkit.spec.forms import FORMS
from portkit.spec.types import DTYPES


class Square(msgspec.Struct, frozen=True):
    """A form with one dtype, its lane counts and cast sources folded: the worst verdict, and the largest error.

    `error` is a share of the bound.
    """

    verdict: Verdict
    cases: int
    elements: int
    error: float


class Column(msgspec.Struct, frozen=True):
    """A report as the matrix shows it; `strict` is how many outputs fixed by the spec are right, and of how many."""

    folder: str
    draft: bool
    signed: Signed
    subject: Subject
    versions: Versions
    profile: str
    tier: Tier
    statement: str
    passed: bool
    started: str
    determinism: str
    mutants: str
    mutation_score: MutationScore | None
    counts: dict[Verdict, int]
    levels: dict[Level, dict[Verdict, int]]
    strict: tuple[int, int]
    squares: dict[str, dict[str, Square]]
    failures: tuple[tuple[str, Verdict, str], ...]
    """Id, verdict and form of each failure that the report has a card of, in its order; the form may be empty."""

    @property
    def backend(self) -> str:
        return self.subject.backend

    @property
    def date(self) -> str:
        """The day on which the run began, in UTC."""
        return self.started[:10]

    @property
    def claim(self) -> Literal["pass", "weaker", "fail"]:
        """How the statement is coloured: what passed on weaker evidence, or in part, is not shown like a conformant."""
        if not self.passed:
            return "fail"
        return "pass" if self.statement.startswith("conformant") else "weaker"

    def page(self, anchor: str = "") -> str:
        """Return the address of the report's page, or of a place in it, from the index of the site."""
        return f"reports/{quote(self.folder)}/index.html" + (f"#{anchor}" if anchor else "")


def column(entry: Entry) -> Column:
    """Return what the matrix keeps of a published report."""
    report = entry.report
    now = standing(report)
    return Column(
        entry.folder,
        entry.manifest.draft,
        entry.signed,
        report.subject,
        report.versions,
        report.profile,
        report.tier,
        now.statement,
        now.passed,
        report.started,
        stability.sentence(report.determinism),
        sensitivity.sentence(report.mutation_score),
        report.mutation_score,
        report.counts,
        report.levels,
        _strict(report),
        squares(report.cells),
        tuple((f.id, f.verdict, _form_of(f)) for f in report.failures),
    )


def _strict(report: Report) -> tuple[int, int]:
    fixed = report.strict_cases
    return sum(case.bit_exact is True for case in fixed), len(fixed)


def squares(cells: Iterable[CellResult]) -> dict[str, dict[str, Square]]:
    """Return the squares of a coverage table by form and dtype, both in the order of the spec.

    Tensor functions have squares too.
    """
    grid: dict[str, dict[str, list[CellResult]]] = {}
    for cell in cells:
        grid.setdefault(cell.form, {}).setdefault(cell.dtype, []).append(cell)
    return {
        form: {dtype: _square(grid[form][dtype]) for dtype in in_order(grid[form], DTYPES)}
        for form in in_order(grid, FORMS)
    }


def in_order(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return names in the order in which they are known; others, such as tensor functions, follow by name."""
    given = set(names)
    first = [name for name in known if name in given]
    return first + sorted(given.difference(first))


def _square(cells: list[CellResult]) -> Square:
    return Square(
        html.worst(c.verdict for c in cells),
        sum(c.cases for c in cells),
        sum(c.elements for c in cells),
        max(c.error_share for c in cells),
    )


def _form_of(failure: Failure) -> str:
    """Return the form that a failure is of, by its suspect or else by the case's id; empty where neither names one."""
    names = (failure.suspect.partition("/")[0], *failure.id.split("/")[1:2])
    return next((name for name in names if name in FORMS), "")


def newest(found: Iterable[Column]) -> list[Column]:
    """Return the newest report of each backend; those of one backend must come newest first."""
    first: dict[str, Column] = {}
    for one in found:
        first.setdefault(one.backend, one)
    return list(first.values())
