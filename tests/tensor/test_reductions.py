"""Reductions against NumPy, in every dtype; what NaN, empty axes and narrow dtypes give."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from portkit.compiler.evaluate import evaluate
from portkit.compiler.graph import Source, source
from portkit.compiler.index import Variable
from portkit.errors import AxisError, DTypeError, ShapeError
from portkit.spec.types import BF16, BOOL, DTYPES, F16, F32, F64, I8, I32, U8, U16, U32, U64, DType
from portkit.tensor.tensor import Tensor
from tests.tensor.judging import bits, close, random, same, value

INTEGERS = [d for d in DTYPES.values() if d.is_int]
FLOATS = [F32, F64, F16, BF16]


@settings(max_examples=60, deadline=None)
@given(hnp.array_shapes(min_dims=1, max_dims=4, max_side=4), st.data())
def test_folds_over_any_axes_are_those_of_numpy(shape: tuple[int, ...], data: Any) -> None:
    x = np.random.default_rng(0).integers(-3, 4, shape).astype(np.int32)
    axes = data.draw(st.one_of(st.none(), st.sets(st.integers(0, len(shape) - 1)).map(lambda s: tuple(sorted(s)))))
    keep = data.draw(st.booleans())
    arguments = {"axis": axes, "keepdims": keep}
    for name in ("sum", "prod"):
        same(getattr(Tensor(x), name)(**arguments), getattr(np, name)(x, dtype=np.int32, **arguments))
    for name in ("max", "min", "any", "all"):
        same(getattr(Tensor(x), name)(**arguments), getattr(np, name)(x, **arguments))
    same(Tensor(x).count_nonzero(**arguments), (x != 0).sum(dtype=np.int32, **arguments))


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_sums_of_integers_wrap_and_have_at_least_32_bits(dtype: DType) -> None:
    x = bits(dtype, 5, 40)
    result = Tensor(x).sum(1)
    wide = dtype if dtype.bits >= 32 else I32
    assert result.dtype is wide
    same(result, x.astype(wide.numpy).sum(1, dtype=wide.numpy))
    same(Tensor(x).prod(0), x.astype(wide.numpy).prod(0, dtype=wide.numpy))
    same(Tensor(x).max(0), x.max(0))
    same(Tensor(x).min(), x.min())


def test_bools_are_counted_as_i32() -> None:
    x = np.array([[True, False], [True, True]])
    same(Tensor(x).sum(0), np.array([2, 1], np.int32))
    same(Tensor(x).max(1), [True, True])
    same(Tensor(x).min(1), [False, True])
    same(Tensor(x).mean(), np.float32(0.75))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_statistics_of_floats_are_those_of_numpy_but_for_rounding(dtype: DType) -> None:
    x = random(6, 50).astype(dtype.numpy)
    exact = x.astype(np.float64)
    magnitude = float(np.abs(exact).sum(1).max())
    within = 2 if dtype in (F16, BF16) else 50
    close(Tensor(x).sum(1), exact.sum(1), within, magnitude)
    close(Tensor(x).mean(1), exact.mean(1), within, magnitude / 50)
    close(Tensor(x).var(1), exact.var(1, ddof=1), 2 * within)
    close(Tensor(x).std(1, correction=0), exact.std(1), 2 * within)
    close(Tensor(x).norm(1), np.linalg.norm(exact, axis=1), within)
    close(Tensor(x).logsumexp(1), np.log(np.exp(exact).sum(1)), within)


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_a_mean_of_narrow_floats_does_not_overflow_on_the_way(dtype: DType) -> None:
    top = np.full(64, 3e4, dtype.numpy)
    same(Tensor(top).mean(), top[0])


def test_a_sum_of_f16_takes_another_dtype_if_asked() -> None:
    x = np.full(64, 3e4, np.float16)
    assert value(Tensor(x).sum()) == math.inf
    assert value(Tensor(x).sum(dtype=F32)) == x.astype(np.float32).sum()


def test_the_mean_of_integers_is_f32() -> None:
    same(Tensor([1, 2, 4]).mean(), np.float32(7 * np.float32(1 / 3)))


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin"])
def test_nan_wins_and_the_first_one_is_the_place(name: str) -> None:
    x = np.array([[1.0, math.nan, 3.0, math.nan], [2.0, 9.0, 9.0, -1.0]], np.float32)
    wanted = getattr(np, name)(x, axis=1)
    same(getattr(Tensor(x), name)(1), wanted.astype(np.int32) if name.startswith("arg") else wanted)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, BOOL], ids=str)
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_places_of_extremes_are_those_of_numpy_the_first_of_equals(name: str, dtype: DType) -> None:
    x = np.random.default_rng(0).integers(0, 5, (6, 9)).astype(dtype.numpy)
    for axis in (0, 1, -1):
        same(getattr(Tensor(x), name)(axis), getattr(np, name)(x, axis=axis).astype(np.int32))
    same(getattr(Tensor(x), name)(), np.int32(getattr(np, name)(x)))
    same(getattr(Tensor(x), name)(1, keepdims=True), getattr(np, name)(x, axis=1, keepdims=True).astype(np.int32))
    assert getattr(Tensor(x), name)(keepdims=True).shape == (1, 1)


def test_folds_of_nothing_are_identities_or_refused() -> None:
    x = Tensor(np.zeros((2, 0), np.float32))
    same(x.sum(1), np.zeros(2, np.float32))
    same(x.prod(1), np.ones(2, np.float32))
    same(x.any(1), [False, False])
    same(x.all(1), [True, True])
    assert np.isnan(value(x.mean(1))).all()
    for name in ("max", "min", "argmax", "argmin"):
        with pytest.raises(ShapeError, match=rf"{name} of \(2, 0\) over axis 1: no elements"):
            getattr(x, name)(1)


def test_the_variance_of_one_element_has_no_estimate() -> None:
    assert np.isnan(value(Tensor([[1.0]]).var(1))).all()
    same(Tensor([[1.0]]).var(1, correction=0), np.zeros(1, np.float32))


def test_logsumexp_neither_overflows_nor_loses_infinities() -> None:
    x = np.array([[1000.0, 1000.0], [-math.inf, -math.inf], [math.inf, 0.0]], np.float32)
    got = value(Tensor(x).logsumexp(1))
    assert abs(got[0] - (1000 + math.log(2))) <= np.spacing(np.float32(1000))
    np.testing.assert_array_equal(got[1:], [-math.inf, math.inf])


def test_a_dynamic_extent_is_a_count_computed_on_the_device() -> None:
    n = Variable("n", 1, 64)
    origin = Source(F32, (n, 2))
    x = Tensor.of(source(origin))
    data = random(5, 2)
    mean, var = evaluate([x.mean(0).node, x.var(0).node], {origin: data}, wide=True)
    exact = data.astype(np.float64)
    magnitude = np.abs(exact).max()
    assert np.abs(mean - exact.mean(0)).max() <= 8 * np.spacing(magnitude)
    assert np.abs(var - exact.var(0, ddof=1)).max() <= 32 * np.spacing(magnitude**2)


ERRORS: dict[str, tuple[Callable[[Tensor], object], type[Exception], str]] = {
    "axis": (lambda x: x.sum(2), AxisError, r"sum: axis 2 is out of range for shape \(2, 3\); its axes are -2 \.\. 1"),
    "axis twice": (lambda x: x.mean((0, -2)), AxisError, r"mean: axes \[0, -2\] name one axis twice"),
    "argmax": (lambda x: x.argmax(-3), AxisError, "argmax: axis -3 is out of range"),
    "rank 0": (lambda x: x.sum().max(0), AxisError, r"max: axis 0 is out of range for shape \(\); its axes are none"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_axes_out_of_range_are_refused_by_the_name_of_the_operation(name: str) -> None:
    act, error, text = ERRORS[name]
    with pytest.raises(error, match=text):
        act(Tensor(random(2, 3)))


@pytest.mark.parametrize("dtype", [DTYPES["f8e4m3fn"], DTYPES["f8e5m2"]], ids=str)
def test_f8_is_not_summed_but_cast_first(dtype: DType) -> None:
    x = Tensor(np.ones(3, dtype.numpy))
    with pytest.raises(DTypeError, match=f"sum: add is not defined on {dtype}.*cast the tensor first"):
        x.sum()
    same(x.cast(F32).sum(), np.float32(3))


@pytest.mark.parametrize(
    ("dtype", "wanted"), [(I8, I32), (U8, I32), (U16, I32), (U32, U32), (U64, U64), (F16, F16)], ids=str
)
def test_running_sums_have_the_dtype_of_sums(dtype: DType, wanted: DType) -> None:
    x = Tensor(np.array([1, 2, 3], dtype.numpy))
    same(x.cumsum(0), np.array([1, 3, 6], wanted.numpy))
    same(x.cumprod(0), np.array([1, 2, 6], wanted.numpy))


def test_scans_are_those_of_numpy() -> None:
    x = np.random.default_rng(0).integers(-9, 9, (3, 5)).astype(np.int32)
    for axis in (0, 1, -1):
        same(Tensor(x).cumsum(axis), np.cumsum(x, axis, dtype=np.int32))
        same(Tensor(x).cummax(axis), np.maximum.accumulate(x, axis))
        same(Tensor(x).cummin(axis), np.minimum.accumulate(x, axis))
        same(Tensor(x).diff(axis), np.diff(x, axis=axis))


def test_a_running_sum_of_narrow_floats_accumulates_in_f32() -> None:
    x = np.full(3000, 1.0, np.float16)
    assert value(Tensor(x).cumsum(0))[-1] == np.float16(3000)
