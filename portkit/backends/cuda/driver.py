"""NVIDIA's driver, called through cffi without a header or a CUDA toolkit: the twenty-odd functions that a port needs.

Everything runs in order on one stream of the first GPU's primary context. Source: CUDA Driver API reference manual.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from portkit.backends.drivers.device import Driver, Errors
from portkit.contract import ALIGNMENT, DeviceInfo
from portkit.errors import CompileError, DeviceError, DeviceHang, DeviceLost, OutOfMemory

VOLTA = 70
"""The least compute capability, ten times major plus minor: the first whose threads each have a program counter."""
_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
DECLARATIONS = """
    typedef int CUresult; typedef int CUdevice; typedef unsigned long long CUdeviceptr;
    typedef struct CUctx_st *CUcontext; typedef struct CUmod_st *CUmodule;
    typedef struct CUfunc_st *CUfunction; typedef struct CUstream_st *CUstream;
    CUresult cuInit(unsigned int flags);
    CUresult cuGetErrorName(CUresult error, const char **text);
    CUresult cuGetErrorString(CUresult error, const char **text);
    CUresult cuDriverGetVersion(int *version);
    CUresult cuDeviceGetCount(int *count);
    CUresult cuDeviceGet(CUdevice *device, int ordinal);
    CUresult cuDeviceGetName(char *name, int len, CUdevice device);
    CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device);
    CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device);
    CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device);
    CUresult cuCtxSetCurrent(CUcontext context);
    CUresult cuStreamCreate(CUstream *stream, unsigned int flags);
    CUresult cuStreamQuery(CUstream stream);
    CUresult cuStreamSynchronize(CUstream stream);
    CUresult cuStreamDestroy_v2(CUstream stream);
    CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size);
    CUresult cuMemFree_v2(CUdeviceptr address);
    CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr target, const void *source, size_t size, CUstream stream);
    CUresult cuMemcpyDtoHAsync_v2(void *target, CUdeviceptr source, size_t size, CUstream stream);
    CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr target, CUdeviceptr source, size_t size, CUstream stream);
    CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int count, int *options, void **values);
    CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name);
    CUresult cuModuleUnload(CUmodule module);
    CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
        unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared, CUstream stream,
        void **parameters, void **extra);
"""
_SUCCESS, _NOT_READY = 0, 600
_NON_BLOCKING = 1
_MAJOR, _MINOR = 75, 76
_LOG_BUFFER, _LOG_SIZE = 5, 6
_LOG_BYTES = 8192
_BUFFER_POINTER, _BUFFER_SIZE, _END = 1, 2, 0
_FIRST_GROUP = bytes(8)
"""The last parameter of every kernel: a grid dimension takes as many groups as a launch can have."""
_POLL_SECONDS = (20e-6, 1e-3)
_LANES = re.compile(r"^\.reqntid (\d+)", re.MULTILINE)


class CudaError(Exception):
    """The driver's own words: what it calls the error, and what that means."""


class CudaOutOfMemory(CudaError):
    """No room on the device."""


class CudaInvalidCode(CudaError):
    """The driver's compiler does not take a kernel's PTX."""


class CudaTimeout(CudaError):
    """No end within the time limit."""


class CudaContextLost(CudaError):
    """An error after which the driver answers nothing else: the context, or the device, is gone."""


ERRORS: Errors = {
    CudaOutOfMemory: OutOfMemory,
    CudaInvalidCode: CompileError,
    CudaTimeout: DeviceHang,
    CudaContextLost: DeviceLost,
    CudaError: DeviceError,
}
_KINDS: Mapping[int, type[CudaError]] = {
    2: CudaOutOfMemory,  # CUDA_ERROR_OUT_OF_MEMORY
    **dict.fromkeys((200, 209, 218, 220, 221, 222, 223), CudaInvalidCode),  # images and PTX that do not load
    702: CudaTimeout,  # CUDA_ERROR_LAUNCH_TIMEOUT: the display's watchdog
    # Deinitialised, device unavailable, ECC, NVLink, context destroyed, assert, faults of kernels, system not ready.
    **dict.fromkeys((4, 46, 201, 214, 219, 226, 700, 709, 710, 714, 715, 716, 717, 718, 719, 802), CudaContextLost),
}


