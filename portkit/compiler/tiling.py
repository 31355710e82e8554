"""The heuristic's choice of tiles: costs are counted in cycles, and the cheapest schedule is taken.

The model is that of T. M. Low et al., "Analytical Modeling Is Enough for High-Performance BLIS", 2016: register tiles
that keep two multiply-adds in each cycle busy, a packed panel in half of the second cache. What each part costs was
measured on processors with vectors of 512 bits; none of it changes a result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from math import ceil, prod

from portkit.compiler.contraction import (
    Contraction,
    Factors,
    Runs,
    find_factors,
    flatten,
    is_plain,
    runs_along,
    size,
    stored_along,
    uneven,
)
from portkit.compiler.index import Axis
from portkit.compiler.nest import Nest, Value
from portkit.compiler.schedule import grows, widest_lanes
from portkit.compiler.tiles import Left, Right, TileSchedule, check_tiles, in_place, misfits, padded
from portkit.contract import Capabilities
from portkit.errors import UsageError

LEAST_WORK = 1 << 16
"""Multiplications that are worth tiles."""
_LEAST_SIDE = 4
_MOST_ROWS, _MOST_VECTORS, _UNROLL = 16, 4, 4
_TASKS, _COARSE = 3, 1.05
"""Work-groups for each worker, so that none waits long for another, and what it costs to have fewer."""

# --- cycles -------------------------------------------------------------------------------------------------------

_LATENCY = 4
"""For a register tile of any size: the latency of its multiply-adds."""
_LOAD = 0.1
"""For each scalar and vector that a register tile loads, beside its multiply-adds."""
_COPY, _SINGLE = 6.0, 1.0
"""For a packed vector that is contiguous in memory, for each element of one that is not."""
_FAR = 12.0
"""For a packed vector of the left factor whose steps lie far apart."""
_DIVIDE = 10.0
"""For a vector whose indices or guards need a division."""
_NEARBY, _STREAM = 0.03, 0.25
"""For each element of the left factor that another panel reads again: if the second cache holds it, and if not."""
_BLOCKED = 1.08
"""How much longer all of it takes where the sum is cut into blocks."""
_STORE, _SCATTER = 3.0, 3.0
"""For a vector of results that is contiguous, for each element of one that is not."""

# --- bytes --------------------------------------------------------------------------------------------------------

_NEAR = 1024
"""Between steps of the left factor that is read in place: farther apart, many fall on the same places of a cache."""
_STRIDE = 3072
"""Between steps of the right factor that is read in place: less than a page."""
_CACHES = (32 << 10, 512 << 10)
"""The first two caches of a device that does not say."""


def schedule_tiles(nest: Nest, capabilities: Capabilities) -> tuple[Contraction, TileSchedule] | None:
    """Return a nest as a contraction and the heuristic's schedule, or None where rows do as well or better."""
    factors = find_factors(nest)
    if factors is None or not capabilities.has("vec"):
        return None
    lanes = widest_lanes(factors.fold.dtype.bytes, capabilities)
    work = prod(size(a) for a in (*nest.rows, *factors.depth))
    least = min(prod(size(a) for a in own) for own in factors.own)
    if lanes < 2 or work < LEAST_WORK or least < _LEAST_SIDE:
        return None
    options = list(_options(nest, factors, lanes, capabilities))
    return min(options, key=lambda o: o[0])[1:] if options else None


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


def _options(
    nest: Nest, factors: Factors, lanes: int, capabilities: Capabilities
) -> Iterator[tuple[float, Contraction, TileSchedule]]:
    """Yield the best schedule of each orientation, with its cost."""
    for swapped in (False, True):
        own = factors.own[0 if swapped else 1]
        for columns in range(1, len(own) + 1):
            contraction = flatten(nest, factors, swapped, columns)
            found = _Plan(contraction, lanes, capabilities).best()
            if found is not None:
                yield found[0], contraction, replace(found[1], swapped=swapped, columns=columns)


