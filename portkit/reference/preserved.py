"""Which registers and memories hold only bits that were moved, never computed.

Load, store, select and bit casts preserve the bits of a NaN; arithmetic makes NaNs of free payload and sign. So the
bits of a NaN are known in a register only if no arithmetic result can reach it. Spec: numeric_c6.
"""

from __future__ import annotations

from portkit.spec.kernel import Instr, Kernel

_MOVES = ("mov.const", "mov.splat", "mov.lane", "mov.pack")


def preserved(kernel: Kernel) -> tuple[frozenset[str], frozenset[str]]:
    """Return the registers and the memories whose floats are moved only; integers count as moved.

    Everything is assumed to be, until an instruction says otherwise: the greatest fixed point.
    """
    registers, memories = set(kernel.types), set(kernel.memories)
    before = -1
    while before != len(registers) + len(memories):
        before = len(registers) + len(memories)
        for instr in kernel.body:
            registers.difference_update(name for name, value in instr.carries if value not in registers)
            if instr.result and not _is_moved(kernel, instr, registers, memories):
                registers.discard(instr.result)
            if instr.form.effect == "write" and not (instr.args[1] in registers and ".atomic." not in instr.name):
                memories.discard(instr.mems[0])
            if instr.name == "load.async" and instr.mems[1] not in memories:
                memories.discard(instr.mems[0])
    return frozenset(registers), frozenset(memories)


def _is_moved(kernel: Kernel, instr: Instr, registers: set[str], memories: set[str]) -> bool:
    """Whether the result holds only moved bits."""
    assert instr.type is not None
    if not instr.type.dtype.is_float:
        return True
    if instr.name.startswith("load"):
        return instr.mems[0] in memories and (not instr.other or instr.other in registers)
    if instr.name in ("phi.lt", "phi.eq"):
        return registers.issuperset(instr.args[2:])
    if instr.name in (*_MOVES, "mov.bits", "phi.carry"):
        return registers.issuperset(instr.args)
    return False
