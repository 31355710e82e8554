"""Kernels of divergent loops: lanes leave them one by one, and what has left loads, stores and adds nothing any more.

In every kernel the counts of nested loops come from a number of the lane's own, two bits for each, so that the counts
of an inner loop go on differing from zero where the outer one has no trip left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from portkit.conformance.case import Case
from portkit.conformance.cases.draws import Draws
from portkit.conformance.cases.kernelcase import Arrays, KernelCase, Scalars, rows_to_cases
from portkit.conformance.cases.shapes import KERNEL_NEEDS
from portkit.conformance.cases.writing import Writer
from portkit.contract import Capabilities
from portkit.spec.builder import Mem, Reg
from portkit.spec.kernel import Kernel, Numeric

LANES = 64
GROUPS = 3
BINS = 16
MOST_TRIPS = 4
"""Of each loop: a lane runs from none to three of them."""
FAR = 1 << 28
"""An index at which no memory is, for whoever should not load."""

Effect = Callable[[Writer, Mem, Reg, Reg], None]
"""Given the writer, the memory, the place of this trip among all that there could be, and the lane's number."""


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the kernels of divergent loops."""
    yield from rows_to_cases(_rows(), capabilities)


def _trips(w: Writer, value: Reg, depth: int, outer: Reg | None) -> Reg:
    """Return the count of a loop: two bits of the lane's number, others in each trip of the loop around it."""
    first = w.i32(6 * depth) if outer is None else w.plus(w.times(outer, 2), 6 * depth)
    return w.band(w.shr(value, first), MOST_TRIPS - 1)


def effect_kernel(name: str, effect: Effect, depth: int, out_extent: int, numeric: Numeric = "fast") -> Kernel:
    """Has an effect in the innermost of `depth` loops, in each of their trips."""
    w = Writer(f"divergent_{name}_{depth}", numeric)
    a = w.buffer("a", "i32", ("groups", LANES), "read")
    out = w.buffer("out", "i32", ("groups", out_extent), "readwrite")
    group, lane = w.grid(w.scalar("groups", "i32")), w.lane(LANES)
    item = w.index(group, LANES, lane)
    value = w.load(a, item)

    def level(left: int, place: Reg, outer: Reg | None) -> None:
        if not left:
            effect(w, out, place, value)
            return
        with w.serial(_trips(w, value, depth - left, outer)) as loop:
            level(left - 1, w.index(place, MOST_TRIPS, loop.index), loop.index)

    level(depth, item, None)
    return w.build()


def _store(w: Writer, out: Mem, place: Reg, value: Reg) -> None:
    w.store(out, place, w.xor(value, place))


def _gated(w: Writer, out: Mem, place: Reg, value: Reg) -> None:
    w.store(out, place, w.xor(value, place), gate=w.same(w.band(w.add(value, place), 1), 1))


def _added(w: Writer, out: Mem, place: Reg, value: Reg) -> None:
    w.op("store.atomic.add", w.band(place, BINS - 1), w.plus(w.band(value, 255), 1), mems=(out,))


def load_kernel(depth: int, numeric: Numeric = "fast") -> Kernel:
    """Sums what each trip loads; what a lane would load after its last trip is far outside of the table."""
    w = Writer(f"divergent_load_{depth}", numeric)
    a, out = (w.buffer(n, "i32", ("groups", LANES), "read" if n == "a" else "write") for n in ("a", "out"))
    table = w.buffer("table", "i32", MOST_TRIPS**depth, "read")
    group, lane = w.grid(w.scalar("groups", "i32")), w.lane(LANES)
    item = w.index(group, LANES, lane)
    value = w.load(a, item)

    def level(left: int, place: Reg, outer: Reg | None, running: Reg, total: Reg) -> Reg:
        if not left:
            return w.add(total, w.load(table, w.choose(running, place, w.i32(FAR))))
        count = _trips(w, value, depth - left, outer)
        with w.serial(count, total=total) as loop:
            inside = w.both(running, w.lt(loop.index, count))
            inner = level(left - 1, w.index(place, MOST_TRIPS, loop.index), loop.index, inside, loop["total"])
            loop.next(total=inner)
        return loop["total"]

    w.store(out, item, level(depth, w.i32(0), None, w.same(item, item), value))
    return w.build()


def _lane_numbers(case_id: str) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Return thirty random bits for each lane of all groups."""
    return Draws(case_id).bits(30, GROUPS * LANES).astype(np.int32)


def _effect_data(out_extent: int, case_id: str) -> tuple[Scalars, Arrays]:
    return {"groups": GROUPS}, {"a": _lane_numbers(case_id), "out": np.arange(GROUPS * out_extent, dtype=np.int32)}


def _load_data(depth: int, case_id: str) -> tuple[Scalars, Arrays]:
    table = Draws(f"{case_id}/table").bits(30, MOST_TRIPS**depth).astype(np.int32)
    return {"groups": GROUPS}, {"a": _lane_numbers(case_id), "table": table}


def _rows() -> Iterator[KernelCase]:
    for depth in (1, 2, 3):
        places = LANES * MOST_TRIPS**depth
        yield _effect_row("store", _store, depth, places)
        yield _effect_row("gated", _gated, depth, places)
        yield _effect_row("atomic", _added, depth, BINS, ("atomic", "atomic.add.i32"))
        build, data = partial(load_kernel, depth), partial(_load_data, depth)
        yield KernelCase(f"kernels/divergent/load/{depth}_deep", build, data, needs=KERNEL_NEEDS)


def _effect_row(name: str, effect: Effect, depth: int, extent: int, requires: tuple[str, ...] = ()) -> KernelCase:
    build, data = partial(effect_kernel, name, effect, depth, extent), partial(_effect_data, extent)
    return KernelCase(f"kernels/divergent/{name}/{depth}_deep", build, data, needs=KERNEL_NEEDS, requires=requires)
