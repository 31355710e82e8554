"""Faults of a driver's launches: executables, arguments, grids, order, and what is left from one to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from portkit.conformance.mutants.device import Wrapped
from portkit.conformance.mutants.forms import FormFault
from portkit.conformance.mutants.numbers import scaled_by
from portkit.errors import DeviceError, DeviceHang, DeviceLost, InvalidHandle, PortkitError, VerifyError
from portkit.runtime.client import Bytes, DeviceClient, Executed, Guard, RemoteExecutable
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import I32, Type
from portkit.spec.verify import verify


class Proxy:
    """An executable of a wrapper: the device's own, and the kernel that it was made from."""

    def __init__(self, kernel: Kernel, inner: RemoteExecutable | None) -> None:
        self.kernel = kernel
        self.inner = inner
        self.source = "" if inner is None else inner.source

    def release(self) -> None:
        """Release the device's executable."""
        if self.inner is not None:
            self.inner.release()


class Compiling(Wrapped):
    """Gives out executables of its own."""

    def compile(self, kernel: Kernel) -> Any:
        return Proxy(kernel, self.inner.compile(kernel))

    def launch(self, executable: Proxy, *args: Any) -> None:
        assert executable.inner is not None
        self.inner.launch(executable.inner, *args)


# --- executables --------------------------------------------------------------------------------------------------


class ReleaseFreesAll(Compiling):
    """Lets go of every executable with one of them."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self.released = False

    def compile(self, kernel: Kernel) -> Any:
        outer, made = self, super().compile(kernel)

        class Released(Proxy):
            def release(self) -> None:
                outer.released = True
                super().release()

        return Released(kernel, made.inner)

    def launch(self, executable: Proxy, *args: Any) -> None:
        if self.released:
            raise InvalidHandle("the executable is gone")
        super().launch(executable, *args)


class CompiledOnce(Compiling):
    """Gives an empty executable for a kernel that it has compiled before."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self._known: set[Kernel] = set()

    def compile(self, kernel: Kernel) -> Any:
        known = kernel in self._known
        self._known.add(kernel)
        return Proxy(kernel, None) if known else super().compile(kernel)

    def launch(self, executable: Proxy, *args: Any) -> None:
        if executable.inner is not None:
            super().launch(executable, *args)


class CompileErrorSwallowed(CompiledOnce):
    """Gives an empty executable where it cannot compile."""

    def compile(self, kernel: Kernel) -> Any:
        try:
            return Proxy(kernel, self.inner.compile(kernel))
        except PortkitError:
            return Proxy(kernel, None)


class ResetKeepsExecutables(Compiling):
    """Still launches what was compiled before a reset."""

    def launch(self, executable: Proxy, *args: Any) -> None:
        try:
            super().launch(executable, *args)
        except PortkitError:
            self.inner.launch(self.inner.compile(executable.kernel), *args)


class FreedArgumentAccepted(Wrapped):
    """Launches nothing where a buffer is gone, and does not say so."""

    def launch(self, executable: Any, grid: Any, buffers: Sequence[int], scalars: Any) -> None:
        for handle in buffers:
            try:
                self.inner.read(handle, 0, 0)
            except InvalidHandle:
                return
        self.inner.launch(executable, grid, buffers, scalars)


# --- grids --------------------------------------------------------------------------------------------------------


class _Gridded(Wrapped):
    """Launches over another grid."""

    def changed(self, grid: Sequence[int]) -> tuple[int, ...]:
        """Return the grid that the device takes."""
        return tuple(grid)

    def launch(self, executable: Any, grid: Sequence[int], *args: Any) -> None:
        self.inner.launch(executable, self.changed(grid), *args)

    def execute(self, kernel: Kernel, grid: Sequence[int], *args: Any, **options: Any) -> Executed:
        return self.inner.execute(kernel, self.changed(grid), *args, **options)


class EmptyGridRunsOnce(_Gridded):
    """Starts one work-group where the grid is empty."""

    def changed(self, grid: Sequence[int]) -> tuple[int, ...]:
        return tuple(max(count, 1) for count in grid)


