"""The device: the shared checks over the emulator, and the compiler that needs nothing but the kernel."""

from __future__ import annotations

from portkit.backends.riscv.emulator import Emulator
from portkit.backends.riscv.kernel import compile_kernel
from portkit.backends.toolkit.device import CheckedDevice, Errors
from portkit.contract import Code
from portkit.errors import DeviceHang, DeviceLost, OutOfMemory
from portkit.spec.kernel import Kernel

_ERRORS: Errors = {MemoryError: OutOfMemory, TimeoutError: DeviceHang, ChildProcessError: DeviceLost}


class RiscvCompiler:
    """Compiles kernels for vectors of any length."""

    def compile(self, kernel: Kernel) -> Code:
        """Compile a kernel that fits the capabilities."""
        return compile_kernel(kernel)


def open_emulator(vlen: int) -> CheckedDevice[int]:
    """Start an emulator whose vector registers have `vlen` bits. Raises `CannotRunHere`."""
    return CheckedDevice(Emulator(vlen), RiscvCompiler(), _ERRORS)
