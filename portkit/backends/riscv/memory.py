"""Loads, stores, copies and atomic stores of a strip of lanes.

Consecutive indices (a ramp) use unit-stride accesses, others gather and scatter. A gate that differs per lane, and the
mask of the lanes that still run in a loop, become v0; a uniform gate is a branch. Every element has 4 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

from portkit.backends.riscv.code import MASK, Code, Register, Value, const
from portkit.backends.riscv.forms import operate
from portkit.backends.riscv.isa import MAX_VLEN, ZERO
from portkit.spec.types import I32

ATOMIC_BYTES = 2 * 2 * MAX_VLEN // 8
"""Scratch memory for the indices and values of one strip of an atomic store."""


class Memory:
    """Writes accesses; `bases` are the addresses of buffers and arrays, by name."""

    def __init__(self, code: Code, bases: Mapping[str, Register], *, single: bool) -> None:
        """Write into `code`; a work-group of a single lane needs no vectors."""
        self.code = code
        self.bases = bases
        self.single = single
        self.active: Register | None = None
        """The mask of the lanes that run, inside a loop whose count differs per lane."""
        self.length: Register = ZERO
        """How many lanes the strip has."""

    def load(self, mem: str, index: Value, gate: Value | None = None, other: Value | None = None) -> Value:
        """Return the element at an index, or `other` where the gate is closed."""
        uniform = index.uniform and all(v is None or v.uniform for v in (gate, other))
        if gate is None or gate == const(1):
            result = self.code.fresh("x" if uniform else "v")
            self._load(result, mem, index, uniform=uniform)
        else:
            result = self._start(other or const(0), uniform=uniform)
            self._gated_load(result, mem, index, gate, uniform=uniform)
        return Value("scalar" if uniform else "vector", result)

    def _start(self, other: Value, *, uniform: bool) -> Register:
        """Return a new register with what a closed gate leaves."""
        if uniform:
            return self.code.into("x", "mv", self.code.x(other))
        return self.code.into("v", "vmv.v.v", self.code.v(other))

    def _gated_load(self, result: Register, mem: str, index: Value, gate: Value, *, uniform: bool) -> None:
        if gate.uniform:
            with self.code.when(self.code.x(gate)):
                self._load(result, mem, index, uniform=uniform, started=True)
        else:
            self._load(result, mem, index, uniform=False, gate=gate, started=True)

    def _load(
        self,
        result: Register,
        mem: str,
        index: Value,
        *,
        uniform: bool,
        gate: Value | None = None,
        started: bool = False,
    ) -> None:
        if uniform:
            self.code.emit("lw", result, 0, self.address(mem, index))
            return
        name, place = self._place(mem, index, "vle32.v", "vluxei32.v")
        if gate is None and self.active is None:
            self.code.emit(name, result, *place)
            return
        if not started:
            self.code.emit("vmv.v.i", result, 0)  # closed lanes keep what the register holds
        self._mask(gate)
        self.code.emit(f"{name}.t", result, *place)

    def store(self, mem: str, index: Value, value: Value, gate: Value | None = None) -> None:
        """Store a value where the gate is open."""
        if gate is not None and gate.uniform and gate != const(1):
            with self.code.when(self.code.x(gate)):
                self.store(mem, index, value)
        elif self.single:
            self.code.emit("sw", self.code.x(value), 0, self.address(mem, index))
        else:
            name, place = self._place(mem, index, "vse32.v", "vsuxei32.v")
            vector = self.code.v(value)
            masked = self._mask(None if gate is not None and gate.uniform else gate)
            self.code.emit(f"{name}.t" if masked else name, vector, *place)

    def copy(self, target: str, to: Value, source: str, start: Value, count: int) -> None:
        """Copy consecutive elements at once, which async_c1 allows."""
        with self.code.count("copy", ZERO, const(count)) as index:
            step = Value("scalar", index)
            value = self.load(source, operate(self.code, "add", I32, (start, step)))
            self.store(target, operate(self.code, "add", I32, (to, step)), value)

    # --- atomic stores --------------------------------------------------------------------------------------------

    def atomic(self, name: str, mem: str, index: Value, value: Value, gate: Value | None, scratch: Register) -> None:
        """Fold values into memory by an `amo` instruction, lane by lane: two lanes may mean the same element."""
        code = self.code
        if self.single:
            with code.when(code.x(gate or const(1))):
                code.emit(name, ZERO, code.x(value), self.address(mem, index))
            return
        values, indices = code.v(value), code.v(index)
        if gate is not None or self.active is not None:
            closed = code.v(const(-1))
            self._mask(gate if gate is None or not gate.uniform else Value("mask", code.mask(gate)))
            indices = code.into("v", "vmerge.vvm", closed, indices)
        half = code.into("x", "addi", scratch, ATOMIC_BYTES // 2)
        code.emit("vse32.v", indices, scratch)
        code.emit("vse32.v", values, half)
        with code.count("atomic", ZERO, Value("scalar", self.length)) as lane:
            offset = code.into("x", "slli", lane, 2)
            place = code.into("x", "lw", 0, code.into("x", "add", scratch, offset))
            skip = code.label("closed")
            code.emit("blt", place, ZERO, skip)
            operand = code.into("x", "lw", 0, code.into("x", "add", half, offset))
            code.emit(name, ZERO, operand, self.address(mem, Value("scalar", place)))
            code.place(skip)

    # --- addresses and masks --------------------------------------------------------------------------------------

    def address(self, mem: str, index: Value) -> Register:
        """Return the address of an element, that of the strip's first for a ramp."""
        if index == const(0):
            return self.bases[mem]
        at = index.register if index.kind == "ramp" else self.code.x(index)
        return self.code.into("x", "add", self.bases[mem], self.code.into("x", "slli", at, 2))

    def _place(self, mem: str, index: Value, consecutive: str, anywhere: str) -> tuple[str, tuple[Register, ...]]:
        if index.kind == "ramp":
            return consecutive, (self.address(mem, index),)
        return anywhere, (self.bases[mem], self.code.into("v", "vsll.vi", self.code.v(index), 2))

    def _mask(self, gate: Value | None) -> bool:
        """Put what gates an access into v0, and return whether anything does."""
        masks = [*([] if gate is None else [self.code.mask(gate)]), *([] if self.active is None else [self.active])]
        if len(masks) == 2:
            self.code.emit("vmand.mm", MASK, *masks)
        elif masks:
            self.code.emit("vmv1r.v", MASK, masks[0])
        return bool(masks)