class GridStopsAt65535(_Gridded):
    """Starts no more than 65,535 work-groups along the first dimension."""

    def changed(self, grid: Sequence[int]) -> tuple[int, ...]:
        return (min(grid[0], 65_535), *grid[1:])


class SecondDimensionStopsAt65535(_Gridded):
    """Starts no more than 65,535 work-groups along the second dimension."""

    def changed(self, grid: Sequence[int]) -> tuple[int, ...]:
        return tuple(min(count, 65_535) if k == 1 else count for k, count in enumerate(grid))


class FourthDimensionIgnored(_Gridded):
    """Takes the outermost of four dimensions for one."""

    def changed(self, grid: Sequence[int]) -> tuple[int, ...]:
        return (1, *grid[1:]) if len(grid) > 3 else tuple(grid)


class ComputedGridIsShort(Wrapped):
    """Starts one work-group less where the count is computed from scalars."""

    def execute(self, kernel: Kernel, grid: Sequence[int], *args: Any, **options: Any) -> Executed:
        names = {s.name for s in kernel.scalars}
        heads = [kernel.body[k] for k in kernel.nest.grids]
        short = [max(n - 1, 0) if i.args and i.args[0] not in names else n for i, n in zip(heads, grid, strict=True)]
        return self.inner.execute(kernel, short, *args, **options)


class ComputedGridHasFourBits(Wrapped):
    """Starts no more than 16 work-groups where there is one grid loop, and its count is computed from scalars."""

    def execute(self, kernel: Kernel, grid: Sequence[int], *args: Any, **options: Any) -> Executed:
        counts = [a for k in kernel.nest.grids for a in kernel.body[k].args]
        computed = len(grid) == 1 and bool(counts) and counts[0] not in {s.name for s in kernel.scalars}
        return self.inner.execute(kernel, (min(grid[0], 16),) if computed else grid, *args, **options)


class GroupsShareMemory(Wrapped):
    """Gives all work-groups one copy of shared memory: they run as the lanes of one group, where a group holds them."""

    def execute(self, kernel: Kernel, grid: Sequence[int], *args: Any, **options: Any) -> Executed:
        whole = self._as_one_group(kernel, grid)
        return self.inner.execute(whole or kernel, (1,) if whole else grid, *args, **options)

    def _as_one_group(self, kernel: Kernel, grid: Sequence[int]) -> Kernel | None:
        groups = prod(grid)
        if not kernel.shared or groups < 2 or groups * kernel.lanes > self.inner.capabilities.limits.lanes:
            return None
        body = list(kernel.body)
        for position, extent in zip(kernel.nest.grids, grid, strict=True):
            body[position] = replace(body[position], name="loop.lane", args=(), imms=(extent,))
        only = Instr("loop.grid", "only_group", Type(I32), imms=(1,))
        whole = replace(kernel, body=(only, *body, Instr("endloop", args=("only_group",))))
        try:
            verify(whole)
        except VerifyError:
            return None
        return whole


# --- arguments ----------------------------------------------------------------------------------------------------


class _Scaled(Wrapped):
    """Passes other scalars."""

    def changed(self, value: int | float) -> int | float:
        """Return the scalar that the device takes."""
        return value

    def launch(self, executable: Any, grid: Any, buffers: Any, scalars: Sequence[int | float]) -> None:
        self.inner.launch(executable, grid, buffers, [self.changed(value) for value in scalars])

    def execute(
        self, kernel: Kernel, grid: Any, operands: Any, scalars: Sequence[int | float], **options: Any
    ) -> Executed:
        return self.inner.execute(kernel, grid, operands, [self.changed(value) for value in scalars], **options)


class ScalarsForgetDtype(_Scaled):
    """Passes every scalar as an integer."""

    def changed(self, value: int | float) -> int | float:
        return float(int(value)) if isinstance(value, float) and np.isfinite(value) else value


class ScalarsFlushed(_Scaled):
    """Passes subnormal scalars as zero."""

    def changed(self, value: int | float) -> int | float:
        return 0.0 if isinstance(value, float) and 0 < abs(value) < 2.0**-126 else value


