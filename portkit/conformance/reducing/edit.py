"""Edits of kernels and of the launches they belong to; a result may be invalid, whoever takes it verifies it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from portkit.conformance.case import Trial
from portkit.spec.kernel import Buffer, Instr, Kernel
from portkit.spec.types import TOKEN, Type

Array: TypeAlias = np.ndarray[Any, Any]
HEADS = ("loop.grid", "loop.lane")


def with_body(trial: Trial, body: Collection[Instr]) -> Trial:
    """Return the launch of the same kernel with other instructions."""
    return replace(trial, kernel=replace(trial.kernel, body=tuple(body)))


def fresh(kernel: Kernel, stem: str) -> str:
    """Return a name that nothing in the kernel has."""
    taken = kernel.types.keys() | kernel.memories.keys()
    return next(n for k in range(len(taken) + 1) if (n := f"{stem}{k or ''}") not in taken)


def renamed(instr: Instr, names: Mapping[str, str]) -> Instr:
    """Return the instruction with the registers that it reads replaced."""
    return replace(
        instr,
        args=tuple(_final(a, names) for a in instr.args),
        gate=_final(instr.gate, names),
        other=_final(instr.other, names),
        carries=tuple((carry, _final(value, names)) for carry, value in instr.carries),
    )


def _final(name: str, names: Mapping[str, str]) -> str:
    while name in names:
        name = names[name]
    return name


def replaced(trial: Trial, names: Mapping[str, str]) -> Trial:
    """Return the launch with registers replaced by others, all that defines them still there."""
    return with_body(trial, [renamed(i, names) for i in trial.kernel.body])


def removed(trial: Trial, gone: Collection[int]) -> Trial | None:
    """Return the launch without some instructions; an operand, or an earlier register, stands in for each result.

    None where nothing can stand in. What waits for a token goes with it.
    """
    body, types = trial.kernel.body, trial.kernel.types
    names: dict[str, str] = {}
    tokens = {body[k].result for k in gone if body[k].type == Type(TOKEN)}
    for at in sorted(gone):
        instr = body[at]
        if instr.result and instr.result not in tokens:
            other = _stand_in(trial.kernel, at, types[instr.result])
            if other is None and any(instr.result in i.reads for k, i in enumerate(body) if k not in gone):
                return None
            names |= {instr.result: other} if other else {}
    kept = [renamed(i, names) for k, i in enumerate(body) if k not in gone and not tokens.intersection(i.args)]
    return with_body(trial, kept)


def _stand_in(kernel: Kernel, at: int, type_: Type) -> str | None:
    """Return the register that stands in for the result of an instruction: an operand if one fits."""
    scalars = [s.name for s in kernel.scalars]
    earlier = [i.result for i in kernel.body[:at] if i.result]
    candidates = (*kernel.body[at].args, *reversed(earlier), *scalars)
    return next((n for n in candidates if kernel.types[n] == type_), None)


# --- what nothing needs -------------------------------------------------------------------------------------------


def clean(trial: Trial) -> Trial:
    """Return the launch without instructions, carries, loops, memories and scalars that have no effect."""
    kernel = trial.kernel
    body = tuple(_Live(kernel.body).kept())
    used = {name for i in body for name in i.mems}
    buffers = tuple(b for b in kernel.buffers if b.name in used)
    read = {name for i in body for name in i.reads} | {f for b in buffers for f in b.extent.factors}
    scalars = tuple(s for s in kernel.scalars if s.name in read)
    shared = tuple(s for s in kernel.shared if s.name in used)
    return replace(
        trial,
        kernel=replace(kernel, body=body, buffers=buffers, scalars=scalars, shared=shared),
        scalars={s.name: trial.scalars[s.name] for s in scalars},
        inputs={b.name: trial.inputs[b.name] for b in buffers if b.name in trial.inputs},
    )


class _Live:
    """The instructions that have an effect, or whose result one of them needs."""

    def __init__(self, body: tuple[Instr, ...]) -> None:
        self.body = body
        self.needed: set[str] = set()
        self.live: set[int] = set()
        self.around: list[tuple[int, ...]] = []
        self.head_of: dict[int, int] = {}
        open_heads: list[int] = []
        for at, instr in enumerate(body):
            if instr.name == "endloop" and open_heads:
                self.head_of[at] = open_heads.pop()
            self.around.append(tuple(open_heads))
            if instr.name in (*HEADS, "loop.serial"):
                open_heads.append(at)

    def kept(self) -> list[Instr]:
        before = (-1, -1)
        while before != (len(self.live), len(self.needed)):
            before = (len(self.live), len(self.needed))
            for at in reversed(range(len(self.body))):
                if at in self.live or self._wanted(at):
                    self._take(at)
        return [self._trimmed(i) for at, i in enumerate(self.body) if at in self.live]

    def _wanted(self, at: int) -> bool:
        instr = self.body[at]
        if instr.name in HEADS or (instr.form.effect in ("write", "sync") and not instr.result):
            return True
        if instr.name == "endloop":
            return self.head_of.get(at, at) in self.live or self.body[self.head_of.get(at, at)].name in HEADS
        return instr.result in self.needed

    def _take(self, at: int) -> None:
        self.live.add(at)
        self.live.update(self.around[at])
        instr = self.body[at]
        self.needed.update(self._trimmed(instr).reads)
        if instr.name == "phi.carry":
            self.needed.add(instr.result)

    def _trimmed(self, instr: Instr) -> Instr:
        """Return an end of a loop with those carries alone that something needs."""
        if not instr.carries:
            return instr
        return replace(instr, carries=tuple(pair for pair in instr.carries if pair[0] in self.needed))


# --- contents -----------------------------------------------------------------------------------------------------


def fitted(trial: Trial) -> Trial | None:
    """Return the launch with its inputs cut to the extents of the buffers; None where one is too short."""
    extents = {b.name: b.extent.evaluate(trial.scalars) for b in trial.kernel.buffers}
    if any(not 0 <= extents[n] <= len(a) for n, a in trial.inputs.items() if n in extents):
        return None
    return replace(trial, inputs={n: a[: extents[n]] for n, a in trial.inputs.items() if n in extents})


def before(trial: Trial) -> dict[str, Array]:
    """Return the contents of every buffer before the launch; what is not given is some number, as for the judge."""
    return {b.name: trial.inputs[b.name] if b.name in trial.inputs else _filled(trial, b) for b in trial.kernel.buffers}


def _filled(trial: Trial, buffer: Buffer) -> Array:
    size = buffer.extent.evaluate(trial.scalars) * buffer.dtype.bytes
    return np.frombuffer(b"\xa5" * size, buffer.dtype.numpy)
