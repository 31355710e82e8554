"""The device: the shared checks over one qemu-riscv64 process, and the compiler that needs nothing but the kernel."""

from __future__ import annotations

import struct

from portkit.backends.drivers.device import CheckedDevice, Errors
from portkit.backends.riscv.kernel import compile_kernel
from portkit.backends.riscv.resident import CODE, CODE_LOG2, DATA, PAYLOAD, resident
from portkit.contract import Code, DeviceInfo
from portkit.emulators.qemu import Qemu, Space
from portkit.errors import DeviceHang, DeviceLost, OutOfMemory
from portkit.spec.kernel import Kernel

_COMMAND = "qemu-riscv64"
_CPU = "rv64,v=true,vlen={},elen=64,vext_spec=v1.0"
_MEMORY_LOG2 = 32
_ERRORS: Errors = {MemoryError: OutOfMemory, TimeoutError: DeviceHang, ChildProcessError: DeviceLost}


def open_emulator(vlen: int) -> CheckedDevice[int]:
    """Start an emulator whose vector registers have `vlen` bits. Raises `CannotRunHere`."""
    return CheckedDevice(device := RiscvDevice(vlen), device, _ERRORS)


class RiscvDevice(Qemu):
    """Driver and compiler: the emulator with the program that stays in it; a loaded kernel is its address."""

    def __init__(self, vlen: int) -> None:
        """Start it. Raises `CannotRunHere`."""
        self._vlen = vlen
        self._kernels = Space(CODE, 1 << CODE_LOG2, "memory for kernels")
        self._return = resident(0, _MEMORY_LOG2)[1]
        super().__init__(_COMMAND, _CPU.format(vlen), DATA, _MEMORY_LOG2, lambda file: resident(file, _MEMORY_LOG2)[0])
        self._scratch = (self.allocate(0, 64), 0)

    def info(self) -> DeviceInfo:
        """Return which emulator this is, and how long its vectors are."""
        device = f"RV64IMAFV, vectors of {self._vlen} bits, one hart"
        return DeviceInfo(device, self.version(), "portkit riscv 1.0, no assembler", {"vlen": str(self._vlen)})

    def compile(self, kernel: Kernel) -> Code:
        """Compile a kernel for vectors of any length."""
        return compile_kernel(kernel)

    def load(self, binary: bytes) -> int:
        """Let the guest put a kernel into its memory."""
        address = self._kernels.take(len(binary))
        self._command(address, binary, self._return, 0)
        return address

    def unload(self, program: int) -> None:
        """Let another kernel have the place, once what was started is done: commands run in order."""
        self._kernels.give(program)

    def start(self, program: int, arguments: bytes, groups: int, scratch: int) -> None:
        """Start the work-groups."""
        if scratch > self._scratch[1]:
            bigger = self.allocate(scratch, 64)
            self.free(self._scratch[0])
            self._scratch = (bigger, scratch)
        self._command(PAYLOAD, arguments + struct.pack("<Q", groups), program, self._scratch[0])

    def _command(self, place: int, payload: bytes, entry: int, scratch: int) -> None:
        self.send(struct.pack("<QQQQ", place, len(payload), entry, scratch) + payload)
