"""The CUDA driver's half against a stand-in for NVIDIA's library that runs PTX: calls in order, and every error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cffi", reason="cffi is not installed")

from portkit.backends.cuda import driver as cuda
from portkit.backends.cuda.compiler import PtxCompiler
from portkit.backends.cuda.driver import ERRORS, CudaDriver, check_gpu, why_no_gpu
from portkit.backends.drivers.device import CheckedDevice
from portkit.contract import Code
from portkit.errors import CompileError, DeviceError, DeviceHang, DeviceLost, InvalidHandle, OutOfMemory
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel
from tests.backends.cuda.fake import FakeCuda, new_ffi

Device = CheckedDevice[Any]


@pytest.fixture
def library() -> FakeCuda:
    return FakeCuda(new_ffi())


@pytest.fixture
def device(library: FakeCuda) -> Iterator[Device]:
    opened = CheckedDevice(CudaDriver(library.ffi, library), PtxCompiler(90), ERRORS)
    yield opened
    library.fail.clear()
    opened.close()


def doubled(groups: int = 1) -> Kernel:
    """out[i] = 2 x[i], with 64 lanes."""
    b = Builder("doubled")
    x, out = b.buffer("x", "i32", 64 * groups, "read"), b.buffer("out", "i32", 64 * groups, "write")
    group, lane = b.grid(groups), b.lane(64)
    at = b.add(b.mul(group, b.const("i32", 64)), lane)
    b.store(out, at, b.mul(b.load(x, at), b.const("i32", 2)))
    return b.build()


def test_a_kernel_runs_through_the_drivers_calls(device: Device, library: FakeCuda) -> None:
    values = np.arange(128, dtype=np.int32)
    buffers = [device.allocate(512), device.allocate(512)]
    device.write(buffers[0], 0, values.tobytes())
    executable = device.compile(doubled(2))
    device.launch(executable, [2], buffers, [])
    device.synchronise(1.0)
    assert np.frombuffer(device.read(buffers[1], 0, 512), np.int32).tolist() == (2 * values).tolist()
    assert library.launches == [(2, 1, 1, 64, 1, 1, 0)]


def test_the_device_is_named_with_its_capability_and_driver(device: Device) -> None:
    assert device.info.device == "Fake GPU"
    assert device.info.driver == "CUDA 12.4"
    assert device.info.extra == {"compute capability": "9.0"}


def test_a_grid_without_groups_is_not_launched(device: Device, library: FakeCuda) -> None:
    device.launch(device.compile(doubled()), [0], [device.allocate(256), device.allocate(256)], [])
    assert library.launches == []


def test_empty_buffers_and_copies_of_nothing_reach_no_driver_call_that_forbids_them(device: Device) -> None:
    first, second = device.allocate(0), device.allocate(0)
    device.write(first, 0, b"")
    device.copy(first, 0, second, 0, 0)
    assert device.read(first, 0, 0) == b""


def test_large_alignments_are_kept_and_the_drivers_own_address_is_freed(library: FakeCuda) -> None:
    driver = CudaDriver(library.ffi, library)
    driver.allocate(1, 64)
    address = driver.allocate(10, 4096)
    assert address % 4096 == 0
    driver.free(address)
    assert len(library.live) == 1


def test_closing_gives_everything_back(library: FakeCuda) -> None:
    opened: Device = CheckedDevice(CudaDriver(library.ffi, library), PtxCompiler(90), ERRORS)
    opened.allocate(64)
    executable = opened.compile(doubled())
    opened.close()
    assert not library.live
    assert not library.modules
    assert not library.streams
    assert library.retained == 0
    del executable


def test_the_context_is_made_current_again_in_another_thread(
    device: Device, library: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.allocate(8)
    library.current = 0
    monkeypatch.setattr(cuda.threading, "get_ident", lambda: -1)
    device.allocate(8)
    assert library.current
    library.current = 0
    monkeypatch.setattr(cuda.threading, "get_ident", lambda: -2)
    device.synchronise(1.0)
    assert library.current


# --- errors -------------------------------------------------------------------------------------------------------


def test_no_room_is_out_of_memory_in_the_drivers_words(device: Device) -> None:
    with pytest.raises(OutOfMemory, match="CUDA_ERROR_OUT_OF_MEMORY: out of memory") as error:
        device.allocate(1 << 40)
    assert isinstance(error.value.__cause__, cuda.CudaOutOfMemory)


def test_ptx_that_does_not_compile_shows_the_compilers_log(device: Device) -> None:
    with pytest.raises(CompileError, match=r"CUDA_ERROR_INVALID_PTX(.|\n)*cannot read 'nonsense'"):
        device.load_binary(doubled(), Code("", b"nonsense"))


def test_a_stream_that_stays_busy_is_a_hang(device: Device, library: FakeCuda) -> None:
    library.busy = 1 << 60
    with pytest.raises(DeviceHang, match=r"busy after 0\.01 seconds"):
        device.synchronise(0.01)


def test_a_stream_that_gets_ready_in_time_is_waited_for(device: Device, library: FakeCuda) -> None:
    library.busy = 3
    device.synchronise(1.0)
    assert library.busy == -1


def test_a_kernel_that_faults_loses_the_device(device: Device, library: FakeCuda) -> None:
    library.fail["cuStreamQuery"] = 700
    with pytest.raises(DeviceLost, match="CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access"):
        device.synchronise(1.0)


@pytest.mark.parametrize("code", sorted(cuda._KINDS))
def test_every_code_of_the_table_has_its_error(code: int, library: FakeCuda) -> None:
    error = cuda.Calls(library.ffi, library).error("cuMemAlloc_v2", code)
    assert type(error) is cuda._KINDS[code]
    assert type(error) in ERRORS


def test_a_code_that_nobody_knows_is_an_error_with_its_number(library: FakeCuda) -> None:
    error = cuda.Calls(library.ffi, library).error("cuMemAlloc_v2", 12345)
    assert type(error) is cuda.CudaError
    assert "cuMemAlloc_v2: error 12345" in str(error)


def test_any_other_error_is_a_device_error(device: Device, library: FakeCuda) -> None:
    library.fail["cuMemAlloc_v2"] = 1
    with pytest.raises(DeviceError, match="CUDA_ERROR_INVALID_VALUE"):
        device.allocate(8)


def test_a_released_kernel_is_unloaded(device: Device, library: FakeCuda) -> None:
    executable = device.compile(doubled())
    executable.release()
    assert not library.modules
    with pytest.raises(InvalidHandle):
        device.launch(executable, [1], [], [])


# --- is there a GPU? ----------------------------------------------------------------------------------------------


def test_a_driver_with_a_gpu_is_good() -> None:
    ffi = new_ffi()
    assert check_gpu(ffi, FakeCuda(ffi)) == ""


def test_a_driver_that_does_not_start_says_why() -> None:
    ffi = new_ffi()
    assert "no CUDA-capable device" in check_gpu(ffi, FakeCuda(ffi, gpus=0))


def test_a_driver_without_a_gpu_is_named() -> None:
    ffi = new_ffi()
    library = FakeCuda(ffi, gpus=0)
    library.fail["cuInit"] = 0
    assert "finds no GPU" in check_gpu(ffi, library)


def test_a_gpu_that_is_too_old_is_named() -> None:
    ffi = new_ffi()
    assert "6.1, 7.0 is the least" in check_gpu(ffi, FakeCuda(ffi, capability=(6, 1)))


def test_a_lost_device_still_gives_its_context_back(library: FakeCuda) -> None:
    driver = CudaDriver(library.ffi, library)
    library.fail["cuStreamDestroy_v2"] = 700
    with pytest.raises(cuda.CudaContextLost):
        driver.close()
    assert library.retained == 0


def test_a_missing_driver_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(cuda, "_library", missing)
    assert why_no_gpu() == "no NVIDIA driver: libcuda.so.1: cannot open shared object file; install it to use a GPU"


def test_a_missing_cffi_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cffi", None)
    cuda._library.cache_clear()
    assert "pip install cffi" in why_no_gpu()
    cuda._library.cache_clear()
