"""Buffers: arrays go in and out, without a copy where memory is shared, and memory lives as long as somebody looks."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest

from portkit.contract import ALIGNMENT
from portkit.errors import DeviceLost, OutOfMemory, ShapeError, UsageError
from portkit.runtime.buffers import Buffer, aligned, from_array
from portkit.runtime.devices import RuntimeDevice
from portkit.runtime.execute import run_program
from tests.runtime.programs import COUNT, PLAIN, chain, told

DTYPES = [np.bool_, np.int8, np.uint16, np.int64, np.float16, np.float32, np.float64, ml_dtypes.bfloat16]


@pytest.fixture(scope="module")
def plain() -> Iterator[RuntimeDevice]:
    """A device that shares no memory with the host."""
    with RuntimeDevice(PLAIN) as device:
        yield device


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 5)], ids=str)
def test_an_array_comes_back_as_it_was(
    cpu: RuntimeDevice, plain: RuntimeDevice, dtype: type, shape: tuple[int, ...]
) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    for device in (cpu, plain):
        back = from_array(device, array).array(dtype, shape)
        assert back.dtype == array.dtype
        assert back.shape == shape
        assert (back == array).all()


def test_an_array_in_any_order_is_stored_in_row_major_order(cpu: RuntimeDevice) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert (from_array(cpu, array.T).array(np.float32, (4, 3)) == array.T).all()
    assert (from_array(cpu, array[:, ::2]).array(np.float32, (3, 2)) == array[:, ::2]).all()


# --- without a copy -----------------------------------------------------------------------------------------------


def test_an_aligned_array_is_used_in_place(cpu: RuntimeDevice) -> None:
    array = aligned((COUNT,), np.float32)
    buffer = from_array(cpu, array, copy=False)
    array[:] = 5.0
    assert (told(buffer) == 5.0).all()
    assert (told(run_program(cpu, chain(1), [buffer])[0]) == 6.0).all()


def test_an_array_made_read_only_is_used_in_place(cpu: RuntimeDevice) -> None:
    array = aligned((COUNT,), np.float32)
    array[:] = 2.0
    array.flags.writeable = False
    assert (told(from_array(cpu, array, copy=False)) == 2.0).all()


def test_an_array_that_must_be_copied_is_not_shared(cpu: RuntimeDevice) -> None:
    array = aligned((COUNT,), np.float32)
    array[:] = 1.0
    buffer = from_array(cpu, array, copy=True)
    array[:] = 2.0
    assert (told(buffer) == 1.0).all()


def test_a_copy_that_is_forbidden_and_needed_is_an_error_that_says_why(
    cpu: RuntimeDevice, plain: RuntimeDevice
) -> None:
    room = aligned((2 * COUNT,), np.float32)
    for device, array in ((cpu, room[1:]), (cpu, room[::2]), (plain, room)):
        with pytest.raises(UsageError, match="allow a copy"):
            from_array(device, array, copy=False)
    with pytest.raises(UsageError, match="allow a copy"):
        from_array(plain, room).array(np.float32, (COUNT,), copy=False)


def test_an_array_of_a_buffer_shares_its_memory_and_keeps_it(cpu: RuntimeDevice) -> None:
    buffer = cpu.allocate(4 * COUNT)
    array = buffer.array(np.float32, (COUNT,), copy=False)
    array[:] = 3.0
    assert (told(buffer) == 3.0).all()
    dead, address = weakref.ref(buffer), array.ctypes.data
    part = array[1:3].reshape(2, 1)
    del buffer, array
    gc.collect()
    assert dead() is not None
    assert cpu.allocate(4 * COUNT).array(np.float32, (COUNT,)).ctypes.data != address
    del part
    gc.collect()
    assert dead() is None


def test_an_adopted_array_lives_as_long_as_its_buffer(cpu: RuntimeDevice) -> None:
    array = aligned((COUNT,), np.float32)
    base = array.base
    while base is not None and base.base is not None:
        base = base.base
    dead = weakref.ref(base if base is not None else array)
    buffer = from_array(cpu, array, copy=False)
    del array, base
    gc.collect()
    assert dead() is not None
    del buffer
    gc.collect()
    cpu.pool.trim()
    assert dead() is None


def test_a_copy_does_not_see_what_is_written_later(cpu: RuntimeDevice) -> None:
    buffer = from_array(cpu, np.zeros(4, np.float32))
    copy = buffer.array(np.float32, (4,), copy=True)
    buffer.write(np.ones(4, np.float32))
    assert (copy == 0).all()


# --- DLPack -------------------------------------------------------------------------------------------------------


def test_dlpack_takes_an_array_out_and_in_without_a_copy(cpu: RuntimeDevice) -> None:
    buffer = from_array(cpu, np.arange(COUNT, dtype=np.float32))
    outside = np.from_dlpack(buffer.array(np.float32, (COUNT,)))
    again = from_array(cpu, outside, copy=False)
    buffer.write(np.full(COUNT, 8, np.float32))
    assert (told(again) == 8).all()


# --- sizes and ends -----------------------------------------------------------------------------------------------


def test_a_buffer_that_nobody_holds_is_the_next_of_its_size(cpu: RuntimeDevice) -> None:
    buffer = cpu.allocate(12_345)
    handle = buffer.handle
    del buffer
    gc.collect()
    assert cpu.allocate(12_345).handle == handle


def test_more_than_a_buffer_holds_is_neither_written_nor_seen(cpu: RuntimeDevice) -> None:
    buffer = cpu.allocate(8)
    with pytest.raises(ShapeError, match="12 bytes do not fit"):
        buffer.write(np.zeros(3, np.float32))
    with pytest.raises(ShapeError, match="takes 12 bytes"):
        buffer.array(np.float32, (3,))


def test_a_buffer_larger_than_the_device_admits_is_out_of_memory(cpu: RuntimeDevice) -> None:
    with pytest.raises(OutOfMemory, match="no room for"):
        cpu.allocate(cpu.capabilities.limits.buffer_bytes + 1)


def test_a_buffer_says_what_it_is(cpu: RuntimeDevice) -> None:
    assert repr(cpu.allocate(8)).endswith("of 8 bytes on cpu>")


def test_buffers_outlive_their_device_in_peace() -> None:
    with RuntimeDevice(PLAIN) as device:
        kept: list[Buffer] = [device.allocate(8), from_array(device, np.zeros(3))]
    with pytest.raises(DeviceLost, match="closed"):
        kept[0].read()
    kept.clear()
    gc.collect()


def test_arrays_that_devices_use_in_place_are_aligned() -> None:
    for count in range(20):
        assert aligned((count,), np.float16).ctypes.data % ALIGNMENT == 0 or count == 0
