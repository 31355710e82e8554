"""Programs as bytes, to be kept: what is read back is equal in all that a run looks at.

The bytes are MessagePack of a fixed schema. Kernels are in rows, quicker to read than their JSON form and trusted: they
come from a cache that also holds machine code, so nothing is verified again. A kernel or expression stands there once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, reduce
from typing import TypeAlias

import msgspec

from portkit.compiler.index import (
    Expr,
    Index,
    Maximum,
    Minimum,
    Product,
    Quotient,
    Remainder,
    Sum,
    Variable,
    maximum,
    minimum,
)
from portkit.compiler.integers import multiply, quotient, remainder
from portkit.compiler.program import Launch, Program, Role, Slot
from portkit.compiler.storage import Storage
from portkit.errors import HarnessError
from portkit.spec.kernel import Access, Buffer, Extent, Instr, Kernel, Numeric, Scalar, Shared
from portkit.spec.types import DTYPES, TOKEN, Type, parse_type

FORMAT = 2
Number: TypeAlias = int | float | str
"""A number, or the place of an expression in its list, in letters: `e0`, `e1`."""


class _Row(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    pass


class _Instr(_Row, frozen=True):
    name: str
    result: str
    type: str
    args: tuple[str, ...]
    mems: tuple[str, ...]
    imms: tuple[int, ...]
    gate: str
    other: str
    carries: tuple[tuple[str, str], ...]


class _Kernel(_Row, frozen=True):
    name: str
    buffers: tuple[tuple[str, str, tuple[int | str, ...], Access], ...]
    scalars: tuple[tuple[str, str], ...]
    shared: tuple[tuple[str, str, int], ...]
    body: tuple[_Instr, ...]
    numeric: Numeric
    version: str


class _Launch(_Row, frozen=True):
    kernel: int
    grid: tuple[Number, ...]
    buffers: tuple[int, ...]
    scalars: tuple[Number, ...]


class _Slot(_Row, frozen=True):
    bytes: Number
    role: Role
    dtype: str
    shape: tuple[Number, ...]
    storage: tuple[str, int, bool]


class _Expression(_Row, frozen=True):
    """A class by name, and its operands; a `Sum` has coefficients and a constant, a `Variable` a name and bounds."""

    kind: str
    operands: tuple[Number, ...]
    numbers: tuple[int, ...] = ()
    name: str = ""


class _Program(_Row, frozen=True):
    format: int
    expressions: tuple[_Expression, ...]
    kernels: tuple[_Kernel, ...]
    launches: tuple[_Launch, ...]
    slots: tuple[_Slot, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    notes: tuple[int, ...]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Program)


def to_bytes(program: Program, notes: Sequence[int] = ()) -> bytes:
    """Return a program as bytes, with a few numbers of the caller's own."""
    made = _Writer()
    launches = tuple(
        _Launch(
            made.kernel(launch.kernel),
            tuple(map(made.number, launch.grid)),
            launch.buffers,
            tuple(map(made.number, launch.scalars)),
        )
        for launch in program.launches
    )
    slots = tuple(
        _Slot(
            made.number(slot.bytes),
            slot.role,
            slot.dtype.name,
            tuple(map(made.number, slot.shape)),
            (slot.storage.element.name, slot.storage.count, slot.storage.native),
        )
        for slot in program.slots
    )
    kernels, expressions = tuple(made.kernels), tuple(made.expressions)
    return _ENCODER.encode(
        _Program(FORMAT, expressions, kernels, launches, slots, program.inputs, program.outputs, tuple(notes))
    )


def from_bytes(data: bytes) -> tuple[Program, tuple[int, ...]] | None:
    """Return a program and the caller's numbers; None where the bytes are of another format."""
    try:
        read = _DECODER.decode(data)
    except msgspec.DecodeError:
        return None
    if read.format != FORMAT:
        return None
    expressions: list[Index] = []
    for row in read.expressions:
        expressions.append(_expression(row, [_index(n, expressions) for n in row.operands]))
    kernels = [_read_kernel(kernel) for kernel in read.kernels]
    launches = tuple(
        Launch(
            kernels[row.kernel],
            tuple(_index(n, expressions) for n in row.grid),
            row.buffers,
            tuple(_number(n, expressions) for n in row.scalars),
        )
        for row in read.launches
    )
    slots = tuple(
        Slot(
            _index(row.bytes, expressions),
            row.role,
            DTYPES[row.dtype],
            tuple(_index(n, expressions) for n in row.shape),
            Storage(DTYPES[row.storage[0]], row.storage[1], row.storage[2]),
        )
        for row in read.slots
    )
    return Program(launches, slots, read.inputs, read.outputs), read.notes