class ScalarsLoseSignOfZero(_Scaled):
    """Passes -0 as 0."""

    def changed(self, value: int | float) -> int | float:
        return value + 0.0 if isinstance(value, float) else value


class ScalarsKept(Wrapped):
    """Passes the scalars of a kernel's first launch to later ones too."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self._first: dict[int, list[int | float]] = {}

    def launch(self, executable: Any, grid: Any, buffers: Any, scalars: Sequence[int | float]) -> None:
        kept = self._first.setdefault(len(scalars), list(scalars))
        self.inner.launch(executable, grid, buffers, kept)


class EighthBufferIsSeventh(Wrapped):
    """Has seven places for buffers: what is read of the eighth is read of the seventh."""

    def launch(self, executable: Any, grid: Any, buffers: Sequence[int], scalars: Any) -> None:
        given = [buffers[0], *buffers[1:6], buffers[5], *buffers[7:]] if len(buffers) > 7 else list(buffers)
        self.inner.launch(executable, grid, given, scalars)


class BufferGivenTwiceRefused(Wrapped):
    """Refuses a buffer that stands for two arguments."""

    def launch(self, executable: Any, grid: Any, buffers: Sequence[int], scalars: Any) -> None:
        if len(set(buffers)) < len(buffers):
            raise InvalidHandle("a buffer is given twice")
        self.inner.launch(executable, grid, buffers, scalars)


# --- order, and what is left ----------------------------------------------------------------------------------------


class LaunchesAreLost(Wrapped):
    """Loses each 256th launch."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self._launches = 0

    def launch(self, *args: Any) -> None:
        self._launches += 1
        if self._launches % 256:
            self.inner.launch(*args)


class LaunchesSwapped(Wrapped):
    """Runs two launches that wait in the queue in the wrong order."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self._waiting: list[tuple[Any, ...]] = []

    def launch(self, *args: Any) -> None:
        self._waiting.append(args)
        if len(self._waiting) == 2:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for args in reversed(waiting):
            self.inner.launch(*args)

    def synchronise(self, timeout: float | None = None) -> None:
        self._flush()
        self.inner.synchronise(timeout)


class LeaksPerLaunch(Wrapped):
    """Keeps a record of each launch, in a table of 200."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self._records = 0

    def launch(self, *args: Any) -> None:
        self._records += 1
        if self._records > 200:
            raise DeviceError("no record is free for this launch")
        self.inner.launch(*args)


class RunsTwice(Wrapped):
    """Runs a kernel twice where it reads and writes a buffer, from what the first launch left."""

    def execute(
        self, kernel: Kernel, grid: Any, operands: Sequence[Bytes | Guard], *args: Any, **options: Any
    ) -> Executed:
        if any(b.access == "readwrite" for b in kernel.buffers):
            first = self.inner.execute(kernel, grid, operands, *args, **options)
            operands = [o if isinstance(o, Guard) else data for o, data in zip(operands, first.outputs, strict=True)]
        return self.inner.execute(kernel, grid, operands, *args, **options)


# --- around the buffers, crashes, hangs ---------------------------------------------------------------------------


class WritesBeforeTheStart(Wrapped):
    """Changes the byte before the first buffer."""

    def execute(self, *args: Any, **options: Any) -> Executed:
        ran = self.inner.execute(*args, **options)
        before = bytearray(ran.outputs[0])
        if before:
            before[-1] ^= 1
        return Executed(
            [bytes(before), *ran.outputs[1:]], ran.source, ran.compile_seconds, ran.launch_seconds, ran.overhead_seconds
        )


class StagingKnowsItsPattern(Wrapped):
    """Fills staging memory with 0xA5 and copies back what differs: a byte of just these bits is not written."""

    def may_show(self, kernels: Sequence[Kernel]) -> bool:
        return any(map(_written_bytes, kernels))

    def execute(
        self, kernel: Kernel, grid: Any, operands: Sequence[Bytes | Guard], *args: Any, **options: Any
    ) -> Executed:
        ran = self.inner.execute(kernel, grid, operands, *args, **options)
        outputs = list(ran.outputs)
        bound = [(k, operand) for k, operand in enumerate(operands) if not isinstance(operand, Guard)]
        for (k, before), buffer in zip(bound, kernel.buffers, strict=True):
            if buffer.name in _written_bytes(kernel):
                outputs[k] = _kept_where_filled(outputs[k], before)
        return Executed(outputs, ran.source, ran.compile_seconds, ran.launch_seconds, ran.overhead_seconds)


