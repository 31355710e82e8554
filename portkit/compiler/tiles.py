"""Schedules of contractions: register tiles, panels packed in shared memory, and how the work is cut.

A work-group computes a block of rows and a panel of columns. It packs its panel of the right factor, `depth` steps of
the sum at a time, and runs over it tile by tile: `rows` x `vectors` accumulators stay in registers over all steps. What
cannot be read in place of the left factor is packed too. The model is that of Low et al., "Analytical Modeling Is
Enough for High-Performance BLIS", 2016: costs are counted in cycles of a processor with two multiply-adds each, and the
cheapest of the possible orientations and register tiles is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import Literal

from portkit.compiler.contraction import (
    Contraction,
    Factors,
    find_factors,
    flatten,
    is_plain,
    runs_along,
    size,
    stored_along,
)
from portkit.compiler.nest import Nest
from portkit.compiler.schedule import grows, widest_lanes
from portkit.contract import Capabilities
from portkit.errors import UsageError

Left = Literal["direct", "along k", "along m"]
Right = Literal["direct", "columns", "runs"]

LEAST_WORK = 1 << 16
"""Multiplications that are worth tiles."""
_GATHER = 1.0
"""Cycles for each element that is not contiguous."""
_LATENCY = 8
"""Accumulators that keep two multiply-adds in each cycle busy."""
_LOADS = 2
_LOAD = 0.1
"""Loads in a cycle, and what one more of them costs beside the multiply-adds."""
_NEAR = 1024
"""Bytes between steps that can be read in place: farther apart, too many fall on the same places of a cache."""
_STRIDE = 3072
"""Bytes between steps at which the right factor is read in place faster than packed: less than a page."""
_UNROLL = 4
_CACHES = (32 << 10, 512 << 10)
"""Bytes of the first two caches of a device that does not say."""


@dataclass(frozen=True)
class TileSchedule:
    """How a contraction runs.

    `swapped` says that the vectors run along the left factor's axes, `columns` along how many of its own axes. A
    register tile is `rows` x `vectors` of `lanes`. A work-group has up to `row_block` rows and `panel` columns; the sum
    is cut into blocks of `depth`, its loop unrolled `unroll` times. `left` and `right` say how the factors are read: in
    place, or packed along what is contiguous, the left one `group` rows at a time. `stride` columns of shared memory
    hold one step of a packed panel.
    """

    swapped: bool
    columns: int
    rows: int
    vectors: int
    lanes: int
    row_block: int
    panel: int
    depth: int
    unroll: int
    left: Left
    right: Right
    stride: int
    group: int

    @property
    def tile(self) -> int:
        """The columns of a register tile."""
        return self.vectors * self.lanes


def schedule_tiles(nest: Nest, capabilities: Capabilities) -> tuple[Contraction, TileSchedule] | None:
    """Return a nest as a contraction and the heuristic's schedule, or None where rows do as well or better."""
    factors = find_factors(nest)
    if factors is None or not capabilities.has("vec"):
        return None
    lanes = widest_lanes(factors.fold.dtype.bytes, capabilities)
    work = prod(size(a) for a in (*nest.rows, *factors.depth))
    least = min(prod(size(a) for a in own) for own in factors.own)
    if lanes < 2 or work < LEAST_WORK or least < 4:
        return None
    found = min(_candidates(nest, factors, lanes, capabilities), key=lambda c: c[0])
    return found[1], found[2]


def choose_tiles(
    nest: Nest, capabilities: Capabilities, given: TileSchedule | None = None
) -> tuple[Contraction, TileSchedule] | None:
    """Return the contraction and its schedule: the heuristic's, or a given one.

    Raises `UsageError` where what is given does not fit the nest or the device.
    """
    if given is None:
        return schedule_tiles(nest, capabilities)
    factors = find_factors(nest)
    if factors is None:
        raise UsageError("this nest is no contraction; it cannot run in tiles")
    contraction = flatten(nest, factors, given.swapped, given.columns)
    check_tiles(contraction, given, capabilities)
    return contraction, given


def _candidates(
    nest: Nest, factors: Factors, lanes: int, capabilities: Capabilities
) -> Iterator[tuple[float, Contraction, TileSchedule]]:
    for swapped in (False, True):
        own = factors.own[0 if swapped else 1]
        for columns in range(1, len(own) + 1):
            c = flatten(nest, factors, swapped, columns)
            plan = _Plan(c, lanes, capabilities)
            schedule = replace(plan.schedule(), swapped=swapped, columns=columns)
            yield plan.cost(schedule), c, schedule


