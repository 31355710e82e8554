"""Every rule of validity: a kernel that breaks it is caught with its clause, instruction, group, lane and address.

Each fault has a twin, the same kernel mended, which passes. Kernels run 2 groups of 4 lanes unless they say otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from portkit.errors import InvalidKernelError
from portkit.reference.checks import check
from portkit.spec.builder import Builder, Mem, Reg

GROUPS, LANES = 2, 4


class Bench(Builder):
    """A kernel with its grid and lane loops open: `g` the group, `l` the lane, `i` the linear lane of the launch."""

    def __init__(self, groups: int = GROUPS, lanes: int = LANES) -> None:
        super().__init__("fault")
        self.one, self.zero = self.const("i32", 1), self.const("i32", 0)
        self.x = self.buffer("x", "i32", groups * lanes, "read")
        self.y = self.buffer("y", "i32", groups * lanes, "readwrite")
        self.s = self.shared("s", "i32", 2 * lanes)
        self.t = self.shared("t", "i32", 2 * lanes)
        self.g = self.grid(groups)
        self.l = self.lane(lanes)
        self.i = self.add(self.mul(self.g, self.int(lanes)), self.l)
        self.size = groups * lanes

    def int(self, value: int) -> Reg:
        return self.const("i32", value)

    def is_lane(self, lane: int) -> Reg:
        return self.eq(self.l, self.int(lane))

    def next_lane(self) -> Reg:
        return self.op("reduce.and", self.add(self.l, self.one), self.int(LANES - 1))

    def count_unless(self, regular: bool, lane: int) -> Reg:
        """A trip count of 1, or of 0 in one lane only."""
        return self.one if regular else self.eq(self.l, self.int(lane), self.zero, self.one)

    def copy(self, target: Mem | None = None, at: Reg | None = None) -> Reg:
        """Copy one element per lane from x to shared memory."""
        return self.async_copy(target or self.s, at or self.l, self.x, self.i, 1)

    def check(self) -> None:
        check(self.build(), {}, {"x": np.arange(self.size, dtype=np.int32), "y": np.zeros(self.size, np.int32)})


@dataclass(frozen=True)
class Fault:
    """A kernel that is valid if built with True, and where it goes wrong if built with False."""

    build: Callable[[Bench, bool], None]
    clause: str
    form: str
    lane: int
    address: int = -1
    group: int = 0
    nth: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)


FAULTS: dict[str, Fault] = {}


def fault(clause: str, form: str, lane: int, address: int = -1, **where: Any) -> Callable[..., Any]:
    def register(build: Callable[[Bench, bool], None]) -> Callable[[Bench, bool], None]:
        name = build.__name__.removeprefix("_")
        FAULTS[name] = Fault(build, clause, form, lane, address, **where)
        return build

    return register


# --- races of one group -------------------------------------------------------------------------------------------


@fault("valid_c1", "load", lane=0, address=1)
def _neighbour_read_without_a_barrier(b: Bench, valid: bool) -> None:
    b.store(b.s, b.l, b.l)
    if valid:
        b.barrier()
    b.load(b.s, b.next_lane())


@fault("valid_c1", "store", lane=0, address=0, nth=1)
def _overwriting_what_a_neighbour_read(b: Bench, valid: bool) -> None:
    b.store(b.s, b.l, b.l)
    b.barrier()
    b.load(b.s, b.next_lane())
    if valid:
        b.barrier()
    b.store(b.s, b.l, b.zero)


@fault("valid_c1", "store", lane=0, address=0)
def _all_lanes_writing_one_element(b: Bench, valid: bool) -> None:
    b.store(b.s, b.l if valid else b.zero, b.one)


@fault("valid_c1", "store", lane=2, address=3, nth=1)
def _one_lane_writing_what_another_wrote(b: Bench, valid: bool) -> None:
    b.store(b.s, b.l, b.l)
    b.store(b.s, b.int(2 if valid else 3), b.one, gate=b.is_lane(2))


@fault("valid_c1", "store", lane=0, address=0, nth=2)
def _writing_what_all_lanes_read(b: Bench, valid: bool) -> None:
    b.store(b.s, b.zero, b.one, gate=b.is_lane(0))
    b.barrier()
    b.load(b.s, b.zero)
    b.store(b.t, b.l, b.l)
    if valid:
        b.barrier()
    b.store(b.s, b.zero, b.zero, gate=b.is_lane(0))


@fault("valid_c1", "store", lane=0, address=0, nth=1)
def _writing_what_another_lane_read_before_this_one_did(b: Bench, valid: bool) -> None:
    b.store(b.s, b.l, b.l)
    b.barrier()
    b.load(b.s, b.zero, gate=b.is_lane(0 if valid else 1), other=b.zero)
    b.load(b.s, b.zero, gate=b.is_lane(0), other=b.zero)
    b.store(b.s, b.zero, b.one, gate=b.is_lane(0))


@fault("valid_c1", "store", lane=0, address=0)
def _a_tile_loop_without_its_second_barrier(b: Bench, valid: bool) -> None:
    with b.serial(3):
        b.store(b.s, b.l, b.l)
        b.barrier()
        b.load(b.s, b.next_lane())
        if valid:
            b.barrier()


@fault("valid_c1", "load", lane=0, address=1)
def _global_hand_over_without_a_barrier(b: Bench, valid: bool) -> None:
    base = b.mul(b.g, b.int(LANES))
    b.store(b.y, b.i, b.l)
    if valid:
        b.barrier()
    b.load(b.y, b.add(base, b.next_lane()))


@fault("valid_c1", "load", lane=1, address=2)
def _a_fence_in_place_of_a_barrier(b: Bench, valid: bool) -> None:
    b.store(b.s, b.l, b.l)
    b.op("barrier" if valid else "fence.group")
    b.load(b.s, b.next_lane(), gate=b.is_lane(1), other=b.zero)


@fault("valid_c1", "load", lane=0, address=1)
def _a_group_reduction_in_place_of_a_barrier(b: Bench, valid: bool) -> None:
    b.store(b.s, b.l, b.l)
    b.op("reduce.group.add", b.l)
    if valid:
        b.barrier()
    b.load(b.s, b.next_lane())


@fault("valid_c1", "load", lane=3, address=0, group=1)
def _a_barrier_that_one_group_leaves_out(b: Bench, valid: bool) -> None:
    b.store(b.s, b.l, b.l)
    with b.serial(b.one if valid else b.eq(b.g, b.one, b.zero, b.one)):
        b.barrier()
    b.load(b.s, b.next_lane(), gate=b.is_lane(3), other=b.zero)


@fault("valid_c1", "load.vec", lane=0, address=1)
def _a_vector_that_reaches_into_the_next_lane(b: Bench, valid: bool) -> None:
    b.store(b.s, b.l, b.l)
    if valid:
        b.barrier()
    b.load_vec(b.s, b.zero, 2, gate=b.splat(b.is_lane(0), 2), other=b.splat(b.zero, 2))


@fault("valid_c1", "store.scatter", lane=0, address=1)
def _scatters_that_meet(b: Bench, valid: bool) -> None:
    step = b.int(2 if valid else 1)
    first = b.mul(b.l, step)
    b.store(b.s, b.op("mov.pack", first, b.add(first, b.one)), b.splat(b.l, 2))


@fault("store_c2", "store.scatter", lane=2, address=4)
def _a_scatter_that_meets_itself(b: Bench, valid: bool) -> None:
    second = b.eq(b.l, b.int(7 if valid else 2), b.zero, b.one)
    first = b.add(b.l, b.l)
    b.store(b.s, b.op("mov.pack", first, b.add(first, second)), b.splat(b.l, 2))


# --- races between groups -----------------------------------------------------------------------------------------


@fault("valid_c1", "store", lane=0, address=0, group=0)
def _groups_writing_one_element(b: Bench, valid: bool) -> None:
    b.store(b.y, b.g if valid else b.zero, b.one, gate=b.is_lane(0))


@fault("valid_c1", "store", lane=0, address=0, group=0)
def _groups_writing_one_element_despite_a_barrier(b: Bench, valid: bool) -> None:
    b.barrier()
    b.store(b.y, b.g if valid else b.zero, b.one, gate=b.is_lane(0))


@fault("valid_c1", "store", lane=0, address=0, group=0)
def _one_group_reading_what_another_writes(b: Bench, valid: bool) -> None:
    b.load(b.y, b.i if valid else b.op("reduce.xor", b.i, b.int(LANES)))
    b.store(b.y, b.i, b.one)


@fault("valid_c1", "store", lane=1, address=5, group=1)
def _writing_what_every_group_has_read(b: Bench, valid: bool) -> None:
    b.load(b.y, b.int(0 if valid else 5))
    b.barrier()
    b.store(b.y, b.i, b.one, gate=b.eq(b.i, b.int(5)))


@fault("valid_c1", "store", lane=0, address=0, group=20_000, sizes={"groups": 20_001, "lanes": 1})
def _writing_what_a_group_long_done_has_read(b: Bench, valid: bool) -> None:
    last = b.int(20_000)
    b.load(b.y, b.zero, gate=b.eq(b.g, last if valid else b.zero), other=b.zero)
    b.store(b.y, b.zero, b.one, gate=b.eq(b.g, last))


# --- bounds, alignment, unwritten memory, cooperation -------------------------------------------------------------


@fault("valid_c3", "load", lane=3, address=8, group=1)
def _loading_one_element_too_far(b: Bench, valid: bool) -> None:
    following = b.add(b.i, b.one)
    b.load(b.x, following, gate=b.lt(following, b.int(b.size if valid else 99)), other=b.zero)


@fault("valid_c3", "store", lane=0, address=-1)
def _storing_below_the_first_element(b: Bench, valid: bool) -> None:
    b.store(b.y, b.add(b.i, b.int(0 if valid else -1)), b.one)


@fault("valid_c3", "load", lane=0, address=8)
def _shared_memory_of_the_next_group(b: Bench, valid: bool) -> None:
    b.store(b.s, b.l, b.one)
    b.store(b.s, b.add(b.l, b.int(LANES)), b.one)
    b.load(b.s, b.add(b.l, b.int(0 if valid else 2 * LANES)))


@fault("valid_c3", "load.vec", lane=3, address=8, group=1)
def _a_vector_across_the_end(b: Bench, valid: bool) -> None:
    inside = b.lt(b.i, b.int(b.size - 1 if valid else b.size))
    b.load_vec(b.x, b.i, 2, gate=b.splat(inside, 2), other=b.splat(b.zero, 2))


@fault("valid_c3", "load.async", lane=3, address=8, group=1)
def _a_copy_across_the_end(b: Bench, valid: bool) -> None:
    token = b.async_copy(b.s, b.add(b.l, b.l), b.x, b.op("reduce.min", b.i, b.int(b.size - 2)) if valid else b.i, 2)
    b.wait(token)


@fault("valid_c3", "store.atomic.add", lane=3, address=8, group=1)
def _an_atomic_store_beyond_the_end(b: Bench, valid: bool) -> None:
    b.op("store.atomic.add", b.i if valid else b.add(b.i, b.one), b.one, mems=(b.y,))


@fault("valid_c7", "load.vec", lane=1, address=1)
def _a_vector_off_its_alignment(b: Bench, valid: bool) -> None:
    index = b.op("reduce.and", b.i, b.int(6)) if valid else b.i
    b.load_vec(b.x, b.op("reduce.min", index, b.int(6)), 2, align=8)


@fault("valid_c7", "store.vec", lane=1, address=1)
def _a_vector_off_its_alignment_of_which_one_lane_is_written(b: Bench, valid: bool) -> None:
    gate = b.op("mov.pack", b.is_lane(2 if valid else 1), b.const("bool", False))
    b.store_vec(b.y, b.op("reduce.min", b.i, b.int(6)), b.splat(b.one, 2), align=8, gate=gate)


@fault("valid_c4", "load", lane=2, address=6)
def _reading_shared_memory_that_nobody_wrote(b: Bench, valid: bool) -> None:
    b.store(b.s, b.l, b.l)
    b.barrier()
    b.load(b.s, b.int(2 if valid else 6), gate=b.is_lane(2), other=b.zero)


@fault("valid_c4", "load", lane=0, address=0, sizes={"groups": 5000, "lanes": 4})
def _reading_shared_memory_that_only_another_group_wrote(b: Bench, valid: bool) -> None:
    b.store(b.s, b.zero, b.one, gate=b.is_lane(0) if valid else b.eq(b.i, b.int(4)))
    b.barrier()
    b.load(b.s, b.zero)


@fault("valid_c4", "store.atomic.add", lane=0, address=0)
def _an_atomic_store_to_shared_memory_that_nobody_can_have_written(b: Bench, valid: bool) -> None:
    b.op("store.atomic.add", b.l, b.one, mems=(b.y if valid else b.s,))


@fault("valid_c5", "barrier", lane=2)
def _a_barrier_that_one_lane_leaves_out(b: Bench, valid: bool) -> None:
    with b.serial(b.count_unless(valid, lane=2)):
        b.barrier()


@fault("valid_c5", "barrier", lane=0)
def _a_barrier_in_a_loop_of_unequal_length(b: Bench, valid: bool) -> None:
    with b.serial(b.int(3) if valid else b.l):
        b.barrier()


@fault("valid_c5", "reduce.group.add", lane=2)
def _a_group_reduction_that_one_lane_leaves_out(b: Bench, valid: bool) -> None:
    with b.serial(b.count_unless(valid, lane=2)):
        b.op("reduce.group.add", b.l)


# --- asynchronous copies ------------------------------------------------------------------------------------------


@fault("async_c2", "load.async", lane=0)
def _a_copy_that_nobody_waits_for(b: Bench, valid: bool) -> None:
    token = b.copy()
    if valid:
        b.wait(token)


@fault("async_c2", "wait.token", lane=0, nth=1)
def _a_copy_waited_for_twice(b: Bench, valid: bool) -> None:
    first = b.copy()
    b.wait(first)
    second = b.copy(at=b.add(b.l, b.int(LANES)))
    b.wait(second if valid else first)
    if not valid:
        b.wait(second)


@fault("async_c2", "wait.token", lane=0)
def _copies_waited_for_out_of_order(b: Bench, valid: bool) -> None:
    tokens = [b.copy(), b.copy(b.t)]
    for token in tokens if valid else reversed(tokens):
        b.wait(token)


@fault("barrier_c2", "wait.token", lane=2)
def _a_wait_that_one_lane_leaves_out(b: Bench, valid: bool) -> None:
    token = b.copy()
    with b.serial(b.count_unless(valid, lane=2)):
        b.wait(token)


@fault("valid_c6", "load", lane=0, address=0)
def _reading_the_target_of_a_copy_under_way(b: Bench, valid: bool) -> None:
    b.store(b.s, b.l, b.zero)
    token = b.copy()
    if valid:
        b.wait(token)
    b.load(b.s, b.l)
    if not valid:
        b.wait(token)


@fault("valid_c6", "store", lane=0, address=0)
def _writing_the_target_of_a_copy_under_way(b: Bench, valid: bool) -> None:
    token = b.copy()
    b.store(b.t if valid else b.s, b.l, b.zero)
    b.wait(token)


@fault("valid_c6", "store", lane=0, address=0)
def _writing_the_source_of_a_copy_under_way(b: Bench, valid: bool) -> None:
    token = b.async_copy(b.s, b.l, b.y, b.i, 1)
    if valid:
        b.wait(token)
    b.store(b.y, b.i, b.one)
    if not valid:
        b.wait(token)


@fault("valid_c6", "load.async", lane=0, address=0, nth=1)
def _two_copies_to_one_target(b: Bench, valid: bool) -> None:
    tokens = [b.copy(), b.copy(b.t if valid else b.s)]
    for token in tokens:
        b.wait(token)


@fault("valid_c1", "load.async", lane=0, address=0)
def _copies_of_all_lanes_to_one_target(b: Bench, valid: bool) -> None:
    b.wait(b.copy(at=b.l if valid else b.zero))


@fault("valid_c1", "load", lane=0, address=1)
def _reading_the_copy_of_another_lane_after_waiting_only(b: Bench, valid: bool) -> None:
    b.wait(b.copy())
    if valid:
        b.barrier()
    b.load(b.s, b.next_lane())


@fault("valid_c1", "load", lane=0, address=1)
def _reading_the_copy_of_another_lane_with_the_barrier_before_the_wait(b: Bench, valid: bool) -> None:
    token = b.copy()
    b.barrier()
    b.wait(token)
    if valid:
        b.barrier()
    b.load(b.s, b.next_lane())


@fault("valid_c1", "load.async", lane=0, address=0)
def _copying_over_what_a_neighbour_read(b: Bench, valid: bool) -> None:
    b.store(b.s, b.l, b.l)
    b.barrier()
    b.load(b.s, b.next_lane())
    if valid:
        b.barrier()
    b.wait(b.copy())


@fault("valid_c1", "store", lane=1, address=0)
def _overwriting_the_source_in_the_epoch_of_the_wait(b: Bench, valid: bool) -> None:
    source = b.mul(b.g, b.int(LANES))
    token = b.async_copy(b.s, b.l, b.y, b.add(source, b.l), 1)
    b.barrier()
    b.wait(token)
    if valid:
        b.barrier()
    b.store(b.y, source, b.one, gate=b.is_lane(1))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught_where_it_happens(name: str) -> None:
    expected = FAULTS[name]
    bench = Bench(**expected.sizes)
    expected.build(bench, False)
    with pytest.raises(InvalidKernelError) as caught:
        bench.check()
    positions = [i for i, instr in enumerate(bench.build().body) if instr.name == expected.form]
    error = caught.value
    assert (error.clause, error.group, error.lane, error.address) == (
        expected.clause,
        expected.group,
        expected.lane,
        expected.address,
    ), str(error)
    assert error.instruction == positions[expected.nth]
    assert str(error).startswith(f"instruction {error.instruction} `")


@pytest.mark.parametrize("name", FAULTS)
def test_the_mended_twin_of_a_fault_passes(name: str) -> None:
    bench = Bench(**FAULTS[name].sizes)
    FAULTS[name].build(bench, True)
    bench.check()
