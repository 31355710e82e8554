"""The pool: memory comes back to those who need the same, is bounded, and gives way when the device is full."""

from __future__ import annotations

import gc
import itertools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portkit.contract import ALIGNMENT
from portkit.errors import DeviceLost, OutOfMemory
from portkit.runtime.pool import Pool, size_class

MIB = 1 << 20
MOST = 4096 * MIB


class Memory:
    """A device of which only the memory matters; it has `room` bytes."""

    def __init__(self, room: int = 1 << 60) -> None:
        self.room = room
        self.sizes: dict[int, int] = {}
        self._numbers = itertools.count(1)

    def allocate(self, size: int, align: int = ALIGNMENT) -> int:
        if sum(self.sizes.values()) + size > self.room:
            raise OutOfMemory("full")
        handle = next(self._numbers)
        self.sizes[handle] = size
        return handle

    def free(self, handle: int) -> None:
        del self.sizes[handle]


def pool_of(memory: Memory, most: int = MOST) -> Pool:
    return Pool(memory, most, threading.RLock())  # type: ignore[arg-type]


def take(pool: Pool, size: int) -> tuple[int, int]:
    (taken,) = pool.take([size])
    return taken


@given(st.integers(0, 1 << 40))
def test_a_class_holds_what_is_asked_and_wastes_at_most_an_eighth(size: int) -> None:
    room = size_class(size)
    assert size <= room <= max(ALIGNMENT, size + max(ALIGNMENT, size // 8))
    assert room % ALIGNMENT == 0
    assert size_class(room) == room


def test_memory_given_back_is_the_next_of_its_class() -> None:
    memory = Memory()
    pool = pool_of(memory)
    first = take(pool, 1000)
    pool.give(*first)
    assert take(pool, 1024) == first
    assert take(pool, 1024) != first
    seen = pool.statistics()
    assert (seen.allocations, seen.reuses, seen.live_bytes, seen.pooled_bytes) == (2, 1, 2048, 0)


def test_an_empty_buffer_has_memory_of_its_own() -> None:
    pool = pool_of(Memory())
    assert take(pool, 0)[0] != take(pool, 0)[0]


def test_a_request_up_to_the_limit_of_the_device_asks_for_no_more_than_that() -> None:
    memory = Memory()
    take(pool_of(memory, most=1025 * MIB), 1025 * MIB)
    assert list(memory.sizes.values()) == [1025 * MIB]


def test_what_waits_is_never_more_than_what_was_in_use_oldest_out_first() -> None:
    memory = Memory()
    pool = pool_of(memory)
    old = take(pool, 100 * MIB)
    pool.give(*old)
    new = take(pool, 60 * MIB)
    pool.give(*new)
    assert pool.statistics().pooled_bytes == new[1]
    assert list(memory.sizes) == [new[0]]


def test_a_full_device_frees_what_waits_before_it_gives_up() -> None:
    memory = Memory(room=10 * MIB)
    pool = pool_of(memory)
    held = take(pool, 6 * MIB)
    pool.give(*take(pool, 4 * MIB))
    take(pool, 3 * MIB)
    with pytest.raises(OutOfMemory, match=f"no room for {2 * MIB} bytes beside {9 * MIB} in use"):
        take(pool, 2 * MIB)
    pool.give(*held)
    take(pool, 2 * MIB)


def test_what_was_taken_before_the_device_was_full_goes_back() -> None:
    pool = pool_of(Memory(room=10 * MIB))
    with pytest.raises(OutOfMemory):
        pool.take([4 * MIB, 4 * MIB, 4 * MIB])
    assert pool.statistics().live_bytes == 0
    pool.take([4 * MIB, 4 * MIB])


def test_a_full_device_looks_for_memory_that_only_cycles_hold() -> None:
    import weakref

    class Loop:
        def __init__(self) -> None:
            self.itself = self

    memory = Memory(room=MIB)
    pool, loop = pool_of(memory), Loop()
    weakref.finalize(loop, pool.give, *take(pool, MIB))
    gc.disable()
    try:
        del loop
        take(pool, MIB)
    finally:
        gc.enable()


def test_foreign_memory_is_freed_before_its_keeper_is_let_go() -> None:
    events: list[str] = []

    class Keeper:
        def __del__(self) -> None:
            events.append("gone")

    class Telling(Memory):
        def free(self, handle: int) -> None:
            events.append(f"free {handle}")

    pool = pool_of(Telling())
    pool.release(7, Keeper())
    pool.statistics()
    assert events == ["free 7", "gone"]


def test_the_peak_is_that_since_it_was_reset() -> None:
    pool = pool_of(Memory())
    pool.give(*take(pool, 4 * MIB))
    take(pool, MIB)
    assert pool.statistics().peak_bytes == 4 * MIB
    pool.reset_peak()
    assert pool.statistics().peak_bytes == MIB


def test_a_closed_pool_has_freed_what_waits_and_gives_no_more() -> None:
    memory = Memory()
    pool = pool_of(memory)
    first, second = take(pool, 64), take(pool, 64)
    pool.give(*first)
    pool.close()
    assert list(memory.sizes) == [second[0]]
    pool.give(*second)
    with pytest.raises(DeviceLost):
        take(pool, 64)


def test_threads_that_take_and_give_lose_nothing() -> None:
    memory = Memory()
    pool = pool_of(memory)

    def work() -> None:
        for size in range(1, 400):
            pool.give(*take(pool, size))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = pool.statistics()
    assert seen.live_bytes == 0
    assert seen.pooled_bytes == sum(memory.sizes.values())
