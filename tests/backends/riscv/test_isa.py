"""Every row of the instruction table against two assemblers by others: GNU binutils and the package riscv-assembler."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from portkit.backends.riscv.isa import ENCODER, MACHINE, constant
from portkit.backends.toolkit.encoder import Line

AS, OBJCOPY = "riscv64-linux-gnu-as", "riscv64-linux-gnu-objcopy"
ROUNDED = r"(fadd|fmul|fdiv|fsqrt|fmadd)\.s|fcvt\.s\.wu?"
FIELD_LIMITS = {"vtype": range(256), "uimm": range(32), "shamt": range(64)}


def samples(name: str, count: int) -> list[tuple[int, ...]]:
    """Random operands of an instruction, the ends of every immediate among them."""
    draw = random.Random(name)
    fields = [operand.field for operand in ENCODER.operands(name)]
    return [tuple(value(name, field, draw, place) for field in fields) for place in range(count)]


def value(name: str, field: str, draw: random.Random, place: int) -> int:
    if field != "imm":
        return draw.choice(FIELD_LIMITS.get(field, range(32)))
    bits, step = {"beq": (13, 2), "bne": (13, 2), "blt": (13, 2), "bge": (13, 2), "jal": (21, 2)}.get(name, (12, 1))
    bits, step = (32, 4096) if name in ("lui", "auipc") else (bits, step)
    bits = 5 if name.startswith("v") else bits
    ends = (-(1 << bits - 1), (1 << bits - 1) - step, 0)
    return ends[place] if place < len(ends) else draw.randrange(ends[0], ends[1] + 1, step)


def assembler_text(line: Line) -> str:
    """An instruction in the words of GNU as, whose syntax for memory, masks, rounding and branches is its own."""
    text = ENCODER.listing([line]).strip()
    name, _, operands = text.partition(" ")
    if name in ("lui", "auipc"):
        register, _, immediate = operands.partition(", ")
        return f"{name} {register}, {(int(immediate) >> 12) & 0xFFFFF}"
    if name in ("beq", "bne", "blt", "bge", "jal"):
        registers, _, distance = operands.rpartition(", ")
        return f"{name} {registers}, .+{distance}"
    if re.match(r"l[wd]|s[wd]$|jalr", name):
        operands = re.sub(r"(-?\d+), (x\d+)$", r"\1(\2)", operands)
    if re.match(r"amo|v[ls](e|uxe|2r)", name):
        operands = re.sub(r"(x\d+)($|, v)", r"(\1)\2", operands)
    if name.startswith("fsrmi"):
        return f"fsrmi {int(name.endswith('rtz'))}"
    operands += ", v0.t" if name.endswith(".t") else ", v0" if name.startswith("vmerge") else ""
    operands += ", rne" if re.fullmatch(ROUNDED, name) else ", rtz" if name.startswith("fcvt.w") else ""
    return f"{name.removesuffix('.t')} {'rw, rw' if name == 'fence' else operands}"


@pytest.mark.skipif(shutil.which(AS) is None or shutil.which(OBJCOPY) is None, reason=f"{AS} is not installed")
def test_every_row_is_encoded_as_gnu_as_encodes_it(tmp_path: Path) -> None:
    lines = [Line(name, operands) for name in ENCODER.names for operands in samples(name, 12)]
    source, binary = tmp_path / "rows.s", tmp_path / "rows.bin"
    source.write_text("\n".join([".option norelax", ".option norvc", *map(assembler_text, lines), ""]))
    object_file = tmp_path / "rows.o"
    assembled = subprocess.run(
        [AS, "-march=rv64imafv_zifencei", "-o", object_file, source], capture_output=True, text=True, check=False
    )
    assert not assembled.stderr
    subprocess.run([OBJCOPY, "-O", "binary", object_file, binary], check=True)
    theirs = binary.read_bytes()
    ours = ENCODER.assemble(lines)
    wrong = [assembler_text(line) for at, line in enumerate(lines) if ours[4 * at :][:4] != theirs[4 * at :][:4]]
    assert not wrong
    assert len(ours) == len(theirs)


# The package knows no vectors; for stores at negative offsets it differs from GNU as and from the manual.
@pytest.mark.parametrize("name", ["add", "sub", "sltu", "xor", "or", "and", "mul", "addi", "sltiu", "addw"])
def test_the_package_riscv_assembler_agrees(name: str) -> None:
    convert = pytest.importorskip("riscv_assembler.convert", reason="the package riscv-assembler is not installed")
    converter = convert.AssemblyConverter(output_mode="a", hex_mode=True)
    for operands in samples(name, 6):
        (word,) = converter.convert(assembler_text(Line(name, operands)))
        assert int(word, 16) == ENCODER.encode(name, operands)


@pytest.mark.parametrize(
    "number", [0, 1, -1, 2047, 2048, -2048, -2049, 0x7FFFFFFF, -0x80000000, 0x12345FFF, 0x7FFFF800]
)
def test_a_constant_is_what_its_lines_add_up_to(number: int) -> None:
    register = 0
    for line in constant(5, number):
        name, (_, *operands) = line
        register = (
            int(str(operands[0])) if name == "lui" else (0 if name == "addi" else register) + int(str(operands[1]))
        )
    assert (register - number) % (1 << 32) == 0


def test_far_spill_slots_are_reached_through_the_temporary_register() -> None:
    near, far = MACHINE.reload("x", 7, 255), MACHINE.reload("x", 7, 256)
    assert near == [Line("ld", (7, 2040, 3))]
    assert far == [*constant(31, 2048), Line("add", (31, 31, 3)), Line("ld", (7, 0, 31))]
