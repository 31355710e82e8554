"""The instructions that the port uses, as the manuals draw them: RV64IMAF, Zifencei, and V with 32-bit elements.

Sources: The RISC-V Instruction Set Manual, volume I (20191213), chapters 2, 3, 5, 7, 8, 11 and 24; RISC-V "V" Vector
Extension 1.0. Operands stand in the order of the assembler. `.t` marks the form that the mask v0 gates.
"""

from __future__ import annotations

from collections.abc import Iterator

from portkit.backends.toolkit.encoder import Encoder, Line, Virtual
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

_SCALAR = """
lui       U  opcode=0x37                            : =rd imm
jal       J  opcode=0x6f                            : =rd imm
jalr      I  opcode=0x67 funct3=0                   : =rd imm rs1
beq       B  opcode=0x63 funct3=0                   : rs1 rs2 imm
bne       B  opcode=0x63 funct3=1                   : rs1 rs2 imm
blt       B  opcode=0x63 funct3=4                   : rs1 rs2 imm
bge       B  opcode=0x63 funct3=5                   : rs1 rs2 imm
lw        I  opcode=0x03 funct3=2                   : =rd imm rs1
ld        I  opcode=0x03 funct3=3                   : =rd imm rs1
sb        S  opcode=0x23 funct3=0                   : rs2 imm rs1
sw        S  opcode=0x23 funct3=2                   : rs2 imm rs1
sd        S  opcode=0x23 funct3=3                   : rs2 imm rs1
addi      I  opcode=0x13 funct3=0                   : =rd rs1 imm
mv        I  opcode=0x13 funct3=0 imm=0             : =rd rs1
sltiu     I  opcode=0x13 funct3=3                   : =rd rs1 imm
slli      SH opcode=0x13 funct3=1 funct6=0          : =rd rs1 shamt
srai      SH opcode=0x13 funct3=5 funct6=16         : =rd rs1 shamt
addiw     I  opcode=0x1b funct3=0                   : =rd rs1 imm
add       R  opcode=0x33 funct3=0 funct7=0          : =rd rs1 rs2
sub       R  opcode=0x33 funct3=0 funct7=0x20       : =rd rs1 rs2
slt       R  opcode=0x33 funct3=2 funct7=0          : =rd rs1 rs2
sltu      R  opcode=0x33 funct3=3 funct7=0          : =rd rs1 rs2
xor       R  opcode=0x33 funct3=4 funct7=0          : =rd rs1 rs2
or        R  opcode=0x33 funct3=6 funct7=0          : =rd rs1 rs2
and       R  opcode=0x33 funct3=7 funct7=0          : =rd rs1 rs2
mul       R  opcode=0x33 funct3=0 funct7=1          : =rd rs1 rs2
mulhu     R  opcode=0x33 funct3=3 funct7=1          : =rd rs1 rs2
addw      R  opcode=0x3b funct3=0 funct7=0          : =rd rs1 rs2
mulw      R  opcode=0x3b funct3=0 funct7=1          : =rd rs1 rs2
divuw     R  opcode=0x3b funct3=5 funct7=1          : =rd rs1 rs2
remuw     R  opcode=0x3b funct3=7 funct7=1          : =rd rs1 rs2
sllw      R  opcode=0x3b funct3=1 funct7=0          : =rd rs1 rs2
srlw      R  opcode=0x3b funct3=5 funct7=0          : =rd rs1 rs2
sraw      R  opcode=0x3b funct3=5 funct7=0x20       : =rd rs1 rs2
fence     I  opcode=0x0f funct3=0 rd=0 rs1=0        : imm
fence.i   I  opcode=0x0f funct3=1 rd=0 rs1=0 imm=0  :
ecall     I  opcode=0x73 funct3=0 rd=0 rs1=0 imm=0  :
amoadd.w  R  opcode=0x2f funct3=2 funct7=0x00       : =rd rs2 rs1
amomin.w  R  opcode=0x2f funct3=2 funct7=0x40       : =rd rs2 rs1
amomax.w  R  opcode=0x2f funct3=2 funct7=0x50       : =rd rs2 rs1
amominu.w R  opcode=0x2f funct3=2 funct7=0x60       : =rd rs2 rs1
amomaxu.w R  opcode=0x2f funct3=2 funct7=0x70       : =rd rs2 rs1
fadd.s    R  opcode=0x53 funct3=0 funct7=0x00       : =rd:f rs1:f rs2:f
fmul.s    R  opcode=0x53 funct3=0 funct7=0x08       : =rd:f rs1:f rs2:f
fdiv.s    R  opcode=0x53 funct3=0 funct7=0x0c       : =rd:f rs1:f rs2:f
fsqrt.s   R  opcode=0x53 funct3=0 funct7=0x2c rs2=0 : =rd:f rs1:f
fmin.s    R  opcode=0x53 funct3=0 funct7=0x14       : =rd:f rs1:f rs2:f
fmax.s    R  opcode=0x53 funct3=1 funct7=0x14       : =rd:f rs1:f rs2:f
flt.s     R  opcode=0x53 funct3=1 funct7=0x50       : =rd rs1:f rs2:f
feq.s     R  opcode=0x53 funct3=2 funct7=0x50       : =rd rs1:f rs2:f
fsgnj.s   R  opcode=0x53 funct3=0 funct7=0x10       : =rd:f rs1:f rs2:f
fsgnjx.s  R  opcode=0x53 funct3=2 funct7=0x10       : =rd:f rs1:f rs2:f
fcvt.w.s  R  opcode=0x53 funct3=1 funct7=0x60 rs2=0 : =rd rs1:f
fcvt.wu.s R  opcode=0x53 funct3=1 funct7=0x60 rs2=1 : =rd rs1:f
fcvt.s.w  R  opcode=0x53 funct3=0 funct7=0x68 rs2=0 : =rd:f rs1
fcvt.s.wu R  opcode=0x53 funct3=0 funct7=0x68 rs2=1 : =rd:f rs1
fmv.x.w   R  opcode=0x53 funct3=0 funct7=0x70 rs2=0 : =rd rs1:f
fmv.w.x   R  opcode=0x53 funct3=0 funct7=0x78 rs2=0 : =rd:f rs1
fmadd.s   R4 opcode=0x43 funct3=0 fmt=0             : =rd:f rs1:f rs2:f rs3:f
"""

