"""How fast a device copies and launches; the least of a few tries, as others may use the machine."""

from __future__ import annotations

import time

from portkit.conformance.cases.session import buffers
from portkit.conformance.probing.bench import Bench
from portkit.conformance.probing.facts import Speed
from portkit.contract import Capabilities
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel

COPY_BYTES = 64 << 20
_COPIES, _LAUNCHES = 5, 50


def measure(bench: Bench, declared: Capabilities) -> Speed:
    """Time copies of a large buffer and launches of a kernel that does almost nothing. Raises `Refused`."""
    size = min(COPY_BYTES, declared.limits.buffer_bytes)
    return Speed(size, min(_copy_seconds(bench, size)), min(_launch_seconds(bench)))


def _copy_seconds(bench: Bench, size: int) -> list[float]:
    client, taken = bench.client, list[float]()
    with bench.asking(), buffers(client, [size, size]) as (source, target):
        for _ in range(_COPIES):
            started = time.perf_counter()
            client.copy(target, 0, source, 0, size)
            client.synchronise()
            taken.append(time.perf_counter() - started)
    return taken


def _launch_seconds(bench: Bench) -> list[float]:
    """Return the seconds between launch and the end of the wait, as the device process counts them."""
    kernel = _smallest()
    with bench.asking():
        ran = [bench.client.execute(kernel, [1], [bytes(4)], []) for _ in range(_LAUNCHES)]
    return [one.launch_seconds for one in ran]


def _smallest() -> Kernel:
    b = Builder("smallest")
    out = b.buffer("out", "i32", 1, "write")
    b.grid(1)
    lane = b.lane(1)
    b.store(out, lane, lane)
    return b.build()
