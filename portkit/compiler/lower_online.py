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

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, prod

from portkit.compiler.contraction import is_plain
from portkit.compiler.decompose import emit
from portkit.compiler.emit import Emitter
from portkit.compiler.fuse import most
from portkit.compiler.index import Axis, Expr, Index, minimum, substitute, unravel
from portkit.compiler.lower import emit_tasks, product, ragged_mask
from portkit.compiler.nest import Nest, Value
from portkit.compiler.packing import turns
from portkit.compiler.schedule import RowSchedule, grows, widest_lanes
from portkit.contract import Capabilities
from portkit.spec.builder import Mem, Reg
from portkit.spec.types import infinity_bits

_MOST_VECTORS = 4
_KEYS = 64
_TASKS_FOR_EACH_WORKER = 64
_LOADS, _LATENCY = 2, 8


@dataclass(frozen=True)
class OnlineSchedule:
    """How an attention runs.

    A task is a block of queries: `vectors` of `lanes`. Keys come in blocks of `keys`, of which scores and results take
    `rows` at a time in registers. `groups` work-groups share the tasks.
    """

    lanes: int
    vectors: int
    rows: int
    keys: int
    groups: int

    @property
    def queries(self) -> int:
        """The queries of a block."""
        return self.lanes * self.vectors


@dataclass(frozen=True, eq=False, slots=True)
class Attention:
    """The parts of a nest that is an attention: fold over `key` of the softmax of `scores` times `values`.

    `scores` hold `product`, the sum over `depth` of queries and keys; `column` runs along what the values have beside
    keys, where there is more than one.
    """

    fold: Value
    product: Value
    queries: Value
    keys: Value
    batch: tuple[Axis, ...]
    query: Axis
    key: Axis
    depth: Axis
    column: Axis | None

    @property
    def scores(self) -> Value:
        """What the softmax is of."""
        return self.fold.args[0]

    @property
    def values(self) -> Value:
        """What is weighted."""
        return self.fold.args[1]

    @property
    def columns(self) -> int:
        """How many columns the values have."""
        return most(self.column.extent) if self.column is not None else 1


def find_attention(nest: Nest) -> Attention | None:
    """Return the parts of a nest that holds an attention, None if it does not."""
    fold = next((f for f in nest.folds if f.attr[0] == "attend"), None)
    if fold is None:
        return None
    (key,) = fold.attr[1]
    (inner,) = (f for f in nest.folds if f is not fold)
    (depth,) = inner.attr[1]
    sides = inner.args[0].args
    queries, keys = sides if key in sides[1].axes else sides[::-1]
    beside = keys.axes | fold.args[1].axes
    query = max((a for a in nest.rows if a in queries.axes - beside), key=lambda a: most(a.extent))
    columns = [a for a in nest.rows if a not in fold.args[0].axes]
    column = max(columns, key=lambda a: most(a.extent), default=None)
    batch = tuple(a for a in nest.rows if a not in (query, column))
    return Attention(fold, inner, queries, keys, batch, query, key, depth, column)


# --- schedule -----------------------------------------------------------------------------------------------------


def schedule_online(a: Attention, capabilities: Capabilities) -> OnlineSchedule:
    """Return the heuristic's schedule of an attention for a device."""
    size = a.fold.dtype.bytes
    lanes = widest_lanes(size, capabilities)
    registers = capabilities.tuning.vector_registers // max(1, lanes * size // capabilities.tuning.vector_bytes)
    vectors = min(_MOST_VECTORS, ceil(most(a.query.extent) / lanes))
    keys = min(_KEYS, max(most(a.key.extent), 1))
    while vectors > 1 and _shared_bytes(a, lanes * vectors, keys, lanes) > capabilities.limits.shared_bytes:
        vectors -= 1
    while keys > 1 and _shared_bytes(a, lanes * vectors, keys, lanes) > capabilities.limits.shared_bytes:
        keys //= 2
    rows, vectors = _tile(registers, vectors)
    blocks = ceil(most(a.query.extent) / (lanes * vectors))
    tasks = prod(most(b.extent) for b in a.batch) * blocks
    groups = max(1, min(tasks, capabilities.tuning.workers * _TASKS_FOR_EACH_WORKER))
    return OnlineSchedule(lanes, vectors, rows, keys, groups)


def _tile(registers: int, most_vectors: int) -> tuple[int, int]:
    """Return the rows and vectors of a register tile that multiplies fastest: accumulators, a step of both factors."""
    shapes = [(r, v) for v in range(1, most_vectors + 1) for r in (8, 6, 4, 2, 1) if (r + 1) * v < max(registers, 4)]
    return min(shapes, key=lambda s: (max(s[0] * s[1] / 2, sum(s) / _LOADS, _LATENCY / 2) / (s[0] * s[1]), -s[1]))


def _shared_bytes(a: Attention, queries: int, keys: int, lanes: int) -> int:
    depth, columns = (ceil(n / lanes) * lanes for n in (most(a.depth.extent), a.columns))
    return a.fold.dtype.bytes * ((depth + columns + keys + 3) * queries + keys * (depth + columns))


