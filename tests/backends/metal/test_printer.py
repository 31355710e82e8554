"""The text that Metal gets."""

from __future__ import annotations

import re

import pytest

from portkit.backends.metal.printer import ENTRY, Printed, print_msl
from portkit.errors import CompileError
from portkit.spec.builder import Builder
from tests.backends.metal.kernels import neighbours, pointwise, scaled


def test_neither_contraction_nor_unsafe_optimisation_is_allowed() -> None:
    lines = print_msl(scaled()).text.splitlines()
    assert lines.index("#pragma METAL fp math_mode(safe)") < lines.index("#pragma METAL fp contract(off)")
    assert lines.index("#pragma METAL fp contract(off)") < lines.index("static void work(")


def test_buffers_have_a_slot_each_and_all_numbers_one_together() -> None:
    text = print_msl(scaled()).text
    assert re.findall(r"(\w+)\* (\w+) \[\[buffer\((\d)\)\]\]", text) == [
        ("float", "x_m", "0"),
        ("float", "out_m", "1"),
        ("ulong", "words", "2"),
    ]


def test_numbers_are_read_from_their_words_and_the_first_group_is_added() -> None:
    entry = print_msl(scaled()).text.partition(f"kernel void {ENTRY}")[2]
    assert re.findall(r"(as_type<float>\()?uint\(words\[(\d)\]\)", entry) == [
        ("", "0"),
        ("as_type<float>(", "1"),
        ("", "2"),
        ("", "3"),
        ("", "4"),
        ("", "5"),
    ]
    assert "uint(words[5]) + group" in entry


def test_shared_arrays_stand_in_one_block_each_at_a_multiple_of_64_bytes() -> None:
    b = Builder("two_arrays")
    out = b.buffer("out", "i32", 8, "write")
    first, second = b.shared("first", "i8", 3), b.shared("second", "f32", 40)
    b.grid(1)
    lane = b.lane(1)
    b.store(first, lane, b.const("i8", 1))
    b.store(second, lane, b.const("f32", 1.0))
    b.store(out, lane, lane)
    printed = print_msl(b.build())
    assert printed.shared_bytes == 64 + 192
    assert "(threadgroup uchar*)(shared + 0)" in printed.text
    assert "(threadgroup float*)(shared + 64)" in printed.text


def test_a_kernel_without_shared_arrays_asks_for_no_threadgroup_memory() -> None:
    assert "[[threadgroup(" not in print_msl(scaled()).text
    assert print_msl(scaled()).shared_bytes == 0


def test_the_compiler_is_told_how_many_lanes_must_fit() -> None:
    assert "[[max_total_threads_per_threadgroup(64)]]\nkernel void " in print_msl(neighbours(meet=True)).text


def test_a_barrier_orders_both_memories() -> None:
    text = print_msl(neighbours(meet=True)).text
    assert "threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);" in text


def test_f16_is_computed_in_half() -> None:
    text = print_msl(pointwise("mul.add", "f16", 3, 8)).text
    assert re.search(r"const half \w+ = fma\(\w+, \w+, \w+\);", text)


def test_square_roots_are_the_precise_ones() -> None:
    assert "precise::sqrt(" in print_msl(pointwise("mov.sqrt", "f32", 1, 8)).text


def test_what_a_launch_must_know_survives_the_cache() -> None:
    printed = print_msl(neighbours(meet=True))
    assert Printed.unpack(printed.pack()) == printed
    assert (printed.lanes, printed.buffers, printed.shared_bytes) == (64, 1, 256)


def test_a_dtype_that_metal_lacks_is_refused_by_name() -> None:
    with pytest.raises(CompileError, match="double"):
        print_msl(pointwise("add", "f64", 2, 8))