# Rounding modes are static in the scalar rows: 0 is to nearest even, 1 (in fcvt.w.s and fcvt.wu.s) toward zero.
_VECTOR = """
vsetvli     VSET opcode=0x57 funct3=7 zero=0 : =rd rs1 vtype
vle32.v     VMEM opcode=0x07 nf=0 mew=0 mop=0 vm=1 vs2=0 width=6 : =vd rs1
vle32.v.t   VMEM opcode=0x07 nf=0 mew=0 mop=0 vm=0 vs2=0 width=6 : +vd rs1
vluxei32.v   VMEM opcode=0x07 nf=0 mew=0 mop=1 vm=1 width=6 : =vd rs1 vs2
vluxei32.v.t VMEM opcode=0x07 nf=0 mew=0 mop=1 vm=0 width=6 : +vd rs1 vs2
vse32.v     VMEM opcode=0x27 nf=0 mew=0 mop=0 vm=1 vs2=0 width=6 : vd rs1
vse32.v.t   VMEM opcode=0x27 nf=0 mew=0 mop=0 vm=0 vs2=0 width=6 : vd rs1
vsuxei32.v   VMEM opcode=0x27 nf=0 mew=0 mop=1 vm=1 width=6 : vd rs1 vs2
vsuxei32.v.t VMEM opcode=0x27 nf=0 mew=0 mop=1 vm=0 width=6 : vd rs1 vs2
vl2re32.v   VMEM opcode=0x07 nf=1 mew=0 mop=0 vm=1 vs2=8 width=6 : =vd rs1
vs2r.v      VMEM opcode=0x27 nf=1 mew=0 mop=0 vm=1 vs2=8 width=0 : vd rs1
vmv.v.v     VV opcode=0x57 funct3=0 funct6=0x17 vm=1 vs2=0 : =vd vs1
vmv.v.x     VX opcode=0x57 funct3=4 funct6=0x17 vm=1 vs2=0 : =vd rs1
vmv.v.i     VI opcode=0x57 funct3=3 funct6=0x17 vm=1 vs2=0 : =vd imm
vmerge.vvm  VV opcode=0x57 funct3=0 funct6=0x17 vm=0 : =vd vs2 vs1
vmerge.vxm  VX opcode=0x57 funct3=4 funct6=0x17 vm=0 : =vd vs2 rs1
vmerge.vim  VI opcode=0x57 funct3=3 funct6=0x17 vm=0 : =vd vs2 imm
vmv1r.v     VI opcode=0x57 funct3=3 funct6=0x27 vm=1 imm=0 : =vd vs2
vfirst.m    VR opcode=0x57 funct3=2 funct6=0x10 vm=1 vs1=17 : =rd vs2
vid.v       VV opcode=0x57 funct3=2 funct6=0x14 vm=1 vs2=0 vs1=17 : =vd
vfsqrt.v    VV opcode=0x57 funct3=1 funct6=0x13 vm=1 vs1=0 : =vd vs2
vfmacc.vv   VV opcode=0x57 funct3=1 funct6=0x2c vm=1 : +vd vs1 vs2
vfmacc.vf   VX opcode=0x57 funct3=5 funct6=0x2c vm=1 : +vd rs1:f vs2
vfcvt.f.xu.v       VV opcode=0x57 funct3=1 funct6=0x12 vm=1 vs1=2 : =vd vs2
vfcvt.f.x.v        VV opcode=0x57 funct3=1 funct6=0x12 vm=1 vs1=3 : =vd vs2
vfcvt.f.x.v.t      VV opcode=0x57 funct3=1 funct6=0x12 vm=0 vs1=3 : +vd vs2
vfcvt.rtz.xu.f.v.t VV opcode=0x57 funct3=1 funct6=0x12 vm=0 vs1=6 : +vd vs2
vfcvt.rtz.x.f.v.t  VV opcode=0x57 funct3=1 funct6=0x12 vm=0 vs1=7 : +vd vs2
"""

