"""Whether a report says what its own cases say: counts, claim and coverage are computed again and compared."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable

from portkit import __version__
from portkit.conformance.case import Cell
from portkit.conformance.cases.cells import cells as declared_cells
from portkit.conformance.report.build import count, count_levels, holds, missing_cells
from portkit.conformance.report.model import CaseResult, Report
from portkit.conformance.report.sensitivity import mutation_score
from portkit.conformance.report.stability import is_identical, is_measured
from portkit.conformance.report.statement import limits, statement
from portkit.conformance.verdict import Verdict
from portkit.errors import SchemaError
from portkit.spec import forms

_WITHOUT_CARD = frozenset({Verdict.PASS, Verdict.UNSUPPORTED})


def check_consistent(report: Report) -> None:
    """Raise `SchemaError`, naming the field, where a report contradicts itself.

    A report that was changed by hand is found where its parts no longer fit each other; whether they fit the run, only
    the journal can tell.
    """
    for field, follows in _RULES:
        if not follows(report):
            raise SchemaError(
                f"the report contradicts itself: its {field} does not follow from the rest; "
                "write it again with portkit report OUT, or run the suite again"
            )


def _unique_cases(report: Report) -> bool:
    return len({c.id for c in report.cases}) == len(report.cases) <= report.planned


def _strict_digests(report: Report) -> bool:
    return all((c.bit_exact is None) == (not c.digest) for c in report.cases)


def _counts(report: Report) -> bool:
    return report.counts == count(report.cases) and report.levels == count_levels(report.cases)


def _claim(report: Report) -> bool:
    return report.passed == holds(report.cases, report.uncovered, report.planned, report.mutant)


def _statement(report: Report) -> bool:
    return report.statement == statement(
        report.subject.evidence,
        report.profile,
        report.tier,
        passed=report.passed,
        selection=bool(report.patterns),
        mutant=report.mutant,
        missing=report.planned - len(report.cases),
        waived=report.counts.get(Verdict.WAIVED, 0),
    )


def _subject(report: Report) -> bool:
    said, declared = report.subject, report.capabilities
    names = ("version", "vendor", "evidence")
    return said.backend == declared.name and all(getattr(said, n) == getattr(declared, n) for n in names)


def _cells(report: Report) -> bool:
    named = Counter(str(Cell(c.form, c.dtype, c.lanes, c.source)) for c in report.cells)
    if any(n > 1 for n in named.values()) or named.keys() & set(report.uncovered) or not _cells_are_of_cases(report):
        return False
    if report.versions.spec_digest != forms.digest():
        return True  # by another spec, whose cells are not known here
    known = [str(cell) for cell in declared_cells(report.capabilities, report.profile)]
    whole = not report.patterns and len(report.cases) == report.planned
    uncovered = missing_cells(known, named, report.tier, owes_all=whole)
    return report.declared_cells == len(known) and named.keys() <= set(known) and report.uncovered == uncovered


def _cells_are_of_cases(report: Report) -> bool:
    """Whether each cell could be the sum of some cases; which they are, only the suite knows."""
    verdicts = {case.verdict for case in report.cases}
    most = (len(report.cases), sum(case.elements for case in report.cases))
    return all(c.verdict in verdicts and c.cases <= most[0] and c.elements <= most[1] for c in report.cells)


def _figures(report: Report) -> bool:
    return all(map(_is_possible, report.cases))


def _is_possible(case: CaseResult) -> bool:
    """Whether what was measured of a case goes with its verdict."""
    if case.verdict is Verdict.PASS and (case.error_share > 1 or case.failed):
        return False
    repeated = case.failed <= case.runs or not case.runs
    return repeated and case.ill_conditioned <= case.elements and (case.runs > 1 or not case.varying)


def _started(report: Report) -> bool:
    try:
        dt.datetime.fromisoformat(report.started)
    except ValueError:
        return False
    return True


def _failures(report: Report) -> bool:
    verdicts = {c.id: c.verdict for c in report.cases}
    ids = {f.id for f in report.failures}
    follow = all(f.verdict not in _WITHOUT_CARD and verdicts.get(f.id) is f.verdict for f in report.failures)
    return follow and len(ids) == len(report.failures)


def _determinism(report: Report) -> bool:
    said = report.determinism
    if said is None:
        return True
    measured = [case for case in report.cases if is_measured(case)]
    sums = (said.cases, said.identical) == (len(measured), sum(map(is_identical, measured)))
    runs = all(case.runs == said.runs for case in measured if case.verdict is Verdict.PASS)
    return sums and runs and all(form.identical + form.beyond <= form.cases <= said.cases for form in said.forms)


def _mutation_score(report: Report) -> bool:
    said = report.mutation_score
    if said is None:
        return True
    if report.versions.portkit != __version__:
        return said.killed <= said.mutants  # another version may have tried the same suite on other faults
    known = mutation_score(report.versions.suite_digest, report.versions.spec_digest, report.tier)
    return said.killed <= said.mutants and known in (None, said)


_RULES: tuple[tuple[str, Callable[[Report], bool]], ...] = (
    ("list of cases", _unique_cases),
    ("digests", _strict_digests),
    ("figures", _figures),
    ("begin", _started),
    ("counts", _counts),
    ("coverage", _cells),
    ("claim", _claim),
    ("statement", _statement),
    ("limits", lambda report: report.limits == limits(report.capabilities)),
    ("subject", _subject),
    ("failures", _failures),
    ("determinism", _determinism),
    ("mutation score", _mutation_score),
)
