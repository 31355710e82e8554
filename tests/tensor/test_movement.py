"""Movement against NumPy: any shape, and laws that hold for all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from portkit.compiler.graph import Source, source
from portkit.compiler.index import Variable
from portkit.errors import AxisError, DeviceMismatch, DTypeError, ShapeError
from portkit.spec.types import BF16, DTYPES, F32, F64
from portkit.tensor import movement
from portkit.tensor.tensor import Tensor
from tests.tensor.judging import bits, same, value

Shape = tuple[int, ...]
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)
laws = settings(max_examples=50, deadline=None)


def counted(shape: Shape) -> NDArray[np.int32]:
    """Return an array whose elements are all different."""
    return np.arange(math.prod(shape), dtype=np.int32).reshape(shape)


@laws
@given(SHAPES, st.data())
def test_reshape_permute_and_flip_are_those_of_numpy(shape: Shape, data: Any) -> None:
    x = counted(shape)
    order = data.draw(st.permutations(range(len(shape))))
    axes = data.draw(st.sets(st.integers(-len(shape), len(shape) - 1).filter(lambda a: a >= 0)))
    same(Tensor(x).permute(*order), x.transpose(order))
    same(Tensor(x).flip(sorted(axes)), np.flip(x, tuple(axes)))
    same(Tensor(x).permute(order).reshape(-1), x.transpose(order).reshape(-1))
    same(Tensor(x).T, x.T)


@laws
@given(SHAPES, st.data())
def test_pad_then_shrink_gives_the_tensor_back(shape: Shape, data: Any) -> None:
    x = counted(shape)
    widths = [(data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))) for _ in shape]
    padded = Tensor(x).pad(widths, 7)
    same(padded, np.pad(x, widths, constant_values=7))
    same(padded.shrink([(low, low + n) for n, (low, _) in zip(shape, widths, strict=True)]), x)


@laws
@given(SHAPES, st.data())
def test_roll_is_that_of_numpy(shape: Shape, data: Any) -> None:
    x = counted(shape)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    shift = data.draw(st.integers(-9, 9))
    same(Tensor(x).roll(shift, axis), np.roll(x, shift, axis))
    same(Tensor(x).roll(shift), np.roll(x, shift))


@laws
@given(SHAPES, st.data())
def test_cat_undoes_split(shape: Shape, data: Any) -> None:
    x = counted(shape)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    size = data.draw(st.integers(1, 5))
    parts = Tensor(x).split(size, axis)
    places = range(size, shape[axis], size)
    for part, wanted in zip(parts, np.split(x, list(places), axis), strict=True):
        same(part, wanted)
    same(movement.cat(parts, axis), x)


@laws
@given(SHAPES, st.data())
def test_tile_and_repeat_are_those_of_numpy(shape: Shape, data: Any) -> None:
    x = counted(shape)
    counts = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=5))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    same(Tensor(x).tile(*counts), np.tile(x, counts))
    same(Tensor(x).repeat_interleave(3, axis), np.repeat(x, 3, axis))
    same(Tensor(x).repeat_interleave(2), np.repeat(x, 2))


@pytest.mark.parametrize("dtype", list(DTYPES.values()), ids=str)
def test_movement_keeps_every_bit_of_every_dtype(dtype: Any) -> None:
    x = bits(dtype, 3, 4)
    moved = movement.cat([Tensor(x).transpose(), Tensor(x).transpose()], 1).flip(0)
    assert value(moved).tobytes() == np.concatenate([x.T, x.T], 1)[::-1].tobytes()


@pytest.mark.parametrize("shapes", [[(2, 3)], [(2, 3), (4, 3)], [(1, 3), (0, 3), (2, 3)], [(0, 3), (0, 3)]])
def test_cat_joins_parts_of_any_size(shapes: list[Shape]) -> None:
    parts = [counted(s) + 100 * i for i, s in enumerate(shapes)]
    same(movement.cat([Tensor(p) for p in parts], 0), np.concatenate(parts))


def test_cat_promotes_and_keeps_signs_of_zero_and_nan() -> None:
    a, b = np.array([-0.0, math.nan], np.float32), np.array([1], np.int32)
    joined = value(movement.cat([Tensor(a), Tensor(b)]))
    assert joined.tobytes() == np.array([-0.0, math.nan, 1.0], np.float32).tobytes()


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_stack_adds_an_axis(axis: int) -> None:
    parts = [counted((2, 3)) + 10 * i for i in range(3)]
    same(movement.stack([Tensor(p) for p in parts], axis), np.stack(parts, axis))


def test_chunk_gives_parts_of_one_size_but_for_the_last() -> None:
    x = counted((7,))
    assert [p.shape for p in Tensor(x).chunk(3)] == [(3,), (3,), (1,)]
    same(Tensor(x).chunk(3)[2], x[6:])


def test_unbind_and_iteration_give_slices() -> None:
    x = counted((2, 3))
    for part, row in zip(Tensor(x), x, strict=True):
        same(part, row)
    assert [p.shape for p in Tensor(x).unbind(1)] == [(2,)] * 3


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2), (4, 2, 3)])
def test_a_diagonal_is_that_of_numpy(shape: Shape) -> None:
    x = counted(shape)
    for a, b in itertools.permutations(range(len(shape)), 2):
        same(Tensor(x).diagonal(a, b), np.diagonal(x, axis1=a, axis2=b))


def test_squeeze_unsqueeze_and_flatten_change_the_shape_alone() -> None:
    x = counted((1, 2, 1, 3))
    assert Tensor(x).squeeze().shape == (2, 3)
    assert Tensor(x).squeeze(0).shape == (2, 1, 3)
    assert Tensor(x).squeeze(1).shape == (1, 2, 1, 3)
    assert Tensor(x).unsqueeze((0, -1)).shape == (1, 1, 2, 1, 3, 1)
    assert Tensor(x).flatten(1, 2).shape == (1, 2, 3)
    assert Tensor(x).flatten().shape == (6,)
    assert Tensor(x).unflatten(-1, (3, -1)).shape == (1, 2, 1, 3, 1)
    assert Tensor(3.0).flatten().shape == (1,)
    assert Tensor(x).moveaxis(3, 0).shape == (3, 1, 2, 1)


def test_expand_repeats_axes_of_extent_1_and_adds_some_in_front() -> None:
    x = counted((2, 1))
    same(Tensor(x).expand(3, 2, 4), np.broadcast_to(x, (3, 2, 4)))
    same(Tensor(x).expand(-1, 4), np.broadcast_to(x, (2, 4)))
    same(Tensor(x).broadcast_to((2, 2)), np.broadcast_to(x, (2, 2)))


def test_dilate_puts_zeros_between() -> None:
    x = counted((2, 2)) + 1
    same(movement.dilate(Tensor(x), (1, 3)), np.array([[1, 0, 0, 2], [3, 0, 0, 4]], np.int32))


def test_movement_of_empty_tensors_is_defined() -> None:
    x = np.zeros((0, 3), np.float32)
    same(Tensor(x).transpose(), x.T)
    same(Tensor(x).reshape(3, 0), x.reshape(3, 0))
    same(Tensor(x).pad([(1, 1), (0, 0)]), np.zeros((2, 3), np.float32))
    same(Tensor(x).flip(), x)


def test_a_dynamic_extent_passes_through_movement() -> None:
    n = Variable("n", 1, 64)
    x = Tensor.of(source(Source(F32, (n, 4))))
    assert x.transpose().shape == (4, n)
    assert x.reshape(-1, 2).shape == (n * 2, 2)
    assert x.unsqueeze(0).expand(3, n, 4).shape == (3, n, 4)
    assert x.pad([(1, 0), (0, 0)]).shape == (n + 1, 4)
    assert movement.cat([x, x], 0).shape == (n * 2, 4)
    assert x.flatten().shape == (n * 4,)


ERRORS: dict[str, tuple[Callable[[Tensor], object], type[Exception], str]] = {
    "reshape to another size": (
        lambda x: x.reshape(4, 2), ShapeError, r"cannot reshape \(2, 3\) to \(4, 2\): the number of elements differs"),
    "reshape that does not divide": (
        lambda x: x.reshape(4, -1), ShapeError, r"reshape of \(2, 3\) to \(4, -1\): 6 elements do not divide by 4"),
    "reshape with two unknowns": (lambda x: x.reshape(-1, -1), ShapeError, "only one extent can be -1"),
    "permute": (lambda x: x.permute(0, 0), AxisError,
        r"permute of \(2, 3\) needs each of its 2 axes once, got \[0, 0\]"),
    "transpose": (lambda x: x.transpose(0, 2), AxisError,
        r"transpose: axis 2 is out of range for shape \(2, 3\); its axes"),
    "expand": (lambda x: x.expand(4, 3), ShapeError, r"expand: \(2, 3\) does not broadcast to \(4, 3\)"),
    "expand to fewer axes": (lambda x: x.expand(3), ShapeError, r"expand of \(2, 3\) to \(3,\): give an extent"),
    "shrink": (lambda x: x.shrink([(0, 3), (0, 1)]), ShapeError, r"shrink of \(2, 3\): 0\.\.3 is not inside 0\.\.2"),
    "narrow": (lambda x: x.narrow(1, 2, 2), ShapeError, r"narrow of \(2, 3\): 2 elements from 2 are not inside axis 1"),
    "pad": (lambda x: x.pad([(1, 1)]), ShapeError, r"pad of \(2, 3\) needs 2 pairs"),
    "pad value": (lambda x: x.pad([(1, 1), (0, 0)], 0.5), DTypeError, "pad: 0.5 does not fit i32"),
    "split": (lambda x: x.split([1, 1], 1), ShapeError,
        r"split of \(2, 3\) on axis 1: sizes \[1, 1\] do not add up to 3"),
    "split into nothing": (lambda x: x.split(0), ShapeError, "a part has at least 1 element"),
    "chunk": (lambda x: x.chunk(0), ShapeError, "needs at least 1 part"),
    "squeeze": (lambda x: x.squeeze(2), AxisError, "squeeze: axis 2 is out of range"),
    "unsqueeze": (lambda x: x.unsqueeze((0, 0)), AxisError, "name one place twice"),
    "flip": (lambda x: x.flip((0, 0)), AxisError, r"flip: axes \[0, 0\] name one axis twice"),
    "flatten": (lambda x: x.flatten(1, 0), AxisError, "start 1 comes after end 0"),
    "diagonal": (lambda x: x.diagonal(1, 1), AxisError, "needs two axes"),
    "tile": (lambda x: x.tile(-1), ShapeError, "counts that are not negative"),
    "repeat": (lambda x: x.repeat(2), ShapeError, "needs a count for each axis.*use tile"),
    "repeat_interleave": (lambda x: x.repeat_interleave(-1, 0), ShapeError, "a count that is not negative"),
    "cat of other shapes": (
        lambda x: movement.cat([x, x.transpose()]), ShapeError,
            r"cat: shapes \(2, 3\) and \(3, 2\) differ on an axis other"),
    "cat of another rank": (lambda x: movement.cat([x, x.flatten()]), ShapeError, r"cat: shapes \(2, 3\) and \(6,\)"),
    "cat of nothing": (lambda x: movement.cat([]), DTypeError, "cat needs a tensor"),
    "cat over devices": (lambda x: movement.cat([x, Tensor(1, device="far")]), DeviceMismatch, "cpu and far"),
    "stack": (lambda x: movement.stack([x, x[0]]), ShapeError,
        r"stack needs tensors of one shape, got \(2, 3\) and \(3,\)"),
    "roll": (lambda x: x.roll((1, 2), 0), ShapeError, "roll: shift needs one number or 1"),
    "roll by a float": (lambda x: x.roll(1.5), ShapeError, "roll: shift is an int, got 1.5"),  # type: ignore[arg-type]
    "split by a float": (lambda x: x.split(1.5), ShapeError, "split: a size is an int, got 1.5"),  # type: ignore[arg-type]
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_what_does_not_fit_is_refused_by_the_name_of_the_operation(name: str) -> None:
    act, error, text = ERRORS[name]
    with pytest.raises(error, match=text):
        act(Tensor(counted((2, 3))))


def test_dtypes_of_movement_stay() -> None:
    assert Tensor([1.0], dtype=BF16).tile(2).dtype is BF16
    assert Tensor([1.0], dtype=F64).roll(1).dtype is F64
