"""Sorting against NumPy's stable sort: any length, every dtype, NaN and zeros."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from portkit.compiler import graph
from portkit.errors import AxisError, DTypeError, ShapeError
from portkit.spec.types import BF16, BOOL, DTYPES, F16, F32, F64, DType
from portkit.tensor.tensor import Tensor
from tests.tensor.judging import bits, random, same, value

SORTED = [BOOL, *(d for d in DTYPES.values() if d.is_int), F32, F64, F16, BF16]
LENGTHS = [0, 1, 2, 3, 63, 64, 65, 127, 128, 129, 1000]


@pytest.mark.parametrize("length", LENGTHS)
def test_the_order_is_that_of_a_stable_sort(length: int) -> None:
    x = np.random.default_rng(0).integers(0, max(2, length // 3), (2, length)).astype(np.int32)
    same(Tensor(x).argsort(), np.argsort(x, kind="stable").astype(np.int32))
    same(Tensor(x).sort(), np.sort(x))
    same(Tensor(x).sort(descending=True), np.sort(x)[:, ::-1])
    same(Tensor(x).argsort(descending=True), np.argsort(~x, kind="stable").astype(np.int32))


@pytest.mark.parametrize("length", [20, 100])
@pytest.mark.parametrize("dtype", SORTED, ids=str)
def test_every_dtype_is_sorted_nan_last(dtype: DType, length: int) -> None:
    x = bits(dtype, 3, length)
    if dtype.is_float:
        x[0, :6] = np.array([0.0, -0.0, math.nan, -math.inf, math.inf, -0.0], dtype.numpy)
    with np.errstate(invalid="ignore"):
        wanted = np.argsort(x.astype(np.float64) if dtype.is_float else x, kind="stable")
    same(Tensor(x).argsort(), wanted.astype(np.int32))
    same(Tensor(x).sort(), np.take_along_axis(x, wanted, -1))


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=9), elements=st.floats(width=32)), st.data())
def test_any_axis_can_be_sorted(x: Any, data: Any) -> None:
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    same(Tensor(x).argsort(axis), np.argsort(x, axis, kind="stable").astype(np.int32))


def test_nan_comes_first_when_descending() -> None:
    x = Tensor([1.0, math.nan, 3.0])
    same(x.sort(descending=True), np.array([math.nan, 3, 1], np.float32))


@pytest.mark.parametrize("length", [10, 500])
def test_topk_gives_the_first_of_equals_and_their_places(length: int) -> None:
    x = np.random.default_rng(0).integers(0, 9, (3, length)).astype(np.float32)
    order = np.argsort(-x, kind="stable")[:, :4].astype(np.int32)
    values, places = Tensor(x).topk(4)
    same(places, order)
    same(values, np.take_along_axis(x, order, 1))
    least, _ = Tensor(x).topk(4, largest=False)
    same(least, np.sort(x)[:, :4])


@pytest.mark.parametrize("count", [0, 1, 3, 16, 17])
def test_topk_of_any_count_is_the_head_of_the_order(count: int) -> None:
    x = bits(F32, 2, 200)
    x[0, :40] = np.float32(math.nan)
    x[1] = np.float32(-math.inf)
    for largest in (True, False):
        order = Tensor(x).argsort(descending=largest)
        same(Tensor(x).topk(count, largest=largest)[1], value(order)[:, :count])


def test_topk_along_another_axis() -> None:
    x = random(6, 3)
    same(Tensor(x).topk(2, axis=0)[0], np.sort(x, 0)[::-1][:2])


def test_a_long_sort_keeps_each_exchange_in_memory_and_has_as_many_as_the_network() -> None:
    order = Tensor(random(4096)).argsort().node
    stores = [n for n in graph.topological([order]) if n.op == "store"]
    assert len(stores) <= 2 * 12 * 13 // 2
    assert len(stores) >= 12 * 13 // 2


def test_a_scalar_is_sorted() -> None:
    same(Tensor(3.0).sort(), np.float32(3))


def test_what_cannot_be_sorted_is_refused() -> None:
    with pytest.raises(DTypeError, match="sort is not defined on f8e5m2; cast it to f16"):
        Tensor(np.ones(3, DTYPES["f8e5m2"].numpy)).sort()
    with pytest.raises(ShapeError, match=r"topk: axis 0 of \(3,\) does not have 4 elements"):
        Tensor([1, 2, 3]).topk(4)
    with pytest.raises(ShapeError, match=r"topk: the count is an int, got 1.5"):
        Tensor([1, 2, 3]).topk(1.5)  # type: ignore[arg-type]
    with pytest.raises(AxisError, match="argsort: axis 1 is out of range"):
        Tensor([1, 2, 3]).argsort(1)
    assert value(Tensor([3, 1]).topk(0)[0]).shape == (0,)
