"""A device behind a process: what the judge and the command line use instead of a backend's own `Device`.

with DeviceClient("cpu") as device:
    ran = device.execute(kernel, grid, [x.tobytes(), poison], scalars)
    ran.outputs  # the bytes of each buffer after the launch

The process is started when first needed. If it dies or gives no answer it is ended, the caller gets `DeviceLost` or
`DeviceHang`, and the next use starts a new one.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TypeAlias, TypeVar

from portkit.contract import ALIGNMENT, Capabilities, DeviceInfo
from portkit.errors import (
    CannotRunHere,
    ContractError,
    DeviceHang,
    DeviceLost,
    InvalidHandle,
    NotReachable,
    OutOfMemory,
    PortkitError,
)
from portkit.runtime import memory, remote
from portkit.runtime import protocol as p
from portkit.runtime.peer import Peer
from portkit.spec.jsonform import to_json
from portkit.spec.kernel import Kernel

Bytes: TypeAlias = bytes | bytearray | memoryview
GRACE_SECONDS = 2.0
"""How much longer than the time limit that it gave, at most, the client waits for the device to say that it hangs."""
MAX_SHARED = 8 << 30
"""Reads above this many bytes go through the pipe in pieces."""
_KERNELS_KEPT = 256
_GONE = (DeviceHang, DeviceLost)
_R = TypeVar("_R", bound=p.Message)


class VendorText(Exception):
    """The text of the vendor's own exception, as the cause of ours."""


class Handle(int):
    """A buffer of one life of the device process; an ordinary integer otherwise."""

    life: int

    def __new__(cls, value: int, life: int) -> Handle:
        handle = super().__new__(cls, value)
        handle.life = life
        return handle


@dataclass(frozen=True, slots=True)
class Guard:
    """An operand of `execute` that is allocated, filled and read back, but not given to the kernel."""

    data: Bytes


@dataclass(frozen=True, slots=True)
class Executed:
    """What `execute` gives: the operands after the launch, the source if asked for, and times in seconds.

    `overhead_seconds` is what the round trip took beyond the backend's own time.
    """

    outputs: list[bytes]
    source: str
    compile_seconds: float
    launch_seconds: float
    overhead_seconds: float


class RemoteExecutable:
    """An executable in the device process; mirrors `contract.Executable`."""

    def __init__(self, client: DeviceClient, number: int, source: str, life: int) -> None:
        self.source = source
        self.number = number
        self.life = life
        self._client = client

    def release(self) -> None:
        """Free what the driver holds for it; a second call does nothing, nor one after the process ended."""
        self._client.release(self)


