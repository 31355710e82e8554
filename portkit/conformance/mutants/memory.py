"""Faults of a driver's memory: allocation, transfers, copies and the errors that they owe."""

from __future__ import annotations

from typing import Any

from portkit.conformance.mutants.device import Wrapped
from portkit.errors import DeviceError, DeviceLost, InvalidHandle, OutOfMemory
from portkit.runtime.client import Bytes, DeviceClient

WORD = 4
NO_BUFFER = -1


class Translated(Wrapped):
    """Gives out handles of its own; a fault decides which buffer a handle means."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self.meant: dict[int, int] = {}

    def buffer(self, handle: int) -> int:
        """Return the device's handle of a buffer."""
        return self.meant.get(handle, NO_BUFFER)

    def write(self, handle: int, offset: int, data: Bytes) -> None:
        self.inner.write(self.buffer(handle), offset, data)

    def read(self, handle: int, offset: int, size: int) -> bytes:
        return self.inner.read(self.buffer(handle), offset, size)

    def copy(self, target: int, target_offset: int, source: int, source_offset: int, size: int) -> None:
        self.inner.copy(self.buffer(target), target_offset, self.buffer(source), source_offset, size)

    def launch(self, executable: Any, grid: Any, buffers: Any, scalars: Any) -> None:
        self.inner.launch(executable, grid, [self.buffer(b) for b in buffers], scalars)

    def free(self, handle: int) -> None:
        self.inner.free(self.meant.pop(handle, NO_BUFFER))


# --- allocation ---------------------------------------------------------------------------------------------------


class HandlesWrap(Translated):
    """Numbers buffers with eight bits: a new one takes the number of the one 256 before."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self._given = 0

    def allocate(self, size: int, *align: int) -> int:
        self._given += 1
        self.meant[self._given % 256] = self.inner.allocate(size, *align)
        return self._given

    def buffer(self, handle: int) -> int:
        return self.meant.get(handle % 256, NO_BUFFER)

    def free(self, handle: int) -> None:
        self.inner.free(self.meant.pop(handle % 256, NO_BUFFER))


class TinyBuffersOverlap(Translated):
    """Gives buffers of at most a word the same word."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self._given = 0
        self._shared = inner.allocate(WORD)

    def allocate(self, size: int, *align: int) -> int:
        self._given += 1
        tiny = 0 < size <= WORD
        self.meant[self._given] = self._shared if tiny else self.inner.allocate(size, *align)
        return self._given

    def free(self, handle: int) -> None:
        if self.meant.get(handle) == self._shared:
            del self.meant[handle]
        else:
            super().free(handle)


class EmptyBufferRefused(Wrapped):
    """Refuses a buffer of no bytes."""

    def allocate(self, size: int, *align: int) -> int:
        if size == 0:
            raise OutOfMemory("no room for 0 bytes")
        return self.inner.allocate(size, *align)


class FreedBytesStay(Wrapped):
    """Counts freed bytes as in use, of the declared memory but 4 GiB at most."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self._used = 0

    def allocate(self, size: int, *align: int) -> int:
        if self._used + size > min(self.inner.capabilities.limits.buffer_bytes, 4 << 30):
            raise OutOfMemory(f"no room for {size} bytes beside {self._used}")
        self._used += max(size, 0)
        return self.inner.allocate(size, *align)


class RecordsStay(Wrapped):
    """Keeps a record of every buffer there was, in a table of 1024."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self._records = 0

    def allocate(self, size: int, *align: int) -> int:
        self._records += 1
        if self._records > 1024:
            raise OutOfMemory("no record is free")
        return self.inner.allocate(size, *align)


class HugeAllocationShrinks(Wrapped):
    """Takes 32 bits of a size."""

    def allocate(self, size: int, *align: int) -> int:
        return self.inner.allocate(size & 0xFFFFFFFF if size >= 0 else size, *align)


class NegativeSizeAccepted(Wrapped):
    """Takes a negative size for zero."""

    def allocate(self, size: int, *align: int) -> int:
        return self.inner.allocate(max(size, 0), *align)


class OffsetsWrapAt16MiB(Wrapped):
    """Takes 24 bits of an offset."""

    def write(self, handle: int, offset: int, data: Bytes) -> None:
        self.inner.write(handle, _low(offset), data)

    def read(self, handle: int, offset: int, size: int) -> bytes:
        return self.inner.read(handle, _low(offset), size)


def _low(offset: int) -> int:
    return offset & 0xFFFFFF if offset >= 0 else offset


# --- transfers ----------------------------------------------------------------------------------------------------


