"""Lowering of contractions: packed panels, register tiles and an epilogue, as one lane of each work-group runs them.

for each block of steps k:        pack the panel of the right factor
    for each tile of rows:        pack its rows of the left factor, unless they are read in place
        for each tile of columns: accumulators in registers over the block's steps
                                  -> sums in shared memory, or straight to the epilogue
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

from portkit.compiler.contraction import Contraction, divides, size
from portkit.compiler.emit import Emitter, identity_bits
from portkit.compiler.graph import count
from portkit.compiler.index import Axis, Index, minimum, substitute, unravel
from portkit.compiler.lower import ragged_mask
from portkit.compiler.packing import Packing, turns
from portkit.compiler.register_tile import Operand, Products
from portkit.compiler.schedule import grows
from portkit.compiler.tiles import TileSchedule, padded, row_steps, shared_elements
from portkit.spec.builder import Mem, Reg


def lower_tiles(c: Contraction, schedule: TileSchedule, e: Emitter) -> None:
    """Emit the whole body of a kernel, grid and lane loops included."""
    _Tiles(c, schedule, e).emit()


class _Tiles:
    def __init__(self, c: Contraction, schedule: TileSchedule, e: Emitter) -> None:
        self.c, self.s, self.e, self.b = c, schedule, e, e.b
        self.dtype = c.fold.dtype
        self.m, self.n, self.k = c.m.extent, c.n.extent, size(c.k)
        self.blocks = ceil(self.k / schedule.depth)
        self.row_block = Axis((self.m + (schedule.row_block - 1)) // schedule.row_block)
        self.panel = Axis((self.n + (schedule.panel - 1)) // schedule.panel)
        self.block: Index = 0
        self.first_row, self.first_column = self.row_block * schedule.row_block, self.panel * schedule.panel
        self.row_count = minimum(schedule.row_block, self.m - self.first_row)
        self.end_column = minimum(self.first_column + schedule.panel, self.n)
        self.strips = (self.end_column - self.first_column + (schedule.tile - 1)) // schedule.tile
        panel, rows, sums = shared_elements(c, schedule)
        self.packing = Packing(c, schedule, e, self._shared("panel", panel), self._shared("rows", rows))
        self.sums = self._shared("sums", sums)
        whole = self.k % schedule.unroll == 0 and schedule.depth % schedule.unroll == 0
        self.products = Products(e, schedule.lanes, schedule.unroll, whole)
        self.sums_stride = padded(schedule.panel, schedule.tile) if self.blocks > 1 else schedule.tile

    def _shared(self, name: str, elements: int) -> Mem:
        return self.b.shared(name, self.dtype.name, elements) if elements else Mem(name, self.dtype)

    def emit(self) -> None:
        extents = [a.extent for a in (*self.c.batch, self.row_block, self.panel)]
        total = count(extents)
        task = Axis(total)
        group = self.b.grid(total if isinstance(total, int) else self.e.index(total))
        self.b.lane(1)
        self.e.bind(task, group)
        for axis, place in zip((*self.c.batch, self.row_block, self.panel), unravel(task, extents), strict=True):
            self.e.bind(axis, self.e.index(place))
        self._hoist({self.c.m, self.c.n})
        if self.blocks == 1:
            self._block(self.s.depth)
        else:
            self._clear()
            with turns(self.e, self.blocks) as block:
                self.block = block
                self._block(minimum(self.s.depth, self.k - block * self.s.depth))
            self._finish()

    def _hoist(self, inner: set[Axis]) -> None:
        stores = self.c.stores
        self.e.hoist(
            [self.c.fold, *(s.value for s in stores)], frozenset({*inner, self.c.k}), [s.index for s in stores]
        )

    # --- blocks -------------------------------------------------------------------------------------------------------

    def _block(self, steps: Index) -> None:
        """Pack the panel for some steps of the sum, and run over all register tiles."""
        s, e = self.s, self.e
        first_step = self.block * s.depth
        if s.right != "direct":
            self.packing.panel(first_step, steps, self.panel, self.first_column, self.end_column, self.strips)
        with turns(e, (self.row_count + (s.group - 1)) // s.group) as group:
            first = group * s.group
            if s.left != "direct":
                self.packing.rows(self.first_row + first, first_step, steps)
            rest = minimum(s.group, self.row_count - first)
            with turns(e, (rest + (s.rows - 1)) // s.rows) as tile:
                left = self._left(first, tile * s.rows, first_step)
                with turns(e, self.strips) as strip:
                    self._strip(first + tile * s.rows, left, strip, first_step, steps)

    def _strip(self, row: Index, left: Operand, strip: Index, first_step: Index, steps: Index) -> None:
        """Run over one register tile: from the sums so far to the new ones, or to the epilogue."""
        s, e = self.s, self.e
        at = row * self.sums_stride + strip * s.tile if self.blocks > 1 else 0
        places = [e.index(at + r * self.sums_stride + v * s.lanes) for r in range(s.rows) for v in range(s.vectors)]
        totals = self.products.tile(left, self._right(strip, first_step), steps, self._start(places))
        for place, total in zip(places, totals, strict=True):
            self._store_sum(place, total)
        if self.blocks == 1:
            rows = minimum(s.rows, self.row_count - row)
            column = self.first_column + strip * s.tile
            self._epilogue(self.first_row + row, rows, column, s.vectors, lambda r, v: r * s.tile + v * s.lanes)

    def _start(self, places: Sequence[Reg]) -> list[Reg]:
        if self.blocks > 1:
            return [self.b.load_vec(self.sums, p, self.s.lanes, align=self._align) for p in places]
        return [self._identity()] * len(places)

    def _identity(self) -> Reg:
        return self.b.splat(self.b.bits_const(self.dtype.name, identity_bits("add", self.dtype)), self.s.lanes)

    @property
    def _align(self) -> int:
        return self.s.lanes * self.dtype.bytes

    def _store_sum(self, place: Reg, total: Reg) -> None:
        self.b.store_vec(self.sums, place, total, align=self._align)

    def _clear(self) -> None:
        zero = self._identity()
        vectors = self.s.row_block * self.sums_stride // self.s.lanes
        with turns(self.e, vectors) as i:
            self._store_sum(self.e.index(i * self.s.lanes), zero)

    def _finish(self) -> None:
        """Make the stores of all rows from the sums in shared memory."""
        s = self.s
        vectors = self.strips * s.vectors
        self._epilogue(
            self.first_row, self.row_count, self.first_column, vectors, lambda r, v: r * self.sums_stride + v * s.lanes
        )

    # --- register tiles -----------------------------------------------------------------------------------------------

    def _left(self, first: Index, row: Index, first_step: Index) -> Operand:
        """Return where the rows from `row` of the group that begins with row `first` of the block are."""
        s, e, c = self.s, self.e, self.c
        if s.left != "direct":
            apart, step = row_steps(s)
            return Operand(self.packing.rows_memory, [e.index((row + r) * apart) for r in range(s.rows)], step)
        memory, at, _, _ = c.left.attr
        start = substitute(at, {c.k: first_step})
        bases: list[Reg] = []
        for r in range(s.rows):
            with e.scope():
                e.bind(c.m, e.index(minimum(self.first_row + first + row + r, self.m - 1)))
                bases.append(e.index(start))
        return Operand(e.memories[memory], bases, grows(at, c.k) or 0)

    def _right(self, strip: Index, first_step: Index) -> Operand:
        s, e, c = self.s, self.e, self.c
        offsets = range(0, s.tile, s.lanes)
        if s.right != "direct":
            bases = [e.index(strip * s.tile + v) for v in offsets]
            return Operand(self.packing.panel_memory, bases, s.stride, self._align, (None,) * s.vectors)
        memory, at, _, _ = c.right.attr
        column = self.first_column + strip * s.tile
        start = substitute(at, {c.k: first_step, c.n: column})
        masks = tuple(self._mask(self.end_column - column - v) for v in offsets)
        return Operand(e.memories[memory], [e.index(start + v) for v in offsets], grows(at, c.k) or 0, masks=masks)

    # --- epilogue -----------------------------------------------------------------------------------------------------

    def _epilogue(
        self, row: Index, rows: Index, column: Index, vectors: Index, place: Callable[[Index, Index], Index]
    ) -> None:
        """Make the stores of `rows` rows and `vectors` vectors of columns, whose sums lie at `place(row, vector)`."""
        c, e, s = self.c, self.e, self.s
        with turns(self.e, rows) as r:
            e.bind(c.m, e.index(row + r))
            self._hoist({c.n})
            with turns(self.e, vectors) as v:
                e.bind(c.n, e.index(column + v * s.lanes))
                with e.vectorised(c.n, s.lanes, self._mask(self.end_column - c.n)):
                    sums = self.b.load_vec(self.sums, e.index(place(r, v)), s.lanes, align=self._align)
                    e.set(c.fold, sums)
                    for store in c.stores:
                        e.store(store)

    def _mask(self, rest: Index) -> Reg | None:
        """Return which lanes are among the first `rest`, None where tiles fit panels."""
        if self.s.panel % self.s.tile == 0 and divides(self.s.tile, self.c.n):
            return None
        return ragged_mask(self.e, rest, self.s.lanes)
