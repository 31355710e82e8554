"""The HIP half against a stand-in for AMD's library that runs gfx942 text: calls in order, and every error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cffi", reason="cffi is not installed")

from portkit.backends.amd import hip
from portkit.backends.amd.compiler import AmdCompiler, pack_binary
from portkit.backends.amd.hip import ERRORS, HipDriver, count_gpus, why_no_gpu
from portkit.backends.drivers.device import CheckedDevice
from portkit.contract import Code
from portkit.errors import CompileError, DeviceError, DeviceHang, DeviceLost, OutOfMemory
from tests.backends.amd.fake import FakeHip, new_ffi
from tests.backends.amd.kernels import doubled

Device = CheckedDevice[Any]


@pytest.fixture
def library() -> FakeHip:
    return FakeHip(new_ffi())


@pytest.fixture
def device(library: FakeHip) -> Iterator[Device]:
    opened = CheckedDevice(HipDriver(library.ffi, library), AmdCompiler(), ERRORS)
    yield opened
    library.fail.clear()
    opened.close()


def run_doubled(device: Device, groups: int) -> bool:
    values = np.arange(64 * groups, dtype=np.int32)
    buffers = [device.allocate(values.nbytes) for _ in range(2)]
    device.write(buffers[0], 0, values.tobytes())
    device.launch(device.compile(doubled(groups)), [groups], buffers, [])
    device.synchronise(1.0)
    return device.read(buffers[1], 0, values.nbytes) == (2 * values).tobytes()


def test_a_kernel_runs_through_the_runtimes_calls(device: Device, library: FakeHip) -> None:
    assert run_doubled(device, 2)
    assert library.launches == [(2, 1, 1, 64, 1, 1, 0)]


def test_a_grid_of_too_many_work_items_is_launched_in_parts(
    device: Device, library: FakeHip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hip, "_MOST_ITEMS", 191)
    assert run_doubled(device, 5)
    assert [launch[0] for launch in library.launches] == [2, 2, 1]


def test_a_grid_without_groups_is_not_launched(device: Device, library: FakeHip) -> None:
    device.launch(device.compile(doubled()), [0], [device.allocate(256), device.allocate(256)], [])
    assert library.launches == []


def test_the_device_is_named_with_its_instruction_set_and_runtime(device: Device) -> None:
    assert device.info.device == "Fake GPU"
    assert device.info.driver == "HIP 6.2"
    assert device.info.extra == {"instruction set": "gfx942"}


def test_a_device_without_a_known_instruction_set_is_refused(library: FakeHip) -> None:
    library.properties = b"something else"
    with pytest.raises(hip.HipError, match="names no instruction set of AMD GPUs"):
        HipDriver(library.ffi, library)


def test_empty_buffers_and_copies_of_nothing_reach_no_call_that_forbids_them(device: Device) -> None:
    first, second = device.allocate(0), device.allocate(0)
    device.write(first, 0, b"")
    device.copy(first, 0, second, 0, 0)
    assert device.read(first, 0, 0) == b""


def test_bytes_are_copied_on_the_device(device: Device) -> None:
    first, second = device.allocate(8), device.allocate(8)
    device.write(first, 0, b"abcdefgh")
    device.copy(second, 2, first, 1, 3)
    assert device.read(second, 2, 3) == b"bcd"


def test_large_alignments_are_kept_and_the_runtimes_own_address_is_freed(library: FakeHip) -> None:
    driver = HipDriver(library.ffi, library)
    driver.allocate(1, 64)
    address = driver.allocate(10, 4096)
    assert address % 4096 == 0
    driver.free(address)
    assert len(library.live) == 1


def test_closing_gives_everything_back(library: FakeHip) -> None:
    opened: Device = CheckedDevice(HipDriver(library.ffi, library), AmdCompiler(), ERRORS)
    opened.allocate(64)
    executable = opened.compile(doubled())
    opened.close()
    assert not library.live
    assert not library.modules
    assert library.streams == 0
    del executable


# --- errors -------------------------------------------------------------------------------------------------------


def test_no_room_is_out_of_memory_in_the_runtimes_words(device: Device) -> None:
    with pytest.raises(OutOfMemory, match="hipMalloc: hipErrorOutOfMemory: out of memory") as error:
        device.allocate(1 << 40)
    assert isinstance(error.value.__cause__, hip.HipOutOfMemory)


def test_a_code_object_that_does_not_load_is_a_compile_error(device: Device) -> None:
    with pytest.raises(CompileError, match=r"loading kernel doubled: .*hipErrorInvalidImage: device kernel image"):
        device.load_binary(doubled(), Code("", pack_binary(64, b"nonsense")))


def test_a_stream_that_stays_busy_is_a_hang(device: Device, library: FakeHip) -> None:
    library.busy = 1 << 60
    with pytest.raises(DeviceHang, match=r"busy after 0\.01 seconds"):
        device.synchronise(0.01)


def test_a_stream_that_gets_ready_in_time_is_waited_for(device: Device, library: FakeHip) -> None:
    library.busy = 3
    device.synchronise(1.0)
    assert library.busy == -1


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (700, DeviceLost, "hipErrorIllegalAddress: an illegal memory access"),
        (719, DeviceLost, "hipErrorLaunchFailure"),
        (702, DeviceHang, "hipErrorLaunchTimeOut"),
        (999, DeviceError, "error 999: unknown"),
    ],
)
def test_what_a_kernel_ends_with_keeps_the_runtimes_words(
    device: Device, library: FakeHip, code: int, kind: type[DeviceError], words: str
) -> None:
    library.fail["hipStreamQuery"] = code
    with pytest.raises(kind, match=f"hipStreamQuery: {words}") as error:
        device.synchronise(1.0)
    assert type(error.value) is kind


def test_no_gpu_is_told_with_what_to_do(library: FakeHip) -> None:
    library.devices = 0
    assert count_gpus(library.ffi, library) == "HIP finds no GPU; is one plugged in?"


def test_a_runtime_that_does_not_start_is_told_in_its_own_words(library: FakeHip) -> None:
    library.fail["hipInit"] = 100
    assert count_gpus(library.ffi, library).startswith("HIP does not start: hipInit: hipErrorNoDevice: no ROCm")


def test_a_missing_runtime_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> tuple[Any, Any]:
        raise OSError("libamdhip64.so: cannot open shared object file")

    monkeypatch.setattr(hip, "_library", missing)
    assert why_no_gpu() == "no HIP runtime: libamdhip64.so: cannot open shared object file; install ROCm to use a GPU"


def test_a_missing_cffi_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> tuple[Any, Any]:
        raise ImportError("No module named 'cffi'")

    monkeypatch.setattr(hip, "_library", missing)
    assert why_no_gpu() == "cffi cannot be loaded (No module named 'cffi'); pip install cffi"


def test_every_name_of_the_library_is_tried_before_it_counts_as_missing() -> None:
    class Loader:
        tried: list[str] = []  # noqa: RUF012 - one test, one list

        def dlopen(self, name: str) -> Any:
            self.tried.append(name)
            if name == hip._LIBRARIES[-1]:
                return "library"
            raise OSError(name)

    assert hip._first_of(Loader(), hip._LIBRARIES) == "library"
    assert Loader.tried == list(hip._LIBRARIES)
