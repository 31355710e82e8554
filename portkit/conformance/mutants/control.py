"""Faults of loops, carries, barriers, copies in flight, shared memory and the numbering of lanes and groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from portkit.conformance.mutants.forms import Wrong
from portkit.conformance.rewriting import Emitter, rewrite
from portkit.spec.kernel import Buffer, Instr, Kernel, Shared
from portkit.spec.types import BOOL, F32, I32, TOKEN, Type, encode

Rewrite = Callable[[Kernel], Kernel]
INT = Type(I32)


def described(summary: str) -> Callable[[Rewrite], Rewrite]:
    """Give a rewriting that was made, not defined, its one line."""

    def mark(change: Rewrite) -> Rewrite:
        change.__doc__ = summary
        return change

    return mark


# --- serial loops -------------------------------------------------------------------------------------------------


def count_changed(change: Callable[[Emitter, str], str], literal: Callable[[int], int], summary: str) -> Rewrite:
    """Make a rewriting of the counts of serial loops: those in registers by `change`, others by `literal`."""

    def expand(i: Instr, e: Emitter) -> bool:
        if i.name != "loop.serial":
            return False
        if i.args:
            e.out.append(replace(i, args=(change(e, i.args[0]),)))
        else:
            e.out.append(replace(i, imms=(literal(i.imms[0]),)))
        return True

    return described(summary)(lambda kernel: rewrite(kernel, expand))


def same(e: Emitter, count: str) -> str:
    """Leave a count in a register alone."""
    return count


def sign_ignored(e: Emitter, count: str) -> str:
    """Take a small negative count for positive."""
    zero, minus = e.const(INT, 0), e.op("mul", count, e.const(INT, -1))
    small = e.op("phi.lt", e.const(INT, -100), count, minus, zero)
    return e.op("phi.lt", count, zero, small, count)


def sixteen_bits(e: Emitter, count: str) -> str:
    """Keep 16 bits of a count."""
    return e.op("phi.lt", count, e.const(INT, 0), count, e.op("reduce.and", count, e.const(INT, 0xFFFF)))


def one_more(e: Emitter, count: str) -> str:
    """Run a loop that runs at all once more."""
    zero = e.const(INT, 0)
    return e.op("phi.lt", zero, count, e.op("add", count, e.const(INT, 1)), count)


def renumbered(form: str, change: Wrong, summary: str) -> Rewrite:
    """Make a rewriting in which the index of loops of a form reads as something else."""

    def fault(kernel: Kernel) -> Kernel:
        return rewrite(kernel, _Renumbering(form, change).expand)

    return described(summary)(fault)


class _Renumbering:
    """Renames the indices of loops, and defines the old names anew behind the loop's carries."""

    def __init__(self, form: str, change: Wrong) -> None:
        self.form = form
        self.change = change
        self.known: dict[str, str] = {}
        self.pending: Instr | None = None

    def expand(self, i: Instr, e: Emitter) -> bool:
        if i.name == "phi.carry":
            return False
        waiting = self.pending is not None
        self._define(e)
        if i.name == self.form:
            self._rename(i, e)
        elif i.name == "endloop" and i.args[0] in self.known:
            e.out.append(replace(i, args=(self.known[i.args[0]],)))
        elif waiting:
            e.out.append(i)
        else:
            return False
        return True

    def _rename(self, i: Instr, e: Emitter) -> None:
        number = self.known[i.result] = e.fresh()
        e.types[number] = INT
        self.pending = i
        e.out.append(replace(i, result=number))

    def _define(self, e: Emitter) -> None:
        if self.pending is not None:
            i, self.pending = self.pending, None
            e.op("mov.bits", self.change(replace(i, result=self.known[i.result]), e), type=INT, result=i.result)


def index_masked(mask: int) -> Wrong:
    """Make a change of an index: only some of its bits are kept."""
    return lambda i, e: e.op("reduce.and", i.result, e.const(INT, mask))


def counted_from_one(i: Instr, e: Emitter) -> str:
    """Change an index: it begins at one."""
    return e.op("add", i.result, e.const(INT, 1))


# --- carries ------------------------------------------------------------------------------------------------------


def carries_changed(
    change: Callable[[tuple[tuple[str, str], ...], Emitter], tuple[tuple[str, str], ...]], summary: str
) -> Rewrite:
    """Make a rewriting of the (carry, next value) pairs of serial loops."""

    def expand(i: Instr, e: Emitter) -> bool:
        if i.name != "endloop" or not i.carries:
            return False
        given = change(i.carries, e)
        e.out.append(replace(i, carries=given))
        return given != i.carries

    return described(summary)(lambda kernel: rewrite(kernel, expand))


Pairs = tuple[tuple[str, str], ...]


