"""What single forms ask for beyond their operand types, as a table from form to rules; each rule cites its clause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from math import prod

from portkit.errors import SpecError
from portkit.spec.forms import Form, Role, form
from portkit.spec.geometry import HOST_OPS, MAX_GROUPS, host_value
from portkit.spec.kernel import Buffer, Instr, Kernel, Shared
from portkit.spec.types import I32, Kind, Type

ALIGNMENT = 64
"""Bytes: where buffers and shared arrays start, so the most that an access can declare (Spec: header_c7)."""

_STRICT_MATH = ("trunc", "recip", "sqrt")


@dataclass(slots=True)
class Facts:
    """What is known at an instruction: visible types, memories, constants, and whether every lane gets here."""

    kernel: Kernel
    memories: dict[str, Buffer | Shared]
    types: dict[str, Type]
    constants: dict[str, int] = field(default_factory=dict[str, int])
    """Registers that hold the same known integer always."""
    host: set[str] = field(default_factory=set[str])
    """Registers that the host can compute before the launch."""
    grid: int = 1
    """The product of the grid counts known so far."""
    reached: bool = True
    """False inside a loop that may run zero times."""
    usage: dict[str, str] = field(default_factory=dict[str, str])
    """By memory: the atomic form that it is used by, empty for other uses."""

    def learn(self, instr: Instr) -> None:
        """Note whether a result is a constant, or computable by the host (Spec: nest_c3)."""
        if instr.type is None or instr.type.lanes > 1 or instr.type.dtype.is_float:
            return
        if instr.name == "mov.const" or (instr.name in HOST_OPS and all(a in self.host for a in instr.args)):
            self.host.add(instr.result)
            value = host_value(instr, self.constants)
            if value is not None:
                self.constants[instr.result] = value

    def always(self, instr: Instr) -> bool:
        """Return whether the access of an instruction happens in every launch of at least one group."""
        return self.reached and (not instr.gate or self.constants.get(instr.gate) == 1)


Rule = Callable[[Instr, Facts], None]


def _constant_fits(instr: Instr, facts: Facts) -> None:
    assert instr.type is not None
    dtype = instr.type.dtype
    width = 1 if dtype.kind is Kind.BOOL else dtype.bits
    if not 0 <= instr.imms[0] < 1 << width:
        raise SpecError(f"{instr.imms[0]:#x} is no bit pattern of {dtype}", clause="const_c1")


def _literals_are_i32(instr: Instr, facts: Facts) -> None:
    for value in instr.imms:
        if not I32.min_int <= value <= I32.max_int:
            raise SpecError(f"the literal {value} does not fit i32", clause="const_c1")


def _lane_is_inside(instr: Instr, facts: Facts) -> None:
    lanes = facts.types[instr.args[0]].lanes
    if not 0 <= instr.imms[0] < lanes:
        raise SpecError(f"lane {instr.imms[0]} is outside 0..{lanes - 1}", clause="vec_c2")


def _lane_count_is_literal(instr: Instr, facts: Facts) -> None:
    if not instr.imms or instr.imms[0] < 1:
        raise SpecError("a lane count is a positive literal", clause="nest_c4")


def _grid_count_is_host_computable(instr: Instr, facts: Facts) -> None:
    if instr.args and instr.args[0] not in facts.host:
        message = f"the grid count {instr.args[0]} is not a pure integer function of scalars and constants"
        raise SpecError(message, clause="nest_c3")
    count = instr.imms[0] if instr.imms else facts.constants.get(instr.args[0], 1)
    facts.grid *= max(0, count)
    if facts.grid > MAX_GROUPS:
        raise SpecError(f"{facts.grid} work-groups are more than 2^31-1", clause="nest_c3")


def _alignment_is_possible(instr: Instr, facts: Facts) -> None:
    align, size = instr.imms[0], facts.memories[instr.mems[0]].dtype.bytes
    if not size <= align <= ALIGNMENT or align & (align - 1):
        raise SpecError(f"alignment {align} is not a power of two from {size} to {ALIGNMENT}", clause="load_c3")
    index = facts.constants.get(instr.args[0])
    if index is not None and index * size % align and facts.always(instr):
        raise SpecError(f"index {index} stands at byte {index * size}, not aligned to {align}", clause="valid_c7")


def _copy_has_elements(instr: Instr, facts: Facts) -> None:
    if instr.imms[0] < 1:
        raise SpecError("a copy has at least one element", clause="async_c1")


def _access_is_declared(instr: Instr, facts: Facts) -> None:
    for name in instr.mems:
        memory = facts.memories[name]
        if isinstance(memory, Buffer) and memory.access in _forbidden_access(instr.name):
            raise SpecError(f"buffer {name} is declared {memory.access}", clause="load_c5")


@cache
def _forbidden_access(name: str) -> tuple[str, ...]:
    found = form(name)
    if found.extension == "atomic":
        return ("read", "write")
    return ("read",) if found.effect == "write" else ("write",)


def _atomics_stand_alone(instr: Instr, facts: Facts) -> None:
    use = instr.name if instr.form.extension == "atomic" else ""
    for name in instr.mems:
        before = facts.usage.setdefault(name, use)
        if before != use:
            message = f"buffer {name} is used by {before or use} and otherwise too"
            raise SpecError(message, clause="atomic_c1")


def _constant_index_is_inside(instr: Instr, facts: Facts) -> None:
    if not facts.always(instr):
        return
    for memory, index, elements in _accesses(instr, facts):
        extent = _literal_extent(memory)
        at = facts.constants.get(index)
        if at is None and extent is not None and elements > extent:
            raise SpecError(f"{elements} elements are more than the {extent} of {memory.name}", clause="valid_c3")
        if at is not None and (at < 0 or (extent is not None and at + elements > extent)):
            what = f"index {at}" if elements == 1 else f"index {at} to {at + elements - 1}"
            raise SpecError(f"{what} is outside {memory.name}[{extent or ''}]", clause="valid_c3")


def _accesses(instr: Instr, facts: Facts) -> list[tuple[Buffer | Shared, str, int]]:
    """Return memory, index register and consecutive elements of each access with a scalar index."""
    memories = [facts.memories[name] for name in instr.mems]
    if instr.name == "load.async":
        return [(memory, index, instr.imms[0]) for memory, index in zip(memories, instr.args, strict=True)]
    if facts.types[instr.args[0]].lanes > 1:
        return []
    value = instr.type or facts.types[instr.args[-1]]
    return [(memories[0], instr.args[0], value.lanes)]


def _literal_extent(memory: Buffer | Shared) -> int | None:
    if isinstance(memory, Shared):
        return memory.extent
    literals = [factor for factor in memory.extent.factors if isinstance(factor, int)]
    return prod(literals) if len(literals) == len(memory.extent.factors) else None


def _strict_admits_math(instr: Instr, facts: Facts) -> None:
    if facts.kernel.strict and instr.form.kind not in _STRICT_MATH:
        raise SpecError(f"numeric strict admits no {instr.name}", clause="numeric_c3")


def _strict_admits_atomic(instr: Instr, facts: Facts) -> None:
    if facts.kernel.strict and facts.memories[instr.mems[0]].dtype.is_float:
        raise SpecError("numeric strict admits no float atomics", clause="numeric_c3")


def _form_is_in_use(instr: Instr, facts: Facts) -> None:
    raise SpecError(f"{instr.name} is specified, but not in use in this version", clause="ext_c2")


_BY_NAME: dict[str, tuple[Rule, ...]] = {
    "mov.const": (_constant_fits,),
    "mov.lane": (_lane_is_inside,),
    "loop.grid": (_grid_count_is_host_computable,),
    "loop.lane": (_lane_count_is_literal,),
    "load.vec": (_alignment_is_possible,),
    "store.vec": (_alignment_is_possible,),
    "load.async": (_copy_has_elements,),
}
_BY_EXTENSION: dict[str, tuple[Rule, ...]] = {
    "math": (_strict_admits_math,),
    "atomic": (_strict_admits_atomic,),
}
_OF_MEMORY: tuple[Rule, ...] = (_access_is_declared, _atomics_stand_alone, _constant_index_is_inside)


@cache
def rules(name: str) -> tuple[Rule, ...]:
    """Return what is asked of an instruction of the form called `name`."""
    found = form(name)
    if found.specified_only:
        return (_form_is_in_use,)
    return (
        *((_literals_are_i32,) if _has_i32_literals(found) else ()),
        *_BY_NAME.get(name, ()),
        *_BY_EXTENSION.get(found.extension, ()),
        *(_OF_MEMORY if found.has_memory else ()),
    )


def _has_i32_literals(found: Form) -> bool:
    return any(operand.role in (Role.COUNT, Role.INTEGER) for operand in found.operands)
