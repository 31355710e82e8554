"""Each arithmetic instruction of PTX against Python's integers, NumPy, or values worked out by hand from the manual."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from portkit.emulators.ptx import Program
from portkit.errors import CompileError
from tests.emulators.running import apply, module

INF, NAN = math.inf, math.nan
SIGNED = {"s16": np.int16, "s32": np.int32, "s64": np.int64}
UNSIGNED = {"u16": np.uint16, "u32": np.uint32, "u64": np.uint64}
INTEGERS = {**SIGNED, **UNSIGNED}


def edges(dtype: type, count: int = 64) -> list[int]:
    """Return the ends of an integer type, small numbers, and others at random."""
    info = np.iinfo(dtype)
    few = [0, 1, 2, 3, 7, info.max, info.max - 1, info.min, info.min + 1, info.max // 2 + 1]
    rng = np.random.default_rng(info.bits)
    return few + [int(x) for x in rng.integers(info.min, info.max, count - len(few), dtype, endpoint=True)]


def wrapped(value: int, dtype: type) -> int:
    bits = np.iinfo(dtype).bits
    value &= (1 << bits) - 1
    return value - (1 << bits) if np.iinfo(dtype).min < 0 and value >> (bits - 1) else value


def high(a: int, b: int, bits: int) -> int:
    return a * b >> bits


def truncated(a: int, b: int, _: int) -> int:
    return int(math.copysign(1, a) * math.copysign(1, b)) * (abs(a) // abs(b))


TWO: dict[str, Callable[[int, int, int], int]] = {
    "add": lambda a, b, _: a + b,
    "sub": lambda a, b, _: a - b,
    "mul.lo": lambda a, b, _: a * b,
    "mul.hi": high,
    "min": lambda a, b, _: min(a, b),
    "max": lambda a, b, _: max(a, b),
    "div": truncated,
    "rem": lambda a, b, _: a - b * truncated(a, b, 0),
}


@pytest.mark.parametrize("type_", INTEGERS)
@pytest.mark.parametrize("name", TWO)
def test_integer_arithmetic_is_that_of_python_cut_to_its_width(name: str, type_: str) -> None:
    dtype = INTEGERS[type_]
    a = edges(dtype)
    b = a[7:] + a[:7]
    if name in ("div", "rem"):
        b = [x or 5 for x in b]
    bits = np.iinfo(dtype).bits
    expected = [wrapped(TWO[name](x, y, bits), dtype) for x, y in zip(a, b, strict=True)]
    assert apply(f"{name}.{type_}", dtype, np.array(a, dtype), np.array(b, dtype)).tolist() == expected


@pytest.mark.parametrize(
    ("type_", "wide"), [("s16", np.int32), ("u16", np.uint32), ("s32", np.int64), ("u32", np.uint64)]
)
def test_wide_products_keep_every_bit(type_: str, wide: type) -> None:
    a = edges(INTEGERS[type_])
    found = apply(f"mul.wide.{type_}", wide, np.array(a, INTEGERS[type_]), np.array(a[::-1], INTEGERS[type_]))
    assert found.tolist() == [x * y for x, y in zip(a, a[::-1], strict=True)]


@pytest.mark.parametrize("type_", ["s32", "u64"])
def test_multiply_and_add_wraps(type_: str) -> None:
    dtype = INTEGERS[type_]
    a = edges(dtype)
    x = np.array(a, dtype)
    expected = [wrapped(p * q + p, dtype) for p, q in zip(a, a[::-1], strict=True)]
    assert apply(f"mad.lo.{type_}", dtype, x, x[::-1].copy(), x).tolist() == expected


@pytest.mark.parametrize("type_", ["b16", "b32", "b64"])
def test_logic_works_bit_by_bit(type_: str) -> None:
    dtype = UNSIGNED[f"u{type_[1:]}"]
    a = np.array(edges(dtype), dtype)
    b = a[::-1].copy()
    for name, expected in (("and", a & b), ("or", a | b), ("xor", a ^ b)):
        assert apply(f"{name}.{type_}", dtype, a, b).tolist() == expected.tolist()
    assert apply(f"not.{type_}", dtype, a).tolist() == (~a).tolist()


COUNTS = np.array([0, 1, 15, 16, 31, 32, 33, 63, 64, 1 << 31], np.uint32)


@pytest.mark.parametrize("type_", [*SIGNED, *UNSIGNED])
def test_a_shift_by_the_width_or_more_shifts_everything_out(type_: str) -> None:
    dtype = INTEGERS[type_]
    value = np.iinfo(dtype).min + 5 if type_[0] == "s" else np.iinfo(dtype).max - 5
    operand = np.full(len(COUNTS), value, dtype)
    right = [value >> min(int(count), 64) for count in COUNTS]
    left = [wrapped(value << min(int(count), 64), dtype) for count in COUNTS]
    assert apply(f"shr.{type_}", dtype, operand, COUNTS).tolist() == right
    assert apply(f"shl.b{np.iinfo(dtype).bits}", dtype, operand, COUNTS).tolist() == left


def words(*values: int) -> np.ndarray:
    return np.array(values, np.uint32)


@pytest.mark.parametrize(
    ("name", "operands", "expected"),
    [
        ("bfe.u32", (words(0xABCD1234), words(8), words(8)), 0x12),
        ("bfe.s32", (words(0x0000F000), words(12), words(4)), 0xFFFFFFFF),
        ("bfe.s32", (words(0xF0000000), words(28), words(32)), 0xFFFFFFFF),  # beyond the end: filled by the sign
        ("bfe.u32", (words(0xFFFFFFFF), words(3), words(0)), 0),
        ("bfi.b32", (words(0xAB), words(0x11111111), words(8), words(8)), 0x1111AB11),
        ("bfi.b32", (words(0xAB), words(0x11111111), words(28), words(8)), 0xB1111111),
        ("bfi.b32", (words(0xAB), words(0x11111111), words(0), words(32)), 0xAB),
        ("brev.b32", (words(0x80000001 | 0b110 << 8),), 0x80600001),
        ("popc.b32", (words(0xF0F00001),), 9),
        ("prmt.b32", (words(0x44332211), words(0x88776655), words(0x7531)), 0x88664422),
        ("prmt.b32", (words(0x000080FF), words(0), words(0x4098)), 0x00FFFFFF),  # 8 and 9: signs of bytes 0 and 1
        ("shf.l.wrap.b32", (words(0x89ABCDEF), words(0x01234567), words(8)), 0x23456789),
        ("shf.l.wrap.b32", (words(0x89ABCDEF), words(0x01234567), words(32)), 0x01234567),
        ("shf.r.wrap.b32", (words(0x89ABCDEF), words(0x01234567), words(8)), 0x6789ABCD),
        ("abs.s32", (words(0xFFFFFFFE),), 2),
        ("neg.s32", (words(2),), 0xFFFFFFFE),
    ],
)
def test_bits_go_where_the_manual_says(name: str, operands: tuple[np.ndarray, ...], expected: int) -> None:
    assert apply(name, np.uint32, *operands).tolist() == [expected]


# --- floats -------------------------------------------------------------------------------------------------------

FLOATS = {"f16": np.float16, "f32": np.float32, "f64": np.float64}


def some_floats(dtype: Any, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    special = [0.0, -0.0, 1, -1, INF, -INF, NAN, float(np.finfo(dtype).smallest_subnormal), float(np.finfo(dtype).max)]
    return np.concatenate([special, np.ldexp(rng.uniform(-1, 1, 55), rng.integers(-12, 12, 55))]).astype(dtype)


@pytest.mark.parametrize("type_", FLOATS)
@pytest.mark.parametrize(
    ("name", "function"), [("add.rn", np.add), ("sub.rn", np.subtract), ("mul.rn", np.multiply), ("div.rn", np.divide)]
)
def test_float_arithmetic_is_rounded_once_and_keeps_subnormals(name: str, function: Any, type_: str) -> None:
    a, b = some_floats(FLOATS[type_], 1), np.roll(some_floats(FLOATS[type_], 2), 3)
    with np.errstate(all="ignore"):
        expected = function(a, b)
    np.testing.assert_array_equal(apply(f"{name}.{type_}", a.dtype, a, b), expected)


@pytest.mark.parametrize("type_", ["f32", "f64"])
def test_roots_and_reciprocals_are_rounded_once(type_: str) -> None:
    a = some_floats(FLOATS[type_], 3)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(apply(f"sqrt.rn.{type_}", a.dtype, a), np.sqrt(a))
        np.testing.assert_array_equal(apply(f"rcp.rn.{type_}", a.dtype, a), 1 / a)


def test_a_fused_product_is_rounded_once() -> None:
    a = np.array([1 + 2.0**-12], np.float32)
    found = apply("fma.rn.f32", np.float32, a, a, np.array([-1 - 2.0**-11], np.float32))
    assert found.tolist() == [2.0**-24]


def test_extremes_prefer_numbers_to_nan_and_order_the_zeros() -> None:
    a, b = np.array([NAN, 1, 0.0, -0.0], np.float32), np.array([2, NAN, -0.0, 0.0], np.float32)
    low, high = apply("min.f32", np.float32, a, b), apply("max.f32", np.float32, a, b)
    assert low.tolist()[:2] == high.tolist()[:2] == [2, 1]
    assert np.signbit(low[2:]).all()
    assert not np.signbit(high[2:]).any()


def test_a_signalling_nan_is_a_nan_like_others() -> None:
    signalling = words(0x7F800001).view(np.float32)
    assert apply("max.f32", np.float32, signalling, np.array([2], np.float32)).tolist() == [2]


def test_extremes_may_also_prefer_nan() -> None:
    a, b = np.array([NAN, 1, 0.0, 3], np.float32), np.array([2, NAN, -0.0, 2], np.float32)
    low, high = apply("min.NaN.f32", np.float32, a, b), apply("max.NaN.f32", np.float32, a, b)
    assert np.isnan(low[:2]).all()
    assert np.isnan(high[:2]).all()
    assert (low.tolist()[3], high.tolist()[3]) == (2, 3)
    assert (np.signbit(low[2]), np.signbit(high[2])) == (True, False)


def test_two_floats_become_the_halves_of_a_register_the_first_above() -> None:
    upper, lower = np.array([1 + 2.0**-11 + 2.0**-20], np.float32), np.array([-2], np.float32)
    found = apply("cvt.rn.f16x2.f32", np.uint32, upper, lower).view(np.float16)
    assert found.tolist() == [-2, 1 + 2.0**-10]


def test_the_sign_of_the_first_operand_is_copied() -> None:
    assert apply("copysign.f32", np.float32, np.array([-3], np.float32), np.array([2], np.float32)).tolist() == [-2]


def test_the_approximate_power_is_within_the_manuals_error_and_not_better_by_chance() -> None:
    x = np.array([0, -INF, INF, 128, -149, 0.5, 1.25, -3.7], np.float32)
    found = apply("ex2.approx.f32", np.float32, x)
    exact = np.exp2(x.astype(np.float64))
    assert found.tolist()[:5] == [1, 0, INF, INF, 2.0**-149]
    assert np.all(found[5:] <= exact[5:])
    assert np.all(exact[5:] - found[5:] < np.spacing(found[5:]))


COMPARED = {
    "eq": [False, False, True, False],
    "ne": [True, True, False, False],
    "lt": [True, False, False, False],
    "le": [True, False, True, False],
    "gt": [False, True, False, False],
    "ge": [False, True, True, False],
}


@pytest.mark.parametrize("type_", FLOATS)
@pytest.mark.parametrize("name", COMPARED)
def test_a_comparison_with_nan_is_false_and_true_with_its_unordered_form(name: str, type_: str) -> None:
    a, b = np.array([1, 2, 2, NAN], FLOATS[type_]), np.array([2, 1, 2, 1], FLOATS[type_])
    ordered = apply(f"setp.{name}.{type_}", np.uint32, a, b, predicate=True)
    unordered = apply(f"setp.{name}u.{type_}", np.uint32, a, b, predicate=True)
    assert ordered.astype(bool).tolist() == COMPARED[name]
    assert unordered.astype(bool).tolist() == [*COMPARED[name][:3], True]


def test_numbers_and_nan_are_told_apart() -> None:
    a, b = np.array([1, NAN, 1], np.float32), np.array([1, 1, NAN], np.float32)
    assert apply("setp.num.f32", np.uint32, a, b, predicate=True).tolist() == [1, 0, 0]
    assert apply("setp.nan.f32", np.uint32, a, b, predicate=True).tolist() == [0, 1, 1]


@pytest.mark.parametrize(("type_", "expected"), [("s32", 1), ("u32", 0)])
def test_integers_are_compared_by_their_sign(type_: str, expected: int) -> None:
    found = apply(f"setp.lt.{type_}", np.uint32, words(0xFFFFFFFF), words(1), predicate=True)
    assert found.tolist() == [expected]


def test_halves_in_one_register_are_computed_apart() -> None:
    a = np.array([1.5, -2, 3, 4], np.float16).view(np.uint32)
    b = np.array([1, 2, INF, -4], np.float16).view(np.uint32)
    assert apply("add.rn.f16x2", np.uint32, a, b).view(np.float16).tolist() == [2.5, 0, INF, 0]
    assert apply("fma.rn.f16x2", np.uint32, a, b, b).view(np.float16).tolist() == [2.5, -2, INF, -20]


# --- conversions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "operand", "expected"),
    [
        ("cvt.s64.s32", np.array([-5], np.int32), np.array([-5], np.int64)),
        ("cvt.u64.u32", words(0xFFFFFFFF), np.array([0xFFFFFFFF], np.uint64)),
        ("cvt.u16.u32", words(0x12345), np.array([0x2345], np.uint16)),
        ("cvt.s16.s8", np.array([0x12F0], np.uint16), np.array([-16], np.int16)),
        ("cvt.s8.s32", words(0x123F0), np.array([-16], np.int16)),
        ("cvt.s64.s8", np.array([0x80], np.uint64), np.array([-128], np.int64)),
        ("cvt.rzi.s32.f32", np.array([-2.9], np.float32), np.array([-2], np.int32)),
        ("cvt.rzi.s32.f32", np.array([NAN], np.float32), np.array([0], np.int32)),
        ("cvt.rzi.u32.f64", np.array([1e300]), words(0xFFFFFFFF)),
        ("cvt.rni.s32.f32", np.array([2.5], np.float32), np.array([2], np.int32)),
        ("cvt.rpi.f32.f32", np.array([2.1], np.float32), np.array([3], np.float32)),
        ("cvt.rmi.f32.f32", np.array([-2.1], np.float32), np.array([-3], np.float32)),
        ("cvt.rn.f32.u64", np.array([(1 << 63) + (1 << 39) + 1], np.uint64), np.array([2.0**63 + 2.0**40], np.float32)),
        ("cvt.rn.f16.u32", words(2049), np.array([2048], np.float16)),
        ("cvt.rn.f16.s64", np.array([(1 << 15) + 16 + 1], np.int64), np.array([(1 << 15) + 32], np.float16)),
        ("cvt.rn.f16.f32", np.array([1 + 2.0**-11 + 2.0**-20], np.float32), np.array([1 + 2.0**-10], np.float16)),
        ("cvt.rn.f32.f64", np.array([1 + 2.0**-24]), np.array([1], np.float32)),
        ("cvt.f64.f16", np.array([2.0**-24], np.float16), np.array([2.0**-24])),
    ],
)
def test_conversions_cut_extend_round_and_saturate(name: str, operand: np.ndarray, expected: np.ndarray) -> None:
    assert apply(name, expected.dtype, operand).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "text",
    [
        "add.f32 %r1, %r2, %r3;",
        "mul.rn.ftz.f32 %r1, %r2, %r3;",
        "tanh.approx.f32 %r1, %r2;",
        "add.rz.f32 %r1, %r2, %r3;",
    ],
)
def test_an_instruction_outside_the_subset_is_named(text: str) -> None:
    with pytest.raises(CompileError, match=text.split(maxsplit=1)[0].replace(".", r"\.")):
        Program(module(text, 0))