class _Plan:
    """The choices for one orientation of a contraction."""

    def __init__(self, c: Contraction, lanes: int, capabilities: Capabilities) -> None:
        self.c, self.lanes = c, lanes
        self.m, self.n, self.k = size(c.m), size(c.n), size(c.k)
        self.batch = prod(size(a) for a in c.batch)
        self.bytes = c.fold.dtype.bytes
        self.capabilities = capabilities
        tuning = capabilities.tuning
        self.workers = tuning.workers
        caches = (*tuning.cache_bytes, *_CACHES[len(tuning.cache_bytes) :])
        self.budget = min(caches[1] // 2, capabilities.limits.shared_bytes * 3 // 4) // self.bytes
        self.registers = tuning.vector_registers // ceil(lanes * self.bytes / tuning.vector_bytes)

    # --- costs --------------------------------------------------------------------------------------------------------

    def cost(self, s: TileSchedule) -> float:
        """Return the cycles of the whole contraction on one worker, more where the work does not divide evenly."""
        row_blocks, panels = ceil(self.m / s.row_block), ceil(self.n / s.panel)
        rest = self.n % s.panel
        strips = self.n // s.panel * ceil(s.panel / s.tile) + ceil(rest / s.tile)
        step = max(s.rows * s.vectors / 2, _LATENCY) + _LOAD * (s.rows + s.vectors)
        total = ceil(self.m / s.rows) * strips * step * self.k * (_BLOCKED if s.depth < self.k else 1.0)
        total += row_blocks * self.n * self.k * self.right_cost(s.right)
        total += panels * self.m * self.k * self.left_cost[s.left]
        total += self.m * self.n * (self.out_cost + (_STORE * 2 / self.lanes) * (ceil(self.k / s.depth) - 1))
        tasks = self.batch * row_blocks * panels
        uneven_share = ceil(tasks / self.workers) * self.workers / tasks
        return self.batch * total * uneven_share * (1.0 if tasks >= self.wanted else _COARSE)

    def right_cost(self, right: Right) -> float:
        """Return the cycles of packing one element of the right factor."""
        return 0.0 if right == "direct" else self.runs_cost if right == "runs" else self.columns_cost

    @cached_property
    def columns_cost(self) -> float:
        right, n = self.c.right, self.c.n
        return self.divide(right, n) + (_COPY / self.lanes if runs_along(right, n) else _SINGLE)

    def divide(self, value: Value, axis: Axis) -> float:
        return _DIVIDE / self.lanes if uneven(value, axis) else 0.0

    @cached_property
    def runs_cost(self) -> float:
        return self.cost_of_runs(self.c.right_runs)

    def cost_of_runs(self, runs: Runs | None) -> float:
        if runs is None or uneven(runs.value, runs.run):
            return float("inf")
        waste = padded(size(runs.run), self.lanes) / size(runs.run)
        return waste * (_COPY / self.lanes if runs_along(runs.value, runs.run) else _SINGLE)

    @cached_property
    def left_cost(self) -> dict[Left, float]:
        """The cycles of reading or packing one element of the left factor once more."""
        c = self.c
        near = is_plain(c.left, c.k) and abs(grows(c.left.attr[1], c.k) or 0) * self.bytes <= _NEAR
        return {
            "direct": (_NEARBY if self.m * self.k <= self.budget else _STREAM) if near else float("inf"),
            "along k": self.divide(c.left, c.k) + (_COPY / self.lanes if runs_along(c.left, c.k) else _SINGLE),
            "along m": self.divide(c.left, c.m) + (_FAR / self.lanes if runs_along(c.left, c.m) else _SINGLE),
            "runs": self.cost_of_runs(c.left_runs),
        }

    @cached_property
    def out_cost(self) -> float:
        return _STORE / self.lanes if stored_along(self.c.stores, self.c.n) else _SCATTER

    # --- choices ------------------------------------------------------------------------------------------------------

    def best(self) -> tuple[float, TileSchedule] | None:
        """Return the cheapest schedule of this orientation and its cost; of two equal ones the larger register tile."""
        priced = ((self.cost(s), s) for s in self.schedules() if not misfits(self.c, s, self.capabilities))
        return min(priced, key=lambda p: (p[0], -p[1].rows * p[1].vectors), default=None)

    def schedules(self) -> Iterator[TileSchedule]:
        left = min(self.left_cost, key=lambda way: self.left_cost[way])
        for vectors in range(1, _MOST_VECTORS + 1):
            tile = vectors * self.lanes
            right, unit = self.right(tile)
            for depth in self.depths(left, right, unit, tile):
                panel = self.panel(right, unit, tile, depth)
                for rows in range(1, min(self.m, _MOST_ROWS) + 1):
                    if rows * vectors + vectors + 1 <= max(self.registers, 3):
                        for tasks in {self.workers, self.wanted}:
                            yield self.schedule(rows, vectors, panel, depth, left, right, tasks)

    def schedule(
        self, rows: int, vectors: int, panel: int, depth: int, left: Left, right: Right, tasks: int
    ) -> TileSchedule:
        """Return the schedule with as few blocks of rows as make that many tasks."""
        tile = vectors * self.lanes
        group = self.group(rows, depth) if left == "along m" else rows
        blocks = min(ceil(tasks / (self.batch * ceil(self.n / panel))), max(1, self.m // group))
        if depth < self.k:  # the sums of a block of rows have to stay in the cache
            blocks = max(blocks, ceil(self.m * panel / (self.budget // 2)))
        return TileSchedule(
            False, 0, rows, vectors, self.lanes, self.even(self.m, ceil(self.m / blocks), group), panel, depth,
            min(_UNROLL, depth), left, right, self.stride(panel, tile, right), group,
        )  # fmt: skip

    @property
    def wanted(self) -> int:
        return 1 if self.workers == 1 else _TASKS * self.workers

    def right(self, tile: int) -> tuple[Right, int]:
        """Return how the right factor is read, and of what the columns of a panel have to be a multiple."""
        c = self.c
        if in_place(c) and abs(grows(c.right.attr[1], c.k) or 0) * self.bytes <= _STRIDE:
            return "direct", tile
        if c.right_runs is not None and self.runs_cost < self.columns_cost:
            return "runs", size(c.right_runs.run)
        return "columns", tile

    def depths(self, left: Left, right: Right, unit: int, tile: int) -> list[int]:
        """Return sizes of blocks of the sum: all of it where a panel fits, and less for wider panels."""
        narrow = self.stride(unit, tile, right)
        if right == "direct" or self.k * self.stride(self.n, tile, right) <= self.budget:
            return [self.k]
        step = size(self.c.left_runs.run) if left == "runs" and self.c.left_runs is not None else _UNROLL
        parts = [min(self.k, self.even(self.k, ceil(self.k / count), step)) for count in (1, 2, 3, 4)]
        return [d for d in parts if d * narrow <= self.budget] or [self.even(self.k, self.budget // narrow, step)]

    def panel(self, right: Right, unit: int, tile: int, depth: int) -> int:
        """Return the width of panels: as much as fits, not many columns beyond whole tiles, enough tasks."""
        room = self.n if right == "direct" else self.budget // depth - self.lanes
        enough = ceil(self.n / min(ceil(self.wanted / self.batch), max(1, self.n // unit)))
        most = max(1, min(room, padded(enough, unit)) // unit)
        return unit * min(range(1, most + 1), key=lambda count: self.waste(count * unit, tile))

    def waste(self, panel: int, tile: int) -> float:
        """Return how much more than its columns a panel costs: those beyond, and what is done for each panel."""
        rest = self.n % panel
        strips = self.n // panel * ceil(panel / tile) + ceil(rest / tile)
        return strips * tile + ceil(self.n / panel) * tile / 4

    def group(self, rows: int, depth: int) -> int:
        """Return how many rows to pack at a time: whole tiles, about whole vectors, as many as stay in the cache."""
        most = max(rows, min(6 * self.lanes, self.budget // 4 // depth))
        return min(range(rows, most + 1, rows), key=lambda g: (padded(g, self.lanes) / g, -g))

    def even(self, total: int, most: int, unit: int) -> int:
        """Return the size of parts of at most `most`, a multiple of `unit`, that are about equal."""
        parts = ceil(total / max(most, unit))
        return padded(ceil(total / parts), unit)

    def stride(self, panel: int, tile: int, right: Right) -> int:
        """Return the columns that one step takes: an odd number of vectors, so that strips of a tile share a cache."""
        whole = padded(panel, tile)
        return whole + self.lanes if right == "runs" or whole > tile else whole
