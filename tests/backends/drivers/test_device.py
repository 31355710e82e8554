"""The checked device: what it keeps from a driver, what it hands on, and what it makes of the driver's exceptions."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from portkit.backends.drivers.arguments import pack_arguments
from portkit.backends.drivers.device import Buffer, CheckedDevice, renamed
from portkit.contract import ALIGNMENT, Caching, Code, DeviceInfo, HostMemory, Replay, SubBuffers
from portkit.errors import DeviceError, DeviceHang, DeviceLost, InvalidHandle, OutOfMemory
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel

ERRORS: dict[type[Exception], type[DeviceError]] = {
    MemoryError: OutOfMemory,
    TimeoutError: DeviceHang,
    OSError: DeviceError,
}


class Recorder:
    """A driver that notes what it is asked; `broken` names the function that raises, and what."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.broken: dict[str, Exception] = {}
        self.end = 4096

    def note(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, arguments))
        if name in self.broken:
            raise self.broken[name]

    def info(self) -> DeviceInfo:
        return DeviceInfo("recorder")

    def allocate(self, size: int, align: int) -> int:
        self.note("allocate", size, align)
        self.end += 4096
        return self.end

    def load(self, binary: bytes) -> str:
        self.note("load", binary)
        return f"program {len(self.calls)}"

    def free(self, address: int) -> None:
        self.note("free", address)

    def write(self, address: int, data: bytes | memoryview) -> None:
        self.note("write", address, bytes(data))

    def read(self, address: int, size: int) -> bytes:
        self.note("read", address, size)
        return bytes(size)

    def copy(self, target: int, source: int, size: int) -> None:
        self.note("copy", target, source, size)

    def unload(self, program: str) -> None:
        self.note("unload", program)

    def start(self, program: str, arguments: bytes, groups: int, scratch: int) -> None:
        self.note("start", program, arguments, groups, scratch)

    def wait(self, timeout: float) -> None:
        self.note("wait", timeout)

    def close(self) -> None:
        self.note("close")

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


class Texts:
    """A compiler that only tells which kernel it got."""

    def compile(self, kernel: Kernel) -> Code:
        return Code(f"source of {kernel.name}", kernel.name.encode(), 192)


def increment() -> Kernel:
    b = Builder("increment")
    data = b.buffer("data", "i32", "n", "readwrite")
    b.scalar("n", "i32")
    b.scalar("step", "f32")
    index = b.add(b.mul(b.grid(b.scalar("groups", "i32")), b.const("i32", 8)), b.lane(8))
    b.store(data, index, b.add(b.load(data, index), b.const("i32", 1)))
    return b.build()


@pytest.fixture
def driver() -> Recorder:
    return Recorder()


@pytest.fixture
def device(driver: Recorder) -> CheckedDevice[str]:
    return CheckedDevice(driver, Texts(), ERRORS)


# --- memory -------------------------------------------------------------------------------------------------------


def test_addresses_and_offsets_reach_the_driver_and_handles_do_not(
    device: CheckedDevice[str], driver: Recorder
) -> None:
    first, second = device.allocate(100), device.allocate(100)
    device.copy(second, 20, first, 10, 30)
    assert driver.calls[-1] == ("copy", (3 * 4096 + 20, 2 * 4096 + 10, 30))


def test_an_alignment_is_never_less_than_that_of_the_contract(device: CheckedDevice[str], driver: Recorder) -> None:
    device.allocate(1, 1)
    device.allocate(1, 4 * ALIGNMENT)
    assert driver.calls == [("allocate", (1, ALIGNMENT)), ("allocate", (1, 4 * ALIGNMENT))]


@pytest.mark.parametrize(("size", "align"), [(-1, 64), (1, 0), (1, 96)])
def test_a_senseless_allocation_never_reaches_the_driver(
    size: int, align: int, device: CheckedDevice[str], driver: Recorder
) -> None:
    with pytest.raises(DeviceError, match="cannot allocate"):
        device.allocate(size, align)
    assert driver.calls == []


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (0, 101), (100, 1), (0, -1)])
def test_a_range_outside_the_buffer_never_reaches_the_driver(
    offset: int, size: int, device: CheckedDevice[str], driver: Recorder
) -> None:
    handle = device.allocate(100)
    with pytest.raises(InvalidHandle, match="outside a buffer of 100"):
        device.read(handle, offset, size)
    assert driver.names() == ["allocate"]


