"""Kernels on a Mac's GPU: the driver is Metal, called through pyobjc.

Buffers are shared between processor and GPU, so that transfers are plain copies once the GPU is done. pyobjc returns a
tuple (result, error) for methods that take an NSError, and has no block of its own around what Metal autoreleases.

Source: Apple developer documentation, Metal: MTLDevice, MTLCommandBuffer, MTLComputeCommandEncoder, MTLCompileOptions.
"""

from __future__ import annotations

import importlib
import platform
import struct
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portkit.backends.drivers.addresses import Addresses
from portkit.backends.drivers.device import CheckedDevice
from portkit.backends.metal.printer import ENTRY, Printed, print_msl
from portkit.contract import Capabilities, Code, DeviceInfo
from portkit.errors import CannotRunHere, CompileError, DeviceError, DeviceHang, DeviceLost, OutOfMemory
from portkit.spec.kernel import Kernel

SHARED_STORAGE = 0
"""MTLResourceStorageModeShared."""
COMPLETED, FAILED = 4, 5
"""MTLCommandBufferStatus."""
MOST_GROUPS = 1 << 20
"""Threadgroups of one dispatch: times the most threads of each, less than 2^32 threads."""
_WORD = 8
_FIRST_PAUSE, _LONGEST_PAUSE = 2e-5, 1e-3


class MetalError(Exception):
    """Base of what Metal reports; the text is its own."""


class MetalCompileError(MetalError):
    """The text does not compile, or needs more than the GPU has."""


class MetalMemoryError(MetalError):
    """There is no room."""


class MetalTimeout(MetalError):
    """The GPU was stopped, or does not end."""


class MetalDeviceError(MetalError):
    """The GPU is gone, or may not be used any more."""


ERRORS: Mapping[type[Exception], type[DeviceError]] = {
    MetalCompileError: CompileError,
    MetalMemoryError: OutOfMemory,
    MetalTimeout: DeviceHang,
    MetalDeviceError: DeviceLost,
    MetalError: DeviceError,
}
_COMMAND_ERRORS: Mapping[int, type[MetalError]] = {
    2: MetalTimeout,  # MTLCommandBufferErrorTimeout
    4: MetalDeviceError,  # AccessRevoked
    8: MetalMemoryError,  # OutOfMemory
    11: MetalDeviceError,  # DeviceRemoved
}
"""By the code of a failed command buffer (MTLCommandBufferError)."""


def open_gpu(capabilities: Capabilities) -> CheckedDevice[Pipeline]:
    """Open the system's default GPU.

    Raises:
        CannotRunHere: Metal has none.
    """
    metal: Any = importlib.import_module("Metal")
    device = metal.MTLCreateSystemDefaultDevice()
    if device is None:
        raise CannotRunHere("this Mac has no GPU that Metal can use")
    return CheckedDevice(
        MetalDriver(metal, importlib.import_module("objc"), device, capabilities), MslCompiler(), ERRORS
    )


