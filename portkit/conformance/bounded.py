"""Values in bounded time, for kernels of which nobody knows whether their loops end: faulty ones, and cut ones."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.errors import HarnessError
from portkit.reference import engine
from portkit.reference.memory import Memory, allocate
from portkit.reference.values import Values
from portkit.spec.kernel import Kernel

Array: TypeAlias = NDArray[Any]


class Bounded(Values):
    """The domain of values; raises `HarnessError` when the thread has used `deadline` seconds of processor time."""

    def __init__(self, kernel: Kernel, memories: Mapping[str, Memory], deadline: float) -> None:
        super().__init__(kernel, memories)
        self._deadline = deadline

    def integers(self, values: NDArray[np.int32]) -> Array:
        if time.thread_time() > self._deadline:  # asked once per trip of each loop
            raise HarnessError("the run takes too long")
        return values


def see_that_it_ends(
    kernel: Kernel, scalars: Mapping[str, int | float], buffers: Mapping[str, Array], seconds: float
) -> None:
    """Run a verified kernel for at most so many seconds of processor time; `buffers` as for `values.run`.

    Raises `HarnessError` where it has not ended by then, `InvalidKernelError` and `UsageError` as `values.run` does.
    """
    memories = allocate(kernel, scalars, buffers)
    engine.run(kernel, Bounded(kernel, memories, time.thread_time() + seconds), scalars)
