"""A device over a driver: the checks and the bookkeeping that every port needs, so that a port is driver calls only.

    CheckedDevice(driver, compiler, errors)      # fills `portkit.contract.Device`

The driver never sees a handle, a bad offset or a released kernel. Its exceptions are renamed by a table.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet

from portkit.backends.drivers.arguments import pack_arguments
from portkit.contract import ALIGNMENT, Code, DeviceInfo, Executable
from portkit.errors import DeviceError, DeviceLost, InvalidHandle
from portkit.spec.kernel import Kernel

P = TypeVar("P")
Errors = Mapping[type[Exception], type[DeviceError] | Callable[[Any], type[DeviceError]]]
"""A driver's exceptions and what portkit calls them, the narrow before the wide; a function tells codes apart."""


class Compiler(Protocol):
    """Compiles one kernel after the other for the device."""

    def compile(self, kernel: Kernel) -> Code:
        """Compile a kernel that fits the declared capabilities. Raises `CompileError`."""
        ...


class Driver(Protocol[P]):
    """What only the driver can do; addresses are numbers that it gives out, `P` is what it calls a loaded kernel.

    What is started runs in order, transfers included. Sizes are in bytes and may be zero.
    """

    def info(self) -> DeviceInfo:
        """Return the names and versions that stand on top of every report."""
        ...

    def allocate(self, size: int, align: int) -> int:
        """Return the address, a multiple of `align`, of memory that no other live buffer shares."""
        ...

    def free(self, address: int) -> None:
        """Give memory back, once all that was started is done."""
        ...

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Copy from the host; complete on return."""
        ...

    def read(self, address: int, size: int) -> bytes:
        """Copy to the host, after all that was started."""
        ...

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy on the device; the ranges do not overlap."""
        ...

    def load(self, binary: bytes) -> P:
        """Put a compiled kernel where it can run."""
        ...

    def unload(self, program: P) -> None:
        """Take a kernel off the device."""
        ...

    def start(self, program: P, arguments: bytes, groups: int, scratch: int) -> None:
        """Start the work-groups [0, groups); those that run at once have `scratch` bytes each of their own."""
        ...

    def wait(self, timeout: float) -> None:
        """Return when all that was started is done, at most `timeout` seconds later."""
        ...

    def close(self) -> None:
        """Release the device."""
        ...


