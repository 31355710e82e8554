"""The class itself: making tensors of data, reading them back, assignment, and Python's protocols."""

from __future__ import annotations

import ast
import copy
import importlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import portkit
from portkit import tensor as tensors
from portkit.compiler.graph import Source, source
from portkit.compiler.index import Variable
from portkit.errors import AxisError, DeviceMismatch, DTypeError, ShapeError, TensorError
from portkit.spec.types import BF16, BOOL, DTYPES, F16, F32, F64, I32, I64, U8, DType
from portkit.tensor.tensor import Tensor
from tests.tensor.judging import bits, random, same, value

# --- making -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype"),
    [(1, I32), (1.0, F32), (True, BOOL), ([1, 2], I32), ([1, 2.5], F32), ([[True], [False]], BOOL), ([], F32)],
)
def test_python_numbers_have_default_dtypes(data: Any, dtype: DType) -> None:
    made = Tensor(data)
    assert made.dtype is dtype
    same(made, np.asarray(data, dtype.numpy))


@pytest.mark.parametrize("dtype", list(DTYPES.values()), ids=str)
def test_an_array_keeps_its_dtype_and_bits(dtype: DType) -> None:
    x = bits(dtype, 3, 4)
    made = Tensor(x)
    assert made.dtype is dtype
    assert made.shape == (3, 4)
    assert made.numpy().tobytes() == x.tobytes()
    assert made.numpy().dtype == dtype.numpy


def test_an_array_is_copied_in_and_out() -> None:
    x = np.ones(2, np.float32)
    made = Tensor(x)
    x[0] = 5
    made.numpy()[1] = 7
    same(made, np.ones(2, np.float32))


def test_an_array_in_any_order_or_byte_order_is_taken() -> None:
    x = np.asfortranarray(random(3, 4))
    same(Tensor(x), x)
    same(Tensor(x[::-1, ::2]), x[::-1, ::2])
    same(Tensor(x.astype(">f4")), x)


def test_a_dtype_converts_data_as_a_cast_does() -> None:
    same(Tensor([1.5, -2.5, float("nan"), 1e10], dtype="i32"), np.array([1, -2, 0, I32.max_int], np.int32))
    same(Tensor(np.arange(3), dtype=F16), np.arange(3, dtype=np.float16))
    same(Tensor([0.0, 0.5], dtype=bool), [False, True])
    assert Tensor([1, 2], dtype=np.int64).dtype is I64


def test_a_tensor_of_a_tensor_is_the_same_value() -> None:
    x = Tensor([1.0])
    assert Tensor(x).node is x.node
    assert Tensor(x, dtype=F64).dtype is F64


