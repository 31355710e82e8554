"""Devices in this process: opened once by name, with their memory pool, launch queue and compiled kernels.

    device = open_device()            # PORTKIT_DEVICE, else cpu
    buffer = device.allocate(1024)

A device does not survive `os.fork`: in the child `open_device` opens another, and what was the parent's raises
`DeviceLost`. Several threads may use a device; their launches take turns.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING

from portkit.contract import Backend, Capabilities, Device, DeviceInfo, installed_backends
from portkit.errors import DeviceLost
from portkit.runtime.buffers import Buffer
from portkit.runtime.kernels import Kernels
from portkit.runtime.launches import TIMEOUT, LaunchQueue
from portkit.runtime.pool import Pool
from portkit.runtime.remote import resolve

if TYPE_CHECKING:
    from portkit.compiler.program import Program
    from portkit.runtime.programs import Programs
    from portkit.runtime.replay import Recorded

DEFAULT = "cpu"
VARIABLE = "PORTKIT_DEVICE"


class RuntimeDevice:
    """An open device of this process and what the runtime keeps for it."""

    def __init__(self, backend: Backend) -> None:
        """Open the device of a backend. Raises `CannotRunHere` with the backend's own reason."""
        self.name = backend.name
        self.backend = backend
        self.lock = threading.RLock()
        self.device: Device = backend.open()
        self.pool = Pool(self.device, self.capabilities.limits.buffer_bytes, self.lock, self._forget_recordings)
        self.queue = LaunchQueue(self.device)
        self.kernels = Kernels(backend, self.device, self.lock)
        self._owner = os.getpid()
        self._open = True
        self._arena: Buffer | None = None
        self.recorded: OrderedDict[tuple[object, ...], tuple[Program, Recorded | None]] = OrderedDict()
        """Programs by identity and dimensions, those met again ready to be replayed; the longest unused first."""

    @property
    def capabilities(self) -> Capabilities:
        """What the backend declares."""
        return self.backend.capabilities

    @cached_property
    def programs(self) -> Programs:
        """The compiled programs; the compiler is imported when they are first asked for."""
        from portkit.runtime.programs import Programs

        return Programs(self)

    @property
    def info(self) -> DeviceInfo:
        """The device, driver and compiler."""
        return self.device.info

    def check(self) -> None:
        """Raise `DeviceLost` if the device is closed or belongs to the parent of this process."""
        if not self._open:
            raise DeviceLost(f"device {self.name} is closed; open it again")
        if os.getpid() != self._owner:
            raise DeviceLost(
                f"device {self.name} was opened before a fork, and what it holds, tensors too, stays with the parent; "
                "start processes by spawn, or make the tensor here from what .numpy() gave before the fork"
            )

    def allocate(self, size: int) -> Buffer:
        """Return a buffer of `size` bytes with any contents. Raises `OutOfMemory`, `DeviceLost`."""
        return self.allocate_each([size])[0]

    def allocate_each(self, sizes: Sequence[int]) -> list[Buffer]:
        """Return a buffer for each size, with any contents. Raises `OutOfMemory`, `DeviceLost`."""
        self.check()
        return Buffer.pooled(self, sizes)

    def arena(self, size: int) -> Buffer:
        """Return memory of at least `size` bytes for temporaries of one run: all recordings take turns in it."""
        if self._arena is None or self._arena.size < size:
            self._arena = None  # what it was goes back before more is taken, unless a recording still has it
            self._arena = self.allocate(size)
        return self._arena

    def _forget_recordings(self) -> None:
        """Let go of the arena and of all that is recorded in it; what runs again is recorded again."""
        self._arena = None
        self.recorded.clear()

    def synchronise(self, timeout: float = TIMEOUT) -> None:
        """Wait until all that was started is done. Raises `DeviceError`, naming kernels, `DeviceHang`, `DeviceLost`."""
        self.check()
        with self.lock:
            self.queue.synchronise(timeout)

    def close(self) -> None:
        """Release the device and forget it; a second call does nothing, and none outlives it."""
        with self.lock:
            if not self._open or os.getpid() != self._owner:
                return
            self._open = False
            _forget(self)
            self._forget_recordings()
            self.kernels.close()
            self.pool.close()
            self.device.close()

    def __enter__(self) -> RuntimeDevice:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_opened: dict[str, RuntimeDevice] = {}
_opening = threading.RLock()


def default_name() -> str:
    """Return the backend that is used where none is named: that in PORTKIT_DEVICE, else cpu."""
    return os.environ.get(VARIABLE, "") or DEFAULT


def device_names() -> list[str]:
    """Return the names of the installed backends, without importing any."""
    return list(installed_backends())


def open_device(name: str | None = None) -> RuntimeDevice:
    """Return the device of an installed backend, of `package.module:ATTRIBUTE`, or elsewhere; the same until it closes.

    Without a name that in the environment variable PORTKIT_DEVICE, else cpu.
    Raises `UsageError` for an unknown name, `CannotRunHere` with the reason.
    """
    wanted = name or default_name()
    with _opening:
        if wanted not in _opened:
            _opened[wanted] = RuntimeDevice(resolve(wanted))
        return _opened[wanted]


def _forget(device: RuntimeDevice) -> None:
    with _opening:
        for name in [name for name, known in _opened.items() if known is device]:
            del _opened[name]


def _after_fork() -> None:
    """Start afresh in a forked child: devices and locks are the parent's, and may be held by threads that are gone."""
    global _opening
    _opening = threading.RLock()
    _lost.extend(_opened.values())
    _opened.clear()


_lost: list[RuntimeDevice] = []  # kept, so that nothing of the parent's is released by its child
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
