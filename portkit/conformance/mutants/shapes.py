"""Faults of a compiler in one shape of kernel: how many loops, which instructions follow each other, what is constant.

Each is a mistake that hides until a kernel has that shape, so that few cases, or one family of them, can find it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from portkit.conformance.mutants.control import (
    Rewrite,
    carried_copies_land_after_the_kernel,
    carries_changed,
    described,
    in_a_loop,
)
from portkit.conformance.rewriting import Emitter, rewrite
from portkit.spec.kernel import Buffer, Instr, Kernel
from portkit.spec.types import F32, I32, TOKEN, DType, Type, encode
from portkit.spec.uniform import uniform_registers

INDEX = Type(I32)
SCALAR = Type(F32)
THREE_BITS = 8
FOUR_BITS = 16
ONE = (encode(F32, 1.0),)


def made_by(kernel: Kernel) -> dict[str, Instr]:
    """Return what makes each register of a kernel."""
    return {i.result: i for i in kernel.body if i.result}


def is_literal(made: Mapping[str, Instr], register: str) -> bool:
    """Whether a register is a literal, or computed from literals alone."""
    i = made.get(register)
    return i is not None and (i.name == "mov.const" or (bool(i.args) and all(is_literal(made, a) for a in i.args)))


# --- barriers, fences, copies in flight ---------------------------------------------------------------------------


def without_shared_memory(kernel: Kernel, position: int) -> bool:
    """Whether a barrier stands in a kernel that has no shared memory."""
    return not kernel.shared


def behind(form: str) -> Callable[[Kernel, int], bool]:
    """Return whether a barrier stands right behind a form."""
    return lambda kernel, position: kernel.body[position - 1].name == form


def ninth_copy_lands_late(kernel: Kernel) -> Kernel:
    """Count copies in flight with three bits: of a loop that issues eight and more, none is waited for."""
    long = any(i.name == "loop.serial" and not i.args and i.imms[0] >= THREE_BITS for i in kernel.body)
    return carried_copies_land_after_the_kernel(kernel) if long else kernel


# --- loops --------------------------------------------------------------------------------------------------------


def fourth_lane_loop_reads_zero(kernel: Kernel) -> Kernel:
    """Lay lanes out in three dimensions: the outermost of four lane loops is always at zero."""
    heads = [i.result for i in kernel.body if i.name == "loop.lane"]
    if len(heads) < 4:
        return kernel
    counted = f"{heads[0]}_counted"
    body: list[Instr] = []
    for i in kernel.body:
        closes = i.name == "endloop" and i.args[0] == heads[0]
        body.append(
            replace(i, args=(counted,)) if closes else i if i.result != heads[0] else replace(i, result=counted)
        )
        if i.result == heads[-1]:
            body.append(Instr("mov.const", heads[0], INDEX, imms=(0,)))
    return replace(kernel, body=tuple(body))


def inner_tiles_are_short(kernel: Kernel) -> Kernel:
    """Unroll a loop of eight trips inside of another loop, and leave out the last trip."""

    heads = [k for k, i in enumerate(kernel.body) if i.name == "loop.serial" and i.imms == (8,)]
    inner = [k for k in heads if in_a_loop(kernel, k)]
    body = tuple(replace(i, imms=(7,)) if k in inner else i for k, i in enumerate(kernel.body))
    return replace(kernel, body=body) if inner else kernel


def sums_take_the_inputs_dtype(dtype: DType) -> Rewrite:
    """Make the fault of carrying f32 sums in the dtype of what is loaded."""

    def fault(kernel: Kernel) -> Kernel:
        if not any(b.dtype is dtype for b in kernel.buffers):
            return kernel
        sums = {i.result for i in kernel.body if i.name == "add"}

        def carried(c: str, v: str, e: Emitter) -> str:
            return e.cast(e.cast(v, dtype.name), "f32") if e.types[c] == SCALAR and v in sums else v

        return carries_changed(lambda pairs, e: tuple((c, carried(c, v, e)) for c, v in pairs), "")(kernel)

    return described(f"Carry f32 sums in {dtype} where {dtype} is loaded.")(fault)


def lanes_that_left_still_store(kernel: Kernel) -> Kernel:
    """Mask an inner loop by its own counts alone: lanes that left the divergent loop around it run it once more."""
    outer, least = _around_divergent_loops(kernel), dict[str, str]()

    def expand(i: Instr, e: Emitter) -> bool:
        if i.name == "loop.serial" and i.result in outer:
            least[i.result] = e.op("reduce.max", i.args[0], e.const(INDEX, 0))
            e.out.append(replace(i, args=(e.op("add", least[i.result], e.const(INDEX, 1)),)))
            return True
        if i.name != "endloop" or i.args[0] not in outer:
            return False
        pairs = tuple((c, _while_below(e, i.args[0], least[i.args[0]], v, c)) for c, v in i.carries)
        e.out.append(replace(i, carries=pairs))
        return True

    return rewrite(kernel, expand)


def _while_below(e: Emitter, index: str, count: str, following: str, carry: str) -> str:
    """Return the next value of a carry in trips below a count, and the carry as it is in others."""
    type_ = e.types[carry]
    if type_.dtype is TOKEN:
        return following
    if type_.lanes > 1:
        index, count = (e.op("mov.splat", x, type=type_.with_dtype(I32)) for x in (index, count))
    return e.op("phi.lt", index, count, following, carry)


def _around_divergent_loops(kernel: Kernel) -> set[str]:
    """Return the indices of the divergent loops that hold divergent loops."""
    uniform = uniform_registers(kernel)
    divergent = {i.result for i in kernel.body if i.name == "loop.serial" and i.args and i.args[0] not in uniform}
    opened, found = list[str](), set[str]()
    for i in kernel.body:
        if i.name == "loop.serial":
            found |= divergent.intersection(opened) if i.result in divergent else set()
            opened.append(i.result)
        elif i.name == "endloop" and opened and opened[-1] == i.args[0]:
            opened.pop()
    return found


# --- buffers ------------------------------------------------------------------------------------------------------


def buffers_have_four_bits(kernel: Kernel) -> Kernel:
    """Number buffers with four bits: what is read of the seventeenth is read of the first."""
    buffers = kernel.buffers
    alike = [(a, b) for a, b in zip(buffers, buffers[FOUR_BITS:], strict=False) if replace(a, name=b.name) == b]
    first = {b.name: a.name for a, b in alike if b.access == "read"}

    def expand(i: Instr, e: Emitter) -> bool:
        e.out.append(replace(i, mems=tuple(first.get(name, name) for name in i.mems)))
        return bool(first.keys() & {*i.mems})

    return rewrite(kernel, expand)


# --- reductions over a group --------------------------------------------------------------------------------------


def one_helper_per_dtype(kernel: Kernel) -> Kernel:
    """Name the helper of a group reduction by its dtype alone: another kind on the same dtype calls the first one's."""
    helpers: dict[Type, str] = {}

    def expand(i: Instr, e: Emitter) -> bool:
        if not i.name.startswith("reduce.group.") or i.type is None:
            return False
        name = helpers.setdefault(i.type, i.name)
        e.out.append(replace(i, name=name))
        return name != i.name

    return rewrite(kernel, expand)


