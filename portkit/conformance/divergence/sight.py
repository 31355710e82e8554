"""Running copies of a launch, and what is seen of its registers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from portkit.conformance.case import Trial
from portkit.conformance.divergence.copying import Kind, Section, Shape, instrument, kinds, layout, width
from portkit.conformance.divergence.probes import Probe
from portkit.conformance.launching import Launch
from portkit.conformance.support import undeclared
from portkit.conformance.verdict import Verdict
from portkit.reference.acceptance import Acceptance
from portkit.reference.bounds import NumericModel
from portkit.runtime.client import DeviceClient
from portkit.spec.geometry import grid_counts
from portkit.spec.kernel import Kernel

Array: TypeAlias = np.ndarray[Any, Any]
MOST_CELL_BYTES = 1 << 22
"""The cells of one copy, in bytes, above which it is split, or one group only is watched."""
MOST_SPLITS = 6
"""How often copies are split that do not come back."""
MOST_LEFT_OUT = 3
"""Outputs that copies may lack to make room."""
_SHARE = 0.25
"""Of the time left, what one copy may take."""


class OutOfTime(Exception):
    """The budget is used up."""


class Gone(Exception):
    """A copy did not come back: the device process died, hung, or refused it."""


@dataclass(frozen=True, slots=True)
class Cells:
    """What is known of a probe: arrays with the axes of its loops, outermost first, then group, lane and element.

    `wrong` is where the device's value is outside its acceptance set however it was looked at.
    """

    section: Section
    actual: Array
    expected: Array
    wrong: np.ndarray[Any, np.dtype[np.bool_]]
    poison: Any
    accepted: Acceptance
    numbers: Array
    """Where each cell is in the acceptance set."""

    @property
    def probe(self) -> Probe:
        return self.section.probe

    def first(self) -> tuple[int, ...] | None:
        """Return the place of the first wrong element in the order of execution, None if all are right."""
        at = int(np.argmax(self.wrong)) if self.wrong.any() else -1
        return None if at < 0 else tuple(int(n) for n in np.unravel_index(at, self.wrong.shape))


@dataclass(slots=True)
class Sight:
    """What copies of a launch showed: the cells of each probe, and whether the outputs were wrong beside them."""

    cells: dict[Probe, Cells] = field(default_factory=dict[Probe, Cells])
    hidden: list[tuple[Probe, ...]] = field(default_factory=list[tuple[Probe, ...]])
    """Probes in whose company the fault did not show."""
    outputs: dict[str, tuple[Array, Acceptance]] = field(default_factory=dict[str, tuple[Array, Acceptance]])

    def first(self) -> Cells | None:
        """Return the probe that is wrong first, in the order of execution."""
        found: list[tuple[tuple[int, ...], Cells]] = []
        for cells in self.cells.values():
            at = cells.first()
            if at is not None:
                found.append((cells.probe.moment(at[:-3]), cells))
        return min(found, key=lambda pair: pair[0])[1] if found else None


class Observer:
    """Makes copies of a launch, runs and judges them, until the time is up."""

    def __init__(self, trial: Trial, client: DeviceClient, model: NumericModel, seconds: float) -> None:
        self.trial = trial
        self.kernel = trial.kernel
        self.client = client
        self.model = model
        self.deadline = time.perf_counter() + seconds
        self.grid = grid_counts(self.kernel, trial.scalars)
        self.left_out: tuple[str, ...] = ()

    def make_room(self, needed: str) -> None:
        """Where the device takes no more buffers, choose outputs that copies lack, if any but the one needed."""
        if self.client.capabilities.limits.buffers > len(self.kernel.buffers):
            return
        stored = {i.mems[0] for i in self.kernel.body if i.form.effect == "write"}
        others = {m for i in self.kernel.body if i.form.effect != "write" for m in i.mems}
        outputs = [b.name for b in self.kernel.buffers if b.access == "write" and b.name in stored - others]
        spare = [name for name in outputs if name != needed] or outputs
        self.left_out = tuple(spare[:MOST_LEFT_OUT])

    def left(self) -> float:
        """Return the seconds left. Raises `OutOfTime` where there are none."""
        left = self.deadline - time.perf_counter()
        if left <= 0:
            raise OutOfTime
        return left

    def of(self, kernel: Kernel) -> Observer:
        """Return an observer of another kernel on the same contents, with the time that is left."""
        return Observer(replace(self.trial, kernel=kernel), self.client, self.model, self.left())

    def launch(self, kernel: Kernel) -> Launch:
        """Return a launch of a kernel on the contents of the trial."""
        return Launch(replace(self.trial, kernel=kernel), self.client, self.model, self.left())

    def look(self, watched: Sequence[Probe], shape: Shape) -> Sight:
        """Watch registers, in as many copies as it takes: one that does not come back is split. Raises `OutOfTime`."""
        sight = Sight()
        parts, splits = list(self.parts(watched, shape)), MOST_SPLITS
        while parts:
            part = parts.pop(0)
            try:
                self._look(part, shape, sight)
            except Gone:
                if len(part) > 1 and splits:
                    splits -= 1
                    parts += [part[: len(part) // 2], part[len(part) // 2 :]]
        return sight

    def parts(self, watched: Sequence[Probe], shape: Shape) -> Iterator[tuple[Probe, ...]]:
        """Return the probes by copy: no more buffers than the device takes, no more cells than are worth it."""
        free = self.client.capabilities.limits.buffers - len(self.kernel.buffers) + len(self.left_out)
        most = min(MOST_CELL_BYTES, self.client.capabilities.limits.buffer_bytes // 2)
        groups = list(kinds(self.kernel, watched).items())
        for start in range(0, len(groups) if free > 0 else 0, max(free, 1)):
            part: list[Probe] = []
            used = 0
            for probe, size in _sized(self.kernel, groups[start : start + free], shape):
                if used + size > most and part:
                    yield tuple(part)
                    part, used = [], 0
                if size <= most:
                    part.append(probe)
                    used += size
            if part:
                yield tuple(part)

    def _look(self, part: tuple[Probe, ...], shape: Shape, sight: Sight) -> None:
        planned = layout(self.kernel, part, shape)
        copies = [instrument(self.kernel, planned, shape, self.grid, by_shifts=shifts) for shifts in (False, True)]
        copies = [without(copy, self.left_out) for copy in copies]
        copies = [copy for copy in copies if not undeclared(copy, self.client.capabilities)]
        if not copies:
            return
        launch = self.launch(copies[0])
        made: dict[str, _Made] = {}
        for copy in copies:
            try:
                after = self._run(launch, copy)
            except Gone:
                if not made and copy is copies[-1]:
                    raise
                continue
            if not self._still_fails(launch, after):
                sight.hidden.append(part)
            elif not sight.outputs:
                sight.outputs = self._outputs(launch, after)
            for name in planned.buffers:
                _add(made, name, after[name], launch.expected(0)[name])
            if not any(m.wrong.any() for m in made.values()):
                break
        for section in planned.sections:
            cells = made[section.buffer].cells(section, launch.before(0)[section.buffer][0])
            known = sight.cells.get(section.probe)  # a test is in several copies
            if known is None or cells.wrong.any():
                sight.cells[section.probe] = cells

    def _run(self, launch: Launch, copy: Kernel) -> Mapping[str, Array]:
        launch.seconds = self.left() * _SHARE
        launch.after = {}
        found = launch.repeat(copy)
        if found.verdict is not Verdict.PASS and not launch.after:
            raise Gone(found.reason)
        return launch.after

    def _outputs(self, launch: Launch, after: Mapping[str, Array]) -> dict[str, tuple[Array, Acceptance]]:
        names = [b.name for b in self.kernel.buffers if b.access != "read" and b.name not in self.left_out]
        return {name: (after[name], launch.expected(0)[name]) for name in names}

    def _still_fails(self, launch: Launch, after: Mapping[str, Array]) -> bool:
        return any(not accepted.accepts(actual).all() for actual, accepted in self._outputs(launch, after).values())


@dataclass(slots=True)
class _Made:
    """The contents of one buffer of cells after a copy, and where they were wrong after every copy."""

    actual: Array
    accepted: Acceptance
    wrong: np.ndarray[Any, np.dtype[np.bool_]]

    def cells(self, section: Section, poison: Any) -> Cells:
        """Return the part of the buffer that belongs to a probe."""
        numbers = np.arange(section.start, section.start + section.size)
        turns, last = section.axes[:-2], section.axes[-2:]
        order = (*reversed(range(len(turns))), len(turns), len(turns) + 1, len(turns) + 2)
        numbers = numbers.reshape(*reversed(turns), *last, section.width).transpose(order)
        actual, expected, wrong = self.actual[numbers], self.accepted.lo[numbers], self.wrong[numbers]
        return Cells(section, actual, expected, wrong, poison, self.accepted, numbers)


def _add(made: dict[str, _Made], name: str, actual: Array, accepted: Acceptance) -> None:
    """Note what a copy left in a buffer; of several, the first shows the values."""
    wrong = ~accepted.accepts(actual)
    if name in made:
        made[name].wrong = made[name].wrong & wrong
    else:
        made[name] = _Made(actual, accepted, wrong)


def without(kernel: Kernel, names: Sequence[str]) -> Kernel:
    """Return a kernel without some of its outputs, and what it stores to them."""
    buffers = tuple(b for b in kernel.buffers if b.name not in names)
    body = tuple(i for i in kernel.body if not (i.mems and i.mems[0] in names))
    return replace(kernel, buffers=buffers, body=body)


def _sized(kernel: Kernel, groups: Sequence[tuple[Kind, list[Probe]]], shape: Shape) -> Iterator[tuple[Probe, int]]:
    for kind, members in groups:
        for probe in members:
            yield probe, shape.cells(probe.path) * width(kernel.types[probe.register]) * kind.dtype.bytes
