"""The instructions of a kernel's body as LLVM IR, whoever runs the lanes.

A port whose threads run a work-group each derives from `Body` through `llvm_kernel`; one whose hardware runs the lanes
derives its own: it fills `group` with the grid and lane indices, gives memories their address spaces, and writes
barriers in `sync`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from portkit.backends.toolkit.formats import Formats
from portkit.backends.toolkit.forms import Emitter, Forms
from portkit.backends.toolkit.llvm_code import Code, Value, constant, element_of
from portkit.backends.toolkit.llvm_memory import Memory
from portkit.spec.kernel import Instr, Kernel, Loop
from portkit.spec.types import TOKEN


@dataclass(frozen=True, slots=True)
class Target:
    """What the printer must know of a target: what it cannot do by itself, and what it does better by itself."""

    native_half: bool
    """Whether f16 converts to and from f32 in an instruction; otherwise integer code does it."""
    emitters: Mapping[str, Emitter] = field(default_factory=dict[str, Emitter])
    """By form, how the target writes a pure form in its own instructions, in place of the shared expansion."""


class Body:
    """Writes instructions and serial loops into one function.

    `group` holds the registers computed once for the work-group, `lane` those of the lane being written.
    """

    def __init__(self, kernel: Kernel, target: Target, memories: Mapping[str, Value]) -> None:
        """Write for `target`; `memories` are the addresses of buffers and shared arrays."""
        self.kernel = kernel
        self.code = Code()
        self.forms = Forms(self.code, Formats(self.code, native_half=target.native_half), target.emitters)
        self.memory = Memory(self.forms, kernel, memories)
        self.group = {s.name: Value(f"%{s.name}", element_of(s.dtype)) for s in kernel.scalars}
        self.lane: dict[str, Value] = {}

    def sync(self, instr: Instr) -> Value | None:
        """Write a fence, barrier, wait or group reduction."""
        raise NotImplementedError

    def value(self, name: str) -> Value:
        """Return the value of a register."""
        return self.lane[name] if name in self.lane else self.group[name]

    def items(self, items: Iterable[int | Loop]) -> None:
        """Write instructions and loops for the lane."""
        for item in items:
            if isinstance(item, Loop):
                self.serial(item)
            else:
                self.emit(item, self.lane)

    def serial(self, loop: Loop) -> None:
        """Write a serial loop for the lane; tokens are no values, so they are not carried."""
        carries = [
            self.kernel.body[at] for at in loop.carries if self.kernel.types[self.kernel.body[at].result].dtype != TOKEN
        ]
        index, following = self.kernel.body[loop.head].result, dict(self.kernel.body[loop.end].carries)
        with self.code.loop(self.count(loop), [self.value(c.args[0]) for c in carries], hint=index) as turn:
            self.lane[index] = turn.index
            self.lane.update(zip((c.result for c in carries), turn.carries, strict=True))
            self.items(loop.body)
            turn.following = [self.value(following[c.result]) for c in carries]

    def count(self, loop: Loop) -> Value:
        """Return the count of a serial loop."""
        head = self.kernel.body[loop.head]
        return Value(str(head.imms[0]), "i32") if head.imms else self.value(head.args[0])

    def emit(self, position: int, scope: dict[str, Value]) -> None:
        """Write one instruction, its result into the registers of the group or of the lane."""
        instr = self.kernel.body[position]
        value = self._result(instr)
        if value is not None:
            scope[instr.result] = value

    def _result(self, instr: Instr) -> Value | None:
        if instr.name == "mov.const" and instr.type is not None:
            return constant(instr.type, instr.imms[0])
        if instr.form.effect == "sync":
            return self.sync(instr)
        args = [self.value(name) for name in instr.args]
        if instr.form.effect == "pure":
            return self.forms.emit(instr, [self.kernel.types[name] for name in instr.args], args)
        gate, other = (self.value(name) if name else None for name in (instr.gate, instr.other))
        return self.memory.emit(instr, tuple(args), gate, other)
