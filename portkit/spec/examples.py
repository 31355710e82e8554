"""A small kernel for each form, made from its signature, so that every page of the docs shows one that verifies."""

from __future__ import annotations

from collections.abc import Callable

from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.forms import Form, Operand, Role
from portkit.spec.kernel import Access, Kernel
from portkit.spec.types import BOOL, F32, Type

_LANES = 4
_ELEMENTS = 64
_OPERANDS = 3
"""Operands of a form that takes two or more."""


def example(form: Form) -> Kernel:
    """Return a kernel of a few lines that uses the form, and verifies if the form is in use (Spec: ext_c2)."""
    b = Builder(f"example_{form.name.replace('.', '_')}")
    if form.name in _CONTROL:
        _CONTROL[form.name](b)
    else:
        _Plain(b, form).write()
    return b.build()


class _Plain:
    """Writes one instruction of a form with operands that are read from memory, and keeps its result."""

    def __init__(self, builder: Builder, form: Form) -> None:
        self.b = builder
        self.form = form
        self.types = {variable: self._choose(variable) for variable, _ in form.types}
        packed = _OPERANDS if form.result == "pack(T)" else 1
        self.width = max((t.lanes for t in self.types.values()), default=1) * packed
        self.b.grid(1, "g")
        self.lane = self.b.lane(16, "l")
        self.index = self.lane

    def _choose(self, variable: str) -> Type:
        """Return the first dtype that may be meant, in a vector where the form wants one."""
        wide = self.form.vector if variable != "M" else False
        wide = wide or (variable == "R" and self.form.name == "mov.splat")
        dtypes = [dtype for dtype in self.form.dtypes(variable) if dtype != BOOL]
        converts = variable == "S" and self.form.name in ("mov.cast", "mov.bits")
        return Type(F32 if converts else dtypes[0], _LANES if wide else 1)

    def write(self) -> None:
        """Write operands, the instruction, and the store of its result."""
        places = self.form.operands
        if self.width > 1:
            self.index = self.b.op("mul", self.lane, self.b.const("i32", self.width), result="i")
        mems = tuple(self._memory() for o in places if o.role is Role.MEMORY)
        args = [register for place in places for register in self._registers(place)]
        imms = tuple(self._literal(o.name) for o in places if o.role in (Role.INTEGER, Role.VALUE))
        explicit = self.types["R"] if any(o.role is Role.TYPE for o in places) else None
        gate, other = self._gate()
        name = "r" if self.form.result else ""
        result = self.b.op(
            self.form.name, *args, mems=mems, imms=imms, type=explicit, gate=gate, other=other, result=name
        )
        if name:
            _store(self.b, self.index if result.type.lanes > 1 else self.lane, result)

    def _memory(self) -> Mem:
        access: Access = "write" if self.form.effect == "write" else "read"
        if self.form.extension == "atomic":
            access = "readwrite"
        return self.b.buffer("m", self.types["M"].dtype.name, _ELEMENTS, access)

    def _registers(self, place: Operand) -> list[Reg]:
        if place.role is Role.REGISTERS:
            return [self._operand(letter, self.types[place.pattern]) for letter in "abc"[:_OPERANDS]]
        if place.role is not Role.REGISTER:
            return []
        if place.pattern == "i32":
            return [self.index]
        if place.pattern == "I":
            return [self._indices()]
        vector = place.pattern == "MxI"
        return [self._operand(place.name, Type(self.types["M"].dtype, _LANES) if vector else self.types[place.pattern])]

    def _indices(self) -> Reg:
        """Return as many neighbouring indices as a vector has lanes, last first."""
        steps = self.b.op("mov.pack", *(self.b.const("i32", n) for n in reversed(range(_LANES))), result="steps")
        return self.b.op("add", self.b.splat(self.index, _LANES), steps, result="at")

    def _operand(self, name: str, type_: Type) -> Reg:
        """Return a value that differs between lanes, read from a buffer of its own."""
        memory = self.b.buffer(f"in_{name}", type_.dtype.name, _ELEMENTS, "read")
        if type_.lanes == 1:
            return self.b.op("load", self.lane, mems=(memory,), result=name)
        return self.b.op("load.vec", self.index, mems=(memory,), imms=(type_.dtype.bytes,), type=type_, result=name)

    def _literal(self, name: str) -> int:
        return self.types["M"].dtype.bytes if name == "align" else 2

    def _gate(self) -> tuple[Reg | None, Reg | None]:
        """Return a gate that lets the first lanes through, and what the others get."""
        if not self.form.gated:
            return None, None
        gate = self.b.lt(self.b.splat(self.lane, self.width), self.b.splat(self.b.const("i32", 8), self.width))
        if not any(o.role is Role.GATE_ELSE for o in self.form.operands):
            return gate, None
        return gate, self.b.splat(self.b.const(self.types["M"].dtype.name, 0), self.width)


