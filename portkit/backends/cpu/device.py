"""The host as a device: buffers are host memory, kernels are compiled just in time and run on a thread pool."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Sequence
from weakref import WeakSet

import llvmlite
import llvmlite.binding as llvm
import numpy as np

from portkit.backends.cpu.pool import ThreadPool
from portkit.backends.toolkit.arguments import pack_arguments
from portkit.backends.toolkit.host_jit import HostJit, LoadedCode
from portkit.backends.toolkit.llvm import Effort
from portkit.backends.toolkit.llvm_kernel import Printed, Target, print_kernel
from portkit.contract import ALIGNMENT, Capabilities, DeviceInfo, Executable
from portkit.errors import DeviceError, DeviceLost, InvalidHandle, OutOfMemory
from portkit.spec.kernel import Kernel

# The feature that converts f16 to and from f32; the empty name says that every processor of the family can.
_HALF_FEATURES = {"x86_64": "f16c", "AMD64": "f16c", "aarch64": "", "arm64": ""}
_MANY_LANES = 32


class _Buffer:
    """Aligned host memory; a buffer of 0 bytes has an address too."""

    def __init__(self, size: int, align: int) -> None:
        self.size = size
        try:
            self._memory = np.empty(size + align, np.uint8)
        except MemoryError as error:
            raise OutOfMemory(f"no room for a buffer of {size} bytes") from error
        self.address = -(-self._memory.ctypes.data // align) * align
        start = self.address - self._memory.ctypes.data
        self.view = self._memory.data[start : start + size]

    def range(self, offset: int, size: int) -> memoryview:
        """Return a view of some bytes; raises `InvalidHandle` if they are not all inside."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise InvalidHandle(f"bytes {offset} to {offset + size} are outside a buffer of {self.size}")
        return self.view[offset : offset + size]


class CpuExecutable:
    """A kernel in machine code; `source` is its LLVM IR."""

    def __init__(self, kernel: Kernel, printed: Printed, code: LoadedCode) -> None:
        self.kernel = kernel
        self.source = printed.text
        self.scratch = printed.scratch
        self._code = code

    @property
    def address(self) -> int:
        """Where the kernel starts; raises `InvalidHandle` once it is released."""
        return self._code.address("kernel")

    def release(self) -> None:
        """Unload the machine code; a second call does nothing."""
        self._code.release()


class CpuDevice:
    """The host's processors. A launch returns when the kernel is done, so that there is nothing to synchronise."""

    thread_safe = False

    def __init__(self, capabilities: Capabilities) -> None:
        """Start the thread pool.

        Raises:
            CompileError: LLVM cannot generate code for this host.
        """
        self._limits = capabilities.limits
        self._jit = HostJit()
        self._pool = ThreadPool(self._jit)
        self._target = _host_target()
        self._handles = itertools.count(1)
        self._buffers: dict[int, _Buffer] = {}
        self._executables: WeakSet[CpuExecutable] = WeakSet()  # what nobody holds is unloaded
        self._open = True
        self.info = _host_info(self._pool.threads, capabilities.version)

    # --- memory ---------------------------------------------------------------------------------------------------

    def allocate(self, size: int, align: int = ALIGNMENT) -> int:
        """Return a handle to `size` bytes whose contents are undefined."""
        self._check_open()
        if size < 0 or align < 1 or align & (align - 1):
            asked = f"{size} bytes aligned to {align}"
            raise DeviceError(f"cannot allocate {asked}: sizes are positive, alignments powers of 2")
        if size > self._limits.buffer_bytes:
            raise OutOfMemory(f"{size} bytes are more than the {self._limits.buffer_bytes} that a buffer may have")
        buffer = _Buffer(size, max(align, ALIGNMENT))
        handle = next(self._handles)
        self._buffers[handle] = buffer
        return handle

    def free(self, handle: int) -> None:
        """Give memory back; the handle is never used again."""
        self._buffer(handle)
        del self._buffers[handle]

    def write(self, handle: int, offset: int, data: bytes | memoryview) -> None:
        """Copy host bytes to the buffer."""
        source = memoryview(data).cast("B")
        self._buffer(handle).range(offset, len(source))[:] = source

    def read(self, handle: int, offset: int, size: int) -> bytes:
        """Return bytes of the buffer."""
        return bytes(self._buffer(handle).range(offset, size))

    def copy(self, target: int, target_offset: int, source: int, source_offset: int, size: int) -> None:
        """Copy between buffers."""
        found = self._buffer(source).range(source_offset, size)
        self._buffer(target).range(target_offset, size)[:] = found

    def _buffer(self, handle: int) -> _Buffer:
        self._check_open()
        if handle not in self._buffers:
            raise InvalidHandle(f"buffer {handle} was freed, or never allocated here")
        return self._buffers[handle]

    # --- kernels --------------------------------------------------------------------------------------------------

    def compile(self, kernel: Kernel) -> CpuExecutable:
        """Compile a kernel that fits the capabilities."""
        self._check_open()
        printed = print_kernel(kernel, self._target)
        code = self._jit.load(self._jit.object_code(printed.text, _effort(kernel)))
        executable = CpuExecutable(kernel, printed, code)
        self._executables.add(executable)
        return executable

    def launch(
        self, executable: Executable, grid: Sequence[int], buffers: Sequence[int], scalars: Sequence[int | float]
    ) -> None:
        """Run the kernel on all processors and return when it is done."""
        self._check_open()
        if not isinstance(executable, CpuExecutable) or executable not in self._executables:
            raise InvalidHandle("the executable was compiled by another device, or before a reset")
        address = executable.address
        arguments = pack_arguments(executable.kernel, grid, [self._buffer(handle) for handle in buffers], scalars)
        words = np.frombuffer(arguments.data, np.uint64)
        self._pool.launch(address, words.ctypes.data, arguments.groups, executable.scratch)

    def synchronise(self, timeout: float) -> None:
        """Return at once: every launch is complete when it returns."""
        self._check_open()

    def reset(self) -> None:
        """Forget every buffer and executable."""
        self._check_open()
        self._buffers.clear()
        for executable in self._executables:
            executable.release()
        self._executables.clear()

    def close(self) -> None:
        """Stop the threads and free everything; a second call does nothing."""
        if self._open:
            self.reset()
            self._open = False
            self._pool.close()

    def _check_open(self) -> None:
        if not self._open:
            raise DeviceLost("this device is closed; open it again")


def _effort(kernel: Kernel) -> Effort:
    """Return how hard to optimise: the lane loops of a small work-group are not worth vectorising."""
    return Effort.QUICK if 1 < kernel.lanes < _MANY_LANES else Effort.FULL


def _host_target() -> Target:
    feature = _HALF_FEATURES.get(platform.machine())
    return Target(native_half=feature is not None and (not feature or llvm.get_host_cpu_features().get(feature, False)))


def _host_info(threads: int, version: str) -> DeviceInfo:
    release = ".".join(map(str, llvm.llvm_version_info))
    return DeviceInfo(
        device=f"{llvm.get_host_cpu_name()} ({platform.machine()}), {threads} threads",
        driver=f"portkit cpu {version}",
        compiler=f"LLVM {release}, llvmlite {llvmlite.__version__}",
        extra={"features": ",".join(sorted(name for name, on in llvm.get_host_cpu_features().items() if on))},
    )
