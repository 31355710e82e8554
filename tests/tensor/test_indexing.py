"""Indexing against NumPy: brackets read and written, places out of range, gathering, scattering and masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from portkit.compiler import graph
from portkit.compiler.index import Variable
from portkit.errors import AxisError, DeviceMismatch, DTypeError, ShapeError
from portkit.spec.types import DTYPES, F32, DType
from portkit.tensor import indexing, masking
from portkit.tensor.tensor import Tensor
from tests.tensor.judging import bits, random, same, value

Shape = tuple[int, ...]
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)
laws = settings(max_examples=120, deadline=None)


def counted(shape: Shape) -> NDArray[np.int32]:
    return np.arange(math.prod(shape), dtype=np.int32).reshape(shape) + 1


@laws
@given(SHAPES, st.data())
def test_basic_indices_read_and_write_as_in_numpy(shape: Shape, data: Any) -> None:
    x = counted(shape)
    key = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    same(Tensor(x)[key], x[key])
    changed, tensor = x.copy(), Tensor(x)
    values = -counted(np.shape(x[key]))
    changed[key], tensor[key] = values, Tensor(values)
    same(tensor, changed)
    changed[key], tensor[key] = 7, 7
    same(tensor, changed)


@laws
@given(SHAPES, st.data())
def test_tensors_of_places_read_and_write_as_in_numpy(shape: Shape, data: Any) -> None:
    x = counted(shape)
    key = data.draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3)))
    key = tuple(np.asarray(k, np.int32) for k in key)
    tensors = tuple(map(Tensor, key))
    same(Tensor(x)[tensors], x[key])
    changed, tensor = x.copy(), Tensor(x)
    changed[key], tensor[tensors] = -counted(x[key].shape), Tensor(-counted(x[key].shape))
    same(tensor, changed)


FIRST, SECOND = np.array([2, -1, 0]), np.array([1, 1, -2])
MIXED: list[Any] = [
    (slice(None), FIRST), (slice(None), FIRST, SECOND), (FIRST, slice(None), SECOND), (FIRST, slice(1, 3), slice(None,
        None, -2)), (None, FIRST),
    (..., FIRST), (slice(None), FIRST[:, None], SECOND), ([0, 1], [1, 2]), (FIRST, None, SECOND), (slice(3, 0, -2),
        FIRST), (range(3),),
]  # fmt: skip


@pytest.mark.parametrize("key", MIXED, ids=str)
def test_places_mix_with_slices_and_new_axes_as_in_numpy(key: Any) -> None:
    x = counted((4, 5, 6))
    wanted = x[tuple(np.array(k) if isinstance(k, range) else k for k in key)]
    same(Tensor(x)[key], wanted)
    tensor, changed = Tensor(x), x.copy()
    tensor[key] = 0
    changed[tuple(np.array(k) if isinstance(k, range) else k for k in key)] = 0
    same(tensor, changed)


def test_an_int_beside_places_takes_its_axis_away_first() -> None:
    x = counted((4, 5, 6))
    same(Tensor(x)[0, :, Tensor([1, 2])], x[0][:, [1, 2]])  # NumPy would put the places first


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.is_int], ids=str)
def test_places_may_be_of_any_integer_dtype(dtype: DType) -> None:
    x = counted((200, 2))
    places = np.array([0, 3, 127], dtype.numpy)
    same(Tensor(x)[Tensor(places)], x[[0, 3, 127]])
    if dtype.is_signed:
        same(Tensor(x)[Tensor(-places - 1)], x[[-1, -4, -128]])


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.is_int], ids=str)
def test_places_out_of_range_read_zero_and_are_not_written(dtype: DType) -> None:
    x = counted((3,))
    places = Tensor(np.array([1, 3, dtype.max_int, dtype.min_int if dtype.is_signed else 4], dtype.numpy))
    same(Tensor(x)[places], np.array([2, 0, 0, 0], np.int32))
    tensor = Tensor(x)
    tensor[places] = 9
    same(tensor, np.array([1, 9, 3], np.int32))
    pair = Tensor(counted((3, 3)))[places, Tensor([0, 0, 0, 0])]
    same(pair, np.array([4, 0, 0, 0], np.int32))


def test_the_last_of_repeated_places_is_written() -> None:
    tensor = Tensor([0, 0])
    tensor[Tensor([1, 1, 1])] = Tensor([5, 6, 7])
    same(tensor, np.array([0, 7], np.int32))


@pytest.mark.parametrize("dtype", list(DTYPES.values()), ids=str)
def test_indexing_keeps_every_bit_of_every_dtype(dtype: DType) -> None:
    x = bits(dtype, 4, 3)
    assert value(Tensor(x)[Tensor([3, 0])]).tobytes() == x[[3, 0]].tobytes()
    tensor, changed = Tensor(x), x.copy()
    tensor[1:3], changed[1:3] = Tensor(x[:2]), x[:2]
    assert value(tensor).tobytes() == changed.tobytes()


def test_assignment_leaves_what_was_read_before_as_it_was() -> None:
    x = Tensor([1, 2, 3])
    before, part = x + 0, x[1:]
    x[0] = 9
    same(before, np.array([1, 2, 3], np.int32))
    part[0] = 7
    same(x, np.array([9, 2, 3], np.int32))


def test_a_mask_takes_one_value() -> None:
    x = random(3, 4)
    tensor = Tensor(x)
    tensor[tensor < 0] = 0
    same(tensor, np.maximum(x, 0))
    rows = Tensor(x)
    rows[Tensor([True, False, True])] = Tensor(np.arange(4, dtype=np.float32))
    wanted = x.copy()
    wanted[[True, False, True]] = np.arange(4)
    same(rows, wanted)


def test_a_dynamic_axis_is_sliced_from_either_end() -> None:
    n = Variable("n", 8, 64)
    x = Tensor.of(graph.source(graph.Source(F32, (n, 4))))
    assert x[1:].shape == (n - 1, 4)
    assert x[:-2, 1].shape == (n - 2,)
    assert x[-1].shape == (4,)
    assert x[::2].shape == ((n + 1) // 2, 4)
    assert x[Tensor([1, 2])].shape == (2, 4)


# --- functions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_take_replaces_an_axis_by_those_of_the_index(axis: int) -> None:
    x = counted((3, 4, 5))
    index = np.array([[0, 2], [-1, 1]])
    same(Tensor(x).take(Tensor(index), axis), np.take(x, index, axis))


def test_take_along_axis_is_that_of_numpy() -> None:
    x = counted((3, 4))
    index = np.array([[0, 3, -1]])
    same(Tensor(x).take_along_axis(Tensor(index), 1), np.take_along_axis(x, index.repeat(3, 0), 1))
    order = np.argsort(-x, 0)
    same(Tensor(x).take_along_axis(Tensor(order), 0), np.take_along_axis(x, order, 0))


def test_gather_reads_a_part_where_the_index_is_smaller() -> None:
    x = counted((3, 4))
    index = np.array([[0, 1], [3, 2]])
    same(Tensor(x).gather(1, Tensor(index)), np.take_along_axis(x[:2], index, 1))


@pytest.mark.parametrize("reduce", ["set", "add", "mul", "max", "min"])
def test_scatter_folds_in_order(reduce: str) -> None:
    x = counted((2, 4))
    index, values = np.array([[0, 0, 5], [3, -1, 1]]), np.array([[2, 3, 4], [-5, 6, 7]], np.int32)
    fold: dict[str, Callable[[int, int], int]] = {
        "set": lambda a, b: b, "add": lambda a, b: a + b, "mul": lambda a, b: a * b, "max": max, "min": min,
    }  # fmt: skip
    wanted = x.copy()
    for row in range(2):
        for place, v in zip(index[row], values[row], strict=True):
            if -4 <= place < 4:
                wanted[row, place] = fold[reduce](int(wanted[row, place]), int(v))
    same(Tensor(x).scatter(1, Tensor(index), Tensor(values), reduce), wanted)


def test_scatter_into_a_part_keeps_the_rest() -> None:
    x = counted((3, 4))
    wanted = x.copy()
    wanted[0, [1, 2]] = 9
    same(Tensor(x).scatter(1, Tensor([[1, 2]]), 9), wanted)


def test_scatter_add_sums_what_meets_at_a_place() -> None:
    x = np.zeros(5, np.float32)
    index, values = [1, 1, 3], np.array([1, 2, 3], np.float32)
    np.add.at(x, index, values)
    same(Tensor(np.zeros(5, np.float32)).scatter_add(0, Tensor(index), Tensor(values)), x)


def test_an_embedding_is_rows_and_zeros_out_of_range() -> None:
    w = random(10, 3)
    same(indexing.embedding(Tensor(w), Tensor([[1, 11], [9, 0]])), np.stack([[w[1], w[1] * 0], [w[9], w[0]]]))


@laws
@given(SHAPES, st.integers(0, 30), st.data())
def test_a_mask_selects_in_order_up_to_a_size(shape: Shape, size: int, data: Any) -> None:
    x = counted(shape)
    mask = data.draw(hnp.arrays(np.bool_, shape))
    wanted = np.pad(x[mask], (0, size))[:size]
    same(Tensor(x).masked_select(Tensor(mask), size), wanted)
    places = np.argwhere(mask).astype(np.int32)
    filled = np.concatenate([places, np.full((size, len(shape)), -1, np.int32)])[:size]
    same(Tensor(mask).nonzero(size), filled)


def test_a_mask_fills_in_the_dtype_of_the_tensor() -> None:
    x = np.array([1, 2, 3], np.float16)
    same(Tensor(x).masked_fill(Tensor(x) > 1, -math.inf), np.array([1, -math.inf, -math.inf], np.float16))


X = counted((2, 3))
ERRORS: dict[str, tuple[Callable[[Tensor], object], type[Exception], str]] = {
    "index": (lambda x: x[2], AxisError, r"getitem: index 2 is out of range for axis 0 of \(2, 3\)"),
    "negative index": (lambda x: x[0, -4], AxisError, r"index -4 is out of range for axis 1"),
    "too many": (lambda x: x[0, 0, 0], AxisError, r"3 indices are too many for shape \(2, 3\)"),
    "two ellipses": (lambda x: x[..., ...], AxisError, "at most one '...'"),
    "step 0": (lambda x: x[::0], AxisError, "the step of a slice of axis 0.* is 0"),
    "float": (lambda x: x[0.5], AxisError, r"an index is an int, slice, None, '...' or tensor of ints, got 0.5"),
    "bool": (lambda x: x[True], AxisError, "got True"),
    "mask": (lambda x: x[x > 1], DTypeError, "a mask has no size that is known; use masked_select"),
    "float places": (lambda x: x[Tensor([0.5])], DTypeError, "places as integers, got f32; cast it to i32"),
    "device": (lambda x: x[Tensor([0], device="far")], DeviceMismatch, "cpu and far"),
    "set shape": (lambda x: indexing.setitem(x, 0, Tensor([1, 2])), ShapeError, r"setitem: .*\(2,\).*\(3,\)"),
    "set larger": (lambda x: indexing.setitem(x, 0, Tensor(X)), ShapeError,
        r"values of shape \(2, 3\) do not fit into \(3,\)"),
    "set dtype": (lambda x: indexing.setitem(x, 0, 0.5), DTypeError, "values of f32 do not fit into i32; cast them"),
    "set mask": (lambda x: indexing.setitem(x, Tensor([True]), 0), ShapeError,
        r"mask \(1,\) does not fit the first axes"),
    "gather rank": (lambda x: x.gather(0, Tensor([0])), ShapeError,
        r"gather: index \(1,\) needs the 2 axes of \(2, 3\)"),
    "gather size": (lambda x: x.gather(0, Tensor([[0] * 4])), ShapeError,
        r"gather: index \(1, 4\) is larger than \(2, 3\)"),
    "gather mask": (lambda x: x.gather(0, x > 1), DTypeError, "a mask has no size that is known; use masked_select"),
    "scatter": (lambda x: x.scatter(0, Tensor([[0]]), 1, "mean"), DTypeError, "unknown scatter 'mean'; known are set"),
    "take": (lambda x: x.take(Tensor([0]), 2), AxisError, "take: axis 2 is out of range"),
    "embedding": (lambda x: indexing.embedding(x[0], x), ShapeError, r"embedding needs weights \(v, d\), got \(3,\)"),
    "select": (lambda x: x.masked_select(x, 3), DTypeError, "masked_select needs a bool mask, got i32; compare first"),
    "select size": (lambda x: x.masked_select(x > 0, -1), ShapeError, "masked_select: size is at least 0, got -1"),
    "fill": (lambda x: x.masked_fill(x, 3), DTypeError, "masked_fill needs a bool mask"),
    "nonzero": (lambda x: masking.nonzero(x.sum(), 3), ShapeError, "nonzero needs at least one axis"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_what_does_not_fit_is_refused_by_the_name_of_the_operation(name: str) -> None:
    act, error, text = ERRORS[name]
    with pytest.raises(error, match=text):
        act(Tensor(X))