def _store(b: Builder, index: Reg, value: Reg) -> None:
    """Write a result to the buffer `out`."""
    out = b.buffer("out", value.type.dtype.name, _ELEMENTS, "write")
    if value.type.lanes == 1:
        b.store(out, index, value)
    else:
        b.store_vec(out, index, value)


# --- forms that only make sense in company ------------------------------------------------------------------------


def _loop(b: Builder) -> None:
    """A sum over a serial loop: every loop form, the carry and endloop at once."""
    n = b.scalar("n", "i32")
    x, out = b.buffer("x", "f32", "n", "read"), b.buffer("out", "f32", 1, "write")
    b.grid(1, "g")
    lane = b.lane(1, "l")
    with b.serial(n, total=b.const("f32", 0.0)) as loop:
        loop.next(total=b.add(loop["total"], b.load(x, loop.index)))
    b.store(out, lane, loop["total"])


def _barrier(b: Builder) -> None:
    """Lanes swap places through shared memory."""
    x, out = b.buffer("x", "f32", 256, "read"), b.buffer("out", "f32", 256, "write")
    tile = b.shared("tile", "f32", 256)
    b.grid(1, "g")
    lane = b.lane(256, "l")
    b.store(tile, lane, b.load(x, lane))
    b.barrier()
    b.store(out, lane, b.load(tile, b.op("reduce.xor", lane, b.const("i32", 1))))


def _fence(scope: str) -> Callable[[Builder], None]:
    def write(b: Builder) -> None:
        data, flag = b.buffer("data", "f32", 1, "readwrite"), b.buffer("flag", "i32", 1, "readwrite")
        b.grid(1, "g")
        lane = b.lane(1, "l")
        b.store(data, lane, b.const("f32", 1.0))
        b.op(f"fence.{scope}")
        b.store(flag, lane, b.const("i32", 1))

    return write


def _grid_barrier(b: Builder) -> None:
    b.grid(4, "g")
    b.lane(64, "l")
    b.op("barrier.grid")


def _copy(b: Builder) -> None:
    """A lane copies four elements and reads them back."""
    x, out = b.buffer("x", "f32", 64, "read"), b.buffer("out", "f32", 16, "write")
    tile = b.shared("tile", "f32", 64)
    b.grid(1, "g")
    lane = b.lane(16, "l")
    start = b.mul(lane, b.const("i32", 4))
    token = b.async_copy(tile, start, x, start, 4)
    b.wait(token)
    b.store(out, lane, b.load(tile, start))


def _flag(b: Builder) -> None:
    flag = b.buffer("flag", "i32", 1, "read")
    b.grid(1, "g")
    lane = b.lane(1, "l")
    b.op("wait.flag", lane, b.const("i32", 1), mems=(flag,))


_CONTROL: dict[str, Callable[[Builder], None]] = {
    "loop.grid": _loop,
    "loop.lane": _loop,
    "loop.serial": _loop,
    "endloop": _loop,
    "phi.carry": _loop,
    "barrier": _barrier,
    "barrier.grid": _grid_barrier,
    "fence.group": _fence("group"),
    "fence.device": _fence("device"),
    "fence.system": _fence("system"),
    "load.async": _copy,
    "wait.token": _copy,
    "wait.flag": _flag,
}
