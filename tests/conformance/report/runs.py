"""Runs without a device: journals made of a few entries, and the folders and reports that follow from them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from portkit.conformance import journal as journals
from portkit.conformance.card import Card
from portkit.conformance.cases.cells import cells
from portkit.conformance.journal import Entry, Header, Journal, JournalWriter
from portkit.conformance.report.build import from_journal
from portkit.conformance.report.model import Report
from portkit.conformance.verdict import Verdict
from portkit.contract import Capabilities, DeviceInfo
from portkit.spec import forms

CHIP = Capabilities(name="chip", version="2.1", vendor="Acme", evidence="silicon")
HEADER = Header(
    journal=journals.JOURNAL_VERSION,
    portkit="0.1",
    spec=forms.VERSION,
    spec_digest=forms.digest(),
    suite="1",
    suite_digest="b" * 64,
    contract="1",
    backend="chip",
    backend_digest="c" * 64,
    capabilities=CHIP,
    info=DeviceInfo("Acme One", driver="acme 5.2", compiler="acmecc 9"),
    profile="core",
    tier="standard",
    started="2026-03-04T05:06:07+00:00",
)
CARD = Card(
    suspect="add/f32",
    replay="portkit conform --backend chip --case ops/add/f32",
    kernel="kernel add_f32",
    source="define void @secret_source()",
    detail="vendor text",
)


def header(**changes: Any) -> Header:
    """Return the header of a run on the chip; `evidence` and `name` change what the chip declares."""
    declared = {key: changes.pop(key) for key in ("evidence", "name", "version", "vendor") if key in changes}
    capabilities = msgspec.structs.replace(changes.pop("capabilities", CHIP), **declared)
    return msgspec.structs.replace(HEADER, capabilities=capabilities, backend=capabilities.name, **changes)


def passing(capabilities: Capabilities = CHIP) -> list[Entry]:
    """Return one passing entry for every declared cell."""
    return [
        Entry(f"ops/{cell}", Verdict.PASS, "ops", elements=100, error_share=0.25, seconds=0.001, cells=(str(cell),))
        for cell in cells(capabilities)
    ]


def entry(id: str = "ops/add/f32", verdict: Verdict = Verdict.FAIL, **changes: Any) -> Entry:
    """Return one entry, by default that of a failure with a card."""
    card = None if verdict is Verdict.PASS else CARD
    made = Entry(id, verdict, id.partition("/")[0], reason="out[3] is wrong", cells=("add/f32",), card=card)
    return msgspec.structs.replace(made, **changes)


def journal(entries: Iterable[Entry] | None = None, **changes: Any) -> Journal:
    """Return a journal, by default of a whole run in which everything passes."""
    found = list(passing() if entries is None else entries)
    changes.setdefault("cases", len(found))
    return Journal(header(**changes), {e.id: e for e in found})


def report(entries: Iterable[Entry] | None = None, **changes: Any) -> Report:
    """Return the report of such a journal."""
    return from_journal(journal(entries, **changes), seconds=1.5)


def write_journal(folder: Path, made: Journal) -> Path:
    """Write a journal into a run's folder and return the folder."""
    journals.create(folder / "journal.jsonl", made.header)
    writer = JournalWriter(folder / "journal.jsonl")
    for found in made.entries.values():
        writer.append(found)
    writer.close()
    return folder


def run_folder(folder: Path, entries: Iterable[Entry] | None = None, **changes: Any) -> Path:
    """Write the folder that `portkit conform` leaves: journal and report."""
    from portkit.conformance.report.write import write_files

    made = journal(entries, **changes)
    write_files(from_journal(made, seconds=1.5), write_journal(folder, made))
    return folder