@pytest.mark.parametrize(
    ("data", "dtype", "error", "text"),
    [
        ([[1, 2], [3]], None, ShapeError, "the data is ragged.*give sequences of one length"),
        ("text", None, DTypeError, "cannot make numbers of str data"),
        ([None], None, DTypeError, "cannot make numbers of list data"),
        (1j, None, DTypeError, "cannot make numbers of complex data"),
        ([2**40], None, DTypeError, "1099511627776 does not fit i32; give dtype='i64'"),
        ([300], U8, DTypeError, "300 does not fit u8"),
        ([-1], U8, DTypeError, "-1 does not fit u8"),
        (np.ones(1, np.complex64), None, DTypeError, "unknown dtype"),
    ],
)
def test_data_that_are_no_numbers_or_do_not_fit_are_refused(data: Any, dtype: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        Tensor(data, dtype)


# --- reading ------------------------------------------------------------------------------------------------------


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    x = Tensor([1.0, 2.0]) + 1
    assert x.node.op == "map"
    assert repr(x) == "<Tensor f32[2], not computed>"
    assert x.realize() is x
    assert x.node.op == "source"
    assert repr(x) == "Tensor([2., 3.], f32)"


def test_tensors_are_computed_together() -> None:
    x = Tensor([1.0]) + 1
    y, z = x * 2, x * 3
    y.realize(z)
    assert y.node.op == z.node.op == "source"
    assert (y.item(), z.item()) == (4.0, 6.0)


@pytest.mark.parametrize("dtype", list(DTYPES.values()), ids=str)
def test_elements_become_python_numbers(dtype: DType) -> None:
    kind = bool if dtype is BOOL else float if dtype.is_float else int
    x = Tensor(np.ones((1, 1), dtype.numpy))
    assert type(x.item()) is kind
    assert x.tolist() == [[1]]
    assert type(x.tolist()[0][0]) is kind


def test_item_and_truth_need_one_element() -> None:
    with pytest.raises(ShapeError, match=r"item: a tensor of shape \(2,\) has 2 elements; index or reduce it"):
        Tensor([1, 2]).item()
    with pytest.raises(ShapeError, match=r"bool: the truth of a tensor of shape \(2,\) is ambiguous; use \.any\(\) or"):
        bool(Tensor([1, 2]))
    assert bool(Tensor([[3.0]]))
    assert not Tensor(0)


def test_python_reads_a_tensor_as_a_number_an_index_or_a_sequence() -> None:
    x = Tensor([3, 1])
    assert int(x[0]) == 3
    assert float(x[1]) == 1.0
    assert [10, 20, 30, 40][x[0]] == 40
    assert len(x) == 2
    assert [int(v) for v in x] == [3, 1]
    with pytest.raises(DTypeError, match="a tensor of f32 is no index"):
        _ = [1][Tensor(0.0)]
    with pytest.raises(TypeError, match=r"len\(\) of a tensor of rank 0"):
        len(Tensor(1))
    with pytest.raises(TypeError, match="iteration over a tensor of rank 0"):
        iter(Tensor(1))


def test_a_dynamic_axis_has_no_length_yet() -> None:
    x = Tensor.of(source(Source(F32, (Variable("n", 1, 4),))))
    with pytest.raises(ShapeError, match=r"len: axis 0 of \(n,\) is dynamic"):
        len(x)


def test_numpy_reads_a_tensor_and_leaves_operators_to_it() -> None:
    x = Tensor([1.0, 2.0])
    np.testing.assert_array_equal(np.asarray(x), [1, 2])
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    assert isinstance(np.ones(2, np.float32) + x, Tensor)
    same(cast(Any, np.ones((2, 2), np.float32)) @ x, np.array([3, 3], np.float32))


def test_an_array_without_a_copy_is_read_only_and_of_the_same_dtype() -> None:
    x = Tensor([1.0, 2.0])
    shown = np.asarray(x, copy=False)
    with pytest.raises(ValueError, match="read-only"):
        shown[0] = 5
    with pytest.raises(ValueError, match="a tensor of f32 is no array of float64 without a copy"):
        np.asarray(x, dtype=np.float64, copy=False)
    np.asarray(x)[0] = 7
    same(x, np.array([1, 2], np.float32))


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_copied_or_pickled_tensor_is_another_of_the_same_value(again: Callable[[Tensor], Tensor]) -> None:
    x = Tensor([1.0, 2.0], dtype=BF16, requires_grad=True)
    y = again(x)
    assert y.requires_grad
    y += 1
    same(x, np.array([1, 2], BF16.numpy))
    same(y, np.array([2, 3], BF16.numpy))
    (y * y).sum().backward()
    assert x.grad is None
    assert y.grad is not None


def test_what_is_no_number_equals_no_tensor() -> None:
    x = Tensor([1, 2])
    assert (x == cast(Any, None)) is False
    assert (x != cast(Any, "text")) is True


def test_arrays_and_lists_stand_for_tensors_where_their_device_is_clear() -> None:
    x = Tensor([[1, 2], [3, 4]])
    same(x @ np.array([1, 1], np.int32), np.array([3, 7], np.int32))
    same(x.take([1, 0], 0), np.array([[3, 4], [1, 2]], np.int32))
    same(x.gather(1, np.array([[1], [0]])), np.array([[2], [3]], np.int32))
    same(x[[]], np.zeros((0, 2), np.int32))
    same(tensors.cat([x, cast(Any, np.array([[5, 6]], np.int32))]), np.array([[1, 2], [3, 4], [5, 6]], np.int32))
    same(x.sum(cast(Any, np.int64(1))), np.array([3, 7], np.int32))
    same(x.reshape(cast(Any, np.int64(4))), np.array([1, 2, 3, 4], np.int32))


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (lambda x: x.sum(1.5), AxisError, "sum: an axis is an int, got 1.5"),
        (lambda x: x.sum("a"), AxisError, "sum: an axis is an int, got 'a'"),
        (lambda x: x.reshape("a"), ShapeError, "reshape: an extent is an int, got 'a'"),
        (lambda x: x.reshape(2.0, 2), ShapeError, "reshape: an extent is an int, got 2.0"),
        (lambda x: x.expand(-2, 2), ShapeError, r"expand of \(2, 2\) to \(-2, 2\)"),
        (lambda x: x @ 2, DTypeError, "matmul takes tensors and arrays, got int"),
        (lambda x: x @ [1, 2], DTypeError, "matmul takes tensors and arrays, got list"),
        (lambda x: x.take(x > 1), DTypeError, "take: a mask has no size that is known"),
        (lambda x: x.gather(0, "a"), AxisError, "gather: an index is an int.* got 'a'"),
        (lambda x: tensors.zeros(1.5), ShapeError, "zeros: an extent is an int, got 1.5"),
        (lambda x: tensors.full(2, "a"), DTypeError, "full: the value is a number, got 'a'"),
        (lambda x: tensors.cat([x, 1]), DTypeError, "cat takes tensors and arrays, got int"),
    ],
)
def test_arguments_of_another_kind_are_refused_by_the_name_of_the_operation(act: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        act(Tensor([[1, 2], [3, 4]]))


def test_reflected_operators_keep_the_order_of_operands() -> None:
    x = Tensor([2, 5])
    same(10 - x, np.array([8, 5], np.int32))
    same(10 / x, np.array([5, 2], np.float32))
    same(11 // x, np.array([5, 2], np.int32))
    same(11 % x, np.array([1, 1], np.int32))
    same(1 << x, np.array([4, 32], np.int32))
    same(64 >> x, np.array([16, 2], np.int32))
    same(3 & x, np.array([2, 1], np.int32))
    same(3 | x, np.array([3, 7], np.int32))
    same(3 ^ x, np.array([1, 6], np.int32))
    same(abs(-x), np.array([2, 5], np.int32))
    same(2.0 ** Tensor([3.0]), np.array([8], np.float32))


def test_a_tensor_is_compared_by_elements_and_hashed_by_identity() -> None:
    a, b = Tensor([1, 2]), Tensor([1, 3])
    same(a == b, [True, False])
    same(a != b, [False, True])
    assert len({a, b, a}) == 2


# --- devices and dtypes -------------------------------------------------------------------------------------------


def test_to_takes_a_dtype_or_a_device() -> None:
    x = Tensor([1.5])
    assert x.to("i32").dtype is I32
    assert x.to(BF16).dtype is BF16
    assert x.to("cpu") is x
    far = x.to("far:BACKEND")
    assert far.device == "far:BACKEND"
    with pytest.raises(DeviceMismatch, match=r"sub: operands are on cpu and far:BACKEND; move one with \.to\('cpu'\)"):
        _ = x - far


# --- assignment ---------------------------------------------------------------------------------------------------


def test_assignment_gives_a_new_value_and_leaves_readers_the_old_one() -> None:
    x = Tensor([1.0, 2.0])
    reader = x * 10
    assert x.assign(Tensor([5.0, 6.0])) is x
    same(x, np.array([5, 6], np.float32))
    same(reader, np.array([10, 20], np.float32))


def test_operators_in_place_rebind_the_same_tensor() -> None:
    x = same_object = Tensor([8.0, 4.0])
    x += 1
    x -= 3
    x *= 2
    x /= 4
    assert x is same_object
    same(x, np.array([3, 1], np.float32))


def test_assignment_broadcasts_and_takes_narrower_dtypes() -> None:
    x = Tensor(np.zeros((2, 2), np.float32))
    x.assign(Tensor([1, 2]))
    same(x, np.array([[1, 2], [1, 2]], np.float32))
    x.assign(7)
    same(x, np.full((2, 2), 7, np.float32))


def test_assignment_of_what_is_larger_is_refused() -> None:
    x = Tensor([1, 2])
    with pytest.raises(ShapeError, match=r"assign: a value of shape \(3, 2\) does not fit into \(2,\)"):
        x.assign(Tensor(np.zeros((3, 2), np.int32)))
    with pytest.raises(DTypeError, match="assign: f32 does not fit into i32; cast the value to i32"):
        x += 0.5
    with pytest.raises(TensorError, match="rebind"):
        x.rebind(Tensor([1.0, 2.0]).node)


# --- names --------------------------------------------------------------------------------------------------------


def test_the_package_offers_the_class_and_the_functions_by_name() -> None:
    assert portkit.Tensor is Tensor
    assert tensors.Tensor is Tensor
    same(tensors.exp(Tensor([0.0])), np.ones(1, np.float32))
    assert "matmul" in dir(tensors)
    assert "Tensor" in dir(portkit)
    with pytest.raises(AttributeError, match=r"module 'portkit\.tensor' has no attribute 'sinn'"):
        _ = tensors.sinn


INTERNAL = {
    "apply", "apply_float", "capsule_of", "contract", "drop", "extent_node", "fold", "getitem", "in_wide", "place",
    "place_in", "product_dtype", "setitem", "sizes", "times_share", "values_for", "wrapped",
}  # fmt: skip


def test_every_public_function_is_offered_and_documented() -> None:
    offered = dict(tensors._MODULE_OF)
    assert offered.pop("Tensor") == "tensor"
    folder = Path(tensors.__file__).parent
    found: dict[str, str] = {}
    for module in dict.fromkeys(offered.values()):
        for node in ast.parse((folder / f"{module}.py").read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.name not in INTERNAL:
                assert node.name not in found, f"{node.name} is in {found.get(node.name)} and {module}"
                assert ast.get_docstring(node), node.name
                found[node.name] = module
    assert found == offered
    for name, module in offered.items():
        assert getattr(tensors, name) is getattr(importlib.import_module(f"portkit.tensor.{module}"), name)


def test_methods_are_the_functions_of_their_names() -> None:
    for name, module in tensors._MODULE_OF.items():
        if name in vars(Tensor):
            assert vars(Tensor)[name] is getattr(importlib.import_module(f"portkit.tensor.{module}"), name)


def test_values_are_judged_apart_from_the_device() -> None:
    x = Tensor([1.0, 2.0]) * 3
    np.testing.assert_array_equal(value(x), x.numpy())
