"""Kernels with as many buffers as devices are known to bind, each count up to the declared one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from portkit.conformance.case import Case
from portkit.conformance.cases.draws import Draws
from portkit.conformance.cases.kernelcase import Arrays, KernelCase, Scalars, rows_to_cases
from portkit.conformance.cases.shapes import KERNEL_NEEDS
from portkit.conformance.cases.writing import Writer
from portkit.contract import Capabilities
from portkit.spec.kernel import Kernel, Numeric

LANES = 64
BUFFER_LIMITS = (8, 12, 16, 24, 30, 31, 32, 64, 96, 128, 192, 256)


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield a kernel for each count of buffers."""
    yield from rows_to_cases(_rows(capabilities), capabilities)


def buffers_kernel(count: int, numeric: Numeric = "fast") -> Kernel:
    """Folds one element of every buffer but the last, then the scalars that come after them, and stores to the last."""
    w = Writer(f"buffers_{count}", numeric)
    read = [w.buffer(f"a{place}", "i32", LANES, "read") for place in range(count - 1)]
    out = w.buffer("out", "i32", ("groups", LANES), "write")
    groups, whole, real = w.scalar("groups", "i32"), w.scalar("whole", "i32"), w.scalar("real", "f32")
    group, lane = w.grid(groups), w.lane(LANES)
    total = w.add(group, whole)
    for buffer in read:
        total = w.add(w.times(total, 31), w.load(buffer, lane))
    w.store(out, w.index(group, LANES, lane), w.xor(total, w.bits(real, "i32")))
    return w.build()


def _data(count: int, case_id: str) -> tuple[Scalars, Arrays]:
    numbers = Draws(case_id).bits(30, (count - 1) * LANES).astype(np.int32).reshape(count - 1, LANES)
    return {"groups": 3, "whole": 12345, "real": 0.75}, {f"a{place}": row for place, row in enumerate(numbers)}


def _rows(capabilities: Capabilities) -> Iterator[KernelCase]:
    for count in (n for n in BUFFER_LIMITS if n <= capabilities.limits.buffers):
        build, data = partial(buffers_kernel, count), partial(_data, count)
        yield KernelCase(f"kernels/buffers/count_{count}", build, data, needs=KERNEL_NEEDS)
