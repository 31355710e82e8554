"""The bring-up ladder: cases that others need run first, and what they need but did not pass blocks them.

A case that is needed is a *rung*. Rungs are few and quick, so they run one after the other before everything else; a
needed case that is not part of the run is not asked for. Some rungs stand for a `SERIES` of cases, the same at other
sizes: where one of those is broken, as where a transfer loses the end of what is longer than 64 bytes, what stands on
the rung would fail too, and say less of why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from graphlib import CycleError, TopologicalSorter

from portkit.conformance.case import Case
from portkit.conformance.journal import Entry
from portkit.conformance.select import matches
from portkit.conformance.verdict import Verdict
from portkit.errors import HarnessError

_STOPS = frozenset(Verdict) - {Verdict.PASS, Verdict.WAIVED, Verdict.UNSUPPORTED}
_BROKEN = frozenset({Verdict.FAIL, Verdict.CRASH, Verdict.TIMEOUT})
SERIES: Mapping[str, tuple[str, ...]] = {
    "device/transfer/size_64": tuple(f"device/transfer/size_{n}" for n in (1, 2, 3, 4, 7, 63, 65, 255, 4096, 4097)),
    "device/launch/index": tuple(f"device/launch/groups_{n}" for n in (2, 3, 64)),
}
"""What a rung stands for besides itself: whoever needs it, and is no part of it, rests on these too."""
STAGES = (
    "device/info",
    "device/allocate/one",
    "device/transfer/size_*",
    "device/transfer",
    "device/allocate/[!a]*",  # those of alignment launch a kernel
    "device/copy/whole",
    "device/copy/offsets",
    "device/copy/within_one_buffer",
    "device/synchronise",
    "device/launch/one_lane",
    "device/launch/index",
    "device/launch/groups_*",
    "device/launch",
    "device",
    "ops/load",
    "ops/store",
    "ops/add",
    "ops/mul",
    "ops/phi.lt",
    "ops/barrier",
    "ops",
    "kernels",
    "tensors",
)
"""Ids and prefixes in the order of bring-up: what fails at one of them explains failures further down."""


@cache
def stage(case_id: str) -> int:
    """Return how far up the ladder a case stands: its place among `STAGES`, their number if it is in none."""
    return next((place for place, pattern in enumerate(STAGES) if matches(pattern, case_id)), len(STAGES))


class Ladder:
    """The rungs among the cases of one run, in an order in which each stands above what it needs."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self._ids = [case.id for case in cases]
        self._expanded: dict[str, tuple[str, ...]] = {}
        needs = {case.id: (*self.needs(case), *self.series(case)) for case in cases if case.needs}
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

    def series(self, case: Case) -> tuple[str, ...]:
        """Return the ids of this run that a case rests on besides, as its needs stand for them."""
        rows = [SERIES[need] for need in case.needs if need in SERIES and case.id not in SERIES[need]]
        return tuple(i for row in rows for member in row for i in self._expand(member))

    def _expand(self, pattern: str) -> tuple[str, ...]:
        if pattern not in self._expanded:
            self._expanded[pattern] = tuple(i for i in self._ids if matches(pattern, i))
        return self._expanded[pattern]

    def blocked(self, case: Case, entries: Mapping[str, Entry]) -> Entry | None:
        """Return the entry of a case that cannot be judged because of what was found so far, None if it can."""
        asked = [(rung, _STOPS) for rung in self.needs(case)] + [(rung, _BROKEN) for rung in self.series(case)]
        for rung, stops in asked:
            found = entries.get(rung)
            if found is not None and found.verdict in stops:
                reason = f"needs {rung}, whose verdict is {found.verdict.value}"
                cells = tuple(str(cell) for cell in case.cells)
                return Entry(case.id, Verdict.BLOCKED, case.level.value, reason=reason, cells=cells)
        return None
