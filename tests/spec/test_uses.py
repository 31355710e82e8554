"""What a kernel asks of a device, and in words what a device lacks for it (Spec: ext_c1, limit_c1)."""

from __future__ import annotations

from typing import Any

import pytest

from portkit.contract import Capabilities, Limits, NumericLimits, unsupported
from portkit.spec.text import parse
from portkit.spec.uses import Use, uses
from tests.spec.kernels import DOT, VECTORS, edited

BASE = Capabilities(name="base", version="1", vendor="v", evidence="stand-in")


def device(**declared: Any) -> Capabilities:
    return Capabilities(name="x", version="1", vendor="v", evidence="stand-in", **declared)


VECTOR_DEVICE = device(
    extensions=("vec", "math", "atomic"), lanes=(4,), math={"sqrt": ("f32",)}, atomic={"add": ("i32",)}
)


def test_a_form_is_counted_by_dtype_lanes_and_source() -> None:
    forms = uses(parse(VECTORS)).forms
    assert forms >= {
        Use("mov.sqrt", "f32", 4),
        Use("load.vec", "f32", 4),
        Use("store.vec", "f32", 4),
        Use("mov.lane", "f32", 4),
        Use("store.atomic.add", "i32", 1),
        Use("loop.lane"),
    }


@pytest.mark.parametrize(
    ("line", "use"),
    [
        ("q = mov.cast f64 l", Use("mov.cast", "f64", 1, "i32")),
        ("q = mov.bits i16x2 l", Use("mov.bits", "i16", 2, "i32")),
        ("q = phi.lt l two zero zero", Use("phi.lt", "i32", 1)),
        ("q = mov.pack l l l", Use("mov.pack", "i32", 3)),
        ("q = mov.splat f32x8 zero", Use("mov.splat", "f32", 8)),
        ("q = reduce.group.add zero", Use("reduce.group.add", "f32", 1)),
        ("q = mov.pack l l\nr = load.gather x q", Use("load.gather", "f32", 2)),
    ],
)
def test_a_form_is_counted_once_in_its_own_terms(line: str, use: Use) -> None:
    assert use in uses(parse(edited(DOT, ("barrier", line)))).forms


def test_totals_are_those_of_the_kernel() -> None:
    needs = uses(parse(DOT))
    assert (needs.lanes, needs.shared_bytes, needs.buffers, needs.strict) == (256, 1024, 3, False)
    assert needs.dtypes == {"f32", "i32", "bool"}
    assert (needs.extensions, needs.vectors) == (frozenset(), frozenset())


def test_a_base_kernel_runs_on_a_base_device() -> None:
    assert unsupported(parse(DOT), BASE) == []


def test_a_kernel_that_fits_what_is_declared_runs() -> None:
    assert unsupported(parse(VECTORS), VECTOR_DEVICE) == []


@pytest.mark.parametrize(
    ("text", "capabilities", "reason"),
    [
        (edited(DOT, ("begin", "numeric strict\nbegin")), BASE, "numeric strict is not declared"),
        (edited(DOT, ("lane 256", "lane 257")), BASE, "257 lanes are more than the declared 256"),
        (edited(DOT, ("f32[256]", "f32[4097]")), BASE, "16388 bytes of shared memory are more than the declared 16384"),
        (edited(DOT, ("barrier", "q = mov.const f64 1.0")), BASE, "dtype f64 is not declared"),
        (edited(DOT, ("scalar", "buffer z f16[1] read\nscalar")), BASE, "dtype f16 is not declared"),
        (edited(DOT, ("barrier", "q = mul.add zero zero zero")), BASE, "extension fma is not declared"),
        (edited(DOT, ("barrier", "q = mov.splat f32x8 zero")), VECTOR_DEVICE, "8 lanes are not declared"),
        (edited(VECTORS, ("mov.sqrt", "mov.exp2")), VECTOR_DEVICE, "mov.exp2 on f32 is not declared"),
        (edited(VECTORS, ("atomic.add", "atomic.max")), VECTOR_DEVICE, "store.atomic.max on i32 is not declared"),
    ],
)  # fmt: skip
def test_what_is_lacking_is_said_in_words(text: str, capabilities: Capabilities, reason: str) -> None:
    assert unsupported(parse(text), capabilities) == [reason]


def test_too_many_buffers_are_more_than_declared() -> None:
    header = "".join(f"buffer b{n} f32[1] read\n" for n in range(7))
    kernel = parse(edited(DOT, ("scalar", f"{header}scalar")))
    assert unsupported(kernel, BASE) == ["10 buffers are more than the declared 8"]
    assert unsupported(kernel, device(limits=Limits(buffers=10))) == []


def test_a_strict_kernel_runs_where_strict_is_declared() -> None:
    kernel = parse(edited(DOT, ("begin", "numeric strict\nbegin")))
    assert unsupported(kernel, device(numeric=NumericLimits(strict=True))) == []
