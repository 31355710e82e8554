"""The bring-up ladder: cases that others need run first, and what they need but did not pass blocks them.

A case that is needed is a *rung*. Rungs are few and quick, so they run one after the other before everything else; a
needed case that is not part of the run is not asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from portkit.conformance.case import Case
from portkit.conformance.journal import Entry
from portkit.conformance.select import matches
from portkit.conformance.verdict import Verdict
from portkit.errors import HarnessError

_HOLDS = frozenset({Verdict.PASS, Verdict.WAIVED, Verdict.UNSUPPORTED})


class Ladder:
    """The rungs among the cases of one run, in an order in which each stands above what it needs."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self._ids = [case.id for case in cases]
        self._expanded: dict[str, tuple[str, ...]] = {}
        needs = {case.id: self.needs(case) for case in cases if case.needs}
        needed = {rung for rungs in needs.values() for rung in rungs}
        by_id = {case.id: case for case in cases if case.id in needed}
        graph = {rung: tuple(n for n in needs.get(rung, ()) if n in needed) for rung in self._ids if rung in needed}
        try:
            self.rungs = [by_id[rung] for rung in TopologicalSorter(graph).static_order()]
        except CycleError as error:
            raise HarnessError(f"cases need each other in a circle: {error.args[1]}") from error

    def needs(self, case: Case) -> tuple[str, ...]:
        """Return the ids of this run that a case needs."""
        return tuple(i for pattern in case.needs for i in self._expand(pattern) if i != case.id)

    def _expand(self, pattern: str) -> tuple[str, ...]:
        if pattern not in self._expanded:
            self._expanded[pattern] = tuple(i for i in self._ids if matches(pattern, i))
        return self._expanded[pattern]

    def blocked(self, case: Case, entries: Mapping[str, Entry]) -> Entry | None:
        """Return the entry of a case that cannot be judged because of what was found so far, None if it can."""
        for rung in self.needs(case):
            found = entries.get(rung)
            if found is not None and found.verdict not in _HOLDS:
                reason = f"needs {rung}, whose verdict is {found.verdict.value}"
                cells = tuple(str(cell) for cell in case.cells)
                return Entry(case.id, Verdict.BLOCKED, case.level.value, reason=reason, cells=cells)
        return None
