"""The plan of the lane serialiser: where it cuts, what the group shares, what is saved and what is repeated."""

from __future__ import annotations

from portkit.backends.toolkit.serialise import Around, Once, Region, Step, serialise
from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.kernel import Kernel


class Sketch:
    """A kernel under construction: lanes l over buffers x and out, and a shared array cells."""

    def __init__(self, lanes: int = 8) -> None:
        b = self.b = Builder("sketch")
        self.x: Mem = b.buffer("x", "f32", 4 * lanes, "read")
        self.out: Mem = b.buffer("out", "f32", 4 * lanes, "write")
        self.cells: Mem = b.shared("cells", "f32", lanes)
        self.group = b.grid(4)
        self.lane: Reg = b.lane(lanes)

    def at(self) -> Reg:
        return self.b.add(self.b.mul(self.group, self.b.const("i32", 8)), self.lane)


def kinds(steps: list[Step]) -> list[type]:
    return [type(step) for step in steps]


def regions(steps: list[Step]) -> list[Region]:
    found: list[Region] = []
    for step in steps:
        if isinstance(step, Region):
            found.append(step)
        elif isinstance(step, Around):
            found += regions(step.body)
    return found


def names(kernel: Kernel, region: Region) -> list[str]:
    return [kernel.body[item].name for item in region.items if isinstance(item, int)]


def test_a_kernel_without_barriers_is_one_region_and_saves_nothing() -> None:
    s = Sketch()
    s.b.store(s.out, s.at(), s.b.load(s.x, s.at()))
    plan = serialise(s.b.build())
    assert kinds(plan.steps) == [Once, Once, Region]
    assert plan.slots == ()


def test_a_barrier_cuts_and_what_crosses_it_is_saved() -> None:
    s = Sketch()
    value = s.b.load(s.x, s.lane)
    s.b.barrier()
    s.b.store(s.out, s.lane, value)
    plan = serialise(s.b.build())
    first, second = regions(plan.steps)
    assert plan.slots == (value.name,)
    assert (first.saves, second.loads) == ([value.name], [value.name])


def test_index_arithmetic_is_repeated_and_not_saved() -> None:
    s = Sketch()
    at = s.at()
    s.b.store(s.cells, s.lane, s.b.load(s.x, at))
    s.b.barrier()
    s.b.store(s.out, at, s.b.load(s.cells, s.lane))
    kernel = s.b.build()
    plan = serialise(kernel)
    assert plan.slots == ()
    assert [kernel.body[i].name for i in regions(plan.steps)[1].again] == ["loop.lane", "add"]


def test_long_index_arithmetic_is_saved() -> None:
    s = Sketch()
    at = s.lane
    for _ in range(20):
        at = s.b.add(at, s.lane)
    s.b.barrier()
    s.b.store(s.out, at, s.b.const("f32", 1.0))
    assert serialise(s.b.build()).slots == (at.name,)


def test_uniform_instructions_are_executed_once_for_the_group() -> None:
    s = Sketch()
    twice = s.b.add(s.group, s.group)
    same_for_all = s.b.load(s.x, twice)
    s.b.store(s.out, s.lane, same_for_all)
    plan = serialise(s.b.build())
    assert {twice.name, same_for_all.name} <= plan.group
    assert s.lane.name not in plan.group


def test_a_load_from_memory_that_is_written_is_not_shared() -> None:
    s = Sketch()
    s.b.store(s.cells, s.lane, s.b.load(s.x, s.lane))
    s.b.barrier()
    first = s.b.load(s.cells, s.b.const("i32", 0))
    s.b.store(s.out, s.lane, first)
    assert first.name not in serialise(s.b.build()).group


def test_a_loop_around_a_barrier_keeps_uniform_carries_as_scalars_and_saves_the_others() -> None:
    s = Sketch()
    one = s.b.const("i32", 1)
    with s.b.serial(3, same=one, own=s.lane) as loop:
        s.b.barrier()
        loop.next(same=s.b.add(loop["same"], one), own=s.b.add(loop["own"], one))
    s.b.store(s.out, loop["own"], s.b.const("f32", 1.0))
    kernel = s.b.build()
    plan = serialise(kernel)
    [around] = [step for step in plan.steps if isinstance(step, Around)]
    assert [kernel.body[i].result for i in around.carries] == [loop["same"].name]
    assert plan.slots == (loop["own"].name,)


def test_a_loop_without_a_barrier_stays_inside_its_region() -> None:
    s = Sketch()
    with s.b.serial(3, total=s.b.load(s.x, s.lane)) as loop:
        loop.next(total=s.b.add(loop["total"], loop["total"]))
    s.b.barrier()
    s.b.store(s.out, s.lane, loop["total"])
    plan = serialise(s.b.build())
    assert kinds(plan.steps) == [Region, Region]
    assert plan.slots == (loop["total"].name,)


def test_a_group_reduction_folds_slots_of_its_own() -> None:
    s = Sketch()
    total = s.b.op("reduce.group.add", s.b.load(s.x, s.lane))
    s.b.store(s.out, s.lane, total)
    plan = serialise(s.b.build())
    assert kinds(plan.steps) == [Region, Once, Region]
    assert plan.slots == (f"{total.name}.fold",)
    assert total.name in plan.group


def test_one_lane_needs_no_cuts() -> None:
    s = Sketch(lanes=1)
    value = s.b.load(s.x, s.lane)
    s.b.barrier()
    total = s.b.op("reduce.group.add", value)
    s.b.barrier()
    s.b.store(s.out, s.lane, total)
    kernel = s.b.build()
    plan = serialise(kernel)
    assert kinds(plan.steps) == [Region]
    assert plan.slots == ()
    assert names(kernel, regions(plan.steps)[0])[-1] == "store"
