"""Faults of a driver: each wraps a device client and distorts one of its functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from portkit.compiler.legalise import legalise
from portkit.contract import ALIGNMENT
from portkit.errors import DTypeError, InvalidHandle, UsageError, VerifyError
from portkit.runtime.client import Bytes, DeviceClient, Executed, Guard, RemoteExecutable
from portkit.spec.kernel import Kernel
from portkit.spec.verify import verify


class Wrapped:
    """A device client that passes everything on; faults override single functions."""

    def __init__(self, inner: DeviceClient) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def may_show(self, kernels: Sequence[Kernel]) -> bool:
        """Whether the fault may show where these kernels are sent, on this device."""
        del kernels
        return True

    def execute(
        self,
        kernel: Kernel,
        grid: Sequence[int],
        operands: Sequence[Bytes | Guard],
        scalars: Sequence[int | float],
        **options: Any,
    ) -> Executed:
        """Pass an `execute` on."""
        return self.inner.execute(kernel, grid, operands, scalars, **options)


def rewriting(change: Callable[[Kernel], Kernel]) -> type[Wrapped]:
    """Return a wrapper whose device gets every kernel rewritten."""

    class Rewriting(Wrapped):
        """Rewrites kernels on their way to the device; remembers each rewriting, so that caches still work.

        What the fault computes with is legalised for the device: it is not to be found by being refused.
        """

        def __init__(self, inner: DeviceClient) -> None:
            super().__init__(inner)
            self._known: dict[Kernel, Kernel] = {}

        def _changed(self, kernel: Kernel) -> Kernel:
            if kernel not in self._known:
                self._known[kernel] = self._distorted(kernel)
            return self._known[kernel]

        def _distorted(self, kernel: Kernel) -> Kernel:
            try:
                verify(kernel)
            except VerifyError:
                return kernel  # to refuse it is the device's part
            return legalise(change(kernel), self.inner.capabilities).kernel

        def may_show(self, kernels: Sequence[Kernel]) -> bool:
            try:
                return any(self._changed(kernel) is not kernel for kernel in kernels)
            except (DTypeError, UsageError):  # the device cannot run what the fault makes of it
                return False

        def execute(self, kernel: Kernel, *args: Any, **options: Any) -> Executed:
            return self.inner.execute(self._changed(kernel), *args, **options)

        def compile(self, kernel: Kernel) -> RemoteExecutable:
            return self.inner.compile(self._changed(kernel))

    return Rewriting


# --- memory -------------------------------------------------------------------------------------------------------


class CopyIsShort(Wrapped):
    """Copies one byte less."""

    def copy(self, target: int, target_offset: int, source: int, source_offset: int, size: int) -> None:
        self.inner.copy(target, target_offset, source, source_offset, max(0, size - 1) if size > 0 else size)


class CopyIgnoresSourceOffset(Wrapped):
    """Copies from the beginning of the source."""

    def copy(self, target: int, target_offset: int, source: int, source_offset: int, size: int) -> None:
        self.inner.copy(target, target_offset, source, min(source_offset, 0), size)


class WriteIgnoresOffset(Wrapped):
    """Writes at the beginning of the buffer."""

    def write(self, handle: int, offset: int, data: Bytes) -> None:
        self.inner.write(handle, min(offset, 0), data)


class ReadDropsTail(Wrapped):
    """Gives zeros for what lies after the last whole 64 bytes."""

    def read(self, handle: int, offset: int, size: int) -> bytes:
        data = self.inner.read(handle, offset, size)
        whole = len(data) // ALIGNMENT * ALIGNMENT
        return data[:whole] + bytes(len(data) - whole)


class DoubleFreeAccepted(Wrapped):
    """Swallows the error of a second free."""

    def free(self, handle: int) -> None:
        try:
            self.inner.free(handle)
        except InvalidHandle:
            return


class OutOfRangeReadAccepted(Wrapped):
    """Gives zeros for a range outside the buffer."""

    def read(self, handle: int, offset: int, size: int) -> bytes:
        try:
            return self.inner.read(handle, offset, size)
        except InvalidHandle:
            return bytes(max(0, min(size, 1 << 20)))


class FreeDoesNothing(Wrapped):
    """Keeps every buffer alive."""

    def free(self, handle: int) -> None:
        self.inner.read(handle, 0, 0)


class ResetKeepsBuffers(Wrapped):
    """Does nothing on reset."""

    def reset(self) -> None:
        self.inner.synchronise(1.0)


# --- launches -----------------------------------------------------------------------------------------------------


class ArgumentsSwapped(Wrapped):
    """Passes the first two buffers in the wrong order."""

    def execute(
        self, kernel: Kernel, grid: Sequence[int], operands: Sequence[Bytes | Guard], *args: Any, **options: Any
    ) -> Executed:
        bound = [k for k, operand in enumerate(operands) if not isinstance(operand, Guard)]
        if len(bound) < 2 or kernel.buffers[0].dtype != kernel.buffers[1].dtype:
            return self.inner.execute(kernel, grid, operands, *args, **options)
        order = list(range(len(operands)))
        order[bound[0]], order[bound[1]] = order[bound[1]], order[bound[0]]
        ran = self.inner.execute(kernel, grid, [operands[k] for k in order], *args, **options)
        outputs = list(ran.outputs)
        outputs[bound[0]], outputs[bound[1]] = outputs[bound[1]], outputs[bound[0]]
        return _with_outputs(ran, outputs)

    def launch(
        self, executable: Any, grid: Sequence[int], buffers: Sequence[int], scalars: Sequence[int | float]
    ) -> None:
        self.inner.launch(executable, grid, [*buffers[1::-1], *buffers[2:]], scalars)


class ScalarsSwapped(Wrapped):
    """Passes two scalars of one dtype in the wrong order."""

    def execute(
        self,
        kernel: Kernel,
        grid: Sequence[int],
        operands: Sequence[Bytes | Guard],
        scalars: Sequence[int | float],
        **options: Any,
    ) -> Executed:
        given = list(scalars)
        if len(given) > 1 and kernel.scalars[0].dtype == kernel.scalars[1].dtype:
            given[0], given[1] = given[1], given[0]
        return self.inner.execute(kernel, grid, operands, given, **options)

    def launch(
        self, executable: Any, grid: Sequence[int], buffers: Sequence[int], scalars: Sequence[int | float]
    ) -> None:
        self.inner.launch(executable, grid, buffers, [*scalars[1::-1], *scalars[2:]])


class LastGroupDropped(Wrapped):
    """Starts one work-group less where there are several."""

    def execute(self, kernel: Kernel, grid: Sequence[int], *args: Any, **options: Any) -> Executed:
        return self.inner.execute(kernel, _one_less(grid), *args, **options)

    def launch(self, executable: Any, grid: Sequence[int], *args: Any) -> None:
        self.inner.launch(executable, _one_less(grid), *args)


class GridTransposed(Wrapped):
    """Takes the extents of the first two grid loops the wrong way round."""

    def execute(self, kernel: Kernel, grid: Sequence[int], *args: Any, **options: Any) -> Executed:
        return self.inner.execute(kernel, _turned(grid), *args, **options)

    def launch(self, executable: Any, grid: Sequence[int], *args: Any) -> None:
        self.inner.launch(executable, _turned(grid), *args)


class StaleKernel(Wrapped):
    """Finds compiled kernels by how many buffers they take."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self._cache: dict[int, Kernel] = {}

    def compile(self, kernel: Kernel) -> RemoteExecutable:
        return self.inner.compile(self._cache.setdefault(len(kernel.buffers), kernel))


