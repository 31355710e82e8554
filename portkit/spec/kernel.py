"""The immutable kernel: a header and a flat list of instructions in structured SSA form.

Names used throughout: `args` are register names in signature order, `mems` memory names, `imms` literal integers
(for `mov.const` the bit pattern of the constant), `gate` the predicate, `other` the value where the gate is false.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal

from portkit.errors import SpecError
from portkit.spec.forms import FORMS, VERSION, Form
from portkit.spec.types import DType, Type

Access = Literal["read", "write", "readwrite"]
Numeric = Literal["fast", "strict"]


@dataclass(frozen=True, slots=True)
class Extent:
    """A product of positive literals and scalar names, such as `8`, `n` or `n*4`."""

    factors: tuple[int | str, ...]

    def evaluate(self, scalars: Mapping[str, int | float]) -> int:
        """Return the extent in elements for the given launch scalars."""
        return prod(int(scalars[f]) if isinstance(f, str) else f for f in self.factors)

    def __str__(self) -> str:
        return "*".join(str(f) for f in self.factors)


@dataclass(frozen=True, slots=True)
class Buffer:
    """A global memory argument."""

    name: str
    dtype: DType
    extent: Extent
    access: Access


@dataclass(frozen=True, slots=True)
class Scalar:
    """A launch-time value, i32 or f32."""

    name: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class Shared:
    """An array that every work-group has one of; the extent counts elements."""

    name: str
    dtype: DType
    extent: int


@dataclass(frozen=True, slots=True)
class Instr:
    """One instruction.

    `type` is the type of the result, None where there is none. `endloop` has the loop's index register in `args` and
    its (carry, next value) pairs in `carries`. A `%count` operand is either the last of `args` or of `imms`.
    """

    name: str
    result: str = ""
    type: Type | None = None
    args: tuple[str, ...] = ()
    mems: tuple[str, ...] = ()
    imms: tuple[int, ...] = ()
    gate: str = ""
    other: str = ""
    carries: tuple[tuple[str, str], ...] = ()

    @property
    def form(self) -> Form:
        return FORMS[self.name]

    @property
    def reads(self) -> tuple[str, ...]:
        """Every register that the instruction reads, in text order."""
        extra = tuple(r for r in (self.gate, self.other) if r)
        return self.args + extra + tuple(value for _, value in self.carries)


@dataclass(frozen=True)
class Kernel:
    """A whole kernel; equality and hash are by content."""

    name: str
    buffers: tuple[Buffer, ...]
    scalars: tuple[Scalar, ...]
    shared: tuple[Shared, ...]
    body: tuple[Instr, ...]
    numeric: Numeric = "fast"
    version: str = VERSION

    @property
    def strict(self) -> bool:
        return self.numeric == "strict"

    @cached_property
    def types(self) -> dict[str, Type]:
        """The type of every register, scalars included."""
        types = {s.name: Type(s.dtype) for s in self.scalars}
        types.update({i.result: i.type for i in self.body if i.type is not None})
        return types

    @cached_property
    def memories(self) -> dict[str, Buffer | Shared]:
        """Buffers and shared arrays by name."""
        return {m.name: m for m in (*self.buffers, *self.shared)}

    @cached_property
    def nest(self) -> Nest:
        """The loop structure of the body; raises `SpecError` (nest_c1, endloop_c1) if there is none."""
        return build_nest(self.body)

    @property
    def lanes(self) -> int:
        """The work-group size."""
        return prod(self.lane_counts)

    @cached_property
    def lane_counts(self) -> tuple[int, ...]:
        """The extent of each lane loop, outermost first."""
        return tuple(self.body[i].imms[0] for i in self.nest.lanes)

    @property
    def shared_bytes(self) -> int:
        return sum(s.dtype.bytes * s.extent for s in self.shared)


@dataclass(frozen=True, slots=True)
class Loop:
    """A serial loop: positions in `Kernel.body` of its head, its carries and its end, and what it runs."""

    head: int
    carries: tuple[int, ...]
    body: tuple[int | Loop, ...]
    end: int


@dataclass(frozen=True, slots=True)
class Nest:
    """The one nest of a kernel as positions in `Kernel.body`.

    `setup` is everything before the body in order, loop heads and pure instructions; `grids` and `lanes` are the heads
    among them; `body` is what each lane runs.
    """

    setup: tuple[int, ...]
    grids: tuple[int, ...]
    lanes: tuple[int, ...]
    body: tuple[int | Loop, ...]


def build_nest(body: tuple[Instr, ...]) -> Nest:
    """Return the loop structure of an instruction list; raises `SpecError` (nest_c1, nest_c2, endloop_c1)."""
    grids = tuple(i for i, instr in enumerate(body) if instr.name == "loop.grid")
    lanes = tuple(i for i, instr in enumerate(body) if instr.name == "loop.lane")
    if not grids or not lanes or grids[-1] > lanes[0]:
        raise SpecError(
            "a kernel is one or more grid loops, then one or more lane loops, then the body", clause="nest_c1"
        )
    first = lanes[-1] + 1
    if any(body[i].name in ("loop.serial", "endloop") for i in range(first)):
        raise SpecError("only pure instructions stand before the innermost lane loop", clause="nest_c2")
    tree, end = _block(body, first)
    heads = [*grids, *lanes]
    while heads:
        if end >= len(body):
            raise SpecError(f"loop {body[heads[-1]].result} is not closed", clause="nest_c1")
        if body[end].name == "endloop":
            _check_end(body[heads.pop()], body[end])
        elif body[end].form.effect != "pure":
            raise SpecError(f"{body[end].name} stands outside the body", clause="nest_c2")
        end += 1
    if any(instr.form.effect != "pure" for instr in body[end:]):
        raise SpecError("only pure instructions may follow the nest", clause="nest_c2")
    return Nest(tuple(range(first)), grids, lanes, tree)


def _check_end(head: Instr, end: Instr) -> None:
    if end.args != (head.result,):
        named = end.args[0] if end.args else "nothing"
        raise SpecError(f"endloop names {named}, the innermost open loop is {head.result}", clause="endloop_c1")


def _loop(body: tuple[Instr, ...], head: int, inside: list[int | Loop], end: int) -> Loop:
    carries = [i for i in inside if isinstance(i, int) and body[i].name == "phi.carry"]
    rest = [i for i in inside if isinstance(i, Loop) or body[i].name != "phi.carry"]
    return Loop(head, tuple(carries), tuple(rest), end)


def _block(body: tuple[Instr, ...], start: int) -> tuple[tuple[int | Loop, ...], int]:
    """Return the instructions from `start` up to the endloop that closes the enclosing loop, and its position."""
    done: list[int | Loop] = []
    open_heads: list[tuple[int, list[int | Loop]]] = []
    at = start
    while at < len(body):
        name = body[at].name
        if name == "loop.serial":
            open_heads.append((at, done))
            done = []
        elif name == "endloop":
            if not open_heads:
                return tuple(done), at
            head, outer = open_heads.pop()
            _check_end(body[head], body[at])
            outer.append(_loop(body, head, done, at))
            done = outer
        else:
            done.append(at)
        at += 1
    raise SpecError("a loop is not closed", clause="nest_c1")
