"""Recorded launches on the host: they do what launching each would, and are refused where that would be."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from portkit.backends.cpu import BACKEND
from portkit.backends.cpu.device import CpuDevice, open_host
from portkit.contract import ALIGNMENT, Call, HostMemory, Parameter, Replay
from portkit.errors import DeviceError, DeviceLost, InvalidHandle
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel

COUNT = 512
BYTES = 4 * COUNT


@pytest.fixture
def own_device() -> Iterator[CpuDevice]:
    opened = open_host(BACKEND.capabilities)
    yield opened
    opened.close()


def adding(groups: int = 8, shared: int = 0) -> Kernel:
    """out = x + step over COUNT floats."""
    b = Builder("adding")
    x, out = b.buffer("x", "f32", COUNT, "read"), b.buffer("out", "f32", COUNT, "write")
    step, lanes = b.scalar("step", "f32"), COUNT // groups
    if shared:
        b.shared("room", "f32", shared)
    index = b.add(b.mul(b.grid(groups), b.const("i32", lanes)), b.lane(lanes))
    b.store(out, index, b.add(b.load(x, index), step))
    return b.build()


def floats(device: CpuDevice, handle: int) -> list[float]:
    return np.unique(np.frombuffer(device.read(handle, 0, BYTES), np.float32)).tolist()


def zeros(device: CpuDevice) -> int:
    handle = device.allocate(BYTES)
    device.write(handle, 0, bytes(BYTES))
    return handle


def test_the_cpu_device_shares_memory_and_replays(device: CpuDevice) -> None:
    assert isinstance(device, HostMemory)
    assert isinstance(device, Replay)


@pytest.mark.parametrize("groups", [1, 2, 8, 64])
def test_a_replayed_chain_runs_in_order_whatever_its_parameters(device: CpuDevice, groups: int) -> None:
    kernel, inner = device.compile(adding(groups)), [device.allocate(BYTES) for _ in range(2)]
    path = [Parameter(0), *inner * 20, Parameter(1)]
    recording = device.record([Call(kernel, [groups], path[i : i + 2], [1.0]) for i in range(len(path) - 1)])
    for _ in range(3):
        source, target = zeros(device), device.allocate(BYTES)
        device.replay(recording, [source, target])
        assert floats(device, target) == [41.0]
        device.replay(recording, [target, source])
        assert floats(device, source) == [82.0]


def test_calls_of_several_kernels_get_the_scratch_that_the_largest_needs(device: CpuDevice) -> None:
    small, large = device.compile(adding()), device.compile(adding(shared=200_000))
    x, y, z = zeros(device), device.allocate(BYTES), device.allocate(BYTES)
    recording = device.record([Call(small, [8], [x, y], [1.0]), Call(large, [8], [y, z], [2.0])])
    device.replay(recording, [])
    assert floats(device, z) == [3.0]


def test_a_recording_of_nothing_replays(device: CpuDevice) -> None:
    device.replay(device.record([]), [])


def test_a_call_that_launch_refuses_is_not_recorded(device: CpuDevice) -> None:
    kernel, x = device.compile(adding()), device.allocate(BYTES)
    with pytest.raises(DeviceError, match="takes"):
        device.record([Call(kernel, [8], [x], [1.0])])
    with pytest.raises(InvalidHandle, match="declared"):
        device.record([Call(kernel, [8], [x, device.allocate(8)], [1.0])])
    with pytest.raises(InvalidHandle, match="twice"):
        device.record([Call(kernel, [8], [Parameter(0), Parameter(0)], [1.0])])


def _sizes(*sizes: int) -> Sequence[int]:
    return sizes


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (_sizes(BYTES), "takes 2 buffers, got 1"),
        (_sizes(BYTES, BYTES, BYTES), "takes 2 buffers, got 3"),
        (_sizes(BYTES - 1, BYTES), f"parameter 0 has {BYTES - 1} bytes, the recording needs {BYTES}"),
        (_sizes(BYTES, 0), "parameter 1 has 0 bytes"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(device: CpuDevice, sizes: Sequence[int], words: str) -> None:
    recording = device.record([Call(device.compile(adding()), [8], [Parameter(0), Parameter(1)], [1.0])])
    with pytest.raises(InvalidHandle, match=words):
        device.replay(recording, [device.allocate(size) for size in sizes])


def test_parameters_that_share_memory_with_what_is_written_are_refused(device: CpuDevice) -> None:
    kernel, fixed = device.compile(adding()), zeros(device)
    whole = device.allocate(2 * BYTES)
    low, middle = device.view(whole, 0, BYTES), device.view(whole, 64, BYTES)
    two = device.record([Call(kernel, [8], [Parameter(0), Parameter(1)], [1.0])])
    one = device.record([Call(kernel, [8], [fixed, Parameter(0)], [1.0])])
    for recording, buffers in ((two, [fixed, fixed]), (two, [low, middle]), (one, [fixed])):
        with pytest.raises(InvalidHandle, match="twice"):
            device.replay(recording, buffers)


def test_parameters_of_different_calls_may_share_memory(device: CpuDevice) -> None:
    kernel, inner, both = device.compile(adding()), device.allocate(BYTES), zeros(device)
    calls = [Call(kernel, [8], [Parameter(0), inner], [1.0]), Call(kernel, [8], [inner, Parameter(1)], [1.0])]
    device.replay(device.record(calls), [both, both])
    assert floats(device, both) == [2.0]


def test_a_recording_without_its_buffer_kernel_or_device_is_refused(own_device: CpuDevice) -> None:
    x, y, z = (own_device.allocate(BYTES) for _ in range(3))
    kernels = [own_device.compile(adding()) for _ in range(3)]
    recordings = [own_device.record([Call(k, [8], [x, y], [1.0])]) for k in kernels]
    recordings.append(own_device.record([Call(kernels[2], [8], [z, y], [1.0])]))
    recordings[0].release()
    kernels[1].release()
    own_device.free(z)
    for at, what in ((0, "the recording was"), (1, "kernel adding"), (3, f"buffer {z}")):
        with pytest.raises(InvalidHandle, match=what):
            own_device.replay(recordings[at], [])
    own_device.replay(recordings[2], [])
    own_device.close()
    with pytest.raises(DeviceLost, match="closed"):
        own_device.replay(recordings[2], [])


def test_a_recording_of_another_device_is_refused(device: CpuDevice, own_device: CpuDevice) -> None:
    with pytest.raises(InvalidHandle, match="another device"):
        device.replay(own_device.record([]), [])


def test_a_recording_keeps_its_kernels(device: CpuDevice) -> None:
    x, y = zeros(device), device.allocate(BYTES)
    recording = device.record([Call(device.compile(adding()), [8], [x, y], [5.0])])
    gc.collect()
    device.replay(recording, [])
    assert floats(device, y) == [5.0]


# --- memory of this process ---------------------------------------------------------------------------------------


def aligned(size: int) -> np.ndarray:
    room = np.zeros(size + ALIGNMENT, np.uint8)
    return room[-room.ctypes.data % ALIGNMENT :][:size]


def test_an_adopted_array_is_read_and_written_in_place(device: CpuDevice) -> None:
    source, target = aligned(BYTES).view(np.float32), aligned(BYTES).view(np.float32)
    source[:] = 3.0
    handles = [device.adopt(array.ctypes.data, array.nbytes) for array in (source, target)]
    device.launch(device.compile(adding()), [8], handles, [0.5])
    assert (target == 3.5).all()
    assert device.address(handles[1]) == target.ctypes.data


def test_the_address_of_a_buffer_is_where_its_bytes_are(device: CpuDevice) -> None:
    handle = device.allocate(8)
    device.write(handle, 0, b"portkit!")
    assert ctypes.string_at(device.address(handle), 8) == b"portkit!"


def test_freeing_adopted_memory_leaves_it_to_its_owner(device: CpuDevice) -> None:
    array = aligned(64)
    handle = device.adopt(array.ctypes.data, 64)
    device.free(handle)
    array[:] = 7
    with pytest.raises(InvalidHandle, match="freed"):
        device.address(handle)


@pytest.mark.parametrize(("address", "size"), [(0, 8), (-64, 8), (4096 + 8, 8), (4096, -1)])
def test_memory_at_a_senseless_address_is_not_adopted(device: CpuDevice, address: int, size: int) -> None:
    with pytest.raises(InvalidHandle, match="memory starts at"):
        device.adopt(address, size)
