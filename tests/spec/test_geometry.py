"""What the host computes before a launch: grid counts and buffer extents (Spec: nest_c3, header_c3)."""

from __future__ import annotations

import pytest

from portkit.errors import SpecError
from portkit.spec.builder import Builder, Reg
from portkit.spec.geometry import buffer_extents, grid_counts
from portkit.spec.kernel import Kernel, Loop
from portkit.spec.text import parse
from tests.spec.kernels import DOT, edited


def grid_of(form: str, *operands: int) -> int:
    """Return the grid count that a form of i32 operands gives."""
    b = Builder("k")
    args = [b.scalar(f"s{i}", "i32") for i in range(len(operands))]
    b.grid(b.op(form, *args))
    b.lane(1)
    (count,) = grid_counts(b.build(), {f"s{i}": value for i, value in enumerate(operands)})
    return count


TOP = 2**31 - 1


@pytest.mark.parametrize(
    ("form", "operands", "count"),
    [
        ("add", (3, 4), 7),
        ("add", (TOP, TOP), 0),
        ("mul", (6, 7), 42),
        ("mul", (1 << 20, 1 << 12), 0),
        ("mul.hi", (TOP, TOP), (TOP * TOP) >> 32),
        ("mul.shl", (3, 4), 48),
        ("mul.shl", (3, 36), 48),
        ("mul.shr", (100, 3), 12),
        ("mul.shr", (-100, 3), 0),
        ("reduce.max", (3, 9, 5), 9),
        ("reduce.min", (3, 9, 5), 3),
        ("reduce.and", (12, 10), 8),
        ("reduce.or", (12, 10), 14),
        ("reduce.xor", (12, 10), 6),
        ("phi.lt", (1, 2, 30, 40), 30),
        ("phi.lt", (2, 2, 30, 40), 40),
        ("phi.eq", (2, 2, 30, 40), 30),
    ],
)
def test_a_grid_count_is_computed_as_the_device_would(form: str, operands: tuple[int, ...], count: int) -> None:
    assert grid_of(form, *operands) == count


def through(dtype: str, value: int) -> int:
    b = Builder("k")
    narrow: Reg = b.cast(b.scalar("n", "i32"), dtype)
    b.grid(b.cast(narrow, "i32"))
    b.lane(1)
    return grid_counts(b.build(), {"n": value})[0]


@pytest.mark.parametrize(("dtype", "count"), [("i8", 44), ("u8", 44), ("i16", 300), ("u64", 300)])
def test_a_cast_wraps(dtype: str, count: int) -> None:
    assert through(dtype, 300) == count


def test_a_cast_keeps_the_sign_of_a_signed_dtype() -> None:
    assert through("i8", 200) == 0
    assert through("u8", 200) == 200


def test_a_bool_selects_a_count() -> None:
    kernel = parse(
        edited(DOT, ("g = loop.grid 8", "b = phi.lt n two true false\nc = phi.eq b true two width\ng = loop.grid c"))
    )
    assert grid_counts(kernel, {"n": 1}) == (2,)
    assert grid_counts(kernel, {"n": 2}) == (256,)


def test_grid_counts_come_outermost_first_and_negative_ones_are_zero() -> None:
    kernel = parse(
        edited(DOT, ("g = loop.grid 8", "h = loop.grid n\ng = loop.grid 8"), ("endloop g", "endloop g\nendloop h"))
    )
    assert grid_counts(kernel, {"n": 5}) == (5, 8)
    assert grid_counts(kernel, {"n": -5}) == (0, 8)


def test_too_many_groups_are_refused() -> None:
    kernel = parse(
        edited(DOT, ("g = loop.grid 8", "h = loop.grid n\ng = loop.grid 8"), ("endloop g", "endloop g\nendloop h"))
    )
    with pytest.raises(SpecError) as caught:
        grid_counts(kernel, {"n": 1 << 28})
    assert caught.value.clause == "nest_c3"


def test_a_count_that_needs_the_device_is_refused() -> None:
    kernel = parse(edited(DOT, ("g = loop.grid 8", "q = mov.cast i32 zero\ng = loop.grid q")))
    with pytest.raises(SpecError, match="grid count q") as caught:
        grid_counts(kernel, {"n": 1})
    assert caught.value.clause == "nest_c3"


def test_buffer_extents_are_evaluated_in_header_order() -> None:
    kernel = parse(edited(DOT, ("y f32[n]", "y f32[2*n*n]")))
    assert buffer_extents(kernel, {"n": 3}) == (3, 18, 8)


def dot() -> Kernel:
    return parse(DOT)


def test_the_nest_of_a_kernel_names_its_loops_by_position() -> None:
    kernel = dot()
    nest = kernel.nest
    assert [kernel.body[i].name for i in nest.setup] == ["mov.const"] * 6 + ["loop.grid", "loop.lane"]
    assert [kernel.body[i].result for i in (*nest.grids, *nest.lanes)] == ["g", "l"]
    loop = nest.body[0]
    assert isinstance(loop, Loop)
    assert [kernel.body[i].result for i in loop.carries] == ["acc"]
    assert kernel.body[loop.end].name == "endloop"
    assert len(loop.body) == loop.end - loop.head - 2


def test_lanes_and_shared_bytes_are_totals() -> None:
    kernel = dot()
    assert (kernel.lanes, kernel.shared_bytes) == (256, 1024)


@pytest.mark.parametrize(
    ("edits", "clause"),
    [
        ([("endloop g\n", "")], "nest_c1"),
        ([("endloop k acc=s", "endloop l acc=s")], "endloop_c1"),
        ([("l = loop.lane", "q = loop.serial 1\nendloop q\nl = loop.lane")], "nest_c2"),
        ([("endloop g\n", "endloop g\nbarrier\n")], "nest_c2"),
    ],
)
def test_a_body_without_a_nest_has_none(edits: list[tuple[str, str]], clause: str) -> None:
    with pytest.raises(SpecError) as caught:
        _ = parse(edited(DOT, *edits)).nest
    assert caught.value.clause == clause
