"""A model of the device on the host: the text of a kernel is compiled as C++ and its threads run as fibers.

It shares authors with the printer, so that a common error can hide: its evidence is `own-model`.
"""

from __future__ import annotations

import itertools
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache, reduce
from pathlib import Path
from typing import Any

from cffi import FFI

from portkit.backends.drivers.device import CheckedDevice
from portkit.backends.drivers.host_memory import HostArrays
from portkit.backends.metal.printer import ENTRY, MSL, SHARED_BLOCK, Printed, print_msl
from portkit.backends.toolkit.c_lanes import LaneDialect
from portkit.backends.toolkit.host import usable_processors
from portkit.backends.toolkit.host_compiler import find_compiler, shared_library
from portkit.contract import Capabilities, Code, DeviceInfo, Limits
from portkit.errors import CompileError, DeviceError
from portkit.spec.kernel import Kernel

_HERE = Path(__file__).parent
_FLAGS = (
    "-shared", "-fPIC", "-O1", "-std=c++17", "-w", "-march=native", "-ffp-contract=off", "-fno-math-errno",
    "-fno-strict-aliasing", "-fsigned-char", "-fno-exceptions", "-fno-rtti",
)  # fmt: skip
_HOST_TEXT = (("#include <metal_stdlib>", ""), (SHARED_BLOCK, ""))
"""What no macro can hide: `threadgroup` is an attribute there, and a qualifier elsewhere."""
_BARRIER = "threadgroup_barrier("
_FAILURES = {1: "the threads of a threadgroup did not meet at the same barrier", 2: "no memory for threads"}
_FEW = 4096
"""Threads that are not worth waking another processor for."""


def open_model(capabilities: Capabilities) -> CheckedDevice[Any]:
    """Open the model of the device.

    Raises:
        CompileError: the C++ compiler does not compile what runs the threads.
        CannotRunHere: there is no C++ compiler.
    """
    return CheckedDevice(ModelDriver(capabilities), ModelCompiler(capabilities.limits), {ModelError: DeviceError})


class ModelError(Exception):
    """The model found that a kernel does what Metal leaves undefined."""


@cache
def runner() -> bytes:
    """Return the shared library that runs threads. Raises `CompileError`, `CannotRunHere`."""
    return shared_library((_HERE / "lanes.cpp").read_bytes(), ".cpp", _FLAGS)


@cache
def _shim() -> str:
    return (_HERE / "shim.h").read_text(encoding="utf-8")


class ModelCompiler:
    """Compiles the Metal text of a kernel for the host."""

    def __init__(self, limits: Limits, dialect: LaneDialect = MSL) -> None:
        """Refuse, as Metal does, what is beyond the limits."""
        self._limits = limits
        self._dialect = dialect

    def compile(self, kernel: Kernel) -> Code:
        """Compile a kernel that fits the capabilities."""
        printed = print_msl(kernel, self._dialect)
        for field in ("lanes", "shared_bytes", "buffers"):
            asked, most = getattr(printed, field), getattr(self._limits, field)
            if asked > most:
                raise CompileError(f"kernel {kernel.name} asks for {asked} {field}, the device has {most}")
        source = reduce(lambda text, pair: text.replace(*pair), _HOST_TEXT, printed.text)
        return Code(printed.text, shared_library(f"{_shim()}{source}{_host_entry(printed)}".encode(), ".cpp", _FLAGS))


def _host_entry(printed: Printed) -> str:
    """Return what the host needs of a kernel: numbers, and a function that unpacks the arguments of one thread."""
    given = [f"portkit_address{{words[{place}]}}" for place in range(printed.buffers)]
    given += [f"words + {printed.buffers}", "group", "lane", *(["shared"] if printed.shared_bytes else [])]
    meets = int(_BARRIER in printed.text)
    return (
        'extern "C" {\n'
        "void (*portkit_meet)();\n"
        f"extern const uint portkit_shape[] = {{{printed.lanes}, {printed.shared_bytes}, {meets}}};\n"
        "void portkit_thread(const ulong* words, uint group, uint lane, uchar* shared) {\n"
        f"    {ENTRY}({', '.join(given)});\n"
        "}\n}\n"
    )


_DECLARATIONS = """
    extern void (*portkit_meet)(void);
    extern const unsigned portkit_shape[3];
    void portkit_thread(const uint64_t *, unsigned, unsigned, unsigned char *);
    void meet(void);
    int run(void (*)(const uint64_t *, unsigned, unsigned, unsigned char *), const uint64_t *, unsigned, size_t, int,
            unsigned, unsigned);
"""


class ModelDriver(HostArrays):
    """The host's memory and processors. What is started is complete on return, so that there is nothing to wait for."""

    def __init__(self, capabilities: Capabilities) -> None:
        """Compile what runs the threads, and start one Python thread for each processor."""
        super().__init__(capabilities.limits.buffer_bytes)
        self._ffi = FFI()
        self._ffi.cdef(_DECLARATIONS)
        self._capabilities = capabilities
        self._folder = tempfile.TemporaryDirectory(prefix="portkit-metal-")
        self._loaded = 0
        self._runner: Any = self.load(runner())
        self._workers = len(usable_processors())
        self._pool = ThreadPoolExecutor(self._workers, "portkit-metal")

    def info(self) -> DeviceInfo:
        """Return what stands for the device here."""
        return DeviceInfo(
            device="model of an Apple GPU on the host",
            driver=f"portkit metal {self._capabilities.version}",
            compiler=compiler_version(),
        )

    def load(self, binary: bytes) -> Any:
        """Link a kernel into this process; the file can go once it is mapped."""
        self._loaded += 1
        path = Path(self._folder.name, f"{self._loaded}.so")
        path.write_bytes(binary)
        try:
            return self._ffi.dlopen(str(path))
        finally:
            path.unlink()

    def unload(self, program: Any) -> None:
        """Unlink a kernel."""
        self._ffi.dlclose(program)

    def start(self, program: Any, arguments: bytes, groups: int, scratch: int) -> None:
        """Run the threadgroups, a range of them on each processor, and return when they are done."""
        lanes, shared_bytes, meets = program.portkit_shape
        program.portkit_meet = self._runner.meet
        words = self._ffi.from_buffer("uint64_t[]", arguments + bytes(8))
        entry = self._ffi.addressof(program, "portkit_thread")

        def run(begin: int, end: int) -> int:
            return self._runner.run(entry, words, lanes, shared_bytes, meets, begin, end)

        parts = self._workers if groups * lanes > _FEW else 1
        bounds = [groups * part // parts for part in range(parts + 1)]
        rest = [self._pool.submit(run, *pair) for pair in itertools.pairwise(bounds[1:])]
        statuses = [run(*bounds[:2]), *(part.result() for part in rest)]
        if failed := max(statuses):
            raise ModelError(_FAILURES[failed])

    def wait(self, timeout: float) -> None:
        """Return at once."""

    def close(self) -> None:
        """End the threads, and remove the folder."""
        self._pool.shutdown()
        self._ffi.dlclose(self._runner)
        self._folder.cleanup()


def compiler_version() -> str:
    """Return the first line of what the C++ compiler says of itself."""
    said = subprocess.run([*find_compiler(), "--version"], capture_output=True, text=True, check=False)
    return said.stdout.partition("\n")[0]
