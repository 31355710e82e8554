"""The memory image of a launch: every buffer, and the guard bytes around them, in one array of bytes.

    guard | buffer | tail, and guard up to a multiple of 256 | guard | buffer | ...

Every buffer starts at a multiple of 256 bytes, which every device that is known can bind. Behind each lie at least 512
bytes of guard, before the first 256. Whoever loads the image at an address that is a multiple of 256 can launch the
kernel on addresses inside of it, and save the same range afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from portkit.conformance.launching import GUARD_BYTES

ALIGNMENT = 256


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each buffer starts and how long it is, in bytes, and the length of the whole."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    size: int

    def image(self, pieces: Sequence[bytes], guard: int) -> bytes:
        """Return the image of a launch's operands: a guard, then each buffer with its tail and the guard behind it."""
        image = bytearray([guard]) * self.size
        image[:GUARD_BYTES] = pieces[0]
        for k, offset in enumerate(self.offsets):
            buffer, behind = pieces[2 * k + 1], pieces[2 * k + 2]
            image[offset : offset + len(buffer)] = buffer
            end = self._end(k)
            image[end - len(behind) : end] = behind
        return bytes(image)

    def pieces(self, image: bytes, guard: bytes) -> list[bytes]:
        """Return the operands that an image holds; a guard in or beside which anything changed differs from `guard`."""
        found = [image[: self.offsets[0] if self.offsets else self.size]]
        for k, offset in enumerate(self.offsets):
            tail = offset + self.sizes[k] + GUARD_BYTES
            behind = image[tail : self._end(k)]
            found += [image[offset:tail], guard if behind == guard[:1] * len(behind) else behind + b"\0"]
        return found

    def _end(self, place: int) -> int:
        """Return where the guard behind a buffer ends."""
        return self.offsets[place + 1] if place + 1 < len(self.offsets) else self.size


def layout(sizes: Sequence[int]) -> Layout:
    """Return the layout of buffers of so many bytes each."""
    offsets: list[int] = []
    at = GUARD_BYTES
    for size in sizes:
        offsets.append(at)
        at = -(-(at + size + GUARD_BYTES) // ALIGNMENT) * ALIGNMENT + GUARD_BYTES
    return Layout(tuple(offsets), tuple(sizes), at)
