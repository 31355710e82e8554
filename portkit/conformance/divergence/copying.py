"""Writing a copy of a kernel that stores registers to buffers of its own.

A *cell* is what one execution of one instruction by one lane leaves. Cells are numbered with powers of two, so that a
copy can find its own by shifts and ors as well as by multiplying and adding: what a device gets wrong may be the very
instructions that watch it, so there are two ways to look, and wrong is what is wrong in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from portkit.conformance.divergence.probes import Path, Probe, begins, loops
from portkit.conformance.rewriting import Emitter
from portkit.reference.preserved import preserved
from portkit.spec.kernel import Buffer, Extent, Instr, Kernel
from portkit.spec.types import BOOL, I32, DType, Type

WORD = 4
SPARE = 1
"""Trips of each loop that have cells though they should not happen."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What one buffer of cells holds: a dtype, and whether the bits of its NaNs count (Spec: numeric_c6)."""

    dtype: DType
    moved: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """How many cells there are along each axis: those of the loops by head, the groups watched, the lanes.

    `group` is the only group watched, None for all of them; `groups` is then 1.
    """

    trips: Mapping[int, int]
    groups: int
    lanes: int
    group: int | None = None

    def axes(self, path: Path) -> tuple[int, ...]:
        """Return the lengths of the axes of a probe: its loops, outermost first, groups, lanes."""
        turns = (power_of_two(self.trips.get(head, 0) + SPARE) for head in path)
        return (*turns, power_of_two(self.groups), power_of_two(self.lanes))

    def cells(self, path: Path) -> int:
        return prod(self.axes(path))


@dataclass(frozen=True, slots=True)
class Section:
    """Where the cells of a probe are: `width` elements each, from `start` in a buffer."""

    probe: Probe
    buffer: str
    start: int
    width: int
    lanes: int
    axes: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.axes) * self.width


@dataclass(frozen=True, slots=True)
class Layout:
    """The buffers that a copy has besides the kernel's own, by name, and the sections in them."""

    buffers: Mapping[str, Buffer]
    sections: tuple[Section, ...]


def power_of_two(n: int) -> int:
    """Return the least power of two that is not below n."""
    return 1 << max(n - 1, 0).bit_length()


def stored(type_: Type) -> DType:
    """Return the dtype of the cells of a register: buffers hold no bool."""
    return I32 if type_.dtype == BOOL else type_.dtype


