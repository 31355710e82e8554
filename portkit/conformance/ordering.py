"""The order of cases: shuffled by a seed, and which earlier case of its device process a failure depends on.

A case that fails after others and passes alone is told apart from a flaky one by running what ran before again, in a
fresh process. These are then cut down by delta debugging until none can be left out [Zeller and Hildebrandt,
"Simplifying and Isolating Failure-Inducing Input", 2002].
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from portkit.conformance.case import Case

SEARCH_SECONDS = 20.0
"""The longest search for one case."""
ALL_SEARCHES_SECONDS = 60.0
"""The longest time for all searches of one worker: a device with many such faults is not to stop a run."""
_GROWTH = 4
_T = TypeVar("_T")


def shuffled(cases: Sequence[Case], seed: int) -> list[Case]:
    """Return the cases in an order that the seed fixes, and that the selection of cases does not change."""
    return sorted(cases, key=lambda case: hashlib.sha256(f"{seed} {case.id}".encode()).digest())


class History:
    """The cases that ran in a device process so far, oldest first; a new life of the process begins a new one."""

    def __init__(self) -> None:
        self._life = -1
        self._cases: list[Case] = []
        self.seconds_left = ALL_SEARCHES_SECONDS
        """What is left for searching in this worker."""

    def before(self, life: int) -> tuple[Case, ...]:
        """Return what ran in a life of the process, by its number (`DeviceClient.restarts`)."""
        return tuple(self._cases) if life == self._life else ()

    def add(self, case: Case, life: int) -> None:
        """Note that a case ran, and in which life it ended."""
        if life != self._life:
            self._life, self._cases = life, []
        self._cases.append(case)


class Clock:
    """A time limit in seconds."""

    def __init__(self, seconds: float) -> None:
        self._start = time.monotonic()
        self._seconds = seconds

    @property
    def spent(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._start

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return self.spent >= self._seconds


def find_cause(earlier: Sequence[_T], fails: Callable[[Sequence[_T]], bool], clock: Clock) -> tuple[_T, ...]:
    """Return the last few items after which something fails, as few as were found; empty where it never fails.

    It is known to pass after none. The latest are tried first: most often it is one of them.
    """
    size = 1
    while not clock.over and size < _GROWTH * len(earlier):
        tail = tuple(earlier[-size:])
        if fails(tail):
            return minimise(tail, fails, clock)
        size *= _GROWTH
    return ()


def minimise(items: tuple[_T, ...], fails: Callable[[Sequence[_T]], bool], clock: Clock) -> tuple[_T, ...]:
    """Return a part of the items after which something still fails, none of which can be left out.

    `fails` holds for the items themselves. When the time is over, what was reached by then is returned.
    """
    parts = 2
    while len(items) > 1:
        chunks = _split(items, parts)
        smaller = next((c for c in [*chunks, *_complements(chunks)] if not clock.over and fails(c)), None)
        if smaller is not None:
            parts = 2 if len(smaller) <= -(-len(items) // parts) else max(2, parts - 1)
            items = smaller
        elif clock.over or parts >= len(items):
            break
        else:
            parts = min(len(items), 2 * parts)
    return items


def _split(items: tuple[_T, ...], parts: int) -> list[tuple[_T, ...]]:
    size = -(-len(items) // parts)
    return [items[k : k + size] for k in range(0, len(items), size)]


def _complements(chunks: list[tuple[_T, ...]]) -> list[tuple[_T, ...]]:
    """Return what is left without each chunk; of two chunks, each is what the other leaves."""
    if len(chunks) <= 2:
        return []
    return [tuple(i for other in chunks if other is not chunk for i in other) for chunk in chunks]
