"""Linear-scan register allocation: from any number of virtual registers to those that a chip has.

    allocated = allocate(lines, Machine(...))       # the same lines with real registers, and how many spill slots

What it asks of the code: every virtual register is written before it is read, reading from top to bottom, and control
flow is structured: a branch backwards closes a loop, a branch forwards leaves or skips something. An instruction writes
at most one register. A register may be written many times, so a value that a loop carries is one register, set before
the loop and again at its end.

A register is *live* from its first to its last use, and to the end of each loop that it is used in but begins before.
What does not fit is *spilled*: it lives in a slot of memory, and is loaded and stored around each use.

Source: Poletto and Sarkar, "Linear scan register allocation", 1999; the choice of what to spill is by weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from portkit.backends.toolkit.encoder import Item, Label, Line, Operand, Part, Virtual

_LOOP_WEIGHT = 10
"""How many times a loop is taken to run when what to spill is chosen."""
_SCRATCH = 3
"""Registers set aside in a kind that spills: as many as an instruction reads."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the allocator must know of a chip.

    `registers`: those that may be used, by kind, the best first. `operands`: those of an instruction, as in
    `Encoder.operands`. `reload` and `spill`: the lines that load a register (kind, register, slot) and store it.
    `copies`: instructions whose second operand is copied to the first; they help to choose, and vanish where they can.
    """

    registers: Mapping[str, Sequence[int]]
    operands: Callable[[str], Sequence[Operand]]
    reload: Callable[[str, int, int], Sequence[Line]]
    spill: Callable[[str, int, int], Sequence[Line]]
    copies: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Allocated:
    """Lines without virtual registers, and how many spill slots each kind needs."""

    items: list[Item]
    slots: dict[str, int]


@dataclass(slots=True)
class _Interval:
    """Where a register is live: 2 i is where line i reads, 2 i + 1 where it writes; `weight` counts its uses."""

    register: Virtual
    start: int
    end: int
    weight: int = 0
    copy_of: Virtual | None = None

    @property
    def worth(self) -> float:
        """What it gains to keep it in a register, for each line that it occupies one."""
        return self.weight / (self.end - self.start + 1)


@dataclass(slots=True)
class _Places:
    """Where registers live: in real registers, or in slots."""

    real: dict[Virtual, int] = field(default_factory=dict[Virtual, int])
    slots: dict[Virtual, int] = field(default_factory=dict[Virtual, int])


def allocate(items: Sequence[Item], machine: Machine) -> Allocated:
    """Choose a register for every virtual one; kinds do not compete."""
    intervals = sorted(_intervals(items, machine), key=lambda i: i.start)
    places = _Places()
    counts: dict[str, int] = {}
    for kind, registers in machine.registers.items():
        own = [i for i in intervals if i.register.kind == kind]
        spilled = _scan(own, registers, places.real)
        if spilled:
            spilled = _scan(own, registers[:-_SCRATCH], places.real)
        counts[kind] = _place_in_slots(spilled, places.slots)
    return Allocated(list(_rewritten(items, machine, places)), counts)


# --- live intervals -------------------------------------------------------------------------------------------------


def _intervals(items: Sequence[Item], machine: Machine) -> Iterator[_Interval]:
    loops = _loops(items)
    found: dict[Virtual, _Interval] = {}
    for at, line in enumerate(items):
        if not isinstance(line, Line):
            continue
        for register, reads, writes in _uses(line, machine):
            first, last = 2 * at + (not reads), 2 * at + writes
            interval = found.setdefault(register, _Interval(register, first, last))
            interval.end = max(interval.end, last)
            interval.weight += _LOOP_WEIGHT ** min(len(loops[at]), 6)
            # Loops are listed from the inside out: the outermost that it began before decides.
            for begin, end in loops[at]:
                if interval.start < 2 * begin:
                    interval.end = max(interval.end, 2 * end + 1)
            if line.name in machine.copies and interval.start == 2 * at + 1 and isinstance(line.operands[1], Virtual):
                interval.copy_of = line.operands[1]
    return iter(found.values())


def _uses(line: Line, machine: Machine) -> Iterator[tuple[Virtual, bool, bool]]:
    """Yield each virtual register of a line, whether it is read and whether it is written."""
    for operand, value in zip(machine.operands(line.name), line.operands, strict=True):
        if isinstance(value, Virtual):
            yield value, operand.role != "=", operand.role != ""


def _loops(items: Sequence[Item]) -> list[list[tuple[int, int]]]:
    """Return for each position the loops around it, the innermost first, each as its first and last position."""
    places = {item: at for at, item in enumerate(items) if isinstance(item, Label)}
    ends: dict[int, int] = {}
    for at, item in enumerate(items):
        for operand in item.operands if isinstance(item, Line) else ():
            target = operand.label if isinstance(operand, Part) else operand
            if isinstance(target, Label) and target in places and places[target] <= at:
                ends[places[target]] = at
    around: list[list[tuple[int, int]]] = []
    current: list[tuple[int, int]] = []
    for at in range(len(items)):
        while current and current[0][1] < at:
            current = current[1:]
        if at in ends:
            current = [(at, ends[at]), *current]
        around.append(current)
    return around


# --- the scan -------------------------------------------------------------------------------------------------------


def _scan(intervals: Sequence[_Interval], registers: Sequence[int], real: dict[Virtual, int]) -> list[_Interval]:
    """Give intervals, sorted by start, their registers; return those that found none."""
    rank = {register: place for place, register in enumerate(registers)}
    free, active, spilled = list(registers), list[_Interval](), list[_Interval]()
    for interval in intervals:
        real.pop(interval.register, None)
        done = [a for a in active if a.end < interval.start]
        if done:
            active = [a for a in active if a.end >= interval.start]
            free = sorted([*free, *(real[a.register] for a in done)], key=rank.__getitem__)
        if not free:
            least = min([*active, interval], key=lambda i: i.worth)
            spilled.append(least)
            if least is interval:
                continue
            active.remove(least)
            free.append(real.pop(least.register))
        wanted = real.get(interval.copy_of) if interval.copy_of else None
        real[interval.register] = free.pop(free.index(wanted) if wanted in free else 0)
        active.append(interval)
    return spilled


def _place_in_slots(spilled: Sequence[_Interval], slots: dict[Virtual, int]) -> int:
    """Give spilled intervals slots, one after the other in the same where they do not meet; return their number."""
    ends: list[int] = []
    for interval in sorted(spilled, key=lambda i: i.start):
        slot = next((s for s, end in enumerate(ends) if end < interval.start), len(ends))
        ends[slot : slot + 1] = [interval.end]
        slots[interval.register] = slot
    return len(ends)


# --- rewriting ------------------------------------------------------------------------------------------------------


def _rewritten(items: Sequence[Item], machine: Machine, places: _Places) -> Iterator[Item]:
    for item in items:
        if isinstance(item, Label):
            yield item
            continue
        before, line, after = _spilled(item, machine, places)
        useless = item.name in machine.copies and line.operands[0] == line.operands[1]
        yield from (*before, *([] if useless else [line]), *after)


def _spilled(line: Line, machine: Machine, places: _Places) -> tuple[list[Line], Line, list[Line]]:
    """Return a line in real registers, and the lines that load and store those of its registers that are in slots.

    What is only written may use the scratch register of what is read: an instruction reads before it writes.
    """
    before, after = list[Line](), list[Line]()
    chosen: dict[Virtual, int] = {}
    used: dict[str, int] = {}
    for register, reads, writes in sorted(_uses(line, machine), key=lambda use: not use[1]):
        kind, slot = register.kind, places.slots.get(register)
        if slot is None:
            continue
        if register not in chosen:
            place = used.get(kind, 0) if reads else 0
            chosen[register] = machine.registers[kind][place - _SCRATCH]
            used[kind] = place + 1
            if reads:
                before += machine.reload(kind, chosen[register], slot)
        if writes:
            after += machine.spill(kind, chosen[register], slot)
    real = (chosen.get(o, places.real.get(o, o)) if isinstance(o, Virtual) else o for o in line.operands)
    return before, Line(line.name, tuple(real)), after
