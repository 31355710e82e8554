"""Schedules of rows: which axis runs in vectors, how wide, and how the work is cut for the device.

A schedule is a frozen record of choices; axes are named by their place in the nest, so that it can be written to a file
and used again for an equal nest. The heuristic here reads the capabilities, and weighs loads: those that are contiguous
along the vector axis cost a lane's share, those that are not cost a whole access each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Literal, TypeAlias

from portkit.compiler.extents import most
from portkit.compiler.index import Axis, Expr, Index, linear
from portkit.compiler.nest import Nest, Scan, Value, axes_of, subvalues
from portkit.contract import Capabilities

VectorMode = Literal["none", "inner", "row"]
Weights: TypeAlias = "dict[Value, int]"

VECTOR_BYTES = 64
"""Vectors hold at most this many bytes: one cache line, one register of the widest processors."""
_GATHER, _SCATTER, _FOLD = 1.2, 2.0, 12
_TASK = 1 << 14
"""Elements of work that are worth a task of their own."""


@dataclass(frozen=True)
class RowSchedule:
    """How a nest of rows runs.

    `mode` says which axes run in vectors of `lanes`: none, the last of every fold and of the inner axes (`inner`), or
    the row axis number `row`. `fold_orders` permutes the axes of each fold, `inner_order` the inner axes. A fold along
    its vector axis has `unroll` partial accumulators; one across the row axis runs `tile` vectors of rows at once. A
    task is `block` vectors of the row axis, or one row; `groups` work-groups of `items` lanes share the tasks. With
    `stage` what a fold computes along a row and the stores need again is kept in shared memory.
    """

    mode: VectorMode
    lanes: int
    unroll: int
    groups: int
    items: int
    row: int = -1
    block: int = 1
    tile: int = 1
    stage: bool = False
    fold_orders: tuple[tuple[int, ...], ...] = ()
    inner_order: tuple[int, ...] = ()


def schedule_rows(nest: Nest, capabilities: Capabilities) -> RowSchedule:
    """Return the heuristic's schedule of a nest for a device."""
    values = subvalues([s.value for s in nest.stores] + list(nest.folds))
    lanes = _widest(values, nest, capabilities)
    if not capabilities.has("vec") or lanes == 1:
        return _in_lanes(nest, capabilities)
    weights = {v: _extent(v.axes) for v in values}
    chosen = [_best_axis(f.attr[1], subvalues([f.args[0]]), weights, nest, lanes) for f in nest.folds]
    best_inner = _best_axis(nest.inner, values, weights, nest, lanes) if nest.inner else None
    inside = [a for a in (*chosen, best_inner) if a is not None]
    candidates: list[tuple[float, int]] = [(_cost(values, weights, nest, (), 1), -2)]
    if inside:
        candidates.append(
            (_cost(values, weights, nest, inside, lanes) + _FOLD * len(nest.folds) * _extent(nest.rows), -1)
        )
    candidates += [(_cost(values, weights, nest, [a], lanes), i) for i, a in enumerate(nest.rows)]
    _, row = min(candidates, key=lambda c: c[0])
    mode: VectorMode = "none" if row == -2 else "inner" if row == -1 else "row"
    return _cut(nest, capabilities, mode, lanes, row, chosen, best_inner)


def schedule_sequence(nest: Nest, capabilities: Capabilities) -> RowSchedule:
    """Return the schedule of a scan or scatter: rows in vectors where their elements are neighbours, else single ones.

    Rows of a scatter that put their values at different places cannot be neighbours.
    """
    if not capabilities.has("vec"):
        return _in_lanes(nest, capabilities)
    sequence = nest.sequence
    assert sequence is not None
    store = sequence.store if isinstance(sequence, Scan) else sequence.base
    apart: frozenset[Axis] = frozenset() if isinstance(sequence, Scan) else sequence.at.axes
    near = [i for i, a in enumerate(nest.rows) if a not in apart and grows(store.index, a) == 1]
    values = subvalues([store.value] if isinstance(sequence, Scan) else [store.value, sequence.values])
    lanes = _widest(values, nest, capabilities)
    along = most(nest.rows[near[0]].extent) if near else 0
    if along < lanes or lanes == 1:
        return RowSchedule("none", 1, 1, _groups(_extent(nest.rows), capabilities), 1)
    tasks = _extent(nest.rows) // along * ceil(along / lanes)
    return RowSchedule("row", lanes, 1, _groups(tasks, capabilities), 1, row=near[0])


def _groups(tasks: int, capabilities: Capabilities) -> int:
    return max(1, min(capabilities.tuning.workers * 8, tasks))