@cache
def _library() -> tuple[Any, Any]:
    """Return cffi's interface and the loaded library. Raises `ImportError` without cffi, `OSError` without a driver."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(DECLARATIONS)
    return ffi, ffi.dlopen(_LIBRARY)


def why_no_gpu() -> str:
    """Return why no kernel can run on a GPU here, in one line with what to do; an empty string if one can."""
    try:
        return check_gpu(*_library())
    except ImportError as error:
        return f"cffi cannot be loaded ({error}); pip install cffi"
    except OSError as error:
        return f"no NVIDIA driver: {error}; install it to use a GPU"


def check_gpu(ffi: Any, library: Any) -> str:
    """Return an empty string if the driver starts and has a GPU, else what it says."""
    calls = Calls(ffi, library)
    try:
        calls.do("cuInit", 0)
        if not calls.get("int *", "cuDeviceGetCount"):
            return "the NVIDIA driver finds no GPU; is one plugged in, and does CUDA_VISIBLE_DEVICES name it?"
        capability = calls.capability(calls.get("CUdevice *", "cuDeviceGet", 0))
        short = f"the GPU has compute capability {capability / 10}, {VOLTA / 10} is the least"
        return short if capability < VOLTA else ""
    except CudaError as error:
        return f"the NVIDIA driver does not start: {error}"


class Calls:
    """The library's functions with their results checked."""

    def __init__(self, ffi: Any, library: Any) -> None:
        """Use a library, or what stands in for it."""
        self.ffi = ffi
        self._library = library

    def do(self, function: str, *arguments: Any) -> None:
        """Call a function. Raises a `CudaError` for every result but success."""
        result = getattr(self._library, function)(*arguments)
        if result != _SUCCESS:
            raise self.error(function, result)

    def get(self, type_: str, function: str, *arguments: Any) -> Any:
        """Call a function that stores its answer where its first argument points, and return the answer."""
        answer = self.ffi.new(type_)
        self.do(function, answer, *arguments)
        return answer[0]

    def capability(self, device: Any) -> int:
        """Return the compute capability of a device, ten times major plus minor."""
        major, minor = (self.get("int *", "cuDeviceGetAttribute", number, device) for number in (_MAJOR, _MINOR))
        return 10 * major + minor

    def ready(self, stream: Any) -> bool:
        """Whether all that was started on a stream is done. Raises a `CudaError` if it failed."""
        result = self._library.cuStreamQuery(stream)
        if result not in (_SUCCESS, _NOT_READY):
            raise self.error("cuStreamQuery", result)
        return result == _SUCCESS

    def error(self, function: str, result: int, detail: str = "") -> CudaError:
        """Return the exception for a result, with the driver's name and explanation of it."""
        words = [self._words(of, result) for of in ("cuGetErrorName", "cuGetErrorString")]
        text = f"{function}: {words[0] or f'error {result}'}: {words[1] or 'unknown'}"
        return _KINDS.get(result, CudaError)(f"{text}\n{detail}" if detail else text)

    def _words(self, function: str, result: int) -> str:
        text = self.ffi.new("const char **")
        known = getattr(self._library, function)(result, text) == _SUCCESS and text[0]
        return self.ffi.string(text[0]).decode() if known else ""


@dataclass(frozen=True, slots=True)
class LoadedModule:
    """A kernel on the device, and how many lanes its work-groups have."""

    module: Any
    function: Any
    lanes: int


