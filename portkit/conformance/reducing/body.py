"""Passes over instructions: fewer of them, simpler operands, values from memory in place of computations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

import numpy as np

from portkit.conformance.case import Trial
from portkit.conformance.finding import Finding
from portkit.conformance.reducing.edit import HEADS, Array, fresh, removed, renamed, replaced, with_body
from portkit.conformance.reducing.session import Steps
from portkit.conformance.reducing.watch import Watch, watch
from portkit.spec.forms import Op
from portkit.spec.geometry import grid_counts
from portkit.spec.kernel import Buffer, Extent, Instr, Kernel
from portkit.spec.types import I32, TOKEN, Type

_MOST_LENGTH = 64
"""Elements of a buffer that stands in for a computation."""
_MOST_OPERANDS = 3
"""Registers that are tried in place of one operand."""


# --- fewer instructions -------------------------------------------------------------------------------------------


def one_output(trial: Trial, found: Finding) -> Steps:
    """The one store that writes the first wrong element, or those to its buffer."""
    if found.mismatch is None:
        return
    wrong, body, seen = found.mismatch, trial.kernel.body, watch(trial).seen
    stores = [k for k, i in enumerate(body) if i.form.effect == "write" and _is_buffer(trial, i)]
    beside = [k for k in stores if body[k].mems[0] == wrong.buffer]
    writers = [k for k in beside if any((places == wrong.element).any() for _, places in seen[k].places)]
    for kept in (writers[-1:], beside):
        if kept and kept != stores and (yield removed(trial, set(stores) - set(kept))) is not None:
            return


def _is_buffer(trial: Trial, instr: Instr) -> bool:
    return isinstance(trial.kernel.memories[instr.mems[0]], Buffer)


def coarse_removals(trial: Trial, found: Finding) -> Steps:
    """Long runs of instructions removed, down to a sixteenth of the kernel."""
    yield from _removals(trial, len(trial.kernel.body) // 16)


def removals(trial: Trial, found: Finding) -> Steps:
    """Runs of instructions removed, down to single ones."""
    yield from _removals(trial, 1)


def _removals(trial: Trial, least: int) -> Steps:
    """Remove runs, long ones first, from the end to the beginning (delta debugging)."""
    size = len(trial.kernel.body)
    while size >= max(1, least):
        end = len(trial.kernel.body)
        while end > 0:
            gone = {k for k in range(max(0, end - size), end) if _removable(trial.kernel.body[k])}
            trial = (yield removed(trial, gone) if gone else None) or trial
            end = min(end - size, len(trial.kernel.body))
        size //= 2


def _removable(instr: Instr) -> bool:
    return instr.name not in (*HEADS, "loop.serial", "endloop", "phi.carry")


def carries(trial: Trial, found: Finding) -> Steps:
    """Carried values that keep their first value."""
    for instr in trial.kernel.body:
        if instr.name == "phi.carry":
            trial = (yield replaced(_unused(trial, instr), {instr.result: instr.args[0]})) or trial


def _unused(trial: Trial, carry: Instr) -> Trial:
    """Return the launch without a carry, whose uses are left."""
    kept = [i for i in trial.kernel.body if i.result != carry.result]
    ends = [replace(i, carries=tuple(p for p in i.carries if p[0] != carry.result)) for i in kept]
    return with_body(trial, ends)


def operands(trial: Trial, found: Finding) -> Steps:
    """Operands replaced by others of the same type, so that what computed them is not needed."""
    for at in reversed(range(len(trial.kernel.body))):
        instr = trial.kernel.body[at]
        reads = instr.reads if instr.name != "endloop" else tuple(value for _, value in instr.carries)
        for name in dict.fromkeys(reads):
            for other in _others(trial.kernel, at, name):
                if (yield _with_operand(trial, at, name, other)) is not None:
                    return


def _others(kernel: Kernel, at: int, name: str) -> list[str]:
    """Return registers that may stand in for an operand: what it is computed from, scalars, the earliest."""
    made = next((i for i in kernel.body[:at] if i.result == name), None)
    nearby = [*(made.reads if made else ()), *(s.name for s in kernel.scalars)]
    earlier = [i.result for i in kernel.body[:at] if i.result and i.type == kernel.types[name]]
    fitting = [n for n in dict.fromkeys(nearby) if kernel.types[n] == kernel.types[name]]
    return [n for n in dict.fromkeys([*fitting, *earlier[:_MOST_OPERANDS]]) if n != name]


def _with_operand(trial: Trial, at: int, name: str, other: str) -> Trial:
    body = list(trial.kernel.body)
    body[at] = replace(renamed(body[at], {name: other}), args=_args(body[at], name, other))
    return with_body(trial, body)


def _args(instr: Instr, name: str, other: str) -> tuple[str, ...]:
    """Return the operands with one replaced; an `endloop` goes on naming its loop."""
    return instr.args if instr.name == "endloop" else tuple(other if a == name else a for a in instr.args)


def gates(trial: Trial, found: Finding) -> Steps:
    """Accesses without their gates."""
    for at, instr in enumerate(trial.kernel.body):
        if instr.gate and at < len(trial.kernel.body):
            body = list(trial.kernel.body)
            body[at] = replace(instr, gate="", other="")
            if (yield with_body(trial, body)) is not None:
                return


def fast(trial: Trial, found: Finding) -> Steps:
    """Without `numeric strict`."""
    if trial.kernel.strict:
        yield replace(trial, kernel=replace(trial.kernel, numeric="fast"))


# --- narrower vectors ---------------------------------------------------------------------------------------------


def vectors(trial: Trial, found: Finding) -> Steps:
    """Vectors of one lane count with half as many lanes, or two."""
    for lanes in sorted({t.lanes for t in trial.kernel.types.values() if t.lanes > 1}, reverse=True):
        for n in dict.fromkeys((2, lanes // 2, lanes - 1)):
            if 1 < n < lanes and (yield _narrowed(trial, lanes, n)) is not None:
                return


def _narrowed(trial: Trial, lanes: int, n: int) -> Trial:
    return with_body(trial, [_narrow(trial.kernel, i, lanes, n) for i in trial.kernel.body])


def _narrow(kernel: Kernel, i: Instr, lanes: int, n: int) -> Instr:
    if i.name == "mov.pack" and len(i.args) == lanes:
        i = replace(i, args=i.args[:n])
    if i.name == "mov.lane" and kernel.types[i.args[0]].lanes == lanes:
        i = replace(i, imms=(min(i.imms[0], n - 1),))
    if i.name in ("load.vec", "store.vec"):
        i = replace(i, imms=(kernel.memories[i.mems[0]].dtype.bytes,))
    narrow = i.type is not None and i.type.lanes == lanes
    return replace(i, type=Type(i.type.dtype, n)) if narrow and i.type is not None else i


# --- values from memory in place of computations ------------------------------------------------------------------


class _Straight:
    """A launch of one work-group, or of one lane each: its runs of the body are numbered by one index register."""

    def __init__(self, trial: Trial) -> None:
        kernel = trial.kernel
        self.trial = trial
        self.groups = prod(grid_counts(kernel, trial.scalars))
        self.runs = self.groups * kernel.lanes
        single = len(kernel.nest.grids) == len(kernel.nest.lanes) == 1
        self.fits = single and self.runs <= _MOST_LENGTH and 1 in (self.groups, kernel.lanes)
        head = kernel.nest.grids[0] if kernel.lanes == 1 else kernel.nest.lanes[0]
        self.index = kernel.body[head].result
        self.first = kernel.nest.lanes[-1] + 1

    def flat(self, value: Array) -> Array:
        """Return the values of a register, one row for each run, of scalars one number."""
        shape = (self.groups, self.trial.kernel.lanes, *value.shape[2:])
        return np.ascontiguousarray(np.broadcast_to(value, shape)).reshape(self.runs, *value.shape[2:])


def values(trial: Trial, found: Finding) -> Steps:
    """Computations replaced: by the index of the run, by a constant, or by loads of what they gave."""
    straight = _Straight(trial)
    if not straight.fits:
        return
    seen = watch(trial)
    if (yield _all_loads(straight, seen)) is not None:
        return
    for at in reversed(range(len(trial.kernel.body))):
        for candidate in _in_place_of(straight, seen, at):
            if (yield candidate) is not None:
                return


def _all_loads(straight: _Straight, seen: Watch) -> Trial | None:
    """Return the launch in which every load outside of loops reads an element of its own."""
    trial = straight.trial
    names: dict[str, str] = {}
    for at, instr in enumerate(straight.trial.kernel.body):
        if instr.name.startswith("load") and _is_buffer(trial, instr) and _once_each(trial.kernel, at):
            made = _loaded(straight, trial, instr, seen.seen[at].results[0])
            if made is not None:
                trial, names = made[0], {**names, instr.result: made[1]}
    return replaced(trial, names) if names else None


def _once_each(kernel: Kernel, at: int) -> bool:
    """Whether an instruction is run once by each lane: it stands in no serial loop."""
    depth = sum(i.name == "loop.serial" for i in kernel.body[:at])
    inner = {i.result for i in kernel.body if i.name == "loop.serial"}
    return depth == sum(i.name == "endloop" and i.args[0] in inner for i in kernel.body[:at])


def _in_place_of(straight: _Straight, seen: Watch, at: int) -> Iterator[Trial | None]:
    trial = straight.trial
    instr = trial.kernel.body[at]
    plain = instr.result and instr.type not in (None, Type(TOKEN)) and instr.form.effect != "control"
    if instr.form.effect == "write":
        yield _stored_at_the_index(trial, at, straight.index)
    if not plain or instr.name == "phi.carry" or not _once_each(trial.kernel, at) or not seen.seen[at].results:
        return
    value = straight.flat(seen.seen[at].results[0])
    if instr.type == Type(I32) and np.array_equal(value, np.arange(straight.runs)) and at >= straight.first:
        yield replaced(trial, {instr.result: straight.index})
    if instr.type == Type(I32) and not value.any() and straight.runs == 1:
        yield replaced(trial, {instr.result: trial.kernel.body[trial.kernel.nest.grids[0]].result})
    if instr.type == Type(I32) and instr.form.op is not Op.LOAD and (value == value[0]).all():
        yield _constant(trial, at, value)
    made = _loaded(straight, trial, instr, seen.seen[at].results[0])
    if made is not None:
        yield replaced(made[0], {instr.result: made[1]})


def _stored_at_the_index(trial: Trial, at: int, index: str) -> Trial:
    instr = trial.kernel.body[at]
    body = list(trial.kernel.body)
    body[at] = replace(instr, args=(index, *instr.args[1:]))
    return with_body(trial, body)


def _constant(trial: Trial, at: int, value: Array) -> Trial:
    bits = int(value[:1].view(f"u{value.itemsize}")[0])
    body = list(trial.kernel.body)
    body[at] = replace(body[at], name="mov.const", args=(), mems=(), imms=(bits,), gate="", other="")
    return with_body(trial, body)


def _loaded(straight: _Straight, trial: Trial, instr: Instr, value: Array) -> tuple[Trial, str] | None:
    """Return the launch with a new buffer of the value in each run, loaded first of all, and the load's register."""
    if instr.type is None or (instr.type.lanes > 1 and straight.runs > 1):
        return None
    kernel = trial.kernel
    contents = straight.flat(value).reshape(-1)
    name = fresh(kernel, "in")
    register = fresh(kernel, f"{instr.result}_in"[:60])
    buffer = Buffer(name, instr.type.dtype, Extent((len(contents),)), "read")
    form, imms = ("load.vec", (instr.type.dtype.bytes,)) if instr.type.lanes > 1 else ("load", ())
    load = Instr(form, register, instr.type, args=(straight.index,), mems=(name,), imms=imms)
    at = next(k for k, i in enumerate(kernel.body) if i.name == "loop.lane") + 1
    body = (*kernel.body[:at], load, *kernel.body[at:])
    grown = replace(kernel, buffers=(buffer, *kernel.buffers), body=body)
    return replace(trial, kernel=grown, inputs={**trial.inputs, name: contents}), register
