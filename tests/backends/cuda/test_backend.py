"""The cuda backend without a GPU: what it says of itself, when it emulates, and what its interpreter refuses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from portkit.backends.cuda import EMULATE, CudaBackend
from portkit.backends.cuda.device import open_emulated
from portkit.backends.drivers.device import CheckedDevice
from portkit.contract import Code, Device
from portkit.errors import CannotRunHere, CompileError, DeviceError, DeviceLost, OutOfMemory
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel

NO_GPU = "no NVIDIA driver: it is not there; install it to use a GPU"


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> CudaBackend:
    """A backend on a machine without a GPU."""
    monkeypatch.delenv(EMULATE, raising=False)
    monkeypatch.setattr("portkit.backends.cuda.driver.why_no_gpu", lambda: NO_GPU)
    return CudaBackend()


@pytest.fixture
def device(backend: CudaBackend) -> Iterator[Device]:
    opened = backend.open()
    yield opened
    opened.close()


def test_without_a_gpu_it_runs_on_a_model_and_says_so(backend: CudaBackend, device: Device) -> None:
    assert backend.probe() is None
    assert backend.capabilities.evidence == "own-model"
    assert device.info.device == "interpreter of PTX"
    assert device.info.extra == {"emulated": NO_GPU}


def test_with_a_gpu_it_claims_silicon(backend: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portkit.backends.cuda.driver.why_no_gpu", lambda: "")
    assert backend.capabilities.evidence == "silicon"


def test_a_gpu_can_be_left_aside(backend: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portkit.backends.cuda.driver.why_no_gpu", lambda: "")
    monkeypatch.setenv(EMULATE, "1")
    assert backend.capabilities.evidence == "own-model"
    assert backend.open().info.extra == {"emulated": f"{EMULATE}=1 asks for the interpreter"}


def test_the_interpreter_can_be_forbidden(backend: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMULATE, "0")
    assert backend.probe() == f"{NO_GPU} ({EMULATE}=0 forbids the interpreter)"
    with pytest.raises(CannotRunHere, match="no NVIDIA driver"):
        backend.open()


def test_without_llvmlite_it_cannot_run_and_says_what_to_install(
    backend: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "portkit.backends.cuda.compiler")
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    assert "pip install llvmlite" in str(backend.probe())


def test_importing_the_backend_loads_no_device_library() -> None:
    code = (
        "import sys, portkit.backends.cuda as c; c.BACKEND.name;"
        "print([m for m in sys.modules if m.split('.')[0] in ('cffi', 'llvmlite', 'numpy')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def stored(at: int) -> Kernel:
    """Lane 0 stores to an element that need not be there."""
    b = Builder("stored")
    out = b.buffer("out", "i32", 4, "write")
    b.grid(1)
    lane = b.lane(2)
    b.store(out, b.add(lane, b.const("i32", at)), lane)
    return b.build()


def run(device: Device, kernel: Kernel) -> list[int]:
    buffer = device.allocate(16)
    device.write(buffer, 0, bytes(16))
    executable = device.compile(kernel)
    try:
        device.launch(executable, [1], [buffer], [])
        device.synchronise(1.0)
        return np.frombuffer(device.read(buffer, 0, 16), np.int32).tolist()
    finally:
        executable.release()
        device.free(buffer)


def test_a_kernel_runs_on_the_interpreter(device: Device) -> None:
    assert run(device, stored(2)) == [0, 0, 0, 1]


def test_a_store_outside_its_buffer_is_an_error_with_instruction_group_and_lane(device: Device) -> None:
    with pytest.raises(DeviceError, match=r"illegal address .*st\.global.* in group 0, lane 1"):
        run(device, stored(3))
    assert run(device, stored(0)) == [0, 1, 0, 0]


def test_more_memory_than_the_chip_has_is_out_of_memory(device: Device) -> None:
    with pytest.raises(OutOfMemory, match="that a buffer may have"):
        device.allocate(1 << 60)


def test_ptx_that_the_interpreter_does_not_know_is_a_compile_error(backend: CudaBackend) -> None:
    device: CheckedDevice[Any] = open_emulated(backend.capabilities, "")
    with pytest.raises(CompileError, match="PTX"):
        device.load_binary(stored(0), Code("", b"nonsense"))


def test_closing_forgets_all_memory(backend: CudaBackend) -> None:
    device = backend.open()
    for _ in range(3):
        run(device, stored(1))
    device.allocate(1 << 20)
    device.close()
    with pytest.raises(DeviceLost, match="closed"):
        device.allocate(1)
