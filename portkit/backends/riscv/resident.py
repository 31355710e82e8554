"""The program that stays in the emulator: it reads what to do from a pipe, does it, and answers with a byte.

A command is four words: where to put what follows in the pipe, how many bytes that is, where to jump to then, and the
scratch memory. So a kernel is loaded (its code follows, the jump is to a return) and launched (its arguments follow) by
the same instructions. As the guest itself reads its code, and executes `fence.i`, code at a used address is safe.
"""

from __future__ import annotations

from portkit.backends.riscv.isa import ARGUMENTS, ENCODER, RA, SCRATCH, ZERO
from portkit.backends.toolkit.encoder import Label, Line, parse
from portkit.emulators.qemu import executable

DATA, CODE, _AREA = (place << 36 for place in (1, 2, 3))
"""Where the guest has buffers, kernels, and what it reads from the pipe."""
PAYLOAD = _AREA + 64
"""Where the arguments of a launch go."""
CODE_LOG2 = 28

_MAP = """
addi a0 zero {}; slli a0 a0 36; addi a1 zero 1; slli a1 a1 {}; addi a2 zero {}; addi a3 zero {}; addi a4 zero {}
addi a5 zero 0; addi a7 zero 222; ecall; blt a0 zero fail
"""
_LOOP = """
addi s0 zero 3; slli s0 s0 36
done;   addi a0 zero 1; mv a1 s0; addi a2 zero 1; addi a7 zero 64; ecall
        mv a1 s0; addi a2 zero 32; jal ra fill
        ld a1 0 s0; ld a2 8 s0; jal ra fill
        fence.i; ld args 0 s0; ld a0 16 s0; ld scratch 24 s0; jalr ra 0 a0
        addi s0 zero 3; slli s0 s0 36; jal zero done
read;   addi a0 zero 0; addi a7 zero 63; ecall; bge zero a0 fail; add a1 a1 a0; sub a2 a2 a0
fill;   bne a2 zero read
return; jalr zero 0 ra
fail;   addi a7 zero 93; ecall
"""
"""Linux's system calls: 63 reads, 64 writes, 93 exits, 222 maps. The shared file is mapped shared (flags 0x11)."""
_REGISTERS = {"zero": ZERO, "ra": RA, "scratch": SCRATCH, "args": ARGUMENTS, "s0": 8} | {
    f"a{n}": 10 + n for n in range(8)
}
_RISCV = 243


def resident(file: int, log2: int) -> tuple[bytes, int]:
    """Return a static ELF file whose buffers are an open file of 2^log2 bytes, and the address of a mere return."""
    labels = {name: Label(name) for name in ("done", "read", "fill", "return", "fail")}
    maps = ((1, log2, 3, 0x11, file), (2, CODE_LOG2, 7, 0x32, -1), (3, 20, 3, 0x32, -1))
    items = parse("".join(_MAP.format(*numbers) for numbers in maps) + _LOOP, _REGISTERS | labels)
    elf, start = executable(_RISCV, ENCODER.assemble(items))
    before = items[: items.index(labels["return"])]
    return elf, start + 4 * sum(isinstance(item, Line) for item in before)
