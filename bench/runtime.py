"""What the runtime costs: a softmax compiled from nothing and from the cache folder, and launches inside a replay.

Prints milliseconds and microseconds beside their limits, and exits 1 where one is over its limit. A softmax is timed in
a process that has imported everything, each time on a device opened anew; launches are of kernels that do nearly
nothing, for one work-group and for as many as keep every thread busy.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from portkit.compiler import graph as g
from portkit.compiler.graph import Node, Source
from portkit.compiler.program import Launch, Program, Role, Slot
from portkit.compiler.storage import Storage
from portkit.contract import find_backend
from portkit.runtime.buffers import from_array
from portkit.runtime.devices import RuntimeDevice
from portkit.runtime.programs import compute
from portkit.runtime.replay import Recorded
from portkit.spec.builder import Builder
from portkit.spec.types import F32
from portkit.tensor import Tensor
from portkit.tensor.jit import jit

ROUNDS = 15
LAUNCHES = 200
LANES = 16


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, its unit, and how much it may be; nothing where there is no limit."""

    name: str
    value: float
    unit: str
    limit: float | None = None

    def line(self) -> str:
        """Return the row of the table."""
        limit = "" if self.limit is None else f"{self.limit:8.1f} {self.unit}  {self.value / self.limit:5.2f}"
        return f"{self.name:48} {self.value:8.2f} {self.unit} {limit}"


def median(action: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the median time of an action in seconds."""
    times: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


# --- compiling ----------------------------------------------------------------------------------------------------


def softmax(rows: int) -> Node:
    """Return the graph of a softmax over rows of 512 elements."""
    x = g.source(Source(F32, (rows, 512), np.zeros((rows, 512), np.float32)))
    raised = g.map_("exp", g.map_("sub", x, g.expand(g.reduce("max", x, [1]), x.shape)))
    return g.map_("div", raised, g.expand(g.reduce("add", raised, [1]), x.shape))


def ready(rows: int) -> float:
    """Return the seconds until a softmax is computed on a device that was just opened."""
    with RuntimeDevice(find_backend("cpu")) as device:
        assert device.programs is not None
        node = softmax(rows)
        start = time.perf_counter()
        compute(device, [node], lambda source: from_array(device, source.buffer))
        device.synchronise()
        return time.perf_counter() - start


def compiling() -> list[Figure]:
    """Measure a softmax from nothing, each of another shape, and from the cache folder."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PORTKIT_CACHE"] = str(Path(folder) / "cache")
        ready(8)  # loads what is loaded lazily
        cold = statistics.median(ready(rows) for rows in range(16, 16 + ROUNDS))
        warm = statistics.median(ready(rows) for rows in range(16, 16 + ROUNDS))
    return [
        Figure("softmax from nothing", 1e3 * cold, "ms", 60.0),
        Figure("softmax from the cache folder", 1e3 * warm, "ms", 5.0),
    ]


# --- launching ----------------------------------------------------------------------------------------------------


def chain(groups: int) -> Program:
    """Return y = x + 1, many times over, each by a kernel of `groups` work-groups."""
    b = Builder("increment")
    x, y = b.buffer("x", "f32", groups * LANES, "read"), b.buffer("y", "f32", groups * LANES, "write")
    index = b.add(b.mul(b.grid(groups), b.const("i32", LANES)), b.lane(LANES))
    b.store(y, index, b.add(b.load(x, index), b.const("f32", 1.0)))
    kernel, shape = b.build(), (groups * LANES,)
    names: dict[int, Role] = {0: "input", LAUNCHES: "output"}
    roles: list[Role] = [names.get(n, "temporary") for n in range(LAUNCHES + 1)]
    slots = tuple(Slot(4 * shape[0], role, F32, shape, Storage(F32)) for role in roles)
    launches = tuple(Launch(kernel, (groups,), (n, n + 1)) for n in range(LAUNCHES))
    return Program(launches, slots, (0,), (LAUNCHES,))


def launching() -> list[Figure]:
    """Measure what a launch takes inside a replay."""
    figures: list[Figure] = []
    with RuntimeDevice(find_backend("cpu")) as device:
        for groups in (1, 64):
            recorded = Recorded(device, chain(groups))
            x = from_array(device, np.zeros(groups * LANES, np.float32))
            recorded.replay([x])
            each = 1e6 * median(lambda recorded=recorded, x=x: recorded.replay([x]), 200) / LAUNCHES
            figures.append(Figure(f"launch in a replay, {groups} work-groups", each, "us", 3.0))
    return figures


def calling() -> list[Figure]:
    """Measure a call of a captured function of one kernel."""

    @jit
    def add(x: Tensor) -> Tensor:
        return x + 1

    x = Tensor(np.zeros(16, np.float32))
    add(x)
    return [Figure("call of a captured function", 1e6 * median(lambda: add(x), 200), "us")]


def main() -> int:
    """Measure, print a table and return the exit code."""
    figures = [*compiling(), *launching(), *calling()]
    print(f"{'':48} {'median':>11} {'limit':>11}  ratio")
    for figure in figures:
        print(figure.line())
    return int(any(f.limit is not None and f.value > f.limit for f in figures))


if __name__ == "__main__":
    sys.exit(main())
