"""Reading gfx942 assembler text as LLVM writes it: instructions, labels, and what the kernel descriptor asks for.

Source: LLVM, "Syntax of AMDGPU Assembler Operands" and "User Guide for AMDGPU Backend" (kernel descriptor directives);
AMD, "Instinct MI300 ISA" (CDNA3), chapters 4 and 6 for operands and modifiers.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from portkit.emulators.memory import EmulatorFault

VCC, M0, EXEC = 106, 124, 126
_ACCUMULATORS = 512
"""Where the accumulation registers a0, a1, .. lie behind v0, v1, .. in the emulated register file."""
_NAMED = {
    "vcc": (VCC, 2),
    "vcc_lo": (VCC, 1),
    "vcc_hi": (VCC + 1, 1),
    "m0": (M0, 1),
    "exec": (EXEC, 2),
    "exec_lo": (EXEC, 1),
    "exec_hi": (EXEC + 1, 1),
    "flat_scratch": (102, 2),
    "flat_scratch_lo": (102, 1),
    "flat_scratch_hi": (103, 1),
}
_FLAGS = frozenset({"sc0", "sc1", "nt", "clamp", "gds"})
_TOKEN = re.compile(r"[^\s,\[\]]+(?:\[[^\]]*\][^\s,]*)?")
_MODIFIER = re.compile(r"([a-z_0-9]+):(\[[^\]]*\]|\S+)")
_REGISTER = re.compile(r"([vsa])(?:(\d+)|\[(\d+):(\d+)\])")
_NUMBER = re.compile(r"-?(?:0x[0-9a-f]+|\d+(?:\.\d+)?)")
_ENCODINGS = ("_e32", "_e64", "_sdwa", "_dpp")
_INVERSE_TWO_PI = "0.15915494"
"""The inline constant 1/(2 pi), which the assembler cuts in its text; its bits by size in bytes (CDNA3 ISA, 4.3)."""
_INVERSE_TWO_PI_BITS = {2: 0x3118, 4: 0x3E22F983, 8: 0x3FC45F306DC9C882}


class UnknownInstruction(EmulatorFault):
    """The text has an instruction, operand or modifier that this interpreter does not know."""


@dataclass(frozen=True, slots=True)
class Operand:
    """A register range (`file` v or s), a constant (file ``), or nothing where the text says `off`."""

    text: str
    file: str = ""
    index: int = 0
    count: int = 1
    negate: bool = False
    absolute: bool = False
    extend: bool = False

    def bits(self, size: int, *, is_float: bool) -> int:
        """Return a constant as an operand of `size` bytes: hexadecimal text is a literal, the rest stands inline.

        A literal has 32 bits; in an 8-byte float it is the upper half (CDNA3 ISA, 4.3).
        """
        text = self.text
        if "." in text:
            return _float_bits(text, size)
        number, mask = int(text, 0), (1 << 8 * size) - 1
        if size == 8 and is_float and "x" in text:
            return number << 32
        return number & mask


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line of text: `name` without the suffix of its encoding, operands in order, modifiers by name."""

    line: int
    text: str
    name: str
    operands: tuple[Operand, ...]
    modifiers: Mapping[str, str]

    def number(self, modifier: str) -> int:
        """Return a modifier that is a number, such as `offset`; 0 where it is not written."""
        return int(self.modifiers.get(modifier, "0"), 0)

    def choices(self, modifier: str, default: int) -> tuple[int, ...]:
        """Return a modifier with a value for each source, such as `op_sel:[0,1]`."""
        written = self.modifiers.get(modifier)
        return tuple(map(int, written.strip("[]").split(","))) if written else (default,) * 4

    def fault(self, what: str) -> UnknownInstruction:
        """Return the error for what the interpreter does not know about this line."""
        return UnknownInstruction(f"line {self.line}, `{self.text}`: the gfx942 interpreter has {what}")


