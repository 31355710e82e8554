"""Launch latency, and what 10,000 launches leave behind, of every port that can run here.

Prints microseconds for a launch with its wait, through the device process, and how much the memory of the device's
processes grew over the launches after a tenth of them; exits 1 where it grew by more than the limit.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from portkit.contract import installed_backends
from portkit.runtime.client import DeviceClient
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel

LAUNCHES = 10_000
WARM = LAUNCHES // 10
LIMIT_BYTES_A_LAUNCH = 16
"""A leak of anything leaves at least one allocation of 16 bytes behind for each launch."""


def square() -> Kernel:
    """Return a kernel of one work-group that squares 64 numbers."""
    b = Builder("square")
    x, out = b.buffer("x", "i32", 64, "read"), b.buffer("out", "i32", 64, "write")
    b.grid(1)
    lane = b.lane(64)
    value = b.load(x, lane)
    b.store(out, lane, b.mul(value, value))
    return b.build()


def resident(pid: int) -> int:
    """Return the resident bytes of a process and of all that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    status = Path(f"/proc/{pid}/status").read_text()
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return 1024 * own + sum(resident(int(child)) for child in children)


def measure(port: DeviceClient) -> tuple[float, int]:
    """Return microseconds a launch, and bytes grown over the launches that were counted."""
    executable = port.compile(square())
    buffers = [port.allocate(256), port.allocate(256)]
    before, started = 0, 0.0
    for turn in range(LAUNCHES):
        if turn == WARM:
            before, started = resident(port.pid), time.perf_counter()
        port.launch(executable, [1], buffers, [])
        port.synchronise()
    elapsed = time.perf_counter() - started
    return 1e6 * elapsed / (LAUNCHES - WARM), resident(port.pid) - before


def main() -> int:
    """Measure every port, print a table and return the exit code."""
    arguments = argparse.ArgumentParser(description="Measure launches of ports.")
    arguments.add_argument("backends", nargs="*", default=list(installed_backends()))
    over = False
    print(f"{'port':10} {'us a launch':>12} {'bytes grown':>12} {'limit':>10}")
    limit = LIMIT_BYTES_A_LAUNCH * (LAUNCHES - WARM)
    for name in arguments.parse_args().backends:
        with DeviceClient(name) as port:
            if reason := port.probe():
                print(f"{name:10} {reason}")
                continue
            microseconds, grown = measure(port)
        over = over or grown > limit
        print(f"{name:10} {microseconds:12,.0f} {grown:12,} {limit:10,}")
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
