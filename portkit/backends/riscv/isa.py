"""The instructions that the port uses, as the manuals draw them: RV64IMAF, Zifencei, and V with 32-bit elements.

Sources: The RISC-V Instruction Set Manual, volume I (20191213), chapters 2, 3, 5, 7, 8, 11 and 24; RISC-V "V" Vector
Extension 1.0. Operands stand in the order of the assembler. `.t` marks the form that the mask v0 gates.
"""

from __future__ import annotations

from functools import partial

from portkit.backends.toolkit.encoder import Encoder, Line, Virtual, families
from portkit.backends.toolkit.register_allocator import Machine

FORMATS = {
    "R": "funct7:7 rs2:5 rs1:5 funct3:3 rd:5 opcode:7",
    "R4": "rs3:5 fmt:2 rs2:5 rs1:5 funct3:3 rd:5 opcode:7",
    "I": "imm[11:0] rs1:5 funct3:3 rd:5 opcode:7",
    "SH": "funct6:6 shamt:6 rs1:5 funct3:3 rd:5 opcode:7",
    "S": "imm[11:5] rs2:5 rs1:5 funct3:3 imm[4:0] opcode:7",
    "B": "imm[12|10:5] rs2:5 rs1:5 funct3:3 imm[4:1|11] opcode:7",
    "U": "imm[31:12] rd:5 opcode:7",
    "J": "imm[20|10:1|11|19:12] rd:5 opcode:7",
    "VSET": "zero:1 vtype:11 rs1:5 funct3:3 rd:5 opcode:7",
    "VV": "funct6:6 vm:1 vs2:5 vs1:5 funct3:3 vd:5 opcode:7",
    "VX": "funct6:6 vm:1 vs2:5 rs1:5 funct3:3 vd:5 opcode:7",
    "VI": "funct6:6 vm:1 vs2:5 imm[4:0] funct3:3 vd:5 opcode:7",
    "VU": "funct6:6 vm:1 vs2:5 uimm:5 funct3:3 vd:5 opcode:7",
    "VR": "funct6:6 vm:1 vs2:5 vs1:5 funct3:3 rd:5 opcode:7",
    "VMEM": "nf:3 mew:1 mop:2 vm:1 vs2:5 rs1:5 width:3 vd:5 opcode:7",
}
ROWS = {
    "U opcode={} : =rd imm": "lui 0x37, auipc 0x17",
    "J opcode={} : =rd imm": "jal 0x6f",
    "I opcode=0x67 funct3={} : =rd imm rs1": "jalr 0",
    "B opcode=0x63 funct3={} : rs1 rs2 imm": "beq 0, bne 1, blt 4, bge 5",
    "I opcode=0x03 funct3={} : =rd imm rs1": "lw 2, ld 3",
    "S opcode=0x23 funct3={} : rs2 imm rs1": "sw 2, sd 3",
    "I opcode={} funct3={} : =rd rs1 imm": "addi 0x13 0, sltiu 0x13 3, addiw 0x1b 0",
    "I opcode=0x13 funct3=0 imm={} : =rd rs1": "mv 0",
    "SH opcode=0x13 funct3={} funct6={} : =rd rs1 shamt": "slli 1 0, srai 5 16",
    "R opcode=0x33 funct7={} funct3={} : =rd rs1 rs2": "add 0 0, sub 32 0, slt 0 2, sltu 0 3, xor 0 4, or 0 6, and 0 7,"
    "mul 1 0, mulhu 1 3",
    "R opcode=0x3b funct7={} funct3={} : =rd rs1 rs2": "addw 0 0, sllw 0 1, srlw 0 5, sraw 32 5, mulw 1 0, divuw 1 5,"
    "remuw 1 7",
    "R opcode=0x2f funct3=2 funct7={} : =rd rs2 rs1": "amoadd.w 0, amomin.w 0x40, amomax.w 0x50, amominu.w 0x60,"
    "amomaxu.w 0x70",
    "I opcode={} rd=0 funct3={} rs1={} imm={} :": "fence 0x0f 0 0 0x33, fence.i 0x0f 1 0 0, ecall 0x73 0 0 0,"
    "fsrmi_rne 0x73 5 0 2, fsrmi_rtz 0x73 5 1 2",
    # funct3 of arithmetic on floats is its rounding mode: 0 to nearest even, 1 toward zero.
    "R opcode=0x53 funct7={} funct3={} : =rd:f rs1:f rs2:f": "fadd.s 0 0, fmul.s 0x08 0, fdiv.s 0x0c 0, fmin.s 0x14 0,"
    "fmax.s 0x14 1",
    "R opcode=0x53 funct7={} funct3={} : =rd rs1:f rs2:f": "flt.s 0x50 1, feq.s 0x50 2",
    "R opcode=0x53 funct7={} rs2={} funct3={} : =rd rs1:f": "fcvt.w.s 0x60 0 1, fcvt.wu.s 0x60 1 1, fmv.x.w 0x70 0 0",
    "R opcode=0x53 funct7={} rs2={} funct3={} : =rd:f rs1": "fcvt.s.w 0x68 0 0, fcvt.s.wu 0x68 1 0, fmv.w.x 0x78 0 0",
    "R opcode=0x53 funct7={} rs2={} funct3={} : =rd:f rs1:f": "fsqrt.s 0x2c 0 0",
    "R4 opcode={} funct3=0 fmt=0 : =rd:f rs1:f rs2:f rs3:f": "fmadd.s 0x43",
    "VSET opcode=0x57 funct3={} zero=0 : =rd rs1 vtype": "vsetvli 7",
    "VMEM opcode=0x07 mew=0 mop=0 nf={} vs2={} width=6 vm=1 : =vd rs1": "vle32.v 0 0, vl2re32.v 1 8",
    "VMEM opcode=0x07 mew=0 mop=0 nf=0 vs2={} width=6 vm=0 : +vd rs1": "vle32.v.t 0",
    "VMEM opcode=0x07 mew=0 mop=1 nf={} width=6 vm=1 : =vd rs1 vs2": "vluxei32.v 0",
    "VMEM opcode=0x07 mew=0 mop=1 nf={} width=6 vm=0 : +vd rs1 vs2": "vluxei32.v.t 0",
    "VMEM opcode=0x27 mew=0 mop=0 nf={} vs2={} width={} vm={} : vd rs1": "vse32.v 0 0 6 1, vse32.v.t 0 0 6 0,"
    "vs2r.v 1 8 0 1",
    "VMEM opcode=0x27 mew=0 mop=1 nf=0 width=6 vm={} : vd rs1 vs2": "vsuxei32.v 1, vsuxei32.v.t 0",
    "VV opcode=0x57 vm=1 funct3=0 funct6={} : =vd vs2 vs1": "vadd.vv 0, vminu.vv 4, vmin.vv 5, vmaxu.vv 6, vmax.vv 7,"
    "vand.vv 9, vor.vv 10, vxor.vv 11, vmseq.vv 24, vmsltu.vv 26, vmslt.vv 27, vsll.vv 37, vsrl.vv 40, vsra.vv 41",
    "VX opcode=0x57 vm=1 funct3=4 funct6={} : =vd vs2 rs1": "vadd.vx 0, vminu.vx 4, vmin.vx 5, vmaxu.vx 6, vmax.vx 7,"
    "vand.vx 9, vor.vx 10, vxor.vx 11, vmseq.vx 24, vmsltu.vx 26, vmslt.vx 27, vmsgtu.vx 30, vmsgt.vx 31, vsll.vx 37,"
    "vsrl.vx 40, vsra.vx 41",
    "VI opcode=0x57 vm=1 funct3=3 funct6={} : =vd vs2 imm": "vadd.vi 0, vand.vi 9, vor.vi 10, vxor.vi 11, vmseq.vi 24,"
    "vmsne.vi 25, vmsgtu.vi 30, vmsgt.vi 31",
    "VU opcode=0x57 vm=1 funct3=3 funct6={} : =vd vs2 uimm": "vsll.vi 37, vsrl.vi 40, vsra.vi 41",
    "VV opcode=0x57 vm=1 funct3=2 funct6={} : =vd vs2 vs1": "vmulhu.vv 36, vmul.vv 37, vmulh.vv 39, vmandn.mm 24,"
    "vmand.mm 25, vmor.mm 26, vmxor.mm 27, vmxnor.mm 31",
    "VX opcode=0x57 vm=1 funct3=6 funct6={} : =vd vs2 rs1": "vdivu.vx 32, vremu.vx 34, vmulhu.vx 36, vmul.vx 37,"
    "vmulh.vx 39",
    "VV opcode=0x57 vm=1 funct3=1 funct6={} : =vd vs2 vs1": "vfadd.vv 0, vfmin.vv 4, vfmax.vv 6, vmfeq.vv 24,"
    "vmflt.vv 27, vfmul.vv 36",
    "VX opcode=0x57 vm=1 funct3=5 funct6={} : =vd vs2 rs1:f": "vfadd.vf 0, vmfeq.vf 24, vmflt.vf 27, vmfgt.vf 29,"
    "vfrdiv.vf 33, vfmul.vf 36",
    "VV opcode=0x57 vm={} funct3=1 funct6=44 : +vd vs1 vs2": "vfmacc.vv 1",
    "VX opcode=0x57 vm={} funct3=5 funct6=44 : +vd rs1:f vs2": "vfmacc.vf 1",
    "VV opcode=0x57 vm=1 funct3=1 funct6={} vs1={} : =vd vs2": "vfcvt.f.xu.v 18 2, vfcvt.f.x.v 18 3, vfsqrt.v 19 0",
    "VV opcode=0x57 vm=0 funct3=1 funct6=18 vs1={} : +vd vs2": "vfcvt.xu.f.v.t 0, vfcvt.x.f.v.t 1",
    "VV opcode=0x57 vm={} funct3=0 funct6=23 vs2=0 : =vd vs1": "vmv.v.v 1",
    "VX opcode=0x57 vm={} funct3=4 funct6=23 vs2=0 : =vd rs1": "vmv.v.x 1",
    "VI opcode=0x57 vm={} funct3=3 funct6=23 vs2=0 : =vd imm": "vmv.v.i 1",
    "VV opcode=0x57 vm={} funct3=0 funct6=23 : =vd vs2 vs1": "vmerge.vvm 0",
    "VX opcode=0x57 vm={} funct3=4 funct6=23 : =vd vs2 rs1": "vmerge.vxm 0",
    "VI opcode=0x57 vm=1 funct3=3 funct6=39 imm={} : =vd vs2": "vmv1r.v 0",
    "VR opcode=0x57 vm=1 funct3=2 funct6=16 vs1={} : =rd vs2": "vfirst.m 17",
    "VV opcode=0x57 vm=1 funct3=2 funct6=20 vs2=0 vs1={} : =vd": "vid.v 17",
}
_PREFIXES = {"rd": "x", "rs1": "x", "rs2": "x", "rs3": "x", "vd": "v", "vs1": "v", "vs2": "v"}
ENCODER = Encoder(FORMATS, families(ROWS), _PREFIXES)