@contextmanager
def renamed(errors: Errors, doing: str) -> Generator[None]:
    """Raise a driver's exceptions as portkit's; the message says what was being done, the cause is the original."""
    try:
        yield
    except tuple(errors) as error:
        ours = next(ours for theirs, ours in errors.items() if isinstance(error, theirs))
        kind = ours if isinstance(ours, type) else ours(error)
        raise kind(f"{doing}: {error}") from error


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """Where a buffer is on the device, its size in bytes, whether the driver allocated it, and what it is a part of."""

    address: int
    size: int
    owned: bool = True
    whole: int = 0

    def at(self, offset: int, size: int) -> int:
        """Return the address of a range. Raises `InvalidHandle` if it is not all inside."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise InvalidHandle(f"bytes {offset} to {offset + size} are outside a buffer of {self.size}")
        return self.address + offset


class LoadedKernel(Generic[P]):
    """A kernel on the device; `source` is what failure cards show."""

    def __init__(self, kernel: Kernel, code: Code, program: P, unload: Callable[[P], None]) -> None:
        """Own `program`, which `unload` takes off the device."""
        self.kernel = kernel
        self.source = code.source
        self.scratch = code.scratch
        self.program: P | None = program
        self._unload = unload

    def release(self) -> None:
        """Take the kernel off the device; a second call does nothing."""
        program, self.program = self.program, None
        if program is not None:
            self._unload(program)


class CheckedDevice(Generic[P]):
    """An open device; `portkit.contract.Device` says what each function promises."""

    thread_safe = False

    def __init__(self, driver: Driver[P], compiler: Compiler, errors: Errors) -> None:
        """Use an opened driver, and close it in the end."""
        self._driver = driver
        self._compiler = compiler
        self._errors = errors
        self._handles = itertools.count(1)
        self._buffers: dict[int, Buffer] = {}
        self._parts: dict[int, set[int]] = {}
        self._kernels: WeakSet[LoadedKernel[P]] = WeakSet()
        self._open = True
        self.info = driver.info()

    # --- memory ---------------------------------------------------------------------------------------------------

    def allocate(self, size: int, align: int = ALIGNMENT) -> int:
        """Return a handle to `size` bytes whose contents are undefined."""
        self._check_open()
        if size < 0 or align < 1 or align & (align - 1):
            asked = f"{size} bytes aligned to {align}"
            raise DeviceError(f"cannot allocate {asked}: no size is negative, alignments are powers of 2")
        with renamed(self._errors, f"allocating {size} bytes"):
            address = self._driver.allocate(size, max(align, ALIGNMENT))
        return self._enter(Buffer(address, size))

    def view(self, handle: int, offset: int, size: int) -> int:
        """Return a handle to a part of a buffer; it ends with the buffer."""
        if offset % ALIGNMENT:
            raise InvalidHandle(f"a part starts at a multiple of {ALIGNMENT} bytes, not at {offset}")
        part = self._enter(Buffer(self._buffer(handle).at(offset, size), size, owned=False, whole=handle))
        self._parts.setdefault(handle, set()).add(part)
        return part

    def _enter(self, buffer: Buffer) -> int:
        handle = next(self._handles)
        self._buffers[handle] = buffer
        return handle

    def free(self, handle: int) -> None:
        """Give memory back; the handle is never used again, nor those of its parts."""
        buffer = self._buffer(handle)
        del self._buffers[handle]
        self._parts.get(buffer.whole, set()).discard(handle)
        for part in self._parts.pop(handle, ()):
            self.free(part)
        if buffer.owned:
            with renamed(self._errors, "freeing a buffer"):
                self._driver.free(buffer.address)

    def write(self, handle: int, offset: int, data: bytes | memoryview) -> None:
        """Copy host bytes to the buffer."""
        source = memoryview(data).cast("B")
        address = self._buffer(handle).at(offset, len(source))
        with renamed(self._errors, f"writing {len(source)} bytes"):
            self._driver.write(address, source)

    def read(self, handle: int, offset: int, size: int) -> bytes:
        """Return bytes of the buffer."""
        address = self._buffer(handle).at(offset, size)
        with renamed(self._errors, f"reading {size} bytes"):
            return self._driver.read(address, size)

    def copy(self, target: int, target_offset: int, source: int, source_offset: int, size: int) -> None:
        """Copy between buffers."""
        to, start = self._buffer(target).at(target_offset, size), self._buffer(source).at(source_offset, size)
        with renamed(self._errors, f"copying {size} bytes"):
            self._driver.copy(to, start, size)

    def _buffer(self, handle: int) -> Buffer:
        self._check_open()
        if handle not in self._buffers:
            raise InvalidHandle(f"buffer {handle} was freed, or never allocated here")
        return self._buffers[handle]

    # --- kernels --------------------------------------------------------------------------------------------------

    def compile(self, kernel: Kernel) -> LoadedKernel[P]:
        """Compile a kernel that fits the capabilities, and load it."""
        return self.load_binary(kernel, self.compile_to_binary(kernel))

    def compile_to_binary(self, kernel: Kernel) -> Code:
        """Compile a kernel that fits the capabilities; the result can be kept in a file."""
        self._check_open()
        return self._compiler.compile(kernel)

    def load_binary(self, kernel: Kernel, code: Code) -> LoadedKernel[P]:
        """Load a compiled kernel."""
        self._check_open()
        with renamed(self._errors, f"loading kernel {kernel.name}"):
            program = self._driver.load(code.binary)
        loaded = LoadedKernel(kernel, code, program, self._unload)
        self._kernels.add(loaded)
        return loaded

    def _unload(self, program: P) -> None:
        with renamed(self._errors, "unloading a kernel"):
            self._driver.unload(program)

    def launch(
        self, executable: Executable, grid: Sequence[int], buffers: Sequence[int], scalars: Sequence[int | float]
    ) -> None:
        """Start the kernel."""
        loaded, program = self._loaded(executable)
        arguments = pack_arguments(loaded.kernel, grid, [self._buffer(handle) for handle in buffers], scalars)
        with renamed(self._errors, f"launching kernel {loaded.kernel.name}"):
            self._driver.start(program, arguments.data, arguments.groups, loaded.scratch)

    def _loaded(self, executable: Executable) -> tuple[LoadedKernel[P], P]:
        self._check_open()
        if not isinstance(executable, LoadedKernel) or executable not in self._kernels:
            raise InvalidHandle("the executable was compiled by another device")
        if executable.program is None:
            raise InvalidHandle("the executable was released, or compiled before a reset")
        return executable, executable.program

    def synchronise(self, timeout: float) -> None:
        """Wait until all that was started is done."""
        self._check_open()
        with renamed(self._errors, "waiting for the device"):
            self._driver.wait(timeout)

    # --- lifetime -------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget every buffer and executable."""
        self._check_open()
        for loaded in list(self._kernels):
            loaded.release()
        for handle in list(self._buffers):
            if handle in self._buffers:  # parts go with their whole
                self.free(handle)

    def close(self) -> None:
        """Release the device; a second call does nothing."""
        if not self._open:
            return
        try:
            self.reset()
        finally:
            self._open = False
            with renamed(self._errors, "closing the device"):
                self._driver.close()

    def _check_open(self) -> None:
        if not self._open:
            raise DeviceLost("this device is closed; open it again")