# Name, funct6, and for which kinds of second operand there is an instruction.
_BINARY = """
vadd 0x00 vv vx vi
vmul 0x25 mvv mvx
vmulh 0x27 mvv mvx
vmulhu 0x24 mvv mvx
vdivu 0x20 mvv mvx
vremu 0x22 mvv mvx
vsll 0x25 vv vx vu
vsrl 0x28 vv vx vu
vsra 0x29 vv vx vu
vand 0x09 vv vx vi
vor 0x0a vv vx vi
vxor 0x0b vv vx vi
vminu 0x04 vv vx
vmin 0x05 vv vx
vmaxu 0x06 vv vx
vmax 0x07 vv vx
vmseq 0x18 vv vx vi
vmsne 0x19 vv vx vi
vmsltu 0x1a vv vx
vmslt 0x1b vv vx
vmsgtu 0x1e vx vi
vmsgt 0x1f vx vi
vmandn 0x18 mm
vmand 0x19 mm
vmor 0x1a mm
vmxor 0x1b mm
vmxnor 0x1f mm
vfadd 0x00 fvv fvf
vfmul 0x24 fvv fvf
vfrdiv 0x21 fvf
vfmin 0x04 fvv fvf
vfmax 0x06 fvv fvf
vfsgnj 0x08 fvv
vfsgnjx 0x0a fvv
vmfeq 0x18 fvv fvf
vmflt 0x1b fvv fvf
vmfgt 0x1d fvf
"""
_SUFFIXES = {
    # in _BINARY: in assembler, format, funct3, second operand
    "vv": ("vv", "VV", 0, "vs1"),
    "fvv": ("vv", "VV", 1, "vs1"),
    "mvv": ("vv", "VV", 2, "vs1"),
    "mm": ("mm", "VV", 2, "vs1"),
    "vi": ("vi", "VI", 3, "imm"),
    "vu": ("vi", "VU", 3, "uimm"),
    "vx": ("vx", "VX", 4, "rs1"),
    "fvf": ("vf", "VX", 5, "rs1:f"),
    "mvx": ("vx", "VX", 6, "rs1"),
}


