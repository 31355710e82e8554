"""PTX text as blocks of instructions: what LLVM prints for a kernel, and nothing else.

    before                                after
    @%p1 bra $L__BB0_2;                   Block(instructions before, branch Branch("%p1", target 2, next 1))
    add.s32 %r3, %r1, 7;                  Instruction("add.s32", ("%r3", "%r1", "7"), ...)

Source: PTX ISA, chapters 4 (syntax), 5 (state spaces) and 11 (directives).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from portkit.errors import CompileError

Operand: TypeAlias = str | tuple[str, ...]
"""A register, number, symbol or `[address]`; a tuple for what stands in braces."""

_WORD = 8
_SIZES = {"8": 1, "16": 2, "32": 4, "64": 8}
_MEANINGLESS = (".version", ".target", ".address_size", "{", "}", ")")
_SCOPED = re.compile(r"\{\s*\.reg \.b\d+ (\w+);\s*(.*;)\s*\}")
_REGISTERS = re.compile(r"\.reg \.(?:b(\d+)|(pred)) \s*(%\w+)<(\d+)>;")
_SHARED = re.compile(r"\.shared \.align (\d+) \.[bufs](\d+) ([\w$]+)(?:\[(\d+)\])?;")
_PARAMETER = re.compile(r"\.param \.[bu]64 (?:\.ptr \.global \.align \d+ )?(\w+),?")
_OPERAND = re.compile(r"\{([^}]*)\}|([^,{}]+)")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction that does not branch: its whole name, its operands, and the text for messages."""

    name: str
    operands: tuple[Operand, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Branch:
    """How a block ends: where threads go whose `guard` holds (empty: all; a leading `!`: does not hold), and where not.

    Targets are numbers of blocks; `exits` is -1. At a `barrier` all go on to `target` together.
    """

    guard: str
    target: int
    otherwise: int
    barrier: bool = False


EXIT = -1


@dataclass(slots=True)
class Block:
    """Instructions that are executed one after the other, and the branch behind them."""

    instructions: list[Instruction] = field(default_factory=list[Instruction])
    branch: Branch = Branch("", EXIT, EXIT)


@dataclass(slots=True)
class Entry:
    """A kernel: offsets of its parameters and shared arrays by name, widths in bits of its registers by prefix."""

    name: str = ""
    lanes: int = 0
    parameters: dict[str, int] = field(default_factory=dict[str, int])
    shared: dict[str, int] = field(default_factory=dict[str, int])
    shared_bytes: int = 0
    widths: dict[str, int] = field(default_factory=dict[str, int])
    blocks: list[Block] = field(default_factory=list[Block])

    def width(self, register: str) -> int:
        """Return the bits of a register; 1 for a predicate."""
        prefix = register.rstrip("0123456789")
        if prefix not in self.widths:
            raise CompileError(f"PTX: register {register} is not declared")
        return self.widths[prefix]


def parse(text: str) -> Entry:
    """Return the one kernel of a module.

    Raises `CompileError` for a line that is none of the subset.
    """
    reader = _Reader()
    for line in _lines(text):
        reader.line(line)
    return reader.entry()


def _lines(text: str) -> Iterator[str]:
    for raw in text.splitlines():
        line = raw.partition("//")[0].strip().replace("\t", " ")
        if line:
            yield line


class _Reader:
    def __init__(self) -> None:
        self._entry = Entry()
        self._blocks = [Block()]
        self._labels: dict[str, int] = {}
        self._branches: dict[int, tuple[str, str]] = {}  # by block: guard, label

    def line(self, line: str) -> None:
        if line.endswith(":"):
            self._label(line[:-1])
        elif line.startswith("."):
            self._directive(line)
        elif scoped := _SCOPED.fullmatch(line):  # a register of its own that takes what nobody reads
            self._statement(re.sub(rf"\b{scoped[1]}\b", "_", scoped[2]))
        elif line.endswith(";"):
            self._statement(line)
        elif line not in _MEANINGLESS:
            raise CompileError(f"PTX: cannot read {line!r}")

    # --- directives (PTX ISA, 5.1 and 11) ---------------------------------------------------------------------------

    def _directive(self, line: str) -> None:
        entry = self._entry
        if registers := _REGISTERS.fullmatch(line):
            entry.widths[registers[3]] = 1 if registers[2] else int(registers[1])
        elif shared := _SHARED.fullmatch(line):
            self._shared(shared[3], int(shared[1]), int(shared[2]) // 8 * int(shared[4] or 1))
        elif parameter := _PARAMETER.fullmatch(line):
            entry.parameters[parameter[1]] = _WORD * len(entry.parameters)
        elif line.startswith(".visible .entry "):
            entry.name = line.removeprefix(".visible .entry ").rstrip("(").strip()
        elif line.startswith(".reqntid "):
            entry.lanes = int(line.split()[1].rstrip(","))
        elif not line.startswith(_MEANINGLESS):
            raise CompileError(f"PTX: unknown directive {line!r}")

    def _shared(self, name: str, align: int, size: int) -> None:
        entry = self._entry
        entry.shared[name] = -(-entry.shared_bytes // align) * align
        entry.shared_bytes = entry.shared[name] + size

    # --- instructions ---------------------------------------------------------------------------------------------

    def _label(self, name: str) -> None:
        if self._blocks[-1].instructions:
            self._next(Branch("", len(self._blocks), EXIT))
        self._labels[name] = len(self._blocks) - 1

    def _next(self, branch: Branch) -> None:
        self._blocks[-1].branch = branch
        self._blocks.append(Block())

    def _statement(self, line: str) -> None:
        guard, text = "", line.rstrip("; ")
        if text.startswith("@"):
            guard, _, text = text[1:].partition(" ")
        name, _, rest = text.strip().partition(" ")
        if name in ("bra", "bra.uni"):
            self._branches[len(self._blocks) - 1] = guard, rest.strip()
            self._next(Branch(guard, EXIT, len(self._blocks)))
        elif guard:
            raise CompileError(f"PTX: only branches may be predicated here: {line!r}")
        elif name == "ret":
            self._next(Branch("", EXIT, EXIT))
        elif name == "bar.sync":
            self._barrier(rest, line)
        else:
            self._blocks[-1].instructions.append(Instruction(name, tuple(_operands(rest)), text))

    def _barrier(self, rest: str, line: str) -> None:
        if rest.strip() != "0":
            raise CompileError(f"PTX: only barrier 0 of a whole group is known: {line!r}")
        self._next(Branch("", len(self._blocks), EXIT, barrier=True))

    def entry(self) -> Entry:
        """Return what was read, every label found."""
        for number, (guard, label) in self._branches.items():
            if label not in self._labels:
                raise CompileError(f"PTX: no label {label}")
            otherwise = number + 1 if guard else EXIT
            self._blocks[number].branch = Branch(guard, self._labels[label], otherwise)
        self._entry.blocks = self._blocks
        if not self._entry.name:
            raise CompileError("PTX: no kernel in this module")
        return self._entry


def _operands(text: str) -> Iterable[Operand]:
    for braced, plain in _OPERAND.findall(text):
        if braced:
            yield tuple(part.strip() for part in braced.split(","))
        elif plain.strip():
            yield plain.strip()
