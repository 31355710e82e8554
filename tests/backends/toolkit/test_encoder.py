"""The table-driven encoder, on a few instructions of RISC-V and on an instruction set of 16 bits."""

from __future__ import annotations

import pytest

from portkit.backends.toolkit.encoder import Assembly, Encoder, Label, Line, Operand, Virtual, families, parse
from portkit.errors import CompileError

FORMATS = {
    "I": "imm[11:0] rs1:5 funct3:3 rd:5 opcode:7",
    "B": "imm[12|10:5] rs2:5 rs1:5 funct3:3 imm[4:1|11] opcode:7",
    "U": "imm[31:12] rd:5 opcode:7",
    "SH": "funct6:6 shamt:6 rs1:5 funct3:3 rd:5 opcode:7",
}
ROWS = {
    "I opcode=0x13 funct3={} : =rd rs1 imm": "addi 0, xori 4",
    "SH opcode=0x13 funct3=1 funct6={} : =rd rs1 shamt": "slli 0",
    "B opcode=0x63 funct3={} : rs1 rs2 imm": "beq 0",
    "U opcode={} : =rd imm": "lui 0x37",
    "I opcode=0x53 funct3=0 imm={} : +rd:f rs1": "fmove 0",
}
ENCODER = Encoder(FORMATS, families(ROWS), {"rd": "x", "rs1": "x", "rs2": "x"})


@pytest.mark.parametrize(
    ("name", "operands", "word"),
    [
        ("addi", (1, 2, 3), 0x00310093),
        ("addi", (1, 2, -1), 0xFFF10093),
        ("xori", (1, 2, -1), 0xFFF14093),
        ("slli", (5, 6, 63), 0x03F31293),
        ("beq", (1, 2, 4094), 0x7E208FE3),
        ("beq", (1, 2, -4096), 0x80208063),
        ("lui", (31, -0x80000000), 0x80000FB7),
    ],
)
def test_an_instruction_is_encoded_as_the_manual_draws_it(name: str, operands: tuple[int, ...], word: int) -> None:
    assert ENCODER.encode(name, operands) == word


@pytest.mark.parametrize(
    ("name", "operands", "message"),
    [
        ("addi", (1, 2, 2048), "addi: imm is 2048, possible is -2048 to 2047"),
        ("addi", (32, 2, 0), "addi: rd is 32, possible is 0 to 31"),
        ("addi", (-1, 2, 0), "addi: rd is -1, possible is 0 to 31"),
        ("slli", (1, 2, 64), "slli: shamt is 64, possible is 0 to 63"),
        ("beq", (1, 2, 3), "beq: imm is 3, possible is -4096 to 4095 in steps of 2"),
        ("beq", (1, 2, 4096), "beq: imm is 4096"),
        ("addi", (1, 2), "addi takes 3 operands, got 2"),
        ("nop", (), "no instruction nop"),
    ],
)
def test_what_cannot_be_encoded_is_refused_by_name(name: str, operands: tuple[int, ...], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        ENCODER.encode(name, operands)


def test_a_label_is_the_distance_from_the_instruction_that_names_it() -> None:
    again, out = Label("again"), Label("out")
    code = ENCODER.assemble([again, Line("beq", (1, 2, out)), Line("beq", (0, 0, again)), out])
    assert code == b"".join(ENCODER.encode("beq", o).to_bytes(4, "little") for o in ((1, 2, 8), (0, 0, -4)))


def test_a_branch_out_of_reach_is_refused() -> None:
    far = Label("far")
    with pytest.raises(CompileError, match="beq: imm is 4096"):
        ENCODER.assemble([Line("beq", (0, 0, far)), *[Line("addi", (0, 0, 0))] * 1023, far])


def test_a_label_that_stands_nowhere_is_refused() -> None:
    with pytest.raises(CompileError, match="goes to lost"):
        ENCODER.assemble([Line("beq", (0, 0, Label("lost")))])


def test_a_virtual_register_cannot_be_assembled() -> None:
    with pytest.raises(CompileError, match="allocate registers"):
        ENCODER.assemble([Line("addi", (Virtual("x", 0), 0, 0))])


def test_a_listing_shows_prefixes_labels_and_immediates() -> None:
    lines = [Label("start"), Line("addi", (1, 2, -3)), Line("fmove", (4, 5))]
    assert ENCODER.listing(lines) == "start:\n    addi x1, x2, -3\n    fmove f4, x5"


def test_operands_say_what_is_written() -> None:
    assert ENCODER.operands("fmove") == (Operand("rd", "+", "f"), Operand("rs1", "", "x"))


@pytest.mark.parametrize(
    ("layout", "row", "message"),
    [
        ("op:4 rd:5", "A op={} : rd", "format A has 9 bits, an instruction has 16"),
        ("op:11 rd5", "A op={} : rd", "'rd5' is neither"),
        ("op:11 rd:5", "A op={} :", "go: format A has op rd"),
        ("op:11 rd:5", "A op={} : *rd", "no operand"),
    ],
)
def test_a_wrong_table_is_refused_when_it_is_read(layout: str, row: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Encoder({"A": layout}, families({row: "go 1"}), {}, width=16)


def test_any_fixed_width_will_do() -> None:
    encoder = Encoder({"A": "op:4 rd:4 n[7:0]"}, "put A op=3 : =rd n", {}, width=16)
    assert encoder.assemble([Line("put", (2, -1))]) == b"\xff\x32"


def test_text_becomes_lines_and_labels() -> None:
    again = Label("again")
    lines = parse("again; addi t t -1\n bne t 0x10 again", {"again": again, "t": 5})
    assert lines == [again, Line("addi", (5, 5, -1)), Line("bne", (5, 16, again))]


def test_a_template_names_its_result_and_its_temporary_registers() -> None:
    assembly = Assembly(ENCODER)
    result = assembly.template("addi %x1 a 1; addi d %x1 2", {"a": 7})
    first, last = (line.operands for line in assembly.items if isinstance(line, Line))
    assert first == (last[1], 7, 1)
    assert last[0] == result != last[1]
    assert result.kind == "x"
