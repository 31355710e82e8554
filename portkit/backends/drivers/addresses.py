"""Addresses for memory that has none: a driver whose buffers are objects gives out numbers that stand for them.

`CheckedDevice` reckons with addresses: a part of a buffer is the buffer's address plus an offset. Of a driver for which
a buffer is an object (`cl_mem`, `GPUBuffer`, `MTLBuffer`) they are made up here, and found back with their offset.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Generic, NamedTuple, TypeVar

from portkit.errors import InvalidHandle

T = TypeVar("T")
_FIRST = 1 << 12
"""Where the first object is placed: address 0 stands for nothing."""


class Place(NamedTuple, Generic[T]):
    """The object that holds an address, and how many bytes into it the address is."""

    object: T
    offset: int


class Addresses(Generic[T]):
    """Objects side by side in a made-up address space; no address is given out twice."""

    def __init__(self) -> None:
        self._starts: list[int] = []  # ascending, as objects are placed above one another
        self._objects: dict[int, tuple[T, int]] = {}
        self._next = _FIRST

    def place(self, thing: T, size: int, align: int) -> int:
        """Return the address, a multiple of `align`, of an object of `size` bytes; an empty one has its own too."""
        address = -(-self._next // align) * align
        self._starts.append(address)
        self._objects[address] = (thing, size)
        self._next = address + size + 1  # the byte past the end still belongs to the object: empty parts start there
        return address

    def find(self, address: int) -> Place[T]:
        """Return the object that an address lies in, or ends at, with the offset. Raises `InvalidHandle`."""
        at = bisect_right(self._starts, address) - 1
        if at >= 0:
            start = self._starts[at]
            thing, size = self._objects[start]
            if address <= start + size:
                return Place(thing, address - start)
        raise InvalidHandle(f"no buffer is at address {address:#x}")

    def remove(self, address: int) -> T:
        """Forget the object that starts at an address, and return it. Raises `InvalidHandle`."""
        if address not in self._objects:
            raise InvalidHandle(f"no buffer starts at address {address:#x}")
        del self._starts[bisect_right(self._starts, address) - 1]
        return self._objects.pop(address)[0]
