"""What is asked of every candidate: smaller, valid, within what the device declares, and failing in the same way."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from math import inf, log2
from typing import Any, TypeAlias

import numpy as np

from portkit.conformance.bounded import see_that_it_ends
from portkit.conformance.case import Trial
from portkit.conformance.finding import Check, Finding
from portkit.conformance.launching import Launch
from portkit.conformance.reducing.edit import Array, before, clean
from portkit.conformance.support import undeclared
from portkit.conformance.verdict import Verdict
from portkit.errors import PortkitError
from portkit.reference.bounds import NumericModel
from portkit.reference.checks import check
from portkit.runtime.client import DeviceClient
from portkit.spec.geometry import grid_counts
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.verify import verify

Steps: TypeAlias = Generator[Trial | None, Trial | None, None]
Pass: TypeAlias = Callable[[Trial, Finding], Steps]
"""Offers smaller launches, None for an edit that cannot be made; it is sent the launch in force after each that is
taken, None after each that is not."""

_UNKNOWN_TRIPS = 32
"""What a loop whose count is not literal is taken to cost."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a launch fails: two failures are the same if these are equal."""

    verdict: Verdict
    check: Check | None
    error: str = ""
    """The class of the exception that a function of the device raised."""

    @classmethod
    def of(cls, found: Finding) -> Way:
        """Return how a finding fails."""
        error = found.reason.partition(":")[0] if found.check is Check.CALL else ""
        return cls(found.verdict, found.check, error)


class OutOfTime(Exception):
    """The budget is used up."""


class Session:
    """A reduction under way: the smallest launch so far, and the test that a smaller one has to pass."""

    def __init__(
        self,
        trial: Trial,
        client: DeviceClient,
        model: NumericModel,
        seconds: float,
        budget: float,
        on_progress: Callable[[Trial, int], None] | None = None,
    ) -> None:
        """Begin with a launch; `seconds` limits each one, `budget` all but the first, `on_progress` gets each step."""
        self.best = trial
        self.finding = Finding(Verdict.PASS)
        self.attempts = 0
        self.accepted: list[tuple[Trial, Finding]] = []
        self.client = client
        self.model = model
        self.seconds = seconds
        self.started = time.perf_counter()
        self.deadline = inf
        self._budget = budget
        self._on_progress = on_progress
        self._tried: set[bytes] = set()
        self._way = Way.of(self.finding)
        self._cleans = True
        self._most = _LEAST_SECONDS

    def launch(self, trial: Trial, seconds: float) -> Finding:
        """Launch and judge."""
        self.attempts += 1
        return Launch(trial, self.client, self.model, seconds).run()

    def fails(self, trial: Trial, seconds: float) -> Finding | None:
        """Return the finding if the launch fails in the same way."""
        found = self.launch(trial, seconds)
        return found if Way.of(found) == self._way else None

    def begin(self) -> bool:
        """Launch what is to be reduced; returns whether it fails at all. Raises what the reference raises."""
        started = time.thread_time()
        check(self.best.kernel, self.best.scalars, before(self.best))
        self._most = max(_LEAST_SECONDS, _MOST_TIMES * (time.thread_time() - started))
        self.finding = self.launch(self.best, self.seconds)
        self.deadline = time.perf_counter() + self._budget  # it may have taken as long itself, until it was given up
        self._way = Way.of(self.finding)
        self.accepted = [(self.best, self.finding)]
        self.seconds = self._limit()
        return self.finding.verdict is not Verdict.PASS

    def tidy(self) -> None:
        """Offer the launch without what it does not need, and every candidate likewise if so it fails too.

        Raises `OutOfTime`.
        """
        tidy = clean(self.best)
        self._cleans = tidy.kernel == self.best.kernel or self.offer(tidy)

    def _limit(self) -> float:
        """Return the time limit of further launches: shorter where the failure is that nothing ends."""
        if self._way.check is not Check.HANG:
            return self.seconds
        return min(self.seconds, max(_LEAST_SECONDS, self.seconds / 10))

    def run(self, made: Pass) -> bool:
        """Try everything that a pass offers; returns whether something was taken. Raises `OutOfTime`."""
        taken = len(self.accepted)
        steps, answer = made(self.best, self.finding), None
        while True:
            try:
                candidate = steps.send(answer)
            except StopIteration:
                return len(self.accepted) > taken
            answer = self.best if candidate is not None and self.offer(candidate) else None

    def offer(self, candidate: Trial) -> bool:
        """Take a candidate if it is smaller and fails in the same way. Raises `OutOfTime`."""
        if time.perf_counter() >= self.deadline:
            raise OutOfTime
        trial = clean(candidate) if self._cleans else candidate
        if not self._worth_a_launch(trial):
            return False
        found = self.fails(trial, min(self.seconds, max(_LEAST_SECONDS, self.deadline - time.perf_counter())))
        if found is None:
            return False
        self.best, self.finding = trial, found
        self.accepted.append((trial, found))
        if self._on_progress is not None:
            self._on_progress(trial, self.attempts)
        return True

    def _worth_a_launch(self, trial: Trial) -> bool:
        if not trial.kernel.buffers:
            return False  # a driver may fail of having no arguments, which is another fault
        try:
            if weight(trial) >= weight(self.best) or self._known(trial):
                return False
            verify(trial.kernel)
            if undeclared(trial.kernel, self.client.capabilities) or not any(grid_counts(trial.kernel, trial.scalars)):
                return False
            contents = before(trial)
            if any(i.name == "loop.serial" and not i.imms for i in trial.kernel.body):
                see_that_it_ends(trial.kernel, trial.scalars, contents, self._most)
            check(trial.kernel, trial.scalars, contents)
        except (PortkitError, KeyError):
            return False
        return True

    def _known(self, trial: Trial) -> bool:
        """Whether the same was tried before; remembers it."""
        digest = hashlib.sha256(repr((trial.kernel, sorted(trial.scalars.items()))).encode())
        for name, array in sorted(trial.inputs.items()):
            digest.update(name.encode() + array.tobytes())
        key = digest.digest()
        known = key in self._tried
        self._tried.add(key)
        return known

    def confirm(self) -> None:
        """Step back to the last launch that fails in the same way once more, at the latest to the one given."""
        while len(self.accepted) > 1 and self.fails(self.best, 2 * self.seconds) is None:
            self.accepted.pop()
            self.best, self.finding = self.accepted[-1]


