"""What is known of a failure when its cause is looked for, and what a hint is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.conformance.finding import Check
from portkit.conformance.hints.causes import Cause
from portkit.reference.acceptance import Acceptance
from portkit.spec.kernel import Kernel

Array: TypeAlias = NDArray[Any]
Bools: TypeAlias = NDArray[np.bool_]
Indices: TypeAlias = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Hint:
    """A likely cause, and one line that says what the failure looks like and what to look at."""

    cause: Cause
    text: str


@dataclass(frozen=True)
class Evidence:
    """A launch with wrong elements: what went in, what came out, what would have been accepted.

    `before` and `after` hold every buffer by name, one-dimensional; `accepted` those that the kernel may write.
    `poison` is the byte that buffers of output began with, `guard` the bytes that lay behind each buffer.
    """

    kernel: Kernel
    scalars: Mapping[str, int | float]
    before: Mapping[str, Array]
    after: Mapping[str, Array]
    accepted: Mapping[str, Acceptance]
    poison: int
    guard: bytes = b""

    @cached_property
    def wrong(self) -> dict[str, Indices]:
        """The indices of the wrong elements, for each buffer that has some."""
        found = {name: np.flatnonzero(~accepted.accepts(self.after[name])) for name, accepted in self.accepted.items()}
        return {name: indices for name, indices in found.items() if len(indices)}

    @cached_property
    def poisoned(self) -> dict[str, Bools]:
        """Which elements of each buffer with wrong ones still hold the poison."""
        both = (self.before, self.after)
        return {name: np.logical_and(*(self._holds_poison(arrays[name]) for arrays in both)) for name in self.wrong}

    def _holds_poison(self, array: Array) -> Bools:
        rows = np.frombuffer(array.tobytes(), np.uint8).reshape(len(array), array.itemsize)
        return (rows == self.poison).all(axis=1)

    def gives_the_wrong(self, outputs: Mapping[str, Array]) -> bool:
        """Whether a simulated device gives every wrong element bit for bit.

        A NaN counts as any other, but where the kernel only moves it.
        """
        return all(self._gives(name, outputs[name][at], self.after[name][at]) for name, at in self.wrong.items())

    def _gives(self, name: str, simulated: Array, actual: Array) -> bool:
        if self.accepted[name].nan_bits:
            return simulated.tobytes() == actual.tobytes()
        return bool(same(simulated, actual).all())

    def spoiled(self, outputs: Mapping[str, Array]) -> int:
        """Return how many elements that are right here are wrong on a simulated device."""
        return sum(self._spoiled(name, outputs[name]) for name in self.accepted)

    def _spoiled(self, name: str, output: Array) -> int:
        admitted = self.accepted[name].accepts(output)
        if name in self.wrong:
            admitted[self.wrong[name]] = True
        return int(np.count_nonzero(~admitted))

    @cached_property
    def distinct(self) -> int:
        """How many different values the wrong elements hold, at most."""
        return sum(len(np.unique(self.after[n][at].view(f"u{self.after[n].itemsize}"))) for n, at in self.wrong.items())

    @property
    def count(self) -> int:
        """How many elements are wrong."""
        return sum(map(len, self.wrong.values()))


@dataclass(frozen=True)
class Symptoms:
    """A failure: the case and the check that found it, what was said of it, and the launch if elements were wrong."""

    check: Check | None
    case_id: str = ""
    reason: str = ""
    evidence: Evidence | None = None


def same(a: Array, b: Array) -> Bools:
    """Return where two arrays of one dtype have equal bits, or NaN both."""
    bits = f"u{a.itemsize}"
    equal = a.view(bits) == b.view(bits)
    if a.dtype.kind in "iub" or equal.all():
        return equal
    return equal | (np.isnan(a) & np.isnan(b))
