"""Saying what was seen: the record of one wrong value, and what there is to note about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from portkit.conformance.card import Divergence, Number, number
from portkit.conformance.case import Trial
from portkit.conformance.divergence.copying import Shape
from portkit.conformance.divergence.probes import Path, Probe
from portkit.conformance.divergence.sight import Array, Cells
from portkit.spec.forms import Op
from portkit.spec.kernel import Instr
from portkit.spec.text import format_instr

_MISSING = {
    "loop.grid": "this work-group did not run",
    "loop.lane": "this lane did not run",
    "loop.serial": "this trip did not happen: the loop ended early",
}
_EXTRA = {
    "loop.grid": "there is no such work-group",
    "loop.lane": "there is no such lane",
    "loop.serial": "this trip should not happen: the loop ran too often",
}
_ORDERING = (Op.BARRIER, Op.WAIT, Op.FENCE)


class Words:
    """The launch, and the cells that were seen of it."""

    def __init__(self, trial: Trial, cells: Mapping[Probe, Cells], shape: Shape) -> None:
        self.trial = trial
        self.kernel = trial.kernel
        self.cells = cells
        self.shape = shape

    @np.errstate(invalid="ignore")  # a NaN may be a signalling one
    def register(self, cells: Cells) -> Divergence:
        """Return the record of the first wrong cell of a probe."""
        at = cells.first()
        assert at is not None
        probe, index = cells.probe, int(cells.numbers[at])
        instr = self.kernel.body[probe.position]
        unwritten = _same(cells.actual[at], cells.poison)
        unexpected = _same(cells.expected[at], cells.poison) and not unwritten
        return self.record(
            probe.position,
            at[:-1],
            self.inputs(instr, probe, at),
            None if unwritten else _numbers(cells.actual[at][None]),
            "" if unexpected else cells.accepted.describe(index),
            self._note(cells, instr, at, missing=unwritten, extra=unexpected),
        )

    def not_run(self, test: Cells) -> Cells | None:
        """Return the index of the grid or lane loop that left out lanes, if that is what a test of the watching shows.

        That is so if cells were not written, and none was written wrongly.
        """
        at = test.first()
        if at is None or not (test.actual[test.wrong] == test.poison).all():
            return None
        whole_group = test.wrong[at[0], : self.shape.lanes].all()
        nest = self.kernel.nest
        head = self.kernel.body[(nest.grids if whole_group else nest.lanes)[-1]]
        cells = self.visible(head.result, ())
        return cells if cells is not None and cells.wrong.any() else None

    def record(
        self,
        position: int,
        at: tuple[int, ...],
        inputs: dict[str, Number],
        actual: Number | None,
        accepted: str,
        note: str,
    ) -> Divergence:
        """Return a record; `at` are iterations, then group and lane."""
        group = at[-2] if self.shape.group is None else self.shape.group
        text = format_instr(self.kernel.body[position])
        return Divergence(position, text, group, at[-1], at[:-2], inputs, actual, accepted, note)

    # --- operands -------------------------------------------------------------------------------------------------

    def inputs(self, instr: Instr, probe: Probe, at: tuple[int, ...]) -> dict[str, Number]:
        """Return the operands of an execution as the device had them; `at` are iterations, group, lane and element."""
        turns, lane = at[: len(probe.path)], at[len(probe.path) : len(probe.path) + 2]
        if instr.name == "phi.carry" and turns and turns[-1]:
            following = self.following(probe)
            return self._operand(following, probe.path, (*turns[:-1], turns[-1] - 1, *lane))
        found: dict[str, Number] = {}
        for name in dict.fromkeys(instr.reads if instr.form.op is not Op.ENDLOOP else ()):
            found |= self._operand(name, probe.path, (*turns, *lane))
        return found

    def following(self, probe: Probe) -> str:
        """Return the register that gives a carry its next value."""
        pairs = (dict(i.carries) for i in self.kernel.body if i.name == "endloop")
        return next(p[probe.register] for p in pairs if probe.register in p)

    def _operand(self, name: str, path: Path, at: tuple[int, ...]) -> dict[str, Number]:
        if name in self.trial.scalars:
            scalar = next(s for s in self.kernel.scalars if s.name == name)
            return {name: _numbers(np.array([self.trial.scalars[name]], scalar.dtype.numpy))}
        cells = self.visible(name, path)
        if cells is None:
            return {}
        depth = len(cells.probe.path)
        value = cells.actual[(*at[:depth], *at[-2:])]
        return {name: _numbers(value[: cells.section.lanes])}

    def visible(self, name: str, path: Path) -> Cells | None:
        """Return the cells of a register as it is seen in a block: a carry inside its loop, or what it left behind."""
        found = [
            c for p, c in self.cells.items() if p.register == name and p.position >= 0 and p.path == path[: len(p.path)]
        ]
        return max(found, key=lambda c: (len(c.probe.path), c.probe.place), default=None)

    # --- notes ----------------------------------------------------------------------------------------------------

    def _note(self, cells: Cells, instr: Instr, at: tuple[int, ...], *, missing: bool, extra: bool) -> str:
        probe = cells.probe
        if missing:
            return _MISSING.get(instr.name, "this was not executed, or the register does not exist")
        if extra:
            return _EXTRA.get(instr.name, "this should not have been executed")
        if instr.name == "endloop":
            return f"the loop's trips were right: this is what the carry {probe.register} reads as after it"
        if instr.name == "phi.carry" and at[len(probe.path) - 1]:
            return f"`{self.following(probe)}`, its next value, was right in the trip before"
        if instr.form.op is Op.LOAD:
            return self._about_load(probe.position, instr)
        return f"element {at[-1]} of the vector" if cells.section.lanes > 1 else ""

    def _about_load(self, position: int, instr: Instr) -> str:
        """Say what should have made a load's value what it is not: its operands are right."""
        memory, earlier = instr.mems[0], list(enumerate(self.kernel.body[:position]))
        writers = [
            i for i, other in enumerate(self.kernel.body) if other.form.op is not Op.LOAD or other.name == "load.async"
        ]
        writers = [i for i in writers if memory in self.kernel.body[i].mems[:1]]
        if not writers:
            return "its index is right"
        last = max((i for i in writers if i < position), default=writers[-1])
        order = [i for i, other in earlier if other.form.op in _ORDERING]
        through = f" before the {self.kernel.body[order[-1]].name} at {order[-1]}" if order else ""
        return f"its index is right: it reads what `{format_instr(self.kernel.body[last])}` at {last} wrote{through}"


def _same(a: Any, b: Any) -> bool:
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


def _numbers(values: Array) -> Number:
    """Return one value, or all of a vector, for people."""
    flat = np.ascontiguousarray(values)
    each = [number(flat, k) for k in range(len(flat))]
    if len(each) == 1:
        return each[0]
    return Number(f"[{', '.join(n.decimal for n in each)}]", " ".join(n.hex for n in each))
