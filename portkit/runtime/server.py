"""The device process: `python -m portkit.runtime.server --backend REFERENCE`.

It loads one backend, opens its device when asked, and answers requests until its request pipe closes. The pipes are
taken away from standard input and output before the backend is loaded, so what a vendor library prints cannot reach
them. One thread, one request at a time.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from portkit.contract import (
    Backend,
    Capabilities,
    Device,
    DeviceInfo,
    Executable,
    check_capabilities,
    find_backend,
    installed_backends,
)
from portkit.errors import ContractError, DeviceError, DeviceHang, DeviceLost, InvalidHandle, PortkitError
from portkit.runtime import protocol as p
from portkit.runtime.guard import ImportGuard
from portkit.runtime.lifeline import end_with
from portkit.runtime.memory import SharedMemory
from portkit.spec.jsonform import from_json

MAX_EXECUTABLES = 64
"""Executables kept for `Execute`; the one used longest ago is released first."""
MAX_TEXT = 16_000
"""Characters of a message or of a vendor's text that are carried over."""
_T = TypeVar("_T")


def failure(error: BaseException) -> p.Failure:
    """Return what crosses the wire for an exception: ours by name, a foreign one as a breach of the contract."""
    vendor = "".join(traceback.format_exception(error.__cause__))[-MAX_TEXT:] if error.__cause__ else ""
    if isinstance(error, PortkitError):
        kind = next((t.__name__ for t in type(error).__mro__ if t.__name__ in p.WIRE_ERRORS), "")
        if kind:
            return p.Failure(kind, str(error)[:MAX_TEXT], vendor)
    text = "".join(traceback.format_exception(error))[-MAX_TEXT:]
    message = f"the backend raised {type(error).__name__}: {error}; it may raise DeviceError and its subclasses only"
    return p.Failure("ContractError", message, text)


@contextmanager
def _vendor(what: str) -> Generator[None]:
    """Name the function of the device in which a foreign exception was raised."""
    try:
        yield
    except (DeviceError, ContractError):
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        message = f"{what} raised {type(error).__name__}: {error}; it may raise DeviceError and its subclasses only"
        raise ContractError(message) from error


def _expect(value: object, kind: type[_T], what: str) -> _T:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ContractError(f"{what} gave {type(value).__name__}, the contract says {kind.__name__}")
    return value


def backend_digest(reference: str) -> str:
    """Return the SHA-256, in hexadecimal, over the names and contents of the files of the backend's package."""
    point = installed_backends().get(reference)
    module = sys.modules.get((point.value if point else reference).partition(":")[0])
    files = _files_of(module)
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files_of(module: ModuleType | None) -> list[Path]:
    origin = getattr(module, "__file__", None)
    if module is None or origin is None:
        return []
    home = Path(origin)
    if not module.__package__:
        return [home]
    return [f for f in sorted(home.parent.rglob("*")) if f.is_file() and "__pycache__" not in f.parts]