def _cut(
    nest: Nest,
    capabilities: Capabilities,
    mode: VectorMode,
    lanes: int,
    row: int,
    chosen: Sequence[Axis | None],
    best_inner: Axis | None,
) -> RowSchedule:
    folds = max((_extent(f.attr[1]) for f in nest.folds), default=1)
    work = _extent(nest.rows) * (folds + _extent(nest.inner))
    wanted = max(1, min(capabilities.tuning.workers * 8, work // _TASK))
    block = tile = 1
    tasks = _extent(nest.rows)
    if mode == "row":
        vectors = ceil(most(nest.rows[row].extent) / lanes)
        rest = tasks // most(nest.rows[row].extent)
        block = max(1, min(vectors * rest // wanted, vectors, 1024))
        if nest.folds:
            block, tile = _tiled(block, vectors, capabilities)
        tasks = rest * ceil(vectors / block)
    orders = tuple(_last(f.attr[1], a) for f, a in zip(nest.folds, chosen, strict=True))
    row_bytes = 8 * _extent(nest.inner)
    return RowSchedule(
        mode,
        lanes if mode != "none" else 1,
        4,
        max(1, min(wanted, tasks)),
        1,
        row if mode == "row" else -1,
        block,
        tile,
        mode == "inner" and row_bytes * 2 <= capabilities.limits.shared_bytes,
        orders,
        _last(nest.inner, best_inner),
    )


def _tiled(block: int, vectors: int, capabilities: Capabilities) -> tuple[int, int]:
    """Return a block and a tile of vectors for folds across rows: wide to read pages, few enough to keep."""
    tile = next((t for t in (8, 4, 2) if t <= block and t < capabilities.tuning.vector_registers), 1)
    return min(-(-block // tile) * tile, vectors), tile


def _in_lanes(nest: Nest, capabilities: Capabilities) -> RowSchedule:
    """One lane for each row, for devices whose lanes are their vectors."""
    items = min(capabilities.limits.lanes, 64)
    orders = tuple(tuple(range(len(f.attr[1]))) for f in nest.folds)
    return RowSchedule("none", 1, 1, 0, items, fold_orders=orders, inner_order=tuple(range(len(nest.inner))))


def _last(axes: Sequence[Axis], chosen: Axis | None) -> tuple[int, ...]:
    """Return the order of axes with the chosen one last."""
    return tuple(sorted(range(len(axes)), key=lambda i: axes[i] is chosen))


def _widest(values: Iterable[Value], nest: Nest, capabilities: Capabilities) -> int:
    sizes = [v.dtype.bytes for v in values] + [s.node.dtype.bytes for s in nest.stores]
    return widest_lanes(max(sizes, default=4), capabilities)


def widest_lanes(size: int, capabilities: Capabilities) -> int:
    """Return the most lanes, declared and within a vector's bytes, for elements of `size` bytes."""
    return max(n for n in capabilities.lane_counts() if n == 1 or n * size <= VECTOR_BYTES)


def _best_axis(axes: Sequence[Axis], values: Sequence[Value], weights: Weights, nest: Nest, lanes: int) -> Axis | None:
    return min(axes, key=lambda a: _cost(values, weights, nest, [a], lanes)) if axes else None


def _cost(values: Iterable[Value], weights: Weights, nest: Nest, vector: Sequence[Axis], lanes: int) -> float:
    """Return an estimate of the work, in scalar operations, if the axes in `vector` run in vectors."""
    chosen = frozenset(vector)
    waste = {a: ceil(most(a.extent) / lanes) * lanes / max(most(a.extent), 1) for a in vector}
    total = 0.0
    for value in values:
        along = next(iter(value.axes & chosen), None)
        share = 1.0 if along is None else waste[along] / lanes
        if value.op == "load":
            total += weights[value] * (share if along is None or grows(value.attr[1], along) in (0, 1) else _GATHER)
        elif value.op in ("map", "select"):
            total += weights[value] * share
        elif value.op == "index" and along is not None and grows(value.attr, along) is None:
            total += weights[value]
    for store in nest.stores:
        axes = axes_of(store.index)
        along = next(iter(axes & chosen), None)
        share = 1.0 if along is None else waste[along] / lanes
        total += _extent(axes) * (share if along is None or grows(store.index, along) == 1 else _SCATTER)
    return total


def grows(index: Index, axis: Axis) -> int | None:
    """Return by how much an index grows as an axis does, None where that is not constant."""
    if not isinstance(index, Expr):
        return 0
    terms, _ = linear(index)
    if any(atom is not axis and axis in axes_of(atom) for atom in terms):
        return None
    return terms.get(axis, 0)


def _extent(axes: Iterable[Axis]) -> int:
    return prod(most(a.extent) for a in axes)
