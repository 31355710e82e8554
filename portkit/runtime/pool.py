"""Memory of one device, kept for reuse: buffers that are given back wait in size classes for the next of their size.

Fresh memory is expensive (pages are mapped and cleared on first touch, drivers take locks), so what a program frees it
gets again. Classes have eight steps in each octave: at most an eighth of a buffer is waste. What is pooled is kept
below what has been in use at the peak, oldest first out; an allocation that fails empties the pool and tries again.
"""

from __future__ import annotations

import gc
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from portkit.contract import ALIGNMENT, Device
from portkit.errors import DeviceLost, OutOfMemory

_STEPS = 3  # 2^3 classes in an octave
_ALWAYS_KEPT = 64 << 20


@dataclass(frozen=True, slots=True)
class Statistics:
    """Bytes in use, the most that ever were, bytes that wait for reuse; and how often the device gave fresh memory."""

    live_bytes: int
    peak_bytes: int
    pooled_bytes: int
    allocations: int
    reuses: int


def size_class(size: int) -> int:
    """Return the size that a request for `size` bytes gets: at least one aligned unit, at most an eighth more."""
    step = max(ALIGNMENT, 1 << max(0, (size - 1).bit_length() - 1 - _STEPS))
    return max(1, -(-size // step)) * step


class Pool:
    """Hands out handles to memory of at least the asked size; safe to use from several threads."""

    def __init__(
        self, device: Device, most: int, lock: threading.RLock, reclaim: Callable[[], None] = lambda: None
    ) -> None:
        """Serve `device`, whose buffers have at most `most` bytes; `lock` is held while it is called.

        `reclaim` is called when the device is full, to let go of what can be had again.
        """
        self._device = device
        self._most = most
        self._lock = lock
        self._reclaim = reclaim
        self._owner = os.getpid()
        self._closed = False
        self._returned: deque[tuple[int, int]] = deque()  # by finalizers, which may run anywhere: appended to, no more
        self._foreign: deque[tuple[int, object]] = deque()
        self._free: dict[int, deque[tuple[int, int]]] = {}  # (turn, handle) by class, oldest first
        self._turns = itertools.count()
        self._live = self._peak = self._pooled = self._allocations = self._reuses = 0

    def take(self, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Return for each size a handle and how many bytes it has, to be given back by `give`.

        Raises `OutOfMemory`, when not even an emptied pool leaves room, `DeviceLost` once the pool is closed.
        """
        if self._closed or os.getpid() != self._owner:
            raise DeviceLost("this device is closed, or was opened before a fork; open it again")
        taken: list[tuple[int, int]] = []
        with self._lock:
            self._collect()
            try:
                for size in sizes:
                    room = min(size_class(size), max(size, self._most))
                    taken.append(self._take_one(room))
            except OutOfMemory:
                self._returned.extend(taken)
                raise
            self._peak = max(self._peak, self._live)
        return taken

    def give(self, handle: int, room: int) -> None:
        """Give memory back; nothing that is started from now on may use it. Called by finalizers, in any thread."""
        self._returned.append((handle, room))

    def release(self, handle: int, keeps: object) -> None:
        """Free a handle that is not the pool's, and only then let go of what it was made of. Called by finalizers."""
        self._foreign.append((handle, keeps))

    def trim(self, keep: int = 0) -> None:
        """Free the oldest of what is pooled until at most `keep` bytes are."""
        with self._lock:
            self._collect()
            self._shrink(keep)

    def statistics(self) -> Statistics:
        """Return what is in use and what waits."""
        with self._lock:
            self._collect()
            return Statistics(self._live, self._peak, self._pooled, self._allocations, self._reuses)

    def reset_peak(self) -> None:
        """Measure the peak from now on."""
        with self._lock:
            self._collect()
            self._peak = self._live

    def close(self) -> None:
        """Free what is pooled, and forget what is given back later."""
        if not self._closed and os.getpid() == self._owner:
            self.trim()
        self._closed = True

    # --- under the lock -------------------------------------------------------------------------------------------

    def _take_one(self, room: int) -> tuple[int, int]:
        waiting = self._free.get(room)
        if waiting:
            handle = waiting.pop()[1]
            self._pooled -= room
            self._reuses += 1
        else:
            handle = self._allocate(room)
        self._live += room
        return handle, room

    def _allocate(self, room: int) -> int:
        try:
            handle = self._device.allocate(room)
        except OutOfMemory:
            self._reclaim()
            gc.collect()  # what only cycles hold is given back too
            self._collect()
            self._shrink(0)
            try:
                handle = self._device.allocate(room)
            except OutOfMemory as error:
                said = f"no room for {room} bytes beside {self._live} in use, and nothing left to free"
                raise OutOfMemory(f"{said}: {error}") from error
        self._allocations += 1
        return handle

    def _collect(self) -> None:
        """File what was given back since the last call."""
        while self._foreign:
            handle, keeps = self._foreign.popleft()
            self._release(handle)
            del keeps  # which may give memory back, filed below
        while self._returned:
            handle, room = self._returned.popleft()
            self._live -= room
            self._pooled += room
            self._free.setdefault(room, deque()).append((next(self._turns), handle))
        self._shrink(max(_ALWAYS_KEPT, self._peak))

    def _shrink(self, keep: int) -> None:
        while self._pooled > keep:
            room = min((waiting[0][0], room) for room, waiting in self._free.items() if waiting)[1]
            handle = self._free[room].popleft()[1]
            self._pooled -= room
            self._release(handle)

    def _release(self, handle: int) -> None:
        if not self._closed and os.getpid() == self._owner:
            self._device.free(handle)
