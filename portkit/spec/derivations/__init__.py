"""The strict derivations: functions that are no form, written in base forms as kernels of one element a lane.

Each file `NAME.pk` is a kernel y[i] = f(x[i]), or f(x[i], y[i]), under `numeric strict`: no `fma`, no `math`, no `vec`.
Whoever expands a function by `inline` gets the same bits as everyone else, on every device that declares strict. f16
values stand in the low half of a u32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from portkit.errors import UsageError, near_names
from portkit.spec.builder import Builder, Reg
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.text import parse
from portkit.spec.types import Type

_FOLDER = resources.files("portkit.spec.derivations")


@dataclass(frozen=True, slots=True)
class Derivation:
    """What a derivation computes: pure instructions, constants first, from the operands to the result."""

    name: str
    operands: tuple[str, ...]
    types: tuple[Type, ...]
    body: tuple[Instr, ...]
    result: str


@cache
def names() -> tuple[str, ...]:
    """Return the names of all derivations, as in `exp_f32`."""
    return tuple(sorted(f.name.removesuffix(".pk") for f in _FOLDER.iterdir() if f.name.endswith(".pk")))


def text(name: str) -> str:
    """Return the text of a derivation's kernel; raises `UsageError` for a name that there is not."""
    if name not in names():
        raise UsageError(f"unknown derivation {name!r}{near_names(name, names())}")
    return _FOLDER.joinpath(f"{name}.pk").read_text(encoding="utf-8")


@cache
def derivation(name: str) -> Derivation:
    """Return a derivation without its kernel around it; raises `UsageError` for a name that there is not."""
    kernel = parse(text(name))
    loads = [instr for instr in kernel.body if instr.name == "load"]
    store = next(instr for instr in kernel.body if instr.name == "store")
    operands, result = tuple(load.result for load in loads), store.args[1]
    types = tuple(kernel.types[operand] for operand in operands)
    return Derivation(name, operands, types, _needed(kernel, result, operands), result)


def _needed(kernel: Kernel, result: str, operands: Sequence[str]) -> tuple[Instr, ...]:
    """Return the instructions that the result depends on, in order, short of the operands."""
    needed, kept = {result}, list[Instr]()
    for instr in reversed(kernel.body):
        if instr.result in needed and instr.result not in operands:
            needed.update(instr.reads)
            kept.append(instr)
    return tuple(reversed(kept))


def inline(b: Builder, name: str, args: Sequence[Reg]) -> Reg:
    """Append the instructions of a derivation to a kernel, for operands of any one lane count; return the result.

    Raises `UsageError` for a name that there is not, and for operands of other dtypes.
    """
    found = derivation(name)
    lanes = args[0].type.lanes if args else 1
    if [a.type for a in args] != [Type(t.dtype, lanes) for t in found.types]:
        given, wanted = (" ".join(map(str, types)) for types in ([a.type for a in args], found.types))
        raise UsageError(f"{name} takes {wanted}, got {given}; cast first, and splat to one lane count")
    registers = dict(zip(found.operands, args, strict=True))
    for instr in found.body:
        registers[instr.result] = _append(b, instr, registers, lanes)
    return registers[found.result]


def _append(b: Builder, instr: Instr, registers: dict[str, Reg], lanes: int) -> Reg:
    if instr.type is None:
        raise UsageError(f"{instr.name} has no result; a derivation is made of pure instructions")
    if instr.name == "mov.const":
        return b.splat(b.bits_const(instr.type.dtype.name, instr.imms[0]), lanes)
    written = Type(instr.type.dtype, lanes) if instr.name in ("mov.cast", "mov.bits") else None
    return b.op(instr.name, *(registers[name] for name in instr.args), imms=instr.imms, type=written)
