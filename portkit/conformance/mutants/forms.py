"""Faults of single forms, from what a fault computes in place of the right result.

A `Wrong` gets an instruction and the emitter, emits what the faulty device would compute, and returns its register.
`FormFault` makes a kernel rewriting of it, for one form and as narrow as wanted: a dtype, a source, a lane count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from portkit.conformance.rewriting import Emitter, rewrite
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import BOOL, DType, Type

Wrong = Callable[[Instr, Emitter], str]
"""Emits a wrong result and returns its register; "" where the fault leaves the instruction alone."""


@dataclass(frozen=True)
class FormFault:
    """A kernel rewriting: one form gives another result.

    `dtype` and `lanes` are those of the result (of the operand for folds and comparisons, whose name says so too),
    `source` the operand's dtype of a cast; "" and 0 stand for any.
    """

    form: str
    wrong: Wrong
    dtype: str = ""
    lanes: int = 0
    source: str = ""

    @property
    def summary(self) -> str:
        """What the fault does, in one line."""
        where = "/".join(p for p in (self.form, self.dtype, f"x{self.lanes}" if self.lanes else "") if p)
        return f"{where}: {(self.wrong.__doc__ or '').strip().splitlines()[0]}"

    def __call__(self, kernel: Kernel) -> Kernel:
        """Return the kernel with the fault; the kernel itself where the fault does not apply."""
        return rewrite(kernel, self._expand)

    def _expand(self, i: Instr, e: Emitter) -> bool:
        if i.name != self.form or i.type is None or not self._meant(i, e):
            return False
        value = self.wrong(i, e)
        if value:
            finish(i, e, value)
        return bool(value)

    def _meant(self, i: Instr, e: Emitter) -> bool:
        assert i.type is not None
        subject = e.types[i.args[0]] if i.name in _BY_OPERAND or i.name.startswith("reduce.vec.") else i.type
        fits = self.dtype in ("", subject.dtype.name) and self.lanes in (0, subject.lanes)
        return fits and (not self.source or e.types[i.args[0]].dtype.name == self.source)


_BY_OPERAND = frozenset({"phi.lt", "phi.eq", "mov.lane"})


def finish(i: Instr, e: Emitter, value: str) -> None:
    """Name a value as the result of an instruction."""
    if e.types[value].dtype is BOOL:
        e.op("reduce.or", value, value, result=i.result)
    else:
        e.op("mov.bits", value, type=i.type, result=i.result)


def again(i: Instr, e: Emitter, *args: str) -> str:
    """Emit the instruction itself, on other operands if they are given; returns its register."""
    assert i.type is not None
    name = e.fresh()
    e.out.append(replace(i, result=name, args=args or i.args))
    e.types[name] = i.type
    return name


# --- parts of numbers ---------------------------------------------------------------------------------------------


def raw(e: Emitter, x: str) -> str:
    """Return the bits of a number as unsigned integers."""
    return e.view(x, f"u{e.types[x].dtype.bits}")


def masked(e: Emitter, x: str, mask: int) -> str:
    """Return a number with only some of its bits."""
    bits = raw(e, x)
    return e.view(e.op("reduce.and", bits, e.bits(e.types[bits], mask)), e.types[x].dtype.name)


def stepped(e: Emitter, x: str, step: int) -> str:
    """Return a float moved by units in the last place, away from zero if positive."""
    bits = raw(e, x)
    dtype = e.types[bits].dtype
    return e.view(e.op("add", bits, e.bits(e.types[bits], step & dtype.max_int)), e.types[x].dtype.name)


def absolute(e: Emitter, x: str) -> str:
    """Return a float without its sign."""
    return masked(e, x, (1 << (e.types[x].dtype.bits - 1)) - 1)


def flushed(e: Emitter, x: str) -> str:
    """Return a float, a zero of its sign where it is subnormal."""
    type_ = e.types[x]
    least = e.const(type_, 2.0**type_.dtype.emin)
    return e.op("phi.lt", absolute(e, x), least, masked(e, x, 1 << (type_.dtype.bits - 1)), x)


def lane(e: Emitter, vector: str, k: int) -> str:
    """Return one lane of a vector."""
    name, type_ = e.fresh(), e.types[vector].scalar
    e.out.append(Instr("mov.lane", result=name, type=type_, args=(vector,), imms=(k,)))
    e.types[name] = type_
    return name


def lanes(e: Emitter, vector: str) -> list[str]:
    """Return the lanes of a vector."""
    return [lane(e, vector, k) for k in range(e.types[vector].lanes)]


def signless(dtype: DType) -> str:
    """Return the integer dtype of the same width and the other signedness."""
    return ("u" if dtype.is_signed else "i") + dtype.name[1:]


def truth(e: Emitter, like: str, *, value: bool) -> str:
    """Return true or false in as many lanes as a register has."""
    return e.const(Type(BOOL, e.types[like].lanes), value)


# --- results computed in another way ------------------------------------------------------------------------------


def neighbour(name: str) -> Wrong:
    """Make the fault of taking the next row of a table of instructions."""

    def wrong(i: Instr, e: Emitter) -> str:
        return again(replace(i, name=name), e)

    wrong.__doc__ = f"Compute {name}."
    return wrong


def reordered(*order: int) -> Wrong:
    """Make the fault of passing operands in another order."""

    def wrong(i: Instr, e: Emitter) -> str:
        return again(i, e, *(i.args[k] for k in order))

    wrong.__doc__ = f"Take the operands in the order {' '.join(map(str, order))}."
    return wrong


def computed_in(dtype: str) -> Wrong:
    """Make the fault of computing in another dtype and converting the result back."""

    def wrong(i: Instr, e: Emitter) -> str:
        assert i.type is not None
        result = e.op(i.name, *(e.cast(a, dtype) for a in i.args))
        return e.cast(result, i.type.dtype.name)

    wrong.__doc__ = f"Compute in {dtype}."
    return wrong


def rounded_to(dtype: str) -> Wrong:
    """Make the fault of keeping a result in a narrower dtype."""

    def wrong(i: Instr, e: Emitter) -> str:
        assert i.type is not None
        return e.cast(e.cast(again(i, e), dtype), i.type.dtype.name)

    wrong.__doc__ = f"Round the result to {dtype}."
    return wrong


def short_operands(bits: int) -> Wrong:
    """Make the fault of a unit that drops the last bits of its operands."""

    def wrong(i: Instr, e: Emitter) -> str:
        width = e.types[i.args[0]].dtype.bits
        return again(i, e, *(masked(e, a, (1 << width) - (1 << bits)) for a in i.args))

    wrong.__doc__ = f"Drop the last {bits} bits of each operand."
    return wrong


def viewed_otherwise(i: Instr, e: Emitter) -> str:
    """Take signed operands for unsigned ones, or the reverse."""
    assert i.type is not None
    subject = e.types[i.args[0]].dtype
    result = e.op(i.name, *(e.view(a, signless(subject)) for a in i.args))
    return e.view(result, i.type.dtype.name)


def last_lane_is_its_neighbour(i: Instr, e: Emitter) -> str:
    """Give the last lane of a vector what the one before it holds."""
    result = again(i, e)
    parts = lanes(e, result)
    return e.op("mov.pack", *parts[:-1], parts[-2]) if len(parts) > 1 else ""