_LEAST_SECONDS = 0.5
_MOST_TIMES = 5
"""A candidate whose loops count with other numbers may take the reference so many times what the first launch takes."""


# --- how large a launch is ----------------------------------------------------------------------------------------


def weight(trial: Trial) -> tuple[float, float]:
    """Return how large a launch is, and then how complicated its contents are; less is better."""
    kernel = trial.kernel
    trips = sum(log2(1 + max(0, _trips(i))) for i in kernel.body if i.name == "loop.serial")
    groups = sum(log2(1 + n) for n in grid_counts(kernel, trial.scalars))
    elements = sum(log2(2 + b.extent.evaluate(trial.scalars)) for b in kernel.buffers)
    parts = (
        4.0 * len(kernel.body),
        0.25 * sum(len(i.reads) + len(i.imms) for i in kernel.body),
        6.0 * groups + 6.0 * sum(log2(1 + n) for n in kernel.lane_counts) + 3.0 * trips,
        0.5 * elements + 0.5 * sum(log2(2 + s.extent) for s in kernel.shared),
        float(len(kernel.scalars) + kernel.strict),
        0.1 * sum(t.lanes - 1 for t in kernel.types.values()),
    )
    return round(sum(parts), 6), _contents(kernel, trial)


def _trips(loop: Instr) -> int:
    return loop.imms[0] if loop.imms else _UNKNOWN_TRIPS


def _contents(kernel: Kernel, trial: Trial) -> float:
    scalars = [np.array([trial.scalars[s.name]], s.dtype.numpy) for s in kernel.scalars]
    return sum(float(complexity(a).sum()) for a in (*trial.inputs.values(), *scalars))


def complexity(array: Array) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return for each number how far it is from simple: 0 for zero, 1 for one, else by its significant bits.

    Of equally many bits those near one, and positive ones, are simpler.
    """
    magnitude, negative, one = _magnitude(array)
    lowest = magnitude & (~magnitude + np.ones(1, magnitude.dtype))
    significant = np.log2(np.maximum(magnitude // np.maximum(lowest, 1), 1).astype(np.float64))
    away = np.log2(1.0 + np.abs(magnitude.astype(np.float64) - float(one)))
    simple = np.where(magnitude == one, 1.0, 2.0 + significant + 0.01 * away)
    return (np.where(magnitude == 0, 0.0, simple) + 0.5 * negative).astype(np.float64)


def _magnitude(array: Array) -> tuple[Array, np.ndarray[Any, np.dtype[np.bool_]], int]:
    """Return the bits of each number without its sign, where it is negative, and the bits of one."""
    bits = np.ascontiguousarray(array).view(f"u{array.itemsize}")
    top = np.array(1 << (8 * array.itemsize - 1), bits.dtype)
    negative = (bits & top) != 0
    if array.dtype.kind == "i":
        return np.where(negative, ~bits + np.ones(1, bits.dtype), bits), negative, 1
    if array.dtype.kind in "ub":
        return bits, np.zeros(bits.shape, np.bool_), 1
    return bits & ~top, negative, int(np.ones(1, array.dtype).view(bits.dtype)[0])
