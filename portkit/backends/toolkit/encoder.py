"""Machine code from tables, for any instruction set of one width: a row of text for each instruction.

    FORMATS = {"I": "imm[11:0] rs1:5 funct3:3 rd:5 opcode:7"}     # as the manual draws it, the highest bit first
    ROWS = "addi I opcode=0x13 funct3=0 : =rd rs1 imm"            # name, format, fixed fields : operands
    Encoder(FORMATS, ROWS, {"rd": "x", "rs1": "x"}).assemble([Line("addi", (1, 0, 5))])

In a format `name:5` is an unsigned field. `imm[12|10:5]` is a part of a signed immediate: bits 12 and 10 to 5 of it
stand there, and bits that stand nowhere are zero. In a row `=` marks an operand that the instruction writes, `+` one
that it reads and writes; the others it reads. `=rd:f` gives a register its own prefix in listings.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from portkit.errors import CompileError


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """A place in the code; as an operand, how far away it is from the start of the instruction, in bytes."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Part:
    """The distance to a label in two parts: one instruction adds the upper part, the next one the `low` part.

    `bits` are those of the lower part, which is signed.
    """

    label: Label
    low: bool
    bits: int = 12

    def of(self, distance: int) -> int:
        """Return this part of a distance."""
        half = 1 << self.bits - 1
        low = (distance + half) % (2 * half) - half
        return low if self.low else distance - low

    def __str__(self) -> str:
        return f"{'low' if self.low else 'high'}({self.label})"


class Virtual(NamedTuple):
    """A register that is still to be chosen, of a kind that the port names; `register_allocator` chooses."""

    kind: str
    number: int

    def __str__(self) -> str:
        return f"%{self.kind}{self.number}"


class Line(NamedTuple):
    """One instruction with its operands: numbers of registers, immediates, labels, and virtual registers at first."""

    name: str
    operands: tuple[int | Label | Part | Virtual, ...]


Item = Line | Label


