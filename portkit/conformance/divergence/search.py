"""The search for the first divergence: watch everything; where that hides the fault, less; where nothing is wrong but
an output, look for the store; where nothing comes back, cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from msgspec import structs

from portkit.conformance.card import Divergence
from portkit.conformance.case import Trial
from portkit.conformance.divergence.copying import WORD, Shape
from portkit.conformance.divergence.cutting import beginning, first_to_fail, is_valid
from portkit.conformance.divergence.probes import Probe, measure, probes
from portkit.conformance.divergence.sight import MOST_CELL_BYTES, Observer, OutOfTime, Sight
from portkit.conformance.divergence.stores import wrong_store
from portkit.conformance.divergence.words import Words
from portkit.conformance.finding import Finding
from portkit.conformance.launching import Launch
from portkit.conformance.verdict import Verdict
from portkit.reference.bounds import NumericModel
from portkit.runtime.client import DeviceClient
from portkit.spec.text import format_instr

_MOST_HIDING = 4
"""Probes that are left out, one after another, because they hide the fault."""
_FIRST_SHARE = 0.25
"""Of the budget, what the launch as it is may take: it may hang."""
_NEVER_AGAIN = "no copy that watches registers fails: the fault may not show every time"


def first_divergence(trial: Trial, client: DeviceClient, model: NumericModel, *, seconds: float) -> Divergence | None:
    """Return the first instruction, in the order of execution, whose value leaves its acceptance set on a device.

    Order is by iteration, then by position; within an instruction by group and lane. None where the launch does not
    fail, where the spec leaves its values open, or where nothing is found in `seconds`. Raises what a run of the
    reference raises (`InvalidKernelError`), and `NotReachable`.
    """
    if trial.device_check_only or not trial.kernel.body:
        return None
    search = _Search(Observer(trial, client, model, seconds))
    try:
        return search.run(seconds)
    except OutOfTime:
        return None


class _Search:
    """A search under way."""

    def __init__(self, observer: Observer) -> None:
        self.o = observer
        self.kernel = observer.kernel
        self.probes = probes(self.kernel)

    def run(self, seconds: float) -> Divergence | None:
        launch = self.o.launch(self.kernel)
        launch.seconds = seconds * _FIRST_SHARE
        found = launch.run()
        if found.verdict is Verdict.PASS:
            return None
        if not launch.after:
            return self._before_the_end(first_to_fail(self.o, found), found)
        needed = found.mismatch.buffer if found.mismatch else ""
        self.o.make_room(needed)
        shape = cells_to_have(self.o, self.probes, found)
        sight = self.o.look(self.probes, shape)
        named = self._named(sight, shape)
        if named is None and sight.hidden and not sight.outputs and needed not in self.o.left_out:
            return self._unhidden(shape) or self._suspected(sight, launch, shape)
        return named

    def _before_the_end(self, fatal: Divergence, found: Finding) -> Divergence:
        """Return what is wrong in the kernel cut before the instruction that does not come back, else that one."""
        for last in range(fatal.instruction - 1, self.kernel.nest.setup[-1] - 1, -1):
            cut = beginning(self.kernel, last)
            if not is_valid(cut):
                continue
            inside, watched = self.o.of(cut), probes(cut)
            shape = cells_to_have(inside, watched, found)
            sight = inside.look(watched, shape)
            first = sight.first()
            if first is None or first.probe.position < 0:
                return fatal
            named = Words(inside.trial, sight.cells, shape).register(first)
            note = f"from this on, `{fatal.text}` at {fatal.instruction}: {fatal.note}"
            return structs.replace(named, note="; ".join(filter(None, (named.note, note))))
        return fatal

    def _named(self, sight: Sight, shape: Shape) -> Divergence | None:
        """Return what is wrong first in what was seen: a register, else a store."""
        first = sight.first()
        words = Words(self.o.trial, sight.cells, shape)
        if first is not None and first.probe.position >= 0:
            return words.register(first)
        if first is not None and (index := words.not_run(first)) is not None:
            return words.register(index)
        return wrong_store(words, sight) if sight.outputs else None

    # --- faults that watching hides -------------------------------------------------------------------------------

    def _unhidden(self, shape: Shape) -> Divergence | None:
        """Leave out what hides the fault, until it shows."""
        watched, left_out = list(self.probes), list[Probe]()
        while watched and len(left_out) < _MOST_HIDING:
            hiding = self._hiding(watched, shape)
            left_out += hiding
            watched = [p for p in watched if p not in hiding]
            sight = self.o.look(watched, shape) if watched else Sight()
            named = self._named(sight, shape)
            if named is not None:
                return self._with_note(named, left_out)
        return None

    def _suspected(self, sight: Sight, launch: Launch, shape: Shape) -> Divergence | None:
        """Return the store of what was wrong at first, where no copy fails whatever it watches."""
        outputs = {name: (after, launch.expected(0)[name]) for name, after in launch.written().items()}
        named = wrong_store(Words(self.o.trial, sight.cells, shape), replace(sight, outputs=outputs))
        return None if named is None else structs.replace(named, note=f"{_NEVER_AGAIN}; {named.note}")

    def _hiding(self, watched: Sequence[Probe], shape: Shape) -> list[Probe]:
        """Return a few probes, mostly one, in whose company the fault does not show."""
        part = list(watched)
        while len(part) > 1:
            middle = len(part) // 2
            half = next((h for h in (part[:middle], part[middle:]) if self.o.look(h, shape).hidden), None)
            if half is None:
                break
            part = half
        return part

    def _with_note(self, named: Divergence, left_out: Sequence[Probe]) -> Divergence:
        body = self.kernel.body
        feeding = [p for p in left_out if p.register in body[named.instruction].reads] or left_out
        watched = " and ".join(dict.fromkeys(f"`{format_instr(body[p.position])}`" for p in feeding))
        note = f"watching {watched} hides the fault: it shows where that and this are optimised together"
        return structs.replace(named, note="; ".join(filter(None, (note, named.note))))


def cells_to_have(observer: Observer, watched: Sequence[Probe], found: Finding) -> Shape:
    """Return the cells to have: of every group if they are few, else of the one that writes what is wrong."""
    wanted = {found.mismatch.buffer: found.mismatch.element} if found.mismatch else {}
    lanes = observer.kernel.lanes
    trips, group = measure(observer.trial, wanted)
    shape = Shape(trips, prod(observer.grid), lanes)
    if sum(shape.cells(p.path) for p in watched) * WORD <= MOST_CELL_BYTES:
        return shape
    return Shape(trips, 1, lanes, group)