class Session:
    """The state of one device process: the backend, its open device, executables, and the shared memory."""

    def __init__(self, reference: str, guard: ImportGuard, memory: SharedMemory) -> None:
        self.reference = reference
        self.guard = guard
        self.memory = memory
        self.closing = False
        self._backend: Backend | None = None
        self._device: Device | None = None
        self._executables: dict[int, Executable] = {}
        self._cache: OrderedDict[bytes, Executable] = OrderedDict()
        self._last = 0
        self._handlers: dict[type[p.Message], Callable[[Any], p.Message]] = {
            p.Hello: self.hello,
            p.Map: self.map,
            p.Probe: self.probe,
            p.Open: self.open,
            p.Allocate: self.allocate,
            p.Free: self.free,
            p.Write: self.write,
            p.Read: self.read,
            p.Copy: self.copy,
            p.Compile: self.compile,
            p.Release: self.release,
            p.Launch: self.launch,
            p.Synchronise: self.synchronise,
            p.Reset: self.reset,
            p.Close: self.close,
            p.Execute: self.execute,
        }

    def answer(self, request: p.Request) -> p.Message:
        """Carry a request out; every exception becomes a `Failure`."""
        try:
            return self._handlers[type(request)](request)
        except BaseException as error:  # noqa: BLE001 - a backend may raise anything, even SystemExit
            return failure(error)

    @property
    def backend(self) -> Backend:
        if self._backend is None:
            raise ContractError("the first request is Hello")
        return self._backend

    @property
    def device(self) -> Device:
        if self._device is None:
            raise ContractError("the device is not open; send Open first")
        return self._device

    # --- the backend ----------------------------------------------------------------------------------------------

    def hello(self, request: p.Hello) -> p.Ready:
        """Load the backend."""
        if request.version != p.PROTOCOL_VERSION:
            raise ContractError(f"the judge speaks protocol {request.version}, this process {p.PROTOCOL_VERSION}")
        try:
            self._backend = find_backend(self.reference)
        finally:
            self.guard.check()
        name = _expect(self._backend.name, str, "name")
        capabilities = _expect(self._backend.capabilities, Capabilities, "capabilities")
        check_capabilities(capabilities, "capabilities")
        if name != capabilities.name:
            raise ContractError(f"the backend is called {name!r}, its capabilities name {capabilities.name!r}")
        return p.Ready(p.PROTOCOL_VERSION, name, backend_digest(self.reference), capabilities)

    def map(self, request: p.Map) -> p.Done:
        """Map the shared memory anew after it grew."""
        self.memory.map(request.size)
        return p.Done()

    def probe(self, request: p.Probe) -> p.Probed:
        """Ask the backend whether it can run here."""
        with _vendor("probe"):
            reason = self.backend.probe()
        self.guard.check()
        return p.Probed(None if reason is None else _expect(reason, str, "probe"))

    def open(self, request: p.Open) -> p.Opened:
        """Open the device."""
        if self._device is None:
            with _vendor("open"):
                self._device = self.backend.open()
        self.guard.check()
        info = _expect(self.device.info, DeviceInfo, "info")
        return p.Opened(info, _expect(self.device.thread_safe, bool, "thread_safe"))

    # --- the functions of a device, one by one --------------------------------------------------------------------

    def allocate(self, request: p.Allocate) -> p.Allocated:
        """Allocate a buffer."""
        return p.Allocated(self._allocate(request.size, request.align))

    def _allocate(self, size: int, align: int) -> int:
        with _vendor("allocate"):
            handle = self.device.allocate(size, align)
        return _expect(handle, int, "allocate")

    def free(self, request: p.Free) -> p.Done:
        """Free a buffer."""
        with _vendor("free"):
            self.device.free(request.handle)
        return p.Done()

    def write(self, request: p.Write) -> p.Done:
        """Write to a buffer."""
        with _vendor("write"):
            self.device.write(request.handle, request.offset, self._bytes(request.data))
        return p.Done()

    def read(self, request: p.Read) -> p.Data:
        """Read from a buffer."""
        data = self._read(request.handle, request.offset, request.size)
        return p.Data(self._place(data, request.into) if request.into >= 0 else data)

    def _read(self, handle: int, offset: int, size: int) -> bytes:
        with _vendor("read"):
            data = self.device.read(handle, offset, size)
        if len(_expect(data, bytes, "read")) != size:
            raise ContractError(f"read gave {len(data)} bytes, {size} were asked for")
        return data

    def copy(self, request: p.Copy) -> p.Done:
        """Copy between buffers."""
        r = request
        with _vendor("copy"):
            self.device.copy(r.target, r.target_offset, r.source, r.source_offset, r.size)
        return p.Done()

    def compile(self, request: p.Compile) -> p.Compiled:
        """Compile a kernel."""
        executable = self._compile(request.kernel)
        self._last += 1
        self._executables[self._last] = executable
        return p.Compiled(self._last, executable.source)

    def _compile(self, text: bytes) -> Executable:
        kernel = from_json(text)
        with _vendor("compile"):
            executable = self.device.compile(kernel)
        self.guard.check()
        _expect(getattr(executable, "source", None), str, "compile: source")
        return executable

    def release(self, request: p.Release) -> p.Done:
        """Release an executable; a second release does nothing."""
        with _vendor("release"):
            self._executable(request.executable).release()
        return p.Done()

    def _executable(self, number: int) -> Executable:
        if number not in self._executables:
            raise InvalidHandle(f"executable {number} does not exist in this device process")
        return self._executables[number]

    def launch(self, request: p.Launch) -> p.Done:
        """Start a kernel."""
        executable = self._executable(request.executable)
        with _vendor("launch"):
            self.device.launch(executable, request.grid, request.buffers, request.scalars)
        return p.Done()

    def synchronise(self, request: p.Synchronise) -> p.Done:
        """Wait for what was started."""
        with _vendor("synchronise"):
            self.device.synchronise(request.timeout)
        return p.Done()

    def reset(self, request: p.Reset) -> p.Done:
        """Reset the device; its executables stay known here, so that it is the device that refuses them from now on."""
        self._cache.clear()
        with _vendor("reset"):
            self.device.reset()
        return p.Done()

    def close(self, request: p.Close) -> p.Done:
        """Close the device if it is open and end after the reply."""
        self.closing = True
        device, self._device = self._device, None
        self._executables.clear()
        self._cache.clear()
        if device is not None:
            with _vendor("close"):
                device.close()
        return p.Done()

    # --- all of it in one round trip ------------------------------------------------------------------------------

    def execute(self, request: p.Execute) -> p.Executed:
        """Run one kernel on fresh buffers."""
        started = time.perf_counter()
        executable = self._cached(request)
        compiled = time.perf_counter()
        handles: list[int] = []
        try:
            for operand in request.operands:
                data = self._bytes(operand.data)
                handles.append(self._allocate(len(data), operand.align))
                with _vendor("write"):
                    self.device.write(handles[-1], 0, data)
            launched = self._run(request, executable, handles)
            outputs = tuple(
                self._read_back(handle, operand) for handle, operand in zip(handles, request.operands, strict=True)
            )
        finally:
            self._free_all(handles)
        source = executable.source if request.want_source else ""
        return p.Executed(outputs, source, compiled - started, launched, time.perf_counter() - started)

    def _cached(self, request: p.Execute) -> Executable:
        found = self._cache.get(request.digest)
        if found is None:
            found = self._cache[request.digest] = self._compile(request.kernel)
            if len(self._cache) > MAX_EXECUTABLES:
                _, oldest = self._cache.popitem(last=False)
                with _vendor("release"):
                    oldest.release()
        self._cache.move_to_end(request.digest)
        return found

    def _run(self, request: p.Execute, executable: Executable, handles: Sequence[int]) -> float:
        bound = [h for h, operand in zip(handles, request.operands, strict=True) if operand.bound]
        started = time.perf_counter()
        with _vendor("launch"):
            self.device.launch(executable, request.grid, bound, request.scalars)
        with _vendor("synchronise"):
            self.device.synchronise(request.timeout)
        return time.perf_counter() - started

    def _read_back(self, handle: int, operand: p.Operand) -> p.Payload:
        if isinstance(operand.data, bytes):
            return self._read(handle, 0, len(operand.data))
        return self._place(self._read(handle, 0, operand.data.size), operand.data.offset)

    def _free_all(self, handles: Sequence[int]) -> None:
        if isinstance(sys.exception(), DeviceHang | DeviceLost):
            return  # a driver that waits for the kernel first would hang here; the client ends this process
        failing = sys.exception() is not None
        for handle in handles:
            try:
                with _vendor("free"):
                    self.device.free(handle)
            except PortkitError:
                if not failing:  # else the first error is the one to tell
                    raise

    def _bytes(self, payload: p.Payload) -> bytes | memoryview:
        if isinstance(payload, bytes):
            return payload
        self._check(payload.offset, payload.size)
        return self.memory.view[payload.offset : payload.offset + payload.size]

    def _place(self, data: bytes, offset: int) -> p.Span:
        self._check(offset, len(data))
        self.memory.view[offset : offset + len(data)] = data
        return p.Span(offset, len(data))

    def _check(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self.memory.size:
            raise ContractError(f"bytes {offset}..{offset + size} are outside the {self.memory.size} shared ones")


# --- the process --------------------------------------------------------------------------------------------------


class Channel:
    """Frames over a pair of descriptors, blocking."""

    def __init__(self, request: int, reply: int) -> None:
        self._request = os.fdopen(request, "rb", buffering=1 << 16)
        self._reply = reply

    def receive(self) -> bytes | None:
        """Return the body of the next frame, None at the end. Raises `ContractError` for a frame that is too long."""
        head = self._request.read(p.LENGTH.size)
        if len(head) < p.LENGTH.size:
            return None
        (length,) = p.LENGTH.unpack(head)
        p.check_length(length)
        body = self._request.read(length)
        return body if len(body) == length else None

    def send(self, message: p.Message) -> None:
        """Send a message; raises `BrokenPipeError` where nobody listens."""
        try:
            left = memoryview(p.frame(message))
        except ContractError as error:
            left = memoryview(p.frame(p.Failure("ContractError", f"the reply cannot be sent: {error}")))
        while left:
            left = left[os.write(self._reply, left) :]


def take_channel() -> Channel:
    """Take standard input and output away for the protocol; prints go to standard error from now on."""
    channel = Channel(os.dup(0), os.dup(1))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return channel


def serve(channel: Channel, session: Session) -> None:
    """Answer requests until the pipe closes, `Close` is asked for, or the stream cannot be trusted any more."""
    while not session.closing:
        try:
            body = channel.receive()
        except ContractError as error:
            channel.send(failure(error))
            return
        if body is None:
            return
        try:
            request = p.read_request(body)
        except ContractError as error:
            channel.send(failure(error))
            continue
        channel.send(session.answer(request))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the device process; returns its exit status."""
    parser = argparse.ArgumentParser(prog="portkit.runtime.server", description="One device, served over pipes.")
    parser.add_argument("--backend", required=True, help="an installed backend, or package.module:ATTRIBUTE")
    parser.add_argument("--memory", type=int, default=-1, help="descriptor of the shared memory")
    parser.add_argument("--lifeline", type=int, default=-1, help="descriptor that closes when the judge ends")
    options = parser.parse_args(arguments)
    if options.lifeline >= 0:
        end_with(options.lifeline)
    channel = take_channel()
    guard = ImportGuard()
    guard.install()
    if options.memory >= 0:
        os.set_inheritable(options.memory, False)
    session = Session(options.backend, guard, SharedMemory(options.memory))
    try:
        serve(channel, session)
    except ConnectionError:
        return 1
    finally:
        session.answer(p.Close())
    return 0


if __name__ == "__main__":
    sys.exit(main())
