"""The host as a device: kernels are shared libraries, made by the C compiler and called by threads of this process."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from cffi import FFI

from portkit.backends.c.vectors import DIALECT
from portkit.backends.drivers.device import CheckedDevice
from portkit.backends.drivers.host_memory import HostArrays
from portkit.backends.toolkit.c_kernel import print_c_kernel
from portkit.backends.toolkit.host import usable_processors
from portkit.backends.toolkit.host_compiler import find_compiler, shared_library
from portkit.contract import Capabilities, Code, DeviceInfo
from portkit.errors import CannotRunHere, DeviceError, OutOfMemory
from portkit.spec.kernel import Kernel

_DECLARATIONS = """
typedef void kernel_function(const void *args, int64_t begin, int64_t end, void *scratch);
void *dlopen(const char *file, int mode);
void *dlsym(void *library, const char *name);
int dlclose(void *library);
char *dlerror(void);
"""
"""The system's own loader: cffi's keeps a little of each library for ever."""
_EXACT = ("-ffp-contract=off", "-fno-strict-aliasing", "-fno-math-errno", "-fno-trapping-math")
"""No operation is contracted; nobody reads `errno` or the flags of exceptions. Integers are unsigned and wrap."""
_FLAGS = ("-shared", "-fPIC", "-std=gnu11", "-w", *_EXACT)
_NATIVE = {
    "x86_64": ("-march=native", "-mprefer-vector-width=512"),
    "aarch64": ("-mcpu=native",),
    "arm64": ("-mcpu=native",),
}
"""By processor family, what makes the compiler use all of this processor."""
_QUICK, _FULL = ("-O1", "-ftree-slp-vectorize"), ("-O3",)
"""The quick way takes a tenth of the time and keeps vectors as they are written; the full one makes loops vectors."""
_MANY_LANES = 32
_LONG_BODY = 300
_SHARES = 4
"""Ranges of work-groups for each thread, so that none waits long for the others."""
_ALIGN = 128
"""Bytes at a multiple of which scratch memory starts: no two threads share a cache line."""


def open_host(capabilities: Capabilities) -> CDevice:
    """Start the threads and return the device."""
    return CheckedDevice(HostDriver(capabilities), HostCompiler(), {MemoryError: OutOfMemory, OSError: DeviceError})


class HostCompiler:
    """Compiles kernels with the C compiler of the system."""

    def compile(self, kernel: Kernel) -> Code:
        """Compile a kernel that fits the capabilities.

        The loops over many lanes are made vectors, which takes the compiler longer.
        """
        printed = print_c_kernel(kernel, DIALECT)
        effort = _FULL if kernel.lanes >= _MANY_LANES and len(kernel.body) <= _LONG_BODY else _QUICK
        flags = (*_FLAGS, *_NATIVE.get(platform.machine(), ()), *effort)
        return Code(printed.text, shared_library(printed.text.encode(), flags=flags), printed.scratch)


class Library(NamedTuple):
    """A loaded kernel: the handle of its library, and its function."""

    handle: Any
    kernel: Any


CDevice: TypeAlias = CheckedDevice[Library]


class HostDriver(HostArrays):
    """The host's processors. Whatever is started is complete on return, so that there is nothing to wait for."""

    def __init__(self, capabilities: Capabilities) -> None:
        """Start the threads; the one that launches is another of them."""
        super().__init__(capabilities.limits.buffer_bytes)
        self._version = capabilities.version
        self.ffi = FFI()
        self.ffi.cdef(_DECLARATIONS)
        self._system: Any = self.ffi.dlopen(None)
        self._dlerror = self._system.dlerror  # to look for it later would clear what it has to tell
        self._threads = len(usable_processors())
        self._pool = ThreadPoolExecutor(max(1, self._threads - 1), "portkit-c")
        self._memory: list[Any] = []
        self._blocks: list[Any] = []
        self._scratch_size = -1

    def info(self) -> DeviceInfo:
        """Return what processor this is, and what compiles for it."""
        compiler = [*find_compiler(), "--version"]
        told = subprocess.run(compiler, capture_output=True, text=True, check=False)
        if told.returncode:
            raise CannotRunHere(f"{' '.join(compiler)} ended with status {told.returncode}: it is no C compiler")
        processor = _processor()
        return DeviceInfo(
            device=f"{processor.get('model name', 'host')} ({platform.machine()}), {self._threads} threads",
            driver=f"portkit c {self._version}",
            compiler=told.stdout.partition("\n")[0],
            extra={"features": processor.get("flags") or processor.get("features", "")},
        )

    def load(self, binary: bytes) -> Library:
        """Link a kernel into this process; its file is gone at once."""
        with tempfile.TemporaryDirectory(prefix="portkit-c-") as folder:
            file = Path(folder, "kernel.so")
            file.write_bytes(binary)
            handle = self._system.dlopen(os.fsencode(file), os.RTLD_NOW | os.RTLD_LOCAL)
        function = self._system.dlsym(handle, b"kernel") if handle else None
        if not function:
            words: Any = self.ffi.string(self._dlerror())
            raise OSError(words.decode(errors="replace"))
        return Library(handle, self.ffi.cast("kernel_function *", function))

    def unload(self, program: Library) -> None:
        """Unlink a kernel."""
        self._system.dlclose(program.handle)

    def start(self, program: Library, arguments: bytes, groups: int, scratch: int) -> None:
        """Run the work-groups on all processors and return when they are done; calls release the interpreter."""
        blocks, words = self.scratch(scratch), self.ffi.from_buffer(arguments)
        shares = min(groups, _SHARES * self._threads)
        ends = iter([(groups * share // shares, groups * (share + 1) // shares) for share in range(shares)])

        def work(thread: int) -> None:
            for begin, end in ends:
                program.kernel(words, begin, end, blocks[thread])

        others = [self._pool.submit(work, thread) for thread in range(1, min(self._threads, shares))]
        work(0)
        for other in others:
            other.result()

    def scratch(self, size: int) -> list[Any]:
        """Return a block of at least so many bytes for each thread, kept for the next launch."""
        if size > self._scratch_size:
            self._memory = [self.ffi.new("char[]", size + _ALIGN) for _ in range(self._threads)]
            self._blocks = [block + -int(self.ffi.cast("uintptr_t", block)) % _ALIGN for block in self._memory]
            self._scratch_size = size
        return self._blocks

    def wait(self, timeout: float) -> None:
        """Return at once."""

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()


def _processor() -> dict[str, str]:
    """Return what Linux tells of the first processor; elsewhere nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").partition("\n\n")[0].splitlines()
    except OSError:
        lines = []
    pairs = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
