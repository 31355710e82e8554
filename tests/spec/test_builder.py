"""Writing kernels in Python."""

from __future__ import annotations

import pytest

from portkit.errors import SpecError
from portkit.spec.builder import Builder
from portkit.spec.kernel import Extent
from portkit.spec.text import format as format_kernel
from portkit.spec.types import F32, I32, Type, encode
from portkit.spec.verify import verify


def test_the_axpy_of_the_docstring_verifies() -> None:
    b = Builder("axpy")
    x, y = b.buffer("x", "f32", "n", "read"), b.buffer("y", "f32", "n", "readwrite")
    n, a = b.scalar("n", "i32"), b.scalar("a", "f32")
    g = b.grid(b.scalar("groups", "i32"))
    lane = b.lane(256)
    i = b.add(b.mul(g, b.const("i32", 256)), lane)
    inside = b.lt(i, n)
    zero = b.const("f32", 0.0)
    t = b.add(b.mul(a, b.load(x, i, gate=inside, other=zero)), b.load(y, i, gate=inside, other=zero))
    b.store(y, i, t, gate=inside)
    verify(b.build())


def test_equal_constants_share_one_register_and_stand_first() -> None:
    b = Builder("k")
    b.grid(1)
    assert b.const("f32", 1.0) == b.const("f32", 1)
    assert b.const("f32", 0.0) != b.const("f32", -0.0)
    b.lane(1)
    assert [instr.name for instr in b.build().body[:3]] == ["mov.const"] * 3


def test_a_constant_is_rounded_to_its_dtype() -> None:
    b = Builder("k")
    b.grid(1)
    b.lane(1)
    b.const("f16", 2049)
    assert b.build().body[0].imms == (0x6800,)


def test_loops_are_closed_from_the_inside_out() -> None:
    b = Builder("k")
    b.grid(2, "g")
    b.lane(4, "l")
    b.lane(8, "m")
    assert format_kernel(b.build()).splitlines()[-3:] == ["endloop m", "endloop l", "endloop g"]
    assert b.build().lane_counts == (4, 8)


def test_a_serial_loop_gives_its_carries_next_values() -> None:
    b = Builder("k")
    b.grid(1)
    b.lane(1)
    with b.serial(4, total=b.const("f32", 0.0)) as loop:
        loop.next(total=b.add(loop["total"], loop["total"]))
    kernel = b.build()
    verify(kernel)
    assert kernel.body[-3].carries == (("total", kernel.body[-4].result),)


def test_a_carry_without_a_next_value_is_refused() -> None:
    b = Builder("k")
    b.grid(1)
    b.lane(1)
    with pytest.raises(SpecError, match="total") as caught, b.serial(4, total=b.const("f32", 0.0)):
        pass
    assert caught.value.clause == "endloop_c1"


def test_operands_of_different_types_are_refused_at_once() -> None:
    b = Builder("k")
    with pytest.raises(SpecError, match="operand b is f32, expected i32") as caught:
        b.add(b.const("i32", 1), b.const("f32", 1.0))
    assert caught.value.clause == "type_c3"


def test_a_name_is_taken_once() -> None:
    b = Builder("k")
    b.scalar("n", "i32")
    with pytest.raises(SpecError, match="n is already defined"):
        b.buffer("n", "f32", 8, "read")


def test_an_extent_is_a_literal_a_scalar_or_a_product() -> None:
    b = Builder("k")
    b.scalar("n", "i32")
    b.buffer("x", "f32", 8, "read")
    b.buffer("y", "f32", "n", "read")
    b.buffer("z", "f32", ("n", 4), "read")
    b.grid(1)
    b.lane(1)
    extents = [buffer.extent for buffer in b.build().buffers]
    assert extents == [Extent((8,)), Extent(("n",)), Extent(("n", 4))]


def test_a_vector_index_makes_a_gather_and_a_scatter() -> None:
    b = Builder("k")
    x, y = b.buffer("x", "f32", 64, "read"), b.buffer("y", "f32", 64, "write")
    b.grid(1)
    at = b.splat(b.lane(4), 4)
    b.store(y, at, b.load(x, at))
    kernel = b.build()
    verify(kernel)
    assert [i.name for i in kernel.body[3:5]] == ["load.gather", "store.scatter"]


def test_a_comparison_without_operands_gives_bool_of_the_same_lanes() -> None:
    b = Builder("k")
    b.grid(1)
    lane = b.lane(4)
    assert str(b.lt(lane, lane).type) == "bool"
    assert str(b.eq(b.splat(lane, 8), b.splat(lane, 8)).type) == "boolx8"


def test_alignment_defaults_to_the_element_size() -> None:
    b = Builder("k")
    x = b.buffer("x", "f64", 64, "read")
    b.grid(1)
    b.load_vec(x, b.lane(4), 2)
    assert b.build().body[2].imms == (8,)


def test_a_constant_of_bits_keeps_them() -> None:
    b = Builder("k")
    b.grid(1)
    b.lane(1)
    register = b.bits_const("f32", 0x7F800001)
    assert register.type == Type(F32)
    assert b.build().body[0].imms == (0x7F800001,)
    assert encode(I32, 7) == 7
