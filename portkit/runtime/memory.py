"""Nameless memory that two processes map: nothing is left behind, however either of them ends."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile

_PAGE = mmap.PAGESIZE


def create() -> int:
    """Return the descriptor of an empty memory file without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("portkit")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class SharedMemory:
    """A mapping of a memory file; `view` is its bytes, `size` how many."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = 0
        self.view = memoryview(bytearray())
        self._mapping: mmap.mmap | None = None

    def grow(self, size: int) -> None:
        """Enlarge the file to at least `size` bytes and map all of it. Raises `OSError` where there is no room."""
        rounded = -(-max(size, 1) // _PAGE) * _PAGE
        os.ftruncate(self.descriptor, rounded)
        self.map(rounded)

    def map(self, size: int) -> None:
        """Map `size` bytes of the file, which has them."""
        self.unmap()
        self._mapping = mmap.mmap(self.descriptor, size)
        self.view = memoryview(self._mapping)
        self.size = size

    def unmap(self) -> None:
        """Give the mapping back, unless a view of it is still held somewhere; then it goes with that view."""
        self.view.release()
        mapping, self._mapping = self._mapping, None
        if mapping is not None:
            with contextlib.suppress(BufferError):  # somebody holds a slice: the mapping is freed when the slice is
                mapping.close()
        self.view, self.size = memoryview(bytearray()), 0