class CudaDriver(Driver[LoadedModule]):
    """The first GPU that the driver shows; `CUDA_VISIBLE_DEVICES` chooses another."""

    def __init__(self, ffi: Any = None, library: Any = None) -> None:
        """Open the device with the driver's library, or with what stands in for it. Raises a `CudaError`."""
        self._ffi, loaded = (ffi, library) if ffi is not None else _library()
        self._calls = Calls(self._ffi, loaded)
        self._calls.do("cuInit", 0)
        self._device = self._calls.get("CUdevice *", "cuDeviceGet", 0)
        self._context = self._calls.get("CUcontext *", "cuDevicePrimaryCtxRetain", self._device)
        self._thread = 0
        self._stream = self._get("CUstream *", "cuStreamCreate", _NON_BLOCKING)
        self._starts: dict[int, int] = {}  # by the aligned address that was given out: what the driver gave
        self.capability = self._calls.capability(self._device)

    def _enter(self) -> None:
        """Make the context current, which it is thread by thread."""
        if self._thread != threading.get_ident():
            self._calls.do("cuCtxSetCurrent", self._context)
            self._thread = threading.get_ident()

    def _do(self, function: str, *arguments: Any) -> None:
        self._enter()
        self._calls.do(function, *arguments)

    def _get(self, type_: str, function: str, *arguments: Any) -> Any:
        answer = self._ffi.new(type_)
        self._do(function, answer, *arguments)
        return answer[0]

    def info(self) -> DeviceInfo:
        """Return the GPU's name, its compute capability and the version of the driver's interface."""
        name = self._ffi.new("char[]", 256)
        self._calls.do("cuDeviceGetName", name, 256, self._device)
        version = self._calls.get("int *", "cuDriverGetVersion")
        return DeviceInfo(
            device=self._ffi.string(name).decode(),
            driver=f"CUDA {version // 1000}.{version % 1000 // 10}",
            extra={"compute capability": f"{self.capability / 10}"},
        )

    # --- memory ---------------------------------------------------------------------------------------------------

    def allocate(self, size: int, align: int) -> int:
        """Return an address; the driver's own are multiples of 256, larger alignments cost some bytes."""
        start = int(self._get("CUdeviceptr *", "cuMemAlloc_v2", max(size, 1) + max(0, align - ALIGNMENT)))
        address = -(-start // align) * align
        self._starts[address] = start
        return address

    def free(self, address: int) -> None:
        """Give memory back when nothing uses it any more."""
        self._finish()
        self._do("cuMemFree_v2", self._starts.pop(address))

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Copy from the host, and wait, as the bytes are the caller's again afterwards."""
        if len(data):
            self._do("cuMemcpyHtoDAsync_v2", address, self._ffi.from_buffer(data), len(data), self._stream)
            self._finish()

    def read(self, address: int, size: int) -> bytes:
        """Copy to the host."""
        target = bytearray(size)
        if size:
            self._do("cuMemcpyDtoHAsync_v2", self._ffi.from_buffer(target), address, size, self._stream)
        self._finish()
        return bytes(target)

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy on the device."""
        if size:
            self._do("cuMemcpyDtoDAsync_v2", target, source, size, self._stream)

    def _finish(self) -> None:
        self._do("cuStreamSynchronize", self._stream)

    # --- kernels --------------------------------------------------------------------------------------------------

    def load(self, binary: bytes) -> LoadedModule:
        """Let the driver compile PTX for the GPU; what its compiler says is in the exception."""
        log = self._ffi.new("char[]", _LOG_BYTES)
        options = self._ffi.new("int[]", [_LOG_BUFFER, _LOG_SIZE])
        values = self._ffi.new("void *[]", [log, self._ffi.cast("void *", _LOG_BYTES)])
        image = self._ffi.from_buffer(binary + b"\0")
        try:
            module = self._get("CUmodule *", "cuModuleLoadDataEx", image, 2, options, values)
        except CudaError as error:
            raise type(error)(f"{error}\n{self._ffi.string(log).decode(errors='replace')}".rstrip()) from error
        function = self._get("CUfunction *", "cuModuleGetFunction", module, b"kernel")
        lanes = _LANES.search(binary.decode())
        return LoadedModule(module, function, int(lanes[1]) if lanes else 1)

    def unload(self, program: LoadedModule) -> None:
        """Take a kernel off the device when it has ended."""
        self._finish()
        self._do("cuModuleUnload", program.module)

    def start(self, program: LoadedModule, arguments: bytes, groups: int, scratch: int) -> None:
        """Start the kernel; its arguments go as one block of bytes, laid out as PTX lays out words of 8 bytes."""
        if not groups:
            return
        block, size = self._ffi.from_buffer(arguments + _FIRST_GROUP), self._ffi.new("size_t *")
        size[0] = len(block)
        marks = [self._ffi.cast("void *", mark) for mark in (_BUFFER_POINTER, _BUFFER_SIZE, _END)]
        extra = self._ffi.new("void *[]", [marks[0], block, marks[1], size, marks[2]])
        geometry = (groups, 1, 1, program.lanes, 1, 1, 0)
        self._do("cuLaunchKernel", program.function, *geometry, self._stream, self._ffi.NULL, extra)

    def wait(self, timeout: float) -> None:
        """Ask until all is done, without a call that might not return."""
        self._enter()
        end, pause = time.monotonic() + timeout, _POLL_SECONDS[0]
        while not self._calls.ready(self._stream):
            if time.monotonic() > end:
                raise CudaTimeout(f"the stream is still busy after {timeout:g} seconds")
            time.sleep(pause)
            pause = min(2 * pause, _POLL_SECONDS[1])

    def close(self) -> None:
        """Give the stream and the primary context back."""
        try:
            self._do("cuStreamDestroy_v2", self._stream)
        finally:
            self._calls.do("cuDevicePrimaryCtxRelease_v2", self._device)
