"""Simulated faulty devices: the reference with some instructions twisted, or with another kernel or launch.

A hypothesis about the cause of a failure is tested by running what the device would have computed if it were true. The
faults are written here on the arrays of the interpreter, not as rewritings of kernels: the mutants by which hints are
measured share no code with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, TypeAlias

import numpy as np

from portkit.conformance.bounded import Bounded
from portkit.conformance.hints.symptoms import Array
from portkit.errors import PortkitError
from portkit.reference import engine, pure
from portkit.reference.engine import Chunk, Mask
from portkit.reference.memory import Integers, Memory, allocate
from portkit.reference.values import Values
from portkit.spec.forms import form
from portkit.spec.infer import infer
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import I32, Type

Function: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Place:
    """An instruction of a kernel that a twist looks at; `bind` gives the right function of another instruction."""

    kernel: Kernel
    instr: Instr
    bind: Callable[[Instr], Function]
    memories: Mapping[str, Memory]
    extents: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def operands(self) -> tuple[Type, ...]:
        """The types of the operands in signature order."""
        return tuple(self.kernel.types[a] for a in self.instr.args)

    @property
    def operand(self) -> Type:
        """The type of the first operand."""
        return self.kernel.types[self.instr.args[0]]

    @property
    def result(self) -> Type:
        """The type of the result."""
        assert self.instr.type is not None
        return self.instr.type

    def instead(self, **changes: Any) -> Function:
        """Return the right function of the instruction with some fields replaced."""
        return self.bind(replace(self.instr, **changes))

    def extent(self, memory: str) -> Callable[[], int]:
        """Return what gives the declared extent of a memory once there is one, what lies behind it left out."""
        return lambda: self.extents.get(memory, self.memories[memory].extent)

    def bind_store(self, memory: str) -> Function:
        """Return the function of a plain store to a memory: mask, index, value and gate."""
        return self.bind(Instr("store", args=self.instr.args[:2], mems=(memory,)))

    def bind_load(self, memory: str) -> Function:
        """Return the function of a plain load from a memory: mask and index."""
        return self.bind(Instr("load", "value", Type(self.kernel.memories[memory].dtype), ("index",), (memory,)))


MOST_GUARDED = 1 << 18
"""Elements of a buffer above which what lies behind it is left out: it would have to be copied for each run."""
LITERAL_COUNT = "count."
"""How the names of registers begin that hold what was a literal count of a loop."""
Twist: TypeAlias = Callable[[Place, Function], Function | None]
"""Given an instruction and its right function, the function of a faulty device; None where the fault does not apply."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run of a simulated device, of as many `times` in a row as it launches.

    `shared_once` is a device whose groups have one shared memory among them.
    """

    kernel: Kernel
    scalars: Mapping[str, int | float]
    before: Mapping[str, Array]
    twists: Mapping[int, Twist] = field(default_factory=dict[int, Twist])
    shared_once: bool = False
    guard: bytes = b""
    times: int = 1


def simulate(scenario: Scenario, deadline: float = inf) -> dict[str, Array] | None:
    """Return every buffer after a launch on the simulated device; None where it accesses what lies outside.

    What lies within the guard bytes behind a buffer is there, as it is on the device. None as well where a loop has
    not ended when the thread has used `deadline` seconds of processor time in all.
    """
    try:
        memories = allocate(scenario.kernel, scenario.scalars, scenario.before)
        extents = {name: memory.extent for name, memory in memories.items()}
        for memory in memories.values():
            _append_guard(memory, scenario.guard)
        for _ in range(scenario.times):
            engine.run(scenario.kernel, _Faulty(scenario, memories, extents, deadline), scenario.scalars)
    except PortkitError:
        return None
    return {name: memories[name].data[:extent] for name, extent in extents.items()}


def _append_guard(memory: Memory, guard: bytes) -> None:
    usable = len(guard) // memory.data.itemsize * memory.data.itemsize
    if usable and 0 < memory.extent <= MOST_GUARDED:
        behind = np.frombuffer(guard[:usable], memory.data.dtype)
        memory.data = np.concatenate((memory.data, behind))
        memory.extent += len(behind)


class _Faulty(Bounded):
    """The domain of values with the twists of a scenario in it."""

    def __init__(
        self, scenario: Scenario, memories: Mapping[str, Memory], extents: Mapping[str, int], deadline: float
    ) -> None:
        super().__init__(scenario.kernel, memories, deadline)
        self._extents = extents
        self._twists = scenario.twists
        self._shared_once = scenario.shared_once

    def begin(self, chunk: Chunk) -> None:
        super().begin(chunk)
        if self._shared_once:
            for shared in self.kernel.shared:
                self.memories[shared.name] = Memory.of(shared, shared.extent)

    def pure(self, position: int, instr: Instr) -> Callable[..., Array]:
        return self._twisted(position, instr, super().pure)

    def effect(self, position: int, instr: Instr) -> Callable[..., Array | None]:
        return self._twisted(position, instr, super().effect)

    def _twisted(self, position: int, instr: Instr, bind: Callable[[int, Instr], Function]) -> Function:
        right = bind(position, instr)
        if position not in self._twists:
            return right
        place = Place(self.kernel, instr, lambda other: bind(position, other), self.memories, self._extents)
        return self._twists[position](place, right) or right

    def count(self, position: int, mask: Mask, value: Array) -> Integers:
        if position not in self._twists:
            return value
        place = Place(self.kernel, self.kernel.body[position], _no_binding, self.memories, self._extents)
        twisted = self._twists[position](place, unary(lambda counts: counts))
        return value if twisted is None else twisted(value)


def operation(name: str, operands: Sequence[Type], result: Type | None = None) -> Function:
    """Return the right function of a pure form for operands of any types; `result` for forms that name its type."""
    args = tuple(f"operand.{k}" for k in range(len(operands)))
    given = tuple(Instr("mov.const", a, t, imms=(0,)) for a, t in zip(args, operands, strict=True))
    bind = pure.binder(Kernel("operation", (), (), (), given))
    return bind(Instr(name, "result", infer(form(name), operands, (), result), args))


def unary(function: Callable[[Array], Array]) -> Function:
    """Return a function of one operand as it is; its operands get their types here."""
    return function


def binary(function: Callable[[Array, Array], Array]) -> Function:
    """Return a function of two operands as it is."""
    return function


def ternary(function: Callable[[Array, Array, Array], Array]) -> Function:
    """Return a function of three operands as it is."""
    return function


def quaternary(function: Callable[[Array, Array, Array, Array], Array]) -> Function:
    """Return a function of four operands as it is."""
    return function


def places(kernel: Kernel) -> list[tuple[Place, Function]]:
    """Return every instruction with its right function; what is bound here is to be looked at, not to be run."""
    values = Values(kernel, {})

    def bind(position: int, instr: Instr) -> Function:
        if instr.form.effect == "control" or instr.name == "phi.carry":
            return unary(lambda x: x)  # the walk's own, which no domain is asked for
        return values.pure(position, instr) if instr.form.effect == "pure" else values.effect(position, instr)

    def place(position: int, instr: Instr) -> tuple[Place, Function]:
        return Place(kernel, instr, lambda other: bind(position, other), {}), bind(position, instr)

    return [place(position, instr) for position, instr in enumerate(kernel.body)]


def _no_binding(instr: Instr) -> Function:
    raise AssertionError(instr)


def countable(kernel: Kernel) -> Kernel:
    """Return the kernel with every literal count of a serial loop in a register, where a twist can reach it."""
    counts = sorted({i.imms[0] for i in kernel.body if i.name == "loop.serial" and i.imms})
    names = {count: f"{LITERAL_COUNT}{count}" for count in counts}
    constants = tuple(Instr("mov.const", names[n], Type(I32), imms=(n & 0xFFFFFFFF,)) for n in counts)
    body = tuple(_count_from(i, names) for i in kernel.body)
    return replace(kernel, body=constants + body) if counts else kernel


def _count_from(instr: Instr, names: Mapping[int, str]) -> Instr:
    if instr.name != "loop.serial" or not instr.imms:
        return instr
    return replace(instr, args=(names[instr.imms[0]],), imms=())
