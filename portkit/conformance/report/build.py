"""From a journal to a report; every number in it is counted here from the entries."""

from __future__ import annotations

from collections import Counter

import msgspec

from portkit.conformance.card import render as render_card
from portkit.conformance.case import Cell, Level, Tier
from portkit.conformance.cases.cells import cells as declared_cells
from portkit.conformance.journal import Entry, Header, Journal
from portkit.conformance.report.html import worst
from portkit.conformance.report.model import (
    REPORT_VERSION,
    CaseResult,
    CellResult,
    Failure,
    Report,
    Subject,
    Versions,
)
from portkit.conformance.report.statement import limits, statement
from portkit.conformance.verdict import Verdict

MAX_CARDS = 200
"""Failure cards kept in a report; the journal has them all."""


def from_journal(journal: Journal, *, seconds: float = 0.0) -> Report:
    """Return the report of a run; `seconds` is its wall time.

    A run passes if it has entries, each of them has a verdict that passes, and, where it is a whole run of at least the
    standard tier, no declared cell is without a case.
    """
    header = journal.header
    levels = [level.value for level in Level]
    entries = sorted(journal.entries.values(), key=lambda e: (levels.index(e.level), e.id))
    known = {str(cell): cell for cell in declared_cells(header.capabilities)}
    covered = _by_cell(entries)
    tier, selection = Tier(header.tier), bool(header.patterns)
    uncovered = () if selection or tier is Tier.SMOKE else tuple(name for name in known if name not in covered)
    passed = bool(entries) and all(e.verdict.passes for e in entries) and not uncovered
    return Report(
        report=REPORT_VERSION,
        subject=_subject(header),
        versions=_versions(header),
        profile=header.profile,
        tier=header.tier,
        patterns=header.patterns,
        statement=statement(header.capabilities.evidence, header.profile, tier, passed=passed, selection=selection),
        passed=passed,
        limits=limits(header.capabilities),
        capabilities=msgspec.to_builtins(header.capabilities),
        date=header.started[:10],
        seconds=round(seconds, 3),
        counts=_counts(entries),
        levels={level: _counts([e for e in entries if e.level == level]) for level in _levels(entries)},
        cells=tuple(_cell(known[name], found) for name, found in covered.items() if name in known),
        declared_cells=len(known),
        uncovered=uncovered,
        cases=tuple(_case(e) for e in entries),
        failures=_failures(entries),
    )


def _subject(header: Header) -> Subject:
    capabilities, info = header.capabilities, header.info
    return Subject(
        backend=capabilities.name,
        version=capabilities.version,
        vendor=capabilities.vendor,
        device=info.device,
        evidence=capabilities.evidence,
        driver=info.driver,
        compiler=info.compiler,
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


def _levels(entries: list[Entry]) -> list[str]:
    present = {e.level for e in entries}
    return [level.value for level in Level if level.value in present]


def _counts(entries: list[Entry]) -> dict[str, int]:
    counted = Counter(e.verdict for e in entries)
    return {verdict.value: counted[verdict] for verdict in Verdict if counted[verdict]}


def _by_cell(entries: list[Entry]) -> dict[str, list[Entry]]:
    grouped: dict[str, list[Entry]] = {}
    for entry in entries:
        for name in entry.cells:
            grouped.setdefault(name, []).append(entry)
    return dict(sorted(grouped.items()))


def _cell(cell: Cell, found: list[Entry]) -> CellResult:
    return CellResult(
        form=cell.form,
        dtype=cell.dtype,
        lanes=cell.lanes,
        source=cell.source,
        cases=len(found),
        elements=sum(e.elements for e in found),
        verdict=worst([e.verdict.value for e in found]),
        error_share=max(e.error_share for e in found),
    )


def _case(entry: Entry) -> CaseResult:
    return CaseResult(
        id=entry.id,
        verdict=entry.verdict.value,
        level=entry.level,
        elements=entry.elements,
        seconds=round(entry.seconds, 6),
        error_share=entry.error_share,
        ill_conditioned=entry.ill_conditioned,
        digest=entry.digest,
        bit_exact=entry.bit_exact,
        reason=entry.reason,
    )


def _failures(entries: list[Entry]) -> tuple[Failure, ...]:
    """Return the cards of what did not pass, without generated source: a report may be published."""
    wrong = [e for e in entries if e.card is not None and e.verdict is not Verdict.PASS]
    shown = (
        (e, msgspec.structs.replace(e.card, source="", detail="")) for e in wrong[:MAX_CARDS] if e.card is not None
    )
    return tuple(
        Failure(id=e.id, verdict=e.verdict.value, suspect=card.suspect, card=f"{e.reason}\n{render_card(card)}")
        for e, card in shown
    )
