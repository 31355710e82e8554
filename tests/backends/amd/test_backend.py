"""The amd backend where there is no GPU: what it says of itself, and the interpreter as its device."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from portkit.backends.amd import EMULATE, AmdBackend, hip, link
from portkit.backends.amd import device as device_module
from portkit.backends.amd.compiler import pack_binary
from portkit.backends.amd.device import open_gpu
from portkit.backends.drivers.device import CheckedDevice
from portkit.contract import Code
from portkit.errors import CannotRunHere, DeviceError, DeviceLost, OutOfMemory
from portkit.spec.builder import Builder
from tests.backends.amd.kernels import doubled, reversed_lanes

Device = CheckedDevice[Any]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    monkeypatch.setenv(EMULATE, "1")
    opened = AmdBackend().open()
    assert isinstance(opened, CheckedDevice)
    yield opened
    opened.close()


def test_importing_the_backend_loads_no_library() -> None:
    text = "import sys, portkit.backends.amd; print([m for m in ('llvmlite', 'cffi') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_emulation_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMULATE, "1")
    backend = AmdBackend()
    assert backend.probe() is None
    assert backend.capabilities.evidence == "own-model"


def test_emulation_can_be_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMULATE, "0")
    monkeypatch.setattr(hip, "why_no_gpu", lambda: "no HIP runtime: gone")
    assert AmdBackend().probe() == f"no HIP runtime: gone ({EMULATE}=0 forbids the interpreter)"
    with pytest.raises(CannotRunHere, match="gone"):
        AmdBackend().open()


def test_on_a_gpu_the_evidence_is_silicon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(EMULATE, raising=False)
    monkeypatch.setattr(hip, "why_no_gpu", lambda: "")
    assert AmdBackend().capabilities.evidence == "silicon"


def test_on_a_gpu_the_probe_asks_for_a_linker(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> tuple[str, ...]:
        raise CannotRunHere("no linker for code objects")

    monkeypatch.delenv(EMULATE, raising=False)
    monkeypatch.setattr(hip, "why_no_gpu", lambda: "")
    monkeypatch.setattr(link, "linker", missing)
    assert AmdBackend().probe() == "no linker for code objects"


def test_a_gpu_that_does_not_open_is_told_in_the_runtimes_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise hip.HipDeviceLost("hipStreamCreateWithFlags: hipErrorNoDevice: gone")

    monkeypatch.setattr(device_module, "HipDriver", broken)
    with pytest.raises(DeviceLost, match="opening the GPU: hipStreamCreateWithFlags: hipErrorNoDevice: gone"):
        open_gpu()


def test_without_llvmlite_the_probe_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMULATE, "1")
    monkeypatch.setitem(sys.modules, "portkit.backends.amd.compiler", None)
    reason = AmdBackend().probe()
    assert reason is not None
    assert "pip install llvmlite" in reason


def test_the_device_says_that_it_is_emulated_and_why(device: Device) -> None:
    assert device.info.device == "interpreter of gfx942"
    assert device.info.extra == {"emulated": f"{EMULATE}=1 asks for the interpreter"}


@pytest.mark.parametrize("lanes", [1, 7, 64, 65, 200, 1024])
def test_groups_of_any_size_run(device: Device, lanes: int) -> None:
    values = np.arange(lanes, dtype=np.int32)
    buffers = [device.allocate(values.nbytes) for _ in range(2)]
    device.write(buffers[0], 0, values.tobytes())
    device.launch(device.compile(reversed_lanes(lanes)), [1], buffers, [])
    device.synchronise(1.0)
    assert device.read(buffers[1], 0, values.nbytes) == values[::-1].tobytes()


def test_memory_has_an_end(device: Device) -> None:
    with pytest.raises(OutOfMemory, match="left of its"):
        device.allocate(1 << 40)


def test_a_wild_access_names_lane_and_instruction(device: Device) -> None:
    b = Builder("wild")
    out = b.buffer("out", "i32", 8, "write")
    b.grid(1)
    lane = b.lane(8)
    b.store(out, b.mul(lane, b.const("i32", 1 << 20)), lane)
    with pytest.raises(DeviceError, match=r"illegal address .*work-group 0, lane 1, line \d+ `global_store_dword"):
        device.launch(device.compile(b.build()), [1], [device.allocate(32)], [])


def test_a_text_that_the_interpreter_does_not_know_is_refused_when_it_is_loaded(device: Device) -> None:
    with pytest.raises(DeviceError, match="no instruction v_nonsense"):
        device.load_binary(doubled(), Code("", pack_binary(64, b"kernel:\n\tv_nonsense v0\n")))


def test_a_closed_device_is_gone(device: Device) -> None:
    device.close()
    with pytest.raises(DeviceLost):
        device.allocate(1)


def test_launches_leave_nothing_on_the_device(device: Device) -> None:
    buffers = [device.allocate(256), device.allocate(256)]
    executable = device.compile(doubled())
    free = list(device._driver._memory._free)  # type: ignore[attr-defined]
    for _ in range(50):
        device.launch(executable, [1], buffers, [])
    assert device._driver._memory._free == free  # type: ignore[attr-defined]