# --- lowering -----------------------------------------------------------------------------------------------------


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

    def _shared(self, name: str, elements: int) -> Mem:
        return self.b.shared(name, self.dtype.name, elements)

    def _rows(self, name: str, value: Value, along: Axis | None) -> _Rows:
        axes = [x for x in (self.a.key, along) if x is not None]
        if is_plain(value, *axes) and value.dtype is self.dtype:
            return _Rows(value, self.a.key, along, None, 0)
        stride = ceil((1 if along is None else most(along.extent)) / self.s.lanes) * self.s.lanes
        return _Rows(value, self.a.key, along, self._shared(name, self.s.keys * stride), stride)

    def emit(self) -> None:
        extents = [x.extent for x in (*self.a.batch, self.block)]
        tasks = RowSchedule("none", 1, 1, self.s.groups, 1)
        emit_tasks(self.e, product(extents), tasks, lambda task: self._task(task, extents))

    def _task(self, task: Axis, extents: Sequence[Index]) -> None:
        e = self.e
        for axis, place in zip((*self.a.batch, self.block), unravel(task, extents), strict=True):
            e.bind(axis, e.index(place))
        self.masks = [self._mask(v) for v in range(self.s.vectors)]
        self._start()
        blocks = -(-self.a.key.extent // self.s.keys)
        with turns(e, blocks) as block:
            first = block * self.s.keys
            count = minimum(self.a.key.extent - first, self.s.keys)
            for factor in (self.keys, self.values):
                self._pack(factor, first, count)
            highest = self._scores(first, count)
            self._weigh(highest, count)
            self._sum(first, count)
        self._finish()

    def _mask(self, vector: int) -> Reg | None:
        extent = self.a.query.extent
        if isinstance(extent, int) and extent % self.s.queries == 0:
            return None
        return ragged_mask(self.e, extent - self.first_query - vector * self.s.lanes, self.s.lanes)

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
        return self.b.load_vec(mem, at, self.s.lanes, align=self._align)

    def _store(self, mem: Mem, row: Index, vector: int, x: Reg) -> None:
        self.b.store_vec(mem, self.e.index(row * self.s.queries + vector * self.s.lanes), x, align=self._align)

    @property
    def _align(self) -> int:
        return self.dtype.bytes

    def _const(self, bits: int) -> Reg:
        return self.b.splat(self.b.bits_const(self.dtype.name, bits), self.s.lanes)

    def _minus_infinity(self) -> Reg:
        return self._const(infinity_bits(self.dtype) | 1 << (self.dtype.bits - 1))

    def _map(self, name: str, *arguments: Reg) -> Reg:
        return emit(self.b, name, list(arguments), self.dtype, self.e.features)

    def _multiply_add(self, a: Reg, b: Reg, c: Reg) -> Reg:
        return self.b.fma(a, b, c) if self.e.features.fuses(self.dtype) else self.b.add(self.b.mul(a, b), c)

    # --- before the keys ----------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Pack the queries of the block with vectors along queries, and clear the state."""
        a, e = self.a, self.e
        with turns(e, self.depth) as step:
            e.bind(a.depth, e.index(step))
            for v in range(self.s.vectors):
                with self._vector(v):
                    self._store(self.packed_queries, step, v, e.splat(e.value(a.queries)))
        zero, lowest = self._const(0), self._minus_infinity()
        with turns(e, self.columns) as column:
            for v in range(self.s.vectors):
                self._store(self.sums, column, v, zero)
        for v in range(self.s.vectors):
            self._store(self.total, 0, v, zero)
            self._store(self.highest, 0, v, lowest)

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
        e, lanes = self.e, self.s.lanes
        extent = most(along.extent)
        for count, mask in ((extent // lanes, None), (1 if extent % lanes else 0, extent % lanes)):
            if count == 0:
                continue
            with turns(e, count) as vector:
                at = vector * lanes if mask is None else vector + extent // lanes * lanes
                e.bind(along, e.index(at))
                with e.vectorised(along, lanes, None if mask is None else ragged_mask(e, mask, lanes)):
                    x = e.splat(e.value(value))
                self.b.store_vec(target, e.index(start + at), x)

    # --- one block of keys --------------------------------------------------------------------------------------------

    def _scores(self, first: Index, count: Index) -> list[Reg]:
        """Store the scores of one block; return the highest of each query, those of earlier blocks included."""
        highest = self._each(lambda v: self._load(self.highest, 0, v))
        whole = count // self.s.rows
        for turns_, rows, done in ((whole, self.s.rows, 0), (count - whole * self.s.rows, 1, whole * self.s.rows)):
            if turns_ == 0:
                continue
            names = [f"m{v}" for v in range(self.s.vectors)]
            carries = dict(zip(names, highest, strict=True))
            axis = Axis(turns_)
            with self.b.serial(self._count(turns_), **carries) as loop, self.e.scope():
                self.e.bind(axis, loop.index)
                after = self._score_tile(first, axis * rows + done, rows, [loop[n] for n in names])
                loop.next(**dict(zip(names, after, strict=True)))
            highest = [loop[n] for n in names]
        return highest

    def _count(self, count: Index) -> int | Reg:
        return count if isinstance(count, int) else self.e.index(count)

    def _score_tile(self, first: Index, start: Index, rows: int, highest: list[Reg]) -> list[Reg]:
        """Compute the scores of a few keys from `start` on in the block, all queries at once."""
        e, a = self.e, self.a
        zero = self._const(1 << (self.dtype.bits - 1))
        tile = self._tile(self.packed_queries, self.keys, first, start, rows, [zero] * (rows * self.s.vectors))
        for r in range(rows):
            for v in range(self.s.vectors):
                with self._vector(v):
                    e.bind(a.key, e.index(first + start + r))
                    e.set(a.product, tile[r * self.s.vectors + v])
                    x = e.splat(e.value(a.scores))
                self._store(self.weights, start + r, v, x)
                highest[v] = self._map("max", highest[v], x)
        return highest

    def _tile(
        self, vectors: Mem, factor: _Rows, first: Index, start: Index, rows: int, sums: Sequence[Reg]
    ) -> list[Reg]:
        """Return queries times keys: the sums over the depth in one register tile, one key for each row."""
        origins = [self._origin(factor, first, start + r, 0) for r in range(rows)]
        step = self._step(factor, factor.along)
        with self._summing(self.depth, sums) as (turn, loop):
            at = self.e.index(turn * step)
            scalars = [self.b.load(self._memory(factor), self.b.add(origin, at)) for origin in origins]
            self._accumulate(vectors, turn, scalars, loop)
        return loop

    @contextmanager
    def _summing(self, count: Index, sums: Sequence[Reg]) -> Generator[tuple[Index, list[Reg]]]:
        """Open a loop that carries sums: the list given is to hold the next ones inside; after, it holds the last."""
        names = [f"a{i}" for i in range(len(sums))]
        axis = Axis(count)
        with self.b.serial(self._count(count), **dict(zip(names, sums, strict=True))) as loop, self.e.scope():
            self.e.bind(axis, loop.index)
            following = [loop[n] for n in names]
            yield axis, following
            loop.next(**dict(zip(names, following, strict=True)))
        following[:] = [loop[n] for n in names]

    def _accumulate(self, vectors: Mem, row: Index, scalars: Iterable[Reg], sums: list[Reg]) -> None:
        """sums[r, v] += scalars[r] * vectors[row, v]."""
        right = self._each(lambda v: self._load(vectors, row, v))
        for r, scalar in enumerate(scalars):
            left = self.b.splat(scalar, self.s.lanes)
            for v, x in enumerate(right):
                sums[r * self.s.vectors + v] = self._multiply_add(left, x, sums[r * self.s.vectors + v])

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
        with self._summing(count, totals) as (row, loop):
            for v, shift in enumerate(shifts):
                power = self._power(self._load(self.weights, row, v), shift)
                self._store(self.weights, row, v, power)
                loop[v] = self.b.add(loop[v], power)
        for v, total in enumerate(loop):
            self._store(self.total, 0, v, total)

    def _power(self, x: Reg, shift: Reg) -> Reg:
        return self._map("exp", self._map("sub", x, shift))

    def _sum(self, first: Index, count: Index) -> None:
        """Add the weighted values of a block to the sums."""
        whole, rest = divmod(self.columns, self.s.rows)
        for turns_, rows, done in ((whole, self.s.rows, 0), (min(rest, 1), rest, whole * self.s.rows)):
            if turns_ == 0:
                continue
            with turns(self.e, turns_) as tile:
                self._sum_tile(first, count, tile * rows + done, rows)

    def _sum_tile(self, first: Index, count: Index, column: Index, rows: int) -> None:
        """Add the weighted values of a block to a few columns of the sums, in one register tile."""
        factors = self._each(lambda v: self._load(self.rescale, 0, v))
        sums = [
            self.b.mul(self._load(self.sums, column + r, v), factor)
            for r in range(rows)
            for v, factor in enumerate(factors)
        ]
        origin = self._origin(self.values, first, 0, column)
        step, apart = (self._step(self.values, x) for x in (self.values.row, self.values.along))
        with self._summing(count, sums) as (row, loop):
            start = self.b.add(origin, self.e.index(row * step))
            places = [start if r == 0 else self.b.add(start, self.e.i32(r * apart)) for r in range(rows)]
            self._accumulate(self.weights, row, [self.b.load(self._memory(self.values), p) for p in places], loop)
        for i, total in enumerate(loop):
            self._store(self.sums, column + i // self.s.vectors, i % self.s.vectors, total)

    # --- after the keys -----------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Divide by the totals and make the stores."""
        e, a = self.e, self.a
        inverses = self._each(lambda v: self._map("recip", self._load(self.total, 0, v)))
        with turns(e, self.columns) as column:
            if a.column is not None:
                e.bind(a.column, e.index(column))
            for v, inverse in enumerate(inverses):
                with self._vector(v):
                    e.set(a.fold, self.b.mul(self._load(self.sums, column, v), inverse))
                    for store in self.nest.row_stores:
                        e.store(store)
