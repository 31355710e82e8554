"""Passes over work-groups, lanes, serial loops and extents."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from portkit.conformance.case import Trial
from portkit.conformance.finding import Finding
from portkit.conformance.reducing.edit import HEADS, fitted, fresh, removed, renamed, with_body
from portkit.conformance.reducing.session import Steps
from portkit.conformance.reducing.watch import watch
from portkit.spec.geometry import grid_counts
from portkit.spec.kernel import Extent, Instr, Kernel, Loop
from portkit.spec.types import I32, Type


def fewer(count: int) -> list[int]:
    """Return smaller counts than one, smallest first."""
    return [n for n in dict.fromkeys((1, 2, 4, count // 2, count - 1)) if 0 < n < count]


def _with_instr(trial: Trial, at: int, instr: Instr) -> Trial:
    body = list(trial.kernel.body)
    body[at] = instr
    return with_body(trial, body)


def _zero(kernel: Kernel, value: int = 0) -> Instr:
    return Instr("mov.const", fresh(kernel, "k"), Type(I32), imms=(value & 0xFFFFFFFF,))


# --- work-groups and lanes ----------------------------------------------------------------------------------------


def counts(trial: Trial, found: Finding) -> Steps:
    """One work-group of one lane, then fewer work-groups and fewer lanes."""
    single = [replace(i, args=(), imms=(1,)) if i.name in HEADS else i for i in trial.kernel.body]
    if (yield with_body(trial, single)) is not None:
        return
    for at, instr in enumerate(trial.kernel.body):
        if instr.name not in HEADS:
            continue
        for n in fewer(_extents(trial).get(at, 1)):
            smaller = _with_instr(trial, at, replace(instr, args=(), imms=(n,)))
            if (yield smaller) is not None:
                return


def _extents(trial: Trial) -> dict[int, int]:
    kernel = trial.kernel
    grids = zip(kernel.nest.grids, grid_counts(kernel, trial.scalars), strict=True)
    return dict([*grids, *zip(kernel.nest.lanes, kernel.lane_counts, strict=True)])


def failing_place(trial: Trial, found: Finding) -> Steps:
    """The work-group alone, or the lane alone, that stores the first wrong element."""
    place = _writer(trial, found)
    if place is None:
        return
    group, lane = place
    kernel = trial.kernel
    for grids, lanes in ((True, True), (True, False), (False, True)):
        pinned: dict[int, int] = {}
        if grids:
            pinned |= dict(zip(kernel.nest.grids, _split(group, grid_counts(kernel, trial.scalars)), strict=True))
        if lanes:
            pinned |= dict(zip(kernel.nest.lanes, _split(lane, kernel.lane_counts), strict=True))
        if (yield _pinned(trial, pinned)) is not None:
            return


def _writer(trial: Trial, found: Finding) -> tuple[int, int] | None:
    """Return the group and the lane that store the first wrong element, None if that is not known."""
    wrong = found.mismatch
    if wrong is None:
        return None
    seen = watch(trial).seen
    for at, instr in enumerate(trial.kernel.body):
        if instr.form.effect == "write" and instr.mems[0] == wrong.buffer:
            for first, places in seen[at].places:
                hits = np.argwhere(places == wrong.element)
                if len(hits):
                    return first + int(hits[0][0]), int(hits[0][1])
    return None


def _split(linear: int, extents: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(k) for k in np.unravel_index(linear, extents))


def _pinned(trial: Trial, index: dict[int, int]) -> Trial:
    """Return the launch with some loops run for one index alone, which becomes a constant."""
    kernel = trial.kernel
    constants: list[Instr] = []
    names: dict[str, str] = {}
    body = list(kernel.body)
    for at, value in index.items():
        body[at] = replace(body[at], args=(), imms=(1,))
        if value:
            constant = replace(_zero(kernel, value), result=fresh(kernel, f"at_{body[at].result}"[:50]))
            constants.append(constant)
            names[body[at].result] = constant.result
    ends = [i if i.name == "endloop" and not i.carries else renamed(i, names) for i in body]
    return with_body(trial, [*constants, *ends])


def one_nest(trial: Trial, found: Finding) -> Steps:
    """No loops over work-groups or lanes that run once, but for one of each."""
    extents = _extents(trial)
    for name in HEADS:
        heads = [at for at in extents if trial.kernel.body[at].name == name]
        for at in heads if len(heads) > 1 else ():
            if extents[at] == 1 and (yield _without_loop(trial, at)) is not None:
                return


def _without_loop(trial: Trial, head: int) -> Trial:
    body = trial.kernel.body
    index = body[head].result
    zero = _zero(trial.kernel)
    kept = [i for k, i in enumerate(body) if k != head and not (i.name == "endloop" and i.args == (index,))]
    return with_body(trial, [zero, *(renamed(i, {index: zero.result}) for i in kept)])


# --- serial loops -------------------------------------------------------------------------------------------------


def loops(trial: Trial, found: Finding) -> Steps:
    """Serial loops gone, run once, or run less often; outermost first."""
    for loop in _serial(trial.kernel.nest.body):
        head = trial.kernel.body[loop.head]
        for candidate in (removed(trial, set(range(loop.head, loop.end + 1))), _once(trial, loop)):
            if (yield candidate) is not None:
                return
        for n in fewer(head.imms[0] if head.imms else 8):
            if (yield _with_instr(trial, loop.head, replace(head, args=(), imms=(n,)))) is not None:
                return


def _serial(tree: tuple[int | Loop, ...]) -> list[Loop]:
    found: list[Loop] = []
    for part in tree:
        if isinstance(part, Loop):
            found += [part, *_serial(part.body)]
    return found


def _once(trial: Trial, loop: Loop) -> Trial:
    """Return the launch with the body of a loop in place of the loop; carries are their first values in it."""
    body = trial.kernel.body
    zero = _zero(trial.kernel)
    within = {body[k].result: body[k].args[0] for k in loop.carries} | {body[loop.head].result: zero.result}
    after = {carry: within.get(value, value) for carry, value in body[loop.end].carries}
    dropped = {loop.head, loop.end, *loop.carries}
    done = [body[k] for k in range(loop.head)]
    done += [renamed(body[k], within) for k in range(loop.head, loop.end) if k not in dropped]
    return with_body(trial, [zero, *done, *(renamed(i, after) for i in body[loop.end + 1 :])])


# --- extents ------------------------------------------------------------------------------------------------------


def extents(trial: Trial, found: Finding) -> Steps:
    """Buffers and shared arrays no longer than what is accessed."""
    reached = {name: max(1, n) for name, n in watch(trial).reached.items()}
    every = yield _cut(trial, reached)
    if every is None:
        for name, n in reached.items():
            trial = (yield _cut(trial, {name: n})) or trial


def _cut(trial: Trial, lengths: dict[str, int]) -> Trial | None:
    kernel = trial.kernel
    buffers = tuple(replace(b, extent=Extent((lengths[b.name],))) if b.name in lengths else b for b in kernel.buffers)
    shared = tuple(replace(s, extent=lengths.get(s.name, s.extent)) for s in kernel.shared)
    return fitted(replace(trial, kernel=replace(kernel, buffers=buffers, shared=shared)))


def scalars(trial: Trial, found: Finding) -> Steps:
    """Smaller scalars, and with them fewer groups, trips and elements."""
    for scalar in trial.kernel.scalars:
        value = trial.scalars.get(scalar.name, 0)
        for n in fewer(int(value)) if scalar.dtype.is_int else (0.0, 1.0):
            smaller = replace(trial, scalars={**trial.scalars, scalar.name: n})
            if (yield fitted(smaller)) is not None:
                return
