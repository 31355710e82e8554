"""Lowering of scans and scatters: rows that do something in order along an axis, several rows at once in vectors."""

from __future__ import annotations

from portkit.compiler.emit import Emitter, identity_bits
from portkit.compiler.graph import count
from portkit.compiler.index import Axis, substitute, unravel
from portkit.compiler.index import Value as IndexValue
from portkit.compiler.lower import emit_tasks, ragged_mask
from portkit.compiler.nest import Late, Nest, Scan, Scatter, Store, Value
from portkit.compiler.schedule import RowSchedule
from portkit.spec.builder import Reg


def lower_sequence(nest: Nest, schedule: RowSchedule, e: Emitter) -> None:
    """Emit the whole body of a kernel that scans or scatters, grid and lane loops included."""
    vector = nest.rows[schedule.row] if schedule.mode == "row" else None
    lanes = schedule.lanes
    extents = [(a.extent + (lanes - 1)) // lanes if a is vector else a.extent for a in nest.rows]

    def rows(task: Axis) -> None:
        for axis, place in zip(nest.rows, unravel(task, extents), strict=True):
            e.bind(axis, e.index(place * lanes if axis is vector else place))
        mask: Reg | None = None
        if vector is not None and vector.extent % lanes != 0:
            mask = ragged_mask(e, vector.extent - vector, lanes)
        with e.vectorised(vector, lanes, mask):
            _sequence(nest, e)

    emit_tasks(e, count(extents), schedule, rows)


def _sequence(nest: Nest, e: Emitter) -> None:
    if isinstance(nest.sequence, Scan):
        _scan(nest.sequence, e)
    else:
        assert isinstance(nest.sequence, Scatter)
        _scatter(nest.sequence, e)


def _wide(e: Emitter, value: Value) -> Reg:
    """Return a value with the lanes of the rows."""
    return e.splat(e.value(value))


def _scan(scan: Scan, e: Emitter) -> None:
    """Carry the running fold along the axis; every step is stored."""
    value, axis = scan.store.value, scan.axis
    e.hoist([value], frozenset({axis}), [scan.store.index])
    start = e.splat(e.b.bits_const(value.dtype.name, identity_bits(scan.kind, value.dtype)))
    with e.b.serial(e.count(axis.extent), total=start) as loop, e.scope():
        e.bind(axis, loop.index)
        total = e.combine(scan.kind, loop["total"], _wide(e, value))
        e.store(scan.store, total)
        loop.next(total=total)


def _scatter(scatter: Scatter, e: Emitter) -> None:
    """Copy the base along the axis, then put or fold the values in, in order."""
    base = scatter.base
    e.hoist([base.value], frozenset({scatter.axis}), [base.index])
    with e.b.serial(e.count(scatter.axis.extent)) as loop, e.scope():
        e.bind(scatter.axis, loop.index)
        e.store(base)
    e.hoist([scatter.at, scatter.values], frozenset({scatter.steps}))
    with e.b.serial(e.count(scatter.steps.extent)) as loop, e.scope():
        e.bind(scatter.steps, loop.index)
        _put(scatter, e)


def _put(scatter: Scatter, e: Emitter) -> None:
    extent = scatter.axis.extent
    late = Late(scatter.at.axes, scatter.at)
    unchecked = IndexValue(late, -(1 << 31), (1 << 31) - 1)
    place = substitute(scatter.base.index, {scatter.axis: unchecked})
    inside = e.gate(((unchecked, 0, extent - 1),), wide=False)
    assert inside is not None
    gate = e.splat(inside)
    if e.mask is not None:
        gate = e.b.op("reduce.and", gate, e.mask)
    value = _wide(e, scatter.values)
    if scatter.kind != "set":
        mem = e.memories[scatter.base.node]
        zero = e.splat(e.b.bits_const(mem.dtype.name, 0))
        value = e.combine(scatter.kind, e.read(mem, place, gate, zero, wide=e.lanes > 1), value)
    e.store(Store(scatter.base.node, place, value=scatter.values), value, gate)
