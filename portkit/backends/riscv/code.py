"""Writes lines of machine code with virtual registers: values, constants, templates, loops and branches.

A value is the same in all lanes of a strip (a constant, or an x register), or has an element for each (a v register).
32-bit integers and the bits of floats stand sign-extended in x registers, bool is 0 or 1 there and a mask in v.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from portkit.backends.riscv.isa import ENCODER, ZERO, constant
from portkit.backends.toolkit.encoder import Item, Label, Line, Virtual, parse

MASK = 0
"""The vector register that gates."""
Register = Virtual | int


@dataclass(frozen=True, slots=True)
class Value:
    """What a register of a kernel is while code is written.

    `kind`: `const` (`bits`, a signed number), `scalar` (x register), `ramp` (x register plus the number of the element
    in the strip), `vector` (v register) or `mask` (v register with a bit for each element).
    """

    kind: str
    register: Register = ZERO
    bits: int = 0

    @property
    def uniform(self) -> bool:
        """Whether all lanes have the same."""
        return self.kind in ("const", "scalar")


def const(bits: int) -> Value:
    """Return a constant from its bit pattern."""
    return Value("const", bits=(bits & 0xFFFFFFFF ^ 0x80000000) - 0x80000000)


class Code:
    """The lines of one kernel."""

    def __init__(self) -> None:
        """Start with none."""
        self.items: list[Item] = []
        self._numbers = itertools.count()

    def fresh(self, kind: str) -> Virtual:
        """Return a virtual register that nothing uses yet."""
        return Virtual(kind, next(self._numbers))

    def emit(self, name: str, *operands: Register | Label) -> None:
        """Append an instruction."""
        self.items.append(Line(name, operands))

    def into(self, kind: str, name: str, *operands: Register | Label) -> Virtual:
        """Append an instruction that writes a new register of a kind, and return that."""
        result = self.fresh(kind)
        self.emit(name, result, *operands)
        return result

    # --- values in registers --------------------------------------------------------------------------------------

    def x(self, value: Value) -> Register:
        """Return an x register with a uniform value."""
        if value.kind != "const":
            return value.register
        if not value.bits:
            return ZERO
        result = self.fresh("x")
        self.items += constant(result, value.bits)
        return result

    def v(self, value: Value) -> Register:
        """Return a v register with a value in each lane."""
        if value.kind in ("vector", "mask"):
            return value.register
        if value.kind == "ramp":
            return self.into("v", "vadd.vx", self.into("v", "vid.v"), value.register)
        if value.kind == "const" and -16 <= value.bits < 16:
            return self.into("v", "vmv.v.i", value.bits)
        return self.into("v", "vmv.v.x", self.x(value))

    def mask(self, value: Value) -> Register:
        """Return a v register with a mask."""
        return value.register if value.kind == "mask" else self.into("v", "vmsne.vi", self.v(value), 0)

    def template(self, text: str, registers: Mapping[str, Register]) -> Virtual:
        """Append instructions in text form, separated by `;`, and return what they leave in `d`.

        Operands are names of `registers`, literals, `zero`, and temporary registers: t1 is an x, v1 a v register. `d` is
        of the kind of the last instruction's first operand.
        """
        last = text.rpartition(";")[2].split()[0]
        result = self.fresh(ENCODER.operands(last)[0].prefix)
        temporary = {token: self.fresh(token[0].replace("t", "x")) for token in re.findall(r"\b[tv]\d\b", text)}
        self.items += parse(text, {"zero": ZERO, "d": result, **temporary, **registers})
        return result

    # --- control flow ---------------------------------------------------------------------------------------------

    def label(self, hint: str) -> Label:
        """Return a label that stands nowhere yet."""
        return Label(f"{hint}{next(self._numbers)}")

    def place(self, label: Label) -> None:
        """Let a label stand here."""
        self.items.append(label)

    def leave_unless(self, branch: str, a: Register, b: Register, label: Label) -> None:
        """Jump to a label, however far, unless the branch is taken."""
        near = self.label("on")
        self.emit(branch, a, b, near)
        self.emit("jal", ZERO, label)
        self.place(near)

    @contextmanager
    def when(self, condition: Register) -> Generator[None]:
        """Write what is skipped where an x register is zero."""
        skip = self.label("skip")
        self.leave_unless("bne", condition, ZERO, skip)
        yield
        self.place(skip)

    @contextmanager
    def loop(self, hint: str) -> Generator[Label]:
        """Write a loop without end, and yield the label that leaves it."""
        again, out = self.label(hint), self.label("end")
        self.place(again)
        yield out
        self.emit("jal", ZERO, again)
        self.place(out)

    @contextmanager
    def count(self, hint: str, start: Register, limit: Value, step: Register | None = None) -> Generator[Virtual]:
        """Write a loop that counts upwards while below a limit, and yield the x register that counts."""
        index = self.into("x", "mv", start)
        with self.loop(hint) as out:
            self.leave_unless("blt", index, self.x(limit), out)
            yield index
            if step is None:
                self.emit("addi", index, index, 1)
            else:
                self.emit("add", index, index, step)
