"""The memory planner: where the temporaries of a program lie in one arena.

A temporary lives from the first launch that names it to the last, both included. Two that live at the same time do not
overlap; the arena should be hardly larger than what is alive at the worst moment, its *peak*, which no plan can beat.
To place them as well as possible is NP-hard (dynamic storage allocation: Garey and Johnson 1979, SR2), so a few
heuristics run and the best result is kept: best fit along the launches, forwards and backwards, which takes
O(n log n) and suits the nested lifetimes of a forward and backward pass; and where that leaves more than a little
waste, largest first (Pisarchyk and Lee 2020, "Efficient Memory Management for Deep Neural Net Inference").

No launch writes in place of what it reads last: after fusion that would lower the peak of ResNet-18's training by 0.5 %
at most, and cost every such kernel a second form, as two buffers of a launch never share memory (Spec: header_c6).

Devices that cannot address a part of a buffer get `colours` instead: whole buffers, each used by many slots in turn.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from portkit.compiler.index import Expr, evaluate
from portkit.compiler.program import Program
from portkit.contract import ALIGNMENT

_GOOD_ENOUGH = 1.02
_MOST_LARGEST_FIRST = 4096


class Lifetime(NamedTuple):
    """A slot, the first and last launch that name it, and its size in bytes, a multiple of `ALIGNMENT`."""

    slot: int
    first: int
    last: int
    size: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Where each temporary starts in the arena, how large that is, and the least that it could be; in bytes."""

    offsets: dict[int, int]
    arena_bytes: int
    peak_live_bytes: int


@dataclass(frozen=True, slots=True)
class Colours:
    """Buffers that temporaries take turns in: their sizes in bytes, and which of them each slot uses."""

    sizes: tuple[int, ...]
    of: dict[int, int]


def plan(program: Program, variables: Mapping[Expr, int] | None = None) -> Plan:
    """Return offsets for the temporaries of a program, given values for its dynamic dimensions.

    Raises `KeyError` for a variable without a value.
    """
    return place(lifetimes(program, variables))


def lifetimes(program: Program, variables: Mapping[Expr, int] | None = None) -> list[Lifetime]:
    """Return the lifetime of every temporary that a launch names, in order of first use."""
    spans: dict[int, tuple[int, int]] = {}
    for at, launch in enumerate(program.launches):
        for slot in launch.buffers:
            spans[slot] = (spans[slot][0] if slot in spans else at, at)
    return [
        Lifetime(slot, first, last, aligned(size_of(program.slots[slot].bytes, variables)))
        for slot, (first, last) in spans.items()
        if program.slots[slot].role == "temporary"
    ]


def size_of(size: int | Expr, variables: Mapping[Expr, int] | None = None) -> int:
    """Return the value of a size. Raises `KeyError` for a variable without a value."""
    return size if isinstance(size, int) else int(evaluate(size, dict(variables or {})))


