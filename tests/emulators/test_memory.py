"""The memory of emulated chips: what threads load and store, and which accesses are refused."""

from __future__ import annotations

import numpy as np
import pytest

from portkit.emulators.memory import GARBAGE, Arena, EmulatorFault, Windows
from portkit.errors import OutOfMemory

MIB = 1 << 20


@pytest.fixture
def arena() -> Arena:
    return Arena(MIB)


def words(values: list[int]) -> np.ndarray:
    return np.array([values], np.uint32)


def at(address: int, *offsets: int) -> np.ndarray:
    return np.array([address + offset for offset in offsets], np.uint64)


def test_a_word_stored_is_the_word_loaded(arena: Arena) -> None:
    address = arena.allocate(16)
    arena.scatter(at(address, 0, 12), words([7, 9]))
    assert arena.gather(at(address, 12, 0), np.uint32).tolist() == [[9, 7]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_words_of_every_size_go_to_their_own_bytes(arena: Arena, dtype: type) -> None:
    address, size = arena.allocate(64), np.dtype(dtype).itemsize
    arena.write(address, bytes(64))
    arena.scatter(at(address, size), np.array([[3]], dtype))
    assert np.frombuffer(arena.read(address, 64), dtype)[:3].tolist() == [0, 3, 0]


def test_a_vector_is_consecutive_words(arena: Arena) -> None:
    address = arena.allocate(64)
    arena.write(address, np.arange(16, dtype=np.uint32).tobytes())
    assert arena.gather(at(address, 0, 16), np.uint32, 4).T.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_inactive_threads_touch_nothing(arena: Arena) -> None:
    address = arena.allocate(8)
    arena.write(address, bytes(8))
    active = np.array([True, False])
    arena.scatter(at(address, 0, 4096 * MIB), words([5, 6]), active=active)
    assert arena.gather(at(address, 0, 4096 * MIB), np.uint32, active=active).tolist() == [[5, 0]]


@pytest.mark.parametrize("offset", [-4, 16, 13, 1 << 40])
def test_an_access_outside_a_buffer_is_a_fault_of_that_thread(arena: Arena, offset: int) -> None:
    address = arena.allocate(16)
    with pytest.raises(EmulatorFault, match=r"illegal address .*load of 4 bytes") as fault:
        arena.gather(at(address, 0, offset), np.uint32)
    assert fault.value.position == 1


def test_a_fault_counts_inactive_threads_too(arena: Arena) -> None:
    address = arena.allocate(16)
    with pytest.raises(EmulatorFault) as fault:
        arena.gather(at(address, 64, 0, 64), np.uint32, active=np.array([False, True, True]))
    assert fault.value.position == 2


def test_a_misaligned_access_is_a_fault(arena: Arena) -> None:
    address = arena.allocate(16)
    with pytest.raises(EmulatorFault, match="misaligned"):
        arena.gather(at(address, 2), np.uint32)
    with pytest.raises(EmulatorFault, match="misaligned"):
        arena.gather(at(address, 4), np.uint32, 2)
    assert arena.gather(at(address, 4), np.uint32, 2, align=4).shape == (2, 1)


def test_a_freed_buffer_cannot_be_touched(arena: Arena) -> None:
    address = arena.allocate(16)
    arena.free(address)
    with pytest.raises(EmulatorFault):
        arena.gather(at(address, 0), np.uint32)
    with pytest.raises(EmulatorFault):
        arena.free(address)


def test_new_memory_is_garbage(arena: Arena) -> None:
    assert arena.read(arena.allocate(100), 100) == bytes([GARBAGE]) * 100


def test_memory_grows_and_keeps_what_it_holds(arena: Arena) -> None:
    first = arena.allocate(8)
    arena.write(first, b"portkit!")
    second = arena.allocate(MIB // 2)
    arena.write(second + MIB // 2 - 1, b"x")
    assert arena.read(first, 8) + arena.read(second + MIB // 2 - 1, 1) == b"portkit!x"


def test_freed_memory_is_given_out_again(arena: Arena) -> None:
    for _ in range(10):
        buffers = [arena.allocate(MIB // 4) for _ in range(3)]
        for address in buffers:
            arena.free(address)
    assert arena.allocate(MIB - 4096)


def test_more_than_the_capacity_is_out_of_memory(arena: Arena) -> None:
    with pytest.raises(OutOfMemory, match="2097152 bytes"):
        arena.allocate(2 * MIB)


def test_an_alignment_is_kept(arena: Arena) -> None:
    arena.allocate(1)
    assert arena.allocate(1, 4096) % 4096 == 0


def test_atomics_that_meet_all_count(arena: Arena) -> None:
    address = arena.allocate(4)
    arena.write(address, bytes(4))
    arena.update(np.add, at(address, 0, 0, 0), np.array([1, 2, 4], np.uint32))
    assert arena.gather(at(address, 0), np.uint32).tolist() == [[7]]


def test_of_threads_that_swap_the_same_word_one_succeeds(arena: Arena) -> None:
    address = arena.allocate(4)
    arena.write(address, bytes(4))
    old = arena.compare_and_swap(at(address, 0, 0), np.zeros(2, np.uint32), np.array([5, 6], np.uint32))
    stored = int(arena.gather(at(address, 0), np.uint32)[0, 0])
    assert stored in (5, 6)
    assert sorted(old.tolist()) == sorted([0, stored])


def test_a_swap_that_finds_another_word_changes_nothing(arena: Arena) -> None:
    address = arena.allocate(4)
    arena.write(address, b"\x09\0\0\0")
    assert arena.compare_and_swap(at(address, 0), np.zeros(1, np.uint32), np.ones(1, np.uint32)).tolist() == [9]
    assert arena.read(address, 1) == b"\x09"


def test_windows_are_apart() -> None:
    windows = Windows(2, 8)
    owners = np.array([0, 1])
    windows.scatter(np.array([4, 4]), words([1, 2]), owners=owners)
    assert windows.gather(np.array([4, 4]), np.uint32, owners=owners).tolist() == [[1, 2]]


@pytest.mark.parametrize("address", [8, -4, 5])
def test_a_window_ends_where_its_size_ends(address: int) -> None:
    with pytest.raises(EmulatorFault):
        Windows(2, 8).gather(np.array([0, address]), np.uint32, owners=np.array([0, 0]))


def test_copies_between_buffers_stay_inside(arena: Arena) -> None:
    source, target = arena.allocate(8), arena.allocate(8)
    arena.write(source, b"12345678")
    arena.copy(target, source, 8)
    assert arena.read(target, 8) == b"12345678"
    with pytest.raises(EmulatorFault):
        arena.copy(target, source, 9)
