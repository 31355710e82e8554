"""What finds each seeded fault, as a page for people, from the recorded kill matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from portkit.conformance.case import Tier
from portkit.conformance.mutants import record as records
from portkit.conformance.mutants.record import Record
from portkit.conformance.mutants.table import MUTANTS, equivalent, fits

_SHOWN = 3
_HEAD = """# How good the suite is

Each of {mutants} faults was planted in the `{backend}` backend, and every case of tier `standard`, profile `core`, that
it could show in was tried on it, until {most} cases of each family had found it. `portkit mutants` does the same on any
backend;
`portkit mutants --replay` runs only the killers that are recorded here. {fit}
"""
_WORTH = """How many faults would not be found without it: those that nothing else finds. Of a check it is at most so
many, as only some cases of each family were tried on a fault. The checks `repeat`, `order` and `graph` take more than
one launch or the level `tensors`, and are shown by broken devices in the suite's own tests instead; `kernels/refuse`
tries the reader and the verifier, which are the same for every port, so that no fault of a port can show in it. Another
family that has none is a second witness: each fault that it found, others found too."""
_FITS = "This is the record of the suite in this version."
_OLD = "The record is that of an earlier suite: some case or mutant has changed since."


def page() -> str:
    """Return the Markdown of the record."""
    record = records.load()
    head = _HEAD.format(
        mutants=len(record.mutants),
        backend=record.backend,
        most=records.KILLS_PER_FAMILY,
        fit=_FITS if fits(record) else _OLD,
    )
    return "\n".join([head, *_scores(record), *_equivalent(), *_worth(record), *_killers(record), ""])


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(line)} |" for line in lines] + [""]


def _scores(record: Record) -> list[str]:
    rows = [(f"`{tier.value}`", str(records.score(record, tier))) for tier in (Tier.SMOKE, Tier.STANDARD)]
    alive = records.survivors(record)
    lost = [f"Not found: {', '.join(f'`{name}`' for name in alive)}.", ""] if alive else []
    return ["## Mutation score", "", *_table(("tier", "faults found"), rows), *lost]


def _equivalent() -> list[str]:
    head = "Faults that no case can tell from a right device, where copies are done at once and lanes run in order:"
    rows = [(f"`{mutant.name}`", mutant.equivalent) for mutant in equivalent()]
    return ["## Equivalent mutants", "", head, "", *_table(("mutant", "why"), rows)]


def _worth(record: Record) -> list[str]:
    checks = {check.value: lost for check, lost in records.only_by_check(record).items()}
    return [
        "## What each check is worth",
        "",
        _WORTH,
        "",
        *_lost("check of the judge", checks),
        *_lost("family of cases", records.only_by_family(record)),
    ]


def _lost(title: str, lost: Mapping[str, Sequence[str]]) -> list[str]:
    rows = [(f"`{name}`", str(len(found)), _names(found)) for name, found in lost.items()]
    return _table((title, "lost", "such as"), rows)


def _names(found: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in found[:_SHOWN])


def _killers(record: Record) -> list[str]:
    rows = [
        (f"`{name}`", MUTANTS[name].summary if name in MUTANTS else "", _names([k.case for k in found.killers[:1]]))
        for name, found in record.mutants.items()
    ]
    return ["## Which case finds which", "", *_table(("mutant", "fault", "found by"), rows)]