class MslCompiler:
    """Prints; Metal compiles when a kernel is loaded, and keeps what it compiled in a cache of its own."""

    def compile(self, kernel: Kernel) -> Code:
        """Return the text of a kernel that fits the capabilities, and what a launch must know of it."""
        printed = print_msl(kernel)
        return Code(printed.text, printed.pack(), printed.shared_bytes)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A kernel that the GPU can run."""

    state: Any
    printed: Printed


class MetalDriver:
    """One GPU and one command queue; a command buffer for each launch, which run in order."""

    def __init__(self, metal: Any, objc: Any, device: Any, capabilities: Capabilities) -> None:
        """Use an MTLDevice; *metal* and *objc* are pyobjc's modules."""
        self._metal, self._objc, self._device = metal, objc, device
        self._capabilities = capabilities
        self._queue: Any = device.newCommandQueue()
        self._pending: deque[Any] = deque()
        self._buffers: Addresses[Any] = Addresses()

    def info(self) -> DeviceInfo:
        """Return the names and versions that stand on top of every report."""
        release = platform.mac_ver()[0]
        return DeviceInfo(str(self._device.name()), f"macOS {release}", f"Metal of macOS {release}")

    # --- memory ---------------------------------------------------------------------------------------------------

    def allocate(self, size: int, align: int) -> int:
        """Return the made-up address of a buffer that processor and GPU share."""
        most = min(self._capabilities.limits.buffer_bytes, int(self._device.maxBufferLength()))
        if size > most:
            raise MetalMemoryError(f"{size} bytes are more than the {most} that a buffer may have")
        buffer = self._device.newBufferWithLength_options_(max(size, 1), SHARED_STORAGE)
        if buffer is None:
            raise MetalMemoryError(f"newBufferWithLength gave no buffer of {size} bytes")
        return self._buffers.place(buffer, size, align)

    def free(self, address: int) -> None:
        """Give memory back; a command buffer that uses it keeps it until it is done."""
        self._buffers.remove(address)

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Copy from the host, after all that was started."""
        self._finish(None)
        self._bytes(address, len(data))[:] = data

    def read(self, address: int, size: int) -> bytes:
        """Copy to the host, after all that was started."""
        self._finish(None)
        return bytes(self._bytes(address, size))

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy by the processor: a blit takes multiples of 4 bytes only."""
        self._finish(None)
        self._bytes(target, size)[:] = self._bytes(source, size)

    def _bytes(self, address: int, size: int) -> memoryview:
        buffer, offset = self._buffers.find(address)
        return memoryview(buffer.contents().as_buffer(buffer.length()))[offset : offset + size]

    # --- kernels --------------------------------------------------------------------------------------------------

    def load(self, binary: bytes) -> Pipeline:
        """Compile the text for this GPU."""
        printed = Printed.unpack(binary)
        with self._objc.autorelease_pool():
            library, error = self._device.newLibraryWithSource_options_error_(printed.text, self._options(), None)
            if library is None:
                raise MetalCompileError(_text(error))
            function = library.newFunctionWithName_(ENTRY)
            state, error = self._device.newComputePipelineStateWithFunction_error_(function, None)
            if state is None:
                raise MetalCompileError(_text(error))
        most = int(state.maxTotalThreadsPerThreadgroup())
        if printed.lanes > most:
            raise MetalCompileError(f"{printed.lanes} threads are asked for; with its registers at most {most} fit")
        return Pipeline(state, printed)

    def _options(self) -> Any:
        """Return options without which Metal may contract, reassociate and assume that no NaN occurs."""
        options = self._metal.MTLCompileOptions.new()
        options.setLanguageVersion_(self._metal.MTLLanguageVersion3_2)
        options.setMathMode_(self._metal.MTLMathModeSafe)
        options.setMathFloatingPointFunctions_(self._metal.MTLMathFloatingPointFunctionsPrecise)
        return options

    def unload(self, program: Pipeline) -> None:
        """Forget a kernel: Metal counts who still uses it."""

    def start(self, program: Pipeline, arguments: bytes, groups: int, scratch: int) -> None:
        """Commit one command buffer that runs all work-groups."""
        if not groups:
            return
        with self._objc.autorelease_pool():
            commands = self._queue.commandBuffer()
            encoder = commands.computeCommandEncoder()
            encoder.setComputePipelineState_(program.state)
            words = self._bind(encoder, program.printed, arguments)
            if scratch:
                encoder.setThreadgroupMemoryLength_atIndex_(scratch, 0)
            self._dispatch(encoder, program.printed, words, groups)
            encoder.endEncoding()
            commands.commit()
        while self._pending and self._pending[0].status() == COMPLETED:
            self._pending.popleft()
        self._pending.append(commands)

    def _bind(self, encoder: Any, printed: Printed, arguments: bytes) -> bytes:
        """Bind the buffers in their order, and return the words of scalars and grid extents."""
        words = arguments[_WORD * printed.buffers :]
        for index, (address,) in enumerate(struct.iter_unpack("<Q", arguments[: _WORD * printed.buffers])):
            encoder.setBuffer_offset_atIndex_(*self._buffers.find(address), index)
        return words

    def _dispatch(self, encoder: Any, printed: Printed, words: bytes, groups: int) -> None:
        size = self._metal.MTLSizeMake
        for first in range(0, groups, MOST_GROUPS):
            given = words + struct.pack("<Q", first)
            encoder.setBytes_length_atIndex_(given, len(given), printed.buffers)
            count = min(MOST_GROUPS, groups - first)
            encoder.dispatchThreadgroups_threadsPerThreadgroup_(size(count, 1, 1), size(printed.lanes, 1, 1))

    def wait(self, timeout: float) -> None:
        """Return when every command buffer is done."""
        self._finish(timeout)

    def _finish(self, timeout: float | None) -> None:
        """Wait for every command buffer. Raises the error of the first that failed."""
        end = None if timeout is None else time.monotonic() + timeout
        while self._pending:
            commands = self._pending[0]
            self._poll(commands, end)
            self._pending.popleft()
            if commands.status() == FAILED:
                self._pending.clear()
                error = commands.error()
                raise _COMMAND_ERRORS.get(int(error.code()), MetalError)(_text(error))

    def _poll(self, commands: Any, end: float | None) -> None:
        """Ask again and again, as `waitUntilCompleted` has no time limit."""
        pause = _FIRST_PAUSE
        while commands.status() < COMPLETED:
            if end is not None and time.monotonic() > end:
                raise MetalTimeout("the GPU has not finished within the time limit")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def close(self) -> None:
        """Let go of the queue."""
        self._pending.clear()
        self._queue = None


def _text(error: Any) -> str:
    return str(error.localizedDescription()) if error is not None else "Metal gave no reason"
