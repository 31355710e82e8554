"""Every kind of operation, compiled for the cpu backend, against the meaning of its graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from portkit.spec.types import BF16, BOOL, DTYPES, F8E4M3FN, F8E5M2, F16, F32, F64, I8, I64, U8, U32, U64, DType
from portkit.tensor import creation, elementwise, functional, movement, products
from portkit.tensor.einstein import einsum
from portkit.tensor.tensor import Tensor
from tests.tensor.judging import close, random, value


def real(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(random(*shape, seed=seed))


def whole(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(np.random.default_rng(seed).integers(-9, 10, shape).astype(np.int32))


X, Y, W, J = real(4, 6), real(4, 6, seed=1), whole(4, 6), whole(4, 6, seed=1)


def assigned() -> Tensor:
    x = W + 0
    x[1:3, ::2] = 7
    x[Tensor([0, 3])] = J[:2]
    x[x > 5] = 0
    return x


EXACT: dict[str, Callable[[], Tensor]] = {
    "sums of integers": lambda: W.sum(1),
    "products of integers": lambda: W.prod(0),
    "a matmul of integers": lambda: W @ J.transpose(),
    "a division by zero": lambda: elementwise.floor_divide(W, J * 0),
    "remainders": lambda: W % elementwise.where(J == 0, 1, J),
    "shifts": lambda: (W << 3) >> 1,
    "a comparison": lambda: X <= Y,
    "where": lambda: elementwise.where(X > Y, X, Y),
    "maxima": lambda: X.max(0),
    "any and all": lambda: (X > 1).any(0) & (X > -9).all(0),
    "argmax": lambda: X.argmax(1),
    "rounding": lambda: (X * 4).round(),
    "a strided slice": lambda: X[::2, ::-2].contiguous(),
    "a permuted reshape": lambda: X.transpose().reshape(3, 8).contiguous(),
    "padding": lambda: X.pad([(1, 2), (0, 3)], 7).contiguous(),
    "a join": lambda: movement.cat([X, Y, X], 1),
    "a roll": lambda: X.roll((1, 2), (0, 1)).contiguous(),
    "a diagonal": lambda: X.diagonal().contiguous(),
    "repeats": lambda: X.tile(2, 1).repeat_interleave(2, 1).contiguous(),
    "a running sum": lambda: W.cumsum(1),
    "a running maximum": lambda: X.cummax(0),
    "places": lambda: X[Tensor([0, -1, 9])],
    "places along two axes": lambda: X[Tensor([0, -1]), Tensor([2, 3])],
    "places of places": lambda: X.take([0, -1, 9], 0).reshape(1, 18).take([0, 5, -1, 0, 0], 0),
    "an embedding": lambda: functional.embedding(X, Tensor([[0, 3], [9, 1]])),
    "scattered sums": lambda: W.scatter_add(0, J.abs() % 4, J),
    "a scatter": lambda: X.scatter(1, Tensor([[1], [2], [0], [0]]), 5.0),
    "assignment": assigned,
    "a mask": lambda: X.masked_select(X > 0, 10),
    "places of a mask": lambda: (X > 0).nonzero(30),
    "a sort by counting": lambda: X.sort(1),
    "a sort by a network": lambda: real(2, 100).argsort(),
    "the largest": lambda: real(2, 100).topk(3)[1],
    "windows with their maxima": lambda: functional.max_pool(real(2, 3, 8, 8), 3, 2, 1),
    "a convolution of integers": lambda: functional.conv2d(whole(2, 4, 9, 9), whole(6, 2, 3, 3), None, 2, 1, 1, 2),
    "a convolution over one axis": lambda: functional.conv1d(whole(2, 3, 16), whole(4, 3, 3), None, 1, 2, 2),
    "a transposed convolution": lambda: functional.conv_transpose2d(whole(2, 4, 5, 5), whole(4, 3, 3, 3), None, 2, 1),
    "nearest elements": lambda: functional.interpolate(whole(1, 2, 4, 4), (8, 7)),
    "einsum": lambda: einsum("bij,bjk,kl->bil", whole(2, 3, 4), whole(2, 4, 5), whole(5, 6)),
    "arange": lambda: creation.arange(2, 20, 3).contiguous(),
    "the identity": lambda: creation.eye(4),
    "a triangle": lambda: creation.tril(X),
    "one hot": lambda: creation.one_hot(Tensor([1, 0, 2]), 3),
    "nothing": lambda: Tensor(np.zeros((0, 3), np.float32)) + 1,
    "a sum of nothing": lambda: Tensor(np.zeros((0, 3), np.float32)).sum(0),
}


@pytest.mark.parametrize("name", EXACT)
def test_what_has_one_result_is_the_same_bits(name: str) -> None:
    tensor = EXACT[name]()
    wanted = value(tensor)
    got = tensor.numpy()
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
    assert got.tobytes() == wanted.tobytes()


# What is rounded on the way, and a bound on how many roundings of the largest element that may cost.
ROUNDED: dict[str, tuple[Callable[[], Tensor], int]] = {
    "exp": (lambda: X.exp(), 8),
    "a logarithm": (lambda: (X.abs() + 0.5).log(), 8),
    "a power": (lambda: (X.abs() + 0.5) ** Y, 16),
    "expm1 and log1p": (lambda: X.expm1() + X.abs().log1p(), 32),
    "trigonometry": (lambda: X.sin() * X.cos() + X.tanh(), 16),
    "gelu": (lambda: X.gelu(), 16),
    "a matmul": (lambda: real(33, 70) @ real(70, 19), 70),
    "a batched matmul": (lambda: real(3, 8, 16) @ real(3, 16, 8), 16),
    "a matrix times a vector": (lambda: X @ real(6), 6),
    "a mean and a variance": (lambda: X.mean(1) + X.var(1), 32),
    "logsumexp": (lambda: X.logsumexp(0), 16),
    "softmax": (lambda: X.softmax(), 16),
    "log softmax": (lambda: X.log_softmax(0), 32),
    "layer norm": (lambda: functional.layer_norm(X, 6, real(6), real(6)), 64),
    "batch norm": (lambda: functional.batch_norm(real(4, 3, 5), None, None, real(3), real(3)), 64),
    "attention": (
        lambda: functional.scaled_dot_product_attention(real(2, 16, 8), real(2, 16, 8, seed=1), real(2, 16, 8, seed=2)),
        64,
    ),
    "causal attention": (lambda: functional.scaled_dot_product_attention(X, X, X, causal=True), 64),
    "cross entropy": (lambda: functional.cross_entropy(X, Tensor([0, 1, 2, 5])), 32),
    "a mean of windows": (lambda: functional.avg_pool(real(2, 3, 8, 8), 3, 2, 1, count_padding=False), 16),
    "bilinear interpolation": (lambda: functional.interpolate(real(1, 2, 4, 4), (8, 7), mode="linear"), 16),
    "cubic interpolation": (lambda: functional.interpolate(real(1, 2, 4, 4), (8, 7), mode="cubic"), 32),
    "linspace": (lambda: creation.linspace(0, 1, 9), 4),
    "an outer product and a sum": (lambda: products.outer(X[0], Y[0]).sum(0), 8),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_what_is_rounded_is_within_its_bound(name: str) -> None:
    tensor, roundings = ROUNDED[name][0](), ROUNDED[name][1]
    exact = value(tensor, wide=True)
    close(tensor.realize(), exact, roundings)


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.is_int], ids=str)
def test_integers_of_every_dtype_are_computed_in_wrapped_arithmetic(dtype: DType) -> None:
    x = Tensor(W.numpy().astype(dtype.numpy))
    for made in (x * 3 + 1, x @ x.transpose(), x.max(0), x.sum(1), x == x.transpose().transpose()):
        wanted = value(made)
        assert made.numpy().tobytes() == wanted.tobytes()


@pytest.mark.parametrize("dtype", [F64, F16, BF16], ids=str)
def test_floats_of_every_dtype_are_computed_in_their_precision(dtype: DType) -> None:
    x = Tensor(X.numpy().astype(dtype.numpy))
    for made, roundings in ((x * 3 + x, 4), (x @ x.transpose(), 8), (x.sum(1), 8), (x.softmax(), 16)):
        close(made.realize(), value(made, wide=True), roundings)


@pytest.mark.parametrize("dtype", [BOOL, I8, U8, U32, I64, U64, F16, BF16, F64, F8E4M3FN, F8E5M2], ids=str)
def test_casts_there_and_back_are_the_same_bits(dtype: DType) -> None:
    made = (X * 3).cast(dtype).cast(F32)
    assert made.numpy().tobytes() == value(made).tobytes()


SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 3e38, -3e38, 88.7, -104.0]
UNARY = (
    "exp exp2 expm1 log log2 log1p sin cos tan tanh sqrt reciprocal rsqrt erf sigmoid floor ceil round trunc neg abs "
    "sign square isnan isinf isfinite relu gelu silu elu softplus"
)
BINARY = "add sub mul div maximum minimum lt le gt ge eq ne remainder fmod pow"


def kinds(x: NDArray[Any]) -> NDArray[np.int64]:
    """Return what each number is: NaN, negative, zero or positive, and whether finite."""
    with np.errstate(invalid="ignore"):
        wide = x.astype(np.float64)
    sign = np.where(wide == 0, 0, np.where(np.signbit(wide), 1, 2))
    return np.where(np.isnan(wide), 9, sign + 3 * np.isinf(wide)).astype(np.int64)


@pytest.mark.parametrize("dtype", [F32, F16, BF16], ids=str)
@pytest.mark.parametrize("name", UNARY.split())
def test_a_function_of_special_numbers_is_of_the_same_kind_on_the_device(name: str, dtype: DType) -> None:
    with np.errstate(over="ignore"):
        x = np.array(SPECIAL, dtype.numpy)
    tensor = getattr(Tensor(x), name)()
    np.testing.assert_array_equal(kinds(tensor.numpy()), kinds(value(tensor)))


@pytest.mark.parametrize("name", BINARY.split())
def test_a_function_of_two_special_numbers_is_of_the_same_kind_on_the_device(name: str) -> None:
    x = np.array(SPECIAL, np.float32)
    tensor = getattr(elementwise, name)(Tensor(x).unsqueeze(1), Tensor(x))
    np.testing.assert_array_equal(kinds(tensor.numpy()), kinds(value(tensor)))