class _Kernels:
    """The JSON form and digest of the kernels sent last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[Kernel, bytes, bytes]] = OrderedDict()

    def encode(self, kernel: Kernel) -> tuple[bytes, bytes]:
        """Return (digest, JSON form). Kernels are immutable, so an object seen before is not encoded again."""
        found = self._kept.get(id(kernel))
        if found is None:
            text = to_json(kernel)
            found = self._kept[id(kernel)] = (kernel, hashlib.sha256(text).digest(), text)
            if len(self._kept) > _KERNELS_KEPT:
                self._kept.popitem(last=False)
        return found[1], found[2]


@dataclass(slots=True)
class _Owned:
    """What must be given back when a client is forgotten; apart from the client, so that it can be."""

    owner: int
    memory: memory.SharedMemory | None
    process: Peer | None = None

    def give_back(self) -> None:
        if os.getpid() != self.owner:  # a fork of the owner: nothing here is ours
            return
        if self.process is not None:
            self.process.kill()
        if self.memory is not None:
            self.memory.unmap()
            os.close(self.memory.descriptor)


@dataclass(slots=True)
class _Life:
    """What is known about the running process."""

    process: Peer
    number: int
    opened: p.Opened | None = None


class DeviceClient:
    """One supervised device process; the methods mirror `contract.Device`. Calls from several threads take turns."""

    thread_safe = True

    def __init__(
        self,
        reference: str,
        *,
        timeout: float = 30.0,
        start_timeout: float = 60.0,
        shared_memory: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a client; nothing is started yet.

        `reference` is an installed backend, `package.module:ATTRIBUTE`, or a device elsewhere: `tcp://HOST:PORT` or
        `pipe:COMMAND`. `timeout` and `start_timeout` are seconds per request and for loading and opening. Without
        `shared_memory`, and to a device elsewhere, bulk data goes through the pipe.
        """
        self.reference = reference
        self.timeout = timeout
        self.start_timeout = start_timeout
        self.restarts = 0
        self._environment = environment
        self._lock = threading.RLock()
        self._kernels = _Kernels()
        self._life: _Life | None = None
        self._ready: p.Ready | None = None
        self._lives = 0
        shared = shared_memory and not remote.is_remote(reference)
        self._memory = memory.SharedMemory(memory.create()) if shared else None
        self._owned = _Owned(os.getpid(), self._memory)
        self._finalizer = weakref.finalize(self, self._owned.give_back)

    # --- life -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> DeviceClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()

    def _start(self) -> _Life:
        descriptor = self._memory.descriptor if self._memory else -1
        process = self._owned.process = remote.start(self.reference, descriptor, self._environment)
        self._lives += 1
        self.restarts = self._lives - 1
        try:
            reply = self._greet(process)
            self._ready = _checked(reply, p.Ready)
            life = _Life(process, self._lives)
            if self._memory and self._memory.size:
                _checked(process.exchange(p.Map(self._memory.size), self.timeout), p.Done)
        except BaseException:
            process.kill()
            raise
        return life

    def _greet(self, process: Peer) -> p.Reply:
        """Return the answer to the first request; a command that ends without one has not reached the device."""
        try:
            return process.exchange(p.Hello(p.PROTOCOL_VERSION), self.start_timeout)
        except _GONE as error:
            if self.reference.startswith(remote.PIPE):
                raise NotReachable(f"{self.reference!r} does not lead to a device: {error}") from error
            raise

    def _running(self) -> _Life:
        if not self._finalizer.alive:
            raise ContractError("the device client is closed")
        if self._life is None or not self._life.process.alive:
            self.kill()
            self._life = self._start()
        return self._life

    def _opened(self) -> _Life:
        life = self._running()
        if life.opened is None:
            life.opened = _checked(life.process.exchange(p.Open(), self.start_timeout), p.Opened)
        return life

    def _ask(self, request: p.Message, expected: type[_R], timeout: float | None = None) -> _R:
        with self._lock:
            return self._exchange(self._opened(), request, expected, self.timeout if timeout is None else timeout)

    def _exchange(self, life: _Life, request: p.Message, expected: type[_R], timeout: float) -> _R:
        try:
            return _checked(life.process.exchange(request, timeout), expected)
        except _GONE:
            self.kill()  # what the backend itself calls hung or lost is not used again
            raise

    def kill(self) -> None:
        """End the process at once; the next use starts another. Buffers and executables are gone."""
        with self._lock:
            self._life = None
            if self._owned.process is not None:
                self._owned.process.kill()
                self._owned.process = None

    def leave(self) -> None:
        """Close the device and end its process in order; the next use starts another.

        Raises what the backend's own `close` raised, `DeviceHang` after `timeout` seconds; the process is gone all the
        same.
        """
        with self._lock:
            try:
                if self._life is not None and self._life.process.alive:
                    _checked(self._life.process.exchange(p.Close(), self.timeout), p.Done)
                    self._life.process.finish()
            finally:
                self.kill()

    def close(self) -> None:
        """Close the device and end its process; a second call does nothing.

        Raises what the backend's own `close` raised; the process is gone all the same.
        """
        with self._lock:
            if not self._finalizer.alive:
                return
            try:
                self.leave()
            finally:
                self._finalizer()

    # --- the backend ----------------------------------------------------------------------------------------------

    def _loaded(self) -> p.Ready:
        """Return what the first process said of the backend; it is the same for every life."""
        with self._lock:
            if self._ready is None:
                self._running()
            assert self._ready is not None
            return self._ready

    @property
    def name(self) -> str:
        """The backend's name."""
        return self._loaded().name

    @property
    def capabilities(self) -> Capabilities:
        """What the backend declares."""
        return self._loaded().capabilities

    @property
    def backend_digest(self) -> str:
        """The SHA-256 of the backend's files, in hexadecimal."""
        return self._loaded().digest

    @property
    def info(self) -> DeviceInfo:
        """The device, driver and compiler; opens the device."""
        with self._lock:
            opened = self._opened().opened
            assert opened is not None
            return opened.info

    @property
    def pid(self) -> int:
        """The process id of the device process; starts it if need be."""
        with self._lock:
            return self._running().process.pid

    @property
    def printed(self) -> str:
        """The last of what the running device process has printed."""
        with self._lock:
            return self._life.process.tail if self._life else ""

    def probe(self) -> str | None:
        """Return None, or why the backend cannot run here."""
        with self._lock:
            exchange = self._running().process.exchange
            return _checked(exchange(p.Probe(), self.start_timeout), p.Probed).reason

    def require(self) -> None:
        """Raise `CannotRunHere` with the reason if the probe gives one."""
        reason = self.probe()
        if reason is not None:
            raise CannotRunHere(f"backend {self.reference!r} cannot run here: {reason}")

    # --- the functions of a device --------------------------------------------------------------------------------

    def allocate(self, size: int, align: int = ALIGNMENT) -> int:
        """Return a handle to `size` bytes. Raises `OutOfMemory`."""
        with self._lock:
            handle = self._ask(p.Allocate(size, align), p.Allocated).handle
            return Handle(handle, self._lives)

    def _own(self, handle: int) -> int:
        if isinstance(handle, Handle) and (self._life is None or handle.life != self._life.number):
            raise InvalidHandle(f"buffer {int(handle)} belongs to a device process that has ended")
        return int(handle)

    def free(self, handle: int) -> None:
        """Give memory back. Raises `InvalidHandle`."""
        with self._lock:
            self._ask(p.Free(self._own(handle)), p.Done)

    def write(self, handle: int, offset: int, data: Bytes) -> None:
        """Copy host bytes to the buffer. Raises `InvalidHandle` for a bad handle or range."""
        with self._lock:
            own, view = self._own(handle), memoryview(data).cast("B")
            if self._memory is not None:
                self._reserve(view.nbytes)
                self._memory.view[: view.nbytes] = view
                self._ask(p.Write(own, offset, p.Span(0, view.nbytes)), p.Done)
                return
            for start in range(0, max(1, view.nbytes), p.MAX_INLINE):
                piece = bytes(view[start : start + p.MAX_INLINE])
                self._ask(p.Write(own, offset + start, piece), p.Done)

    def read(self, handle: int, offset: int, size: int) -> bytes:
        """Return bytes of the buffer. Raises `InvalidHandle` for a bad handle or range."""
        with self._lock:
            own = self._own(handle)
            if self._memory is not None and size <= MAX_SHARED:
                self._reserve(max(size, 0))
                return self._take(self._ask(p.Read(own, offset, size, 0), p.Data).data)
            pieces: list[bytes] = []
            for start in range(0, max(1, size), p.MAX_INLINE):
                piece = p.Read(own, offset + start, min(size - start, p.MAX_INLINE))
                pieces.append(self._take(self._ask(piece, p.Data).data))
            return b"".join(pieces)

    def copy(self, target: int, target_offset: int, source: int, source_offset: int, size: int) -> None:
        """Copy between buffers; the ranges do not overlap. Raises `InvalidHandle`."""
        with self._lock:
            request = p.Copy(self._own(target), target_offset, self._own(source), source_offset, size)
            self._ask(request, p.Done)

    def compile(self, kernel: Kernel) -> RemoteExecutable:
        """Compile a kernel. Raises `CompileError`."""
        with self._lock:
            compiled = self._ask(p.Compile(self._kernels.encode(kernel)[1]), p.Compiled)
            return RemoteExecutable(self, compiled.executable, compiled.source, self._lives)

    def release(self, executable: RemoteExecutable) -> None:
        """Release an executable; see `RemoteExecutable.release`."""
        with self._lock:
            if self._life is not None and executable.life == self._life.number:
                self._ask(p.Release(executable.number), p.Done)

    def launch(
        self, executable: RemoteExecutable, grid: Sequence[int], buffers: Sequence[int], scalars: Sequence[int | float]
    ) -> None:
        """Start the kernel: the extent of each grid loop, buffer handles and scalars in header order."""
        with self._lock:
            if self._life is None or executable.life != self._life.number:
                raise InvalidHandle("the executable belongs to a device process that has ended; compile again")
            handles = tuple(self._own(h) for h in buffers)
            self._ask(p.Launch(executable.number, tuple(grid), handles, tuple(scalars)), p.Done)

    def synchronise(self, timeout: float | None = None) -> None:
        """Wait until all that was started is done. Raises `DeviceHang`, `DeviceLost`."""
        limit = self.timeout if timeout is None else timeout
        self._ask(p.Synchronise(limit), p.Done, _with_grace(limit))

    def reset(self) -> None:
        """Forget every buffer and executable; the device is as just opened."""
        with self._lock:
            self._ask(p.Reset(), p.Done)

    # --- all of it in one round trip ------------------------------------------------------------------------------

    def execute(
        self,
        kernel: Kernel,
        grid: Sequence[int],
        operands: Sequence[Bytes | Guard],
        scalars: Sequence[int | float],
        *,
        timeout: float | None = None,
        want_source: bool = False,
    ) -> Executed:
        """Run a kernel once on fresh buffers in one round trip and read every operand back.

        `operands` are the contents of the buffers before the launch, in header order, with `Guard` allocations among
        them; `timeout` is the time limit in seconds of the whole, compilation included.
        Raises what the backend raised, `DeviceHang`, `DeviceLost`.
        """
        limit = self.timeout if timeout is None else timeout
        with self._lock:
            life = self._opened()
            digest, text = self._kernels.encode(kernel)
            payloads = self._payloads(operands)
            request = p.Execute(digest, text, tuple(grid), payloads, tuple(scalars), limit, want_source)
            started = time.perf_counter()
            reply = self._exchange(life, request, p.Executed, _with_grace(limit))
            overhead = time.perf_counter() - started - reply.backend_seconds
            outputs = [self._take(output) for output in reply.outputs]
        return Executed(outputs, reply.source, reply.compile_seconds, reply.launch_seconds, overhead)

    def _payloads(self, operands: Sequence[Bytes | Guard]) -> tuple[p.Operand, ...]:
        views = [memoryview(o.data if isinstance(o, Guard) else o).cast("B") for o in operands]
        bound = [not isinstance(o, Guard) for o in operands]
        if self._memory is None:
            return tuple(p.Operand(bytes(v), ALIGNMENT, b) for v, b in zip(views, bound, strict=True))
        offsets: list[int] = []
        total = 0
        for view in views:
            offsets.append(total)
            total += -(-view.nbytes // ALIGNMENT) * ALIGNMENT
        self._reserve(total)
        for view, offset in zip(views, offsets, strict=True):
            self._memory.view[offset : offset + view.nbytes] = view
        return tuple(
            p.Operand(p.Span(offset, view.nbytes), ALIGNMENT, b)
            for view, offset, b in zip(views, offsets, bound, strict=True)
        )

    def _reserve(self, size: int) -> None:
        """Make room for `size` bytes in the shared memory, on both sides."""
        if self._memory is None or size <= self._memory.size:
            return
        try:
            self._memory.grow(max(size, 2 * self._memory.size))
        except (OSError, ValueError, OverflowError) as error:
            raise OutOfMemory(f"no room for {size} bytes of memory shared with the device process: {error}") from error
        if self._life is not None:
            _checked(self._life.process.exchange(p.Map(self._memory.size), self.timeout), p.Done)

    def _take(self, payload: p.Payload) -> bytes:
        if isinstance(payload, bytes):
            return payload
        if self._memory is None or payload.offset < 0 or payload.offset + payload.size > self._memory.size:
            raise ContractError("the device process names bytes outside the shared memory")
        return bytes(self._memory.view[payload.offset : payload.offset + payload.size])


def _with_grace(limit: float) -> float:
    return limit + min(limit, GRACE_SECONDS)


def _checked(reply: p.Reply, expected: type[_R]) -> _R:
    """Return the reply if it is of the expected type. Raises the error that a `Failure` carries."""
    if isinstance(reply, expected):
        return reply
    if isinstance(reply, p.Failure):
        kind: type[PortkitError] = p.WIRE_ERRORS.get(reply.kind, ContractError)
        raise kind(reply.message) from (VendorText(reply.vendor) if reply.vendor else None)
    raise ContractError(f"the device process answered {type(reply).__name__}, expected {expected.__name__}")
