"""Schedules of contractions: what register tiles, packed panels and blocks there are, and when that is legal.

A work-group computes a block of rows and a panel of columns. It packs its panel of the right factor, `depth` steps of
the sum at a time, and runs over it tile by tile: `rows` x `vectors` accumulators stay in registers over all steps. What
cannot be read in place of the left factor is packed too. `portkit.compiler.tiling` chooses one of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Literal

from portkit.compiler.contraction import Contraction, is_plain, runs_along, size
from portkit.contract import Capabilities
from portkit.errors import UsageError

Left = Literal["direct", "along k", "along m", "runs"]
Right = Literal["direct", "columns", "runs"]


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


def check_tiles(c: Contraction, s: TileSchedule, capabilities: Capabilities) -> None:
    """Raise `UsageError` where a schedule does not fit the contraction or the device."""
    reasons = misfits(c, s, capabilities)
    if reasons:
        raise UsageError(f"a schedule of tiles does not fit: {'; '.join(reasons)}")


def misfits(c: Contraction, s: TileSchedule, capabilities: Capabilities) -> list[str]:
    """Return why a schedule does not fit; nothing if it does."""
    sizes = (s.rows, s.vectors, s.lanes, s.group, s.row_block, s.panel, s.depth, s.unroll, s.stride)
    if min(sizes) < 1:
        return [f"{sizes} has a 0"]
    return [reason for reason, wrong in _rules(c, s, capabilities) if wrong]


def shared_bytes(c: Contraction, s: TileSchedule) -> int:
    """Return the shared memory of a work-group: the packed panel, the packed rows and the sums."""
    return sum(shared_elements(c, s)) * c.fold.dtype.bytes


def shared_elements(c: Contraction, s: TileSchedule) -> tuple[int, int, int]:
    """Return the elements of the packed panel, the packed rows and the sums."""
    panel = 0 if s.right == "direct" else s.depth * s.stride
    row, step = row_steps(s)
    packed = {"direct": 0, "along m": s.depth * step}.get(s.left, s.group * row)
    blocked = s.depth < size(c.k)
    sums = s.row_block * padded(s.panel, s.tile) if blocked else s.rows * s.tile
    return panel, packed, sums


def row_steps(s: TileSchedule) -> tuple[int, int]:
    """Return how far apart packed rows of the left factor lie in shared memory, and their steps."""
    if s.left == "along m":
        return 1, padded(s.group, s.lanes)
    return padded(s.depth + (s.lanes if s.left == "runs" else 0), s.lanes), 1


def padded(count: int, unit: int) -> int:
    """Return the least multiple of `unit` that is not less."""
    return ceil(count / unit) * unit


def _rules(c: Contraction, s: TileSchedule, capabilities: Capabilities) -> Iterator[tuple[str, bool]]:
    yield f"{s.lanes} lanes are not declared", s.lanes not in capabilities.lane_counts() or s.lanes < 2
    yield f"groups of {s.group} rows are no whole tiles of {s.rows}", s.group % s.rows != 0
    yield f"blocks of {s.row_block} rows are no whole groups of {s.group}", s.row_block % s.group != 0
    yield f"{s.stride} columns do not hold a panel", s.stride < padded(s.panel, s.tile) or s.stride % s.lanes != 0
    yield (
        "the left factor is not stored evenly along k",
        s.left == "direct" and not is_plain(c.left, c.k),
    )
    yield "the right factor is not contiguous along n", s.right == "direct" and not in_place(c)
    unit = size(c.right_runs.run) if s.right == "runs" and c.right_runs is not None else s.tile
    yield f"panels of {s.panel} columns are no multiple of {unit}", s.panel % unit != 0
    yield f"blocks of {s.depth} steps are longer than the sum", s.depth > size(c.k)
    yield "one axis has no runs", s.right == "runs" and c.right_runs is None
    yield "blocks of the sum are no whole runs", s.left == "runs" and not _whole_runs(c, s.depth)
    most = capabilities.limits.shared_bytes
    yield f"{shared_bytes(c, s)} bytes of shared memory are more than {most}", shared_bytes(c, s) > most


def _whole_runs(c: Contraction, depth: int) -> bool:
    return c.left_runs is not None and depth % size(c.left_runs.run) == 0


def in_place(c: Contraction) -> bool:
    """Whether the right factor can be read in place: stored evenly, contiguous along n."""
    return is_plain(c.right, c.k, c.n) and runs_along(c.right, c.n)
