"""What every port owes: faults planted in it are found, a kernel without end is ended, launches leave nothing behind.

A port that cannot run on this machine is skipped, with its own reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from portkit.conformance.case import Case, Tier
from portkit.conformance.cases.collect import collect
from portkit.conformance.judge import judge_case
from portkit.conformance.mutants.table import MUTANTS, Mutant
from portkit.conformance.verdict import Verdict
from portkit.contract import installed_backends
from portkit.errors import DeviceHang, OutOfMemory
from portkit.runtime.client import DeviceClient
from portkit.spec.builder import Builder
from portkit.spec.forms import FORMS
from portkit.spec.kernel import Kernel
from portkit.spec.types import DTYPES

Array: TypeAlias = NDArray[np.int32]
PORTS = list(installed_backends())
SAMPLED = [m for m in MUTANTS.values() if not m.equivalent][::20]
"""`portkit mutants --backend NAME` plants all of them."""
HANG_SECONDS = 2.0
WARM, LAUNCHES = 200, 400
PAGES_OF_ALLOCATORS = 256
"""The heap of a process grows by steps even where nothing leaks; 10,000 launches are measured by bench/launches.py."""


@pytest.fixture(scope="module", params=PORTS)
def port(request: pytest.FixtureRequest) -> Iterator[DeviceClient]:
    with DeviceClient(request.param) as client:
        if reason := client.probe():
            pytest.skip(f"{request.param}: {reason}")
        yield client


@pytest.fixture(scope="module")
def cases(port: DeviceClient) -> dict[str, Case]:
    return {case.id: case for case in collect(port.capabilities)}


def test_eight_ports_are_installed() -> None:
    assert set(PORTS) >= {"amd", "c", "cpu", "cuda", "metal", "opencl", "riscv", "webgpu"}


@pytest.mark.parametrize("mutant", SAMPLED, ids=lambda mutant: mutant.name)
def test_a_planted_fault_is_found(port: DeviceClient, cases: dict[str, Case], mutant: Mutant) -> None:
    if mutant.admitted(port.capabilities):
        pytest.skip(f"{port.reference} declares that it flushes")
    if mutant.witness not in cases:
        assert not declares(port, mutant), f"{port.reference} declares what {mutant.witness} is about"
        pytest.skip(f"{port.reference} does not declare what {mutant.witness} needs")
    trial = cases[mutant.witness].trial
    if not mutant.wrap(port).may_show([trial().kernel] if trial else []):
        pytest.skip(f"{port.reference} cannot run what the fault makes of the kernel")
    assert cases[mutant.witness].tier in (Tier.SMOKE, Tier.STANDARD)
    outcome = judge_case(cases[mutant.witness], mutant.plant(port))
    assert not outcome.verdict.passes
    assert outcome.verdict is not Verdict.ERROR


def declares(port: DeviceClient, mutant: Mutant) -> bool:
    """Whether the port declares the form and dtypes that a witness is about, which its id names."""
    _, form, dtype = mutant.witness.split("/")[:3]
    named = dtype.split("-to-")
    return (
        form in FORMS
        and all(name in DTYPES and name in port.capabilities.dtypes for name in named)
        and port.capabilities.admits(FORMS[form], DTYPES[named[-1]])
    )


def endless() -> Kernel:
    """A kernel whose loops would take longer than anybody waits, and that no compiler can see through."""
    b = Builder("endless")
    out, n = b.buffer("out", "u32", 1, "readwrite"), b.scalar("n", "i32")
    b.grid(1)
    b.lane(1)
    zero = b.const("i32", 0)
    with b.serial(n) as outer, b.serial(n) as inner:
        value = b.load(out, zero)
        mixed = b.op(
            "reduce.xor", b.mul(value, b.const("u32", 1664525)), b.cast(b.add(outer.index, inner.index), "u32")
        )
        b.store(out, zero, mixed)
    return b.build()


def test_a_kernel_that_never_ends_is_ended_and_the_device_opens_again(port: DeviceClient) -> None:
    with pytest.raises(DeviceHang):
        port.execute(endless(), [1], [bytes(4)], [2**31 - 1], timeout=HANG_SECONDS)
    assert run_square(port, np.array([3, 4], np.int32)).tolist() == [9, 16]


def test_more_memory_than_there_is_is_refused_and_the_device_goes_on(port: DeviceClient) -> None:
    with pytest.raises(OutOfMemory):
        port.allocate(1 << 60)
    assert run_square(port, np.array([5], np.int32)).tolist() == [25]


def square(extent: int) -> Kernel:
    b = Builder("square")
    x, out = b.buffer("x", "i32", extent, "read"), b.buffer("out", "i32", extent, "write")
    b.grid(1)
    lane = b.lane(extent)
    value = b.load(x, lane)
    b.store(out, lane, b.mul(value, value))
    return b.build()


def run_square(port: DeviceClient, values: Array) -> Array:
    ran = port.execute(square(len(values)), [1], [values.tobytes(), bytes(values.nbytes)], [])
    return np.frombuffer(ran.outputs[1], np.int32)


def resident_pages(pid: int) -> int:
    """Return the resident pages of a process and of all that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return own + sum(resident_pages(int(child)) for child in children)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is measured through /proc")
def test_launches_leave_no_memory_behind(port: DeviceClient) -> None:
    executable = port.compile(square(64))
    buffers = [port.allocate(256), port.allocate(256)]
    before = 0
    for turn in range(WARM + LAUNCHES):
        if turn == WARM:
            before = resident_pages(port.pid)
        port.launch(executable, [1], buffers, [])
        port.synchronise()
    grown = resident_pages(port.pid) - before
    executable.release()
    for buffer in buffers:
        port.free(buffer)
    assert grown <= PAGES_OF_ALLOCATORS
