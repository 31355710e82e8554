"""A port out of tree with a driver in C: it conforms, and each way to fail reaches the caller in the driver's words."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from portkit.conformance.case import Tier
from portkit.conformance.run import RunOptions, run_suite
from portkit.errors import CannotRunHere, CompileError, DeviceHang, OutOfMemory
from portkit.runtime.client import DeviceClient
from portkit.spec.text import parse
from tests.ports.building import build_queued, needs_a_c_compiler
from tests.ports.queued import LIBRARY
from tests.runtime.kernels import add_kernel

pytestmark = needs_a_c_compiler
QUEUED = "tests.ports.queued:BACKEND"

SLOW = parse("""
portkit 1.0-draft
kernel slow
buffer x i32[1] readwrite
begin
zero = mov.const i32 0
many = mov.const i32 2147483647
g = loop.grid many
l = loop.lane 1
v = load x zero
w = mul v many
s = add w g
store x zero s
endloop l
endloop g
""")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_queued(tmp_path_factory.mktemp("queued"))


@pytest.fixture(autouse=True)
def _plugged(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIBRARY, str(library))


@pytest.fixture
def device() -> Iterator[DeviceClient]:
    with DeviceClient(QUEUED, timeout=20) as client:
        yield client


def test_the_port_conforms(tmp_path: Path) -> None:
    result = run_suite(RunOptions(QUEUED, out=tmp_path, tier=Tier.SMOKE, workers=1))
    assert result.exit_code == 0, f"{result.message} {dict(result.counts)}"


def test_a_port_whose_library_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIBRARY, "/nowhere/driver.so")
    with DeviceClient(QUEUED) as client, pytest.raises(CannotRunHere, match=r"driver driver\.so cannot be loaded"):
        client.require()


def test_an_unplugged_card_is_named_by_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUED_UNPLUGGED", "3")
    with DeviceClient(QUEUED) as client, pytest.raises(CannotRunHere, match="no card in slot 3"):
        client.require()


def test_memory_that_the_card_does_not_have_is_out_of_memory(device: DeviceClient) -> None:
    with pytest.raises(OutOfMemory, match=r"allocating .* the card has no 2147483648 bytes"):
        device.allocate(1 << 31)


@pytest.mark.parametrize(("compiler", "said"), [("/nowhere/cc", "CC names /nowhere/cc"), ("false", "false exited")])
def test_a_kernel_that_cannot_be_linked_does_not_compile(
    compiler: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", compiler)
    with DeviceClient(QUEUED) as client, pytest.raises(CompileError, match=said):
        client.compile(add_kernel())


def test_a_kernel_that_does_not_end_is_a_hang_in_the_drivers_words(device: DeviceClient) -> None:
    before = device.pid
    executable = device.compile(SLOW)  # beforehand, as it takes a time of its own
    device.launch(executable, [2147483647], [device.allocate(4)], [])
    with pytest.raises(DeviceHang, match="waiting for the device: 1 launches are not done"):
        device.synchronise(1)
    assert device.pid != before


def test_launches_run_while_the_caller_goes_on_and_in_order(device: DeviceClient) -> None:
    executable = device.compile(add_kernel())
    handles = [device.allocate(256) for _ in range(3)]
    x = np.arange(64, dtype=np.int32)
    for handle in handles:
        device.write(handle, 0, x.tobytes())
    for _ in range(40):
        device.launch(executable, [2], [handles[0], handles[1], handles[2]], [])
        device.launch(executable, [2], [handles[2], handles[1], handles[0]], [])
    found = np.frombuffer(device.read(handles[0], 0, 256), np.int32)
    assert np.array_equal(found, x * 81)


def test_many_launches_take_no_more_memory(device: DeviceClient) -> None:
    def launch(times: int) -> int:
        for _ in range(times):
            device.launch(executable, [2], handles, [])
        device.synchronise()
        return resident_pages(device.pid)

    executable = device.compile(add_kernel())
    handles = [device.allocate(256) for _ in range(3)]
    before = launch(500)
    assert launch(1000) - before <= 16


def resident_pages(pid: int) -> int:
    statm = Path(f"/proc/{pid}/statm")
    if not statm.exists():
        pytest.skip("this system has no /proc")
    assert resource.getpagesize() == os.sysconf("SC_PAGE_SIZE")
    return int(statm.read_text().split()[1])
