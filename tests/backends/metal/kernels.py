"""Kernels for the tests of the metal backend, and how to run one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portkit.backends.drivers.device import CheckedDevice
from portkit.spec.builder import Builder
from portkit.spec.geometry import buffer_extents, grid_counts
from portkit.spec.kernel import Kernel

Array = NDArray[Any]


def execute(
    device: CheckedDevice[Any], kernel: Kernel, inputs: Mapping[str, Array], scalars: Mapping[str, int | float]
) -> dict[str, Array]:
    """Compile and run a kernel; buffers that are not given start as zeros. Returns every buffer afterwards."""
    extents = buffer_extents(kernel, scalars)
    arrays = [inputs.get(b.name, np.zeros(n, b.dtype.numpy)) for b, n in zip(kernel.buffers, extents, strict=True)]
    handles = [device.allocate(a.nbytes) for a in arrays]
    for handle, array in zip(handles, arrays, strict=True):
        device.write(handle, 0, array.tobytes())
    executable = device.compile(kernel)
    device.launch(executable, grid_counts(kernel, scalars), handles, [scalars[s.name] for s in kernel.scalars])
    device.synchronise(10.0)
    read = [np.frombuffer(device.read(h, 0, a.nbytes), a.dtype) for h, a in zip(handles, arrays, strict=True)]
    executable.release()
    for handle in handles:
        device.free(handle)
    return dict(zip((b.name for b in kernel.buffers), read, strict=True))


def pointwise(form: str, dtype: str, operands: int, count: int) -> Kernel:
    """Each lane applies a form to an element of every operand."""
    b = Builder("pointwise")
    sources = [b.buffer(f"x{i}", dtype, count, "read") for i in range(operands)]
    out = b.buffer("out", dtype, count, "write")
    b.grid(1)
    lane = b.lane(count)
    b.store(out, lane, b.op(form, *(b.load(source, lane) for source in sources)))
    return b.build()


def apply(device: CheckedDevice[Any], form: str, dtype: str, *operands: Sequence[float]) -> Array:
    """Return what a form gives for each row of operands."""
    kernel = pointwise(form, dtype, len(operands), len(operands[0]))
    numpy = kernel.buffers[0].dtype.numpy
    arrays = {f"x{i}": np.array(column, numpy) for i, column in enumerate(operands)}
    return execute(device, kernel, arrays, {})["out"]


def neighbours(*, meet: bool, lanes: int = 64, groups: int = 3) -> Kernel:
    """Each lane leaves its number in shared memory and, after the lanes have met, takes that of the lane opposite."""
    b = Builder("neighbours")
    out, cells = b.buffer("out", "i32", lanes * groups, "write"), b.shared("cells", "i32", lanes)
    group, lane = b.grid(groups), b.lane(lanes)
    b.store(cells, lane, b.add(lane, group))
    if meet:
        b.barrier()
    opposite = b.add(b.const("i32", lanes - 1), b.mul(lane, b.const("i32", -1)))
    taken = b.load(cells, opposite)
    b.store(out, b.add(b.mul(group, b.const("i32", lanes)), lane), taken)
    return b.build()


def scaled() -> Kernel:
    """out[i] = a * x[i] + shift over a grid of rows and columns, with scalars of both dtypes."""
    b = Builder("scaled")
    x, out = b.buffer("x", "f32", ("rows", 8), "read"), b.buffer("out", "f32", ("rows", 8), "write")
    rows, a, shift = b.scalar("rows", "i32"), b.scalar("a", "f32"), b.scalar("shift", "i32")
    row, half, lane = b.grid(rows), b.grid(2), b.lane(4)
    at = b.add(b.mul(b.add(b.mul(row, b.const("i32", 2)), half), b.const("i32", 4)), lane)
    b.store(out, at, b.add(b.mul(a, b.load(x, at)), b.cast(shift, "f32")))
    return b.build()


def meeting_in_part() -> Kernel:
    """Not a valid kernel: only some of the lanes come to the barrier."""
    b = Builder("meeting_in_part")
    out = b.buffer("out", "i32", 8, "write")
    b.grid(1)
    lane = b.lane(8)
    with b.serial(b.op("reduce.and", lane, b.const("i32", 1))):
        b.barrier()
    b.store(out, lane, lane)
    return b.build()
