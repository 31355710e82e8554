"""A device small enough to be obviously right: the kernel's registers are NumPy arrays with one element per lane.

It knows what the harness's tests need of the base forms and nothing of portkit's reference. Faults are added by
subclasses and chosen by the kernel's name.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from portkit.contract import ALIGNMENT, Capabilities, DeviceInfo
from portkit.errors import CompileError, InvalidHandle, OutOfMemory
from portkit.spec.kernel import Instr, Kernel

Array = np.ndarray[Any, Any]
MEMORY = 1 << 32

OPS: dict[str, Callable[..., Array]] = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "mul.hi": lambda a, b: (a.astype(np.int64) * b >> 32).astype(a.dtype),
    "reduce.max": lambda *a: np.maximum.reduce(a),
    "reduce.min": lambda *a: np.minimum.reduce(a),
    "reduce.and": lambda *a: np.bitwise_and.reduce(a),
    "phi.lt": lambda a, b, x, y: np.where(a < b, x, y),
    "phi.eq": lambda a, b, x, y: np.where(a == b, x, y),
}


class Program:
    """A compiled kernel: the kernel itself."""

    def __init__(self, kernel: Kernel) -> None:
        unknown = sorted(
            {i.name for i in kernel.body}
            - OPS.keys()
            - {"mov.const", "mov.bits", "load", "store", "store.atomic.max", "loop.grid", "loop.lane", "endloop"}
        )
        if unknown:
            raise CompileError(f"the evaluator does not know {' '.join(unknown)}")
        self.kernel = kernel
        self.source = f"evaluator of {kernel.name}"

    def release(self) -> None:
        """Nothing is held."""


class Evaluator:
    """A `contract.Device` over NumPy."""

    thread_safe = False
    info = DeviceInfo("NumPy evaluator", driver="1", compiler="none")

    def __init__(self) -> None:
        self.buffers: dict[int, bytearray] = {}
        self.numbers = itertools.count(1)

    def allocate(self, size: int, align: int = ALIGNMENT) -> int:
        if size < 0 or size > MEMORY:
            raise OutOfMemory(f"{size} bytes")
        handle = next(self.numbers)
        self.buffers[handle] = bytearray(size)
        return handle

    def free(self, handle: int) -> None:
        self._range(handle, 0, 0)
        del self.buffers[handle]

    def _range(self, handle: int, offset: int, size: int) -> slice:
        if handle not in self.buffers:
            raise InvalidHandle(f"no buffer {handle}")
        if min(offset, size) < 0 or offset + size > len(self.buffers[handle]):
            raise InvalidHandle(f"bytes {offset}..{offset + size} of {len(self.buffers[handle])}")
        return slice(offset, offset + size)

    def write(self, handle: int, offset: int, data: bytes | memoryview) -> None:
        self.buffers.get(handle, b"")
        where = self._range(handle, offset, len(data))
        self.buffers[handle][where] = data

    def read(self, handle: int, offset: int, size: int) -> bytes:
        where = self._range(handle, offset, size)
        return bytes(self.buffers[handle][where])

    def copy(self, target: int, target_offset: int, source: int, source_offset: int, size: int) -> None:
        self.write(target, target_offset, self.read(source, source_offset, size))

    def compile(self, kernel: Kernel) -> Program:
        return Program(kernel)

    def launch(
        self, executable: Program, grid: Sequence[int], buffers: Sequence[int], scalars: Sequence[int | float]
    ) -> None:
        kernel = executable.kernel
        memory = {
            b.name: np.frombuffer(self.buffers[h], b.dtype.numpy) for b, h in zip(kernel.buffers, buffers, strict=True)
        }
        counts = (*grid, *kernel.lane_counts)
        if prod(counts):
            self.run(kernel, counts, memory, dict(zip((s.name for s in kernel.scalars), scalars, strict=True)))

    def run(
        self, kernel: Kernel, counts: tuple[int, ...], memory: dict[str, Array], scalars: dict[str, int | float]
    ) -> None:
        """Execute every instruction once, for all lanes."""
        lanes = prod(counts)
        indices = iter(np.indices(counts, np.int32).reshape(len(counts), lanes))
        values = {s.name: np.full(lanes, scalars[s.name], s.dtype.numpy) for s in kernel.scalars}
        for instr in kernel.body:
            if instr.name in ("loop.grid", "loop.lane"):
                values[instr.result] = next(indices)
            elif instr.type is not None:
                values[instr.result] = self.value(instr, lanes, values, memory)
            elif instr.name.startswith("store"):
                self.store(instr, values, memory)

    def value(self, instr: Instr, lanes: int, values: dict[str, Array], memory: dict[str, Array]) -> Array:
        assert instr.type is not None
        dtype = instr.type.dtype
        if instr.name == "mov.const":
            return np.full(lanes, np.frombuffer(instr.imms[0].to_bytes(dtype.bytes, "little"), dtype.numpy)[0])
        if instr.name == "mov.bits":
            return values[instr.args[0]].view(dtype.numpy)
        if instr.name != "load":
            return OPS[instr.name](*(values[a] for a in instr.args))
        index = values[instr.args[0]]
        if not instr.gate:
            return memory[instr.mems[0]][index]
        gate, other = values[instr.gate], values[instr.other]
        return np.where(gate, memory[instr.mems[0]][np.where(gate, index, 0)], other) if gate.any() else other

    def store(self, instr: Instr, values: dict[str, Array], memory: dict[str, Array]) -> None:
        index, value = (values[a] for a in instr.args)
        if instr.gate:
            index, value = index[values[instr.gate]], value[values[instr.gate]]
        if instr.name == "store.atomic.max":
            np.maximum.at(memory[instr.mems[0]], index, value)
        else:
            memory[instr.mems[0]][index] = value

    def synchronise(self, timeout: float) -> None:
        """Everything is done when `launch` returns."""

    def reset(self) -> None:
        self.buffers.clear()

    def close(self) -> None:
        self.buffers.clear()


CAPABILITIES = Capabilities("evaluator", "1", "portkit's tests", "stand-in")


class FakeBackend:
    """A backend around any device class."""

    def __init__(
        self,
        device: Callable[[], object],
        capabilities: Capabilities = CAPABILITIES,
        reason: str | None = None,
    ) -> None:
        self.name = capabilities.name
        self.capabilities = capabilities
        self.device = device
        self.reason = reason

    def probe(self) -> str | None:
        return self.reason

    def open(self) -> Any:
        return self.device()
