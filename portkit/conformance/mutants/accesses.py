"""Faults of loads, stores, copies and atomics: wrong addresses, gates, lengths."""

from __future__ import annotations

from dataclasses import dataclass, replace

from portkit.conformance.mutants.forms import lane, lanes, truth
from portkit.conformance.rewriting import Emitter, Expand, rewrite
from portkit.spec.kernel import Buffer, Instr, Kernel
from portkit.spec.types import BOOL, I32, Type


@dataclass(frozen=True)
class AccessFault:
    """A kernel rewriting: an access by one form to memory of a dtype ("" for any) goes wrong.

    `lanes` is the lane count of what is loaded or stored, 0 for any; `shared` tells the kinds of memory apart.
    """

    form: str
    wrong: Expand
    dtype: str = ""
    lanes: int = 0
    shared: bool | None = None

    @property
    def summary(self) -> str:
        """What the fault does, in one line."""
        where = "/".join(p for p in (self.form, self.dtype, f"x{self.lanes}" if self.lanes else "") if p)
        return f"{where}: {(self.wrong.__doc__ or '').strip().splitlines()[0]}"

    def __call__(self, kernel: Kernel) -> Kernel:
        """Return the kernel with the fault; the kernel itself where the fault does not apply."""
        return rewrite(kernel, self._expand)

    def _expand(self, i: Instr, e: Emitter) -> bool:
        return i.name == self.form and self._meant(i, e) and self.wrong(i, e)

    def _meant(self, i: Instr, e: Emitter) -> bool:
        memory = e.memories[i.mems[0]]
        type_ = i.type if i.name.startswith("load") else e.types[i.args[1]]
        return (
            self.dtype in ("", memory.dtype.name)
            and self.lanes in (0, 1 if type_ is None else type_.lanes)
            and self.shared in (None, not isinstance(memory, Buffer))
        )


def _indexed(i: Instr, e: Emitter, index: str) -> bool:
    e.out.append(replace(i, args=(index, *i.args[1:])))
    return True


def masked_index(mask: int) -> Expand:
    """Make the fault of an index register that is too narrow."""

    def wrong(i: Instr, e: Emitter) -> bool:
        index = i.args[0]
        return _indexed(i, e, e.op("reduce.and", index, e.bits(e.types[index], mask & 0xFFFFFFFF)))

    wrong.__doc__ = f"Keep the bits {mask:#x} of the index."
    return wrong


def rounded_down(i: Instr, e: Emitter) -> bool:
    """Clear the low bits of the index, as an aligned access would."""
    width = i.type.lanes if i.type is not None else e.types[i.args[1]].lanes
    mask = e.bits(Type(I32), ~(width - 1) & 0xFFFFFFFF)
    return width & (width - 1) == 0 and _indexed(i, e, e.op("reduce.and", i.args[0], mask))


def else_is_zero(i: Instr, e: Emitter) -> bool:
    """Give zero where the gate is closed."""
    if not i.gate or i.type is None:
        return False
    e.out.append(replace(i, other=e.bits(i.type, 0)))
    return True


def clamps(i: Instr, e: Emitter) -> bool:
    """Make the access at the nearest index inside where the gate is closed."""
    memory = e.memories[i.mems[0]]
    if not i.gate or not isinstance(memory, Buffer):
        return False
    type_ = e.types[i.args[0]]
    width = e.types[i.gate].lanes if type_.lanes == 1 else 1
    last = _extent(memory, e, width)
    high = last if type_.lanes == 1 else e.op("mov.splat", last, type=type_)
    index = e.op("reduce.min", e.op("reduce.max", i.args[0], e.const(type_, 0)), high)
    e.out.append(replace(i, args=(index, *i.args[1:]), gate="", other=""))
    return True


def _extent(memory: Buffer, e: Emitter, width: int) -> str:
    """Return the last index at which `width` elements of a buffer are inside."""
    total = e.const(Type(I32), 1)
    for factor in memory.extent.factors:
        total = e.op("mul", total, factor if isinstance(factor, str) else e.const(Type(I32), factor))
    return e.op("add", total, e.const(Type(I32), -width))


