"""`portkit diff`: what got worse between two reports, and nothing else."""

from __future__ import annotations

from portkit.conformance.report.model import Record, Report
from portkit.conformance.verdict import Verdict


class Change(Record, frozen=True):
    """One difference that a reader should look at; empty `before` or `after` where the case was not run."""

    id: str
    before: str
    after: str
    note: str = ""


def regressions(before: Report, after: Report) -> list[Change]:
    """Return the cases whose verdict is more serious in `after`, that vanished, or whose strict outputs changed."""
    old = {c.id: c for c in before.cases}
    new = {c.id: c for c in after.cases}
    changes = [
        Change(id, old[id].verdict, new[id].verdict)
        for id in old.keys() & new.keys()
        if Verdict(new[id].verdict).severity > Verdict(old[id].verdict).severity
    ]
    changes += [Change(id, old[id].verdict, "", "not run any more") for id in old.keys() - new.keys()]
    changes += [
        Change(id, new[id].verdict, new[id].verdict, "strict outputs differ")
        for id in old.keys() & new.keys()
        if old[id].digest and new[id].digest and old[id].digest != new[id].digest
    ]
    return sorted(changes, key=lambda c: c.id)
