"""Buffers: ranges of device memory that go back to the pool when nobody holds them, and their exchange with arrays.

    buffer = from_array(device, array)            # without a copy where memory is shared and the array is aligned
    array = buffer.array(np.float32, (4, 8))      # likewise: it keeps the buffer

DLPack goes through NumPy, which speaks it for all memory of the host: `from_array(device, np.from_dlpack(x))`, and
`buffer.array(...).__dlpack__()`. NumPy's limits are ours: no bf16 and no f8, whose bits travel as u16 and u8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from portkit.contract import ALIGNMENT, HostMemory
from portkit.errors import ShapeError, UsageError

if TYPE_CHECKING:
    from portkit.runtime.devices import RuntimeDevice

Array = NDArray[Any]


class Buffer:
    """`size` bytes on a device, given back when nobody holds this object."""

    __slots__ = ("__weakref__", "_give_back", "_with", "device", "handle", "size")

    def __init__(
        self, device: RuntimeDevice, handle: int, size: int, give_back: Callable[[int, Any], None], with_: Any
    ) -> None:
        """Name memory that `give_back(handle, with_)` gives back."""
        self.device = device
        self.handle = handle
        self.size = size
        self._give_back = give_back
        self._with = with_

    def __del__(self) -> None:
        """Give the memory back. As cheap as can be: a replay makes a buffer for each of its outputs."""
        self._give_back(self.handle, self._with)

    @classmethod
    def pooled(cls, device: RuntimeDevice, sizes: Sequence[int]) -> list[Buffer]:
        """Return memory of the device's pool, a buffer for each size. Raises `OutOfMemory`."""
        give, taken = device.pool.give, device.pool.take(sizes)
        return [cls(device, handle, size, give, room) for size, (handle, room) in zip(sizes, taken, strict=True)]

    def __repr__(self) -> str:
        return f"<buffer {self.handle} of {self.size} bytes on {self.device.name}>"

    def write(self, data: Array) -> None:
        """Copy an array's elements, in C order, to the start of the buffer. Raises `ShapeError` if they do not fit."""
        flat = _bytes(data)
        if flat.nbytes > self.size:
            raise ShapeError(f"{flat.nbytes} bytes do not fit a buffer of {self.size}")
        self.device.check()
        with self.device.lock, self.device.queue.waiting():
            self.device.device.write(self.handle, 0, flat.data)

    def read(self, size: int | None = None) -> Array:
        """Return the first `size` bytes, by default all, as a new array of u8."""
        count = self.size if size is None else size
        self.device.check()
        with self.device.lock, self.device.queue.waiting():
            return np.frombuffer(self.device.device.read(self.handle, 0, count), np.uint8)

    def array(self, dtype: DTypeLike, shape: Sequence[int], *, copy: bool | None = None) -> Array:
        """Return the elements as an array: memory of the buffer where that is the host's, else a copy.

        With `copy` always or never a copy, as in NumPy; an array without a copy sees what kernels write to the buffer.
        Raises `ShapeError` if there are not so many bytes, `UsageError` where a copy is needed and forbidden.
        """
        wanted, extents = np.dtype(dtype), tuple(shape)
        count = wanted.itemsize * int(np.prod(extents, dtype=np.int64))
        if count > self.size:
            raise ShapeError(f"{wanted}{list(extents)} takes {count} bytes, the buffer has {self.size}")
        shares = isinstance(self.device.device, HostMemory)
        if copy is False and not shares:
            raise UsageError(f"memory of device {self.device.name} is not the host's: allow a copy")
        raw = self._shared(count) if shares and not copy else self.read(count)
        return raw.view(wanted).reshape(extents)

    def _shared(self, count: int) -> Array:
        device = self.device.device
        assert isinstance(device, HostMemory)
        self.device.synchronise()
        return np.asarray(_HostRange(self, device.address(self.handle), count))


class _HostRange:
    """What NumPy makes an array of; the array keeps it, and it the buffer."""

    def __init__(self, buffer: Buffer, address: int, count: int) -> None:
        self.buffer = buffer
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (count,), "data": (address, False)}


def from_array(device: RuntimeDevice, array: Array, *, copy: bool | None = None) -> Buffer:
    """Return a buffer with an array's elements in C order.

    Without a copy where the device works in the host's memory and the array is contiguous and starts at a multiple of
    64 bytes: it must then not be written to while the buffer is in use. `aligned` makes such arrays. With `copy` always
    or never a copy. Raises `UsageError` where a copy is needed and forbidden.
    """
    device.check()
    raw = device.device
    fits = array.flags.c_contiguous and array.ctypes.data % ALIGNMENT == 0 and array.nbytes > 0
    if isinstance(raw, HostMemory) and fits and not copy:
        with device.lock:
            handle = raw.adopt(array.ctypes.data, array.nbytes)
        return Buffer(device, handle, array.nbytes, device.pool.release, array)
    if copy is False:
        raise UsageError(
            f"device {device.name} cannot use this array in place: it needs contiguous host memory at a multiple of "
            f"{ALIGNMENT} bytes (see portkit.runtime.buffers.aligned); or allow a copy"
        )
    made = device.allocate(array.nbytes)
    made.write(array)
    return made


def aligned(shape: Sequence[int], dtype: DTypeLike) -> Array:
    """Return a new array, with any contents, that devices which share memory use in place."""
    wanted, extents = np.dtype(dtype), tuple(shape)
    count = wanted.itemsize * int(np.prod(extents, dtype=np.int64))
    room = np.empty(count + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + count].view(wanted).reshape(extents)


def _bytes(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
