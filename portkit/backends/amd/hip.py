"""AMD's HIP runtime, called through cffi without a header or a ROCm toolkit: the twenty functions that a port needs.

Everything runs in order on one stream of the first GPU. Source: HIP runtime API reference (initialisation, streams,
memory, modules, errors).
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from portkit.backends.amd.compiler import unpack_binary
from portkit.backends.drivers.device import Driver, Errors
from portkit.contract import ALIGNMENT, DeviceInfo
from portkit.errors import CompileError, DeviceError, DeviceHang, DeviceLost, OutOfMemory

_LIBRARIES = ("libamdhip64.so", "libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5")
_DECLARATIONS = """
    typedef int hipError_t; typedef int hipDevice_t; typedef void *hipStream_t;
    typedef void *hipModule_t; typedef void *hipFunction_t;
    hipError_t hipInit(unsigned int flags);
    const char *hipGetErrorName(hipError_t error);
    const char *hipGetErrorString(hipError_t error);
    hipError_t hipRuntimeGetVersion(int *version);
    hipError_t hipGetDeviceCount(int *count);
    hipError_t hipDeviceGetName(char *name, int len, hipDevice_t device);
    hipError_t hipGetDevicePropertiesR0600(void *properties, int device);
    hipError_t hipGetDeviceProperties(void *properties, int device);
    hipError_t hipStreamCreateWithFlags(hipStream_t *stream, unsigned int flags);
    hipError_t hipStreamQuery(hipStream_t stream);
    hipError_t hipStreamSynchronize(hipStream_t stream);
    hipError_t hipStreamDestroy(hipStream_t stream);
    hipError_t hipMalloc(void **address, size_t size);
    hipError_t hipFree(void *address);
    hipError_t hipMemcpyAsync(void *target, const void *source, size_t size, int kind, hipStream_t stream);
    hipError_t hipModuleLoadData(hipModule_t *module, const void *image);
    hipError_t hipModuleGetFunction(hipFunction_t *function, hipModule_t module, const char *name);
    hipError_t hipModuleUnload(hipModule_t module);
    hipError_t hipModuleLaunchKernel(hipFunction_t function, unsigned int grid_x, unsigned int grid_y,
        unsigned int grid_z, unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared,
        hipStream_t stream, void **parameters, void **extra);
"""
_SUCCESS, _NOT_READY = 0, 600
_NON_BLOCKING = 1
_TO_DEVICE, _TO_HOST, _ON_DEVICE = 1, 2, 3
_BUFFER_POINTER, _BUFFER_SIZE, _END = 1, 2, 3
_PROPERTIES_BYTES = 1 << 14
_MOST_ITEMS = (1 << 32) - 1
"""Work-items of one launch, at most (HIP, hipModuleLaunchKernel: grid times block is less than 2^32)."""
_POLL_SECONDS = (20e-6, 1e-3)


class HipError(Exception):
    """The runtime's own words: what it calls the error, and what that means."""


class HipOutOfMemory(HipError):
    """No room on the device."""


class HipInvalidCode(HipError):
    """The runtime does not take a code object."""


class HipTimeout(HipError):
    """No end within the time limit."""


class HipDeviceLost(HipError):
    """An error after which the runtime answers nothing else: a kernel failed, or the device is gone."""


ERRORS: Errors = {
    HipOutOfMemory: OutOfMemory,
    HipInvalidCode: CompileError,
    HipTimeout: DeviceHang,
    HipDeviceLost: DeviceLost,
    HipError: DeviceError,
}
_KINDS: Mapping[int, type[HipError]] = {
    2: HipOutOfMemory,  # hipErrorOutOfMemory
    **dict.fromkeys((200, 209, 218, 302, 303, 500), HipInvalidCode),  # images that do not load, symbols not found
    702: HipTimeout,  # hipErrorLaunchTimeOut
    # Deinitialised, no device, ECC, illegal state, faults of kernels, context gone, assert, runtime.
    **dict.fromkeys((4, 100, 214, 401, 700, 709, 710, 719, 1052, 1053), HipDeviceLost),
}


