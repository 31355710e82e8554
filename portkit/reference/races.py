"""Data races by slots: for each element of memory, who wrote it last and who read it since.

A *stamp* packs who accesses and when into one i64, from the top: the work-group + 1, its epoch (barriers executed so
far), the lane + 1. Zero is nobody; all ones as the lane are several lanes of one group in one epoch; `everyone`, all
ones, stands for readers of several groups. Two stamps race if they differ in the lane alone, or in the group.

One slot for readers is enough: of several readers it only needs to remember whether they share a lane, or else a group.
Source: C. Flanagan, S. N. Freund, "FastTrack: Efficient and Precise Dynamic Race Detection", PLDI 2009; barriers and
work-groups make each of its vector clocks one epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from portkit.errors import HarnessError
from portkit.reference.engine import Chunk

Stamps = NDArray[np.int64]
Places = NDArray[np.intp]


class Conflict(NamedTuple):
    """The access of an instruction that races, by its number among them, and the stamp that it races with."""

    access: int
    other: int
    other_wrote: bool = False


@dataclass(frozen=True, slots=True)
class Packing:
    """How many bits of a stamp the lane, and the lane with the epoch, take."""

    lane_bits: int
    time_bits: int

    @classmethod
    def of(cls, groups: int, lanes: int) -> Packing:
        """Return the packing for a launch, which leaves all remaining bits to the epoch."""
        lane_bits, group_bits = (lanes + 1).bit_length(), (groups + 1).bit_length()
        return cls(lane_bits, 63 - group_bits)

    @property
    def several_lanes(self) -> int:
        return (1 << self.lane_bits) - 1

    @property
    def everyone(self) -> int:
        return (1 << 63) - 1

    def stamps(self, chunk: Chunk, epochs: Stamps) -> Stamps:
        """Return the stamp of every lane, shape (groups, lanes), from the epoch of every group, shape (groups, 1)."""
        if int(epochs.max()) >> (self.time_bits - self.lane_bits):
            raise HarnessError(f"more than 2^{self.time_bits - self.lane_bits} barriers are not supported")
        lanes = np.arange(1, chunk.lanes + 1)
        return ((chunk.numbers + 1) << self.time_bits) | (epochs << self.lane_bits) | lanes

    def group(self, stamp: int) -> int:
        return (stamp >> self.time_bits) - 1

    def lane(self, stamp: int) -> int:
        return (stamp & self.several_lanes) - 1

    def name(self, stamp: int) -> str:
        """Return who a stamp stands for, in words."""
        if stamp == self.everyone:
            return "lanes of several work-groups"
        if stamp & self.several_lanes == self.several_lanes:
            return f"several lanes of group {self.group(stamp)}"
        return f"lane {self.lane(stamp)} of group {self.group(stamp)}"

    def racing(self, slots: Stamps, own: Stamps) -> NDArray[np.bool_]:
        """Return where accesses by two stamps are unordered; nobody races with nobody."""
        differ = slots ^ own
        unordered = (differ < 1 << self.lane_bits) | (differ >= 1 << self.time_bits)
        return unordered & (differ != 0) & (slots != 0)


class Slots:
    """The last writer and the readers of every element of one memory."""

    def __init__(self, packing: Packing, size: int) -> None:
        self._packing = packing
        self.writer: Stamps = np.zeros(size, np.int64)
        self.reader: Stamps = np.zeros(size, np.int64)

    def read(self, places: Places, own: Stamps) -> Conflict | None:
        """Record reads of one instruction, one stamp for each place; return the first that races."""
        found = self._against(self.writer, places, own, wrote=True)
        if found is None:
            self.join_readers(places, own)
        return found

    def write(self, places: Places, own: Stamps) -> Conflict | None:
        """Record writes of one instruction; return the first that races, with one of the same instruction too."""
        found = self._against(self.writer, places, own, wrote=True) or self._against(
            self.reader, places, own, wrote=False
        )
        if found is not None:
            return found
        self.writer[places] = own
        return self._against(self.writer, places, own, wrote=True)

    def _against(self, slots: Stamps, places: Places, own: Stamps, *, wrote: bool) -> Conflict | None:
        seen = slots.take(places)
        if not seen.any():
            return None
        racing = self._packing.racing(seen, own)
        if not racing.any():
            return None
        first = int(racing.argmax())
        return Conflict(first, int(seen[first]), wrote)

    def join_readers(self, places: Places, own: Stamps) -> None:
        """Record reads that race with nothing."""
        slots = self.reader
        joined = self._join(slots.take(places), own)
        slots[places] = joined
        kept = slots.take(places)
        lost = kept != joined
        if (
            lost.any()
        ):  # several readers of one element in this instruction: join them too, those of several groups last
            places, joined = places[lost], self._join(kept[lost], joined[lost])
            order = np.argsort(joined == self._packing.everyone, kind="stable")
            slots[places[order]] = joined[order]

    def _join(self, slots: Stamps, own: Stamps) -> Stamps:
        """Return the stamps that stand for both readers; a reader of an earlier epoch of the group is forgotten."""
        if not slots.any():
            return own
        differ = slots ^ own
        joined = np.where(
            (differ != 0) & (differ < 1 << self._packing.lane_bits), own | self._packing.several_lanes, own
        )
        return np.where((slots != 0) & (differ >= 1 << self._packing.time_bits), self._packing.everyone, joined)
