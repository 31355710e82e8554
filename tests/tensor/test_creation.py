"""Tensors from nothing against NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portkit.compiler import graph
from portkit.compiler.index import Variable
from portkit.errors import AxisError, DTypeError, ShapeError
from portkit.spec.types import BF16, DTYPES, F32, I32, U8, DType
from portkit.tensor import creation as c
from portkit.tensor.tensor import Tensor
from tests.tensor.judging import close, random, same, value


@pytest.mark.parametrize("dtype", list(DTYPES.values()), ids=str)
def test_zeros_ones_and_full_are_defined_in_every_dtype(dtype: DType) -> None:
    same(c.zeros(2, 3, dtype=dtype), np.zeros((2, 3), dtype.numpy))
    same(c.ones((2, 3), dtype=dtype), np.ones((2, 3), dtype.numpy))
    same(c.full((2,), 1, dtype), np.ones(2, dtype.numpy))
    like = Tensor(np.ones((3,), dtype.numpy))
    same(c.zeros_like(like), np.zeros(3, dtype.numpy))
    same(c.ones_like(like), np.ones(3, dtype.numpy))


def test_dtypes_follow_the_numbers_unless_given() -> None:
    assert c.zeros(2).dtype is F32
    assert c.full(2, 7).dtype is I32
    assert c.full(2, 7.0).dtype is F32
    assert c.full(2, True).dtype.name == "bool"
    assert c.full_like(Tensor([1], dtype=U8), 3).dtype is U8
    assert c.arange(3).dtype is I32
    assert c.arange(3.0).dtype is F32
    assert c.arange(3, dtype=BF16).dtype is BF16


@settings(max_examples=60, deadline=None)
@given(st.integers(-20, 20), st.integers(-20, 20), st.integers(-5, 5).filter(bool))
def test_arange_of_integers_is_that_of_numpy(start: int, stop: int, step: int) -> None:
    same(c.arange(start, stop, step), np.arange(start, stop, step, dtype=np.int32))


def test_arange_of_floats_is_start_plus_multiples_of_the_step() -> None:
    same(c.arange(0.5, 3, 0.25), np.arange(0.5, 3, 0.25, dtype=np.float32))
    same(c.arange(5), np.arange(5, dtype=np.int32))


def test_arange_of_a_dynamic_extent_has_it() -> None:
    n = Variable("n", 1, 8)
    assert c.arange(n).shape == (n,)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_linspace_is_that_of_numpy_and_its_ends_are_exact(count: int) -> None:
    got = c.linspace(-0.1, 3.3, count)
    close(got, np.linspace(-0.1, 3.3, count), 4)
    if count > 1:
        assert value(got)[[0, -1]].tolist() == [np.float32(-0.1), np.float32(3.3)]


@pytest.mark.parametrize(("rows", "columns"), [(3, None), (2, 4), (4, 2)])
def test_the_identity_is_that_of_numpy(rows: int, columns: int | None) -> None:
    same(c.eye(rows, columns), np.eye(rows, columns, dtype=np.float32))


@pytest.mark.parametrize("offset", [-5, -1, 0, 1, 2, 9])
@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 5), (5, 2)])
def test_triangles_are_those_of_numpy(shape: tuple[int, ...], offset: int) -> None:
    x = random(*shape)
    x[..., 0, 0] = math.nan
    same(c.tril(Tensor(x), offset), np.tril(x, offset))
    same(c.triu(Tensor(x), offset), np.triu(x, offset))


def test_one_hot_is_one_at_the_class_and_zeros_out_of_range() -> None:
    classes = np.array([[0, 2], [3, -1]])
    same(c.one_hot(Tensor(classes), 3), np.array([[[1, 0, 0], [0, 0, 1]], [[0, 0, 0]] * 2], np.float32))
    same(c.one_hot(Tensor(classes.astype(np.uint8)[:1]), 3, "i32"), np.array([[[1, 0, 0], [0, 0, 1]]], np.int32))


@pytest.mark.parametrize("indexing", ["ij", "xy"])
def test_a_grid_is_that_of_numpy(indexing: str) -> None:
    vectors = [np.arange(n, dtype=np.int32) for n in (2, 3, 4)]
    wanted = np.meshgrid(*vectors, indexing=indexing)  # type: ignore[call-overload]
    for got, expected in zip(c.meshgrid(*map(Tensor, vectors), indexing=indexing), wanted, strict=True):
        same(got, expected)


def test_a_constant_is_no_memory_but_one_value_in_the_graph() -> None:
    ops = {n.op for n in graph.topological([c.zeros(1000, 1000).node])}
    assert ops == {"const", "view"}


ERRORS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "negative": (lambda: c.zeros(2, -1), ShapeError, r"full: shape \(2, -1\) has a negative extent"),
    "value": (lambda: c.full(2, 300, "u8"), DTypeError, "full: 300 does not fit u8"),
    "infinity": (lambda: c.full(2, math.inf, "i32"), DTypeError, "full: inf does not fit i32"),
    "step": (lambda: c.arange(0, 5, 0), ShapeError, "arange from 0 to 5 by 0: .* the step not 0"),
    "bool": (lambda: c.arange(0, 2, dtype=bool), DTypeError, "arange has no bool sequence"),
    "count": (lambda: c.linspace(0, 1, -1), ShapeError, "linspace needs a count that is not negative"),
    "one_hot": (lambda: c.one_hot(Tensor([0.5]), 2), DTypeError, "one_hot needs integers, got f32; cast them to i32"),
    "classes": (lambda: c.one_hot(Tensor([0]), -1), ShapeError, "one_hot: the count of classes is not negative"),
    "identity": (lambda: c.eye(-1), ShapeError, "eye: extents are not negative, got -1"),
    "dtype": (lambda: c.zeros(2, dtype=5), DTypeError, "unknown dtype 5"),  # type: ignore[arg-type]
    "tril": (lambda: c.tril(Tensor([1.0])), AxisError, "tril: axis -2 is out of range"),
    "grid": (lambda: c.meshgrid(Tensor([[1.0]])), ShapeError, "meshgrid needs vectors"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_does_not_fit_is_refused_by_the_name_of_the_operation(name: str) -> None:
    act, error, text = ERRORS[name]
    with pytest.raises(error, match=text):
        act()
