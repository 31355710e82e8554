"""The driver for a Mac's GPU, against objects that stand for pyobjc's."""

from __future__ import annotations

import struct
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from portkit.backends.drivers.device import CheckedDevice
from portkit.backends.metal import MODEL_VARIABLE, MetalBackend, gpu
from portkit.errors import CannotRunHere, CompileError, DeviceError, DeviceHang, DeviceLost, OutOfMemory
from tests.backends.metal import pyobjc
from tests.backends.metal.kernels import execute, neighbours, scaled

Opened = CheckedDevice[gpu.Pipeline]


@pytest.fixture
def chip() -> pyobjc.Device:
    return pyobjc.Device()


@pytest.fixture
def backend(chip: pyobjc.Device, monkeypatch: pytest.MonkeyPatch) -> MetalBackend:
    """The backend on a Mac with that chip."""
    monkeypatch.setattr("portkit.backends.metal.sys", SimpleNamespace(platform="darwin"))
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "Metal", pyobjc.Metal(chip))
    monkeypatch.setitem(sys.modules, "objc", pyobjc.Objc())
    return MetalBackend()


@pytest.fixture
def device(backend: MetalBackend) -> Any:
    return backend.open()


def words(encoder: pyobjc.Encoder, slot: int) -> tuple[int, ...]:
    data = encoder.bytes[slot]
    return struct.unpack(f"<{len(data) // 8}Q", data)


# --- the backend --------------------------------------------------------------------------------------------------


def test_on_a_gpu_the_evidence_is_silicon(backend: MetalBackend) -> None:
    assert backend.probe() is None
    assert backend.capabilities.evidence == "silicon"


def test_on_a_mac_too_the_model_can_be_had(backend: MetalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODEL_VARIABLE, "model")
    assert backend.capabilities.evidence == "own-model"


def test_a_mac_without_a_gpu_cannot_run(backend: MetalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "Metal", pyobjc.Metal(None))
    assert "no GPU" in (backend.probe() or "")
    with pytest.raises(CannotRunHere, match="no GPU"):
        backend.open()


def test_a_mac_without_pyobjc_is_told_what_to_install(backend: MetalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "Metal", None)
    assert "pip install 'portkit[metal]'" in (backend.probe() or "")


