"""The driver where there is no GPU: device memory and kernels in portkit's interpreter of PTX."""

from __future__ import annotations

from portkit.backends.drivers.device import Driver
from portkit.contract import Capabilities, DeviceInfo
from portkit.emulators.memory import Arena
from portkit.emulators.ptx import Program, launch
from portkit.errors import OutOfMemory

_BUFFERS = 4
"""How many buffers of the largest size fit into the emulated memory."""
_FIRST_GROUP = bytes(8)
"""The last parameter of every kernel: here no grid is too large for one launch."""


class EmulatedDriver(Driver[Program]):
    """Whatever is started is complete on return, so that there is nothing to wait for."""

    def __init__(self, capabilities: Capabilities, reason: str) -> None:
        """Emulate a chip with the declared memory; `reason` says why there is no GPU."""
        self._capabilities = capabilities
        self._reason = reason
        self._memory = Arena(_BUFFERS * capabilities.limits.buffer_bytes)

    def info(self) -> DeviceInfo:
        """Return what executes the kernels, and why not a GPU."""
        return DeviceInfo(
            device="interpreter of PTX",
            driver=f"portkit cuda {self._capabilities.version}, emulated",
            extra={"emulated": self._reason},
        )

    def allocate(self, size: int, align: int) -> int:
        """Return the address of memory full of garbage. Raises `OutOfMemory`."""
        most = self._capabilities.limits.buffer_bytes
        if size > most:
            raise OutOfMemory(f"{size} bytes are more than the {most} that a buffer may have")
        return self._memory.allocate(size, align)

    def free(self, address: int) -> None:
        """Give memory back."""
        self._memory.free(address)

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Copy from the host."""
        self._memory.write(address, data)

    def read(self, address: int, size: int) -> bytes:
        """Copy to the host."""
        return self._memory.read(address, size)

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy between buffers."""
        self._memory.copy(target, source, size)

    def load(self, binary: bytes) -> Program:
        """Read PTX text."""
        return Program(binary.decode())

    def unload(self, program: Program) -> None:
        """Nothing is held for a kernel."""

    def start(self, program: Program, arguments: bytes, groups: int, scratch: int) -> None:
        """Run the work-groups, and return when they are done."""
        launch(program, self._memory, arguments + _FIRST_GROUP, groups)

    def wait(self, timeout: float) -> None:
        """Return at once."""

    def close(self) -> None:
        """Forget all memory."""
        self._memory = Arena(0)
