"""Tensors on the cpu backend: kernels as a share of this machine's limits, and how long compiling takes.

`python bench/tensors.py [--json]`. Every kernel is measured in turn with the limit that it is set against, the best of
each counts. Exits 1 where a limit is missed, or a result is wrong.

matmul     f32, square, through `Tensor`, of the FMA peak
softmax    f32 over rows of 4096 x 4096, bytes read and written, of the streaming triad
chain      ten elementwise functions of 16 M elements, likewise
compile    a softmax from nothing, and from the cache folder, in milliseconds
schedule   a graph of 10,000 nodes, in seconds, and against one of 1,000
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bench.peaks import Bench, triad_arrays
from portkit.compiler.compile import compile_graph, forget
from portkit.compiler.graph import Node
from portkit.contract import Capabilities
from portkit.runtime.cache import VARIABLE as CACHE_VARIABLE
from portkit.runtime.devices import open_device
from portkit.tensor import Tensor
from portkit.tensor import functional as F

ROUNDS = 6
RUNS = 8
ROWS = 4096
CHAIN = 1 << 24
NODES = (1_000, 10_000)


@dataclass(frozen=True)
class Figure:
    """One measured line; `most` says whether the limit is an upper one."""

    name: str
    value: float
    unit: str
    limit: float
    most: bool = False

    @property
    def holds(self) -> bool:
        return self.value <= self.limit if self.most else self.value >= self.limit


def _tensor(*shape: int) -> Tensor:
    generator = np.random.default_rng(0)
    return Tensor(generator.standard_normal(shape, np.float32))


def _seconds(make: Callable[[], Tensor]) -> float:
    """Return the time of one run of a graph that has been compiled before."""
    tensor = make()
    start = time.perf_counter()
    tensor.realize()
    open_device().synchronise()
    return time.perf_counter() - start


def _share(make: Callable[[], Tensor], work: float, limit: Callable[[], float]) -> float:
    """Return the best rate of `work` (1e9 a second) as a share of the best limit, measured in turn."""
    for _ in range(2):
        _seconds(make)  # compiled, then recorded
    rounds = [(work / min(_seconds(make) for _ in range(RUNS)) / 1e9, limit()) for _ in range(ROUNDS)]
    return max(rate for rate, _ in rounds) / max(peak for _, peak in rounds)


def matmul(size: int, bench: Bench) -> Figure:
    """Return the share of the FMA peak. Raises `RuntimeError` where the product is wrong."""
    a, b = _tensor(size, size), _tensor(size, size)
    found, wanted = (a @ b).numpy(), a.numpy().astype(np.float64) @ b.numpy()
    if not np.abs(found - wanted).max() <= size * np.finfo(np.float32).eps * np.abs(wanted).max():
        raise RuntimeError("the product is wrong; its time means nothing")
    share = _share(lambda: a @ b, 2 * size**3, bench.fma_gflops)
    return Figure(f"matmul {size}", share, "of the FMA peak", 0.5)


def softmax(bench: Bench) -> Figure:
    """Return the share of the triad."""
    x = _tensor(ROWS, ROWS).realize()
    share = _share(lambda: F.softmax(x), 8 * ROWS * ROWS, lambda: _triad(bench))
    return Figure(f"softmax {ROWS} x {ROWS}", share, "of the triad", 0.6)


def chain(bench: Bench) -> Figure:
    """Return the share of the triad of ten functions in one kernel."""
    x = _tensor(CHAIN).realize()

    def ten() -> Tensor:
        y = x
        for _ in range(5):
            y = (y * 1.5 + 0.25).maximum(-1.0)
        return y

    share = _share(ten, 8 * CHAIN, lambda: _triad(bench))
    return Figure("chain of 10", share, "of the triad", 0.6)


@cache
def _arrays() -> list[NDArray[np.float32]]:
    return triad_arrays()


def _triad(bench: Bench) -> float:
    return bench.triad_gbs(_arrays(), streaming=False)


def _first_softmax(rows: int) -> float:
    """Return the milliseconds from a graph to its first result, compilation included."""
    x = _tensor(rows, 100).realize()
    start = time.perf_counter()
    F.softmax(x).realize()
    return (time.perf_counter() - start) * 1e3


def compiling() -> list[Figure]:
    """Return the median times of a softmax compiled from nothing, and read from the cache folder."""
    _first_softmax(7)  # what is imported once is not part of it
    cold = [_first_softmax(rows) for rows in range(40, 55)]
    open_device().close()
    forget()
    _first_softmax(7)
    warm = [_first_softmax(rows) for rows in range(40, 55)]
    return [
        Figure("softmax compiled from nothing", statistics.median(cold), "ms", 60.0, most=True),
        Figure("softmax from the cache folder", statistics.median(warm), "ms", 5.0, most=True),
    ]


def _layers(nodes: int) -> Tensor:
    """Return a graph of residual layers with about that many nodes."""
    x, weight = _tensor(16, 16), _tensor(16, 16)
    for _ in range(nodes // 7):
        x = x + F.relu(x @ weight)
    return x


def _compile_seconds(graph: list[Node], capabilities: Capabilities) -> float:
    forget()
    start = time.perf_counter()
    compile_graph(graph, capabilities)
    return time.perf_counter() - start


def scheduling() -> list[Figure]:
    """Return the time that a graph of 10,000 nodes takes from end to end but for the backend, and how it grows."""
    capabilities = open_device().capabilities
    times: list[float] = []
    for nodes in NODES:
        graph = [_layers(nodes).node]
        times.append(min(_compile_seconds(graph, capabilities) for _ in range(3)))
    growth = times[1] / times[0] / (NODES[1] / NODES[0])
    return [
        Figure(f"schedule {NODES[1]} nodes", times[1], "s", 5.0, most=True),
        Figure("its time per node over that of 1,000", growth, "", 1.5, most=True),
    ]


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = folder
        bench = Bench()
        figures = [matmul(1024, bench), matmul(2048, bench), softmax(bench), chain(bench), *compiling(), *scheduling()]
        open_device().close()
        bench.pool.close()
    if options.json:
        sys.stdout.write(json.dumps([{**asdict(f), "holds": f.holds} for f in figures]) + "\n")
    else:
        for f in figures:
            sign = "at most" if f.most else "at least"
            verdict = "" if f.holds else "   MISSED"
            sys.stdout.write(f"{f.name:<38} {f.value:>8.2f} {f.unit:<16} limit: {sign} {f.limit:g}{verdict}\n")
    return 0 if all(f.holds for f in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