def test_elements_wider_than_a_byte_are_counted_in_bytes(device: CheckedDevice[str]) -> None:
    handle = device.allocate(8)
    words = memoryview(struct.pack("<3i", 1, 2, 3)).cast("i")
    with pytest.raises(InvalidHandle, match="bytes 0 to 12"):
        device.write(handle, 0, words)


def test_every_checked_device_has_parts_and_binaries_and_only_a_host_has_more(device: CheckedDevice[str]) -> None:
    assert isinstance(device, SubBuffers)
    assert isinstance(device, Caching)
    assert not isinstance(device, HostMemory)
    assert not isinstance(device, Replay)


def test_a_part_of_a_part_has_the_address_of_both_offsets(device: CheckedDevice[str], driver: Recorder) -> None:
    part = device.view(device.view(device.allocate(1024), 128, 512), 64, 100)
    device.read(part, 4, 96)
    assert driver.calls[-1] == ("read", (2 * 4096 + 128 + 64 + 4, 96))


@pytest.mark.parametrize(("offset", "size"), [(-64, 1), (0, 101), (64, 37), (0, -1), (4, 8)])
def test_a_part_outside_its_buffer_or_misaligned_is_refused(offset: int, size: int, device: CheckedDevice[str]) -> None:
    whole = device.allocate(100)
    with pytest.raises(InvalidHandle):
        device.view(whole, offset, size)


def test_freeing_a_part_gives_no_memory_back(device: CheckedDevice[str], driver: Recorder) -> None:
    whole = device.allocate(100)
    part = device.view(whole, 64, 8)
    device.free(part)
    assert "free" not in driver.names()
    with pytest.raises(InvalidHandle, match="freed"):
        device.read(part, 0, 8)
    device.free(whole)
    assert driver.names().count("free") == 1


def test_freeing_a_buffer_ends_its_parts_and_theirs(device: CheckedDevice[str], driver: Recorder) -> None:
    whole = device.allocate(1024)
    inner = device.view(device.view(whole, 64, 512), 64, 8)
    device.free(whole)
    assert driver.names().count("free") == 1
    with pytest.raises(InvalidHandle, match="freed"):
        device.read(inner, 0, 8)


def test_a_reset_frees_a_buffer_with_parts_once(device: CheckedDevice[str], driver: Recorder) -> None:
    device.view(device.allocate(1024), 64, 512)
    device.reset()
    assert driver.names().count("free") == 1


# --- kernels ------------------------------------------------------------------------------------------------------


def test_a_binary_loads_as_the_kernel_that_it_was_compiled_from(device: CheckedDevice[str], driver: Recorder) -> None:
    kernel, handle = increment(), device.allocate(96)
    code = device.compile_to_binary(kernel)
    assert driver.names() == ["allocate"]
    executable = device.load_binary(kernel, code)
    device.launch(executable, [3], [handle], [24, 0.5, 3])
    assert executable.source == code.source
    assert driver.names() == ["allocate", "load", "start"]


def test_a_launch_hands_on_the_program_arguments_groups_and_scratch(
    device: CheckedDevice[str], driver: Recorder
) -> None:
    executable, handle = device.compile(increment()), device.allocate(96)
    device.launch(executable, [3], [handle], [24, 0.5, 3])
    words = struct.pack("<Qi4xf4xi4xq", 2 * 4096, 24, 0.5, 3, 3)
    assert driver.calls[-1] == ("start", (executable.program, words, 3, 192))


def test_a_released_kernel_is_unloaded_once_and_launched_no_more(device: CheckedDevice[str], driver: Recorder) -> None:
    executable, handle = device.compile(increment()), device.allocate(96)
    executable.release()
    executable.release()
    assert driver.names().count("unload") == 1
    with pytest.raises(InvalidHandle, match="released"):
        device.launch(executable, [3], [handle], [24, 0.5, 3])


