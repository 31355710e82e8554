"""A stand-in for NVIDIA's driver library: its functions by name, over the interpreter of PTX, with faults on demand.

It is strict about what the reference manual demands: every handle must be live, a context current, and options and
launch arguments laid out as the driver reads them.
"""

from __future__ import annotations

from typing import Any

import cffi

from portkit.backends.cuda.driver import DECLARATIONS
from portkit.emulators.memory import Arena, EmulatorFault
from portkit.emulators.ptx import Program, launch
from portkit.errors import CompileError, OutOfMemory

NAMES = {
    1: ("CUDA_ERROR_INVALID_VALUE", "invalid argument"),
    2: ("CUDA_ERROR_OUT_OF_MEMORY", "out of memory"),
    100: ("CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"),
    201: ("CUDA_ERROR_INVALID_CONTEXT", "invalid device context"),
    218: ("CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"),
    700: ("CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"),
    719: ("CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"),
}
CONTEXT, STREAM = 0x1000, 0x2000
JIT_LOG, JIT_LOG_SIZE = 5, 6


def new_ffi() -> Any:
    ffi = cffi.FFI()
    ffi.cdef(DECLARATIONS)
    return ffi


class FakeCuda:
    """The library; `fail` maps a function to what it returns from now on, `busy` is how often a stream is not ready."""

    def __init__(self, ffi: Any, *, gpus: int = 1, capability: tuple[int, int] = (9, 0)) -> None:
        self.ffi = ffi
        self.gpus = gpus
        self.capability = capability
        self.fail: dict[str, int] = {}
        self.busy = 0
        self.memory = Arena(1 << 24)
        self.live: dict[int, int] = {}
        self.modules: dict[int, Program] = {}
        self.current = 0
        self.streams: set[int] = set()
        self.retained = 0
        self.launches: list[tuple[int, ...]] = []
        self._next = 0x5000

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("cu") and name != "current" and name in object.__getattribute__(self, "fail"):
            return lambda *_: self.fail[name]
        return object.__getattribute__(self, name)

    def _handle(self) -> int:
        self._next += 0x10
        return self._next

    def _number(self, pointer: Any) -> int:
        return int(self.ffi.cast("uintptr_t", pointer))

    # --- errors, devices, contexts --------------------------------------------------------------------------------

    def cuInit(self, flags: int) -> int:
        return 0 if self.gpus else 100

    def cuGetErrorName(self, error: int, text: Any) -> int:
        return self._say(error, text, 0)

    def cuGetErrorString(self, error: int, text: Any) -> int:
        return self._say(error, text, 1)

    def _say(self, error: int, text: Any, which: int) -> int:
        if error not in NAMES:
            return 1
        self._text = self.ffi.new("char[]", NAMES[error][which].encode())
        text[0] = self._text
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        version[0] = 12040
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count[0] = self.gpus
        return 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device[0] = 7
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: int) -> int:
        assert device == 7
        self.ffi.memmove(name, b"Fake GPU\0", 9)
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> int:
        value[0] = {75: self.capability[0], 76: self.capability[1]}[attribute]
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> int:
        self.retained += 1
        context[0] = self.ffi.cast("CUcontext", CONTEXT)
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, device: int) -> int:
        self.retained -= 1
        return 0

    def cuCtxSetCurrent(self, context: Any) -> int:
        self.current = self._number(context)
        return 0

    def cuStreamCreate(self, stream: Any, flags: int) -> int:
        if self.current != CONTEXT:
            return 201
        self.streams.add(STREAM)
        stream[0] = self.ffi.cast("CUstream", STREAM)
        return 0

    def cuStreamDestroy_v2(self, stream: Any) -> int:
        self.streams.remove(self._number(stream))
        return 0

    def cuStreamQuery(self, stream: Any) -> int:
        self.busy -= 1
        return 600 if self.busy >= 0 else 0

    def cuStreamSynchronize(self, stream: Any) -> int:
        return 0 if self._number(stream) in self.streams else 1

    # --- memory ---------------------------------------------------------------------------------------------------

    def cuMemAlloc_v2(self, address: Any, size: int) -> int:
        if size == 0:
            return 1
        try:
            address[0] = self.memory.allocate(size, 256)
        except OutOfMemory:
            return 2
        self.live[address[0]] = size
        return 0

    def cuMemFree_v2(self, address: int) -> int:
        if address not in self.live:
            return 1
        del self.live[address]
        self.memory.free(address)
        return 0

    def cuMemcpyHtoDAsync_v2(self, target: int, source: Any, size: int, stream: Any) -> int:
        self.memory.write(target, bytes(self.ffi.buffer(source, size)))
        return 0

    def cuMemcpyDtoHAsync_v2(self, target: Any, source: int, size: int, stream: Any) -> int:
        self.ffi.memmove(target, self.memory.read(source, size), size)
        return 0

    def cuMemcpyDtoDAsync_v2(self, target: int, source: int, size: int, stream: Any) -> int:
        self.memory.copy(target, source, size)
        return 0

    # --- kernels --------------------------------------------------------------------------------------------------

    def cuModuleLoadDataEx(self, module: Any, image: Any, count: int, options: Any, values: Any) -> int:
        given = {options[place]: values[place] for place in range(count)}
        text = self.ffi.string(self.ffi.cast("char *", image)).decode()
        try:
            program = Program(text)
        except CompileError as error:
            size = self._number(given[JIT_LOG_SIZE])
            log = str(error).encode()[: size - 1] + b"\0"
            self.ffi.memmove(given[JIT_LOG], log, len(log))
            return 218
        handle = self._handle()
        self.modules[handle] = program
        module[0] = self.ffi.cast("CUmodule", handle)
        return 0

    def cuModuleGetFunction(self, function: Any, module: Any, name: Any) -> int:
        assert bytes(name) == self.modules[self._number(module)].entry.name.encode()
        function[0] = self.ffi.cast("CUfunction", self._number(module))
        return 0

    def cuModuleUnload(self, module: Any) -> int:
        del self.modules[self._number(module)]
        return 0

    def cuLaunchKernel(self, function: Any, *rest: Any) -> int:
        *geometry, stream, parameters, extra = rest
        program = self.modules[self._number(function)]
        if parameters != self.ffi.NULL or self._number(stream) not in self.streams or geometry[0] == 0:
            return 1
        if geometry[3] != program.entry.lanes or [self._number(extra[i]) for i in (0, 2, 4)] != [1, 2, 0]:
            return 1
        size = self.ffi.cast("size_t *", extra[3])[0]
        self.launches.append(tuple(geometry))
        try:
            launch(program, self.memory, bytes(self.ffi.buffer(extra[1], size)), geometry[0])
        except EmulatorFault:
            self.fail = dict.fromkeys(("cuStreamQuery", "cuStreamSynchronize"), 700)
        return 0
