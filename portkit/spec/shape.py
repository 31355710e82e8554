"""Whether an instruction has the parts that its form's signature names, no more and no less (Spec: form_c1)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache

from portkit.errors import SpecError
from portkit.spec.forms import Form, Role, form
from portkit.spec.kernel import Buffer, Instr, Shared
from portkit.spec.types import MAX_LANES


@dataclass(frozen=True, slots=True)
class Shape:
    """How many parts of each sort a form has; a count is a register or a literal."""

    registers: range
    memories: int
    literals: int
    count: bool
    gate: bool
    other: bool
    carries: bool
    result: bool


@cache
def shape(name: str) -> Shape:
    """Return the shape of the form called `name`; raises `SpecError` (form_c1) for an unknown one."""
    found = form(name)
    roles = Counter(operand.role for operand in found.operands)
    fixed = roles[Role.REGISTER]
    registers = range(2, MAX_LANES + 1) if roles[Role.REGISTERS] else range(fixed, fixed + 1)
    return Shape(
        registers=registers,
        memories=roles[Role.MEMORY],
        literals=roles[Role.INTEGER] + roles[Role.VALUE],
        count=bool(roles[Role.COUNT]),
        gate=found.gated,
        other=bool(roles[Role.GATE_ELSE]),
        carries=bool(roles[Role.CARRIES]),
        result=bool(found.result),
    )


def misfit(instr: Instr) -> str:
    """Return what is wrong with the parts of an instruction of a known form, an empty string if nothing is."""
    expected = shape(instr.name)
    args, imms = len(instr.args), len(instr.imms)
    if expected.count:
        wrong = "takes one count, a register or a literal" if args + imms != 1 else ""
    elif args not in expected.registers:
        least, most = expected.registers[0], expected.registers[-1]
        wrong = f"takes {least if least == most else f'{least} to {most}'} registers, got {args}"
    else:
        wrong = f"takes {expected.literals} literals, got {imms}" if imms != expected.literals else ""
    return wrong or _misfit_rest(instr, expected)


def _misfit_rest(instr: Instr, expected: Shape) -> str:
    faults = (
        (len(instr.mems) != expected.memories, f"takes {expected.memories} memories, got {len(instr.mems)}"),
        (bool(instr.gate) and not expected.gate, "takes no gate"),
        (bool(instr.other) != (bool(instr.gate) and expected.other), "takes a gate with an else value, or neither"),
        (bool(instr.carries) and not expected.carries, "gives no carries their next values"),
        (bool(instr.result) != expected.result, "needs a result" if expected.result else "has no result"),
        ((instr.type is not None) != expected.result, "needs a result type" if expected.result else "has no type"),
    )
    return next((message for found, message in faults if found), "")


def check_shape(instr: Instr) -> None:
    """Raise `SpecError` (form_c1) where an instruction does not have the parts that its signature names."""
    wrong = misfit(instr)
    if wrong:
        raise SpecError(f"{instr.name} {wrong}", clause="form_c1")


def check_spaces(found: Form, memories: list[Buffer | Shared]) -> None:
    """Raise `SpecError` (name_c2) where a signature asks for a buffer or a shared array and gets the other."""
    places = [operand.name for operand in found.operands if operand.role is Role.MEMORY]
    for place, memory in zip(places, memories, strict=True):
        space = "global" if isinstance(memory, Buffer) else "shared"
        if place in ("global", "shared") and place != space:
            kind = "a buffer" if place == "global" else "a shared array"
            raise SpecError(f"{memory.name} is {space}, {found.name} takes {kind} here", clause="name_c2")
