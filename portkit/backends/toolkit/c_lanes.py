"""A whole kernel in a dialect of C whose devices run the lanes themselves: OpenCL C, the Metal language.

The function takes every buffer, every scalar and the extent of every grid loop, in the order of `drivers.arguments`; a
dialect may put parameters behind. How the host binds them is the port's affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from portkit.backends.toolkit.c_code import CCode, Dialect
from portkit.backends.toolkit.c_memory import CMemory
from portkit.backends.toolkit.code import Value, element_of, memory_element_of
from portkit.backends.toolkit.forms import Forms
from portkit.backends.toolkit.lanes import Lanes
from portkit.errors import CompileError
from portkit.spec.kernel import Buffer, Instr, Kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneDialect(Dialect):
    """A dialect with kernels. In texts {name} is what is declared, {type} its type and {place} its place among them."""

    prologue: tuple[str, ...] = ()
    """Lines before the function, such as `#pragma OPENCL FP_CONTRACT OFF` and functions of the port's own."""
    head: str
    """The head of the function, with {parameters} and {lanes}; its name is the port's choice."""
    buffer: str
    """A buffer parameter; {const} is `const ` for one that is only read."""
    buffer_opening: str = ""
    """A line for each buffer at the beginning of the function, should it not be usable as it is passed."""
    scalar: str
    """A parameter that is a number: a scalar of the kernel, then the extents of the grid loops."""
    parameters: tuple[str, ...] = ()
    """Further parameters."""
    opening: tuple[str, ...] = ()
    """Further lines at the beginning of the function."""
    shared: str
    """An array of the work-group's, with {extent}."""
    group_number: str
    """An expression for the linear number of the work-group."""
    lane_number: str
    """An expression for the linear number of the lane in its work-group."""
    sync: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """By form (`barrier`, `fence.group`, `fence.device`), the lines that do it."""

    def code(self) -> CCode:
        """Begin the text of a function."""
        return CCode(self)

    def memory(self, code: CCode, forms: Forms, kernel: Kernel, bases: Mapping[str, Value]) -> CMemory:
        """Return the writer of a kernel's memory forms."""
        return CMemory(code, forms, kernel, bases)


def print_c_lanes(kernel: Kernel, dialect: LaneDialect) -> str:
    """Return the text of a verified kernel that fits the capabilities declared for the dialect.

    Raises `CompileError` for a form that the dialect has no text for.
    """
    return _Printer(kernel, dialect).text()


def memory_name(name: str) -> str:
    """Return what a buffer or shared array is called in the text; no register's name ends like this."""
    return f"{name}_m"


def scalar_name(name: str) -> str:
    """Return what a scalar is called in the text."""
    return f"{name}_s"


class _Printer(Lanes[CCode]):
    def __init__(self, kernel: Kernel, dialect: LaneDialect) -> None:
        super().__init__(kernel, dialect, {name: Value(memory_name(name), "ptr") for name in kernel.memories})
        self.dialect = dialect
        self.scalars = [Value(scalar_name(s.name), element_of(s.dtype)) for s in kernel.scalars]
        self.group = dict(zip((s.name for s in kernel.scalars), self.scalars, strict=True))

    def text(self) -> str:
        """Return the whole text."""
        self._opening()
        self.lines()
        parameters = ",\n    ".join([*self._parameters(), *self.dialect.parameters])
        head = self.dialect.head.format(parameters=parameters, lanes=self.kernel.lanes)
        return "\n".join([*self.dialect.prologue, f"{head} {{", *self.code.lines, "}", ""])

    def _parameters(self) -> list[str]:
        buffers = [self._buffer(self.dialect.buffer, place, b) for place, b in enumerate(self.kernel.buffers)]
        numbers = [*self.scalars, *(self.grid_extent(p) for p in range(len(self.kernel.nest.grids)))]
        return buffers + [
            self.dialect.scalar.format(name=x.text, type=self.code.type(x.element), place=place)
            for place, x in enumerate(numbers, len(buffers))
        ]

    def _buffer(self, template: str, place: int, buffer: Buffer) -> str:
        return template.format(
            name=memory_name(buffer.name),
            type=self.code.type(memory_element_of(buffer.dtype)),
            const="const " if buffer.access == "read" else "",
            place=place,
        )

    def _opening(self) -> None:
        if self.dialect.buffer_opening:
            for place, buffer in enumerate(self.kernel.buffers):
                self.code.do(self._buffer(self.dialect.buffer_opening, place, buffer))
        for line in self.dialect.opening:
            self.code.do(line)
        for place, shared in enumerate(self.kernel.shared):
            element = self.code.type(memory_element_of(shared.dtype))
            name = memory_name(shared.name)
            self.code.do(self.dialect.shared.format(name=name, type=element, extent=shared.extent, place=place))

    def group_number(self) -> Value:
        return self.code.define(self.dialect.group_number, "i32", hint="group")

    def lane_number(self) -> Value:
        return self.code.define(self.dialect.lane_number, "i32", hint="lane")

    def grid_extent(self, place: int) -> Value:
        return Value(f"extent{place}", "i32")

    def sync(self, instr: Instr) -> Value | None:
        """Write a fence or barrier by the dialect's table; a copy was complete when issued (Spec: async_c1)."""
        if instr.name == "wait.token":
            return None
        if instr.name not in self.dialect.sync:
            raise CompileError(f"{instr.name} has no text in this dialect; legalise the kernel to the declared forms")
        for line in self.dialect.sync[instr.name]:
            self.code.do(line)
        return None