class Operand(NamedTuple):
    """How a row uses a field: `role` is `=`, `+` or empty, `prefix` stands before the number in listings."""

    field: str
    role: str
    prefix: str


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bits of a field and where the lowest of them stands in the word; `signed` fields are written in brackets."""

    field: str
    low: int
    width: int
    position: int
    signed: bool


@dataclass(frozen=True, slots=True)
class _Row:
    fixed: int
    operands: tuple[Operand, ...]
    pieces: tuple[tuple[_Piece, ...], ...]
    """Those of each operand."""


class Encoder:
    """The instructions of one instruction set."""

    def __init__(self, formats: Mapping[str, str], rows: str, prefixes: Mapping[str, str], width: int = 32) -> None:
        """Read the tables; `prefixes` are those of the fields that hold registers, `width` the bits of a word."""
        self.bytes = width // 8
        layouts = {name: _layout(name, text, width) for name, text in formats.items()}
        lines = [line for line in rows.splitlines() if line.strip()]
        self._rows = dict(_row(line, layouts, prefixes) for line in lines)
        self.names = tuple(self._rows)

    def operands(self, name: str) -> tuple[Operand, ...]:
        """Return what the operands of an instruction are. Raises `CompileError` if there is none of that name."""
        return self._row(name).operands

    def encode(self, name: str, operands: Sequence[int]) -> int:
        """Return the word of one instruction. Raises `CompileError` for an operand that does not fit its field."""
        row = self._row(name)
        if len(operands) != len(row.operands):
            raise CompileError(f"{name} takes {len(row.operands)} operands, got {len(operands)}")
        word = row.fixed
        for value, pieces in zip(operands, row.pieces, strict=True):
            _check(name, value, pieces)
            for piece in pieces:
                word |= (value >> piece.low & (1 << piece.width) - 1) << piece.position
        return word

    def assemble(self, items: Iterable[Item]) -> bytes:
        """Return the code of instructions and labels in order.

        Raises:
            CompileError: an operand does not fit, a label is missing, or it is too far away.
        """
        lines, places = self._placed(items)
        words: list[bytes] = []
        for at, line in enumerate(lines):
            operands = [self._distance(line.name, at, o, places) for o in line.operands]
            words.append(self.encode(line.name, operands).to_bytes(self.bytes, "little"))
        return b"".join(words)

    def listing(self, items: Iterable[Item]) -> str:
        """Return the code as assembler text."""
        return "\n".join(f"{item}:" if isinstance(item, Label) else f"    {self._text(item)}" for item in items)

    def _row(self, name: str) -> _Row:
        if name not in self._rows:
            raise CompileError(f"there is no instruction {name} in the table")
        return self._rows[name]

    def _placed(self, items: Iterable[Item]) -> tuple[list[Line], dict[Label, int]]:
        lines: list[Line] = []
        places: dict[Label, int] = {}
        for item in items:
            if isinstance(item, Label):
                places[item] = len(lines)
            else:
                lines.append(item)
        return lines, places

    def _distance(self, name: str, at: int, operand: int | Label | Part | Virtual, places: Mapping[Label, int]) -> int:
        if isinstance(operand, Virtual):
            raise CompileError(f"{name} still has a virtual register: allocate registers before assembling")
        if isinstance(operand, int):
            return operand
        label = operand.label if isinstance(operand, Part) else operand
        if label not in places:
            raise CompileError(f"{name} goes to {label}, which is nowhere in the code")
        if isinstance(operand, Part):
            return operand.of((places[label] - at + operand.low) * self.bytes)
        return (places[label] - at) * self.bytes

    def _text(self, line: Line) -> str:
        shown = zip(self.operands(line.name), line.operands, strict=True)
        return f"{line.name} {', '.join(f'{o.prefix}{value}' for o, value in shown)}".rstrip()


def families(rows: Mapping[str, str]) -> str:
    """Return the rows of instructions that differ in numbers only: `{"I opcode={} : =rd rs1 imm": "addi 1, ori 2"}`."""
    members = ((row, *member.split()) for row, all_ in rows.items() for member in all_.split(","))
    return "\n".join(f"{name} {row.format(*numbers)}" for row, name, *numbers in members)


class Assembly:
    """Lines that are being written, with virtual registers; a kind of registers is called as its prefix."""

    def __init__(self, encoder: Encoder) -> None:
        """Start with no lines."""
        self.items: list[Item] = []
        self._encoder = encoder
        self._numbers = itertools.count()

    def fresh(self, kind: str) -> Virtual:
        """Return a virtual register that nothing uses yet."""
        return Virtual(kind, next(self._numbers))

    def label(self, hint: str) -> Label:
        """Return a label that stands nowhere yet; append it where it is to stand."""
        return Label(f"{hint}{next(self._numbers)}")

    def emit(self, name: str, *operands: int | Label | Part | Virtual) -> None:
        """Append an instruction."""
        self.items.append(Line(name, operands))

    def into(self, name: str, *operands: int | Label | Virtual) -> Virtual:
        """Append an instruction whose first operand is a new register, and return that."""
        result = self.fresh(self._encoder.operands(name)[0].prefix)
        self.emit(name, result, *operands)
        return result

    def template(self, text: str, names: Mapping[str, int | Label | Virtual]) -> Virtual:
        """Append instructions from text, and return the new register that they leave in `d`.

        `d` is of the kind of the first operand where it is first written; `%x1` is a new register too, of kind x.
        """
        writer = re.search(r"([\w.]+) d\b", text)
        result = self.fresh(self._encoder.operands(writer[1])[0].prefix if writer else "")
        temporary = {name: self.fresh(name[1:-1]) for name in re.findall(r"%[a-z]+\d", text)}
        self.items += parse(text, {**names, **temporary, "d": result})
        return result


def parse(text: str, names: Mapping[str, int | Label | Virtual]) -> list[Item]:
    """Return instructions from text, one a line or with `;` between them, operands apart by blanks.

    An operand is one of `names` or a literal; a name alone stands for its label.
    """
    items: list[Item] = []
    for statement in filter(None, (part.strip() for part in text.replace("\n", ";").split(";"))):
        name, *operands = statement.split()
        label = names.get(name)
        line = Line(name, tuple(names[o] if o in names else int(o, 0) for o in operands))
        items.append(label if isinstance(label, Label) and not operands else line)
    return items


def _check(name: str, value: int, pieces: Sequence[_Piece]) -> None:
    """Refuse a value of which the pieces would drop a bit."""
    top = max(piece.low + piece.width for piece in pieces)
    low = min(piece.low for piece in pieces)
    least, limit = (-(1 << top - 1), 1 << top - 1) if pieces[0].signed else (0, 1 << top)
    if not least <= value < limit or value % (1 << low):
        step = f" in steps of {1 << low}" if low else ""
        raise CompileError(f"{name}: {pieces[0].field} is {value}, possible is {least} to {limit - 1}{step}")


def _layout(name: str, text: str, width: int) -> tuple[_Piece, ...]:
    """Return the pieces of a format."""
    pieces: list[_Piece] = []
    position = width
    for token in text.split():
        match = re.fullmatch(r"(\w+)(?::(\d+)|\[([\d:|]+)\])", token)
        if match is None:
            raise ValueError(f"format {name}: {token!r} is neither field:width nor field[high:low|...]")
        field, plain, ranges = match.groups()
        for part in (ranges or f"{int(plain) - 1}:0").split("|"):
            high, low = (int(n) for n in (part.split(":") * 2)[:2])
            position -= high - low + 1
            pieces.append(_Piece(field, low, high - low + 1, position, signed=bool(ranges)))
    if position:
        raise ValueError(f"format {name} has {width - position} bits, an instruction has {width}")
    return tuple(pieces)


def _row(line: str, layouts: Mapping[str, tuple[_Piece, ...]], prefixes: Mapping[str, str]) -> tuple[str, _Row]:
    head, _, tail = line.partition(":")
    name, layout, *settings = head.split()
    fixed = {field: int(value, 0) for field, _, value in (s.partition("=") for s in settings)}
    operands = tuple(_operand(token, prefixes) for token in tail.split())
    named = {*fixed, *(o.field for o in operands)}
    pieces = layouts[layout]
    if named != {p.field for p in pieces}:
        raise ValueError(f"{name}: format {layout} has {' '.join(dict.fromkeys(p.field for p in pieces))}")
    word = 0
    for piece in pieces:
        word |= (fixed.get(piece.field, 0) >> piece.low & (1 << piece.width) - 1) << piece.position
    of_operands = tuple(tuple(p for p in pieces if p.field == o.field) for o in operands)
    return name, _Row(word, operands, of_operands)


def _operand(token: str, prefixes: Mapping[str, str]) -> Operand:
    match = re.fullmatch(r"([=+]?)(\w+)(?::(\w+))?", token)
    if match is None:
        raise ValueError(f"{token!r} is no operand: write a field, with = or + before it if it is written")
    role, field, prefix = match.groups()
    return Operand(field, role, prefix or prefixes.get(field, ""))