class WritesPastTheEnd(Wrapped):
    """Changes the byte after the last buffer."""

    def execute(
        self, kernel: Kernel, grid: Sequence[int], operands: Sequence[Bytes | Guard], *args: Any, **options: Any
    ) -> Executed:
        ran = self.inner.execute(kernel, grid, operands, *args, **options)
        last = max(k for k, operand in enumerate(operands) if not isinstance(operand, Guard))
        return _with_changed_byte(ran, last, -1)


class ClobbersInput(Wrapped):
    """Changes the first byte of a buffer that is only read."""

    def execute(
        self, kernel: Kernel, grid: Sequence[int], operands: Sequence[Bytes | Guard], *args: Any, **options: Any
    ) -> Executed:
        ran = self.inner.execute(kernel, grid, operands, *args, **options)
        bound = [k for k, operand in enumerate(operands) if not isinstance(operand, Guard)]
        read_only = [k for k, b in zip(bound, kernel.buffers, strict=True) if b.access == "read" and ran.outputs[k]]
        return _with_changed_byte(ran, read_only[0], 0) if read_only else ran


class LaunchSkipped(Wrapped):
    """Starts nothing: every buffer is as before."""

    def execute(
        self, kernel: Kernel, grid: Sequence[int], operands: Sequence[Bytes | Guard], *args: Any, **options: Any
    ) -> Executed:
        del kernel, grid, args, options
        return Executed([bytes(o.data if isinstance(o, Guard) else o) for o in operands], "", 0.0, 0.0, 0.0)

    def launch(self, executable: Any, grid: Sequence[int], *args: Any) -> None:
        del executable, grid, args


class LastBitVaries(Wrapped):
    """Flips the lowest bit of the first output byte at every second launch."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self._launches = 0

    def execute(
        self, kernel: Kernel, grid: Sequence[int], operands: Sequence[Bytes | Guard], *args: Any, **options: Any
    ) -> Executed:
        ran = self.inner.execute(kernel, grid, operands, *args, **options)
        self._launches += 1
        bound = [k for k, operand in enumerate(operands) if not isinstance(operand, Guard)]
        written = [k for k, b in zip(bound, kernel.buffers, strict=True) if b.access != "read" and ran.outputs[k]]
        return _with_changed_byte(ran, written[0], 0) if written and self._launches % 2 else ran


def _one_less(grid: Sequence[int]) -> tuple[int, ...]:
    return (*grid[:-1], grid[-1] - 1) if grid[-1] > 1 else tuple(grid)


def _turned(grid: Sequence[int]) -> tuple[int, ...]:
    return (*grid[1::-1], *grid[2:])


def _with_outputs(ran: Executed, outputs: list[bytes]) -> Executed:
    return Executed(outputs, ran.source, ran.compile_seconds, ran.launch_seconds, ran.overhead_seconds)


def _with_changed_byte(ran: Executed, operand: int, at: int) -> Executed:
    """Return a result with the lowest bit of one byte flipped; `at` -1 is the last byte."""
    data = bytearray(ran.outputs[operand])
    data[at] ^= 1
    outputs = list(ran.outputs)
    outputs[operand] = bytes(data)
    return _with_outputs(ran, outputs)
