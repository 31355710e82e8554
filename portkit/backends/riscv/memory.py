"""Loads, stores, copies and atomic stores of a strip of lanes; every element has 4 bytes.

Consecutive indices (a ramp) use unit-stride accesses, others gather and scatter. What gates an access, and the mask of
the lanes that still run in a loop, become v0.
"""

from __future__ import annotations

from portkit.backends.riscv.code import MASK, Code, Register, Value, const
from portkit.backends.riscv.forms import operate, write
from portkit.backends.riscv.isa import VECTOR_BYTES, ZERO
from portkit.spec.types import I32

ATOMIC_BYTES = 2 * VECTOR_BYTES
"""Scratch memory for the indices and values of one strip of an atomic store."""


class Memory:
    """Writes accesses; `bases` are the addresses of buffers and arrays, by name."""

    def __init__(self, code: Code, *, single: bool) -> None:
        """Write into `code`; a work-group of a single lane needs no vectors."""
        self.code = code
        self.bases: dict[str, Register] = {}
        self.single = single
        self.active: Register | None = None
        """The mask of the lanes that run, inside a loop whose count differs per lane."""
        self.length: Register = ZERO
        """How many lanes the strip has."""

    def load(self, mem: str, index: Value, gate: Value | None = None, other: Value | None = None) -> Value:
        """Return the element at an index, or `other` where the gate is closed."""
        code, otherwise = self.code, other or const(0)
        if index.uniform and otherwise.uniform and (gate is None or gate.uniform):
            result = code.into("mv", code.x(otherwise))
            with code.when(gate or const(1)):
                code.emit("lw", result, 0, self._address(mem, index))
            return Value("scalar", result)
        name, place = self._place(mem, index, "vle32.v", "vluxei32.v")
        if gate is None and self.active is None:
            return Value("vector", code.into(name, *place))
        result = code.into("vmv.v.v", code.v(otherwise))
        self._mask(gate)
        code.emit(f"{name}.t", result, *place)
        return Value("vector", result)

    def store(self, mem: str, index: Value, value: Value, gate: Value | None = None) -> None:
        """Store a value where the gate is open."""
        if self.single:
            with self.code.when(gate or const(1)):
                self.code.emit("sw", self.code.x(value), 0, self._address(mem, index))
            return
        name, place = self._place(mem, index, "vse32.v", "vsuxei32.v")
        vector = self.code.v(value)
        self.code.emit(f"{name}.t" if self._mask(gate) else name, vector, *place)

    def copy(self, target: str, to: Value, source: str, start: Value, count: int) -> None:
        """Copy consecutive elements at once, which async_c1 allows."""
        with self.code.count("copy", ZERO, const(count)) as index:
            step = Value("scalar", index)
            value = self.load(source, operate(self.code, "add", I32, (start, step)))
            self.store(target, operate(self.code, "add", I32, (to, step)), value)

    def atomic(self, text: str, mem: str, index: Value, value: Value, gate: Value | None, scratch: Register) -> None:
        """Fold values into memory by an `amo` instruction, lane by lane: two lanes may mean the same element."""
        code = self.code
        if self.single:
            with code.when(gate or const(1)):
                write(code, text, [self._address(mem, index), code.x(value)])
            return
        values, indices, closed = code.v(value), code.v(index), code.v(const(-1))
        if self._mask(gate):
            indices = code.into("vmerge.vvm", closed, indices)
        half = code.into("addi", scratch, VECTOR_BYTES)
        code.emit("vse32.v", indices, scratch)
        code.emit("vse32.v", values, half)
        with code.count("atomic", ZERO, Value("scalar", self.length)) as lane:
            at = code.into("lw", 0, code.element(scratch, lane))
            with code.when(Value("scalar", code.into("slt", ZERO, code.into("addi", at, 1)))):
                operand = code.into("lw", 0, code.element(half, lane))
                write(code, text, [code.element(self.bases[mem], at), operand])

    def _address(self, mem: str, index: Value) -> Register:
        """Return the address of an element, that of the strip's first for a ramp."""
        return self.code.element(self.bases[mem], index.register if index.kind == "ramp" else self.code.x(index))

    def _place(self, mem: str, index: Value, consecutive: str, anywhere: str) -> tuple[str, tuple[Register, ...]]:
        if index.kind == "ramp":
            return consecutive, (self._address(mem, index),)
        return anywhere, (self.bases[mem], self.code.into("vsll.vi", self.code.v(index), 2))

    def _mask(self, gate: Value | None) -> bool:
        """Put what gates an access into v0, and return whether anything does."""
        masks = [m for m in (gate and self.code.mask(gate), self.active) if m is not None]
        if masks:
            self.code.emit("vmand.mm", MASK, masks[0], masks[-1])
        return bool(masks)