def fifth_is_kept(pairs: Pairs, e: Emitter) -> Pairs:
    """Leave a fifth carry as it is."""
    return tuple((carry, carry if k == 4 else value) for k, (carry, value) in enumerate(pairs))


def kept_where(wanted: Callable[[Type], bool]) -> Callable[[Pairs, Emitter], Pairs]:
    """Make a change that leaves carries of some types as they are."""
    return lambda pairs, e: tuple((c, c if wanted(e.types[c]) else v) for c, v in pairs)


def rounded_carry(pairs: Pairs, e: Emitter) -> Pairs:
    """Keep scalar f32 carries in bf16."""
    return tuple((c, e.cast(e.cast(v, "bf16"), "f32") if e.types[c] == Type(F32) else v) for c, v in pairs)


def stale_by_one(kernel: Kernel) -> Kernel:
    """Let the first carry of a kernel's last loop read as the value of the trip before the last one given."""
    heads = [k + 1 for k, i in enumerate(kernel.body) if i.name == "loop.serial"]
    carried = [k for k in heads if kernel.body[k].name == "phi.carry" and kernel.body[k].type != Type(TOKEN)]
    if not carried:
        return kernel
    head = carried[-1]
    carry = kernel.body[head]
    late = f"{carry.result}_late"
    end = next(k for k in range(head, len(kernel.body)) if carry.result in dict(kernel.body[k].carries))
    pairs = tuple((late, v) if c == carry.result else (c, v) for c, v in kernel.body[end].carries)
    body = list(kernel.body)
    body[end] = replace(body[end], carries=(*pairs, (carry.result, late)))
    body.insert(head, replace(carry, result=late))
    return replace(kernel, body=tuple(body))


def init_lost(kernel: Kernel) -> Kernel:
    """Start every scalar i32 carry from zero."""
    constants = Emitter(kernel)
    zero = constants.const(INT, 0)

    def expand(i: Instr, e: Emitter) -> bool:
        if i.name != "phi.carry" or i.type != INT:
            return False
        e.out.append(replace(i, args=(zero,)))
        return True

    changed = rewrite(kernel, expand)
    return kernel if changed is kernel else replace(kernel, body=(*constants.out, *changed.body))


# --- barriers, copies in flight, shared memory --------------------------------------------------------------------


def without_barrier(where: Callable[[Kernel, int], bool], summary: str) -> Rewrite:
    """Make a rewriting that drops some of the barriers, by kernel and position."""

    def fault(kernel: Kernel) -> Kernel:
        gone = {k for k, i in enumerate(kernel.body) if i.name == "barrier" and where(kernel, k)}
        body = tuple(i for k, i in enumerate(kernel.body) if k not in gone)
        return replace(kernel, body=body) if gone else kernel

    return described(summary)(fault)


def in_a_loop(kernel: Kernel, position: int) -> bool:
    """Whether an instruction stands inside of a serial loop."""
    before = kernel.body[:position]
    opened = sum(i.name == "loop.serial" for i in before)
    return opened > sum(i.name == "endloop" for i in before)


def first_of_kernel(kernel: Kernel, position: int) -> bool:
    """Whether a barrier is the first of several."""
    places = [k for k, i in enumerate(kernel.body) if i.name == "barrier"]
    return len(places) > 1 and position == places[0]


def copies_land_after_the_kernel(kernel: Kernel) -> Kernel:
    """Skip every wait, on a device whose copies land as late as a missing wait allows: after the kernel."""
    tokens = {i.result for i in kernel.body if i.type == Type(TOKEN)}
    body = tuple(
        replace(i, carries=tuple(pair for pair in i.carries if pair[0] not in tokens))
        for i in kernel.body
        if i.result not in tokens and i.name != "wait.token"
    )
    return replace(kernel, body=body) if tokens else kernel


def carried_copies_land_after_the_kernel(kernel: Kernel) -> Kernel:
    """Skip the waits for tokens that are carried, on a device whose copies land as late as that allows."""
    carried = any(i.name == "phi.carry" and i.type == Type(TOKEN) for i in kernel.body)
    return copies_land_after_the_kernel(kernel) if carried else kernel


def second_array_is_first(kernel: Kernel) -> Kernel:
    """Give two shared arrays whose elements have one width the same place."""
    first, *others = kernel.shared or (None,)
    second = next((s for s in others if first and s.dtype.bits == first.dtype.bits and s.extent <= first.extent), None)
    if first is None or second is None:
        return kernel

    def expand(i: Instr, e: Emitter) -> bool:
        if i.mems != (second.name,):
            return False
        if i.name == "store":
            index, value = i.args
            e.out.append(replace(i, mems=(first.name,), args=(index, e.view(value, first.dtype.name))))
            return True
        if i.name != "load" or i.gate:
            return False
        loaded = e.fresh()
        e.out.append(replace(i, mems=(first.name,), result=loaded, type=Type(first.dtype)))
        e.types[loaded] = Type(first.dtype)
        e.op("mov.bits", loaded, type=i.type, result=i.result)
        return True

    return rewrite(kernel, expand)