class WritesWholeWords(Wrapped):
    """Leaves out the last bytes of what is no multiple of a word."""

    def write(self, handle: int, offset: int, data: Bytes) -> None:
        data = bytes(data)
        self.inner.write(handle, offset, data[: len(data) // WORD * WORD] if len(data) > WORD else data)


class TransfersStopAt64KiB(Wrapped):
    """Writes no more than 65,536 bytes at once, and zeros behind them.

    Zeros, as a device that gives memory out again may still hold there what the case wrote without the fault.
    """

    def write(self, handle: int, offset: int, data: Bytes) -> None:
        content = bytes(data)
        self.inner.write(handle, offset, content[: 1 << 16].ljust(len(content), b"\0"))


class ViewsStartAtZero(Wrapped):
    """Takes the bytes of a view from the beginning of what it is a view of."""

    def write(self, handle: int, offset: int, data: Bytes) -> None:
        if isinstance(data, memoryview):
            data = bytes(memoryview(data.obj).cast("B")[: data.nbytes])
        self.inner.write(handle, offset, data)


class WriteQueueOverflows(Wrapped):
    """Drops what is written after sixteen writes that nothing has waited for."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self._queued = 0

    def write(self, handle: int, offset: int, data: Bytes) -> None:
        self._queued += 1
        if self._queued <= 16:
            self.inner.write(handle, offset, data)

    def read(self, handle: int, offset: int, size: int) -> bytes:
        self._queued = 0
        return self.inner.read(handle, offset, size)

    def launch(self, *args: Any) -> None:
        self._queued = 0
        self.inner.launch(*args)


class ReadIgnoresOffset(Wrapped):
    """Reads from the beginning of the buffer, where there are so many bytes."""

    def read(self, handle: int, offset: int, size: int) -> bytes:
        self.inner.read(handle, offset, size)
        return self.inner.read(handle, 0, size)


# --- copies -------------------------------------------------------------------------------------------------------


class CopiesAreLate(Wrapped):
    """Copies when the device is next synchronised, so that a read comes before."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self._queue: list[tuple[int, int, int, int, int]] = []

    def copy(self, target: int, target_offset: int, source: int, source_offset: int, size: int) -> None:
        self.inner.read(source, source_offset, size)
        self.inner.read(target, target_offset, size)
        self._queue.append((target, target_offset, source, source_offset, size))

    def synchronise(self, timeout: float | None = None) -> None:
        self.flush()
        self.inner.synchronise(timeout)

    def flush(self) -> None:
        """Do the copies that wait."""
        waiting, self._queue = self._queue, []
        for each in waiting:
            self.inner.copy(*each)


class CopiesRaceWithLaunches(CopiesAreLate):
    """Copies in a queue of its own, which a launch does not wait for and a read does."""

    def read(self, handle: int, offset: int, size: int) -> bytes:
        self.flush()
        return self.inner.read(handle, offset, size)

    def launch(self, *args: Any) -> None:
        self.inner.launch(*args)
        self.flush()


class CopyWithinIgnored(Wrapped):
    """Takes a copy from a buffer to itself for done."""

    def copy(self, target: int, target_offset: int, source: int, source_offset: int, size: int) -> None:
        if target != source:
            self.inner.copy(target, target_offset, source, source_offset, size)


class CopyClipped(Wrapped):
    """Leaves out a copy that does not fit instead of refusing it."""

    def copy(self, *args: int) -> None:
        try:
            self.inner.copy(*args)
        except InvalidHandle:
            target, _, source, _, _ = args
            self.inner.read(target, 0, 0)
            self.inner.read(source, 0, 0)


# --- errors and lifetimes -----------------------------------------------------------------------------------------


class UnknownHandleFreed(Wrapped):
    """Frees what was never allocated without a word."""

    def free(self, handle: int) -> None:
        if 0 <= handle < 1 << 20:
            self.inner.free(handle)


class WriteAfterFreeAccepted(Wrapped):
    """Drops what is written to a freed buffer."""

    def write(self, handle: int, offset: int, data: Bytes) -> None:
        try:
            self.inner.read(handle, 0, 0)
        except InvalidHandle:
            if 0 <= handle < 1 << 20:
                return
        self.inner.write(handle, offset, data)


class OutOfRangeWriteAccepted(Wrapped):
    """Drops what is written outside the buffer."""

    def write(self, handle: int, offset: int, data: Bytes) -> None:
        self.inner.read(handle, 0, 0)
        try:
            self.inner.write(handle, offset, data)
        except InvalidHandle:
            if not len(data):
                raise


class Nameless(Wrapped):
    """Does not say what it is."""

    @property
    def info(self) -> Any:
        """What the device says of itself, without its name."""
        return _Nothing()


class _Nothing:
    device = ""


class IdleSynchroniseFails(Wrapped):
    """Refuses to wait where nothing runs."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self._launched = False

    def launch(self, *args: Any) -> None:
        self._launched = True
        self.inner.launch(*args)

    def synchronise(self, timeout: float | None = None) -> None:
        if not self._launched:
            raise DeviceError("nothing to wait for")
        self.inner.synchronise(timeout)


class CloseFails(Wrapped):
    """Dies when it is closed."""

    def leave(self) -> None:
        self.inner.leave()
        raise DeviceLost("the device died while it was closed")


class NoMemoryAfterReset(Wrapped):
    """Has no memory any more after a reset."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self._reset = False

    def reset(self) -> None:
        self._reset = True
        self.inner.reset()

    def allocate(self, size: int, *align: int) -> int:
        if self._reset:
            raise OutOfMemory("the memory of the device was not taken back")
        return self.inner.allocate(size, *align)
