"""The driver where there is no GPU: device memory and kernels in portkit's interpreter of gfx942."""

from __future__ import annotations

from dataclasses import dataclass

from portkit.backends.amd.compiler import EMULATED, unpack_binary
from portkit.backends.drivers.device import Driver
from portkit.contract import Capabilities, DeviceInfo
from portkit.emulators.gcn import GcnKernel
from portkit.emulators.memory import Arena

_FIRST_GROUP = bytes(8)
"""The last argument of every kernel: here no grid is too large for one launch."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A kernel that the interpreter has read, and the size of its work-groups."""

    kernel: GcnKernel
    lanes: int


class EmulatedDriver(Driver[Loaded]):
    """Whatever is started is complete on return, so that there is nothing to wait for."""

    def __init__(self, capabilities: Capabilities, reason: str) -> None:
        """Emulate a chip with the declared memory; `reason` says why there is no GPU."""
        self._capabilities = capabilities
        self._reason = reason
        self._memory = Arena(capabilities.limits.buffer_bytes)

    def info(self) -> DeviceInfo:
        """Return what executes the kernels, and why not a GPU."""
        return DeviceInfo(
            device=f"interpreter of {EMULATED}",
            driver=f"portkit amd {self._capabilities.version}, emulated",
            extra={"emulated": self._reason},
        )

    def allocate(self, size: int, align: int) -> int:
        """Return the address of memory full of garbage."""
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

    def load(self, binary: bytes) -> Loaded:
        """Read assembler text."""
        lanes, text = unpack_binary(binary)
        return Loaded(GcnKernel(text.decode()), lanes)

    def unload(self, program: Loaded) -> None:
        """Nothing is held for a kernel."""

    def start(self, program: Loaded, arguments: bytes, groups: int, scratch: int) -> None:
        """Run the work-groups, and return when they are done."""
        program.kernel.run(self._memory, arguments + _FIRST_GROUP, groups, program.lanes)

    def wait(self, timeout: float) -> None:
        """Return at once."""

    def close(self) -> None:
        """Forget all memory."""
        self._memory = Arena(0)