@dataclass(frozen=True, slots=True)
class Program:
    """A kernel: its instructions, where its labels are among them, and the numbers of its kernel descriptor."""

    instructions: tuple[Instruction, ...]
    labels: Mapping[str, int]
    descriptor: Mapping[str, int]


@dataclass(slots=True)
class _Reader:
    instructions: list[Instruction] = field(default_factory=list[Instruction])
    labels: dict[str, int] = field(default_factory=dict[str, int])
    descriptor: dict[str, int] = field(default_factory=dict[str, int])


def read_program(text: str) -> Program:
    """Return the one kernel of an assembler text.

    Raises:
        UnknownInstruction: an operand or modifier is none that LLVM writes for gfx942.
    """
    reader, inside = _Reader(), False
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition(";")[0].strip()
        inside = (inside or line == "kernel:") and not line.startswith(".section")
        if line.startswith(".amdhsa_"):
            _directive(reader, line)
        elif inside and line.endswith(":"):
            reader.labels[line[:-1]] = len(reader.instructions)
        elif inside and line and not line.startswith("."):
            reader.instructions.append(_instruction(number, line))
    return Program(tuple(reader.instructions), reader.labels, reader.descriptor)


def _directive(reader: _Reader, line: str) -> None:
    name, _, value = line.removeprefix(".amdhsa_").partition(" ")
    if value.isdigit():
        reader.descriptor[name] = int(value)


def _instruction(number: int, line: str) -> Instruction:
    name, _, rest = line.partition(" ")
    for suffix in _ENCODINGS:
        name = name.removesuffix(suffix)
    if name in ("s_waitcnt", "s_nop", "s_sleep", "s_endpgm"):
        return Instruction(number, line, name, (), {})
    operands: list[Operand] = []
    modifiers: dict[str, str] = {}
    for token in _TOKEN.findall(rest):
        if token in _FLAGS:
            modifiers[token] = "1"
        elif found := _MODIFIER.fullmatch(token):
            modifiers[found[1]] = found[2]
        else:
            operands.append(_operand(number, line, token))
    return Instruction(number, line, name, tuple(operands), modifiers)


def _operand(number: int, line: str, token: str) -> Operand:
    extend = token.startswith("sext(")
    plain = token.removeprefix("sext(").removesuffix(")") if extend else token
    negate = plain.startswith("-") and _NUMBER.fullmatch(plain) is None
    plain = plain[1:] if negate else plain
    absolute = plain.startswith("|")
    plain = plain.strip("|")
    modifiers = (negate, absolute, extend)
    if plain in _NAMED:
        return Operand(plain, "s", *_NAMED[plain], *modifiers)
    if found := _REGISTER.fullmatch(plain):
        first = int(found[2] or found[3])
        count = int(found[4]) - first + 1 if found[4] else 1
        file, base = ("v", _ACCUMULATORS) if found[1] == "a" else (found[1], 0)
        return Operand(plain, file, first + base, count, *modifiers)
    if plain == "off" or plain.startswith(".L") or _NUMBER.fullmatch(plain):
        return Operand(plain, "", 0, 1, *modifiers)
    raise Instruction(number, line, "", (), {}).fault(f"no operand {token}")


def _float_bits(text: str, size: int) -> int:
    if text.lstrip("-").startswith(_INVERSE_TWO_PI):
        return _INVERSE_TWO_PI_BITS[size] | (int(text.startswith("-")) << (8 * size - 1))
    code = {2: "<e", 4: "<f", 8: "<d"}[size]
    return int.from_bytes(struct.pack(code, float(text)), "little")


def check_known(instruction: Instruction, modifiers: Collection[str]) -> None:
    """Refuse modifiers other than the given ones.

    Raises:
        UnknownInstruction: the line has one.
    """
    for name in instruction.modifiers:
        if name not in modifiers:
            raise instruction.fault(f"no modifier {name} for it")
