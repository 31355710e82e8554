"""Buffers that are memory of this process: the half of a driver that every port to the host shares."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from portkit.errors import OutOfMemory


class HostArrays:
    """Memory of this process; what is started is complete on return, so that transfers wait for nothing."""

    def __init__(self, most: int) -> None:
        """Give out buffers of at most `most` bytes."""
        self._most = most
        self._arrays: dict[int, NDArray[np.uint8]] = {}

    def allocate(self, size: int, align: int) -> int:
        """Return the address of host memory; even an empty buffer has its own."""
        if size > self._most:
            raise OutOfMemory(f"{size} bytes are more than the {self._most} that a buffer may have")
        array = np.empty(size + align, np.uint8)
        address = -(-array.ctypes.data // align) * align
        self._arrays[address] = array
        return address

    def free(self, address: int) -> None:
        """Give memory back."""
        del self._arrays[address]

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Copy from the host's other memory."""
        _bytes_at(address, len(data))[:] = data

    def read(self, address: int, size: int) -> bytes:
        """Copy to the host's other memory."""
        return bytes(_bytes_at(address, size))

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy between buffers."""
        ctypes.memmove(target, source, size)


def _bytes_at(address: int, size: int) -> memoryview:
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")
