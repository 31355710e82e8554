"""What does not pass is run again before its verdict: it fails again, or is flaky, or depends on what ran before.

1. It runs once more in the same device process, if that is alive, then in a fresh one. If it never passes, it fails.
2. If it passes, it runs many times in a fresh process. How often it does not pass there is measured: it is flaky.
3. If it always passes there, and other cases had run in the first process, those are run again before it. If it fails
   then, and reliably, it depends on the order: its finding names the fewest cases that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from portkit.conformance.case import Case
from portkit.conformance.finding import Check, Finding
from portkit.conformance.ordering import SEARCH_SECONDS, Clock, History, find_cause
from portkit.conformance.verdict import Verdict
from portkit.runtime.client import DeviceClient

RUNS = 20
"""How often a case runs in a fresh process to see how flaky it is."""
RUNS_SECONDS = 5.0
_CONFIRMATIONS = 2
_NAMED = 3


class Runnable(Protocol):
    """What runs a case once."""

    def run(self) -> Finding:
        """Run it and return what was found."""
        ...


Replay = Callable[[Case, bool], None]
"""Runs another case for what it leaves behind: as it was run first, or, if True is given, its launch alone."""


class Confirming:
    """One case on one client, and what ran before it in the same process."""

    def __init__(
        self, case: Runnable, client: DeviceClient, history: History | None = None, replay: Replay | None = None
    ) -> None:
        """Prepare; without a history nothing is said of the order."""
        self._case = case
        self._client = client
        self._history = history
        self._replay = replay

    def run(self) -> Finding:
        """Run the case as often as it takes to be sure. What does not pass leaves no process behind."""
        first = self._case.run()
        if first.verdict is Verdict.PASS:
            return first
        found = self._confirmed(first)
        self._client.kill()  # it may have damaged its process; the next case starts with a fresh one
        return found

    def _confirmed(self, first: Finding) -> Finding:
        before = self._history.before(self._client.restarts) if self._history else ()
        here = [first]
        if first.verdict is Verdict.FAIL:  # what crashed or hung has ended its process
            here.append(self._case.run())
        fresh: list[Finding] = []
        if not any(_passes(f) for f in here):
            clean = self._history is not None and not before  # nothing else ran in its process: no need for another
            fresh.append(self._case.run() if clean else self._fresh(()))
            if not _passes(fresh[0]):
                return first
        fresh += self._many(fresh)
        if before and all(_passes(f) for f in fresh):
            cause = self._search(before)
            if cause:
                return _depending(first, cause)
        return _flaky(first, [*here, *fresh])

    def _many(self, fresh: Sequence[Finding]) -> list[Finding]:
        """Run the case alone many times, at first in a fresh process."""
        clock = Clock(RUNS_SECONDS)
        found = [] if fresh else [self._fresh(())]
        while len(fresh) + len(found) < RUNS and not clock.over:
            found.append(self._case.run())
        return found

    def _fresh(self, earlier: Sequence[Case], *, briefly: bool = False) -> Finding:
        """Run the case in a fresh process, after others."""
        self._client.kill()
        for case in earlier:
            assert self._replay is not None
            self._replay(case, briefly)
        return self._case.run()

    def _search(self, before: tuple[Case, ...]) -> tuple[Case, ...]:
        """Return the fewest earlier cases after which this one does not pass, empty where it still passes."""
        assert self._history is not None
        clock = Clock(min(SEARCH_SECONDS, self._history.seconds_left))
        cause = find_cause(before, lambda some: not _passes(self._fresh(some, briefly=True)), clock)
        sure = bool(cause) and all(
            not _passes(self._fresh(cause)) and _passes(self._fresh(())) for _ in range(_CONFIRMATIONS)
        )
        self._history.seconds_left -= clock.spent
        return cause if sure else ()


def _passes(found: Finding) -> bool:
    return found.verdict is Verdict.PASS


def _flaky(first: Finding, runs: Sequence[Finding]) -> Finding:
    failed = sum(not _passes(f) for f in runs)
    return replace(
        first,
        verdict=Verdict.FLAKY,
        check=Check.REPEAT,
        reason=f"did not pass in {failed} of {len(runs)} runs; at first {first.verdict.value}: {first.reason}",
        suspect=first.suspect or "launch: results vary",
        runs=len(runs),
        failed=failed,
    )


def _depending(first: Finding, cause: Sequence[Case]) -> Finding:
    names = [case.id for case in cause]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    after = f"{', '.join(names[:_NAMED])}{more}"
    return replace(
        first,
        check=Check.ORDER,
        reason=f"fails after {after}, passes alone: {first.reason}",
        suspect=f"what {names[-1]} leaves behind",
        after=tuple(names),
    )
