"""The host as a device: handles and ranges are checked, errors are ours, nothing outlives a reset."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from portkit.backends.cpu import BACKEND
from portkit.backends.cpu.device import CpuDevice, open_host
from portkit.contract import Backend, find_backend
from portkit.errors import CannotRunHere, CompileError, DeviceError, DeviceLost, InvalidHandle, OutOfMemory
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel


@pytest.fixture
def own_device() -> Iterator[CpuDevice]:
    """A device that a test may reset or close."""
    opened = open_host(BACKEND.capabilities)
    yield opened
    opened.close()


def doubling(access: str = "write") -> Kernel:
    b = Builder("doubling")
    n = b.scalar("n", "i32")
    x, out = b.buffer("x", "f32", "n", "read"), b.buffer("out", "f32", "n", "write" if access == "write" else "read")
    g = b.grid(n)
    b.lane(1)
    value = b.load(x, g)
    if access == "write":
        b.store(out, g, b.add(value, value))
    return b.build()


def test_the_backend_is_found_by_its_name_and_can_run_here() -> None:
    backend = find_backend("cpu")
    assert isinstance(backend, Backend)
    assert backend.name == backend.capabilities.name == "cpu"
    assert backend.probe() is None


def test_the_probe_names_a_missing_llvmlite(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("portkit.backends.toolkit.host_jit")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    assert "llvmlite" in (BACKEND.probe() or "")
    with pytest.raises(CannotRunHere, match="llvmlite"):
        BACKEND.open()


def test_importing_the_backend_does_not_load_llvmlite() -> None:
    code = "import sys, portkit.backends.cpu; sys.exit('llvmlite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_device_says_what_it_is(device: CpuDevice) -> None:
    assert "threads" in device.info.device
    assert device.info.compiler.startswith("LLVM ")
    assert device.info.extra["features"]


@pytest.mark.parametrize("align", [1, 64, 4096])
@pytest.mark.parametrize("size", [0, 1, 1000])
def test_a_buffer_starts_at_its_alignment_and_holds_what_is_written(device: CpuDevice, size: int, align: int) -> None:
    handle = device.allocate(size, align)
    data = bytes(range(256)) * 4
    device.write(handle, 0, data[:size])
    assert device.read(handle, 0, size) == data[:size]
    device.free(handle)


def test_parts_of_a_buffer_are_written_read_and_copied(device: CpuDevice) -> None:
    first, second = device.allocate(8), device.allocate(8)
    device.write(first, 0, b"abcdefgh")
    device.write(second, 0, np.zeros(2, np.float32).data)
    device.copy(second, 3, first, 1, 4)
    assert device.read(second, 2, 6) == b"\0bcde\0"
    device.free(first)
    device.free(second)


@pytest.mark.parametrize(("offset", "size"), [(0, 9), (8, 1), (-1, 2), (9, 0), (0, -1)])
def test_a_range_outside_a_buffer_is_refused(device: CpuDevice, offset: int, size: int) -> None:
    handle = device.allocate(8)
    with pytest.raises(InvalidHandle, match="outside"):
        device.read(handle, offset, size)
    device.free(handle)


def test_a_freed_or_foreign_handle_is_refused(device: CpuDevice) -> None:
    handle = device.allocate(8)
    device.free(handle)
    for use in (lambda: device.free(handle), lambda: device.read(handle, 0, 0), lambda: device.write(-1, 0, b"")):
        with pytest.raises(InvalidHandle, match="freed"):
            use()


def test_more_memory_than_a_buffer_may_have_is_refused(device: CpuDevice) -> None:
    with pytest.raises(OutOfMemory):
        device.allocate(BACKEND.capabilities.limits.buffer_bytes + 1)


@pytest.mark.parametrize(("size", "align"), [(-1, 64), (8, 0), (8, 48)])
def test_a_nonsensical_allocation_is_refused(device: CpuDevice, size: int, align: int) -> None:
    with pytest.raises(DeviceError, match="allocate"):
        device.allocate(size, align)


def test_a_launch_reads_and_writes_its_buffers(device: CpuDevice) -> None:
    executable = device.compile(doubling())
    x, out = device.allocate(400), device.allocate(400)
    device.write(x, 0, np.arange(100, dtype=np.float32).tobytes())
    device.launch(executable, [100], [x, out], [100])
    device.synchronise(1.0)
    assert np.frombuffer(device.read(out, 0, 400), np.float32).tolist() == (2 * np.arange(100.0)).tolist()


@pytest.mark.parametrize("count", [0, -5])
def test_a_grid_of_nothing_launches_nothing(device: CpuDevice, count: int) -> None:
    executable = device.compile(doubling())
    x, out = device.allocate(0), device.allocate(0)
    device.launch(executable, [count], [x, out], [0])


@pytest.mark.parametrize(("grid", "buffers", "scalars"), [([], 2, [4]), ([4], 1, [4]), ([4], 2, []), ([4, 4], 2, [4])])
def test_a_launch_with_the_wrong_number_of_arguments_is_refused(
    device: CpuDevice, grid: list[int], buffers: int, scalars: list[int]
) -> None:
    executable = device.compile(doubling())
    handles = [device.allocate(16) for _ in range(buffers)]
    with pytest.raises(DeviceError, match="takes"):
        device.launch(executable, grid, handles, scalars)


def test_a_buffer_that_is_too_small_is_refused(device: CpuDevice) -> None:
    executable = device.compile(doubling())
    with pytest.raises(InvalidHandle, match="declared"):
        device.launch(executable, [5], [device.allocate(20), device.allocate(16)], [5])


def test_a_written_buffer_is_not_given_twice(device: CpuDevice) -> None:
    both = device.allocate(16)
    with pytest.raises(InvalidHandle, match="twice"):
        device.launch(device.compile(doubling()), [4], [both, both], [4])
    device.launch(device.compile(doubling("read")), [4], [both, both], [4])


@pytest.mark.parametrize("scalar", [2**31, -(2**31) - 1])
def test_a_scalar_out_of_range_is_refused(device: CpuDevice, scalar: int) -> None:
    b = Builder("unused")
    b.scalar("n", "i32")
    b.grid(1)
    b.lane(1)
    with pytest.raises(DeviceError, match="out of range"):
        device.launch(device.compile(b.build()), [1], [], [scalar])


def test_a_released_executable_is_refused(device: CpuDevice) -> None:
    executable = device.compile(doubling())
    executable.release()
    executable.release()
    with pytest.raises(InvalidHandle):
        device.launch(executable, [0], [device.allocate(0), device.allocate(0)], [0])


def test_a_form_without_an_expansion_is_a_compile_error(device: CpuDevice) -> None:
    kernel = doubling()
    body = tuple(
        replace(i, name="reduce.mma", args=(*i.args, i.args[0])) if i.name == "add" else i for i in kernel.body
    )
    with pytest.raises(CompileError, match=r"reduce\.mma has no expansion"):
        device.compile(replace(kernel, body=body))


def test_the_source_of_an_executable_is_its_llvm_ir(device: CpuDevice) -> None:
    assert "fadd float" in device.compile(doubling()).source


def test_a_reset_forgets_buffers_and_executables(own_device: CpuDevice) -> None:
    handle, executable = own_device.allocate(16), own_device.compile(doubling())
    own_device.reset()
    with pytest.raises(InvalidHandle):
        own_device.read(handle, 0, 1)
    fresh = [own_device.allocate(16), own_device.allocate(16)]
    assert handle not in fresh
    with pytest.raises(InvalidHandle):
        own_device.launch(executable, [4], fresh, [4])


def test_an_executable_of_another_device_is_refused(device: CpuDevice, own_device: CpuDevice) -> None:
    with pytest.raises(InvalidHandle):
        own_device.launch(device.compile(doubling()), [0], [own_device.allocate(0), own_device.allocate(0)], [0])


def test_a_closed_device_is_lost(own_device: CpuDevice) -> None:
    own_device.close()
    own_device.close()
    for use in (lambda: own_device.allocate(1), lambda: own_device.synchronise(1.0), own_device.reset):
        with pytest.raises(DeviceLost, match="closed"):
            use()
