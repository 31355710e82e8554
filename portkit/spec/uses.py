"""What a kernel asks of a device: forms on dtypes and lane counts, extensions, memory and lanes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from portkit.spec.assemble import written_type
from portkit.spec.infer import bind
from portkit.spec.kernel import Kernel
from portkit.spec.types import TOKEN, Type

_SUBJECTS = ("T", "M", "R", "V")
"""The type variable that a form is counted under, the first that its signature has."""


def _dtype_name(type_: Type) -> str:
    return type_.dtype.name


_SOURCES: dict[str, Callable[[Type], str]] = {"mov.cast": _dtype_name, "mov.bits": str}
"""Conversions are counted under their operand too: a cast by its dtype, a reinterpretation by its whole type."""


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """A form on a dtype with a lane count; `dtype` and `source` are empty where the form has none."""

    form: str
    dtype: str = ""
    lanes: int = 1
    source: str = ""


@dataclass(frozen=True, slots=True)
class Uses:
    """Everything that a kernel needs of a device (Spec: ext_c1, limit_c1)."""

    forms: frozenset[Use]
    dtypes: frozenset[str]
    vectors: frozenset[int]
    """Lane counts above 1 of any register."""
    extensions: frozenset[str]
    strict: bool
    lanes: int
    shared_bytes: int
    buffers: int


def uses(kernel: Kernel) -> Uses:
    """Return what a verified kernel needs of a device."""
    types = kernel.types
    forms: dict[tuple[object, ...], Use] = {}
    for instr in kernel.body:
        args = tuple(types[name] for name in instr.args)
        mems = tuple(kernel.memories[name].dtype for name in instr.mems)
        key = (instr.name, args, mems, instr.type)
        if key not in forms:
            binding = bind(instr.form, args, mems, written_type(instr))
            forms[key] = use_of(instr.name, binding.types, instr.type)
    dtypes = {t.dtype for t in types.values()} | {m.dtype for m in kernel.memories.values()}
    return Uses(
        forms=frozenset(forms.values()),
        dtypes=frozenset(d.name for d in dtypes if d != TOKEN),
        vectors=frozenset(t.lanes for t in types.values() if t.lanes > 1),
        extensions=_extensions(kernel, types),
        strict=kernel.strict,
        lanes=kernel.lanes,
        shared_bytes=kernel.shared_bytes,
        buffers=len(kernel.buffers),
    )


def use_of(name: str, bound: dict[str, Type], result: Type | None) -> Use:
    """Return what one instruction counts as, from the types that its signature's variables are bound to."""
    subject = next((bound[v] for v in _SUBJECTS if v in bound), None)
    if subject is None:
        return Use(name)
    lanes = max(t.lanes for t in (*bound.values(), *((result,) if result else ())))
    source = _SOURCES[name](bound["S"]) if name in _SOURCES else ""
    return Use(name, subject.dtype.name, lanes, source)


def _extensions(kernel: Kernel, types: dict[str, Type]) -> frozenset[str]:
    named = {instr.form.extension for instr in kernel.body} - {""}
    return frozenset(named | ({"vec"} if any(t.lanes > 1 for t in types.values()) else set()))
