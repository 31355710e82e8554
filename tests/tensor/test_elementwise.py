"""Elementwise functions of tensors against NumPy, in every dtype that they take."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from portkit.errors import DeviceMismatch, DTypeError, ShapeError
from portkit.spec.types import BF16, BOOL, DTYPES, F8E4M3FN, F16, F32, F64, I32, DType
from portkit.tensor import elementwise as e
from portkit.tensor.tensor import Tensor
from tests.tensor.judging import bits, close, random, same, value

FLOATS = [F32, F64, F16, BF16]
INTEGERS = [d for d in DTYPES.values() if d.is_int]
NUMBERS = FLOATS + INTEGERS

BINARY: dict[str, tuple[Callable[..., Tensor], Callable[..., Any], list[DType]]] = {
    "add": (e.add, np.add, NUMBERS),
    "sub": (e.sub, np.subtract, NUMBERS),
    "mul": (e.mul, np.multiply, NUMBERS),
    "div": (e.div, np.divide, FLOATS),
    "floor_divide": (e.floor_divide, np.floor_divide, INTEGERS),
    "remainder": (e.remainder, np.remainder, INTEGERS),
    "fmod": (e.fmod, np.fmod, INTEGERS),
    "maximum": (e.maximum, np.maximum, NUMBERS),
    "minimum": (e.minimum, np.minimum, NUMBERS),
    "lt": (e.lt, np.less, NUMBERS),
    "le": (e.le, np.less_equal, NUMBERS),
    "gt": (e.gt, np.greater, NUMBERS),
    "ge": (e.ge, np.greater_equal, NUMBERS),
    "eq": (e.eq, np.equal, NUMBERS),
    "ne": (e.ne, np.not_equal, NUMBERS),
    "bitwise_and": (e.bitwise_and, np.bitwise_and, [*INTEGERS, BOOL]),
    "bitwise_or": (e.bitwise_or, np.bitwise_or, [*INTEGERS, BOOL]),
    "bitwise_xor": (e.bitwise_xor, np.bitwise_xor, [*INTEGERS, BOOL]),
}
CASES = [pytest.param(name, d, id=f"{name}-{d}") for name, (_, _, dtypes) in BINARY.items() for d in dtypes]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_a_binary_function_is_that_of_numpy_on_random_bits(name: str, dtype: DType) -> None:
    function, wanted, _ = BINARY[name]
    a, b = bits(dtype, 7, 30, seed=1), bits(dtype, 30, seed=2)
    with np.errstate(all="ignore"):
        a[:, ::3] = np.broadcast_to(b, a.shape)[:, ::3]
        comparing = name in ("lt", "le", "gt", "ge", "eq", "ne") and dtype is BF16
        expected = wanted(a.astype(np.float32), b.astype(np.float32)) if comparing else wanted(a, b)
    same(function(Tensor(a), Tensor(b)), expected)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("neg", np.negative), ("abs", np.abs), ("sign", np.sign), ("square", np.square)],
)
@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_a_unary_function_of_numbers_is_that_of_numpy(name: str, wanted: Callable[..., Any], dtype: DType) -> None:
    x = bits(dtype, 50)
    with np.errstate(all="ignore"):
        same(getattr(Tensor(x), name)(), wanted(x).astype(x.dtype))


UNARY = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10,
    "log1p": np.log1p, "sin": np.sin, "cos": np.cos, "tan": np.tan, "tanh": np.tanh, "sqrt": np.sqrt,
    "reciprocal": np.reciprocal, "rsqrt": lambda x: 1 / np.sqrt(x), "erf": np.vectorize(math.erf),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "floor": np.floor, "ceil": np.ceil, "round": np.rint, "trunc": np.trunc,
}  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", UNARY)
def test_a_float_function_is_that_of_numpy_but_for_rounding(name: str, dtype: DType) -> None:
    x = np.abs(random(40)).astype(dtype.numpy)
    compound = {"expm1": 8, "log1p": 8, "log10": 4}
    close(getattr(Tensor(x), name)(), UNARY[name](x.astype(np.float64)), compound.get(name, 2))


@pytest.mark.parametrize("name", ["exp", "sqrt", "sin", "sigmoid", "erf", "log1p", "reciprocal"])
def test_a_float_function_of_integers_computes_in_f32(name: str) -> None:
    result = getattr(Tensor([1, 2, 3]), name)()
    assert result.dtype is F32
    close(result, UNARY[name](np.array([1.0, 2.0, 3.0])), 8)


def test_true_division_of_integers_gives_f32() -> None:
    same(Tensor([1, 2]) / Tensor([4, 4]), np.array([0.25, 0.5], np.float32))


@pytest.mark.parametrize("name", ["floor", "ceil", "round", "trunc"])
def test_rounding_leaves_integers_alone(name: str) -> None:
    same(getattr(Tensor([1, 2]), name)(), np.array([1, 2], np.int32))


@pytest.mark.parametrize("x", [2.0**-30, -(2.0**-30), 1e-4, -0.9, 0.0])
@pytest.mark.parametrize("name", ["expm1", "log1p"])
def test_what_is_accurate_near_zero_is_so_relative_to_its_value(name: str, x: float) -> None:
    rounded = float(np.float32(x))
    close(getattr(Tensor([rounded]), name)(), [getattr(math, name)(rounded)], 8)


@pytest.mark.parametrize("name", ["expm1", "log1p"])
def test_what_is_accurate_near_zero_has_the_limits_of_numpy(name: str) -> None:
    x = np.array([math.inf, -math.inf, math.nan, -1.0, -2.0, 1e30, -0.0], np.float32)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x)
    got = value(getattr(Tensor(x), name)())
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected))
    np.testing.assert_array_equal(got[~np.isfinite(expected)], expected[~np.isfinite(expected)])


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(np.float32, 8, elements=st.floats(-100, 100, width=16)),
    hnp.arrays(np.float32, 8, elements=st.sampled_from([2.0, -2.0, 0.5, 8.0])),
)
def test_remainder_has_the_sign_of_the_divisor_and_fmod_that_of_the_dividend(x: Any, y: Any) -> None:
    same(Tensor(x) % Tensor(y), np.remainder(x, y))
    same(e.fmod(Tensor(x), Tensor(y)), np.fmod(x, y))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 5, 8])
def test_an_integer_power_is_multiplied_out(exponent: int) -> None:
    x = np.array([-3, 0, 2, 7], np.int32)
    same(Tensor(x) ** exponent, x**exponent)
    y = np.array([-1.5, 0.0, 2.0], np.float32)
    close(Tensor(y) ** exponent, y.astype(np.float64) ** exponent, exponent + 1)


def test_a_float_power_is_that_of_numpy() -> None:
    x = np.abs(random(20)) + np.float32(0.5)
    close(Tensor(x) ** 0.5, np.sqrt(x.astype(np.float64)), 2)
    close(2.0 ** Tensor(x), 2 ** x.astype(np.float64), 2)


def test_bools_add_to_or_and_multiply_to_and() -> None:
    a, b = np.array([True, True, False]), np.array([True, False, False])
    same(Tensor(a) + Tensor(b), a | b)
    same(Tensor(a) * Tensor(b), a & b)
    same(Tensor(a).maximum(Tensor(b)), a | b)
    same(Tensor(a).minimum(Tensor(b)), a & b)


def test_logic_takes_any_number_as_a_truth() -> None:
    a, b = Tensor([0.0, 2.0, math.nan]), Tensor([1, 0, 3])
    same(a.logical_and(b), [False, False, True])
    same(a.logical_or(b), [True, True, True])
    same(a.logical_xor(b), [True, True, False])
    same(a.logical_not(), [True, False, False])


def test_comparisons_with_nan_are_those_of_numpy() -> None:
    x = np.array([1.0, math.nan, math.nan], np.float32)
    y = np.array([math.nan, 1.0, math.nan], np.float32)
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        function, wanted, _ = BINARY[name]
        same(function(Tensor(x), Tensor(y)), wanted(x, y))


def test_finiteness_is_that_of_numpy() -> None:
    x = np.array([1.0, math.nan, math.inf, -math.inf, 0.0], np.float32)
    same(Tensor(x).isnan(), np.isnan(x))
    same(Tensor(x).isinf(), np.isinf(x))
    same(Tensor(x).isfinite(), np.isfinite(x))
    same(Tensor([1, 2]).isfinite(), [True, True])
    same(Tensor([1, 2]).isinf(), [False, False])


def test_clip_limits_on_either_side_or_both() -> None:
    x = np.array([-2.0, 0.5, 3.0, math.nan], np.float32)
    same(Tensor(x).clip(0, 1), np.clip(x, 0, 1))
    same(Tensor(x).clip(low=0), np.maximum(x, 0))
    same(Tensor(x).clip(high=1), np.minimum(x, 1))


@pytest.mark.parametrize("dtype", list(DTYPES.values()), ids=str)
def test_where_and_casts_are_defined_on_every_dtype(dtype: DType) -> None:
    a, b, c = bits(dtype, 3, 5, seed=1), bits(dtype, 5, seed=2), bits(BOOL, 3, 1)
    result = value(e.where(Tensor(c), Tensor(a), Tensor(b)))
    assert result.tobytes() == np.where(c, a, b).tobytes()
    assert value(Tensor(a).cast(BOOL)).dtype == np.bool_


def test_where_takes_numbers_for_any_operand() -> None:
    x = Tensor([1.0, -1.0])
    same(e.where(x > 0, x, 0), np.array([1, 0], np.float32))
    same(e.where(x > 0, 1, 2), np.array([1, 2], np.int32))
    same(e.where(True, x, 0), np.array([1, -1], np.float32))


def test_shifts_and_high_products_are_of_integers() -> None:
    x = Tensor(np.array([-8, 9], np.int32))
    same(x >> 1, np.array([-4, 4], np.int32))
    same(x << 2, np.array([-32, 36], np.int32))
    same(e.multiply_high(Tensor(np.array([1 << 31], np.uint32)), 4), np.array([2], np.uint32))
    same(~x, np.array([7, -10], np.int32))


def test_a_bitcast_reads_the_same_bits() -> None:
    x = random(4)
    same(Tensor(x).bitcast("i32"), x.view(np.int32))
    with pytest.raises(DTypeError, match=r"bitcast: f32 and f16 do not have the same width; use cast"):
        Tensor(x).bitcast(F16)


@settings(max_examples=60, deadline=None)
@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=4, max_side=3))
def test_operands_broadcast_as_in_numpy(shapes: hnp.BroadcastableShapes) -> None:
    a, b, c = (np.arange(math.prod(s), dtype=np.int32).reshape(s) for s in shapes.input_shapes)
    same(e.where(Tensor(a) > 2, Tensor(b), Tensor(c)), np.where(a > 2, b, c))
    same(Tensor(a) + Tensor(b), a + b)


def test_numbers_and_arrays_are_operands_on_either_side() -> None:
    x, a = random(3), cast(Any, random(2, 3))  # NumPy's types do not know of reflected operators
    number, word = cast(Any, np.float32(2)), cast(Any, "x")
    same(2 - Tensor(x), 2 - x)
    same(a - Tensor(x), a - x)
    same(Tensor(x) - a, x - a)
    same(number * Tensor(x), 2 * x)
    with pytest.raises(DTypeError, match="add takes tensors, arrays and numbers, got str"):
        _ = Tensor(x) + word


def test_a_number_that_does_not_fit_is_refused_with_the_fix() -> None:
    x = Tensor(np.zeros(2, np.uint8))
    with pytest.raises(DTypeError, match="add: 300 does not fit u8; cast the tensor first"):
        _ = x + 300
    with pytest.raises(DTypeError, match="lt: -1 does not fit u8"):
        _ = x < -1


def test_shapes_that_do_not_broadcast_are_refused_with_the_fix() -> None:
    with pytest.raises(
        ShapeError, match=r"mul: shapes \(2, 3\) and \(4,\) do not broadcast, axis -1 is 3 and 4; reshape"
    ):
        _ = Tensor(random(2, 3)) * Tensor(random(4))


def test_operands_on_two_devices_are_refused_with_the_fix() -> None:
    with pytest.raises(DeviceMismatch, match=r"add: operands are on cpu and far; move one with \.to\('cpu'\)"):
        _ = Tensor(1.0) + Tensor(1.0, device="far")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Tensor([1.0]) & 1, "bitwise_and: and is not defined on f32.*cast the operands"),
        (lambda: Tensor([True]) - Tensor([True]), "sub: sub is not defined on bool"),
        (lambda: -Tensor([True]), "neg: neg is not defined on bool"),
        (lambda: Tensor([1.0], dtype=F8E4M3FN) + 1, "add: add is not defined on f8e4m3fn"),
        (lambda: Tensor([2]) ** 9, r"pow of integers takes a Python integer 0 \.\. 8"),
        (lambda: e.add(1, 2), "add needs a tensor among its operands, got int and int"),
        (lambda: Tensor(np.zeros(1, np.uint64)) + Tensor(np.zeros(1, np.int64)),
            "add: no dtype holds both u64 and i64"),
        (lambda: Tensor([1.0]).cast("f31"), "unknown dtype 'f31'; did you mean f32"),
    ],
)  # fmt: skip
def test_a_dtype_that_does_not_fit_is_refused_by_the_name_of_the_operation(
    make: Callable[[], Tensor], text: str
) -> None:
    with pytest.raises(DTypeError, match=text):
        make()


def test_detached_and_contiguous_tensors_have_the_same_elements() -> None:
    x = random(3)
    same(Tensor(x).detach(), x)
    same((Tensor(x) + 1).contiguous(), x + 1)
    assert (Tensor([1]) + 1).contiguous().dtype is I32