class _Writer:
    """Lists kernels and expressions in the order in which they are met, each once."""

    def __init__(self) -> None:
        self.kernels: list[_Kernel] = []
        self.expressions: list[_Expression] = []
        self._known: dict[int, int] = {}  # by identity; what is met stays alive through the program
        self._places: dict[Expr, str] = {}

    def kernel(self, kernel: Kernel) -> int:
        """Return the place of a kernel."""
        if id(kernel) not in self._known:
            self._known[id(kernel)] = len(self.kernels)
            self.kernels.append(_kernel_row(kernel))
        return self._known[id(kernel)]

    def number(self, number: float | Expr) -> Number:
        """Return a number, or the place of an expression."""
        if not isinstance(number, Expr):
            return number
        if number not in self._places:
            row = self._expression_row(number)
            self._places[number] = f"e{len(self.expressions)}"
            self.expressions.append(row)
        return self._places[number]

    def _expression_row(self, e: Expr) -> _Expression:
        kind = type(e).__name__
        if isinstance(e, Variable):
            return _Expression(kind, (), (e.low, e.high), e.name)
        if isinstance(e, Sum):
            terms, constant = e.args
            return _Expression(kind, tuple(self.number(t) for t, _ in terms), (constant, *(k for _, k in terms)))
        if kind not in _FOLDS:
            raise HarnessError(f"a program depends on {e}, which is not known at launch")
        return _Expression(kind, tuple(map(self.number, e.args)))


# --- expressions --------------------------------------------------------------------------------------------------


def _number(number: Number, expressions: Sequence[Index]) -> float | Expr:
    return expressions[int(number[1:])] if isinstance(number, str) else number


def _index(number: Number, expressions: Sequence[Index]) -> Index:
    found = _number(number, expressions)
    assert not isinstance(found, float)
    return found


def _expression(row: _Expression, operands: Sequence[Index]) -> Index:
    if row.kind == "Variable":
        return Variable(row.name, *row.numbers)
    if row.kind == "Sum":
        constant, *factors = row.numbers
        return sum((term * k for term, k in zip(operands, factors, strict=True)), constant)
    return reduce(_FOLDS[row.kind], operands)


_FOLDS: dict[str, Callable[[Index, Index], Index]] = {
    Product.__name__: multiply,
    Quotient.__name__: quotient,
    Remainder.__name__: remainder,
    Minimum.__name__: minimum,
    Maximum.__name__: maximum,
}


# --- kernels ------------------------------------------------------------------------------------------------------


def _kernel_row(kernel: Kernel) -> _Kernel:
    return _Kernel(
        kernel.name,
        tuple((b.name, b.dtype.name, b.extent.factors, b.access) for b in kernel.buffers),
        tuple((s.name, s.dtype.name) for s in kernel.scalars),
        tuple((s.name, s.dtype.name, s.extent) for s in kernel.shared),
        tuple(_instr_row(instr) for instr in kernel.body),
        kernel.numeric,
        kernel.version,
    )


def _instr_row(i: Instr) -> _Instr:
    type_ = "" if i.type is None else str(i.type)
    return _Instr(i.name, i.result, type_, i.args, i.mems, i.imms, i.gate, i.other, i.carries)


def _read_kernel(row: _Kernel) -> Kernel:
    return Kernel(
        row.name,
        tuple(Buffer(name, DTYPES[dtype], Extent(factors), access) for name, dtype, factors, access in row.buffers),
        tuple(Scalar(name, DTYPES[dtype]) for name, dtype in row.scalars),
        tuple(Shared(name, DTYPES[dtype], extent) for name, dtype, extent in row.shared),
        tuple(
            Instr(i.name, i.result, _type(i.type), i.args, i.mems, i.imms, i.gate, i.other, i.carries) for i in row.body
        ),
        row.numeric,
        row.version,
    )


@cache
def _type(text: str) -> Type | None:
    if not text:
        return None
    return Type(TOKEN) if text == TOKEN.name else parse_type(text)
