"""The registers of many waves at once: a row for each wave, a column for each of its lanes.

    vector register   uint32[waves, width]        scalar register   uint32[waves]        scc   bool[waves]

`width` is at most 64: lanes that no work-item fills are left out, their bits in masks are 0. A mask in a pair of scalar
registers is kept as bool[waves, width] too until either register is written. Source: CDNA3 ISA, 3.1 to 3.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.emulators.gcn_text import EXEC

Array: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_]

WAVE = 64
_GARBAGE = 0xA5A5A5A5
"""What a register holds that nothing has written."""


class Waves:
    """The state of waves that execute the same instruction next."""

    def __init__(self, groups: Array, numbers: Array, live: Mask) -> None:
        """Start waves: the work-group of each, its number in that, and which of its lanes are work-items."""
        self.count, self.width = self.shape = live.shape
        self.groups = groups
        self.numbers = numbers
        self.slots: Array = np.arange(self.count, dtype=np.int64)
        self.vectors: dict[int, Array] = {}
        self.scalars: dict[int, Array] = {}
        self.scc: Mask = np.zeros(self.count, np.bool_)
        self.beyond: dict[tuple[int, int], Array] = {}
        self._masks: dict[int, Mask] = {}
        self.full = False
        self.write_mask(EXEC, live)

    @property
    def lanes(self) -> Array:
        """The numbers of a wave's lanes."""
        return np.arange(self.width, dtype=np.int64)

    # --- scalar registers -----------------------------------------------------------------------------------------

    def scalar(self, index: int) -> Array:
        """Return a scalar register."""
        found = self.scalars.get(index)
        return found if found is not None else np.full((self.count,), _GARBAGE, np.uint32)

    def scalar_pair(self, index: int) -> Array:
        """Return two scalar registers as uint64."""
        return self.scalar(index) | (self.scalar(index + 1).astype(np.uint64) << np.uint64(32))

    def write_scalar(self, index: int, value: Array) -> None:
        """Write a scalar register, from uint32 of any shape that fits."""
        self.scalars[index] = self.each(value)
        self._forget_mask(index)

    def write_scalar_pair(self, index: int, value: Array) -> None:
        """Write two scalar registers from uint64."""
        self.scalars[index] = self.each(value.astype(np.uint32))
        self._masks.pop(index - 1, None)
        self.write_scalar(index + 1, (value >> np.uint64(32)).astype(np.uint32))

    def _forget_mask(self, index: int) -> None:
        self._masks.pop(index, None)
        self._masks.pop(index - 1, None)
        if index in (EXEC, EXEC + 1):
            self.full = bool(self.mask(EXEC).all())

    def each(self, value: Array) -> Array:
        """Return one value for each wave, from one for all of them or one for each."""
        return value if len(value) == self.count else np.broadcast_to(value, self.count)

    # --- masks ----------------------------------------------------------------------------------------------------

    def mask(self, index: int) -> Mask:
        """Return a pair of scalar registers as one truth value for each lane."""
        found = self._masks.get(index)
        if found is None:
            words = np.stack([self.scalar(index), self.scalar(index + 1)], axis=1)
            bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
            found = self._masks[index] = bits[:, : self.width].view(np.bool_)
        return found

    def write_mask(self, index: int, value: Mask) -> None:
        """Write a pair of scalar registers from one truth value for each lane."""
        words = packed(value)
        self.scalars[index], self.scalars[index + 1] = words[:, 0], words[:, 1]
        self._masks.pop(index + 1, None)
        self._masks.pop(index - 1, None)
        self._masks[index] = value
        if index == EXEC:
            self.full = bool(value.all())

    @property
    def active(self) -> Mask | None:
        """Which lanes execute, None for all."""
        return None if self.full else self.mask(EXEC)

    # --- vector registers -----------------------------------------------------------------------------------------

    def vector(self, index: int) -> Array:
        """Return a vector register."""
        found = self.vectors.get(index)
        return np.full(self.shape, _GARBAGE, np.uint32) if found is None else found

    def vector_pair(self, index: int) -> Array:
        """Return two vector registers as uint64."""
        return self.vector(index) | (self.vector(index + 1).astype(np.uint64) << np.uint64(32))

    def write_vector(self, index: int, value: Array) -> None:
        """Write the active lanes of a vector register, from uint32 of any shape that fits."""
        if self.full:
            # NumPy's broadcasting takes longer than most instructions, and few need it.
            self.vectors[index] = value if value.shape == self.shape else np.broadcast_to(value, self.shape)
        else:
            self.vectors[index] = np.where(self.mask(EXEC), value, self.vector(index))

    def write_vector_pair(self, index: int, value: Array) -> None:
        """Write the active lanes of two vector registers from uint64."""
        self.write_vector(index, value.astype(np.uint32))
        self.write_vector(index + 1, (value >> np.uint64(32)).astype(np.uint32))

    # --- single lanes ---------------------------------------------------------------------------------------------

    def lane_of(self, index: int, lane: int) -> Array:
        """Return one lane of a vector register, active or not, which may be one that no work-item fills."""
        if lane < self.width:
            return self.vector(index)[:, lane]
        found = self.beyond.get((index, lane))
        return found if found is not None else np.full((self.count,), _GARBAGE, np.uint32)

    def write_lane(self, index: int, lane: int, value: Array) -> None:
        """Write one lane of a vector register, active or not: where LLVM keeps scalars that it has no room for."""
        if lane < self.width:
            self.vectors[index] = np.where(self.lanes == lane, value[:, None], self.vector(index))
        else:
            self.beyond[index, lane] = self.each(value)

    # --- apart and together ---------------------------------------------------------------------------------------

    def take(self, chosen: Mask) -> Waves:
        """Return some of the waves."""
        part = object.__new__(Waves)
        part.groups, part.numbers = self.groups[chosen], self.numbers[chosen]
        part.slots, part.scc = self.slots[chosen], self.scc[chosen]
        part.count, part.width = part.shape = len(part.groups), self.width
        part.vectors = {index: value[chosen] for index, value in self.vectors.items()}
        part.scalars = {index: value[chosen] for index, value in self.scalars.items()}
        part.beyond = {place: value[chosen] for place, value in self.beyond.items()}
        part._masks = {}
        part.full = bool(part.mask(EXEC).all())
        return part

    @staticmethod
    def join(parts: Sequence[Waves]) -> Waves:
        """Return all waves of several."""
        if len(parts) == 1:
            return parts[0]
        whole = object.__new__(Waves)
        whole.groups = np.concatenate([p.groups for p in parts])
        whole.numbers = np.concatenate([p.numbers for p in parts])
        whole.slots = np.concatenate([p.slots for p in parts])
        whole.scc = np.concatenate([p.scc for p in parts])
        whole.count, whole.width = whole.shape = len(whole.groups), parts[0].width
        vectors, scalars = ({i for p in parts for i in getattr(p, file)} for file in ("vectors", "scalars"))
        whole.vectors = {i: np.concatenate([p.vector(i) for p in parts]) for i in vectors}
        whole.scalars = {i: np.concatenate([p.scalar(i) for p in parts]) for i in scalars}
        places = {place for p in parts for place in p.beyond}
        whole.beyond = {place: np.concatenate([p.lane_of(*place) for p in parts]) for place in places}
        whole._masks = {}
        whole.full = bool(whole.mask(EXEC).all())
        return whole


def packed(mask: Mask) -> Array:
    """Return uint32[waves, 2], the two words of each wave's mask."""
    words = np.zeros((len(mask), WAVE // 8), np.uint8)
    bits = np.packbits(mask, axis=1, bitorder="little")
    words[:, : bits.shape[1]] = bits
    return words.view(np.uint32)
