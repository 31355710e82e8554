"""The register allocator: random programs compute the same with a few registers as with as many as they like."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest

from portkit.backends.toolkit.encoder import Encoder, Item, Label, Line, Virtual, families
from portkit.backends.toolkit.register_allocator import Machine, allocate

FORMAT = {"A": "op:4 d:5 a:5 b:5 imm[31:0]"}
ROWS = {
    "A op={} a=0 b=0 : =d imm": "set 0, load 6",
    "A op={} b=0 imm=0 : =d a": "copy 1",
    "A op={} imm=0 : =d a b": "add 2",
    "A op={} imm=0 : +d a b": "mac 3",
    "A op={} a=0 b=0 : +d imm": "next 4",
    "A op={} d=0 b=0 : a imm": "until 5, save 7",
    "A op={} d=0 b=0 imm=0 : a": "out 8",
}
ENCODER = Encoder(FORMAT, families(ROWS), {}, width=51)
_WRAP = 1 << 32


def machine(count: int) -> Machine:
    return Machine(
        registers={"r": range(count)},
        operands=ENCODER.operands,
        reload=lambda _, register, slot: [Line("load", (register, slot))],
        spill=lambda _, register, slot: [Line("save", (register, slot))],
        copies=frozenset({"copy"}),
    )


def run(items: Sequence[Item]) -> list[int]:
    """Execute a program; registers are whatever stands in the operands, `until` loops while its register is not 0."""
    registers: dict[object, int] = {}
    slots: dict[object, int] = {}
    shown: list[int] = []
    places = {item: at for at, item in enumerate(items) if isinstance(item, Label)}
    at = 0
    while at < len(items):
        item = items[at]
        at += 1
        if isinstance(item, Label):
            continue
        d, *rest = item.operands
        match item.name:
            case "set":
                registers[d] = int(str(rest[0]))
            case "copy":
                registers[d] = registers[rest[0]]
            case "add":
                registers[d] = (registers[rest[0]] + registers[rest[1]]) % _WRAP
            case "mac":
                registers[d] = (registers[d] * 3 + registers[rest[0]] * registers[rest[1]]) % _WRAP
            case "next":
                registers[d] += int(str(rest[0]))
            case "until":
                label = rest[0]
                assert isinstance(label, Label)
                at = places[label] if registers[d] else at
            case "load":
                registers[d] = slots[rest[0]]
            case "save":
                slots[rest[0]] = registers[d]
            case _:
                shown.append(registers[d])
    return shown


class Writer:
    """Random structured programs."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.items: list[Item] = []
        self.numbers = itertools.count()

    def fresh(self) -> Virtual:
        return Virtual("r", next(self.numbers))

    def emit(self, name: str, *operands: int | Label | Virtual) -> None:
        self.items.append(Line(name, operands))

    def block(self, known: list[Virtual], depth: int) -> None:
        visible = list(known)
        for _ in range(self.draw.randrange(2, 9)):
            if depth and self.draw.random() < 0.3:
                self.loop(visible, depth - 1)
                continue
            d = self.fresh() if self.draw.random() < 0.7 else self.draw.choice(visible)
            name = self.draw.choice(["set", "copy", "add", "mac"] if d in visible else ["set", "copy", "add"])
            args = {"set": [self.draw.randrange(1000)], "copy": [self.draw.choice(visible)]}
            self.emit(name, d, *args.get(name, [self.draw.choice(visible), self.draw.choice(visible)]))
            visible += [] if d in visible else [d]
        for register in self.draw.sample(visible, min(3, len(visible))):
            self.emit("out", register)

    def loop(self, known: list[Virtual], depth: int) -> None:
        label, counter = Label(f"loop{next(self.numbers)}"), self.fresh()
        self.emit("set", counter, 3)
        self.items.append(label)
        self.block(known, depth)
        self.emit("next", counter, -1)
        self.emit("until", counter, label)

    def program(self) -> list[Item]:
        known = [self.fresh() for _ in range(6)]
        for register in known:
            self.emit("set", register, self.draw.randrange(1000))
        self.block(known, 3)
        for register in known:
            self.emit("out", register)
        return self.items


@pytest.mark.parametrize("registers", [4, 5, 8, 30])
@pytest.mark.parametrize("seed", range(40))
def test_a_program_computes_the_same_with_few_registers(seed: int, registers: int) -> None:
    items = Writer(seed).program()
    allocated = allocate(items, machine(registers))
    assert not any(isinstance(o, Virtual) for i in allocated.items if isinstance(i, Line) for o in i.operands)
    assert run(allocated.items) == run(items)


def test_registers_are_used_again_once_their_values_are_dead() -> None:
    a, b, c, d = (Virtual("r", n) for n in range(4))
    code = [
        Line("set", (a, 1)),
        Line("copy", (b, a)),
        Line("add", (c, b, b)),
        Line("add", (d, c, c)),
        Line("out", (d,)),
    ]
    assert allocate(code, machine(4)).items == [
        Line("set", (0, 1)),
        Line("add", (0, 0, 0)),
        Line("add", (0, 0, 0)),
        Line("out", (0,)),
    ]


def test_what_is_used_most_in_loops_stays_in_registers() -> None:
    writer = Writer(0)
    cold, hot = [writer.fresh() for _ in range(5)], writer.fresh()
    for register in (*cold, hot):
        writer.emit("set", register, 1)
    again = Label("again")
    writer.items.append(again)
    writer.emit("next", hot, -1)
    writer.emit("until", hot, again)
    for register in cold:
        writer.emit("out", register)
    allocated = allocate(writer.items, machine(5))
    inside = allocated.items[allocated.items.index(again) :][:3]
    assert [i.name for i in inside if isinstance(i, Line)] == ["next", "until"]
    assert allocated.slots["r"] > 0


def test_slots_are_shared_by_what_is_never_live_together() -> None:
    writer = Writer(0)
    for _ in range(3):
        registers = [writer.fresh() for _ in range(8)]
        for register in registers:
            writer.emit("set", register, 1)
        for register in registers:
            writer.emit("out", register)
    assert allocate(writer.items, machine(5)).slots["r"] <= 7


def test_a_result_that_nobody_reads_takes_no_register_from_another() -> None:
    a, dead = Virtual("r", 0), Virtual("r", 1)
    code = [Line("set", (a, 7)), Line("set", (dead, 9)), Line("out", (a,))]
    assert run(allocate(code, machine(4)).items) == [7]