def aligned(size: int) -> int:
    """Return the size rounded up to a multiple of `ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def peak(alive: Iterable[Lifetime]) -> int:
    """Return the most bytes that live at one time."""
    changes: dict[int, int] = {}
    for life in alive:
        changes[life.first] = changes.get(life.first, 0) + life.size
        changes[life.last + 1] = changes.get(life.last + 1, 0) - life.size
    most = now = 0
    for at in sorted(changes):
        now += changes[at]
        most = max(most, now)
    return most


def place(alive: Sequence[Lifetime]) -> Plan:
    """Return offsets for lifetimes, by the best of a few heuristics."""
    least = peak(alive)
    found: list[tuple[int, dict[int, int]]] = []
    backwards = [Lifetime(slot, -last, -first, size) for slot, first, last, size in alive]
    for heuristic, lives in ((_best_fit, alive), (_best_fit, backwards), (_largest_first, alive)):
        if heuristic is _largest_first and len(alive) > _MOST_LARGEST_FIRST:
            continue
        found.append(heuristic(lives))
        if found[-1][0] <= _GOOD_ENOUGH * least:
            break
    end, offsets = min(found, key=lambda result: result[0])
    return Plan(offsets, end, least)


class _Gaps:
    """The free ranges below the top of a growing arena, by size and by their ends."""

    def __init__(self) -> None:
        self.top = 0
        self._by_size: list[tuple[int, int]] = []  # (size, start), sorted
        self._ending: dict[int, int] = {}  # start by end
        self._starting: dict[int, int] = {}  # end by start

    def take(self, size: int) -> int:
        """Return the start of the smallest gap that fits, cut from its low end; else grow the arena."""
        at = bisect_left(self._by_size, (size, 0))
        if at < len(self._by_size):
            room, start = self._by_size[at]
        elif self.top in self._ending:  # the last gap is too small, but may be extended
            start = self._ending[self.top]
            room, self.top = self.top - start, start + size
        else:
            start, self.top = self.top, self.top + size
            return start
        self._remove(start, start + room)
        if room > size:
            self._insert(start + size, start + room)
        return start

    def give(self, start: int, end: int) -> None:
        """Take a range back, joined with the gaps beside it."""
        if start in self._ending:
            below = self._ending[start]
            self._remove(below, start)
            start = below
        if end in self._starting:
            above = self._starting[end]
            self._remove(end, above)
            end = above
        self._insert(start, end)

    def _insert(self, start: int, end: int) -> None:
        insort(self._by_size, (end - start, start))
        self._ending[end], self._starting[start] = start, end

    def _remove(self, start: int, end: int) -> None:
        del self._by_size[bisect_left(self._by_size, (end - start, start))]
        del self._ending[end], self._starting[start]


def _best_fit(alive: Sequence[Lifetime]) -> tuple[int, dict[int, int]]:
    """Allocate and free along time, as a heap would; the largest first among those that start together."""
    gaps, offsets = _Gaps(), {life.slot: 0 for life in alive}
    sized = [life for life in alive if life.size]
    ending = iter(sorted(sized, key=lambda life: life.last))
    dying = next(ending, None)
    for life in sorted(sized, key=lambda life: (life.first, -life.size)):
        while dying is not None and dying.last < life.first:
            gaps.give(offsets[dying.slot], offsets[dying.slot] + dying.size)
            dying = next(ending, None)
        offsets[life.slot] = gaps.take(life.size)
    return gaps.top, offsets


def _largest_first(alive: Sequence[Lifetime]) -> tuple[int, dict[int, int]]:
    """Place the largest first, each in the smallest gap between those placed before that live at the same time."""
    order = sorted(alive, key=lambda life: (-life.size, life.first - life.last))
    first, last, start, end = (np.zeros(len(order), np.int64) for _ in range(4))  # sorted by start
    offsets: dict[int, int] = {}
    for count, life in enumerate(order):
        beside = np.flatnonzero((first[:count] <= life.last) & (last[:count] >= life.first))
        offset = _smallest_gap(start[beside], end[beside], life.size)
        offsets[life.slot] = offset
        at = int(np.searchsorted(start[:count], offset))
        for column, value in ((first, life.first), (last, life.last), (start, offset), (end, offset + life.size)):
            column[at + 1 : count + 1] = column[at:count].copy()
            column[at] = value
    return max((offsets[life.slot] + life.size for life in alive), default=0), offsets


def _smallest_gap(starts: np.ndarray, ends: np.ndarray, size: int) -> int:
    """Return the start of the smallest gap of at least `size` between ranges that are sorted by start; else the end."""
    if not len(starts):
        return 0
    below = np.concatenate(([0], np.maximum.accumulate(ends)))
    gaps = starts - below[:-1]
    fitting = np.flatnonzero(gaps >= size)
    return int(below[-1] if not len(fitting) else below[fitting[np.argmin(gaps[fitting])]])


def colours(alive: Sequence[Lifetime]) -> Colours:
    """Return whole buffers for lifetimes that cannot be parts of one: along time, the best fitting free buffer each.

    Where none is large enough, the largest free one grows.
    """
    sizes: list[int] = []
    of: dict[int, int] = {}
    free: list[int] = []
    ending = iter(sorted(alive, key=lambda life: life.last))
    dying = next(ending, None)
    for life in sorted(alive, key=lambda life: (life.first, -life.size)):
        while dying is not None and dying.last < life.first:
            free.append(of[dying.slot])
            dying = next(ending, None)
        if free:
            fits = [colour for colour in free if sizes[colour] >= life.size]
            chosen = min(fits, key=sizes.__getitem__) if fits else max(free, key=sizes.__getitem__)
            free.remove(chosen)
            sizes[chosen] = max(sizes[chosen], life.size)
        else:
            chosen = len(sizes)
            sizes.append(life.size)
        of[life.slot] = chosen
    return Colours(tuple(sizes), of)
