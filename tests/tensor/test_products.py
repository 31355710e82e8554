"""Products of matrices and einsum against NumPy; dtypes, bounds from the number of terms, and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portkit.compiler import graph
from portkit.compiler.index import Variable
from portkit.errors import AxisError, DeviceMismatch, DTypeError, ShapeError
from portkit.spec.types import BF16, BOOL, DTYPES, F16, F32, F64, I8, I32, DType
from portkit.tensor import products
from portkit.tensor.einstein import einsum
from portkit.tensor.tensor import Tensor
from tests.tensor.judging import close, random, same

Shape = tuple[int, ...]
INTEGERS = [d for d in DTYPES.values() if d.is_int]
SHAPES: list[tuple[Shape, Shape]] = [
    ((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (5, 3, 4)),
    ((5, 1, 2, 3), (6, 3, 1)), ((3,), (5, 3, 2)), ((5, 2, 3), (3,)), ((1, 1), (1, 1)), ((0, 3), (3, 2)), ((2, 0), (0,
        2)),
]  # fmt: skip


def whole(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.int32)


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_matmul_has_the_shapes_of_numpy(shapes: tuple[Shape, Shape]) -> None:
    a, b = whole(*shapes[0]), whole(*shapes[1], seed=1)
    same(Tensor(a) @ Tensor(b), a @ b)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_a_product_of_integers_stays_of_integers_and_wraps(dtype: DType) -> None:
    a = np.full((2, 3), dtype.max_int, dtype.numpy)
    b = np.full((3, 2), 3, dtype.numpy)
    same(Tensor(a) @ Tensor(b), a @ b)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_a_product_of_floats_is_within_the_bound_of_its_terms(dtype: DType) -> None:
    a, b = random(4, 30).astype(dtype.numpy), random(30, 5, seed=1).astype(dtype.numpy)
    magnitude = float((np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64))).max())
    close(Tensor(a) @ Tensor(b), a.astype(np.longdouble) @ b.astype(np.longdouble), 30, magnitude)


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_a_product_of_narrow_floats_accumulates_in_f32_and_rounds_once(dtype: DType) -> None:
    a, b = np.full((1, 4096), 1.0, dtype.numpy), np.full((4096, 1), 1.0, dtype.numpy)
    same(Tensor(a) @ Tensor(b), np.full((1, 1), 4096, dtype.numpy))


def test_a_product_is_one_multiplication_and_one_sum_over_the_last_axis() -> None:
    node = (Tensor(random(4, 3)) @ Tensor(random(3, 5))).node
    ops = [n for n in graph.topological([node]) if n.op in ("map", "reduce")]
    assert [(n.op, n.attr) for n in ops] == [("map", "mul"), ("reduce", ("add", (2,)))]
    assert ops[0].shape == (4, 5, 3)


def test_a_product_over_a_dynamic_extent_is_built() -> None:
    n = Variable("n", 1, 64)
    x = Tensor.of(graph.source(graph.Source(F32, (n, 8))))
    assert (x @ x.transpose()).shape == (n, n)
    assert (x.transpose() @ x).shape == (8, 8)


def test_dot_outer_and_linear_are_products() -> None:
    a, b = whole(4), whole(4, seed=1)
    same(Tensor(a).dot(Tensor(b)), a @ b)
    same(products.outer(Tensor(a), Tensor(b)), np.outer(a, b))
    x, w, c = whole(2, 3, 4), whole(5, 4, seed=1), whole(5, seed=2)
    same(products.linear(Tensor(x), Tensor(w), Tensor(c)), x @ w.T + c)


def test_a_linear_layer_of_narrow_floats_is_rounded_once() -> None:
    halves = np.full((1, 2), 1 + 2.0**-10, np.float16)  # its square is not an f16
    exact = 2 * float(halves[0, 0]) ** 2 - 2
    got = products.linear(Tensor(halves), Tensor(halves), Tensor(np.array([-2.0], np.float16)))
    same(got, np.array([[exact]], np.float16))


@pytest.mark.parametrize("axes", [0, 1, 2, ([0], [2]), ([1, 2], [1, 0]), ([-1], [0])], ids=str)
def test_tensordot_is_that_of_numpy(axes: Any) -> None:
    a = whole(2, 3, 3)
    b = whole(3, 3, 2, seed=1)
    same(products.tensordot(Tensor(a), Tensor(b), axes), np.tensordot(a, b, axes))


EQUATIONS: list[tuple[str, list[Shape]]] = [
    ("ij,jk->ik", [(2, 3), (3, 4)]), ("ij,jk", [(2, 3), (3, 4)]), ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
    ("ij->ji", [(2, 3)]), ("ii->i", [(3, 3)]), ("ii", [(3, 3)]), ("ij->", [(2, 3)]), ("i,j->ij", [(2,), (3,)]),
    ("i,i->", [(4,), (4,)]), ("ijk,k->ij", [(2, 3, 4), (4,)]), ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
    ("...ij,...jk->...ik", [(5, 2, 3), (3, 4)]), ("...i->...", [(2, 3, 4)]), ("i...,j...->ij...", [(2, 4), (3, 4)]),
    ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]), ("ijj,jk->ik", [(2, 3, 3), (3, 2)]), ("ab,cd->", [(2, 3), (4, 5)]),
    ("a,ab,abc->bc", [(2,), (2, 3), (2, 3, 4)]), (" i j , j -> i ", [(2, 3), (3,)]), ("iij,iij->ij", [(2, 2, 3)] * 2),
]  # fmt: skip


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS)
def test_einsum_is_that_of_numpy(equation: str, shapes: list[Shape]) -> None:
    arrays = [whole(*s, seed=i) for i, s in enumerate(shapes)]
    same(einsum(equation, *map(Tensor, arrays)), np.einsum(equation, *arrays))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_einsum_of_any_letters_is_that_of_numpy(data: Any) -> None:
    extents = dict(zip("abcd", (2, 3, 1, 4), strict=True))
    letters = st.text("abcd", min_size=0, max_size=3)
    terms = data.draw(st.lists(letters, min_size=1, max_size=3))
    present = sorted(set("".join(terms)))
    kept = "".join(data.draw(st.permutations(present)))[: data.draw(st.integers(0, len(present)))]
    equation = ",".join(terms) + "->" + kept
    arrays = [whole(*(extents[c] for c in t), seed=i) for i, t in enumerate(terms)]
    same(einsum(equation, *map(Tensor, arrays)), np.einsum(equation, *arrays, dtype=np.int32))


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_einsum_of_narrow_floats_accumulates_in_f32(dtype: DType) -> None:
    ones = np.ones((2, 4096), dtype.numpy)
    same(einsum("ij->i", Tensor(ones)), np.full(2, 4096, dtype.numpy))


A, B = random(2, 3), random(4, 5)
ERRORS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "inner": (lambda: Tensor(A) @ Tensor(B), ShapeError,
              r"matmul: shapes \(2, 3\) and \(4, 5\) do not fit, 3 columns meet 4 rows; transpose one"),
    "batch": (lambda: Tensor(random(2, 1, 3)) @ Tensor(random(5, 3, 1)) @ Tensor(random(4, 1, 1)), ShapeError,
              r"matmul: shapes .* do not broadcast"),
    "rank 0": (lambda: Tensor(A) @ Tensor(1.0), ShapeError, r"matmul needs at least one axis, got \(2, 3\) and \(\)"),
    "bool": (lambda: Tensor(A > 0) @ Tensor(A > 0).T, DTypeError, "matmul is not defined on bool; cast"),
    "devices": (lambda: Tensor(A) @ Tensor(A.T, device="far"), DeviceMismatch, "matmul: operands are on cpu and far"),
    "dot": (lambda: Tensor(A).dot(Tensor(A)), ShapeError, r"dot needs two vectors, got \(2, 3\)"),
    "outer": (lambda: products.outer(Tensor(A), Tensor(A)), ShapeError, "outer needs two vectors"),
    "linear": (lambda: products.linear(Tensor(A), Tensor(B)), ShapeError,
        r"input \(2, 3\) does not fit weight \(4, 5\)"),
    "tensordot": (lambda: products.tensordot(Tensor(A), Tensor(B), 1), ShapeError, "differ in extent"),
    "tensordot pairs": (lambda: products.tensordot(Tensor(A), Tensor(B), ([0], [])), AxisError, "pairs of axes"),
    "einsum operands": (lambda: einsum("ij,jk", Tensor(A)), ShapeError, r"names 2 operands, got 1"),
    "einsum rank": (lambda: einsum("ijk->", Tensor(A)), ShapeError, r"'ijk' does not name the 2 axes of \(2, 3\)"),
    "einsum extents": (lambda: einsum("ij,jk->ik", Tensor(A), Tensor(B)), ShapeError, r"'j' is 3 and 4 in shapes"),
    "einsum result": (lambda: einsum("ij->ik", Tensor(A)), ShapeError, "only letters of the operands"),
    "einsum twice": (lambda: einsum("ij->ii", Tensor(A)), ShapeError, "names each letter once"),
    "einsum letters": (lambda: einsum("i1->i", Tensor(A)), ShapeError, "axes are named by letters"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_what_does_not_fit_is_refused_by_the_name_of_the_operation(name: str) -> None:
    act, error, text = ERRORS[name]
    with pytest.raises(error, match=text):
        act()


def test_products_promote_their_operands() -> None:
    assert (Tensor(A) @ Tensor(whole(3, 2))).dtype is F32
    assert (Tensor(A).cast(F16) @ Tensor(A.T).cast(BF16)).dtype is F32
    assert (Tensor(whole(2, 2)).cast(I8) @ Tensor(whole(2, 2))).dtype is I32
    assert (Tensor(A > 0) @ Tensor(A.T)).dtype is F32
    assert (Tensor(A > 0)).dtype is BOOL
