"""Lowering of attention: one pass over keys for each block of queries, as one lane of each work-group runs it.

    pack the queries of the block, transposed; m = -inf, l = 0, out = 0
    for each block of keys:
        s = keys x queries in register tiles, then whatever the scores are computed by; m' = max(m, s)
        p = exp(s - m');  l = l * exp(m - m') + sum p;  out = out * exp(m - m') + values x p in register tiles
    the epilogue of out / l

Vectors run along the queries, so that maxima and sums need no reduction across lanes, keys and values are read in
place, and only queries and results are transposed, once for each block. Scores are in shared memory for one block of
keys.
Sources: M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax", 2018; T. Dao et al., "FlashAttention",
2022.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from math import ceil, log
from typing import TypeAlias

from portkit.compiler.attention import Attention, OnlineSchedule, first_hidden, mask_stride, masks_along_keys
from portkit.compiler.contraction import is_plain
from portkit.compiler.decompose import emit
from portkit.compiler.derived.code import Code
from portkit.compiler.derived.exponential import exp_inside
from portkit.compiler.emit import Emitter
from portkit.compiler.extents import most
from portkit.compiler.graph import count
from portkit.compiler.index import Axis, Expr, Index, minimum, substitute, unravel
from portkit.compiler.lower import emit_tasks, ragged_mask
from portkit.compiler.nest import Nest, Value
from portkit.compiler.packing import turns
from portkit.compiler.schedule import RowSchedule, grows
from portkit.spec.builder import Mem, Reg
from portkit.spec.types import BOOL, I32, DType, encode, infinity_bits

Turn: TypeAlias = Callable[[Index, list[Reg]], None]

_PARTS = 4
"""Partial sums that keep the additions of values going."""


def lower_online(nest: Nest, a: Attention, schedule: OnlineSchedule, e: Emitter) -> None:
    """Emit the whole body of a kernel, grid and lane loops included."""
    _Online(nest, a, schedule, e).emit()


@dataclass(frozen=True, eq=False, slots=True)
class _Rows:
    """A factor of which single elements are read: where they lie, if not in the memory of the nest."""

    value: Value
    row: Axis
    along: Axis | None
    packed: Mem | None
    stride: int


def _in_memory(dtype: DType) -> DType:
    return I32 if dtype is BOOL else dtype


class _Online:
    def __init__(self, nest: Nest, a: Attention, schedule: OnlineSchedule, e: Emitter) -> None:
        self.nest, self.a, self.s, self.e, self.b = nest, a, schedule, e, e.b
        self.dtype = a.fold.dtype
        self.depth, self.columns = most(a.depth.extent), a.columns
        self.block = Axis(-(-a.query.extent // schedule.queries))
        self.first_query = self.block * schedule.queries
        self.masks: list[Reg | None] = []
        self.packed_queries = self._shared("queries", self.depth * schedule.queries)
        self.weights = self._shared("weights", schedule.keys * schedule.queries)
        self.sums = self._shared("sums", self.columns * schedule.queries)
        self.highest, self.total, self.rescale = (
            self._shared(name, schedule.queries) for name in ("highest", "total", "rescale")
        )
        self.keys = self._rows("keys", a.keys, a.depth)
        self.values = self._rows("values", a.values, a.column)
        self.mask_stride = mask_stride(schedule.keys, schedule.lanes)
        self.near = {
            mask: self._shared(f"mask{i}", self.mask_stride * schedule.queries, _in_memory(mask.dtype))
            for i, mask in enumerate(masks_along_keys(a))
        }

    def _shared(self, name: str, elements: int, dtype: DType | None = None) -> Mem:
        return self.b.shared(name, (dtype or self.dtype).name, elements)

    def _rows(self, name: str, value: Value, along: Axis | None) -> _Rows:
        axes = [x for x in (self.a.key, along) if x is not None]
        if is_plain(value, *axes) and value.dtype is self.dtype:
            return _Rows(value, self.a.key, along, None, 0)
        stride = ceil((1 if along is None else most(along.extent)) / self.s.lanes) * self.s.lanes
        return _Rows(value, self.a.key, along, self._shared(name, self.s.keys * stride), stride)

    def emit(self) -> None:
        extents = [x.extent for x in (*self.a.batch, self.block)]
        tasks = RowSchedule("none", 1, 1, self.s.groups, 1)
        emit_tasks(self.e, count(extents), tasks, lambda task: self._task(task, extents))

    def _task(self, task: Axis, extents: Sequence[Index]) -> None:
        e = self.e
        for axis, place in zip((*self.a.batch, self.block), unravel(task, extents), strict=True):
            e.bind(axis, e.index(place))
        self.masks = [self._mask(v) for v in range(self.s.vectors)]
        blocks = self._blocks()
        self._start(minimum(blocks * self.s.keys, self.a.key.extent))
        with turns(e, blocks) as block:
            first = block * self.s.keys
            count = minimum(self.a.key.extent - first, self.s.keys)
            for factor in (self.keys, self.values):
                self._pack(factor, first, count)
            for mask, near in self.near.items():
                self._bring(mask, near, first, count)
            self._multiply(first, count)
            self._weigh(self._scores(first, count), count)
            self._sum(first, count)
        self._finish()

    def _mask(self, vector: int) -> Reg | None:
        extent = self.a.query.extent
        if isinstance(extent, int) and extent % self.s.queries == 0:
            return None
        return ragged_mask(self.e, extent - self.first_query - vector * self.s.lanes, self.s.lanes)

    def _blocks(self) -> Index:
        """Return how many blocks of keys any query of the block may attend to."""
        last = minimum(self.first_query + (self.s.queries - 1), self.a.query.extent - 1)
        end = None if self.a.column is None else first_hidden(self.a, last)
        return -(-(self.a.key.extent if end is None else end) // self.s.keys)

    # --- vectors ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _vector(self, vector: int) -> Generator[None]:
        """Make the queries of one vector of the block the vector axis."""
        e, query = self.e, self.a.query
        with e.scope():
            e.bind(query, e.index(self.first_query + vector * self.s.lanes))
            with e.vectorised(query, self.s.lanes, self.masks[vector]):
                yield

    def _each(self, make: Callable[[int], Reg]) -> list[Reg]:
        return [make(v) for v in range(self.s.vectors)]

    def _load(self, mem: Mem, row: Index, vector: int) -> Reg:
        at = self.e.index(row * self.s.queries + vector * self.s.lanes)
        return self.b.load_vec(mem, at, self.s.lanes)

    def _store(self, mem: Mem, row: Index, vector: int, x: Reg) -> None:
        self.b.store_vec(mem, self.e.index(row * self.s.queries + vector * self.s.lanes), x)

    def _const(self, bits: int) -> Reg:
        return self.b.splat(self.b.bits_const(self.dtype.name, bits), self.s.lanes)

    def _minus_infinity(self) -> Reg:
        return self._const(infinity_bits(self.dtype) | 1 << (self.dtype.bits - 1))

    def _map(self, name: str, *arguments: Reg) -> Reg:
        return emit(self.b, name, list(arguments), self.dtype, self.e.features)

    def _multiply_add(self, a: Reg, b: Reg, c: Reg) -> Reg:
        return self.b.fma(a, b, c) if self.e.features.fuses(self.dtype) else self.b.add(self.b.mul(a, b), c)

    # --- before the keys ----------------------------------------------------------------------------------------------

    def _start(self, hidden: Index) -> None:
        """Pack the queries of the block with vectors along queries, and clear the state; keys from `hidden` on are."""
        a, e = self.a, self.e
        with turns(e, self.depth) as step:
            e.bind(a.depth, e.index(step))
            for v in range(self.s.vectors):
                with self._vector(v):
                    self._store(self.packed_queries, step, v, e.splat(e.value(a.queries)))
        zero, lowest = self._const(0), self._minus_infinity()
        unseen = None if a.column is None or hidden == a.key.extent else self._unseen(a.column, hidden)
        with turns(e, self.columns) as column:
            first = zero if unseen is None else self.b.splat(self.b.load(unseen, e.index(column)), self.s.lanes)
            for v in range(self.s.vectors):
                self._store(self.sums, column, v, first)
        for v in range(self.s.vectors):
            self._store(self.total, 0, v, zero)
            self._store(self.highest, 0, v, lowest)

    def _unseen(self, column: Axis, hidden: Index) -> Mem:
        """Return the sums of the values of hidden keys, with weights of 0: only infinities and NaN leave a trace."""
        e, a = self.e, self.a
        zero = self._const(0)

        def turn(key: Index, total: list[Reg]) -> None:
            e.bind(a.key, e.index(hidden + key))
            total[:] = [*total[1:], self._multiply_add(e.splat(e.value(a.values)), zero, total[0])]

        sums = self._shared("unseen", ceil(self.columns / self.s.lanes) * self.s.lanes)
        for at in self._vectors_along(column):
            parts = self._carried(a.key.extent - hidden, [zero] * _PARTS, turn)
            self.b.store_vec(sums, e.index(at), reduce(self.b.add, parts))
        return sums

    def _pack(self, f: _Rows, first: Index, count: Index) -> None:
        """Compute the rows of a factor for one block of keys, if they are not read in place."""
        if f.packed is None:
            return
        with turns(self.e, count) as row:
            self.e.bind(f.row, self.e.index(first + row))
            if f.along is None:
                self.b.store(f.packed, self.e.index(row), self.e.value(f.value))
            else:
                self._pack_row(f.packed, f.value, f.along, row * f.stride)

    def _pack_row(self, target: Mem, value: Value, along: Axis, start: Index) -> None:
        for at in self._vectors_along(along):
            x = self.e.splat(self.e.value(value))
            self.b.store_vec(target, self.e.index(start + at), x)

    def _vectors_along(self, axis: Axis) -> Iterator[Index]:
        """Make another axis the vector axis, in a loop over whole vectors and once for those left; yield the starts."""
        e, lanes = self.e, self.s.lanes
        whole, rest = divmod(most(axis.extent), lanes)
        if whole:
            with turns(e, whole) as vector:
                e.bind(axis, e.index(vector * lanes))
                with e.vectorised(axis, lanes):
                    yield vector * lanes
        if rest:
            with e.scope():
                e.bind(axis, e.index(whole * lanes))
                with e.vectorised(axis, lanes, ragged_mask(e, rest, lanes)):
                    yield whole * lanes

    def _bring(self, mask: Value, near: Mem, first: Index, count: Index) -> None:
        """Compute a mask for one block of keys in vectors along keys, so that what is gathered of it is near."""
        e, a, lanes = self.e, self.a, self.s.lanes
        with turns(e, self.s.queries) as query:
            e.bind(a.query, e.index(minimum(self.first_query + query, a.query.extent - 1)))
            with turns(e, -(-count // lanes)) as vector:
                e.bind(a.key, e.index(first + vector * lanes))
                whole = isinstance(count, int) and count % lanes == 0
                ragged = None if whole else ragged_mask(e, count - vector * lanes, lanes)
                with e.vectorised(a.key, lanes, ragged):
                    x = e.splat(e.value(mask))
                    if mask.dtype is BOOL:
                        x = self.b.eq(x, *(self.b.splat(c, lanes) for c in self._truths()))
                self.b.store_vec(near, e.index(query * self.mask_stride + vector * lanes), x)

    def _truths(self) -> tuple[Reg, Reg, Reg]:
        return self.b.const("bool", True), self.e.i32(1), self.e.i32(0)

    def _brought(self, mask: Value, row: Index) -> Reg:
        """Return the mask of one key of the block for a vector of queries."""
        at = (self.a.query - self.first_query) * self.mask_stride + row
        x = self.e.read(self.near[mask], at, None, None, wide=True)
        return self.b.lt(self.b.splat(self.e.i32(0), self.s.lanes), x) if mask.dtype is BOOL else x

    # --- one block of keys --------------------------------------------------------------------------------------------

    def _multiply(self, first: Index, count: Index) -> None:
        """Store the products of the queries with the keys of one block, a tile of keys at a time."""
        step = self._step(self.keys, self.keys.along)
        zero = self._const(1 << (self.dtype.bits - 1))
        for tiles, rows, done in self._tiles(count):
            with turns(self.e, tiles) as tile:
                start = tile * rows + done
                origins = [self._origin(self.keys, first, start + r, 0) for r in range(rows)]

                def factors(depth: Index, origins: Sequence[Reg] = origins) -> list[Reg]:
                    at = self.e.index(depth * step)
                    return [self.b.load(self._memory(self.keys), self.b.add(o, at)) for o in origins]

                sums = [zero] * (rows * self.s.vectors)
                self._save(self.weights, start, self._accumulate(self.packed_queries, self.depth, factors, sums))

    def _tiles(self, count: Index) -> Iterator[tuple[Index, int, Index]]:
        """Yield how many tiles of how many rows there are, and what is done before: whole ones, then what is left."""
        whole = count // self.s.rows
        done = whole * self.s.rows
        if whole != 0:
            yield whole, self.s.rows, 0
        rest = count - done
        if isinstance(rest, int):
            if rest:
                yield 1, rest, done
        else:
            yield rest, 1, done

    def _accumulate(
        self, vectors: Mem, count: Index, factors: Callable[[Index], list[Reg]], sums: Sequence[Reg]
    ) -> list[Reg]:
        """Return sums[r, v] + the sum over k of factors(k)[r] * vectors[k, v]: a register tile."""

        def turn(k: Index, total: list[Reg]) -> None:
            right = self._each(lambda v: self._load(vectors, k, v))
            for r, factor in enumerate(factors(k)):
                left = self.b.splat(factor, self.s.lanes)
                for v, x in enumerate(right, r * self.s.vectors):
                    total[v] = self._multiply_add(left, x, total[v])

        return self._carried(count, sums, turn)

    def _carried(self, count: Index, sums: Sequence[Reg], turn: Turn) -> list[Reg]:
        """Run a loop that carries sums; `turn` replaces those in its list by the next ones."""
        names = [f"a{i}" for i in range(len(sums))]
        axis = Axis(count)
        number = self.e.count(count)
        with self.b.serial(number, **dict(zip(names, sums, strict=True))) as loop, self.e.scope():
            self.e.bind(axis, loop.index)
            following = [loop[n] for n in names]
            turn(axis, following)
            loop.next(**dict(zip(names, following, strict=True)))
        return [loop[n] for n in names]

    def _save(self, mem: Mem, row: Index, tile: Sequence[Reg]) -> None:
        for i, x in enumerate(tile):
            self._store(mem, row + i // self.s.vectors, i % self.s.vectors, x)

    def _memory(self, f: _Rows) -> Mem:
        return self.e.memories[f.value.attr[0]] if f.packed is None else f.packed

    def _origin(self, f: _Rows, first: Index, row: Index, along: Index) -> Reg:
        """Return where the element `along` of a row of the block lies."""
        if f.packed is not None:
            return self.e.index(row * f.stride + along)
        places: dict[Expr, Index] = {f.row: first + row}
        if f.along is not None:
            places[f.along] = along
        return self.e.index(substitute(f.value.attr[1], places))

    def _step(self, f: _Rows, axis: Axis | None) -> int:
        """Return how far the elements of a factor are apart along an axis."""
        if axis is None:
            return 0
        if f.packed is not None:
            return f.stride if axis is f.row else 1
        step = grows(f.value.attr[1], axis)
        assert step is not None
        return step

    def _scores(self, first: Index, count: Index) -> list[Reg]:
        """Make scores of the products of one block; return the highest of each query, earlier blocks included."""
        e, a = self.e, self.a

        def turn(row: Index, highest: list[Reg]) -> None:
            e.bind(a.key, e.index(first + row))
            for v, before in enumerate(highest):
                with self._vector(v):
                    e.set(a.product, self._load(self.weights, row, v))
                    for mask in self.near:
                        e.set(mask, self._brought(mask, row))
                    x = e.splat(e.value(a.scores))
                if a.scores is not a.product:
                    self._store(self.weights, row, v, x)
                highest[v] = self.b.lt(before, x, x, before)  # NaN is passed over here, and reaches the totals

        return self._carried(count, self._each(lambda v: self._load(self.highest, 0, v)), turn)

    def _weigh(self, highest: Sequence[Reg], count: Index) -> None:
        """Replace the scores of a block by exp(score - highest), and add them to the totals."""
        lowest, zero = self._minus_infinity(), self._const(0)
        # A query that may not attend to anything yet: -inf - 0 has the power 0, -inf - -inf would have none.
        shifts = [self.b.eq(x, lowest, zero, x) for x in highest]
        totals: list[Reg] = []
        for v, shift in enumerate(shifts):
            factor = self._power(self._load(self.highest, 0, v), shift)
            self._store(self.highest, 0, v, highest[v])
            self._store(self.rescale, 0, v, factor)
            totals.append(self.b.mul(self._load(self.total, 0, v), factor))

        def turn(row: Index, total: list[Reg]) -> None:
            for v, shift in enumerate(shifts):
                power = self._power(self._load(self.weights, row, v), shift)
                self._store(self.weights, row, v, power)
                total[v] = self.b.add(total[v], power)

        for v, total in enumerate(self._carried(count, totals, turn)):
            self._store(self.total, 0, v, total)

    def _power(self, x: Reg, shift: Reg) -> Reg:
        """Return exp(x - shift), which is at most 1; 0 where it would be subnormal, for which processors take long."""
        code = Code(self.b, self.e.features)
        difference = code.sub(x, shift)
        least = self._const(encode(self.dtype, (self.dtype.emin + 1) * log(2)))
        power = exp_inside(code, self.b.lt(difference, least, least, difference))
        return self.b.lt(difference, least, self._const(0), power)

    def _sum(self, first: Index, count: Index) -> None:
        """Add the weighted values of a block to the sums, a tile of columns at a time."""
        f = self.values
        step, apart = (self._step(f, x) for x in (f.row, f.along))
        for tiles, rows, done in self._tiles(self.columns):
            with turns(self.e, tiles) as tile:
                column = tile * rows + done
                origin = self._origin(f, first, 0, column)

                def factors(row: Index, origin: Reg = origin, rows: int = rows) -> list[Reg]:
                    start = self.b.add(origin, self.e.index(row * step))
                    places = [start if r == 0 else self.b.add(start, self.e.i32(r * apart)) for r in range(rows)]
                    return [self.b.load(self._memory(f), place) for place in places]

                scales = self._each(lambda v: self._load(self.rescale, 0, v))
                before = [self._load(self.sums, column + r, v) for r in range(rows) for v in range(self.s.vectors)]
                sums = [self.b.mul(x, scales[i % self.s.vectors]) for i, x in enumerate(before)]
                self._save(self.sums, column, self._accumulate(self.weights, count, factors, sums))

    # --- after the keys -----------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Divide by the totals and make the stores, in vectors along columns if they lie like that in memory."""
        for v in range(self.s.vectors):
            self._store(self.total, 0, v, self._map("recip", self._load(self.total, 0, v)))
        column = self.a.column
        if column is not None and all(grows(s.index, column) == 1 for s in self.nest.row_stores):
            self._finish_along(column)
        else:
            self._finish_across(column)

    def _finish_along(self, column: Axis) -> None:
        e, a = self.e, self.a
        with turns(e, minimum(a.query.extent - self.first_query, self.s.queries)) as query:
            e.bind(a.query, e.index(self.first_query + query))
            inverse = self.b.load(self.total, e.index(query))
            for _ in self._vectors_along(column):
                other = self._const(0) if e.mask is not None else None
                x = e.read(self.sums, column * self.s.queries + query, e.mask, other, wide=True)
                e.set(a.fold, self.b.mul(x, e.splat(inverse)))
                self._make_stores()

    def _finish_across(self, column: Axis | None) -> None:
        with turns(self.e, self.columns) as place:
            if column is not None:
                self.e.bind(column, self.e.index(place))
            for v in range(self.s.vectors):
                with self._vector(v):
                    x = self.b.mul(self._load(self.sums, place, v), self._load(self.total, 0, v))
                    self.e.set(self.a.fold, x)
                    self._make_stores()

    def _make_stores(self) -> None:
        for store in self.nest.row_stores:
            self.e.store(store)