def closed_with_first_lane(i: Instr, e: Emitter) -> bool:
    """Close the gates of all lanes of a vector with that of the first."""
    if not i.gate or e.types[i.gate].lanes < 2:
        return False
    first = e.op("mov.splat", lane(e, i.gate, 0), type=e.types[i.gate])
    e.out.append(replace(i, gate=e.op("reduce.and", i.gate, first)))
    return True


def closed_with_lane_before(i: Instr, e: Emitter) -> bool:
    """Close the gate of the last lane of a vector with that of the lane before."""
    if not i.gate or e.types[i.gate].lanes < 2:
        return False
    parts = lanes(e, i.gate)
    last = e.op("reduce.and", parts[-1], parts[-2])
    e.out.append(replace(i, gate=e.op("mov.pack", *parts[:-1], last)))
    return True


def last_index_repeated(i: Instr, e: Emitter) -> bool:
    """Use the index of the last but one lane for the last lane too."""
    parts = lanes(e, i.args[0])
    return _indexed(i, e, e.op("mov.pack", *parts[:-1], parts[-2]))


def becomes(name: str) -> Expand:
    """Make the fault of taking the next row of a table of instructions."""

    def wrong(i: Instr, e: Emitter) -> bool:
        e.out.append(replace(i, name=name))
        return True

    wrong.__doc__ = f"Do {name}."
    return wrong


def _opened_where(open_: str, i: Instr, e: Emitter) -> bool:
    gate = e.op("reduce.and", open_, i.gate) if i.gate else open_
    e.out.append(replace(i, gate=gate))
    return True


def drops_nan(i: Instr, e: Emitter) -> bool:
    """Leave the memory alone where the value is NaN."""
    value = i.args[1]
    yes, no = _answers(value, e)
    return _opened_where(e.op("phi.eq", value, value, yes, no), i, e)


def drops_the_sign_alone(i: Instr, e: Emitter) -> bool:
    """Take the least integer, of which nothing is left without the sign, for zero."""
    value = i.args[1]
    yes, no = _answers(value, e)
    least = e.const(e.types[value], e.types[value].dtype.min_int)
    return _opened_where(e.op("phi.eq", value, least, no, yes), i, e)


def _answers(like: str, e: Emitter) -> tuple[str, str]:
    return truth(e, like, value=True), truth(e, like, value=False)


def copies_one_less(i: Instr, e: Emitter) -> bool:
    """Copy one element less."""
    if i.imms[0] < 2:
        return False
    e.out.append(replace(i, imms=(i.imms[0] - 1,)))
    return True


def copies_whole_words(i: Instr, e: Emitter) -> bool:
    """Copy from the even element at or before the source's."""
    even = e.op("reduce.and", i.args[1], e.const(Type(I32), -2))
    e.out.append(replace(i, args=(i.args[0], even)))
    return True


def copies_at_most(limit: int) -> Expand:
    """Make the fault of a copy engine with a limit on the length."""

    def wrong(i: Instr, e: Emitter) -> bool:
        if i.imms[0] <= limit:
            return False
        e.out.append(replace(i, imms=(limit,)))
        return True

    wrong.__doc__ = f"Copy no more than {limit} elements."
    return wrong


def neighbour_too(i: Instr, e: Emitter) -> bool:
    """Write whole words: the elements beside a narrow one are lost."""
    memory = e.memories[i.mems[0]]
    if not isinstance(memory, Buffer):
        return False
    beside = e.op("reduce.xor", i.args[0], e.const(Type(I32), 1))
    zero, inside = e.const(Type(I32), 0), _extent(memory, e, 0)
    yes, no = e.const(Type(BOOL), 1), e.const(Type(BOOL), 0)
    fits = e.op("phi.lt", beside, inside, e.op("phi.lt", beside, zero, no, yes), no)
    gate = e.op("reduce.and", fits, i.gate) if i.gate else fits
    e.out.append(i)
    e.out.append(replace(i, args=(beside, e.const(Type(memory.dtype), 0)), gate=gate))
    return True
