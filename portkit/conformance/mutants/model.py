"""A correct device in the judge's own process: the reference behind the functions of a device client.

It shows that a mutant's witness distinguishes the fault on a stated model, and needs no backend: copies happen at once,
lanes run in step, the group order is the reference's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from portkit.contract import Capabilities, DeviceInfo
from portkit.errors import DeviceLost, InvalidHandle, InvalidKernelError, OutOfMemory
from portkit.reference.values import run
from portkit.runtime.client import Bytes, DeviceClient, Executed, Guard
from portkit.spec.kernel import Kernel
from portkit.spec.verify import verify


@dataclass(slots=True)
class ModelExecutable:
    """A kernel; `source` is empty, nothing was generated."""

    kernel: Kernel
    life: int
    source: str = ""

    def release(self) -> None:
        """Do nothing."""


class ModelDevice:
    """The functions of a `DeviceClient` on NumPy memory and the reference interpreter."""

    reference = "model"
    name = "model"
    thread_safe = False

    def __init__(self, capabilities: Capabilities) -> None:
        self.capabilities = capabilities
        self.info = DeviceInfo(device="reference interpreter")
        self._buffers: dict[int, memoryview] = {}
        self._next = 1
        self._life = 0

    def as_client(self) -> DeviceClient:
        """Return itself as what the judge takes: it has the functions of a client that the judge and the checks use."""
        return cast("DeviceClient", self)

    def allocate(self, size: int, align: int = 64) -> int:
        """Return a handle to `size` bytes."""
        del align
        if not 0 <= size <= self.capabilities.limits.buffer_bytes:
            raise OutOfMemory(f"no room for {size} bytes")
        self._next += 1
        self._buffers[self._next] = np.zeros(size, np.uint8).data
        return self._next

    def _range(self, handle: int, offset: int, size: int) -> memoryview:
        if handle not in self._buffers or offset < 0 or size < 0 or offset + size > len(self._buffers[handle]):
            raise InvalidHandle(f"{size} bytes at {offset} of buffer {handle} are not there")
        return self._buffers[handle][offset : offset + size]

    def free(self, handle: int) -> None:
        """Forget a buffer."""
        self._range(handle, 0, 0)
        del self._buffers[handle]

    def write(self, handle: int, offset: int, data: Bytes) -> None:
        """Copy host bytes to the buffer."""
        view = memoryview(data).cast("B")
        self._range(handle, offset, view.nbytes)[:] = view

    def read(self, handle: int, offset: int, size: int) -> bytes:
        """Return bytes of the buffer."""
        return bytes(self._range(handle, offset, size))

    def copy(self, target: int, target_offset: int, source: int, source_offset: int, size: int) -> None:
        """Copy between buffers."""
        data = bytes(self._range(source, source_offset, size))
        self._range(target, target_offset, size)[:] = data

    def compile(self, kernel: Kernel) -> ModelExecutable:
        """Return the kernel as it is. Raises `VerifyError`."""
        verify(kernel)
        return ModelExecutable(kernel, self._life)

    def launch(
        self, executable: ModelExecutable, grid: Sequence[int], buffers: Sequence[int], scalars: Sequence[int | float]
    ) -> None:
        """Run the kernel on buffers."""
        if executable.life != self._life:
            raise InvalidHandle("the executable is from before a reset")
        contents = [self._range(h, 0, len(self._buffers.get(h, b""))) for h in buffers]
        for view, result in zip(contents, _run(executable.kernel, grid, contents, scalars), strict=True):
            view[: len(result)] = result

    def execute(
        self,
        kernel: Kernel,
        grid: Sequence[int],
        operands: Sequence[Bytes | Guard],
        scalars: Sequence[int | float],
        **options: Any,
    ) -> Executed:
        """Run a kernel on fresh buffers."""
        del options
        outputs = [bytearray(o.data if isinstance(o, Guard) else o) for o in operands]
        bound = [k for k, o in enumerate(operands) if not isinstance(o, Guard)]
        for k, result in zip(bound, _run(kernel, grid, [outputs[k] for k in bound], scalars), strict=True):
            outputs[k][: len(result)] = result
        return Executed([bytes(o) for o in outputs], "", 0.0, 0.0, 0.0)

    def synchronise(self, timeout: float | None = None) -> None:
        """Do nothing: every launch has ended."""

    def reset(self) -> None:
        """Forget every buffer and executable."""
        self._buffers.clear()
        self._life += 1

    def leave(self) -> None:
        """Close the device; the next use opens it anew."""
        self._buffers.clear()

    def kill(self) -> None:
        """Forget every buffer."""
        self._buffers.clear()

    def close(self) -> None:
        """Forget every buffer."""
        self._buffers.clear()


def _run(kernel: Kernel, grid: Sequence[int], contents: Sequence[Bytes], scalars: Sequence[int | float]) -> list[bytes]:
    given = {s.name: value for s, value in zip(kernel.scalars, scalars, strict=True)}
    arrays = {
        b.name: np.frombuffer(bytes(c)[: b.extent.evaluate(given) * b.dtype.bytes], b.dtype.numpy)
        for b, c in zip(kernel.buffers, contents, strict=True)
    }
    try:
        results = run(_with_grid(kernel, grid), given, arrays) if all(grid) else arrays
    except InvalidKernelError as error:
        raise DeviceLost(f"the model device faulted: {error}") from error
    return [results[b.name].tobytes() for b in kernel.buffers]


def _with_grid(kernel: Kernel, grid: Sequence[int]) -> Kernel:
    """Return the kernel with the extents that the launch was given, as a device takes them."""
    body = list(kernel.body)
    for position, extent in zip(kernel.nest.grids, grid, strict=True):
        body[position] = replace(body[position], args=(), imms=(extent,))
    return replace(kernel, body=tuple(body))
