"""A reference run that remembers the values of registers and the places of accesses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from portkit.conformance.case import Trial
from portkit.conformance.reducing.edit import before
from portkit.reference import engine
from portkit.reference.engine import Mask
from portkit.reference.faults import Site
from portkit.reference.memory import Integers, Memory, allocate, live_only
from portkit.reference.values import Use, Values
from portkit.spec.kernel import Instr, Kernel

Array: TypeAlias = np.ndarray[Any, Any]
MOST_TIMES = 64
"""How many executions of one instruction are remembered."""


@dataclass(slots=True)
class Seen:
    """What one instruction did each time: its operands, its result, and the places that it accessed.

    Arrays as registers are: (groups or 1, lanes or 1), with a third axis for vectors and for the elements of an access.
    """

    operands: list[tuple[Array, ...]] = field(default_factory=list[tuple[Array, ...]])
    results: list[Array] = field(default_factory=list[Array])
    places: list[tuple[int, Array]] = field(default_factory=list[tuple[int, Array]])
    """The number of the first group, and element addresses, -1 where there is no access."""


class Watch(Values):
    """The values domain, watched."""

    def __init__(self, kernel: Kernel, memories: Mapping[str, Memory]) -> None:
        super().__init__(kernel, memories)
        self.seen: dict[int, Seen] = {}
        self.reached: dict[str, int] = {}
        """By memory: one more than the last element that is accessed."""

    def pure(self, position: int, instr: Instr) -> Callable[..., Array]:
        """Return the function of the instruction, which also notes what it gets and gives."""
        compute, seen = super().pure(position, instr), self.seen.setdefault(position, Seen())

        def watched(*operands: Array) -> Array:
            value = compute(*operands)
            self._note(seen, operands, value)
            return value

        return watched

    def effect(self, position: int, instr: Instr) -> Callable[..., Array | None]:
        """Return the function of the instruction, which also notes what it gets and gives."""
        act, seen = super().effect(position, instr), self.seen.setdefault(position, Seen())

        def watched(mask: Mask, *operands: Array) -> Array | None:
            value = act(mask, *operands)
            if value is not None:
                self._note(seen, operands, value)
            return value

        return watched

    def _note(self, seen: Seen, operands: tuple[Array, ...], value: Array) -> None:
        if len(seen.results) < MOST_TIMES:
            seen.operands.append(operands)
            seen.results.append(value)

    def locate(self, site: Site, name: str, address: Integers, live: Mask, use: Use) -> Integers:
        """Return where the accesses go, and note it."""
        (touched,) = live_only(live, address)
        highest = int(touched.max(initial=-1)) + 1
        self.reached[name] = max(self.reached.get(name, 0), highest)
        places = self.seen[site.position].places
        if len(places) < MOST_TIMES:
            shape = (self.chunk.groups, self.chunk.lanes, *address.shape[2:])
            own = address if live is None else np.where(live, address, -1)
            places.append((self.chunk.first, np.broadcast_to(own, shape)))
        return super().locate(site, name, address, live, use)


def watch(trial: Trial) -> Watch:
    """Run a valid launch on the reference and return what was seen. Raises what a reference run raises."""
    kernel = trial.kernel
    watched = Watch(kernel, allocate(kernel, trial.scalars, before(trial)))
    engine.run(kernel, watched, trial.scalars)
    return watched