# --- the convention of kernels: which registers mean what -----------------------------------------------------------

ZERO, RA, SCRATCH, SPILLS, ARGUMENTS, VECTOR_SPILLS, TEMPORARY = 0, 1, 2, 3, 4, 5, 31
"""x registers: sp is the scratch memory, gp and t0 the spill slots in it, tp the arguments, t6 any line's own."""
VTYPE = 0b0_1_010_001
"""What vsetvli sets: vector masks undisturbed, tails agnostic, elements of 32 bits (e32), two registers each (m2)."""
VECTOR_BYTES = 2 * 1024 // 8
"""What a vector has at most, and so a slot for one: two registers of 1024 bits."""


def constant(register: int | Virtual, value: int) -> list[Line]:
    """Return the lines that load a signed 32-bit constant."""
    high = (value + 0x800 >> 12 << 12) + (1 << 31) & (1 << 32) - 1
    low = (value + 0x800 & 0xFFF) - 0x800
    if -0x800 <= value < 0x800:
        return [Line("addi", (register, ZERO, value))]
    lines = [Line("lui", (register, high - (1 << 31)))]
    return [*lines, Line("addiw", (register, register, low))] if low else lines


def _at_slot(scalar: str, vector: str, kind: str, register: int, slot: int) -> list[Line]:
    """Return the lines that load or store a register at its spill slot."""
    if kind == "x" and slot < 256:
        return [Line(scalar, (register, 8 * slot, SPILLS))]
    base, size = (SPILLS, 8) if kind == "x" else (VECTOR_SPILLS, VECTOR_BYTES)
    place = [*constant(TEMPORARY, slot * size), Line("add", (TEMPORARY, TEMPORARY, base))]
    return [*place, Line(scalar, (register, 0, TEMPORARY)) if kind == "x" else Line(vector, (register, TEMPORARY))]


MACHINE = Machine(
    registers={"x": range(6, 31), "v": range(2, 32, 2)},
    operands=ENCODER.operands,
    reload=partial(_at_slot, "ld", "vl2re32.v"),
    spill=partial(_at_slot, "sd", "vs2r.v"),
    copies=frozenset({"mv", "vmv.v.v", "vmv1r.v"}),
)