def test_a_kernel_of_another_device_is_not_launched(device: CheckedDevice[str]) -> None:
    foreign = CheckedDevice(Recorder(), Texts(), ERRORS).compile(increment())
    with pytest.raises(InvalidHandle, match="another device"):
        device.launch(foreign, [3], [device.allocate(96)], [24, 0.5, 3])


def test_a_negative_grid_extent_starts_no_groups() -> None:
    assert pack_arguments(increment(), [-5], [Buffer(64, 96)], [24, 0.5, 3]).groups == 0


@pytest.mark.parametrize(
    ("grid", "sizes", "scalars", "words"),
    [
        ([1, 1], [96], [24, 0.5, 3], "2 grid extents, 1 buffers and 3 scalars"),
        ([1], [], [24, 0.5, 3], "1 grid extents, 0 buffers and 3 scalars"),
        ([1], [96], [24], "1 grid extents, 1 buffers and 1 scalars"),
        ([1 << 31], [96], [24, 0.5, 3], "2147483648 work-groups"),
        ([1], [92], [24, 0.5, 3], "has 92 bytes, 24 x i32"),
        ([1], [96], [24, 0.5, 1 << 31], "scalar 2147483648 is out of range"),
    ],
)
def test_arguments_that_do_not_fit_the_header_are_refused(
    grid: list[int], sizes: list[int], scalars: list[float], words: str
) -> None:
    with pytest.raises(DeviceError, match=words):
        pack_arguments(increment(), grid, [Buffer(64, size) for size in sizes], scalars)


def test_a_written_buffer_shares_no_memory_with_another_that_is_given(device: CheckedDevice[str]) -> None:
    b = Builder("copying")
    source, target = b.buffer("source", "i32", 32, "read"), b.buffer("target", "i32", 32, "write")
    index = b.add(b.mul(b.grid(4), b.const("i32", 8)), b.lane(8))
    b.store(target, index, b.load(source, index))
    executable, whole = device.compile(b.build()), device.allocate(320)
    first, second, third = (device.view(whole, offset, 128) for offset in (0, 64, 128))
    device.launch(executable, [4], [first, third], [])
    with pytest.raises(InvalidHandle, match="shares memory"):
        device.launch(executable, [4], [first, second], [])


# --- errors and the end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours"), [(MemoryError, OutOfMemory), (TimeoutError, DeviceHang), (ConnectionError, DeviceError)]
)
def test_the_first_row_that_fits_renames_an_exception(theirs: type[Exception], ours: type[DeviceError]) -> None:
    with pytest.raises(DeviceError, match="testing: no") as caught, renamed(ERRORS, "testing"):
        raise theirs("no")
    assert type(caught.value) is ours
    assert isinstance(caught.value.__cause__, theirs)


def test_a_reset_unloads_every_kernel_and_frees_every_buffer(device: CheckedDevice[str], driver: Recorder) -> None:
    executable, handle = device.compile(increment()), device.allocate(1)
    device.reset()
    assert driver.names() == ["load", "allocate", "unload", "free"]
    assert executable.program is None
    with pytest.raises(InvalidHandle):
        device.free(handle)


def test_a_driver_that_fails_to_free_is_closed_all_the_same(device: CheckedDevice[str], driver: Recorder) -> None:
    device.allocate(1)
    driver.broken["free"] = OSError("the link is down")
    with pytest.raises(DeviceError, match="freeing a buffer: the link is down"):
        device.close()
    device.close()
    assert driver.names().count("close") == 1


@pytest.mark.parametrize("name", ["reset", "synchronise", "allocate"])
def test_a_closed_device_does_nothing_more(name: str, device: CheckedDevice[str], driver: Recorder) -> None:
    device.close()
    arguments = {"reset": (), "synchronise": (1.0,), "allocate": (1,)}[name]
    with pytest.raises(DeviceLost, match="open it again"):
        getattr(device, name)(*arguments)
    assert driver.names() == ["close"]
