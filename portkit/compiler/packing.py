"""Packing the factors of a contraction into shared memory, where register tiles read them in order.

A panel of the right factor lies there step by step, its columns in order; rows of the left factor row by row, or step
by step, whichever way they can be read in vectors. Whatever the factor is computed from is computed here, once.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from math import ceil

from portkit.compiler.contraction import Contraction, divides, runs_along, size
from portkit.compiler.emit import Emitter
from portkit.compiler.index import Axis, Index, minimum
from portkit.compiler.lower import ragged_mask
from portkit.compiler.nest import Value
from portkit.compiler.rebase import Rebase
from portkit.compiler.tiles import TileSchedule, row_steps
from portkit.spec.builder import Mem, Reg

_FEW = 4
"""Vectors of a run that are written out."""


@contextmanager
def turns(e: Emitter, count: Index) -> Generator[Index]:
    """Open a serial loop and a scope, and give the loop's index as an expression; no loop where there is one turn."""
    if count == 1:
        with e.scope():
            yield 0
        return
    axis = Axis(count)
    with e.b.serial(e.count(count)) as loop, e.scope():
        e.bind(axis, loop.index)
        yield axis


class Packing:
    """The packing loops of one kernel."""

    def __init__(self, c: Contraction, s: TileSchedule, e: Emitter, panel: Mem, rows: Mem) -> None:
        self.c, self.s, self.e, self.b = c, s, e, e.b
        self.panel_memory, self.rows_memory = panel, rows
        self.align = s.lanes * c.fold.dtype.bytes

    # --- panels of the right factor -----------------------------------------------------------------------------------

    def panel(self, first_step: Index, steps: Index, panel: Index, column: Index, end: Index, strips: Index) -> None:
        """Pack `strips` tiles of columns for some steps; columns from `end` on are any numbers."""
        if self.s.right == "runs":
            self._runs(first_step, steps, panel, strips)
        elif runs_along(self.c.right, self.c.n):
            with self._step(first_step, steps) as step, turns(self.e, strips * self.s.vectors) as vector:
                self._columns(step, column, end, vector)
        else:  # each vector of columns for all steps, so that what lies along k in memory is read in order
            with turns(self.e, strips * self.s.vectors) as vector, self._step(first_step, steps) as step:
                self._columns(step, column, end, vector)

    @contextmanager
    def _step(self, first_step: Index, steps: Index) -> Generator[Index]:
        with turns(self.e, steps) as step:
            self.e.bind(self.c.k, self.e.index(first_step + step))
            yield step

    def _columns(self, step: Index, column: Index, end: Index, vector: Index) -> None:
        c, e, s = self.c, self.e, self.s
        start = column + vector * s.lanes
        e.bind(c.n, e.index(start))
        ragged = not divides(s.tile, c.n)
        mask = ragged_mask(e, end - start, s.lanes) if ragged else None
        with e.vectorised(c.n, s.lanes, mask):
            self._put(self.panel_memory, step * s.stride + vector * s.lanes, c.right, self.align)

    def _runs(self, first_step: Index, steps: Index, panel: Index, strips: Index) -> None:
        """Pack whole runs: the last vector of each reaches into the next, which comes later."""
        e, runs = self.e, self.c.right_runs
        assert runs is not None
        length = size(runs.run)
        each = self.s.panel // length
        count = minimum(each, runs.outer.extent - panel * each)
        with self._step(first_step, steps) as step:
            self._clear_last_strip(step, strips, count * length)
            e.hoist([runs.value], frozenset({runs.outer, runs.run}))
            with turns(e, count) as run:
                e.bind(runs.outer, e.index(panel * each + run))
                e.hoist([runs.value], frozenset({runs.run}))
                self._run(self.panel_memory, runs.run, runs.value, step * self.s.stride + run * length)

    def _run(self, mem: Mem, axis: Axis, value: Value, place: Index) -> None:
        """Pack one run: the vectors at its ends apart, where alone there can be padding."""
        e, lanes = self.e, self.s.lanes
        vectors = ceil(size(axis) / lanes)
        pieces = [(v, 1) for v in range(vectors)] if vectors <= _FEW else [(0, 1), (1, vectors - 2), (vectors - 1, 1)]
        for first, count in pieces:
            rest = min(lanes, size(axis) - first * lanes)
            lane = Axis(rest)
            with turns(e, count) as turn:
                start = (turn + first) * lanes
                e.bind(lane, e.i32(0))
                mask = ragged_mask(e, rest, lanes) if rest < lanes else None
                with e.vectorised(lane, lanes, mask):
                    self._put(mem, place + start, Rebase({axis: start + lane}).value(value))

    def _clear_last_strip(self, step: Index, strips: Index, columns: Index) -> None:
        s = self.s
        if strips * s.tile == columns:
            return
        zero = self.b.splat(self.b.bits_const(self.c.fold.dtype.name, 0), s.lanes)
        for v in range(s.vectors):
            at = step * s.stride + (strips - 1) * s.tile + v * s.lanes
            self.b.store_vec(self.panel_memory, self.e.index(at), zero, align=self.align)

    # --- rows of the left factor --------------------------------------------------------------------------------------

    def rows(self, row: Index, first_step: Index, steps: Index) -> None:
        """Pack a group of rows for some steps; rows beyond the last are any numbers."""
        ways = {"along k": self._rows_along_k, "along m": self._rows_along_m, "runs": self._rows_in_runs}
        ways[self.s.left](row, first_step, steps)

    def _rows_in_runs(self, row: Index, first_step: Index, steps: Index) -> None:
        c, e, runs = self.c, self.e, self.c.left_runs
        assert runs is not None
        length = size(runs.run)
        with turns(e, self.s.group) as r:
            e.bind(c.m, e.index(minimum(row + r, c.m.extent - 1)))
            e.hoist([runs.value], frozenset({runs.outer, runs.run}))
            with turns(e, steps // length) as run:
                e.bind(runs.outer, e.index(first_step // length + run))
                e.hoist([runs.value], frozenset({runs.run}))
                self._run(self.rows_memory, runs.run, runs.value, r * row_steps(self.s)[0] + run * length)

    def _rows_along_k(self, row: Index, first_step: Index, steps: Index) -> None:
        c, e, s = self.c, self.e, self.s
        ragged = size(c.k) % s.lanes != 0 or s.depth % s.lanes != 0
        with turns(e, s.group) as r:
            e.bind(c.m, e.index(minimum(row + r, c.m.extent - 1)))
            e.hoist([c.left], frozenset({c.k}))
            with turns(e, (steps + (s.lanes - 1)) // s.lanes) as vector:
                start = first_step + vector * s.lanes
                e.bind(c.k, e.index(start))
                mask = ragged_mask(e, size(c.k) - start, s.lanes) if ragged else None
                with e.vectorised(c.k, s.lanes, mask):
                    self._put(self.rows_memory, r * row_steps(s)[0] + vector * s.lanes, c.left, self.align)

    def _rows_along_m(self, row: Index, first_step: Index, steps: Index) -> None:
        c, e, s = self.c, self.e, self.s
        ragged = not divides(s.group, c.m) or s.group % s.lanes != 0
        with self._step(first_step, steps) as step:
            e.hoist([c.left], frozenset({c.m}))
            with turns(e, ceil(s.group / s.lanes)) as vector:
                start = row + vector * s.lanes
                e.bind(c.m, e.index(start))
                mask = ragged_mask(e, c.m.extent - start, s.lanes) if ragged else None
                with e.vectorised(c.m, s.lanes, mask):
                    self._put(self.rows_memory, step * row_steps(s)[1] + vector * s.lanes, c.left, self.align)

    # --- small parts --------------------------------------------------------------------------------------------------

    def _put(self, mem: Mem, at: Index, value: Value, align: int = 0) -> None:
        x: Reg = self.e.splat(self.e.value(value))
        self.b.store_vec(mem, self.e.index(at), x, align=align)
