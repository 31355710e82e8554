"""Errata: cases of a released suite that were wrong, and count neither for nor against a report.

[[erratum]]
name = "2027-01"
cases = "ops/mul.hi/u32/*"
suites = ["3eecf1be..."]
date = 2027-01-15
reason = "the expected upper half was one too small when both operands are odd"
link = "https://example.com/errata/2027-01"

A report stays as it was made and signed; what it says once the errata are applied is computed anew by whoever reads
it. So an erratum voids no report, and one that failed for a wrong case alone passes without being run again. A case
that is withdrawn is repaired under the next suite, whose digest the erratum does not name.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import msgspec

from portkit.conformance.report.build import holds
from portkit.conformance.report.model import Name, Report
from portkit.conformance.report.statement import statement
from portkit.conformance.select import matches
from portkit.conformance.verdict import Verdict
from portkit.conformance.waivers import Link, Pattern, Text
from portkit.errors import SchemaError

_MOST = 1000
_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")]


class Erratum(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One erratum: `cases` is an id, a prefix or a glob of what the suites with these digests had wrong."""

    name: Name
    cases: Pattern
    suites: Annotated[tuple[_Digest, ...], msgspec.Meta(min_length=1, max_length=_MOST)]
    date: dt.date
    reason: Text
    link: Link


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    erratum: Annotated[tuple[Erratum, ...], msgspec.Meta(max_length=_MOST)] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """What a report says once the errata are applied; `withdrawn` are its cases that one means, with its name."""

    passed: bool
    statement: str
    withdrawn: Mapping[str, str]


def load_errata(path: Path) -> tuple[Erratum, ...]:
    """Read a list of errata. Raises `SchemaError` naming the field, or the name that stands twice."""
    try:
        errata = msgspec.toml.decode(path.read_bytes(), type=_File).erratum
    except (msgspec.MsgspecError, ValueError, RecursionError, OSError) as error:
        raise SchemaError(f"{path.name}: not a list of errata: {error}") from error
    names = [erratum.name for erratum in errata]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SchemaError(f"{path.name}: {', '.join(twice)} stands there twice; give each erratum a name of its own")
    return errata


@cache
def published() -> tuple[Erratum, ...]:
    """Return the errata that this portkit knows."""
    return load_errata(Path(str(files("portkit.conformance").joinpath("errata.toml"))))


def standing(report: Report, errata: Sequence[Erratum] | None = None) -> Standing:
    """Return what a report says once the errata are applied, by default those of this portkit."""
    known = published() if errata is None else errata
    meant = [erratum for erratum in known if report.versions.suite_digest in erratum.suites]
    withdrawn = {case.id: e.name for e in reversed(meant) for case in report.cases if matches(e.cases, case.id)}
    if not withdrawn:
        return Standing(report.passed, report.statement, {})
    left = [case for case in report.cases if case.id not in withdrawn]
    planned = report.planned - len(withdrawn)
    passed = holds(left, report.uncovered, planned, report.mutant)
    said = statement(
        report.subject.evidence,
        report.profile,
        report.tier,
        passed=passed,
        selection=bool(report.patterns),
        mutant=report.mutant,
        missing=planned - len(left),
        waived=sum(case.verdict is Verdict.WAIVED for case in left),
    )
    return Standing(passed, f"{said}; {_told(withdrawn)}", withdrawn)


def _told(withdrawn: Mapping[str, str]) -> str:
    names = ", ".join(sorted(set(withdrawn.values())))
    return f"{len(withdrawn)} withdrawn {'case' if len(withdrawn) == 1 else 'cases'}, erratum {names}"
