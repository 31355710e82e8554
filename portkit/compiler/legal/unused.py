"""What nothing reads, left out.

a = load x i              ->     a = load x i
b = mul a a                      store y i a
store y i a
"""

from __future__ import annotations

from dataclasses import replace

from portkit.spec.kernel import Instr, Kernel

_LOADS = ("load", "load.vec", "load.gather")


def drop_unused(kernel: Kernel) -> Kernel:
    """Return the kernel without pure instructions and loads whose results nothing reads; carries all count as read."""
    used, kept = set[str](), list[Instr]()
    for instr in reversed(kernel.body):
        if instr.result in used or not (instr.form.effect == "pure" or instr.name in _LOADS):
            used.update(instr.reads)
            used.update(carry for carry, _ in instr.carries)
            kept.append(instr)
    return replace(kernel, body=tuple(reversed(kept)))
