"""Rewriting kernels: replace instructions by sequences that end in the same result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from portkit.spec.forms import form
from portkit.spec.infer import infer
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import BOOL, DTYPES, Type, encode


class Emitter:
    """Collects the instructions that stand in for one instruction of a kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.types = dict(kernel.types)
        self.memories = kernel.memories
        self.out: list[Instr] = []

    def op(self, name: str, *args: str, type: Type | None = None, result: str = "") -> str:
        """Append a form without memory operands; returns the name of its result."""
        inferred = infer(form(name), [self.types[a] for a in args], (), type)
        target = result or self.fresh()
        self.out.append(Instr(name, result=target, type=inferred, args=args))
        if inferred is not None:
            self.types[target] = inferred
        return target

    def fresh(self) -> str:
        number = len(self.types)
        while f"m{number}" in self.types:
            number += 1
        return f"m{number}"

    def const(self, type_: Type, value: float) -> str:
        """Return a constant in every lane of a type."""
        return self.bits(type_, encode(type_.dtype, value))

    def bits(self, type_: Type, bits: int) -> str:
        """Return a constant, given as its bit pattern, in every lane of a type."""
        name = self.fresh()
        self.out.append(Instr("mov.const", result=name, type=type_.scalar, imms=(bits,)))
        self.types[name] = type_.scalar
        return name if type_.lanes == 1 else self.op("mov.splat", name, type=type_)

    def cast(self, x: str, dtype: str) -> str:
        return self.op("mov.cast", x, type=self.types[x].with_dtype(DTYPES[dtype]))

    def view(self, x: str, dtype: str) -> str:
        """Return the bits of `x` as another dtype of the same width."""
        return self.op("mov.bits", x, type=self.types[x].with_dtype(DTYPES[dtype]))

    def truth(self, lanes: int, *, value: bool) -> str:
        return self.const(Type(BOOL, lanes), value)


Expand = Callable[[Instr, Emitter], bool]
"""Appends the stand-in of an instruction to the emitter and returns True, or returns False to leave it as it is."""


def rewrite(kernel: Kernel, expand: Expand) -> Kernel:
    """Return the kernel with every instruction that `expand` takes replaced; the same object if it takes none."""
    emitter = Emitter(kernel)
    changed = False
    for instr in kernel.body:
        start = len(emitter.out)
        if expand(instr, emitter):
            changed = True
        else:
            del emitter.out[start:]
            emitter.out.append(instr)
    return replace(kernel, body=tuple(emitter.out)) if changed else kernel
