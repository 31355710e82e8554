"""The memory of an emulated chip: bytes that many threads load and store at once, with every access checked.

Threads are elements of arrays: a *gather* loads one word for each address of an array, a *scatter* stores one. An
`Arena` is device memory, of which kernels see addresses; `Windows` are many small memories of one size, such as the
shared memory of every work-group or the private memory of every thread, each addressed from 0.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.errors import DeviceError, OutOfMemory

Ints: TypeAlias = NDArray[np.integer[Any]]
Words: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_]

GARBAGE = 0xA5
"""What every byte holds that nobody wrote: an odd pattern, as zeros would hide a missing store."""
_GRANULE = 64
_GUARD = 256
_BASE = 0x7E00_0000_0000
_NOWHERE = np.int64(-1 << 62)
"""Where a buffer ends that is not there: before every address."""


class EmulatorFault(DeviceError):
    """A thread did what the chip forbids; `position` is the place of the thread in the arrays it was given (-1: none).

    An interpreter that knows which lane of which group that is says so in a fault of its own.
    """

    def __init__(self, message: str, position: int = -1) -> None:
        super().__init__(message)
        self.position = position


class _Bytes:
    """Bytes, and words of any type in them by *byte offset*; offsets are trusted here."""

    def __init__(self, size: int) -> None:
        self._replace(np.full(-(-size // _GRANULE) * _GRANULE, GARBAGE, np.uint8))

    def _replace(self, memory: NDArray[np.uint8]) -> None:
        self._memory = memory
        self._views: dict[np.dtype[Any], Words] = {}

    def _words(self, dtype: np.dtype[Any]) -> Words:
        """Return all memory as words of one type."""
        if dtype not in self._views:
            self._views[dtype] = self._memory.view(dtype)
        return self._views[dtype]

    def _take(self, offsets: Ints, dtype: np.dtype[Any], count: int) -> Words:
        words, first = self._words(dtype), _index(offsets, dtype)
        return words[first][None] if count == 1 else np.stack([words[first + step] for step in range(count)])

    def _put(self, offsets: Ints, values: Words) -> None:
        words, first = self._words(values.dtype), _index(offsets, values.dtype)
        for step, row in enumerate(values):
            words[first + step] = row

    def _update(self, ufunc: np.ufunc, offsets: Ints, values: Words) -> None:
        ufunc.at(self._words(values.dtype), _index(offsets, values.dtype), values)

    def _swap(self, offsets: Ints, expected: Words, values: Words) -> Words:
        """Compare and swap; threads that meet at an address go in an order in which as many succeed as can."""
        words, at = self._words(values.dtype), _index(offsets, values.dtype)
        waiting = np.arange(len(at))
        old = expected.copy()
        while len(matching := waiting[words[at[waiting]] == expected[waiting]]):
            winners = matching[np.unique(at[matching], return_index=True)[1]]
            words[at[winners]] = values[winners]
            waiting = np.setdiff1d(waiting, winners, assume_unique=True)
        old[waiting] = words[at[waiting]]
        return old


def _index(offsets: Ints, dtype: np.dtype[Any]) -> Ints:
    """Return the numbers of words at aligned offsets; a shift takes a tenth of the time of a division."""
    return offsets >> (dtype.itemsize.bit_length() - 1)


def _misaligned(offsets: Ints, align: int) -> bool:
    return align > 1 and bool(np.bitwise_or.reduce(offsets) & (align - 1))


class _Checked(_Bytes):
    """The accesses of threads, whose addresses `_resolve` turns into offsets or refuses.

    In each of them `active` says which elements take part (None: all), `align` is what addresses must be a multiple of
    (0: the size of the whole access).
    """

    def _resolve(self, addresses: Ints, owners: Ints | None, size: int, align: int, what: str) -> Ints:
        raise NotImplementedError

    def _offsets(
        self, addresses: Ints, owners: Ints | None, active: Mask | None, size: int, align: int, what: str
    ) -> tuple[Ints, NDArray[np.intp] | slice]:
        """Return the offsets of the active elements, and which those are."""
        if active is None or active.all():
            return self._resolve(addresses, owners, size, align or size, what), slice(None)
        chosen = np.flatnonzero(active)
        try:
            part = None if owners is None else owners[chosen]
            return self._resolve(addresses[chosen], part, size, align or size, what), chosen
        except EmulatorFault as fault:
            fault.position = int(chosen[fault.position])
            raise

    def gather(
        self,
        addresses: Ints,
        dtype: np.dtype[Any] | type[np.generic],
        count: int = 1,
        *,
        owners: Ints | None = None,
        active: Mask | None = None,
        align: int = 0,
    ) -> Words:
        """Return `count` consecutive words for each address, shaped (count, threads); inactive threads get 0.

        Raises `EmulatorFault` for an address that is not all inside, or not aligned.
        """
        dtype = np.dtype(dtype)
        size = dtype.itemsize * count
        offsets, chosen = self._offsets(addresses, owners, active, size, align, f"load of {size} bytes")
        if isinstance(chosen, slice):
            return self._take(offsets, dtype, count)
        result = np.zeros((count, len(addresses)), dtype)
        result[:, chosen] = self._take(offsets, dtype, count)
        return result

    def scatter(
        self,
        addresses: Ints,
        values: Words,
        *,
        owners: Ints | None = None,
        active: Mask | None = None,
        align: int = 0,
    ) -> None:
        """Store `values`, shaped (count, threads), one column from each address on; of equal addresses the last wins.

        Raises `EmulatorFault` for an address that is not all inside, or not aligned.
        """
        size = values.dtype.itemsize * len(values)
        offsets, chosen = self._offsets(addresses, owners, active, size, align, f"store of {size} bytes")
        self._put(offsets, values[:, chosen])

    def update(
        self,
        ufunc: np.ufunc,
        addresses: Ints,
        values: Words,
        *,
        owners: Ints | None = None,
        active: Mask | None = None,
    ) -> None:
        """Fold each value into the word at its address, in thread order: an atomic operation without a result.

        The word has the type of `values`, shaped (threads). Raises `EmulatorFault` as `scatter`.
        """
        size = values.dtype.itemsize
        offsets, chosen = self._offsets(addresses, owners, active, size, 0, f"atomic of {size} bytes")
        self._update(ufunc, offsets, values[chosen])

    def compare_and_swap(
        self,
        addresses: Ints,
        expected: Words,
        values: Words,
        *,
        owners: Ints | None = None,
        active: Mask | None = None,
    ) -> Words:
        """Store each value where the word at its address is the expected one; return the words found, shaped (threads).

        Inactive threads get what they expected. Words are compared as they are given: use unsigned types. Raises
        `EmulatorFault` as `scatter`.
        """
        size = values.dtype.itemsize
        offsets, chosen = self._offsets(addresses, owners, active, size, 0, f"atomic of {size} bytes")
        result = expected.copy()
        result[chosen] = self._swap(offsets, expected[chosen], values[chosen])
        return result


class Windows(_Checked):
    """`count` memories of `size` bytes each; an access names its memory in `owners`."""

    def __init__(self, count: int, size: int) -> None:
        """Fill all of them with garbage."""
        self.size = size
        self._stride = -(-size // _GRANULE) * _GRANULE
        super().__init__(count * self._stride)

    def _resolve(self, addresses: Ints, owners: Ints | None, size: int, align: int, what: str) -> Ints:
        offsets = addresses.astype(np.int64)
        if len(offsets) and (offsets.min() < 0 or offsets.max() + size > self.size):
            bad = int(np.flatnonzero((offsets < 0) | (offsets + size > self.size))[0])
            raise EmulatorFault(f"illegal address {offsets[bad]:#x}: {what} outside {self.size} bytes", bad)
        if _misaligned(offsets, align):
            bad = int(np.flatnonzero(offsets & (align - 1))[0])
            raise EmulatorFault(f"misaligned address {offsets[bad]:#x}: {what} needs a multiple of {align}", bad)
        return offsets if owners is None else offsets + owners.astype(np.int64) * self._stride


class Arena(_Checked):
    """Device memory: buffers in one array of bytes that grows up to `capacity`, with unused bytes around each."""

    def __init__(self, capacity: int) -> None:
        """Start with no buffer; `capacity` is in bytes."""
        super().__init__(1 << 16)
        self.capacity = capacity
        self._free = [(0, capacity)]  # offset and size of each gap, ascending, no two touching
        self._sizes: dict[int, int] = {}
        self._ends = np.zeros(0, np.int64)  # for each granule, where the buffer that lies in it ends
        self._extend_ends()

    # --- buffers --------------------------------------------------------------------------------------------------

    def allocate(self, size: int, align: int = _GRANULE) -> int:
        """Return the address, a multiple of `align`, of a buffer filled with garbage. Raises `OutOfMemory`."""
        align = max(align, _GRANULE)
        taken = -(-(size + _GUARD) // _GRANULE) * _GRANULE
        for place, (start, room) in enumerate(self._free):
            offset = -(-start // align) * align
            if offset + taken <= start + room:
                rest = [(start, offset - start), (offset + taken, start + room - offset - taken)]
                self._free[place : place + 1] = [gap for gap in rest if gap[1]]
                self._enter(offset, size, taken)
                return _BASE + offset
        raise OutOfMemory(f"the emulated chip has no {size} bytes left of its {self.capacity}")

    def _enter(self, offset: int, size: int, taken: int) -> None:
        if offset + taken > len(self._memory):
            self._grow(offset + taken)
        self._memory[offset : offset + size] = GARBAGE
        self._sizes[offset] = size
        self._ends[offset // _GRANULE : -(-(offset + size) // _GRANULE)] = offset + size

    def _grow(self, size: int) -> None:
        """Move all memory to a larger array; the length stays a multiple of a granule."""
        length = -(-min(max(size, 2 * len(self._memory)), max(size, self.capacity)) // _GRANULE) * _GRANULE
        try:
            memory = np.empty(length, np.uint8)
        except MemoryError as error:
            raise OutOfMemory(f"the host has no {length} bytes for the emulated chip's memory: {error}") from error
        memory[: len(self._memory)] = self._memory
        self._replace(memory)
        self._extend_ends()

    def _extend_ends(self) -> None:
        """Give every granule an entry; the last one, of no granule, stands for all that is outside."""
        ends = np.full(len(self._memory) // _GRANULE + 1, _NOWHERE)
        ends[: len(self._ends)] = self._ends
        self._ends = ends

    def free(self, address: int) -> None:
        """Give a buffer back. Raises `EmulatorFault` if none starts there."""
        offset = address - _BASE
        if offset not in self._sizes:
            raise EmulatorFault(f"no buffer starts at {address:#x}")
        size = self._sizes.pop(offset)
        self._ends[offset // _GRANULE : -(-(offset + size) // _GRANULE)] = _NOWHERE
        self._join_gaps(offset, -(-(size + _GUARD) // _GRANULE) * _GRANULE)

    def _join_gaps(self, offset: int, size: int) -> None:
        gaps: list[tuple[int, int]] = []
        for start, room in sorted([*self._free, (offset, size)]):
            if gaps and sum(gaps[-1]) == start:
                gaps[-1] = (gaps[-1][0], gaps[-1][1] + room)
            else:
                gaps.append((start, room))
        self._free = gaps

    # --- the host's accesses --------------------------------------------------------------------------------------

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Copy from the host. Raises `EmulatorFault` for a range that is not all in one buffer."""
        self._range(address, len(data))[:] = np.frombuffer(data, np.uint8)

    def read(self, address: int, size: int) -> bytes:
        """Copy to the host. Raises `EmulatorFault` for a range that is not all in one buffer."""
        return self._range(address, size).tobytes()

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy between buffers. Raises `EmulatorFault` for a range that is not all in one buffer."""
        self._range(target, size)[:] = self._range(source, size)

    def _range(self, address: int, size: int) -> NDArray[np.uint8]:
        offset = address - _BASE
        granule = offset // _GRANULE
        known = 0 <= granule < len(self._ends)
        if size and not (known and offset + size <= int(self._ends[granule])):
            raise EmulatorFault(f"illegal address {address:#x}: {size} bytes are not inside one buffer")
        return self._memory[offset : offset + size]

    # --- threads' accesses ----------------------------------------------------------------------------------------

    def _resolve(self, addresses: Ints, owners: Ints | None, size: int, align: int, what: str) -> Ints:
        offsets = addresses.astype(np.int64) - _BASE
        if not len(offsets):
            return offsets
        outside = self._outside(offsets, size)
        if outside is not None:
            raise EmulatorFault(f"illegal address {addresses[outside]:#x}: {what} outside every buffer", outside)
        if _misaligned(offsets, align):
            bad = int(np.flatnonzero(offsets & (align - 1))[0])
            raise EmulatorFault(f"misaligned address {addresses[bad]:#x}: {what} needs a multiple of {align}", bad)
        return offsets

    def _outside(self, offsets: Ints, size: int) -> int | None:
        """Return the place of an offset whose bytes are not all in one buffer, or None if there is none."""
        low, high = int(offsets.min()), int(offsets.max())
        last = len(self._ends) - 1
        if 0 <= low < last * _GRANULE and high + size <= int(self._ends[low // _GRANULE]):
            return None  # all in one buffer, as is usual
        granules = np.where((offsets >= 0) & (offsets < last * _GRANULE), offsets // _GRANULE, last)
        bad = np.flatnonzero(offsets + size > self._ends[granules])
        return int(bad[0]) if len(bad) else None
