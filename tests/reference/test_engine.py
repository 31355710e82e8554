"""The walk: nests, serial loops with counts that differ per lane, carries, and chunks of groups."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portkit.errors import HarnessError, InvalidKernelError
from portkit.reference import engine, values
from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.kernel import Kernel
from tests.reference.scalar import run_lane

GROUPS, LANES = 3, 4
SIZE = GROUPS * LANES


def build(body: Callable[[Builder, Reg, Reg], Reg], groups: int = GROUPS, lanes: int = LANES) -> Kernel:
    """Return the kernel that stores `body(builder, group, lane)`, i32, at the linear lane number."""
    b = Builder("walk")
    out = b.buffer("out", "i32", groups * lanes, "write")
    group, lane = b.grid(groups), b.lane(lanes)
    index = b.add(b.mul(group, b.const("i32", lanes)), lane)
    b.store(out, index, body(b, group, lane))
    return b.build()


def results(body: Callable[[Builder, Reg, Reg], Reg], groups: int = GROUPS, lanes: int = LANES) -> list[int]:
    return values.run(build(body, groups, lanes), {}, {})["out"].tolist()


def constant(b: Builder, value: int) -> Reg:
    return b.const("i32", value)


# --- the nest -----------------------------------------------------------------------------------------------------


def test_the_last_grid_and_lane_loops_count_fastest() -> None:
    b = Builder("nest")
    out = b.buffer("out", "i32", 2 * 3 * 2 * 5, "write")
    outer, inner, row, column = b.grid(2), b.grid(3), b.lane(2), b.lane(5)
    digits = [outer, inner, row, column]
    code = constant(b, 0)
    for digit in digits:
        code = b.add(b.mul(code, constant(b, 10)), digit)
    index = constant(b, 0)
    for digit, radix in zip(digits, (2, 3, 2, 5), strict=True):
        index = b.add(b.mul(index, constant(b, radix)), digit)
    b.store(out, index, code)
    expected = [1000 * o + 100 * i + 10 * r + c for o in range(2) for i in range(3) for r in range(2) for c in range(5)]
    assert values.run(b.build(), {}, {})["out"].tolist() == expected


def test_pure_instructions_between_the_loops_are_executed() -> None:
    b = Builder("between")
    out = b.buffer("out", "i32", 6, "write")
    group = b.grid(2)
    base = b.mul(group, constant(b, 3))
    b.store(out, b.add(base, b.lane(3)), base)
    assert values.run(b.build(), {}, {})["out"].tolist() == [0, 0, 0, 3, 3, 3]


@pytest.mark.parametrize("groups", [0, -2])
def test_a_grid_count_of_zero_or_less_launches_nothing(groups: int) -> None:
    b = Builder("empty")
    out, count = b.buffer("out", "i32", 1, "readwrite"), b.scalar("count", "i32")
    b.grid(count)
    b.lane(1)
    b.store(out, constant(b, 0), constant(b, 7))
    assert values.run(b.build(), {"count": groups}, {"out": np.zeros(1, np.int32)})["out"].tolist() == [0]


def test_groups_of_one_chunk_and_of_many_give_the_same() -> None:
    def body(b: Builder, group: Reg, lane: Reg) -> Reg:
        shared = b.shared("s", "i32", 4)
        b.store(shared, lane, b.add(lane, group))
        b.barrier()
        return b.load(shared, b.op("reduce.xor", lane, constant(b, 3)))

    whole = results(body, groups=50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "CHUNK_ELEMENTS", 12)
        assert results(body, groups=50) == whole
    assert whole == [group + 3 - lane for group in range(50) for lane in range(4)]


# --- serial loops -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("trips", "expected"), [(-1, 5), (0, 5), (1, 5 * 3 + 0), (3, ((5 * 3 + 0) * 3 + 1) * 3 + 2)])
def test_a_carry_reads_as_the_last_value_given_or_init(trips: int, expected: int) -> None:
    def body(b: Builder, group: Reg, lane: Reg) -> Reg:
        with b.serial(constant(b, trips), a=constant(b, 5)) as loop:
            loop.next(a=b.add(b.mul(loop["a"], constant(b, 3)), loop.index))
        return loop["a"]

    assert set(results(body)) == {expected}


def test_next_values_are_given_all_at_once() -> None:
    def body(b: Builder, group: Reg, lane: Reg) -> Reg:
        with b.serial(10, a=constant(b, 0), c=constant(b, 1)) as loop:
            loop.next(a=loop["c"], c=b.add(loop["a"], loop["c"]))
        return loop["a"]

    assert set(results(body)) == {55}


def test_counts_may_differ_per_lane_and_per_group() -> None:
    def body(b: Builder, group: Reg, lane: Reg) -> Reg:
        with b.serial(b.mul(group, lane), a=constant(b, 0)) as loop:
            loop.next(a=b.add(loop["a"], constant(b, 1)))
        return loop["a"]

    assert results(body) == [group * lane for group in range(GROUPS) for lane in range(LANES)]


def test_inner_counts_of_lanes_that_have_left_the_outer_loop_do_not_matter() -> None:
    def body(b: Builder, group: Reg, lane: Reg) -> Reg:
        huge = constant(b, 2**30)
        with b.serial(lane, total=constant(b, 0)) as outer:
            done = b.lt(outer.index, lane, constant(b, 2), huge)
            with b.serial(done, inner=outer["total"]) as inner:
                inner.next(inner=b.add(inner["inner"], constant(b, 1)))
            outer.next(total=inner["inner"])
        return outer["total"]

    assert results(body) == [2 * lane for lane in range(LANES)] * GROUPS


def test_a_count_of_zero_or_one_is_the_if() -> None:
    b = Builder("branch")
    out = b.buffer("out", "i32", SIZE, "readwrite")
    lane = b.add(b.mul(b.grid(GROUPS), constant(b, LANES)), b.lane(LANES))
    taken = b.lt(lane, constant(b, 5), constant(b, 1), constant(b, 0))
    with b.serial(taken):
        b.store(out, lane, constant(b, 9))
    after = values.run(b.build(), {}, {"out": np.zeros(SIZE, np.int32)})["out"]
    assert after.tolist() == [9] * 5 + [0] * (SIZE - 5)


def test_accesses_of_lanes_that_have_left_the_loop_are_not_made() -> None:
    def body(b: Builder, group: Reg, lane: Reg) -> Reg:
        buffer = b.buffer("x", "i32", 3, "read")
        with b.serial(b.op("reduce.min", lane, constant(b, 3)), a=constant(b, 0)) as loop:
            loop.next(a=b.add(loop["a"], b.load(buffer, b.add(loop.index, b.mul(lane, constant(b, 0))))))
        return loop["a"]

    actual = values.run(build(body), {}, {"x": np.array([1, 10, 100], np.int32)})["out"]
    assert actual.tolist() == [0, 1, 11, 111] * GROUPS


def test_a_branch_inside_a_branch_is_taken_where_both_are() -> None:
    b = Builder("branches")
    out = b.buffer("out", "i32", LANES, "readwrite")
    b.grid(1)
    lane = b.lane(LANES)
    low = b.lt(lane, constant(b, 2), constant(b, 1), constant(b, 0))
    positive = b.lt(constant(b, 0), lane, constant(b, 1), constant(b, 0))
    with b.serial(low), b.serial(positive):
        b.store(out, lane, constant(b, 9))
    assert values.run(b.build(), {}, {"out": np.zeros(LANES, np.int32)})["out"].tolist() == [0, 9, 0, 0]


@pytest.mark.parametrize("width", [2, LANES])
def test_a_vector_inside_a_branch_is_accessed_by_the_lanes_that_take_it(width: int) -> None:
    b = Builder("vectors")
    out = b.buffer("out", "i32", LANES * width, "readwrite")
    b.grid(1)
    lane = b.lane(LANES)
    with b.serial(b.lt(lane, constant(b, 2), constant(b, 1), constant(b, 0))):
        b.store_vec(out, b.mul(lane, constant(b, width)), b.splat(lane, width))
    after = values.run(b.build(), {}, {"out": np.full(LANES * width, 9, np.int32)})["out"]
    assert after.reshape(LANES, width).tolist() == [[0] * width, [1] * width, [9] * width, [9] * width]


def test_a_constant_may_stand_inside_a_loop() -> None:
    def body(b: Builder, group: Reg, lane: Reg) -> Reg:
        with b.serial(lane, a=constant(b, 0)) as loop:
            loop.next(a=b.add(loop["a"], b.op("mov.const", imms=(7,), type="i32")))
        return loop["a"]

    assert results(body) == [7 * lane for lane in range(LANES)] * GROUPS


# --- whose fault --------------------------------------------------------------------------------------------------


class Broken(values.Values):
    """A domain with a fault of its own."""

    def begin(self, chunk: engine.Chunk) -> None:
        raise IndexError("list index out of range")


def test_a_fault_of_the_reference_itself_is_not_blamed_on_the_kernel() -> None:
    kernel = build(lambda b, group, lane: lane)
    with pytest.raises(HarnessError, match="the reference failed on kernel walk: IndexError: list index"):
        engine.run(kernel, Broken(kernel, {}), {})


def test_a_fault_of_the_kernel_is_not_taken_for_ours() -> None:
    with pytest.raises(InvalidKernelError, match=r"accesses s\[1\], which has 1 elements"):
        results(lambda b, group, lane: b.load(b.shared("s", "i32", 1), lane))


# --- random kernels against the scalar interpreter ----------------------------------------------------------------


@st.composite
def bodies(draw: st.DrawFn) -> Kernel:
    """Draw a kernel of nested loops whose counts, carries and loads depend on the lane."""
    b = Builder("random")
    x, out = b.buffer("x", "i32", SIZE, "read"), b.buffer("out", "i32", 2 * SIZE, "readwrite")
    group, lane = b.grid(GROUPS), b.lane(LANES)
    index = b.add(b.mul(group, constant(b, LANES)), lane)
    known = [group, lane, constant(b, draw(st.integers(-3, 3))), b.load(x, index)]
    result = _block(draw, b, known, x, depth=0)
    b.store(out, index, result)
    with b.serial(b.op("reduce.and", result, constant(b, 1))):
        b.store(out, b.add(index, constant(b, SIZE)), b.load(x, index))
    return b.build()


def _block(draw: st.DrawFn, b: Builder, known: list[Reg], x: Mem, depth: int) -> Reg:
    known = list(known)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["add", "mul", "reduce.xor", "reduce.max", "phi.lt", "load", "loop", "loop"]))
        pick = [draw(st.sampled_from(known)) for _ in range(4)]
        if kind == "loop" and depth < 3:
            known += _loop(draw, b, known, x, depth, pick)
        elif kind == "load":
            known.append(b.load(x, b.op("reduce.and", pick[0], constant(b, 7))))
        elif kind != "loop":
            known.append(b.op(kind, *pick[: 4 if kind == "phi.lt" else 2]))
    return known[-1]


def _loop(draw: st.DrawFn, b: Builder, known: list[Reg], x: Mem, depth: int, pick: list[Reg]) -> list[Reg]:
    shortened = b.op("reduce.and", pick[0], constant(b, 3))
    count = draw(st.sampled_from([shortened, b.add(shortened, constant(b, -1)), 2]))
    with b.serial(count, p=pick[1], q=pick[2]) as loop:
        inside = [*known, loop.index, loop["p"], loop["q"]]
        last = _block(draw, b, inside, x, depth + 1)
        loop.next(p=last, q=draw(st.sampled_from([loop["p"], loop.index, last])))
    return [loop["p"], loop["q"]]


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(bodies(), st.lists(st.integers(-(2**31), 2**31 - 1), min_size=SIZE, max_size=SIZE))
def test_random_nested_loops_give_what_a_scalar_interpreter_gives(kernel: Kernel, x: list[int]) -> None:
    expected = {"x": x, "out": [0] * (2 * SIZE)}
    for group in range(GROUPS):
        for lane in range(LANES):
            run_lane(kernel, expected, group, lane)
    actual = values.run(kernel, {}, {"x": np.array(x, np.int32), "out": np.zeros(2 * SIZE, np.int32)})
    assert actual["out"].tolist() == expected["out"]