def test_an_older_system_is_told_what_it_lacks(backend: MetalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    old = SimpleNamespace(MTLCreateSystemDefaultDevice=pyobjc.Device)
    monkeypatch.setitem(sys.modules, "Metal", old)
    assert "macOS 15" in (backend.probe() or "")


# --- memory -------------------------------------------------------------------------------------------------------


def test_bytes_written_to_a_buffer_are_read_back_and_copied(device: Opened) -> None:
    a, b = device.allocate(100), device.allocate(100)
    device.write(a, 10, b"twelve bytes")
    device.copy(b, 3, a, 10, 12)
    assert device.read(b, 3, 12) == b"twelve bytes"


def test_an_empty_buffer_is_one_of_metals_least(device: Opened) -> None:
    handle = device.allocate(0)
    assert device.read(handle, 0, 0) == b""
    device.free(handle)


@pytest.mark.parametrize(("no_room", "size"), [(True, 64), (False, (1 << 20) + 1)])
def test_no_room_is_out_of_memory(device: Opened, chip: pyobjc.Device, no_room: bool, size: int) -> None:
    chip.no_room = no_room
    with pytest.raises(OutOfMemory, match=str(size)):
        device.allocate(size)


# --- launches -----------------------------------------------------------------------------------------------------


def test_a_launch_binds_buffers_numbers_and_the_shape(device: Opened, chip: pyobjc.Device) -> None:
    execute(device, scaled(), {"x": np.zeros(24, np.float32)}, {"rows": 3, "a": 1.5, "shift": -2})
    [encoder] = chip.committed
    assert [len(buffer.data) for buffer, _ in encoder.bound.values()] == [96, 96]
    one_and_a_half, minus_two = struct.unpack("<I", struct.pack("<f", 1.5))[0], (1 << 32) - 2
    assert words(encoder, 2) == (3, one_and_a_half, minus_two, 3, 2, 0)
    assert encoder.dispatched == [((6, 1, 1), (4, 1, 1), 0)]
    assert encoder.shared == {}


def test_a_part_of_a_buffer_is_bound_with_its_offset(device: Opened, chip: pyobjc.Device) -> None:
    executable = device.compile(neighbours(meet=True))
    whole = device.allocate(4096)
    device.launch(executable, [3], [device.view(whole, 1024, 2048)], [])
    assert [offset for _, offset in chip.committed[0].bound.values()] == [1024]


def test_shared_memory_is_asked_for_with_the_launch(device: Opened, chip: pyobjc.Device) -> None:
    execute(device, neighbours(meet=True), {}, {})
    assert chip.committed[0].shared == {0: 256}


def test_a_grid_beyond_what_metal_counts_is_several_dispatches(
    device: Opened, chip: pyobjc.Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "MOST_GROUPS", 4)
    execute(device, scaled(), {}, {"rows": 5, "a": 0.0, "shift": 0})
    assert [(groups.width, first) for groups, _, first in chip.committed[0].dispatched] == [(4, 0), (4, 4), (2, 8)]


def test_an_empty_grid_commits_nothing(device: Opened, chip: pyobjc.Device) -> None:
    execute(device, scaled(), {}, {"rows": 0, "a": 0.0, "shift": 0})
    assert chip.committed == []


def test_what_is_done_is_not_kept(device: Opened) -> None:
    executable, buffer = device.compile(neighbours(meet=True)), device.allocate(768)
    for _ in range(1000):
        device.launch(executable, [3], [buffer], [])
    driver: Any = device._driver
    assert len(driver._pending) == 1
    assert driver._objc.pools == 0


# --- compilation --------------------------------------------------------------------------------------------------


def test_text_is_compiled_safely_and_for_metal_3_2(device: Opened, chip: pyobjc.Device) -> None:
    executable = device.compile(scaled())
    [(text, options)] = chip.compiled
    assert text == executable.source
    assert options.set == {"language": pyobjc.Metal.MTLLanguageVersion3_2, "math": 0, "functions": 1}
    assert chip.functions == ["entry"]


def test_text_that_does_not_compile_is_an_error_with_metals_words(device: Opened, chip: pyobjc.Device) -> None:
    chip.refusal = pyobjc.Error("program_source:3:1: error: unknown type name 'flaot'")
    with pytest.raises(CompileError, match=r"loading kernel scaled: .*'flaot'"):
        device.compile(scaled())


def test_a_kernel_with_too_many_registers_for_its_lanes_is_refused(device: Opened, chip: pyobjc.Device) -> None:
    chip.most_lanes = 32
    with pytest.raises(CompileError, match=r"64 threads .* at most 32"):
        device.compile(neighbours(meet=True))


# --- what goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error"), [(2, DeviceHang), (4, DeviceLost), (8, OutOfMemory), (11, DeviceLost), (3, DeviceError)]
)
def test_a_failed_command_buffer_is_our_error_with_metals_words(
    device: Opened, chip: pyobjc.Device, code: int, error: type[Exception]
) -> None:
    chip.outcome, chip.failure = pyobjc.FAILED, pyobjc.Error("Caused GPU Hang Error (00000003)", code)
    device.launch(device.compile(neighbours(meet=True)), [3], [device.allocate(768)], [])
    with pytest.raises(error, match="Caused GPU Hang Error") as raised:
        device.synchronise(1.0)
    assert type(raised.value) is error
    assert isinstance(raised.value.__cause__, gpu.MetalError)


def test_a_failure_is_told_although_a_later_launch_succeeds(device: Opened, chip: pyobjc.Device) -> None:
    executable, buffer = device.compile(neighbours(meet=True)), device.allocate(768)
    chip.outcome, chip.failure = pyobjc.FAILED, pyobjc.Error("page fault", 3)
    device.launch(executable, [3], [buffer], [])
    chip.outcome = pyobjc.COMPLETED
    device.launch(executable, [3], [buffer], [])
    with pytest.raises(DeviceError, match="page fault"):
        device.synchronise(1.0)


def test_a_kernel_that_does_not_end_is_a_hang_within_the_time_limit(device: Opened, chip: pyobjc.Device) -> None:
    chip.outcome = pyobjc.COMMITTED
    device.launch(device.compile(neighbours(meet=True)), [3], [device.allocate(768)], [])
    with pytest.raises(DeviceHang, match="not finished"):
        device.synchronise(0.01)


def test_a_read_waits_for_what_was_started(device: Opened, chip: pyobjc.Device) -> None:
    buffer = device.allocate(768)

    def store(encoder: pyobjc.Encoder) -> None:
        encoder.bound[0][0].data[:3] = b"new"

    chip.work = store
    device.launch(device.compile(neighbours(meet=True)), [3], [buffer], [])
    assert device.read(buffer, 0, 3) == b"new"
    chip.outcome, chip.failure = pyobjc.FAILED, pyobjc.Error("gone", 11)
    device.launch(device.compile(neighbours(meet=True)), [3], [buffer], [])
    with pytest.raises(DeviceLost, match="gone"):
        device.read(buffer, 0, 3)


def test_a_closed_device_says_so(device: Opened) -> None:
    device.close()
    with pytest.raises(DeviceLost, match="closed"):
        device.allocate(4)
