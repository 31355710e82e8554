"""What changed from one published report of a backend to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from portkit.conformance.site.columns import Column
from portkit.conformance.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Changes:
    """How many squares (a form with a dtype) came out better or worse than before, came new, or were dropped."""

    better: int
    worse: int
    added: int
    dropped: int

    def __str__(self) -> str:
        parts = [f"{n} {what}" for what, n in (("worse", self.worse), ("better", self.better)) if n]
        parts += [f"{n} {what}" for what, n in (("new", self.added), ("dropped", self.dropped)) if n]
        return ", ".join(parts) or "no change"


@dataclass(frozen=True, slots=True)
class Event:
    """A report in the history of its backend; `number` is its place among all reports of the site.

    `before` and `changes` are None for the first of its backend.
    """

    number: int
    column: Column
    before: int | None = None
    changes: Changes | None = None


def _verdicts(column: Column) -> dict[tuple[str, str], Verdict]:
    return {(form, dtype): s.verdict for form, row in column.squares.items() for dtype, s in row.items()}


def changes(new: Column, old: Column) -> Changes:
    """Return what changed from an old report to a new one."""
    now, then = _verdicts(new), _verdicts(old)
    steps = [now[key].severity - then[key].severity for key in now.keys() & then.keys()]
    return Changes(
        better=sum(step < 0 for step in steps),
        worse=sum(step > 0 for step in steps),
        added=len(now.keys() - then.keys()),
        dropped=len(then.keys() - now.keys()),
    )


def history(columns: Sequence[Column]) -> list[Event]:
    """Return an event for every report; those of one backend stand together, newest first."""
    return [_event(columns, number) for number in range(len(columns))]


def _event(columns: Sequence[Column], number: int) -> Event:
    new = columns[number]
    if number + 1 == len(columns) or columns[number + 1].backend != new.backend:
        return Event(number, new)
    return Event(number, new, number + 1, changes(new, columns[number + 1]))
