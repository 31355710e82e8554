"""One launch on a device and what is to be found of it: every byte of its buffers, and of what lies around them.

What is around the buffers: each buffer is allocated longer than the kernel is told, and the tail holds a pattern;
between the buffers lie allocations of their own with the same pattern. After the launch every byte of all of them is
read back. A write just past the end of a buffer always hits its tail; a write before its beginning, or far outside, is
caught where the device places allocations near each other, or faults.

What is in the buffers: those that the kernel only writes start as poison. An element that still holds poison
afterwards, though the spec accepts that value, may not have been written at all: the case is launched again with
another poison. The reference starts from the same poison, so what a kernel leaves alone on purpose is accepted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from portkit.conformance.card import Mismatch, finite, mismatch
from portkit.conformance.case import Trial
from portkit.conformance.expectation import Acceptances, Array, expect, outputs_digest
from portkit.conformance.finding import Check, Finding, failed_call
from portkit.conformance.hints.symptoms import Evidence
from portkit.conformance.verdict import Verdict
from portkit.errors import ContractError, DeviceError
from portkit.reference.bounds import NumericModel
from portkit.runtime.client import DeviceClient, Executed, Guard
from portkit.spec.geometry import grid_counts
from portkit.spec.kernel import Kernel

GUARD_BYTES = 256
_POISONS = (0xA5, 0x5A)
_GUARDS = (0xC3, 0x3C)


# --- a launch -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """Sums over the buffers of one launch."""

    wrong: int = 0
    elements: int = 0
    ill_conditioned: int = 0
    error_share: float = 0.0
    ulp: float = 0.0
    mismatch: Mismatch | None = None
    reasons: list[str] = field(default_factory=list[str])
    suspect: str = ""
    check: Check | None = None
    fired: set[Check] = field(default_factory=set[Check])

    def accuse(self, check: Check, suspect: str, reason: str) -> None:
        """Add a reason; the first one names the check and the suspect."""
        self.check = self.check or check
        self.fired.add(check)
        self.suspect = self.suspect or suspect
        self.reasons.append(reason)


class Launch:
    """A kernel with its inputs, on a device; what is expected is computed once per poison."""

    def __init__(self, trial: Trial, client: DeviceClient, model: NumericModel, seconds: float) -> None:
        self.trial: Trial = trial
        self.client = client
        self.model = model
        self.seconds = seconds
        self.kernel = trial.kernel
        self.scalars = [trial.scalars[s.name] for s in self.kernel.scalars]
        self.grid = grid_counts(self.kernel, trial.scalars)
        self.after: dict[str, Array] = {}
        """The buffers after the last launch; of two that differ in their poison, after the first."""
        self._expected: dict[int, Acceptances] = {}
        self._before: dict[int, dict[str, Array]] = {}

    def run(self) -> Finding:
        try:
            found, suspicious = self._attempt(0)
            if found.verdict is Verdict.PASS and suspicious:
                first = self.after
                second, _ = self._attempt(1)
                if second.verdict is not Verdict.PASS:
                    return second
                self.after = first
        except (DeviceError, ContractError) as error:
            return failed_call(error, self.client)
        return found

    def repeat(self, kernel: Kernel) -> Finding:
        """Launch once more, from the first poison, with this kernel or another of the same meaning."""
        try:
            return self._attempt(0, kernel)[0]
        except (DeviceError, ContractError) as error:
            return failed_call(error, self.client)

    def send(self) -> None:
        """Launch without looking at what comes of it. Raises what the device raises."""
        self._execute(0, self.kernel)

    def written(self) -> dict[str, Array]:
        """Return the buffers that the kernel may write, as they were after the last launch."""
        return {name: array for name, array in self.after.items() if name not in self._read_only()}

    def before(self, poison: int) -> dict[str, Array]:
        """Return the contents of every buffer before the launch."""
        if poison not in self._before:
            self._before[poison] = {b.name: self._initial(b.name, poison) for b in self.kernel.buffers}
        return self._before[poison]

    def _initial(self, name: str, poison: int) -> Array:
        if name in self.trial.inputs:
            return np.ascontiguousarray(self.trial.inputs[name])
        buffer = next(b for b in self.kernel.buffers if b.name == name)
        size = buffer.extent.evaluate(self.trial.scalars) * buffer.dtype.bytes
        return np.frombuffer(bytes([_POISONS[poison]]) * size, buffer.dtype.numpy)

    def expected(self, poison: int) -> Acceptances:
        if poison not in self._expected:
            self._expected[poison] = expect(self.kernel, self.trial.scalars, self.before(poison), self.model)
        return self._expected[poison]

    def _attempt(self, poison: int, kernel: Kernel | None = None) -> tuple[Finding, bool]:
        """Launch once; returns what was found, and whether an element may not have been written.

        `kernel` is what the device gets in place of the trial's own.
        """
        before = self.before(poison)
        ran = self._execute(poison, kernel or self.kernel)
        tally = Tally()
        after = self.after = self._unpack(ran.outputs, before, _guard(poison), tally)
        suspicious = False
        if not self.trial.device_check_only:
            for name in before.keys() - self._read_only():
                self._compare(name, after[name], poison, tally)
                suspicious |= bool(self._poisoned(name, after[name], poison).any())
        return self._finding(tally, after, poison, ran.launch_seconds), suspicious

    def _execute(self, poison: int, kernel: Kernel) -> Executed:
        guard = Guard(_guard(poison))
        operands: list[bytes | Guard] = [guard]
        for array in self.before(poison).values():
            operands += [array.tobytes() + guard.data, guard]
        return self.client.execute(kernel, self.grid, operands, self.scalars, timeout=self.seconds)

    def _read_only(self) -> set[str]:
        return {b.name for b in self.kernel.buffers if b.access == "read"}

    def _unpack(self, outputs: list[bytes], before: dict[str, Array], guard: bytes, tally: Tally) -> dict[str, Array]:
        """Return the buffers; what lies around them, and buffers that are only read, must be as before."""
        read_only = self._read_only()
        around = [outputs[0]]
        after: dict[str, Array] = {}
        for k, (name, array) in enumerate(before.items()):
            data, beside = outputs[2 * k + 1], outputs[2 * k + 2]
            after[name] = np.frombuffer(data[: array.nbytes], array.dtype)
            around.append(beside)
            if data[array.nbytes :] != guard:
                at = _first_difference(data[array.nbytes :], guard)
                reason = f"wrote past the end of {name}: byte {at} after its {array.nbytes} changed"
                tally.accuse(Check.TAIL, "store: past the end of a buffer", reason)
            if name in read_only and data[: array.nbytes] != array.tobytes():
                at = _first_difference(data[: array.nbytes], array.tobytes()) // array.itemsize
                reason = f"changed the input {name} at element {at}"
                tally.accuse(Check.INPUTS, "store: to a buffer that is only read", reason)
        if any(beside != guard for beside in around):
            tally.accuse(Check.GUARDS, "store: outside every buffer", "wrote outside every buffer of the launch")
        return after

    @np.errstate(all="ignore")  # outputs may be NaN of any kind
    def _compare(self, name: str, actual: Array, poison: int, tally: Tally) -> None:
        accepted = self.expected(poison)[name]
        wrong = np.flatnonzero(~accepted.accepts(actual))
        tally.elements += len(actual)
        tally.wrong += len(wrong)
        tally.ill_conditioned += int(np.count_nonzero(accepted.ill_conditioned))
        shares = accepted.error_share(actual)
        tally.error_share = max(tally.error_share, finite(np.max(shares, initial=0.0)))
        if not len(wrong):
            return
        tally.ulp = max(tally.ulp, finite(np.max(accepted.distance_ulp(actual)[wrong])))
        unwritten = self._poisoned(name, actual, poison)
        tally.fired |= {_value_check(bool(held), poison) for held in np.unique(unwritten[wrong])}
        if tally.mismatch is None:
            first = int(wrong[0])
            tally.mismatch = mismatch(
                name, first, actual, accepted, self.trial.inputs, unwritten=bool(unwritten[first])
            )

    def _poisoned(self, name: str, actual: Array, poison: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which elements of a buffer still hold the poison that it began with."""
        if name in self.trial.inputs or not len(actual):
            return np.zeros(len(actual), np.bool_)
        rows = np.frombuffer(actual.tobytes(), np.uint8).reshape(len(actual), actual.itemsize)
        return (rows == _POISONS[poison]).all(axis=1)

    def _evidence(self, after: dict[str, Array], poison: int) -> Evidence:
        accepted = {name: a for name, a in self.expected(poison).items() if name not in self._read_only()}
        before, guard = self.before(poison), _guard(poison)
        return Evidence(self.kernel, self.trial.scalars, before, after, accepted, _POISONS[poison], guard)

    def _finding(self, tally: Tally, after: dict[str, Array], poison: int, seconds: float) -> Finding:
        if tally.mismatch is not None:
            what = "was not written" if tally.mismatch.unwritten else "is wrong"
            place = f"{tally.mismatch.buffer}[{tally.mismatch.element}]"
            reason = f"{place} {what}, and with it {tally.wrong} of {tally.elements} elements"
            tally.accuse(_value_check(tally.mismatch.unwritten, poison), "", reason)
        digests = ("", "")
        if self.kernel.strict and not self.trial.device_check_only:
            written = {n: a for n, a in after.items() if n not in self._read_only()}
            wanted = {n: self.expected(poison)[n].lo for n in written}
            digests = (outputs_digest(written), outputs_digest(wanted))
        return Finding(
            verdict=Verdict.FAIL if tally.reasons else Verdict.PASS,
            reason="; ".join(tally.reasons),
            check=tally.check,
            checks=tuple(check for check in Check if check in tally.fired),
            suspect=tally.suspect,
            wrong=tally.wrong,
            elements=tally.elements,
            ill_conditioned=tally.ill_conditioned,
            error_share=tally.error_share,
            ulp=tally.ulp,
            mismatch=tally.mismatch,
            evidence=self._evidence(after, poison) if tally.wrong else None,
            digest=digests[0],
            reference_digest=digests[1],
            device_seconds=seconds,
        )


def _guard(poison: int) -> bytes:
    return bytes([_GUARDS[poison]]) * GUARD_BYTES


def _value_check(unwritten: bool, poison: int) -> Check:
    """Return which check a wrong element falls to."""
    if not unwritten:
        return Check.VALUES
    return Check.SECOND_POISON if poison else Check.POISON


def _first_difference(a: bytes, b: bytes) -> int:
    return next(k for k, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)
