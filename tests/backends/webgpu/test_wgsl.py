"""The WGSL that is printed, without a device."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import pytest

from portkit.backends.webgpu.kernel import print_wgsl
from portkit.backends.webgpu.wgsl import PRELUDE, Wgsl
from portkit.errors import CompileError
from portkit.spec.builder import Builder, Reg
from portkit.spec.kernel import Kernel

LANES = 64


def printed(kernel: Kernel, *, shifted: bool = False) -> str:
    return print_wgsl(kernel, Wgsl(shifted=shifted))


def scaled(numeric: Literal["fast", "strict"] = "fast") -> Kernel:
    b = Builder("scaled", numeric)
    x, out = b.buffer("x", "f32", LANES, "read"), b.buffer("out", "f32", LANES, "write")
    b.grid(1)
    lane = b.lane(LANES)
    b.store(out, lane, b.mul(b.load(x, lane), b.const("f32", 3.0)))
    return b.build()


@pytest.mark.parametrize("numeric", ["fast", "strict"])
def test_constants_and_results_of_floats_are_hidden_in_both_modes(numeric: Literal["fast", "strict"]) -> None:
    text = printed(scaled(numeric))
    assert "hidden(0x40400000u)" in text
    assert "fn fmul(a: u32, b: u32) -> u32 { return hidden(" in text


def test_no_function_is_printed_that_is_not_called() -> None:
    functions = re.findall(r"^fn (\w+)\(", printed(scaled()), re.MULTILINE)
    assert functions == ["hidden", "fmul", "run"]


@pytest.mark.parametrize("name", PRELUDE)
def test_every_function_of_the_prelude_has_its_name(name: str) -> None:
    assert PRELUDE[name].startswith(f"fn {name}(")


def test_a_shifted_buffer_is_indexed_from_where_it_begins() -> None:
    assert "m_x_m[m_x_m_at + lane]" in printed(scaled(), shifted=True)
    assert "_at" not in printed(scaled())


def test_two_constants_are_no_constant_expression() -> None:
    b = Builder("folded")
    out = b.buffer("out", "u32", 1, "write")
    b.grid(1)
    b.lane(1)
    b.store(out, b.const("i32", 0), b.op("mul.shl", b.const("u32", 5), b.const("u32", 31)))
    assert not re.search(r"\b\d+u (<<|&|\+|\*) \d+u", printed(b.build()))


def meeting(counted_by: str) -> Kernel:
    """A kernel whose lanes meet in a loop, the count of which is a literal, a scalar or in memory."""
    b = Builder("meeting")
    n = b.scalar("n", "i32")
    counts, out = b.buffer("counts", "i32", 1, "read"), b.buffer("out", "i32", LANES, "readwrite")
    b.grid(1)
    lane = b.lane(LANES)
    loaded: Reg = b.load(counts, b.const("i32", 0))
    with b.serial({"literal": 3, "scalar": n, "memory": loaded}[counted_by]) as loop:
        b.store(out, lane, b.add(b.load(out, lane), loop.index))
        b.barrier()
    return b.build()


@pytest.mark.parametrize(("counted_by", "shared"), [("literal", False), ("scalar", False), ("memory", True)])
def test_the_count_of_a_loop_with_a_barrier_is_shared_where_wgsl_would_not_know_it_uniform(
    counted_by: str, shared: bool
) -> None:
    assert ("workgroupUniformLoad(&turns)" in printed(meeting(counted_by))) is shared


def nested() -> Kernel:
    b = Builder("nested")
    out = b.buffer("out", "i32", 1, "readwrite")
    n = b.scalar("n", "i32")
    b.grid(1)
    b.lane(1)
    zero = b.const("i32", 0)
    with b.serial(n), b.serial(n) as inner:
        b.store(out, zero, b.add(b.load(out, zero), inner.index))
    return b.build()


def test_only_inner_loops_without_barriers_have_several_turns_in_one() -> None:
    assert printed(nested()).count("m_out_m[0u] =") == 17  # 16 turns in one, and the rest one by one
    assert printed(meeting("scalar")).count("workgroupBarrier();") == 1


def test_every_loop_says_whether_it_was_ended_early() -> None:
    text = printed(nested())
    assert text.count("cut |=") == 2
    assert "if (cut != 0u) { atomicMax(&cuts, 1u); }" in text
    assert "cut" not in printed(scaled()).replace("cuts", "")


@pytest.mark.parametrize("dtype", ["i32", "u32"])
def test_a_buffer_that_is_folded_into_holds_atomics(dtype: str) -> None:
    b = Builder("folding")
    out = b.buffer("out", dtype, 1, "readwrite")
    b.grid(1)
    b.lane(LANES)
    b.op("store.atomic.max", b.const("i32", 0), b.const(dtype, 5), mems=(out,))
    text = printed(b.build())
    assert f"m_out_m: array<atomic<{dtype}>>" in text
    assert "atomicMax(&m_out_m[0u], " in text


@pytest.mark.parametrize(
    "write",
    [lambda b, one: b.fma(one, one, one), lambda b, one: b.op("mov.lane", b.splat(one, 4), imms=(0,))],
    ids=["mul.add", "vec"],
)
def test_a_form_that_is_not_declared_is_refused(write: Callable[[Builder, Reg], Reg]) -> None:
    b = Builder("undeclared")
    out = b.buffer("out", "f32", 1, "write")
    b.grid(1)
    b.lane(1)
    b.store(out, b.const("i32", 0), write(b, b.const("f32", 1.0)))
    with pytest.raises(CompileError):
        printed(b.build())


@pytest.mark.parametrize("dtype", ["f64", "i64", "i16", "f16"])
def test_a_dtype_that_is_not_declared_is_refused(dtype: str) -> None:
    b = Builder("undeclared")
    x, out = b.buffer("x", dtype, 1, "read"), b.buffer("out", dtype, 1, "write")
    b.grid(1)
    b.lane(1)
    zero = b.const("i32", 0)
    value = b.load(x, zero)
    b.store(out, zero, b.add(value, value))
    with pytest.raises(CompileError, match="has no type"):
        printed(b.build())