def _written_bytes(kernel: Kernel) -> list[str]:
    """Return the buffers of 8-bit dtypes that a kernel only writes."""
    return [b.name for b in kernel.buffers if b.access == "write" and b.dtype.bytes == 1]


def _kept_where_filled(after: Bytes, before: Bytes) -> bytes:
    written, kept = (np.frombuffer(bytes(x), np.uint8) for x in (after, before))
    return np.where(written == 0xA5, kept, written).tobytes()


class CrashesOnRsqrt(Wrapped):
    """Dies of the reciprocal square root of f64."""

    def may_show(self, kernels: Sequence[Kernel]) -> bool:
        return any(map(_has_rsqrt_of_f64, kernels))

    def execute(self, kernel: Kernel, *args: Any, **options: Any) -> Executed:
        if _has_rsqrt_of_f64(kernel):
            raise DeviceLost("the device process ended with signal 4 (illegal instruction)")
        return self.inner.execute(kernel, *args, **options)


def _has_rsqrt_of_f64(kernel: Kernel) -> bool:
    return any(i.name == "mov.rsqrt" and i.type is not None and i.type.dtype.name == "f64" for i in kernel.body)


def _has(kernel: Kernel, form: str) -> bool:
    return any(i.name == form for i in kernel.body)


def crashing_on(form: str) -> type[Wrapped]:
    """Make the fault of a device that dies of a form."""

    class Crashing(Wrapped):
        def may_show(self, kernels: Sequence[Kernel]) -> bool:
            return any(_has(kernel, form) for kernel in kernels)

        def execute(self, kernel: Kernel, *args: Any, **options: Any) -> Executed:
            if _has(kernel, form):
                raise DeviceLost("the device process ended with signal 4 (illegal instruction)")
            return self.inner.execute(kernel, *args, **options)

    Crashing.__doc__ = f"Dies of {form}."
    return Crashing


class HangsOnXor(Wrapped):
    """Does not end where a work-group folds by xor."""

    def may_show(self, kernels: Sequence[Kernel]) -> bool:
        return any(_has(kernel, "reduce.group.xor") for kernel in kernels)

    def execute(self, kernel: Kernel, *args: Any, **options: Any) -> Executed:
        if _has(kernel, "reduce.group.xor"):
            raise DeviceHang("no answer within the time limit")
        return self.inner.execute(kernel, *args, **options)


def _masks_sixteen_lanes(kernel: Kernel) -> bool:
    return any(t.dtype.name == "bool" and t.lanes == 16 for t in kernel.types.values())


class RefusesVectorsOfBool(Wrapped):
    """Cannot compile vectors of 16 truth values, which it declares."""

    def may_show(self, kernels: Sequence[Kernel]) -> bool:
        return any(map(_masks_sixteen_lanes, kernels))

    def execute(self, kernel: Kernel, *args: Any, **options: Any) -> Executed:
        if _masks_sixteen_lanes(kernel):
            raise DeviceError("no registers for a mask of 16 lanes")
        return self.inner.execute(kernel, *args, **options)


class SumVaries(Wrapped):
    """Sums a work-group in a random order and a short format: each second launch is off by more than the bound."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self._launches = 0
        self._fault = FormFault("reduce.group.add", scaled_by(1 + 2.0**-9), "f32")

    def may_show(self, kernels: Sequence[Kernel]) -> bool:
        return any(_has(kernel, "reduce.group.add") for kernel in kernels)

    def execute(self, kernel: Kernel, *args: Any, **options: Any) -> Executed:
        if _has(kernel, "reduce.group.add"):
            self._launches += 1
        return self.inner.execute(self._fault(kernel) if self._launches % 2 else kernel, *args, **options)
