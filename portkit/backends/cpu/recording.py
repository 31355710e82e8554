"""Lists of launches that native code walks in one call: checked and packed once, with places for what changes.

A buffer that each replay provides is a *parameter*. While calls are packed it stands at an address that no process has;
`HostRecording.bind` writes the true one into all of its places.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import combinations
from typing import TypeAlias

import numpy as np

from portkit.backends.cpu.pool import CallRecord
from portkit.backends.drivers.arguments import pack_arguments
from portkit.backends.drivers.device import Buffer, LoadedKernel
from portkit.backends.toolkit.host_jit import LoadedCode
from portkit.contract import Call, Parameter
from portkit.errors import InvalidHandle
from portkit.spec.geometry import buffer_extents

Given: TypeAlias = Parameter | tuple[int, Buffer]
"""What a call is given: a parameter, or a handle and the buffer behind it."""
_Key: TypeAlias = Parameter | int
_WORD = 8
_NOWHERE, _APART = 1 << 62, 1 << 42


class Recorder:
    """Checks and packs calls one by one, then makes a recording of them."""

    def __init__(self) -> None:
        """Start with no calls."""
        self.kernels: dict[LoadedKernel[LoadedCode], None] = {}
        self.packed = bytearray()
        self.entries: list[tuple[int, int, int]] = []  # kernel address, where its arguments start, groups
        self.fixed: dict[int, Buffer] = {}
        self.needs: list[int] = []  # bytes that each parameter must have
        self.places: list[tuple[int, int]] = []  # a word of `packed`, and the parameter whose address it is
        self.apart: set[tuple[_Key, _Key]] = set()  # what must not share memory
        self.scratch = 0

    def add(self, loaded: LoadedKernel[LoadedCode], entry: int, call: Call, given: Sequence[Given]) -> None:
        """Append a call of the kernel whose function is at address *entry*.

        Raises:
            DeviceError, InvalidHandle: as `pack_arguments` does.
        """
        memories = [_stand_in(g) if isinstance(g, Parameter) else g[1] for g in given]
        arguments = pack_arguments(loaded.kernel, call.grid, memories, call.scalars)
        self._note_places(loaded, call, given)
        self._note_apart(loaded, [g if isinstance(g, Parameter) else g[0] for g in given])
        self.kernels[loaded] = None
        self.entries.append((entry, len(self.packed), arguments.groups))
        self.packed += arguments.data
        self.scratch = max(self.scratch, loaded.scratch)

    def _note_places(self, loaded: LoadedKernel[LoadedCode], call: Call, given: Sequence[Given]) -> None:
        kernel, word = loaded.kernel, len(self.packed) // _WORD
        extents = buffer_extents(kernel, dict(zip((s.name for s in kernel.scalars), call.scalars, strict=True)))
        for place, (g, extent, declared) in enumerate(zip(given, extents, kernel.buffers, strict=True)):
            if not isinstance(g, Parameter):
                self.fixed[g[0]] = g[1]
                continue
            self.needs += [0] * (g.place + 1 - len(self.needs))
            self.needs[g.place] = max(self.needs[g.place], extent * declared.dtype.bytes)
            self.places.append((word + place, g.place))

    def _note_apart(self, loaded: LoadedKernel[LoadedCode], keys: Sequence[_Key]) -> None:
        written = [b.access != "read" for b in loaded.kernel.buffers]
        for a, b in combinations(range(len(keys)), 2):
            checked_now = not isinstance(keys[a], Parameter) and not isinstance(keys[b], Parameter)
            if (written[a] or written[b]) and not checked_now:
                self.apart.add((keys[a], keys[b]))


def _stand_in(parameter: Parameter) -> Buffer:
    return Buffer(_NOWHERE + _APART * parameter.place, _APART)


class HostRecording:
    """Calls for `ThreadPool.run`: `count` records at address `calls`, whose kernels need at most `scratch` bytes."""

    def __init__(self, recorder: Recorder) -> None:
        """Lay the calls out as native code reads them."""
        self.scratch = recorder.scratch
        self.count = len(recorder.entries)
        self._kernels = list(recorder.kernels)
        self._words = np.frombuffer(recorder.packed, np.uint64)
        base = self._words.ctypes.data
        self._records = (CallRecord * self.count)(*((k, base + at, n) for k, at, n in recorder.entries))
        self.calls = ctypes.addressof(self._records)
        self._at, self._which = np.array(recorder.places, np.intp).reshape(-1, 2).T
        self._needs = recorder.needs
        self._fixed = frozenset(recorder.fixed)
        self._lay_out_ranges(recorder)
        self._gone = ""

    def _lay_out_ranges(self, recorder: Recorder) -> None:
        """Number parameters first, then fixed buffers: `_left` and `_right` are what must not share memory."""
        parameters, fixed = [0] * len(recorder.needs), list(recorder.fixed.values())
        row = {handle: len(parameters) + i for i, handle in enumerate(recorder.fixed)}
        pairs = [[k.place if isinstance(k, Parameter) else row[k] for k in pair] for pair in recorder.apart]
        self._left, self._right = np.array(pairs, np.intp).reshape(-1, 2).T
        self._starts = np.array([*parameters, *(b.address for b in fixed)], np.int64)
        self._ends = np.array([*parameters, *(b.address + b.size for b in fixed)], np.int64)

    def bind(self, buffers: Sequence[Buffer]) -> None:
        """Write the parameters' addresses into the arguments.

        Raises:
            InvalidHandle: a parameter is missing, surplus, too small, or shares memory with what a kernel writes; or a
                kernel or buffer of the recording is gone.
        """
        gone = self._gone or next((f"kernel {k.kernel.name}" for k in self._kernels if k.program is None), "")
        if gone:
            raise InvalidHandle(f"this recording cannot be replayed: {gone} was released; record it again")
        if len(buffers) != len(self._needs):
            raise InvalidHandle(f"the recording takes {len(self._needs)} buffers, got {len(buffers)}")
        for place, (buffer, need) in enumerate(zip(buffers, self._needs, strict=True)):
            if buffer.size < need:
                raise InvalidHandle(f"parameter {place} has {buffer.size} bytes, the recording needs {need}")
        count = len(buffers)
        self._starts[:count] = [b.address for b in buffers]
        self._ends[:count] = self._starts[:count] + [b.size for b in buffers]
        left, right = self._left, self._right
        if np.any((self._starts[left] < self._ends[right]) & (self._starts[right] < self._ends[left])):
            raise InvalidHandle("a kernel of the recording would be given memory twice that it writes")
        self._words[self._at] = self._starts[self._which]

    def forget(self, handle: int) -> None:
        """Refuse to be replayed if `handle` is part of the recording."""
        if handle in self._fixed:
            self._gone = f"buffer {handle}"

    def release(self) -> None:
        """Refuse to be replayed from now on."""
        self._gone = "the recording"
