"""Lowering of rows: a nest and its schedule to a kernel of twelve ops.

Tasks are shared among work-groups. A task binds the row axes, computes the folds in order, and makes the stores. Along
a vector axis there is a main loop over whole vectors and, where the extent is ragged, one masked vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from portkit.compiler.emit import Emitter, identity_bits
from portkit.compiler.extents import most
from portkit.compiler.graph import count
from portkit.compiler.index import Axis, Index, minimum, unravel
from portkit.compiler.nest import Nest, Value
from portkit.compiler.schedule import RowSchedule
from portkit.compiler.staging import KeptRow, Staged
from portkit.spec.builder import Builder, Reg

Body = Callable[[], None]
Step = Callable[[list[Reg]], list[Reg]]


def lower_rows(nest: Nest, schedule: RowSchedule, e: Emitter, staged: Sequence[Staged] = ()) -> None:
    """Emit the whole body of a kernel, grid and lane loops included; `staged` values are kept along each row."""
    _Rows(nest, schedule, e, [s.declared(e, number) for number, s in enumerate(staged)]).emit()


class _Rows:
    def __init__(self, nest: Nest, schedule: RowSchedule, e: Emitter, rows: Sequence[KeptRow]) -> None:
        self.nest, self.schedule, self.e = nest, schedule, e
        self.b: Builder = e.b
        self.vector = nest.rows[schedule.row] if schedule.mode == "row" else None
        self.folded = frozenset(a for f in nest.folds for a in f.attr[1])
        self.kept = rows

    def emit(self) -> None:
        extents = [a.extent for a in self.nest.rows if a is not self.vector]
        blocks: Index = 1
        if self.vector is not None:
            vectors = (self.vector.extent + (self.schedule.lanes - 1)) // self.schedule.lanes
            blocks = (vectors + (self.schedule.block - 1)) // self.schedule.block
        emit_tasks(self.e, count([*extents, blocks]), self.schedule, lambda task: self._task(task, extents, blocks))

    def _task(self, task: Axis, extents: Sequence[Index], blocks: Index) -> None:
        e = self.e
        *places, block = unravel(task, [*extents, blocks])
        others = [a for a in self.nest.rows if a is not self.vector]
        for axis, place in zip(others, places, strict=True):
            e.bind(axis, e.index(place))
        if self.vector is None:
            self._row()
        else:
            self._block(self.vector, block)

    def _block(self, axis: Axis, block: Index) -> None:
        """Run the vectors of one block of the row axis: tiles of them, single ones, then the ragged one."""
        e, lanes, tile = self.e, self.schedule.lanes, self.schedule.tile
        self._hoist({axis, *self.nest.inner})
        whole = axis.extent // lanes
        first = block * self.schedule.block
        count = minimum(whole - first, self.schedule.block)
        with e.vectorised(axis, lanes):
            tiles = count // tile
            self._run(axis, first, tiles, tile)
            if tile > 1 and whole % tile != 0:
                self._run(axis, first + tiles * tile, count - tiles * tile, 1)
        rest = axis.extent - whole * lanes
        if rest == 0:
            return
        last = self.b.eq(e.index(block), e.index(whole // self.schedule.block))
        if isinstance(block, int) and isinstance(axis.extent, int):
            last = self.b.const("bool", True)
        self._ragged(axis, whole * lanes, rest, lanes, last)

    def _run(self, axis: Axis, first: Index, count: Index, tile: int) -> None:
        """Run `count` tiles of vectors from vector `first` on."""
        if count == 0:
            return
        e, lanes = self.e, self.schedule.lanes
        step = Axis(most(count))
        with e.b.serial(self.e.count(count)) as loop, e.scope():
            e.bind(step, loop.index)
            start = e.index((step * tile + first) * lanes)
            e.bind(axis, start)
            if tile == 1:
                self._row()
            else:
                self._tile(axis, [start, *(self.b.add(start, e.i32(t * lanes)) for t in range(1, tile))])

    def _tile(self, axis: Axis, starts: Sequence[Reg]) -> None:
        """Run several vectors of rows at once: their folds share the loops."""
        e = self.e
        known: list[dict[Any, Reg]] = [{} for _ in starts]

        def each(make: Callable[[int], Reg | None]) -> list[Any]:
            made: list[Any] = []
            for t, start in enumerate(starts):
                with e.scope():
                    e.scopes[-1].update(known[t])
                    e.bind(axis, start)
                    made.append(make(t))
            return made

        for fold, order in zip(self.nest.folds, self.schedule.fold_orders, strict=True):
            kind, unordered = fold.attr
            body = fold.args[0]
            wide = axis in body.axes

            def step(sums: list[Reg], kind: str = kind, body: Value = body, wide: bool = wide) -> list[Reg]:
                return each(lambda t: self._step(kind, sums[t], body, wide))

            start = [self._identity(fold, wide)] * len(starts)
            # The results of earlier folds are known to each vector only: what is below them varies, too.
            varying = self.folded.difference(unordered).union({axis})
            totals = self._carried([unordered[i] for i in order], start, step, body, varying)
            for registers, total in zip(known, totals, strict=True):
                registers[fold] = total
        each(lambda _: self._finish())

    def _ragged(self, axis: Axis, start: Index, rest: Index, lanes: int, last: Reg) -> None:
        e = self.e
        taken = self.b.eq(last, self.b.const("bool", True), e.i32(1), e.i32(0))
        with e.b.serial(taken), e.scope():
            e.bind(axis, e.index(start))
            with e.vectorised(axis, lanes, ragged_mask(e, rest, lanes)):
                self._row()

    # --- one row ------------------------------------------------------------------------------------------------------

    def _row(self) -> None:
        self._hoist(self.nest.inner)
        for fold, order in zip(self.nest.folds, self.schedule.fold_orders, strict=True):
            self._fold(fold, order)
        self._finish()

    def _finish(self) -> None:
        """Make the stores of a row whose folds are known."""
        for store in self.nest.row_stores:
            self.e.store(store)
        if self.nest.inner:
            axes = [self.nest.inner[i] for i in self.schedule.inner_order]
            self._hoist(axes)
            self._inner(axes)

    def _hoist(self, inner: Iterable[Axis]) -> None:
        """Emit what no axis in `inner`, and none that a fold runs over, changes."""
        stores = self.nest.stores
        roots = [s.value for s in stores]
        self.e.hoist([*self.nest.folds, *roots], self.folded.union(inner), [s.index for s in stores])

    def _inner(self, axes: Sequence[Axis]) -> None:
        if self.schedule.mode == "inner":
            self._loops(axes[:-1], lambda: self._vectors(axes[-1]), axes[-1:])
        else:
            self._loops(axes, self._inner_stores)

    def _inner_stores(self) -> None:
        for row in self.kept:
            row.take(self.e)
        for store in self.nest.inner_stores:
            self.e.store(store)

    def _loops(self, axes: Sequence[Axis], body: Body, varying: Sequence[Axis] = ()) -> None:
        """Run `body` inside loops on `axes`; it binds the axes in `varying` itself."""
        if not axes:
            body()
            return
        with self.b.serial(self.e.count(axes[0].extent)) as loop, self.e.scope():
            self.e.bind(axes[0], loop.index)
            self._hoist([*axes[1:], *varying])
            self._loops(axes[1:], body, varying)

    def _vectors(self, axis: Axis) -> None:
        """Make the inner stores along one axis, in vectors."""
        e, lanes = self.e, self.schedule.lanes
        whole = axis.extent // lanes
        with e.vectorised(axis, lanes):
            if whole != 0:
                with self.b.serial(self.e.count(whole)) as loop, e.scope():
                    e.bind(axis, self.b.mul(loop.index, e.i32(lanes)))
                    self._inner_stores()
        rest = axis.extent - whole * lanes
        if rest != 0:
            with e.scope():
                e.bind(axis, e.index(whole * lanes))
                with e.vectorised(axis, lanes, ragged_mask(e, rest, lanes)):
                    self._inner_stores()

    # --- folds --------------------------------------------------------------------------------------------------------

    def _fold(self, fold: Value, order: Sequence[int]) -> None:
        kind, unordered = fold.attr
        axes = [unordered[i] for i in order]
        body = fold.args[0]
        self.e.hoist([body], frozenset(axes))
        if self.schedule.mode == "inner":
            self.e.set(fold, self._fold_vectors(fold, axes, body))
            return
        wide = self.e.vector is not None and self.e.vector in body.axes
        start = self._identity(fold, wide)
        (total,) = self._carried(axes, [start], lambda sums: [self._step(kind, sums[0], body, wide)], body)
        self.e.set(fold, total)

    def _identity(self, fold: Value, wide: bool) -> Reg:
        identity = self.b.bits_const(fold.dtype.name, identity_bits(fold.attr[0], fold.dtype))
        return self.b.splat(identity, self.e.lanes) if wide else identity

    def _step(self, kind: str, total: Reg, body: Value, wide: bool) -> Reg:
        e = self.e
        if kind == "add" and body.op == "map" and body.attr == "mul" and body.dtype.name in e.features.fma:
            factors = [e.value(a) for a in body.args]
            if wide:
                factors = [e.splat(f) for f in factors]
            self._put(body)
            return self.b.op("mul.add", *factors, total)
        value = e.value(body)
        self._put(body)
        return self.e.combine(kind, total, e.splat(value) if wide else value)

    def _put(self, body: Value) -> None:
        """Keep what the stores need again of what a fold has just computed."""
        for row in self.kept:
            if row.staged.fold.args[0] is body:
                row.put(self.e)

    def _carried(
        self, axes: Sequence[Axis], sums: list[Reg], step: Step, body: Value, varying: frozenset[Axis] = frozenset()
    ) -> list[Reg]:
        """Run `step` over loops on `axes`, its results carried; it binds the axes in `varying` itself."""
        if not axes:
            return step(sums)
        names = [f"s{i}" for i in range(len(sums))]
        count = self.e.count(axes[0].extent)
        with self.b.serial(count, **dict(zip(names, sums, strict=True))) as loop, self.e.scope():
            self.e.bind(axes[0], loop.index)
            self.e.hoist([body], varying.union(axes[1:]))
            after = self._carried(axes[1:], [loop[n] for n in names], step, body, varying)
            loop.next(**dict(zip(names, after, strict=True)))
        return [loop[n] for n in names]

    def _fold_vectors(self, fold: Value, axes: Sequence[Axis], body: Value) -> Reg:
        """Fold along the last axis in vectors with several partial accumulators, then the partials."""
        e, lanes, kind = self.e, self.schedule.lanes, fold.attr[0]
        axis = axes[-1]
        whole = axis.extent // lanes
        unroll = min(self.schedule.unroll, whole) or 1 if isinstance(whole, int) else 1
        with e.vectorised(axis, lanes):
            sums = [self._identity(fold, True)] * unroll
            step: Step = lambda s: self._along(fold, axis, s, body)  # noqa: E731
            sums = self._carried(axes[:-1], sums, step, body, frozenset({axis}))
            total = sums[0]
            for partial in sums[1:]:
                total = self.e.combine(kind, total, partial)
        if total.type.lanes == 1:
            return total
        return self.b.op(f"reduce.vec.{kind}", total)

    def _along(self, fold: Value, axis: Axis, sums: list[Reg], body: Value) -> list[Reg]:
        """Fold along one axis: unrolled vectors in a loop, the whole vectors left over, then the ragged one."""
        e, lanes, kind, unroll = self.e, self.schedule.lanes, fold.attr[0], len(sums)
        whole = axis.extent // lanes
        rounds = whole // unroll
        if rounds != 0:
            names = [f"s{i}" for i in range(unroll)]
            with self.b.serial(self.e.count(rounds), **dict(zip(names, sums, strict=True))) as loop:
                after: list[Reg] = []
                for u in range(unroll):
                    with e.scope():
                        e.bind(axis, self._place(loop.index, unroll * lanes, u * lanes))
                        after.append(self._step(kind, loop[names[u]], body, True))
                loop.next(**dict(zip(names, after, strict=True)))
            sums = [loop[n] for n in names]
        left = whole - rounds * unroll  # none where the extent is dynamic: nothing is unrolled then
        for u in range(left if isinstance(left, int) else 0):
            with e.scope():
                e.bind(axis, e.index((rounds * unroll + u) * lanes))
                sums[u] = self._step(kind, sums[u], body, True)
        rest = axis.extent - whole * lanes
        if rest != 0:
            with e.scope():
                e.bind(axis, e.index(whole * lanes))
                mask = ragged_mask(e, rest, lanes)
                with e.vectorised(axis, lanes, mask):
                    value = e.splat(e.value(body))
                    self._put(body)
                    value = self.b.eq(mask, e.splat(self.b.const("bool", True)), value, self._identity(fold, True))
                    sums[-1] = self.e.combine(kind, sums[-1], value)
        return sums

    def _place(self, index: Reg, factor: int, offset: int) -> Reg:
        start = self.b.mul(index, self.e.i32(factor))
        return start if offset == 0 else self.b.add(start, self.e.i32(offset))


def ragged_mask(e: Emitter, rest: Index, lanes: int) -> Reg:
    """Return which lanes of a vector are among the first `rest`."""
    ramp = e.b.op("mov.pack", *(e.i32(lane) for lane in range(lanes)))
    return e.b.lt(ramp, e.b.splat(e.index(rest), lanes))


def emit_tasks(e: Emitter, total: Index, schedule: RowSchedule, body: Callable[[Axis], None]) -> None:
    """Open grid and lane loops that share `total` tasks, and run `body` for each with an axis bound to its number."""
    task = Axis(total)
    if schedule.groups == 0:
        _tasks_in_lanes(e, total, schedule.items, task, body)
    else:
        _tasks_in_order(e, total, schedule.groups, task, body)


def _tasks_in_lanes(e: Emitter, total: Index, items: int, task: Axis, body: Callable[[Axis], None]) -> None:
    groups = (total + (items - 1)) // items
    group = e.b.grid(e.count(groups))
    lane = e.b.lane(items)
    number = e.b.add(e.b.mul(group, e.i32(items)), lane)
    with e.b.serial(e.b.lt(number, e.index(total), e.i32(1), e.i32(0))), e.scope():
        e.bind(task, number)
        body(task)


def _tasks_in_order(e: Emitter, total: Index, groups: int, task: Axis, body: Callable[[Axis], None]) -> None:
    share = (total + (groups - 1)) // groups
    group = e.b.grid(groups)
    e.b.lane(1)
    number = Axis(groups)
    e.bind(number, group)
    count = share if share * groups == total else minimum(share, total - number * share)
    if count == 1:
        e.bind(task, e.index(number * share))
        body(task)
        return
    with e.b.serial(e.count(count)) as loop, e.scope():
        e.bind(task, e.b.add(e.index(number * share), loop.index))
        body(task)
