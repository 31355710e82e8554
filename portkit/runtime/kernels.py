"""Compiled kernels of one device, in memory and in the cache folder.

A kernel is known by its contents, and a compiled one also by everything that made it: the device, its driver and
compiler, what the backend declares, the version of portkit and the files of portkit and the backend.
"""

from __future__ import annotations

import hashlib
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import msgspec

import portkit
from portkit.contract import Backend, Caching, Code, Device, Executable
from portkit.errors import DeviceError
from portkit.runtime.cache import Store, folder
from portkit.spec.jsonform import to_json
from portkit.spec.kernel import Kernel

_KEPT = 4096
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Code)
_MAKERS = ("contract.py", "spec", "compiler", "backends/toolkit")


class Kernels:
    """Compiles each kernel once; safe to use from several threads."""

    def __init__(self, backend: Backend, device: Device, lock: threading.RLock, store: Store | None = None) -> None:
        """Compile for `device`, holding `lock` while it is called; keep results in `store`, by default the user's."""
        self._device = device
        self._lock = lock
        self.store = Store(folder()) if store is None else store
        self.identity = identity(backend, device)
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


def identity(backend: Backend, device: Device) -> bytes:
    """Return a digest of everything but the kernel that a binary depends on."""
    facts = (portkit.__version__, backend.name, backend.capabilities, device.info, makers(_folder_of(backend)))
    return hashlib.sha256(msgspec.json.encode(facts)).digest()


def _folder_of(backend: Backend) -> str:
    file = getattr(sys.modules.get(type(backend).__module__), "__file__", None)
    return str(Path(file).parent) if file else ""


@cache
def makers(backend_folder: str) -> str:
    """Return a digest of the names, sizes and times of the files that turn a graph into a backend's binaries."""
    own = Path(portkit.__file__).parent
    seen = hashlib.sha256()
    for place in (*(own / part for part in _MAKERS), Path(backend_folder)):
        for path in _files(place):
            with suppress(FileNotFoundError):  # somebody is at work on them
                about = path.stat()
                seen.update(f"{path.name} {about.st_size} {about.st_mtime_ns}\n".encode())
    return seen.hexdigest()


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    else:
        yield from sorted(p for p in place.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