# --- loads and stores ---------------------------------------------------------------------------------------------


def loads_overtake_stores(kernel: Kernel) -> Kernel:
    """Take buffers for ones that nothing else names: a load overtakes the store to the same place before it."""
    body = list(kernel.body)
    for k, i in enumerate(kernel.body):
        overtaken = _store_before(body, k) if i.name == "load" else None
        if overtaken is not None and isinstance(kernel.memories[i.mems[0]], Buffer):
            body.insert(k, body.pop(overtaken))
    return replace(kernel, body=tuple(body)) if body != list(kernel.body) else kernel


def _store_before(body: list[Instr], position: int) -> int | None:
    """Return the last store to the place of a load, None where something that orders them stands in between."""
    load = body[position]
    for k in range(position - 1, -1, -1):
        i = body[k]
        if i.name == "store" and (i.mems, i.args[0]) == (load.mems, load.args[0]):
            return k
        if i.form.effect != "pure":
            return None
    return None


def known_gates_are_closed(kernel: Kernel) -> Kernel:
    """Fold the gate of a vector store that is a comparison of literals to false."""
    made = made_by(kernel)

    def expand(i: Instr, e: Emitter) -> bool:
        return i.name == "store.vec" and bool(i.gate) and is_literal(made, i.gate)

    return rewrite(kernel, expand)


def carried_counts_are_lost(kernel: Kernel) -> Kernel:
    """Shift eight bytes that a loop carries by nothing."""
    made = made_by(kernel)

    def expand(i: Instr, e: Emitter) -> bool:
        if i.name not in ("mul.shl", "mul.shr") or i.type is None or (i.type.lanes, i.type.dtype.bits) != (8, 8):
            return False
        if made[i.args[0]].name != "phi.carry":
            return False
        e.op("mov.bits", i.args[0], type=i.type, result=i.result)
        return True

    return rewrite(kernel, expand)


def loaded_is_incremented(kernel: Kernel) -> Kernel:
    """Print f32 1 + x, the literal first, as the increment of an integer where x was loaded."""
    made = made_by(kernel)

    def expand(i: Instr, e: Emitter) -> bool:
        if i.name != "add" or i.type != SCALAR:
            return False
        one, x = (made.get(a) for a in i.args)
        if one is None or x is None or (one.name, one.imms, x.name) != ("mov.const", ONE, "load"):
            return False
        more = e.op("add", e.view(x.result, "i32"), e.const(INDEX, 1))
        e.op("mov.bits", more, type=SCALAR, result=i.result)
        return True

    return rewrite(kernel, expand)
