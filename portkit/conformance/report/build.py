"""From a journal to a report; every number in it is counted here from the entries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from portkit.conformance.card import render as render_card
from portkit.conformance.case import Cell, Level, Tier
from portkit.conformance.cases.cells import cells as declared_cells
from portkit.conformance.journal import Entry, Header, Journal
from portkit.conformance.report.model import (
    MAX_LONG_TEXT,
    MAX_TEXT,
    REPORT_VERSION,
    CaseResult,
    CellResult,
    Failure,
    Report,
    Subject,
    Versions,
)
from portkit.conformance.report.sensitivity import mutation_score
from portkit.conformance.report.stability import determinism
from portkit.conformance.report.statement import limits, statement
from portkit.conformance.report.text import publishable, publishable_name
from portkit.conformance.roots import each_fault_first
from portkit.conformance.verdict import Verdict
from portkit.contract import Capabilities
from portkit.errors import SchemaError

MAX_CARDS = 200
"""Failure cards kept in a report; the journal has them all."""
MAX_REASON = 2_000
MAX_MUTANT = 100


class Judged(Protocol):
    """What is counted: a journal's entry, or a report's case."""

    @property
    def verdict(self) -> Verdict: ...


def from_journal(journal: Journal, *, seconds: float = 0.0) -> Report:
    """Return the report of a run; `seconds` is its wall time, 0 where it is not known.

    Raises `SchemaError` where the journal cannot be that of a run.
    """
    header = journal.header
    tier, entries = _in_order(header, journal.entries.values())
    capabilities = publishable_capabilities(header.capabilities)
    known = {str(cell): cell for cell in declared_cells(capabilities, header.profile)}
    by_cell = _by_cell(entries)
    covered = {name: by_cell[name] for name in known if name in by_cell}
    planned = max(header.cases, len(entries))
    uncovered = missing_cells(known, covered, tier, owes_all=not header.patterns and len(entries) == planned)
    passed = holds(entries, uncovered, planned, header.mutant)
    report = Report(
        report=REPORT_VERSION,
        subject=_subject(header, capabilities),
        versions=_versions(header),
        profile=publishable_name(header.profile),
        tier=tier,
        patterns=tuple(publishable(pattern, MAX_TEXT) for pattern in header.patterns),
        statement=statement(
            capabilities.evidence,
            publishable_name(header.profile),
            tier,
            passed=passed,
            selection=bool(header.patterns),
            mutant=_mutant(header),
            missing=planned - len(entries),
            waived=count(entries).get(Verdict.WAIVED, 0),
        ),
        passed=passed,
        limits=limits(capabilities),
        capabilities=capabilities,
        started=header.started,
        seconds=round(seconds, 3),
        counts=count(entries),
        levels=count_levels(entries),
        cells=tuple(cell_result(known[name], found) for name, found in covered.items()),
        declared_cells=len(known),
        uncovered=uncovered,
        planned=planned,
        cases=tuple(_case(e) for e in entries),
        failures=_failures(entries),
        mutant=_mutant(header),
        determinism=determinism(header, entries),
        mutation_score=mutation_score(header.suite_digest, header.spec_digest, tier),
    )
    return validated(report)


def validated(report: Report) -> Report:
    """Return a report that was made here, having checked that it can be read again; raises `SchemaError` if not."""
    try:
        return msgspec.convert(msgspec.to_builtins(report), Report)
    except msgspec.ValidationError as error:
        raise SchemaError(f"the journal does not make a report: {error}") from error


def publishable_capabilities(capabilities: Capabilities) -> Capabilities:
    """Return capabilities whose strings may stand in a report."""
    return msgspec.structs.replace(
        capabilities,
        name=publishable_name(capabilities.name),
        version=publishable(capabilities.version, MAX_TEXT),
        vendor=publishable(capabilities.vendor, MAX_TEXT),
    )


# --- what follows from the verdicts; a report from outside is held against the same functions ----------------------


def count(judged: Iterable[Judged]) -> dict[Verdict, int]:
    """Return how often each verdict was given, the best first."""
    counted = Counter(j.verdict for j in judged)
    return {verdict: counted[verdict] for verdict in Verdict if counted[verdict]}


def count_levels(judged: Sequence[Entry] | Sequence[CaseResult]) -> dict[Level, dict[Verdict, int]]:
    """Return how often each verdict was given on each level that has cases."""
    by_level = {level: [j for j in judged if Level(j.level) is level] for level in Level}
    return {level: count(found) for level, found in by_level.items() if found}


def missing_cells(declared: Iterable[str], covered: Iterable[str], tier: Tier, *, owes_all: bool) -> tuple[str, ...]:
    """Return the declared cells that a run should have covered and did not.

    `owes_all` is whether it was a whole run, neither a selection nor cut off; the smoke tier owes none.
    """
    if not owes_all or tier is Tier.SMOKE:
        return ()
    present = set(covered)
    return tuple(name for name in declared if name not in present)


def holds(judged: Sequence[Judged], uncovered: Sequence[str], planned: int, mutant: str) -> bool:
    """Whether a run passes: every planned case has a verdict that passes, and some case does without a waiver.

    One with a planted fault passes in no case: it is not about the device.
    """
    verdicts = {j.verdict for j in judged}
    complete = len(judged) >= planned and not uncovered and not mutant
    return complete and Verdict.PASS in verdicts and all(v.passes for v in verdicts)


# --- the parts ----------------------------------------------------------------------------------------------------


def _in_order(header: Header, entries: Iterable[Entry]) -> tuple[Tier, list[Entry]]:
    """Return the tier, and the entries by level and id. Raises `SchemaError` for an unknown tier or level."""
    order = {level.value: place for place, level in enumerate(Level)}
    try:
        return Tier(header.tier), sorted(entries, key=lambda e: (order[e.level], e.id))
    except (ValueError, KeyError) as error:
        raise SchemaError(f"the journal names a tier or level that there is not: {error}") from error


def _mutant(header: Header) -> str:
    return publishable(header.mutant, MAX_MUTANT)


def _subject(header: Header, capabilities: Capabilities) -> Subject:
    info = header.info
    return Subject(
        backend=capabilities.name,
        version=capabilities.version,
        vendor=capabilities.vendor,
        device=publishable(info.device, MAX_TEXT),
        evidence=capabilities.evidence,
        driver=publishable(info.driver, MAX_TEXT),
        compiler=publishable(info.compiler, MAX_TEXT),
    )


def _versions(header: Header) -> Versions:
    return Versions(
        portkit=header.portkit,
        spec=header.spec,
        spec_digest=header.spec_digest,
        suite=header.suite,
        suite_digest=header.suite_digest,
        backend_digest=header.backend_digest,
        contract=header.contract,
    )


def _by_cell(entries: list[Entry]) -> dict[str, list[Entry]]:
    grouped: dict[str, list[Entry]] = {}
    for entry in entries:
        for name in entry.cells:
            grouped.setdefault(name, []).append(entry)
    return grouped


def cell_result(cell: Cell, found: Sequence[Entry] | Sequence[CaseResult]) -> CellResult:
    """Return what the cases of a cell, one at least, found together."""
    return CellResult(
        form=cell.form,
        dtype=cell.dtype,
        lanes=cell.lanes,
        source=cell.source,
        cases=len(found),
        elements=sum(e.elements for e in found),
        verdict=max((e.verdict for e in found), key=lambda verdict: verdict.severity),
        error_share=max(e.error_share for e in found),
    )


def _case(entry: Entry) -> CaseResult:
    return CaseResult(
        id=entry.id,
        verdict=entry.verdict,
        level=Level(entry.level),
        elements=entry.elements,
        seconds=round(entry.seconds, 6),
        error_share=entry.error_share,
        ill_conditioned=entry.ill_conditioned,
        digest=entry.digest,
        bit_exact=entry.bit_exact,
        reason=publishable(entry.reason, MAX_REASON),
        runs=entry.runs,
        failed=entry.failed,
        after=entry.after,
        varying=entry.varying,
    )


def _failures(entries: list[Entry]) -> tuple[Failure, ...]:
    """Return the cards of what did not pass: of each fault the first, what explains others before them.

    Generated source and vendors' text are left out: a report may be published.
    """
    shown = [
        (e, msgspec.structs.replace(e.card, source="", detail=""))
        for e in each_fault_first(entries)[:MAX_CARDS]
        if e.card is not None
    ]
    return tuple(
        Failure(
            id=e.id,
            verdict=e.verdict,
            suspect=publishable(card.suspect, MAX_TEXT),
            card=publishable(f"{e.reason}\n{render_card(card)}", MAX_LONG_TEXT),
        )
        for e, card in shown
    )
