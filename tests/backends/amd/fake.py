"""A stand-in for AMD's HIP library, whose kernels the interpreter of gfx942 executes: a method for each function."""

from __future__ import annotations

from typing import Any

from portkit.backends.amd import hip
from portkit.emulators.gcn import GcnKernel
from portkit.emulators.memory import Arena

SUCCESS, OUT_OF_MEMORY, INVALID_IMAGE, NOT_READY = 0, 2, 200, 600
_NAMES = {
    2: ("hipErrorOutOfMemory", "out of memory"),
    100: ("hipErrorNoDevice", "no ROCm-capable device is detected"),
    200: ("hipErrorInvalidImage", "device kernel image is invalid"),
    700: ("hipErrorIllegalAddress", "an illegal memory access was encountered"),
    702: ("hipErrorLaunchTimeOut", "the launch timed out and was terminated"),
    719: ("hipErrorLaunchFailure", "unspecified launch failure"),
}
PROPERTIES = b"AMD Instinct\0\0\0gfx942:sramecc+:xnack-\0"


def new_ffi() -> Any:
    """Return cffi's interface with HIP's declarations, and no library."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(hip._DECLARATIONS)
    return ffi


class FakeHip:
    """Counts what is alive; `fail` gives a function's next results, `busy` how often a stream is not ready."""

    def __init__(self, ffi: Any) -> None:
        self.ffi = ffi
        self.memory = Arena(1 << 20)
        self.fail: dict[str, int] = {}
        self.busy = -1
        self.devices = 1
        self.properties = PROPERTIES
        self.live: set[int] = set()
        self.modules: dict[int, GcnKernel] = {}
        self.streams = 0
        self.launches: list[tuple[int, ...]] = []
        self._texts: dict[int, Any] = {}

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        return (lambda *args: self.fail[name]) if name.startswith("hip") and name in self.fail else found

    # --- errors and properties ------------------------------------------------------------------------------------

    def hipInit(self, flags: int) -> int:
        return SUCCESS

    def hipGetErrorName(self, error: int) -> Any:
        return self._text(error, 0)

    def hipGetErrorString(self, error: int) -> Any:
        return self._text(error, 1)

    def _text(self, error: int, which: int) -> Any:
        if error not in _NAMES:
            return self.ffi.NULL
        return self._texts.setdefault(2 * error + which, self.ffi.new("char[]", _NAMES[error][which].encode()))

    def hipRuntimeGetVersion(self, version: Any) -> int:
        version[0] = 60_240_000
        return SUCCESS

    def hipGetDeviceCount(self, count: Any) -> int:
        count[0] = self.devices
        return SUCCESS

    def hipDeviceGetName(self, name: Any, size: int, device: int) -> int:
        self.ffi.buffer(name)[:9] = b"Fake GPU\0"
        return SUCCESS

    def hipGetDevicePropertiesR0600(self, properties: Any, device: int) -> int:
        self.ffi.buffer(properties)[: len(self.properties)] = self.properties
        return SUCCESS

    # --- streams and memory ---------------------------------------------------------------------------------------

    def hipStreamCreateWithFlags(self, stream: Any, flags: int) -> int:
        self.streams += 1
        stream[0] = self.ffi.cast("void *", 7)
        return SUCCESS

    def hipStreamQuery(self, stream: Any) -> int:
        self.busy -= self.busy >= 0
        return NOT_READY if self.busy >= 0 else SUCCESS

    def hipStreamSynchronize(self, stream: Any) -> int:
        return SUCCESS

    def hipStreamDestroy(self, stream: Any) -> int:
        self.streams -= 1
        return SUCCESS

    def hipMalloc(self, address: Any, size: int) -> int:
        if size > self.memory.capacity // 2:
            return OUT_OF_MEMORY
        place = self.memory.allocate(size)
        self.live.add(place)
        address[0] = self.ffi.cast("void *", place)
        return SUCCESS

    def hipFree(self, address: Any) -> int:
        place = self._number(address)
        self.live.remove(place)
        self.memory.free(place)
        return SUCCESS

    def hipMemcpyAsync(self, target: Any, source: Any, size: int, kind: int, stream: Any) -> int:
        data = bytes(self.ffi.buffer(source, size)) if kind == 1 else self.memory.read(self._number(source), size)
        if kind == 2:
            self.ffi.buffer(target, size)[:] = data
        else:
            self.memory.write(self._number(target), data)
        return SUCCESS

    def _number(self, pointer: Any) -> int:
        return int(self.ffi.cast("uintptr_t", pointer))

    # --- kernels --------------------------------------------------------------------------------------------------

    def hipModuleLoadData(self, module: Any, image: Any) -> int:
        text = bytes(self.ffi.buffer(image))
        if b"amdgcn" not in text:
            return INVALID_IMAGE
        number = len(self.modules) + 1
        self.modules[number] = GcnKernel(text.decode())
        module[0] = self.ffi.cast("void *", number)
        return SUCCESS

    def hipModuleGetFunction(self, function: Any, module: Any, name: bytes) -> int:
        assert name == b"kernel"
        function[0] = module
        return SUCCESS

    def hipModuleUnload(self, module: Any) -> int:
        del self.modules[self._number(module)]
        return SUCCESS

    def hipModuleLaunchKernel(self, function: Any, *rest: Any) -> int:
        *geometry, _, parameters, extra = rest
        assert parameters == self.ffi.NULL
        assert [self._number(extra[place]) for place in (0, 2, 4)] == [1, 2, 3]  # pointer, size, end
        size = self.ffi.cast("size_t *", extra[3])[0]
        self.launches.append(tuple(geometry))
        arguments = bytes(self.ffi.buffer(extra[1], size))
        self.modules[self._number(function)].run(self.memory, arguments, geometry[0], geometry[3])
        return SUCCESS