@cache
def _library() -> tuple[Any, Any]:
    """Return cffi's interface and the loaded library. Raises `ImportError` without cffi, `OSError` without HIP."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(_DECLARATIONS)
    return ffi, _first_of(ffi, _LIBRARIES)


def _first_of(ffi: Any, names: tuple[str, ...]) -> Any:
    try:
        return ffi.dlopen(names[0])
    except OSError:
        if len(names) == 1:
            raise
        return _first_of(ffi, names[1:])


def why_no_gpu() -> str:
    """Return why no kernel can run on a GPU here, in one line with what to do; an empty string if one can."""
    try:
        return count_gpus(*_library())
    except ImportError as error:
        return f"cffi cannot be loaded ({error}); pip install cffi"
    except OSError as error:
        return f"no HIP runtime: {error}; install ROCm to use a GPU"


def count_gpus(ffi: Any, library: Any) -> str:
    """Return an empty string if the runtime starts and has a GPU, else what it says."""
    calls = Calls(ffi, library)
    try:
        calls.do("hipInit", 0)
        return "" if calls.get("int *", "hipGetDeviceCount") else "HIP finds no GPU; is one plugged in?"
    except HipError as error:
        return f"HIP does not start: {error}"


class Calls:
    """The library's functions with their results checked."""

    def __init__(self, ffi: Any, library: Any) -> None:
        """Use a library, or what stands in for it."""
        self.ffi = ffi
        self._library = library

    def do(self, function: str, *arguments: Any) -> None:
        """Call a function. Raises a `HipError` for every result but success."""
        result = getattr(self._library, function)(*arguments)
        if result != _SUCCESS:
            raise self.error(function, result)

    def get(self, type_: str, function: str, *arguments: Any) -> Any:
        """Call a function that stores its answer where its first argument points, and return the answer."""
        answer = self.ffi.new(type_)
        self.do(function, answer, *arguments)
        return answer[0]

    def ready(self, stream: Any) -> bool:
        """Whether all that was started on a stream is done. Raises a `HipError` if it failed."""
        result = self._library.hipStreamQuery(stream)
        if result not in (_SUCCESS, _NOT_READY):
            raise self.error("hipStreamQuery", result)
        return result == _SUCCESS

    def has(self, function: str) -> bool:
        """Whether this version of the library has a function."""
        return hasattr(self._library, function)

    def error(self, function: str, result: int) -> HipError:
        """Return the exception for a result, with the runtime's name and explanation of it."""
        name, text = (self._words(of, result) for of in ("hipGetErrorName", "hipGetErrorString"))
        return _KINDS.get(result, HipError)(f"{function}: {name or f'error {result}'}: {text or 'unknown'}")

    def _words(self, function: str, result: int) -> str:
        text = getattr(self._library, function)(result)
        return self.ffi.string(text).decode() if text else ""


@dataclass(frozen=True, slots=True)
class LoadedModule:
    """A kernel on the device, and how many lanes its work-groups have."""

    module: Any
    function: Any
    lanes: int


