"""The generic reading of signatures: check the operand types of any form and give the type of its result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from portkit.errors import SpecError
from portkit.spec.forms import FORMS, Form, Role
from portkit.spec.types import BOOL, DTYPES, I32, MAX_LANES, TOKEN, DType, Type

_SAME_LANES = {"phi.lt": ("T", "U"), "phi.eq": ("T", "U"), "mov.cast": ("R", "S")}


@dataclass(slots=True)
class Binding:
    """The type variables of a form, bound so far."""

    form: Form
    types: dict[str, Type] = field(default_factory=dict[str, Type])

    def fail(self, message: str) -> SpecError:
        return SpecError(f"{self.form.name}: {message}", clause="type_c3")

    def require(self, pattern: str, actual: Type, what: str) -> None:
        expected = self.types.get(pattern) or self._fixed(pattern)
        if expected is None:
            self.bind(pattern, actual, what)
        elif actual != expected:
            raise self.fail(f"{what} is {actual}, expected {expected}")

    def bind(self, variable: str, actual: Type, what: str) -> None:
        allowed = self.form.dtypes(variable)
        if actual.dtype not in allowed:
            raise self.fail(f"{what} is {actual}, expected one of {' '.join(d.name for d in allowed)}")
        if actual.lanes > 1 and not self.form.lanes:
            raise self.fail(f"{what} is {actual}, expected a scalar")
        self.types[variable] = actual

    def _fixed(self, pattern: str) -> Type | None:
        if pattern in DTYPES:
            return Type(DTYPES[pattern])
        if pattern == "token":
            return Type(TOKEN)
        if pattern == "MxI":
            return Type(self.types["M"].dtype, self.types["I"].lanes)
        return None


def infer(form: Form, args: Sequence[Type], mems: Sequence[DType] = (), explicit: Type | None = None) -> Type | None:
    """Return the result type of a form applied to operand types, None where the form has no result.

    `args` are the register operands in text order (a `%count` register included), `mems` the element dtypes of the
    memory operands, `explicit` the written result type. Raises `SpecError` (type_c3, bits_c1) where they do not fit.
    """
    return _infer(form.name, tuple(args), tuple(mems), explicit)


@lru_cache(maxsize=1 << 14)
def _infer(name: str, args: tuple[Type, ...], mems: tuple[DType, ...], explicit: Type | None) -> Type | None:
    binding = bind(FORMS[name], args, mems, explicit)
    return _result(binding, len(args))


def bind(form: Form, args: Sequence[Type], mems: Sequence[DType], explicit: Type | None) -> Binding:
    """Return what the type variables of a form stand for; raises as `infer`."""
    binding = Binding(form)
    if any(o.role is Role.TYPE for o in form.operands):
        if explicit is None:
            raise binding.fail("the result type is missing")
        binding.bind("R", explicit, "the result")
    for dtype in mems:
        binding.require("M", Type(dtype), "the memory element")
    _match_registers(binding, list(args))
    _check_rules(binding)
    return binding


def _match_registers(binding: Binding, args: list[Type]) -> None:
    places = [o for o in binding.form.operands if o.role in (Role.REGISTER, Role.REGISTERS, Role.COUNT)]
    for place in places:
        if place.role is Role.REGISTERS:
            if not 2 <= len(args) <= MAX_LANES:
                raise binding.fail(f"takes 2 to {MAX_LANES} operands, got {len(args)}")
            for number, actual in enumerate(args):
                binding.require(place.pattern, actual, f"operand {number + 1}")
            return
        if place.role is Role.COUNT:
            _match_count(binding, args)
            continue
        if not args:
            raise binding.fail(f"operand {place.name} is missing")
        binding.require(place.pattern, args.pop(0), f"operand {place.name}")
    if args:
        raise binding.fail(f"{len(args)} operand(s) too many")


def _match_count(binding: Binding, args: list[Type]) -> None:
    if args and args.pop(0) != Type(I32):
        raise binding.fail("the count is not i32")


def _check_rules(binding: Binding) -> None:
    types, form = binding.types, binding.form
    pair = _SAME_LANES.get(form.name)
    if pair and types[pair[0]].lanes != types[pair[1]].lanes:
        raise binding.fail(f"lane counts differ: {types[pair[0]]} and {types[pair[1]]}")
    if form.name == "mov.bits" and types["R"].bits != types["S"].bits:
        raise SpecError(f"mov.bits: {types['S']} and {types['R']} differ in size", clause="bits_c1")
    if form.name == "mov.splat" and (
        types["S"].lanes > 1 or types["R"].dtype != types["S"].dtype or types["R"].lanes < 2
    ):
        raise binding.fail(f"splat takes a scalar to a vector of its dtype, got {types['S']} to {types['R']}")
    if form.vector and _vector_type(binding).lanes < 2:
        raise binding.fail("needs a vector")
    memory, value = types.get("M"), types.get("V") or (types.get("R") if form.has_memory else None)
    if memory and value and memory.dtype != value.dtype:
        raise binding.fail(f"memory holds {memory.dtype}, the value is {value}")


def _vector_type(binding: Binding) -> Type:
    return next(binding.types[v] for v in ("I", "V", "R", "T") if v in binding.types)


_RESULTS: dict[str, Callable[[dict[str, Type], int], Type | None]] = {
    "": lambda types, operands: None,
    "i32": lambda types, operands: Type(I32),
    "token": lambda types, operands: Type(TOKEN),
    "elem(T)": lambda types, operands: types["T"].scalar,
    "pack(T)": lambda types, operands: Type(types["T"].dtype, operands),
    "MxI": lambda types, operands: Type(types["M"].dtype, types["I"].lanes),
}


def _result(binding: Binding, operands: int) -> Type | None:
    pattern = binding.form.result
    return _RESULTS[pattern](binding.types, operands) if pattern in _RESULTS else binding.types[pattern]


def gate_type(form: Form, args: Sequence[Type], result: Type | None) -> Type:
    """Return the type that a gate must have: bool with the lanes of the value loaded or stored (Spec: load_c2)."""
    lanes = result.lanes if result is not None else args[-1].lanes
    return Type(BOOL, lanes if form.gated else 1)
