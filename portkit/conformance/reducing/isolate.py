"""The first passes: single instructions of the kernel, in kernels of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from portkit.conformance.case import Trial
from portkit.conformance.finding import Check, Finding
from portkit.conformance.reducing.edit import Array
from portkit.conformance.reducing.session import Steps
from portkit.conformance.reducing.watch import Seen, watch
from portkit.spec.kernel import Buffer, Extent, Instr, Kernel
from portkit.spec.types import I32, TOKEN, Type

_MOST_RUNS = 4096
"""Sets of operands that one instruction is tried on."""


def isolated(trial: Trial, found: Finding, prefer: str = "") -> Steps:
    """Each sort of instruction alone, on each set of operands that the kernel gave it; those of one form first."""
    if found.check is not Check.VALUES:
        return
    seen = watch(trial).seen
    sorts: dict[tuple[object, ...], list[int]] = {}
    for at, instr in enumerate(trial.kernel.body):
        if _stands_alone(instr):
            types = tuple(trial.kernel.types[a] for a in instr.args)
            sorts.setdefault((instr.name, instr.type, types, instr.imms), []).append(at)
    for _, places in sorted(sorts.items(), key=lambda sort: sort[0][0] != prefer):
        made = _alone(trial, trial.kernel.body[places[0]], [seen[at] for at in places if at in seen])
        if (yield made) is not None:
            return


def one_store(trial: Trial, found: Finding) -> Steps:
    """Where the fault is not in the values: each sort of store alone, of a number that is loaded."""
    if found.check is Check.VALUES:
        return
    stores = [i for i in trial.kernel.body if i.name in ("store", "store.vec") and not i.gate]
    for memory, type_ in dict.fromkeys((i.mems[0], trial.kernel.types[i.args[1]]) for i in stores):
        target = trial.kernel.memories[memory]
        if isinstance(target, Buffer) and (yield _copy(trial, target, type_)) is not None:
            return


def _copy(trial: Trial, target: Buffer, type_: Type) -> Trial:
    """Return a launch that copies one value to a buffer of the kernel."""
    source = Buffer("x" if target.name != "x" else "x0", type_.dtype, Extent((type_.lanes,)), "read")
    body = (
        Instr("loop.grid", "g", Type(I32), imms=(1,)),
        Instr("loop.lane", "l", Type(I32), imms=(1,)),
        _access("load", type_, source.name, ("g",), "v"),
        _access("store", type_, target.name, ("g", "v"), ""),
        Instr("endloop", args=("l",)),
        Instr("endloop", args=("g",)),
    )
    out = replace(target, extent=Extent((type_.lanes,)))
    kernel = Kernel(trial.kernel.name, (source, out), (), (), body, trial.kernel.numeric)
    inputs = {source.name: np.ones(type_.lanes, type_.dtype.numpy)}
    if target.name in trial.inputs:
        inputs[target.name] = np.zeros(type_.lanes, target.dtype.numpy)
    return Trial(kernel, {}, inputs, trial.device_check_only)


def one_run(trial: Trial, found: Finding) -> Steps:
    """Of a kernel that does the same on each element, the first wrong element alone."""
    kernel = trial.kernel
    wrong = found.mismatch
    heads = [kernel.body[k] for k in (*kernel.nest.grids, *kernel.nest.lanes)]
    if wrong is None or len(heads) != 2 or kernel.lanes != 1 or not heads[0].imms or heads[0].imms[0] == 1:
        return
    runs = heads[0].imms[0]
    lengths = {b.name: b.extent.evaluate(trial.scalars) for b in kernel.buffers}
    if any(n % runs for n in lengths.values()) or not lengths.get(wrong.buffer):
        return
    width = {name: n // runs for name, n in lengths.items()}
    at = wrong.element // width[wrong.buffer]
    body = [replace(i, imms=(1,)) if i is heads[0] else i for i in kernel.body]
    buffers = tuple(replace(b, extent=Extent((width[b.name],))) for b in kernel.buffers)
    inputs = {n: a[at * width[n] : (at + 1) * width[n]] for n, a in trial.inputs.items()}
    yield replace(trial, kernel=replace(kernel, body=tuple(body), buffers=buffers), inputs=inputs)


def _stands_alone(instr: Instr) -> bool:
    pure = instr.form.effect == "pure" and instr.name != "phi.carry" and bool(instr.args)
    return pure and instr.type != Type(TOKEN)


def _alone(trial: Trial, instr: Instr, seen: list[Seen]) -> Trial | None:
    """Return a launch that computes one instruction for each set of operands."""
    sets = [_rows(operands) for each in seen for operands in each.operands]
    if not sets or instr.type is None:
        return None
    arrays = [np.concatenate(parts)[:_MOST_RUNS] for parts in zip(*sets, strict=True)]
    runs = len(arrays[0])
    names = [f"x{k}" for k in range(len(arrays))]
    types = [trial.kernel.types[a] for a in instr.args]
    buffers = [Buffer(n, t.dtype, Extent((runs * t.lanes,)), "read") for n, t in zip(names, types, strict=True)]
    out = Buffer("out", instr.type.dtype, Extent((runs * instr.type.lanes,)), "write")
    body = tuple(_body(instr, names, types, runs))
    kernel = Kernel(trial.kernel.name, (*buffers, out), (), (), body, trial.kernel.numeric)
    inputs = {n: np.ascontiguousarray(a).reshape(-1) for n, a in zip(names, arrays, strict=True)}
    return Trial(kernel, {}, inputs)


def _rows(operands: tuple[Array, ...]) -> list[Array]:
    """Return the operands of one execution with a row for each lane of each group."""
    lead = np.broadcast_shapes(*(a.shape[:2] for a in operands))
    return [np.broadcast_to(a, (*lead, *a.shape[2:])).reshape(-1, *a.shape[2:]) for a in operands]


def _body(instr: Instr, names: list[str], types: list[Type], runs: int) -> Iterator[Instr]:
    index = Type(I32)
    assert instr.type is not None
    widths = sorted({t.lanes for t in (*types, instr.type)} - {1})
    yield from (Instr("mov.const", f"c{w}", index, imms=(w,)) for w in widths)
    yield Instr("loop.grid", "g", index, imms=(runs,))
    yield Instr("loop.lane", "l", index, imms=(1,))
    yield from (Instr("mul", f"g{w}", index, args=("g", f"c{w}")) for w in widths)
    at = {1: "g"} | {w: f"g{w}" for w in widths}
    for name, type_ in zip(names, types, strict=True):
        yield _access("load", type_, name, (at[type_.lanes],), f"v_{name}")
    yield replace(instr, result="r", args=tuple(f"v_{n}" for n in names))
    yield _access("store", instr.type, "out", (at[instr.type.lanes], "r"), "")
    yield Instr("endloop", args=("l",))
    yield Instr("endloop", args=("g",))


def _access(op: str, type_: Type, memory: str, args: tuple[str, ...], result: str) -> Instr:
    vector = type_.lanes > 1
    imms = (type_.dtype.bytes,) if vector else ()
    name = f"{op}.vec" if vector else op
    return Instr(name, result, type_ if result else None, args=args, mems=(memory,), imms=imms)