def shared_wraps(bytes_: int) -> Rewrite:
    """Make a rewriting in which shared memory is smaller than declared, a power of two of bytes."""

    def expand(i: Instr, e: Emitter) -> bool:
        memory = e.memories[i.mems[0]] if i.mems else None
        if not isinstance(memory, Shared) or memory.extent * memory.dtype.bytes <= bytes_ or i.name == "load.async":
            return False
        index = i.args[0]
        mask = e.const(e.types[index], bytes_ // memory.dtype.bytes - 1)
        e.out.append(replace(i, args=(e.op("reduce.and", index, mask), *i.args[1:])))
        return True

    return described(f"Wrap addresses in shared memory at {bytes_} bytes.")(lambda kernel: rewrite(kernel, expand))


# --- lanes and groups ---------------------------------------------------------------------------------------------


def idle_lanes(idle: Callable[[int], int], summary: str) -> Rewrite:
    """Make a rewriting in which lanes from a number on, by the work-group size, store nothing."""

    def fault(kernel: Kernel) -> Kernel:
        heads = [i for i in kernel.body if i.name == "loop.lane"]
        first = idle(kernel.lanes)
        if len(heads) != 1 or first >= kernel.lanes:
            return kernel

        def expand(i: Instr, e: Emitter) -> bool:
            if i.name != "store" or not isinstance(e.memories[i.mems[0]], Buffer):
                return False
            yes, no = (e.const(Type(BOOL), value) for value in (1, 0))
            runs = e.op("phi.lt", heads[0].result, e.const(INT, first), yes, no)
            e.out.append(replace(i, gate=e.op("reduce.and", runs, i.gate) if i.gate else runs))
            return True

        return rewrite(kernel, expand)

    return described(summary)(fault)


IDENTITIES: dict[str, Callable[[Type], int]] = {
    "add": lambda t: encode(t.dtype, -0.0) if t.dtype.is_float else 0,
    "mul": lambda t: encode(t.dtype, 1),
    "max": lambda t: encode(t.dtype, float("-inf") if t.dtype.is_float else t.dtype.min_int),
    "min": lambda t: encode(t.dtype, float("inf") if t.dtype.is_float else t.dtype.max_int),
    "and": lambda t: (1 << t.dtype.bits) - 1 if t.dtype.is_int else 1,
    "or": lambda t: 0,
    "xor": lambda t: 0,
}
"""By kind, the bits of the value that changes nothing in a reduction."""


@dataclass(frozen=True)
class FoldFault:
    """A kernel rewriting: a reduction over a work-group leaves out the lanes from a number on.

    `size` is the work-group size, 0 for any; `in_loop` asks for reductions inside of serial loops, `counting` for those
    that give the count of one.
    """

    kind: str
    first: Callable[[int], int]
    size: int = 0
    dtype: str = ""
    in_loop: bool = False
    counting: bool = False

    @property
    def summary(self) -> str:
        """What the fault does, in one line."""
        return f"reduce.group.{self.kind} leaves out lanes where a group has {self.size or 'some'} of them."

    def __call__(self, kernel: Kernel) -> Kernel:
        """Return the kernel with the fault; the kernel itself where the fault does not apply."""
        heads = [i.result for i in kernel.body if i.name == "loop.lane"]
        first = self.first(kernel.lanes)
        if len(heads) != 1 or self.size not in (0, kernel.lanes) or first >= kernel.lanes:
            return kernel
        meant = self._meant(kernel)

        def expand(i: Instr, e: Emitter) -> bool:
            named = i.type is not None and i.name == f"reduce.group.{self.kind}"
            if not named or i.result not in meant:
                return False
            assert i.type is not None
            if self.dtype not in ("", i.type.dtype.name):
                return False
            many = Type(I32, i.type.lanes)
            number = heads[0] if many.lanes == 1 else e.op("mov.splat", heads[0], type=many)
            neutral = e.bits(i.type, IDENTITIES[self.kind](i.type))
            kept = e.op("phi.lt", number, e.const(many, first), i.args[0], neutral)
            e.out.append(replace(i, args=(kept,)))
            return True

        return rewrite(kernel, expand)

    def _meant(self, kernel: Kernel) -> set[str]:
        """Return the registers that may hold the result."""
        inside = {i.result for k, i in enumerate(kernel.body) if not self.in_loop or in_a_loop(kernel, k)}
        counts = {a for i in kernel.body if i.name == "loop.serial" for a in i.args}
        return inside & counts if self.counting else inside
