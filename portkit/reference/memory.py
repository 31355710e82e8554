"""The memory of a run: buffers and shared arrays as flat NumPy arrays, and where an access goes in them.

A buffer is one array; a shared array has one copy per work-group of the chunk, one after the other. Nothing is ever
read or written outside an array that the kernel names: an index outside is the kernel's fault, and is reported as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.errors import InvalidKernelError, UsageError
from portkit.reference.engine import Chunk, Mask
from portkit.reference.faults import Site
from portkit.spec.kernel import Buffer, Kernel, Shared

Array: TypeAlias = NDArray[Any]
Integers: TypeAlias = NDArray[np.integer[Any]]


@dataclass(slots=True)
class Memory:
    """A buffer or a shared array: `data` holds `copies` arrays of `extent` elements (at least one element in all)."""

    name: str
    data: Array
    extent: int
    copies: int = 1
    is_shared: bool = False

    @classmethod
    def of(cls, declared: Buffer | Shared, extent: int, copies: int = 1) -> Memory:
        """Return zeroed memory for a declaration."""
        return cls(
            declared.name,
            np.zeros(max(1, extent * copies), declared.dtype.numpy),
            extent,
            copies,
            isinstance(declared, Shared),
        )

    def place(self, site: Site, chunk: Chunk, address: Integers, live: Mask) -> Integers:
        """Return positions in `data` of element addresses, of shape (groups or 1, lanes or 1, elements of one access).

        Positions that are not live may be anything. Raises `InvalidKernelError` (valid_c3) where a live address is
        outside the array.
        """
        unsigned = np.dtype(f"u{address.dtype.itemsize}")
        if address.size and int(address.view(unsigned).max()) >= self.extent:
            self._check_inside(site, chunk, address, live)
        if self.copies == 1:
            return address
        bases = np.arange(self.copies) * self.extent
        return address + bases.reshape(-1, *(1,) * (address.ndim - 1))

    def _check_inside(self, site: Site, chunk: Chunk, address: Integers, live: Mask) -> None:
        outside = (address < 0) | (address >= self.extent)
        if live is not None:
            outside = outside & live
        if outside.any():
            message = (
                f"lane {{lane}} of group {{group}} accesses {self.name}[{{address}}], which has {self.extent} elements"
            )
            raise site.fault(chunk, "valid_c3", outside, message, address)

    def read(self, place: Integers) -> Array:
        """Return the elements at the given positions; those outside `data` give any element."""
        return self.data.take(place, mode="clip")

    def write(self, place: Integers, value: Array, live: Mask) -> None:
        """Write the live elements; where two have one position, the last counts."""
        place, value = live_only(live, place, value)
        self.data[place.astype(np.intp, copy=False)] = value


def live_only(live: Mask, *arrays: Array) -> list[Array]:
    """Return arrays broadcast together; if there is a mask, their live elements in one dimension."""
    if live is None:
        return list(np.broadcast_arrays(*arrays))
    *full, chosen = np.broadcast_arrays(*arrays, live)
    return [a[chosen] for a in full]


def allocate(kernel: Kernel, scalars: Mapping[str, int | float], buffers: Mapping[str, Array]) -> dict[str, Memory]:
    """Return a copy of every buffer of a launch; a write-only buffer that is not given starts as zeros.

    `buffers` are one-dimensional, of the buffer's NumPy dtype. Raises `UsageError` for a missing, unknown or mistyped
    buffer or scalar, `InvalidKernelError` (valid_c9) for one of another extent than declared.
    """
    _check_names("scalar", {s.name for s in kernel.scalars}, set(scalars), optional=set())
    write_only = {b.name for b in kernel.buffers if b.access == "write"}
    _check_names("buffer", {b.name for b in kernel.buffers}, set(buffers), optional=write_only)
    return {b.name: _allocate_one(b, b.extent.evaluate(scalars), buffers.get(b.name)) for b in kernel.buffers}


def _check_names(what: str, declared: set[str], given: set[str], optional: set[str]) -> None:
    missing, unknown = declared - given - optional, given - declared
    if missing or unknown:
        text = ", ".join([f"{n} is missing" for n in sorted(missing)] + [f"{n} is unknown" for n in sorted(unknown)])
        raise UsageError(f"the {what}s of a launch are those that the kernel declares: {text}")


def _allocate_one(buffer: Buffer, extent: int, given: Array | None) -> Memory:
    if extent < 0 or (given is not None and given.size != extent):
        size = "none" if given is None else given.size
        raise InvalidKernelError(
            f"buffer {buffer.name} has {size} elements, the kernel declares {buffer.extent} = {extent}",
            clause="valid_c9",
            instruction=-1,
        )
    memory = Memory.of(buffer, extent)
    if given is not None:
        if given.dtype != buffer.dtype.numpy or given.ndim != 1:
            wanted = f"one-dimensional {buffer.dtype.numpy}"
            raise UsageError(f"buffer {buffer.name} is {given.ndim}-dimensional {given.dtype}, give {wanted}")
        memory.data[:extent] = given
    return memory