class HipDriver(Driver[LoadedModule]):
    """The first GPU that the runtime shows; `HIP_VISIBLE_DEVICES` chooses another."""

    def __init__(self, ffi: Any = None, library: Any = None) -> None:
        """Open the device with the runtime's library, or with what stands in for it. Raises a `HipError`."""
        self._ffi, loaded = (ffi, library) if ffi is not None else _library()
        self._calls = Calls(self._ffi, loaded)
        self._calls.do("hipInit", 0)
        self._stream = self._calls.get("hipStream_t *", "hipStreamCreateWithFlags", _NON_BLOCKING)
        self._starts: dict[int, int] = {}  # by the aligned address that was given out: what the runtime gave
        self.chip = self._chip()

    def _chip(self) -> str:
        """Return the name of the GPU's instruction set, such as gfx942.

        The structure that holds it differs between versions of HIP, so the name is looked for in its bytes.
        """
        versions = ("hipGetDevicePropertiesR0600", "hipGetDeviceProperties")
        function = next(name for name in versions if name == versions[-1] or self._calls.has(name))
        properties = self._ffi.new("char[]", _PROPERTIES_BYTES)
        self._calls.do(function, properties, 0)
        found = re.search(rb"gfx[0-9a-f]+", self._ffi.buffer(properties)[:])
        if found is None:
            raise HipError(f"{function} names no instruction set of AMD GPUs; portkit drives those only")
        return found[0].decode()

    def info(self) -> DeviceInfo:
        """Return the GPU's name, its instruction set and the version of the runtime."""
        name = self._ffi.new("char[]", 256)
        self._calls.do("hipDeviceGetName", name, 256, 0)
        version = self._calls.get("int *", "hipRuntimeGetVersion")
        return DeviceInfo(
            device=self._ffi.string(name).decode(),
            driver=f"HIP {version // 10_000_000}.{version // 100_000 % 100}",
            extra={"instruction set": self.chip},
        )

    # --- memory ---------------------------------------------------------------------------------------------------

    def allocate(self, size: int, align: int) -> int:
        """Return an address; the runtime's own are multiples of 256, larger alignments cost some bytes."""
        given = self._calls.get("void **", "hipMalloc", max(size, 1) + max(0, align - ALIGNMENT))
        start = int(self._ffi.cast("uintptr_t", given))
        address = -(-start // align) * align
        self._starts[address] = start
        return address

    def free(self, address: int) -> None:
        """Give memory back when nothing uses it any more."""
        self._finish()
        self._calls.do("hipFree", self._pointer(self._starts.pop(address)))

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Copy from the host, and wait, as the bytes are the caller's again afterwards."""
        self._copy(self._pointer(address), self._ffi.from_buffer(data), len(data), _TO_DEVICE)
        self._finish()

    def read(self, address: int, size: int) -> bytes:
        """Copy to the host."""
        target = bytearray(size)
        self._copy(self._ffi.from_buffer(target), self._pointer(address), size, _TO_HOST)
        self._finish()
        return bytes(target)

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy on the device."""
        self._copy(self._pointer(target), self._pointer(source), size, _ON_DEVICE)

    def _copy(self, target: Any, source: Any, size: int, kind: int) -> None:
        if size:
            self._calls.do("hipMemcpyAsync", target, source, size, kind, self._stream)

    def _pointer(self, address: int) -> Any:
        return self._ffi.cast("void *", address)

    def _finish(self) -> None:
        self._calls.do("hipStreamSynchronize", self._stream)

    # --- kernels --------------------------------------------------------------------------------------------------

    def load(self, binary: bytes) -> LoadedModule:
        """Load a code object and find its kernel."""
        lanes, image = unpack_binary(binary)
        module = self._calls.get("hipModule_t *", "hipModuleLoadData", self._ffi.from_buffer(image))
        return LoadedModule(
            module, self._calls.get("hipFunction_t *", "hipModuleGetFunction", module, b"kernel"), lanes
        )

    def unload(self, program: LoadedModule) -> None:
        """Take a kernel off the device when it has ended."""
        self._finish()
        self._calls.do("hipModuleUnload", program.module)

    def start(self, program: LoadedModule, arguments: bytes, groups: int, scratch: int) -> None:
        """Start the kernel, in as many launches as it takes; their last argument is the first work-group of each."""
        most = _MOST_ITEMS // program.lanes
        for first in range(0, groups, most):
            self._launch(program, arguments + struct.pack("<Q", first), min(most, groups - first))

    def _launch(self, program: LoadedModule, arguments: bytes, groups: int) -> None:
        """Launch once; the arguments go as one block of bytes, laid out as the kernel's argument segment."""
        block, size = self._ffi.from_buffer(arguments), self._ffi.new("size_t *", len(arguments))
        marks = [self._pointer(mark) for mark in (_BUFFER_POINTER, _BUFFER_SIZE, _END)]
        extra = self._ffi.new("void *[]", [marks[0], block, marks[1], size, marks[2]])
        geometry = (groups, 1, 1, program.lanes, 1, 1, 0)
        self._calls.do("hipModuleLaunchKernel", program.function, *geometry, self._stream, self._ffi.NULL, extra)

    def wait(self, timeout: float) -> None:
        """Ask until all is done, without a call that might not return."""
        end, pause = time.monotonic() + timeout, _POLL_SECONDS[0]
        while not self._calls.ready(self._stream):
            if time.monotonic() > end:
                raise HipTimeout(f"the stream is still busy after {timeout:g} seconds")
            time.sleep(pause)
            pause = min(2 * pause, _POLL_SECONDS[1])

    def close(self) -> None:
        """Give the stream back."""
        self._calls.do("hipStreamDestroy", self._stream)
