"""The instructions of a kernel's body in any language, whoever runs the lanes.

A port whose threads run a work-group each derives its printer from `groups.Groups`, one whose hardware runs the lanes
from `lanes.Lanes`; both are a `Body`. Each fills `group` with the grid and lane indices and writes barriers in `sync`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from portkit.backends.toolkit.code import Code, Value
from portkit.backends.toolkit.formats import Formats
from portkit.backends.toolkit.forms import Emitter, Forms
from portkit.backends.toolkit.memory import Memory
from portkit.spec.kernel import Instr, Kernel, Loop
from portkit.spec.types import TOKEN

C = TypeVar("C", bound=Code)


class Language(Protocol[C]):
    """What a body must know of a target: how its text is written, and what it does in a way of its own."""

    @property
    def native_half(self) -> bool:
        """Whether f16 converts to and from f32 in an instruction (of `half`); otherwise integer code does it."""
        ...

    @property
    def emitters(self) -> Mapping[str, Emitter]:
        """By form, how the target writes a pure form itself, in place of the shared expansion."""
        ...

    def code(self) -> C:
        """Begin the text of a function."""
        ...

    def memory(self, code: C, forms: Forms, kernel: Kernel, bases: Mapping[str, Value]) -> Memory[Code]:
        """Return the writer of a kernel's memory forms."""
        ...


class Body(ABC, Generic[C]):
    """Writes instructions and serial loops into one function.

    `group` holds the registers computed once for the work-group, `lane` those of the lane being written.
    """

    def __init__(self, kernel: Kernel, target: Language[C], memories: Mapping[str, Value]) -> None:
        """Write for `target`; `memories` are the addresses of buffers and shared arrays."""
        self.kernel = kernel
        self.code = target.code()
        self.forms = Forms(self.code, Formats(self.code, native_half=target.native_half), target.emitters)
        self.memory = target.memory(self.code, self.forms, kernel, memories)
        self.group: dict[str, Value] = {}
        self.lane: dict[str, Value] = {}

    @abstractmethod
    def sync(self, instr: Instr) -> Value | None:
        """Write a fence, barrier, wait or group reduction."""

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
        firsts, names = [self.value(c.args[0]) for c in carries], [c.result for c in carries]
        with self.code.loop(self.count(loop), firsts, hint=index, names=names) as turn:
            self.lane[index] = turn.index
            self.lane.update(zip(names, turn.carries, strict=True))
            self.items(loop.body)
            turn.following = [self.value(following[name]) for name in names]

    def count(self, loop: Loop) -> Value:
        """Return the count of a serial loop."""
        head = self.kernel.body[loop.head]
        return self.code.literal("i32", head.imms[0]) if head.imms else self.value(head.args[0])

    def emit(self, position: int, scope: dict[str, Value]) -> None:
        """Write one instruction, its result into the registers of the group or of the lane."""
        instr = self.kernel.body[position]
        value = self._result(instr)
        if value is not None:
            scope[instr.result] = value if self._is_operand(value, instr) else self.code.named(value, instr.result)

    def _is_operand(self, value: Value, instr: Instr) -> bool:
        """Whether the result is an operand as it is, such as a cast to the same bits: then it has its name already."""
        known = [self.lane.get(name) or self.group.get(name) for name in instr.reads]
        return any(x is not None and x.text == value.text for x in known)

    def _result(self, instr: Instr) -> Value | None:
        if instr.name == "mov.const" and instr.type is not None:
            return self.code.constant(instr.type, instr.imms[0])
        if instr.form.effect == "sync":
            return self.sync(instr)
        args = [self.value(name) for name in instr.args]
        if instr.form.effect == "pure":
            return self.forms.emit(instr, [self.kernel.types[name] for name in instr.args], args)
        gate, other = (self.value(name) if name else None for name in (instr.gate, instr.other))
        return self.memory.emit(instr, tuple(args), gate, other)
