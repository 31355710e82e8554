"""Hand-written programs over vectors of f32, and backends that lack what is optional, for tests of the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portkit.backends.cpu import BACKEND
from portkit.compiler.index import Variable
from portkit.compiler.program import Launch, Program, Role, Slot
from portkit.compiler.storage import Storage
from portkit.contract import Backend, Capabilities, Device
from portkit.runtime.buffers import Buffer, from_array
from portkit.runtime.devices import RuntimeDevice
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel
from portkit.spec.types import F32

COUNT = 256
LANES = 32
N = Variable("n", 0, COUNT)


def adding(step: float, name: str = "adding") -> Kernel:
    """y = x + step, for COUNT elements."""
    b = Builder(name)
    x, y = b.buffer("x", "f32", COUNT, "read"), b.buffer("y", "f32", COUNT, "write")
    index = b.add(b.mul(b.grid(COUNT // LANES), b.const("i32", LANES)), b.lane(LANES))
    b.store(y, index, b.add(b.load(x, index), b.const("f32", step)))
    return b.build()


def scaling() -> Kernel:
    """z = (x + y) * factor, for n elements, one group each."""
    b = Builder("scaling")
    x, y, z = (b.buffer(name, "f32", "n", "write" if name == "z" else "read") for name in "xyz")
    n, factor = b.scalar("n", "i32"), b.scalar("factor", "f32")
    index = b.grid(n)
    b.lane(1)
    b.store(z, index, b.mul(b.add(b.load(x, index), b.load(y, index)), factor))
    return b.build()


def slot(role: Role, count: int | Variable = COUNT) -> Slot:
    size = 4 * count
    return Slot(size, role, F32, (count,), Storage(F32))


def chain(length: int, step: float = 1.0) -> Program:
    """y = x + length * step, through length - 1 temporaries."""
    roles: list[Role] = ["input", *["temporary"] * (length - 1), "output"]  # type: ignore[list-item]
    kernel = adding(step)
    launches = tuple(Launch(kernel, (COUNT // LANES,), (at, at + 1)) for at in range(length))
    return Program(launches, tuple(map(slot, roles)), (0,), (length,))


def dynamic() -> Program:
    """z = ((x + y) * 0.5 + y) * 2 over n elements."""
    kernel = scaling()
    slots = (slot("input", N), slot("input", N), slot("temporary", N), slot("output", N))
    first, second = Launch(kernel, (), (0, 1, 2), (N, 0.5)), Launch(kernel, (N,), (2, 1, 3), (N, 2.0))
    return Program((first, second), slots, (0, 1), (3,))


def given(device: RuntimeDevice, *values: float, count: int = COUNT) -> list[Buffer]:
    """Buffers that are full of one value each."""
    return [from_array(device, np.full(count, value, np.float32), copy=True) for value in values]


def told(buffer: Buffer, count: int = COUNT) -> NDArray[Any]:
    return buffer.array(np.float32, (count,), copy=True)


_REQUIRED = ("allocate", "free", "write", "read", "copy", "compile", "launch", "synchronise", "reset", "close")


class Limited:
    """A device that has the functions of the contract, and of the optional ones those that are named."""

    thread_safe = False

    def __init__(self, device: Device, also: Sequence[str] = ()) -> None:
        self.info = device.info
        self.calls: list[str] = []
        for name in (*_REQUIRED, *also):
            setattr(self, name, self._counted(name, getattr(device, name)))

    def _counted(self, name: str, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            return function(*arguments)

        return call


class LimitedBackend:
    """The cpu backend, but what it opens is `Limited`."""

    name = "limited"

    def __init__(self, *also: str) -> None:
        self.capabilities: Capabilities = BACKEND.capabilities
        self._also = also

    def probe(self) -> str | None:
        return BACKEND.probe()

    def open(self) -> Any:
        return Limited(BACKEND.open(), self._also)


PLAIN: Backend = LimitedBackend()
PARTS: Backend = LimitedBackend("view")
