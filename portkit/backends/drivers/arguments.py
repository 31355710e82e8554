"""What a launch hands to a printed kernel: checked against its header, then packed as its function unpacks it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

from portkit.errors import DeviceError, InvalidHandle
from portkit.spec.geometry import MAX_GROUPS, buffer_extents
from portkit.spec.kernel import Kernel


class Memory(Protocol):
    """A device's own record of a buffer, as far as a launch looks at it."""

    @property
    def address(self) -> int:
        """The address that kernels use."""
        ...

    @property
    def size(self) -> int:
        """The size in bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Arguments:
    """The words that a printed kernel reads, and how many work-groups it is launched over."""

    data: bytes
    groups: int


def pack_arguments(
    kernel: Kernel, grid: Sequence[int], buffers: Sequence[Memory], scalars: Sequence[int | float]
) -> Arguments:
    """Return buffers, scalars and grid extents as little-endian words of 8 bytes; negative extents count as 0.

    Raises:
        DeviceError: an argument is missing or surplus, a scalar is out of range, or there are too many work-groups.
        InvalidHandle: a buffer is too small, or is written and shares memory with another (Spec: header_c6, valid_c9).
    """
    counts = _counts(kernel, grid, buffers, scalars)
    _check_buffers(kernel, buffers, scalars)
    words = [struct.pack("<Q", buffer.address) for buffer in buffers]
    words += [_scalar_word(s.dtype.is_float, value) for s, value in zip(kernel.scalars, scalars, strict=True)]
    words += [struct.pack("<q", count) for count in counts]
    return Arguments(b"".join(words), prod(counts))


def _counts(
    kernel: Kernel, grid: Sequence[int], buffers: Sequence[Memory], scalars: Sequence[int | float]
) -> list[int]:
    expected = (len(kernel.nest.grids), len(kernel.buffers), len(kernel.scalars))
    if (len(grid), len(buffers), len(scalars)) != expected:
        given = f"{len(grid)} grid extents, {len(buffers)} buffers and {len(scalars)} scalars"
        raise DeviceError(f"kernel {kernel.name} takes {expected} (grid, buffers, scalars), got {given}")
    counts = [max(0, count) for count in grid]
    if prod(counts) > MAX_GROUPS:
        raise DeviceError(f"{prod(counts)} work-groups are more than 2^31-1")
    return counts


def _check_buffers(kernel: Kernel, buffers: Sequence[Memory], scalars: Sequence[int | float]) -> None:
    extents = buffer_extents(kernel, dict(zip((s.name for s in kernel.scalars), scalars, strict=True)))
    for declared, buffer, extent in zip(kernel.buffers, buffers, extents, strict=True):
        if buffer.size < extent * declared.dtype.bytes:
            asked = f"{extent} x {declared.dtype}"
            raise InvalidHandle(f"buffer {declared.name} has {buffer.size} bytes, {asked} are declared")
        if declared.access != "read" and sum(overlap(other, buffer) for other in buffers) > 1:
            raise InvalidHandle(f"buffer {declared.name} is written, but given twice, or shares memory with another")


def overlap(a: Memory, b: Memory) -> bool:
    """Whether two buffers are the same or share memory."""
    return a is b or (a.address < b.address + b.size and b.address < a.address + a.size)


def _scalar_word(is_float: bool, value: float) -> bytes:
    try:
        return struct.pack("<f4x", value) if is_float else struct.pack("<i4x", int(value))
    except (OverflowError, struct.error) as error:
        raise DeviceError(f"scalar {value} is out of range") from error
