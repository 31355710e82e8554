"""A port whose driver half is C and runs launches on a queue: `tests.ports.queued:BACKEND`.

The library is looked for where QUEUED_DRIVER says; `tests.ports.building` makes it.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from portkit.contract import Capabilities, Code, Device, load_capabilities
from portkit.errors import CannotRunHere
from portkit.spec.kernel import Kernel

LIBRARY = "QUEUED_DRIVER"
"""The environment variable that names the shared library."""


class Compiler:
    """Kernels to LLVM IR to a shared library of this host."""

    def __init__(self) -> None:
        from portkit.backends.toolkit.host_jit import host_machine
        from portkit.backends.toolkit.llvm import CodeGenerator

        self._generator = CodeGenerator(host_machine())

    def compile(self, kernel: Kernel) -> Code:
        """Compile; raises `CompileError`."""
        from portkit.backends.toolkit.host_compiler import shared_library
        from portkit.backends.toolkit.llvm import Effort
        from portkit.backends.toolkit.llvm_kernel import Target, print_kernel

        printed = print_kernel(kernel, Target(native_half=False))
        code = self._generator.object_code(printed.text, Effort.QUICK)
        return Code(printed.text, shared_library(code, ".o"), printed.scratch)


class QueuedBackend:
    """The port."""

    name = "queued"

    @cached_property
    def capabilities(self) -> Capabilities:
        return load_capabilities(Path(__file__).with_name("capabilities.toml"))

    def probe(self) -> str | None:
        from portkit.backends.drivers.c_driver import DriverLibrary

        if LIBRARY not in os.environ:
            return f"{LIBRARY} names no library; build tests/ports/queued/driver.c"
        try:
            return DriverLibrary(Path(os.environ[LIBRARY])).missing()
        except CannotRunHere as error:
            return str(error)

    def open(self) -> Device:
        if reason := self.probe():
            raise CannotRunHere(reason)
        from portkit.backends.drivers.c_driver import ERRORS, DriverLibrary
        from portkit.backends.drivers.device import CheckedDevice, renamed

        with renamed(ERRORS, "opening the device"):
            return CheckedDevice(DriverLibrary(Path(os.environ[LIBRARY])).open(), Compiler(), ERRORS)


BACKEND = QueuedBackend()
