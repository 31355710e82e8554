"""Which registers of a kernel can be watched, where, and in which order they come about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from portkit.conformance.case import Trial
from portkit.reference import engine
from portkit.reference.engine import Mask
from portkit.reference.faults import Site
from portkit.reference.memory import Integers, Memory, allocate
from portkit.reference.values import Use, Values
from portkit.spec.kernel import Kernel, Loop
from portkit.spec.types import TOKEN

Path: TypeAlias = tuple[int, ...]
"""The heads of the serial loops around a place, outermost first."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A register to watch: it is stored right after the instruction at `place`.

    `position` is the instruction that the value belongs to: the one that defines it, or the end of a loop for what its
    carries read as afterwards. A negative one is a constant that no part of the kernel made: it tests the watching.
    """

    position: int
    register: str
    path: Path
    place: int

    def moment(self, iteration: tuple[int, ...]) -> tuple[int, ...]:
        """Return a key that sorts executions by the order in which they happen."""
        turns = [n for pair in zip(self.path, iteration, strict=True) for n in pair]
        return (*turns, self.position)


def probes(kernel: Kernel) -> tuple[Probe, ...]:
    """Return a probe of every register that is visible in the body, tokens left out, in the order of the text."""
    nest = kernel.nest
    first = nest.setup[-1]
    found = [Probe(i, kernel.body[i].result, (), first) for i in nest.setup]
    found += _inside(kernel, nest.body, ())
    return tuple(p for p in found if p.register and kernel.types[p.register].dtype is not TOKEN)


def _inside(kernel: Kernel, tree: tuple[int | Loop, ...], path: Path) -> Iterator[Probe]:
    for part in tree:
        if not isinstance(part, Loop):
            yield Probe(part, kernel.body[part].result, path, part)
            continue
        inner, start = (*path, part.head), begins(part)
        yield from (Probe(i, kernel.body[i].result, inner, start) for i in (part.head, *part.carries))
        yield from _inside(kernel, part.body, inner)
        yield from (Probe(part.end, kernel.body[i].result, path, part.end) for i in part.carries)


def begins(loop: Loop) -> int:
    """Return the position after which ordinary instructions may stand in a loop."""
    return max((loop.head, *loop.carries))


def loops(tree: tuple[int | Loop, ...], path: Path = ()) -> Iterator[tuple[Path, Loop]]:
    """Return every serial loop with the path of its body, outer ones first."""
    for part in tree:
        if isinstance(part, Loop):
            inner = (*path, part.head)
            yield inner, part
            yield from loops(part.body, inner)


def path_of(kernel: Kernel, position: int) -> Path:
    """Return the heads of the serial loops around a position."""
    around = (loop.head for _, loop in loops(kernel.nest.body) if loop.head < position < loop.end)
    return tuple(around)


# --- a run of the reference ---------------------------------------------------------------------------------------


class _Counting(Values):
    """Notes the most trips of each loop, and which group writes certain elements of buffers."""

    def __init__(self, kernel: Kernel, memories: Mapping[str, Memory], wanted: Mapping[str, int]) -> None:
        super().__init__(kernel, memories)
        self.trips = {i: n.imms[0] for i, n in enumerate(kernel.body) if n.name == "loop.serial" and n.imms}
        self.group = 0
        self._wanted = wanted

    def count(self, position: int, mask: Mask, value: Any) -> Integers:
        seen = value
        if mask is not None:
            seen, active = np.broadcast_arrays(value, mask)
            seen = seen[active]
        self.trips[position] = max(self.trips.get(position, 0), int(seen.max(initial=0)))
        return super().count(position, mask, value)

    def locate(self, site: Site, name: str, address: Integers, live: Mask, use: Use) -> Integers:
        if use != "read" and name in self._wanted:
            hit = address == self._wanted[name] if live is None else (address == self._wanted[name]) & live
            rows = np.flatnonzero(hit.reshape(len(hit), -1).any(axis=1))
            if len(rows) and len(hit) in (1, self.chunk.groups):
                self.group = self.chunk.first + int(rows[0])
        return super().locate(site, name, address, live, use)


def measure(trial: Trial, wanted: Mapping[str, int]) -> tuple[dict[int, int], int]:
    """Return the most trips of each serial loop, and the last group that writes one of the elements wanted.

    Raises what a run of the reference raises.
    """
    counting = _Counting(trial.kernel, allocate(trial.kernel, trial.scalars, trial.inputs), wanted)
    engine.run(trial.kernel, counting, trial.scalars)
    return counting.trips, counting.group
