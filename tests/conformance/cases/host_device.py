"""A device in this process that computes with the reference, and variants of it that are wrong in one way each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from portkit.contract import Capabilities, DeviceInfo, NumericLimits
from portkit.errors import DeviceError, InvalidHandle, OutOfMemory, PortkitError
from portkit.reference.values import run
from portkit.spec.kernel import Kernel
from portkit.spec.types import DTYPES
from portkit.spec.verify import verify

FLOATS = ("f32", "f16", "bf16", "f64")
NUMBERS = tuple(name for name in DTYPES if name != "bool")
ARITHMETIC = tuple(name for name in NUMBERS if not name.startswith("f8"))
BASE = Capabilities(name="base", version="1", vendor="nobody", evidence="own-model")
MAXIMAL = Capabilities(
    name="maximal",
    version="1",
    vendor="nobody",
    evidence="own-model",
    dtypes=tuple(DTYPES),
    extensions=("vec", "group", "fma", "math", "atomic"),
    lanes=(2, 3, 4, 8, 16, 64),
    math=dict.fromkeys(("recip", "sqrt", "rsqrt", "exp2", "log2", "sin", "trunc"), FLOATS),
    atomic=dict.fromkeys(("add", "max", "min"), ARITHMETIC),
    numeric=NumericLimits(strict=True),
)


class HostExecutable:
    """A kernel, ready."""

    source = ""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.released = False

    def release(self) -> None:
        self.released = True


class HostDevice:
    """Does what the contract says; what its methods return is overridden by the variants below."""

    info = DeviceInfo("host")
    capabilities = MAXIMAL

    def __init__(self) -> None:
        self.memory: dict[int, bytearray] = {}
        self.next = 1
        self.executables: list[HostExecutable] = []

    def allocate(self, size: int, align: int = 64) -> int:
        if size < 0:
            raise DeviceError("negative size")
        if size > 1 << 40:
            raise OutOfMemory("no room")
        handle, self.next = self.next, self.next + 1
        self.memory[handle] = bytearray(size)
        return handle

    def buffer(self, handle: int, offset: int = 0, size: int = 0) -> bytearray:
        if handle not in self.memory:
            raise InvalidHandle("no such buffer")
        if offset < 0 or size < 0 or offset + size > len(self.memory[handle]):
            raise InvalidHandle("outside of the buffer")
        return self.memory[handle]

    def free(self, handle: int) -> None:
        self.buffer(handle)
        del self.memory[handle]

    def write(self, handle: int, offset: int, data: bytes | memoryview) -> None:
        self.buffer(handle, offset, len(data))[offset : offset + len(data)] = data

    def read(self, handle: int, offset: int, size: int) -> bytes:
        return bytes(self.buffer(handle, offset, size)[offset : offset + size])

    def copy(self, target: int, target_offset: int, source: int, source_offset: int, size: int) -> None:
        self.buffer(target, target_offset, size)
        self.write(target, target_offset, self.read(source, source_offset, size))

    def compile(self, kernel: Kernel) -> HostExecutable:
        verify(kernel)
        self.executables.append(HostExecutable(kernel))
        return self.executables[-1]

    def launch(
        self, executable: HostExecutable, grid: Sequence[int], buffers: Sequence[int], scalars: Sequence[int | float]
    ) -> None:
        if executable not in self.executables or executable.released:
            raise InvalidHandle("no such executable")
        kernel = executable.kernel
        named = dict(zip((s.name for s in kernel.scalars), scalars, strict=True))
        arrays = {
            b.name: np.frombuffer(bytes(self.buffer(h)), dtype=b.dtype.numpy)
            for b, h in zip(kernel.buffers, buffers, strict=True)
        }
        after = run(kernel, named, arrays)
        for b, handle in zip(kernel.buffers, buffers, strict=True):
            if b.access != "read":
                self.memory[handle][:] = after[b.name].tobytes()

    def synchronise(self, timeout: float | None = None) -> None:
        del timeout

    def leave(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.memory.clear()
        self.executables.clear()


Change = Callable[[HostDevice], None]


def variant(**methods: Callable[..., Any]) -> HostDevice:
    """Return a device of which some methods are replaced; each gets the original one first, then its arguments."""
    device = HostDevice()
    for name, method in methods.items():
        original = getattr(device, name)
        setattr(device, name, lambda *args, m=method, o=original: m(o, *args))
    return device


def swallow(original: Callable[..., Any], *args: Any) -> Any:
    """Call a method and hide our errors: what a driver without checks does."""
    try:
        return original(*args)
    except PortkitError:
        return 0 if len(args) == 1 else b""
