"""What this machine can do at most: float multiply-adds and memory streams on all cores.

These are the denominators of every ratio in `bench/`. They are measured through the JIT and thread pool of the `cpu`
backend, so no compiler is needed: best of `RUNS` after a warm-up, each run tens of milliseconds or more.

`python bench/peaks.py [--json] [--threads N]`; exits 1 where the figures contradict each other.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import mmap
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
from numpy.typing import NDArray

from bench.kernels import CHAIN_STEPS, TRIAD_GROUP, clock_text, fma_text, triad_text
from portkit.backends.cpu.pool import ThreadPool
from portkit.backends.toolkit.host_jit import HostJit

RUNS = 7
GROUPS_PER_THREAD = 64  # the last group that a thread waits for is then at most 1/64 of a run
RUN_SECONDS = 0.05
TRIAD_BYTES = 12  # read b and c, write a; a plain store also reads a first (16 bytes), a streaming one does not


@dataclass(frozen=True)
class Width:
    """The vectors of a processor: floats in one, how many registers."""

    lanes: int
    registers: int


@dataclass(frozen=True)
class Peaks:
    """Limits of this machine. GB/s are 1e9 bytes per second and count 12 bytes per element of the triad.

    `processor_share` is the least share of its processors' time that a counted run got: 1 on a quiet machine.
    """

    threads: int
    lanes: int
    clock_ghz: float
    fma_gflops: float
    fma_per_cycle: float
    triad_array_bytes: int
    triad_gbs: float
    triad_streaming_gbs: float
    processor_share: float

    def doubts(self) -> list[str]:
        """Return what does not fit together: a processor issues whole FMAs, and loses nothing by saving reads."""
        issued = self.fma_per_cycle
        return [
            doubt
            for doubt, found in (
                (f"other programs took {1 - self.processor_share:.0%} of the processors", self.processor_share < 0.95),
                (
                    f"{issued:.2f} FMA per cycle is not near 1, 2 or 4: is the machine busy?",
                    not _near_port_count(issued),
                ),
                (
                    "plain stores outran streaming ones: is the machine busy?",
                    self.triad_gbs > 1.1 * self.triad_streaming_gbs,
                ),
            )
            if found
        ]


def _near_port_count(issued: float) -> bool:
    """Whether *issued* per cycle of scalar code fits 1, 2 or 4 ports; wide vectors may lower the clock by a quarter."""
    return any(0.75 * ports <= issued <= 1.1 * ports for ports in (1, 2, 4))


def host_width() -> Width:
    """Return the widest float vectors that the host multiplies and adds in one instruction."""
    features: dict[str, bool] = dict(llvm.get_host_cpu_features())
    widths = {"avx512f": Width(16, 32), "fma": Width(8, 16), "neon": Width(4, 32)}
    return next((width for name, width in widths.items() if features.get(name)), Width(4, 16))


class Bench:
    """Times native loops on all threads."""

    def __init__(self, threads: int | None = None) -> None:
        self.jit = HostJit()
        self.pool = ThreadPool(self.jit, threads)
        self.width = host_width()
        self.processor_share = 1.0  # the least that any best run got of its threads' processors

    def best_seconds(self, name: str, text: str, args: NDArray[np.generic], groups: int) -> float:
        """Return the least time of `RUNS` launches of the function *name* in *text*, after one to warm up."""
        with self.jit.load(self.jit.object_code(text), [name]) as code:
            kernel, runs = code.address(name), list[tuple[float, float]]()
            for _ in range(RUNS + 1):
                start, used = time.perf_counter(), time.process_time()
                self.pool.launch(kernel, args.ctypes.data, groups)
                runs.append((time.perf_counter() - start, time.process_time() - used))
        seconds, processor_seconds = min(runs[1:])
        if seconds > RUN_SECONDS / 2:
            self.processor_share = min(self.processor_share, processor_seconds / seconds / self.pool.threads)
        return seconds

    def _turns_per_second(self, name: str, text: str, args: NDArray[np.int64]) -> float:
        """Return how many loop turns all threads make together; args[0], the turns of a group, is set to fill a run."""
        groups = GROUPS_PER_THREAD * self.pool.threads
        args[0] = 1_000
        args[0] = max(1_000, int(1_000 * RUN_SECONDS / self.best_seconds(name, text, args, groups)))
        return groups * int(args[0]) / self.best_seconds(name, text, args, groups)

    def clock_ghz(self) -> float:
        """Return the clock under load, from a chain of dependent one-cycle operations."""
        args = np.array([0, 0x1E3779B97F4A7C15, 0], np.int64)
        return self._turns_per_second("clock", clock_text(), args) * CHAIN_STEPS / self.pool.threads / 1e9

    def fma_gflops(self) -> float:
        """Return the f32 peak; one multiply-add is two operations."""
        # Ports times latency is at most 16 on processors with 32 registers, 10 on those with 16.
        accumulators = 3 * self.width.registers // 4
        args = np.zeros(2 + accumulators, np.int64)
        args.view(np.float32)[2:4] = 0.5, 1.0  # converges to 2: neither subnormal nor infinite
        turns = self._turns_per_second("fma", fma_text(self.width.lanes, accumulators), args)
        return turns * accumulators * self.width.lanes * 2 / 1e9

    def triad_gbs(self, arrays: list[NDArray[np.float32]], *, streaming: bool) -> float:
        """Return the rate of a[i] = b[i] + s * c[i] over *arrays* [a, b, c], at `TRIAD_BYTES` per element."""
        args = np.zeros(4, np.int64)
        args[:3] = [array.ctypes.data for array in arrays]
        args.view(np.float32)[6] = 2.0
        groups = arrays[0].size // TRIAD_GROUP
        seconds = self.best_seconds("triad", triad_text(self.width.lanes, streaming=streaming), args, groups)
        if not (arrays[0][: groups * TRIAD_GROUP] == 3.0).all():
            raise RuntimeError("the triad computed a wrong sum; its time means nothing")
        return groups * TRIAD_GROUP * TRIAD_BYTES / seconds / 1e9


def last_level_cache_bytes() -> int:
    """Return the size of the largest cache that Linux tells of, else 64 MiB."""
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    return max((int(path.read_text().strip().rstrip("K")) << 10 for path in sizes), default=64 << 20)


def triad_arrays() -> list[NDArray[np.float32]]:
    """Return a, b = 1 and c = 1, together the lesser of four last-level caches and a quarter of the memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    each = min(4 * last_level_cache_bytes(), memory // 4) // 3
    size = max(each, 32 << 20) // (4 * TRIAD_GROUP) * TRIAD_GROUP
    arrays = [np.frombuffer(mmap.mmap(-1, 4 * size), np.float32) for _ in range(3)]
    for array in arrays[1:]:
        array.fill(1.0)
    return arrays


def measure(threads: int | None = None) -> Peaks:
    """Measure every limit with *threads* threads, by default one per usable processor; takes some seconds."""
    bench = Bench(threads)
    clock, gflops, arrays = bench.clock_ghz(), bench.fma_gflops(), triad_arrays()
    peaks = Peaks(
        threads=bench.pool.threads,
        lanes=bench.width.lanes,
        clock_ghz=clock,
        fma_gflops=gflops,
        fma_per_cycle=gflops / (2 * bench.width.lanes * clock * bench.pool.threads),
        triad_array_bytes=arrays[0].nbytes,
        triad_gbs=bench.triad_gbs(arrays, streaming=False),
        triad_streaming_gbs=bench.triad_gbs(arrays, streaming=True),
        processor_share=bench.processor_share,
    )
    bench.pool.close()
    return peaks


def table(peaks: Peaks) -> str:
    """Return *peaks* as lines for people."""
    issue = f"{peaks.fma_per_cycle:.2f} x {peaks.lanes} lanes per core and cycle"
    return f"""\
threads                   {peaks.threads:10d}
clock, scalar code        {peaks.clock_ghz:10.2f} GHz
f32 fma peak              {peaks.fma_gflops:10.1f} GFLOP/s   {issue}
triad, plain stores       {peaks.triad_gbs:10.1f} GB/s      12 bytes per element counted, 16 moved
triad, streaming stores   {peaks.triad_streaming_gbs:10.1f} GB/s      12 bytes per element counted, 12 moved"""


def main() -> int:
    """Measure, print and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--threads", type=int, help="how many threads; default: one per usable processor")
    options = parser.parse_args()
    peaks = measure(options.threads)
    print(json.dumps(dataclasses.asdict(peaks), indent=2) if options.json else table(peaks))
    for doubt in peaks.doubts():
        print(f"doubt: {doubt}", file=sys.stderr)
    return int(bool(peaks.doubts()))


if __name__ == "__main__":
    sys.exit(main())
