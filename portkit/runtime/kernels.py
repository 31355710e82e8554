"""Compiled kernels of one device, in memory and in the cache folder.

A kernel is known by its contents, and a compiled one also by everything that made it: the device, its driver and
compiler, what the backend declares, the version of portkit and the files of portkit and the backend.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

import portkit
from portkit.contract import Backend, Caching, Code, Device, Executable
from portkit.errors import DeviceError
from portkit.runtime.cache import Store, folder
from portkit.spec.jsonform import to_json
from portkit.spec.kernel import Kernel

_KEPT = 1024
_START_TICKS = 19  # of the fields of /proc/self/stat after the name, see proc(5)
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Code)
_MAKERS = ("contract.py", "spec", "compiler", "backends/toolkit", "backends/drivers")


class Kernels:
    """Compiles each kernel once; safe to use from several threads."""

    def __init__(self, backend: Backend, device: Device, lock: threading.RLock, store: Store | None = None) -> None:
        """Compile for `device`, holding `lock` while it is called; keep results in `store`, by default the user's."""
        self._device = device
        self._lock = lock
        made_by = makers(_folder_of(backend))
        if store is None:
            store = Store(folder() if made_by.last_change < started() else None)
        self.store = store
        self.identity = identity(backend, device, made_by)
        self._digests: dict[int, tuple[weakref.ref[Kernel], str]] = {}
        self._ready: OrderedDict[str, Executable] = OrderedDict()

    def digest(self, kernel: Kernel) -> str:
        """Return what a kernel's contents and the device make: the name under which its executable is kept."""
        known = self._digests.get(id(kernel))
        if known is not None and known[0]() is kernel:
            return known[1]
        found = hashlib.sha256(self.identity + to_json(kernel)).hexdigest()
        number = id(kernel)
        self._digests[number] = (weakref.ref(kernel, lambda _: self._digests.pop(number, None)), found)
        return found

    def executable(self, kernel: Kernel) -> Executable:
        """Return a legal kernel compiled and loaded. Raises `CompileError`."""
        digest = self.digest(kernel)
        with self._lock:
            found = self._ready.get(digest)
            if found is None:
                found = self._ready[digest] = self._make(kernel, f"{digest}.kernel")
                if len(self._ready) > _KEPT:
                    self._ready.popitem(last=False)
            else:
                self._ready.move_to_end(digest)
            return found

    def _make(self, kernel: Kernel, name: str) -> Executable:
        device = self._device
        if not isinstance(device, Caching):
            return device.compile(kernel)
        kept = self.store.get(name)
        if kept is not None:
            try:
                return device.load_binary(kernel, _DECODER.decode(kept))
            except (msgspec.DecodeError, DeviceError):
                self.store.remove(name)  # whole, yet not what this device loads: make it again
        code = device.compile_to_binary(kernel)
        self.store.put(name, _ENCODER.encode(code))
        return device.load_binary(kernel, code)

    def close(self) -> None:
        """Forget every executable, which go with the device, and let go of the cache folder."""
        self._ready.clear()
        self._digests.clear()
        self.store.close()


def identity(backend: Backend, device: Device, made_by: Makers) -> bytes:
    """Return a digest of everything but the kernel that a binary depends on."""
    facts = (portkit.__version__, backend.name, backend.capabilities, device.info, made_by.digest)
    return hashlib.sha256(msgspec.json.encode(facts)).digest()


def _folder_of(backend: Backend) -> str:
    """Return the folder of the module that defines a backend; empty for one that was typed in."""
    file = getattr(sys.modules.get(type(backend).__module__), "__file__", None)
    return str(Path(file).parent) if file else ""


@dataclass(frozen=True, slots=True)
class Makers:
    """The files that turn a graph into a backend's binaries: a digest of names, sizes and times, and the latest time.

    What changed after this process began may not be what it has loaded; it then keeps nothing in the cache folder.
    """

    digest: str
    last_change: float


@cache
def makers(backend_folder: str) -> Makers:
    """Return what is known of the files of portkit and of the backend in a folder."""
    own, last = Path(portkit.__file__).parent, 0
    seen = hashlib.sha256()
    places = [own / part for part in _MAKERS] + ([Path(backend_folder)] if backend_folder else [])
    for place in places:
        for path in _files(place):
            with suppress(FileNotFoundError):  # somebody is at work on them
                about = path.stat()
                seen.update(f"{path.name} {about.st_size} {about.st_mtime_ns}\n".encode())
                last = max(last, about.st_mtime_ns)
    return Makers(seen.hexdigest(), last / 1e9)


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    else:
        yield from sorted(p for p in place.rglob("*") if p.is_file() and "__pycache__" not in p.parts)


_IMPORTED = time.time()


@cache
def started() -> float:
    """Return when this process began, in seconds of the epoch; where the system does not say, when it got here."""
    try:
        ticks = int(Path("/proc/self/stat").read_text("ascii").rpartition(")")[2].split()[_START_TICKS])
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
    except (AttributeError, OSError):
        return _IMPORTED