def width(type_: Type) -> int:
    """Return the elements of a cell: all of a vector, and a whole word at least, which one lane owns."""
    return power_of_two(max(type_.lanes, WORD // stored(type_).bytes))


def kinds(kernel: Kernel, watched: Sequence[Probe]) -> dict[Kind, list[Probe]]:
    """Return the probes of each kind of buffer."""
    moved = preserved(kernel)[0]
    found: dict[Kind, list[Probe]] = {}
    for probe in watched:
        dtype = stored(kernel.types[probe.register])
        found.setdefault(Kind(dtype, not dtype.is_float or probe.register in moved), []).append(probe)
    return found


def layout(kernel: Kernel, watched: Sequence[Probe], shape: Shape) -> Layout:
    """Place the cells of the probes: the largest sections first, so that each begins at a multiple of its size."""
    buffers: dict[str, Buffer] = {}
    sections: list[Section] = []
    for number, (kind, members) in enumerate(kinds(kernel, watched).items()):
        name = _unused(kernel, f"probe{number}")
        made = [_section(kernel, p, name, shape) for p in [*_tests(kernel, members), *members]]
        start = 0
        for section in sorted(made, key=lambda s: -s.size):
            sections.append(replace(section, start=start))
            start += section.size
        buffers[name] = Buffer(name, kind.dtype, Extent((start,)), "write")
    return Layout(buffers, tuple(sections))


def _tests(kernel: Kernel, members: Sequence[Probe]) -> list[Probe]:
    """Return probes of a constant, one for each type among the probes."""
    types = {kernel.types[p.register]: p for p in members if kernel.types[p.register].dtype != BOOL}
    return [Probe(-1, p.register, (), kernel.nest.setup[-1]) for p in types.values()]


def _section(kernel: Kernel, probe: Probe, buffer: str, shape: Shape) -> Section:
    type_ = kernel.types[probe.register]
    return Section(probe, buffer, 0, width(type_), type_.lanes, shape.axes(probe.path))


def _unused(kernel: Kernel, name: str) -> str:
    while name in kernel.types or name in kernel.memories:
        name += "x"
    return name


# --- emission -----------------------------------------------------------------------------------------------------


class _Names(Emitter):
    """An emitter whose names are not those that other rewriting takes."""

    def fresh(self) -> str:
        number = len(self.types)
        while f"watch{number}" in self.types:
            number += 1
        return f"watch{number}"


@dataclass(slots=True)
class _Block:
    """A place to write probes in: the number of its cell, that number times the widths used so far, and the carry that
    counts the trips of its loop."""

    base: str
    counter: str = ""
    scaled: dict[int, str] = field(default_factory=dict[int, str])


class _Copy:
    """A copy under way."""

    def __init__(self, kernel: Kernel, planned: Layout, shape: Shape, *, by_shifts: bool) -> None:
        self.kernel = kernel
        self.shape = shape
        self.by_shifts = by_shifts
        self.planned = planned
        self.e = _Names(kernel)
        self.e.types.update({m.name: Type(m.dtype) for m in kernel.memories.values()})  # names that are taken
        self.constants: list[Instr] = []
        self._known: dict[tuple[Type, float, bool], str] = {}
        self.gate = ""

    def const(self, type_: Type, value: float, *, pack: bool = True) -> str:
        """Return a constant that stands before the nest; a vector is packed, or a splat."""
        key = (type_, value, pack)
        if key not in self._known:
            scalar = self.const(type_.scalar, value) if pack and type_.lanes > 1 else ""
            start = len(self.e.out)
            self._known[key] = self.e.op("mov.pack", *[scalar] * type_.lanes) if scalar else self.e.const(type_, value)
            self.constants += self.e.out[start:]
            del self.e.out[start:]
        return self._known[key]

    def times(self, x: str, factor: int) -> str:
        """Return a number times a power of two."""
        if factor == 1:
            return x
        if self.by_shifts:
            return self.e.op("mul.shl", x, self.const(Type(I32), factor.bit_length() - 1))
        return self.e.op("mul", x, self.const(Type(I32), factor))

    def plus(self, a: str, b: str) -> str:
        """Return the sum of two numbers that have no bit in common."""
        return self.e.op("reduce.or" if self.by_shifts else "add", a, b)

    # --- numbers of cells -----------------------------------------------------------------------------------------

    def linear(self, heads: Sequence[int], counts: Sequence[int]) -> str:
        """Return the linear number of a group or lane, the last loop counting fastest (Spec: nest_c5)."""
        result = self.kernel.body[heads[0]].result
        for head, count in zip(heads[1:], counts[1:], strict=True):
            result = self.e.op("mul", result, self.const(Type(I32), count))
            result = self.e.op("add", result, self.kernel.body[head].result)
        return result

    def outermost(self, grid: Sequence[int]) -> _Block:
        """Begin the body. Cells of groups and lanes that should not be fall into the last one."""
        nest, lanes = self.kernel.nest, power_of_two(self.shape.lanes)
        lane = self.linear(nest.lanes, self.kernel.lane_counts)
        group = self.linear(nest.grids, grid)
        if self.shape.group is None:
            return _Block(self.within(self.plus(self.times(group, lanes), lane), self.shape.cells(())))
        chosen = self.const(Type(I32), self.shape.group)
        yes, no = (self.const(Type(BOOL), value) for value in (True, False))
        self.gate = self.e.op("phi.eq", group, chosen, yes, no)
        return _Block(self.within(lane, lanes))

    def within(self, x: str, length: int) -> str:
        """Return a number below a power of two: a loop that runs too often must not store elsewhere."""
        form = "reduce.and" if self.by_shifts else "reduce.min"
        return self.e.op(form, x, self.const(Type(I32), length - 1))

    def inner(self, block: _Block, path: Path) -> _Block:
        """Begin a loop. Its trips are numbered by its index, or by a carry of their own."""
        counter = ""
        if self.by_shifts:
            zero = self.const(Type(I32), 0)  # named first: a fresh name is taken once it has a type
            counter = self.e.fresh()
            self.e.out.append(Instr("phi.carry", result=counter, type=Type(I32), args=(zero,)))
            self.e.types[counter] = Type(I32)
        index = counter or self.kernel.body[path[-1]].result
        trip = self.within(index, self.shape.axes(path)[len(path) - 1])
        return _Block(self.plus(block.base, self.times(trip, self.shape.cells(path[:-1]))), counter)

    def close(self, block: _Block, end: Instr) -> None:
        """End a loop, and let the carry that counts its trips count on."""
        if block.counter:
            following = self.e.op("add", block.counter, self.const(Type(I32), 1))
            end = replace(end, carries=(*end.carries, (block.counter, following)))
        self.e.out.append(end)

    def address(self, block: _Block, section: Section) -> str:
        if section.width not in block.scaled:
            block.scaled[section.width] = self.times(block.base, section.width)
        return self._shifted(block.scaled[section.width], section.start)

    def _shifted(self, address: str, by: int) -> str:
        return self.plus(address, self.const(Type(I32), by)) if by else address

    # --- stores ---------------------------------------------------------------------------------------------------

    def watch(self, block: _Block, section: Section) -> None:
        register = section.probe.register
        if section.probe.position < 0:
            register = self.const(self.e.types[register], 1, pack=not self.by_shifts)
        address = self.address(block, section)
        if section.lanes > 1 and not self.by_shifts:
            self.store("store.vec", section.buffer, address, self.number(register))
            return
        for lane in range(section.lanes):
            part = self.lane(register, lane) if section.lanes > 1 else register
            self.element(section.buffer, self._shifted(address, lane), part)

    def lane(self, vector: str, k: int) -> str:
        type_ = self.e.types[vector].scalar
        name = self.e.fresh()
        self.e.out.append(Instr("mov.lane", result=name, type=type_, args=(vector,), imms=(k,)))
        self.e.types[name] = type_
        return name

    def number(self, register: str) -> str:
        """Return a register as buffers can hold it: a bool as 1 or 0."""
        type_ = self.e.types[register]
        if type_.dtype != BOOL:
            return register
        false, one, zero = (self.const(t, v) for t, v in ((type_, 0), (_i32(type_), 1), (_i32(type_), 0)))
        return self.e.op("phi.eq", register, false, zero, one)

    def element(self, buffer: str, address: str, register: str) -> None:
        if self.e.types[register].dtype != BOOL or not self.by_shifts:
            self.store("store", buffer, address, self.number(register))
            return
        gate = self.e.op("reduce.and", register, self.gate) if self.gate else register
        self.store("store", buffer, address, self.const(Type(I32), 0))
        self.store("store", buffer, address, self.const(Type(I32), 1), gate)

    def store(self, form: str, buffer: str, address: str, value: str, gate: str = "") -> None:
        imms = (self.planned.buffers[buffer].dtype.bytes,) if form == "store.vec" else ()
        self.e.out.append(Instr(form, args=(address, value), mems=(buffer,), imms=imms, gate=gate or self.gate))


def _i32(type_: Type) -> Type:
    return Type(I32, type_.lanes)


def instrument(kernel: Kernel, planned: Layout, shape: Shape, grid: Sequence[int], *, by_shifts: bool) -> Kernel:
    """Return the kernel with the stores of a layout put in; `grid` are the counts of its grid loops."""
    copy = _Copy(kernel, planned, shape, by_shifts=by_shifts)
    begin = {begins(loop): path for path, loop in loops(kernel.nest.body)}
    end = {loop.end for _, loop in loops(kernel.nest.body)}
    blocks: list[_Block] = []
    at: dict[int, list[Section]] = {}
    for section in planned.sections:
        at.setdefault(section.probe.place, []).append(section)
    for position, instr in enumerate(kernel.body):
        if position in end:
            copy.close(blocks.pop(), instr)
        else:
            copy.e.out.append(instr)
        if position == kernel.nest.setup[-1]:
            blocks.append(copy.outermost(grid))
        if position in begin:
            blocks.append(copy.inner(blocks[-1], begin[position]))
        for section in at.get(position, ()):
            copy.watch(blocks[-1], section)
    return replace(kernel, buffers=(*kernel.buffers, *planned.buffers.values()), body=(*copy.constants, *copy.e.out))