def _binary_rows() -> Iterator[str]:
    for row in _BINARY.strip().splitlines():
        name, funct6, *kinds = row.split()
        for suffix, layout, funct3, second in (_SUFFIXES[kind] for kind in kinds):
            fixed = f"opcode=0x57 funct3={funct3} funct6={funct6} vm=1"
            yield f"{name}.{suffix} {layout} {fixed} : =vd vs2 {second}"


_PREFIXES = {"rd": "x", "rs1": "x", "rs2": "x", "rs3": "x", "vd": "v", "vs1": "v", "vs2": "v"}
ENCODER = Encoder(FORMATS, _SCALAR + _VECTOR + "\n".join(_binary_rows()), _PREFIXES)

# --- the convention of kernels: which registers mean what -----------------------------------------------------------

ZERO, RA, SCRATCH, SPILLS, ARGUMENTS, VECTOR_SPILLS, TEMPORARY = 0, 1, 2, 3, 4, 5, 31
"""x registers: sp is the scratch memory, gp and t0 the spill slots in it, tp the arguments, t6 any line's own."""
VTYPE = 0b0_1_010_001
"""What vsetvli sets: vector masks undisturbed, tails agnostic, elements of 32 bits (e32), two registers each (m2)."""
MAX_VLEN = 1024
VECTOR_SLOT = 2 * MAX_VLEN // 8
"""Bytes of a spill slot of vectors."""


def constant(register: int | Virtual, value: int) -> list[Line]:
    """Return the lines that load a signed 32-bit constant."""
    high = (value + 0x800 >> 12 << 12) + (1 << 31) & (1 << 32) - 1
    low = (value + 0x800 & 0xFFF) - 0x800
    if -0x800 <= value < 0x800:
        return [Line("addi", (register, ZERO, value))]
    lines = [Line("lui", (register, high - (1 << 31)))]
    return [*lines, Line("addiw", (register, register, low))] if low else lines


def _slot(kind: str, slot: int) -> tuple[list[Line], int, int]:
    """Return the lines that make ready for a spill slot, its base register, and its offset from there."""
    if kind == "x" and slot < 256:
        return [], SPILLS, 8 * slot
    base, size = {"x": (SPILLS, 8), "v": (VECTOR_SPILLS, VECTOR_SLOT)}[kind]
    return [*constant(TEMPORARY, slot * size), Line("add", (TEMPORARY, TEMPORARY, base))], TEMPORARY, 0


def _reload(kind: str, register: int, slot: int) -> list[Line]:
    lines, base, offset = _slot(kind, slot)
    return [*lines, Line("ld", (register, offset, base)) if kind == "x" else Line("vl2re32.v", (register, base))]


def _spill(kind: str, register: int, slot: int) -> list[Line]:
    lines, base, offset = _slot(kind, slot)
    return [*lines, Line("sd", (register, offset, base)) if kind == "x" else Line("vs2r.v", (register, base))]


MACHINE = Machine(
    registers={"x": range(6, 31), "v": range(2, 32, 2)},
    operands=ENCODER.operands,
    reload=_reload,
    spill=_spill,
    copies=frozenset({"mv", "vmv.v.v", "vmv1r.v"}),
)
