"""Writes lines of machine code with virtual registers: values in registers, branches, and loops.

32-bit integers and the bits of floats stand sign-extended in x registers; bool is 0 or 1 there, and a mask in v.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from portkit.backends.riscv.isa import ENCODER, TEMPORARY, ZERO, constant
from portkit.backends.toolkit.encoder import Assembly, Label, Part, Virtual

MASK = 0
"""The vector register that gates."""
Register = Virtual | int


@dataclass(frozen=True, slots=True)
class Value:
    """What a register of a kernel is while code is written.

    `kind`: `const` (`bits`, a signed number), `scalar` (x register), `ramp` (x register plus the number of the element
    in the strip), `vector` (v register), or `mask` (v register with a bit for each element).
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


class Code(Assembly):
    """The lines of one kernel."""

    def __init__(self, *, far: bool) -> None:
        """Start with none; labels may be `far` from where they are jumped to, more than `jal` reaches."""
        super().__init__(ENCODER)
        self._far = far

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
            return self.into("vadd.vx", self.into("vid.v"), value.register)
        if value.kind == "const" and -16 <= value.bits < 16:
            return self.into("vmv.v.i", value.bits)
        return self.into("vmv.v.x", self.x(value))

    def mask(self, value: Value) -> Register:
        """Return a v register with a mask."""
        return value.register if value.kind == "mask" else self.into("vmsne.vi", self.v(value), 0)

    def element(self, base: Register, index: Register) -> Register:
        """Return the address of an element of 4 bytes."""
        return base if index == ZERO else self.into("add", base, self.into("slli", index, 2))

    # --- control flow ---------------------------------------------------------------------------------------------

    def _jump(self, label: Label) -> None:
        if not self._far:
            return self.emit("jal", ZERO, label)
        self.emit("auipc", TEMPORARY, Part(label, low=False))
        return self.emit("jalr", ZERO, Part(label, low=True), TEMPORARY)

    def leave_unless(self, branch: str, a: Register, b: Register, label: Label) -> None:
        """Jump to a label unless the branch is taken."""
        near = self.label("on")
        self.emit(branch, a, b, near)
        self._jump(label)
        self.items.append(near)

    @contextmanager
    def when(self, condition: Value) -> Generator[None]:
        """Write what is skipped where a uniform condition is false."""
        skip = self.label("skip")
        if condition != const(1):
            self.leave_unless("bne", self.x(condition), ZERO, skip)
        yield
        self.items.append(skip)

    @contextmanager
    def loop(self, hint: str) -> Generator[Label]:
        """Write a loop without end, and yield the label that leaves it."""
        again, out = self.label(hint), self.label("end")
        self.items.append(again)
        yield out
        self._jump(again)
        self.items.append(out)

    @contextmanager
    def count(self, hint: str, start: Register, limit: Value, step: Register | None = None) -> Generator[Virtual]:
        """Write a loop that counts upwards while below a limit, and yield the x register that counts."""
        index = self.into("mv", start)
        with self.loop(hint) as out:
            self.leave_unless("blt", index, self.x(limit), out)
            yield index
            self.emit(*("addi", index, index, 1) if step is None else ("add", index, index, step))
