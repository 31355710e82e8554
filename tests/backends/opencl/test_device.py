"""The driver: buffers and their parts, launches of any size, and what becomes of a vendor's errors."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from portkit.contract import Code
from portkit.errors import CompileError, DeviceError, DeviceHang, DeviceLost, InvalidHandle, OutOfMemory
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel

if TYPE_CHECKING:
    from portkit.backends.drivers.device import CheckedDevice

cl = pytest.importorskip("pyopencl", reason="pyopencl is not installed")
port = pytest.importorskip("portkit.backends.opencl.device")

LANES = 8


def numbers(groups: int = 4) -> Kernel:
    """out[group * LANES + lane] = in[lane] + group, for a grid of two loops."""
    b = Builder("numbers")
    x, out = b.buffer("in", "i32", LANES, "read"), b.buffer("out", "i32", groups * LANES, "write")
    columns = b.scalar("columns", "i32")
    row, column = b.grid(b.scalar("rows", "i32")), b.grid(columns)
    lane = b.lane(LANES)
    group = b.add(b.mul(row, columns), column)
    b.store(out, b.add(b.mul(group, b.const("i32", LANES)), lane), b.add(b.load(x, lane), group))
    return b.build()


def launch(device: CheckedDevice[Any], executable: Any, grid: Sequence[int], buffers: Sequence[int]) -> None:
    device.launch(executable, grid, buffers, [grid[1], grid[0]])


def ints(data: bytes) -> list[int]:
    return np.frombuffer(data, np.int32).tolist()


# --- memory -----------------------------------------------------------------------------------------------------------


def test_bytes_are_copied_at_any_offset(device: CheckedDevice[Any]) -> None:
    first, second = device.allocate(101), device.allocate(101)
    device.write(first, 3, bytes(range(50)))
    device.copy(second, 1, first, 5, 7)
    assert device.read(second, 1, 7) == bytes(range(2, 9))


def test_empty_transfers_and_buffers_do_nothing(device: CheckedDevice[Any]) -> None:
    empty, other = device.allocate(0), device.allocate(64)
    device.write(empty, 0, b"")
    device.copy(other, 64, empty, 0, 0)
    assert device.read(other, 64, 0) == b""


def test_a_kernel_reads_and_writes_parts_of_one_buffer(device: CheckedDevice[Any]) -> None:
    whole = device.allocate(64 * 5)
    device.write(whole, 0, bytes(64 * 5))
    source, target = device.view(whole, 192, 4 * LANES), device.view(whole, 64, 8 * LANES)
    device.write(source, 0, np.arange(LANES, dtype=np.int32).tobytes())
    launch(device, device.compile(numbers(2)), (1, 2), [source, target])
    assert ints(device.read(whole, 0, 64)) == [0] * 16
    assert ints(device.read(target, 0, 64)) == [*range(LANES), *range(1, LANES + 1)]
    assert ints(device.read(whole, 128, 64)) == [0] * 16


def test_a_kernel_still_running_keeps_a_buffer_that_is_freed(device: CheckedDevice[Any]) -> None:
    source, target = device.allocate(4 * LANES), device.allocate(16 * LANES)
    device.write(source, 0, bytes(4 * LANES))
    launch(device, device.compile(numbers()), (2, 2), [source, target])
    device.free(source)
    assert ints(device.read(target, 0, 16 * LANES)) == [group for group in range(4) for _ in range(LANES)]


# --- launches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 3, 4, 100])
def test_a_grid_beyond_what_a_device_counts_is_launched_in_pieces(
    at_once: int, device: CheckedDevice[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port, "_MOST_LANES", at_once * LANES + 1)
    source, target = device.allocate(4 * LANES), device.allocate(16 * LANES)
    device.write(source, 0, bytes(4 * LANES))
    launch(device, device.compile(numbers()), (2, 2), [source, target])
    assert ints(device.read(target, 0, 16 * LANES)) == [group for group in range(4) for _ in range(LANES)]


def test_no_work_groups_are_no_launch(device: CheckedDevice[Any]) -> None:
    source, target = device.allocate(4 * LANES), device.allocate(16 * LANES)
    device.write(target, 0, bytes([7]) * 16 * LANES)
    launch(device, device.compile(numbers()), (0, 2), [source, target])
    device.synchronise(1.0)
    assert device.read(target, 0, 16 * LANES) == bytes([7]) * 16 * LANES


def test_waiting_again_when_all_is_done_returns_at_once(device: CheckedDevice[Any]) -> None:
    device.synchronise(10.0)
    device.synchronise(0.0)


def test_launches_leave_no_objects_behind(device: CheckedDevice[Any]) -> None:
    executable = device.compile(numbers())
    buffers = [device.allocate(4 * LANES), device.allocate(16 * LANES)]

    def some() -> int:
        for _ in range(50):
            launch(device, executable, (2, 2), buffers)
            device.synchronise(5.0)
        gc.collect()
        return len(gc.get_objects())

    some()
    assert abs(some() - some()) <= 5


def test_the_text_of_a_kernel_is_what_another_process_loads(device: CheckedDevice[Any]) -> None:
    kernel = numbers()
    code = device.compile_to_binary(kernel)
    assert code.binary.decode() == code.source
    assert device.load_binary(kernel, code).source == code.source


# --- errors -----------------------------------------------------------------------------------------------------------


def test_a_text_that_does_not_compile_gives_the_compilers_words(device: CheckedDevice[Any]) -> None:
    code = Code("", b"kernel void run(global int *x) { x[0] = undeclared_thing; }")
    with pytest.raises(CompileError, match=r"(?s)loading kernel numbers: .*undeclared_thing") as caught:
        device.load_binary(numbers(), code)
    assert isinstance(caught.value.__cause__, cl.RuntimeError)


def test_a_buffer_beyond_what_the_device_has_is_out_of_memory(device: CheckedDevice[Any]) -> None:
    with pytest.raises(OutOfMemory, match=r"allocating 1152921504606846976 bytes: .*INVALID_BUFFER_SIZE"):
        device.allocate(1 << 60)


CODES = [
    ("MEM_OBJECT_ALLOCATION_FAILURE", OutOfMemory),
    ("OUT_OF_RESOURCES", OutOfMemory),
    ("OUT_OF_HOST_MEMORY", OutOfMemory),
    ("DEVICE_NOT_AVAILABLE", DeviceLost),
    ("INVALID_COMMAND_QUEUE", DeviceLost),
    ("EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST", DeviceLost),
    ("INVALID_OPERATION", DeviceError),
]


@pytest.mark.parametrize(("code", "ours"), CODES)
def test_a_vendors_error_at_a_launch_keeps_its_name(
    code: str, ours: type[DeviceError], device: CheckedDevice[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise cl.RuntimeError(cl._cl._ErrorRecord(msg="", code=getattr(cl.status_code, code), routine="clEnqueue"))

    executable, buffers = device.compile(numbers()), [device.allocate(4 * LANES), device.allocate(16 * LANES)]
    monkeypatch.setattr(cl, "enqueue_nd_range_kernel", fail)
    with pytest.raises(DeviceError, match=f"launching kernel numbers: .*{code}") as caught:
        launch(device, executable, (2, 2), buffers)
    assert type(caught.value) is ours
    assert isinstance(caught.value.__cause__, cl.Error)


class Pending:
    """An event that has not ended, or one that the device ended with an error."""

    def __init__(self, status: int) -> None:
        self.command_execution_status = status

    def wait(self) -> None:
        code = cl.status_code.EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST
        raise cl.RuntimeError(cl._cl._ErrorRecord(msg="", code=code, routine="clWaitForEvents"))


def test_a_kernel_that_does_not_end_in_time_is_a_hang_and_stays_one(device: CheckedDevice[Any]) -> None:
    driver: Any = device._driver
    driver._last = Pending(cl.command_execution_status.RUNNING)
    for _ in range(2):
        with pytest.raises(DeviceHang, match=r"waiting for the device: no answer in 0\.01 s"):
            device.synchronise(0.01)
    driver._last = None


def test_a_kernel_that_the_device_ended_with_an_error_means_that_the_device_is_lost(device: CheckedDevice[Any]) -> None:
    driver: Any = device._driver
    driver._last = Pending(-5)
    with pytest.raises(DeviceLost, match=r"waiting for the device: .*EXEC_STATUS_ERROR"):
        device.synchronise(1.0)


def test_a_closed_device_takes_nothing_more() -> None:
    from portkit.backends.opencl import BACKEND

    if reason := BACKEND.probe():
        pytest.skip(reason)
    opened = BACKEND.open()
    handle = opened.allocate(64)
    opened.close()
    opened.close()
    with pytest.raises(DeviceLost, match="closed"):
        opened.read(handle, 0, 64)


def test_options_that_the_user_adds_reach_every_build_and_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    from portkit.backends.opencl import BACKEND

    if reason := BACKEND.probe():
        pytest.skip(reason)
    monkeypatch.setenv(port.OPTIONS, "-cl-opt-disable '-DWORDS=1 + 1'")
    opened = BACKEND.open()
    try:
        assert opened.info.compiler.endswith(" -cl-opt-disable -DWORDS=1 + 1")
        monkeypatch.setenv(port.OPTIONS, "-no-such-option")
        other = BACKEND.open()
        with pytest.raises(DeviceError, match="no-such-option"):
            other.compile(numbers())
        other.close()
    finally:
        opened.close()


def test_a_reset_forgets_buffers_and_kernels() -> None:
    from portkit.backends.opencl import BACKEND

    if reason := BACKEND.probe():
        pytest.skip(reason)
    opened = BACKEND.open()
    handle, executable = opened.allocate(64), opened.compile(numbers())
    opened.reset()
    with pytest.raises(InvalidHandle, match="was freed"):
        opened.read(handle, 0, 64)
    with pytest.raises(InvalidHandle, match="released"):
        opened.launch(executable, [1, 1], [], [])
    opened.close()