class _Plan:
    """The choices for one orientation of a contraction."""

    def __init__(self, c: Contraction, lanes: int, capabilities: Capabilities) -> None:
        self.c, self.lanes = c, lanes
        self.m, self.n, self.k = size(c.m), size(c.n), size(c.k)
        self.batch = prod(size(a) for a in c.batch)
        self.bytes = c.fold.dtype.bytes
        self.tuning = capabilities.tuning
        caches = (*capabilities.tuning.cache_bytes, *_CACHES[len(capabilities.tuning.cache_bytes) :])
        self.budget = min(caches[1] // 2, capabilities.limits.shared_bytes * 3 // 4) // self.bytes
        self.registers = capabilities.tuning.vector_registers
        if capabilities.tuning.vector_bytes < lanes * self.bytes:
            self.registers //= -(-lanes * self.bytes // capabilities.tuning.vector_bytes)

    # --- costs --------------------------------------------------------------------------------------------------------

    def step(self, rows: int, vectors: int) -> float:
        """Return the cycles of one step of the sum on a register tile."""
        return max(rows * vectors / 2, (rows + vectors) / _LOADS, _LATENCY / 2) + _LOAD * (rows + vectors)

    def tiles(self, rows: int, vectors: int) -> float:
        """Return the cycles of all register tiles of one batch, for each step of the sum."""
        return ceil(self.m / rows) * ceil(self.n / (vectors * self.lanes)) * self.step(rows, vectors)

    def cost(self, s: TileSchedule) -> float:
        """Return the cycles of the whole contraction."""
        compute = self.tiles(s.rows, s.vectors) * self.k
        right = 0.0 if s.right == "direct" else self.n * self.k * self.access_right(s) * ceil(self.m / s.row_block)
        left = 0.0 if s.left == "direct" else self.m * self.k * self.access_left(s) * ceil(self.n / s.panel)
        out = self.m * self.n * (2 / self.lanes if stored_along(self.c.stores, self.c.n) else _GATHER)
        return self.batch * (compute + right + left + out)

    def access_right(self, s: TileSchedule) -> float:
        contiguous = s.right == "runs" or runs_along(self.c.right, self.c.n)
        return 2 / self.lanes if contiguous else _GATHER

    def access_left(self, s: TileSchedule) -> float:
        contiguous = runs_along(self.c.left, self.c.k if s.left == "along k" else self.c.m)
        return 2 / self.lanes if contiguous else _GATHER

    # --- choices ------------------------------------------------------------------------------------------------------

    def schedule(self) -> TileSchedule:
        """Return the choices, orientation aside."""
        rows, vectors = self.register_tile()
        tile = vectors * self.lanes
        right, unit = self.right(tile)
        fits = self.budget
        narrow = self.stride(unit, tile, right)
        depth = self.k if self.k * narrow <= fits else self.even(self.k, fits // max(narrow, 4 * tile), _UNROLL)
        panel, row_block = self.cut(rows, unit, max(unit, (fits // depth - self.lanes) // unit * unit))
        if depth < self.k:
            row_block = min(row_block, max(rows, fits // 4 // panel // rows * rows))
        left = self.left()
        group = self.group(rows) if left == "along m" else rows
        return TileSchedule(
            False, 0, rows, vectors, self.lanes, self.even(row_block, row_block, group), panel, depth,
            min(_UNROLL, depth), left, right, self.stride(panel, tile, right), group,
        )  # fmt: skip

    def register_tile(self) -> tuple[int, int]:
        options = [
            (rows, vectors)
            for vectors in (1, 2, 3, 4)
            for rows in range(1, 17)
            if rows * vectors + vectors + 1 <= self.registers and rows <= self.m
        ]
        return min(options or [(1, 1)], key=lambda o: (self.tiles(*o), -o[0] * o[1]))

    def left(self) -> Left:
        c = self.c
        if is_plain(c.left, c.k) and abs(grows(c.left.attr[1], c.k) or 0) * self.bytes <= _NEAR:
            return "direct"
        return "along m" if runs_along(c.left, c.m) and not runs_along(c.left, c.k) else "along k"

    def group(self, rows: int) -> int:
        """Return how many rows to pack at a time: whole tiles, about whole vectors."""
        most = max(rows, 4 * self.lanes)
        return min(range(rows, most + 1, rows), key=lambda g: padded(g, self.lanes) / g)

    def right(self, tile: int) -> tuple[Right, int]:
        """Return how the right factor is read, and of what the columns of a panel have to be a multiple."""
        c = self.c
        if _direct(c) and abs(grows(c.right.attr[1], c.k) or 0) * self.bytes <= _STRIDE:
            return "direct", tile
        if runs_along(c.right, c.n) or c.run is None or c.in_runs is None or not runs_along(c.in_runs, c.run):
            return "columns", tile
        return "runs", size(c.run)

    def even(self, total: int, most: int, unit: int) -> int:
        """Return the size of parts of at most `most`, a multiple of `unit`, that are about equal."""
        parts = ceil(total / max(most, unit))
        return ceil(ceil(total / parts) / unit) * unit

    def cut(self, rows: int, unit: int, widest: int) -> tuple[int, int]:
        """Return the panel and the row block: several tasks for each worker where there is work for them."""
        wanted = 1 if self.tuning.workers == 1 else 3 * self.tuning.workers
        panels = max(ceil(self.n / widest), min(ceil(wanted / self.batch), self.n // unit), 1)
        panel = self.even(self.n, ceil(self.n / panels), unit)
        tasks = self.batch * ceil(self.n / panel)
        blocks = min(ceil(wanted / tasks), max(1, self.m // (4 * rows)))
        return panel, self.even(self.m, ceil(self.m / blocks), rows)

    def stride(self, panel: int, tile: int, right: Right) -> int:
        """Return the columns that one step takes: an odd number of vectors, so that strips of a tile share a cache."""
        whole = ceil(panel / tile) * tile
        return whole + self.lanes if right == "runs" or whole > tile else whole


def check_tiles(c: Contraction, s: TileSchedule, capabilities: Capabilities) -> None:
    """Raise `UsageError` where a schedule does not fit the contraction or the device."""
    sizes = (s.rows, s.vectors, s.lanes, s.group, s.row_block, s.panel, s.depth, s.unroll, s.stride)
    positive = min(sizes) > 0
    reasons = [reason for reason, wrong in _rules(c, s, capabilities) if wrong] if positive else [f"{sizes} has a 0"]
    if reasons:
        raise UsageError(f"a schedule of tiles does not fit: {'; '.join(reasons)}")


def shared_bytes(c: Contraction, s: TileSchedule) -> int:
    """Return the shared memory of a work-group: the packed panel, the packed rows and the sums."""
    return sum(shared_elements(c, s)) * c.fold.dtype.bytes


def shared_elements(c: Contraction, s: TileSchedule) -> tuple[int, int, int]:
    """Return the elements of the packed panel, the packed rows and the sums."""
    panel = 0 if s.right == "direct" else s.depth * s.stride
    row, step = row_steps(s)
    packed = {"direct": 0, "along k": s.group * row, "along m": s.depth * step}
    blocked = s.depth < size(c.k)
    sums = s.row_block * padded(s.panel, s.tile) if blocked else s.rows * s.tile
    return panel, packed[s.left], sums


def row_steps(s: TileSchedule) -> tuple[int, int]:
    """Return how far apart packed rows of the left factor lie in shared memory, and their steps."""
    return (padded(s.depth, s.lanes), 1) if s.left == "along k" else (1, padded(s.group, s.lanes))


def padded(count: int, unit: int) -> int:
    """Return the least multiple of `unit` that is not less."""
    return ceil(count / unit) * unit


def _rules(c: Contraction, s: TileSchedule, capabilities: Capabilities) -> Iterator[tuple[str, bool]]:
    yield f"{s.lanes} lanes are not declared", s.lanes not in capabilities.lane_counts() or s.lanes < 2
    yield f"groups of {s.group} rows are no whole tiles of {s.rows}", s.group % s.rows != 0
    yield f"blocks of {s.row_block} rows are no whole groups of {s.group}", s.row_block % s.group != 0
    yield f"{s.stride} columns do not hold a panel", s.stride < padded(s.panel, s.tile) or s.stride % s.lanes != 0
    yield "the left factor is not stored evenly along k", s.left == "direct" and not is_plain(c.left, c.k)
    yield "the right factor is not contiguous along n", s.right == "direct" and not _direct(c)
    unit = size(c.run) if s.right == "runs" and c.run is not None else s.tile
    yield f"panels of {s.panel} columns are no multiple of {unit}", s.panel % unit != 0
    yield "one axis has no runs", s.right == "runs" and c.run is None
    most = capabilities.limits.shared_bytes
    yield f"{shared_bytes(c, s)} bytes of shared memory are more than {most}", shared_bytes(c, s) > most


def _direct(c: Contraction) -> bool:
    return is_plain(c.right, c.k, c.n) and runs_along(c.right, c.n)
