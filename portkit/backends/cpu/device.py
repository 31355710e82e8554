"""The host as a device: buffers are host memory, kernels are compiled just in time and run on a thread pool."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from weakref import WeakSet

import llvmlite
import llvmlite.binding as llvm
import numpy as np

from portkit.backends.cpu.pool import ThreadPool
from portkit.backends.cpu.recording import Given, HostRecording, Recorder
from portkit.backends.drivers.device import Buffer, CheckedDevice
from portkit.backends.drivers.host_memory import HostArrays
from portkit.backends.toolkit.host_jit import HostJit, LoadedCode, host_machine
from portkit.backends.toolkit.llvm import CodeGenerator, Effort
from portkit.backends.toolkit.llvm_kernel import Target, print_kernel
from portkit.contract import ALIGNMENT, Call, Capabilities, Code, DeviceInfo, Parameter
from portkit.errors import InvalidHandle, OutOfMemory
from portkit.spec.kernel import Kernel

# The feature that converts f16 to and from f32; the empty name says that every processor of the family can.
_HALF_FEATURES = {"x86_64": "f16c", "AMD64": "f16c", "aarch64": "", "arm64": ""}
_MANY_LANES = 32
_LONG_BODY = 2000


def open_host(capabilities: Capabilities, target: Target | None = None) -> CpuDevice:
    """Start the thread pool and return the device; `target` overrides what was found about the processor.

    Raises:
        CompileError: LLVM cannot generate code for this host.
    """
    jit = HostJit()
    driver = HostDriver(jit, capabilities)
    return CpuDevice(driver, HostCompiler(jit, target or host_target()))


def host_target() -> Target:
    """Return what the printer must know of this processor."""
    feature = _HALF_FEATURES.get(platform.machine())
    return Target(native_half=feature is not None and (not feature or llvm.get_host_cpu_features().get(feature, False)))


class CpuDevice(CheckedDevice[LoadedCode]):
    """The checked device, and what else the host can do: share memory with this process, replay lists of launches."""

    def __init__(self, driver: HostDriver, compiler: HostCompiler) -> None:
        """Use an opened driver, and close it in the end."""
        super().__init__(driver, compiler, {MemoryError: OutOfMemory})
        self._host = driver
        self._recordings: WeakSet[HostRecording] = WeakSet()

    def adopt(self, address: int, size: int) -> int:
        """Return a handle to memory of this process that stays the caller's."""
        self._check_open()
        if size < 0 or address <= 0 or address % ALIGNMENT:
            raise InvalidHandle(f"cannot use {size} bytes at {address:#x}: memory starts at a multiple of {ALIGNMENT}")
        return self._enter(Buffer(address, size, owned=False))

    def address(self, handle: int) -> int:
        """Return where a buffer starts in this process."""
        return self._buffer(handle).address

    def free(self, handle: int) -> None:
        """Give memory back; no recording that uses it can be replayed any more."""
        super().free(handle)
        for recording in self._recordings:
            recording.forget(handle)

    def record(self, calls: Sequence[Call]) -> HostRecording:
        """Prepare calls for `replay`."""
        self._check_open()
        recorder = Recorder()
        for call in calls:
            loaded, program = self._loaded(call.executable)
            given: list[Given] = [b if isinstance(b, Parameter) else (b, self._buffer(b)) for b in call.buffers]
            recorder.add(loaded, program.address("kernel"), call, given)
        recording = HostRecording(recorder)
        self._recordings.add(recording)
        return recording

    def replay(self, recording: HostRecording, buffers: Sequence[int]) -> None:
        """Run all calls in one native call and return when they are done."""
        self._check_open()
        if recording not in self._recordings:
            raise InvalidHandle("the recording was made by another device")
        recording.bind([self._buffer(handle) for handle in buffers])
        self._host.run(recording)


class HostCompiler:
    """Compiles kernels for this processor."""

    def __init__(self, jit: HostJit, target: Target) -> None:
        """Print for `target`, compile with `jit`."""
        self._jit = jit
        self._plain = CodeGenerator(host_machine(opt=0))
        self._target = target

    def compile(self, kernel: Kernel) -> Code:
        """Compile a kernel that fits the capabilities; the lane loops of a small work-group are not vectorised."""
        printed = print_kernel(kernel, self._target)
        if len(kernel.body) > _LONG_BODY:
            binary = self._plain.object_code(printed.text, Effort.NONE)
        else:
            binary = self._jit.object_code(
                printed.text, Effort.QUICK if 1 < kernel.lanes < _MANY_LANES else Effort.FULL
            )
        return Code(printed.text, binary, printed.scratch)


class HostDriver(HostArrays):
    """The host's processors. Whatever is started is complete on return, so that there is nothing to wait for."""

    def __init__(self, jit: HostJit, capabilities: Capabilities) -> None:
        """Start the thread pool."""
        super().__init__(capabilities.limits.buffer_bytes)
        self._jit = jit
        self._version = capabilities.version
        self._pool = ThreadPool(jit)

    def info(self) -> DeviceInfo:
        """Return what processor this is, and which features LLVM uses of it."""
        release = ".".join(map(str, llvm.llvm_version_info))
        features = sorted(name for name, on in llvm.get_host_cpu_features().items() if on)
        return DeviceInfo(
            device=f"{llvm.get_host_cpu_name()} ({platform.machine()}), {self._pool.threads} threads",
            driver=f"portkit cpu {self._version}",
            compiler=f"LLVM {release}, llvmlite {llvmlite.__version__}",
            extra={"features": ",".join(features)},
        )

    def load(self, binary: bytes) -> LoadedCode:
        """Link a kernel into this process."""
        return self._jit.load(binary)

    def unload(self, program: LoadedCode) -> None:
        """Unlink a kernel."""
        program.release()

    def start(self, program: LoadedCode, arguments: bytes, groups: int, scratch: int) -> None:
        """Run the work-groups on all processors and return when they are done."""
        words = np.frombuffer(arguments, np.uint64)
        self._pool.launch(program.address("kernel"), words.ctypes.data, groups, scratch)

    def run(self, recording: HostRecording) -> None:
        """Run a list of kernels in one native call."""
        self._pool.run(recording.calls, recording.count, recording.scratch)

    def wait(self, timeout: float) -> None:
        """Return at once."""

    def close(self) -> None:
        """Stop the threads."""
        self._pool.close()
