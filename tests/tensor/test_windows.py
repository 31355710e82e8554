"""Windows, convolutions, pooling and interpolation against plain loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from portkit.compiler import graph
from portkit.compiler.index import Variable
from portkit.errors import DTypeError, ShapeError, UsageError
from portkit.spec.types import BF16, F16, F32, DType
from portkit.tensor import functional as f
from portkit.tensor.tensor import Tensor
from portkit.tensor.windows import windows
from tests.tensor.judging import close, random, same, value

Array = NDArray[Any]


def whole(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.int32)


def places(n: int, k: int, s: int, d: int) -> int:
    return (n - d * (k - 1) - 1) // s + 1


@pytest.mark.parametrize(("k", "s", "d"), list(itertools.product((1, 2, 3), (1, 2, 3, 5), (1, 2, 3))))
def test_windows_hold_the_elements_at_stride_and_dilation(k: int, s: int, d: int) -> None:
    for n in (1, 2, 5, 8, 13):
        if n < d * (k - 1) + 1:
            continue
        x = whole(2, n, 3)
        wanted = np.stack([np.stack([x[:, i * s + j * d] for j in range(k)], -1) for i in range(places(n, k, s, d))], 1)
        same(windows(Tensor(x), [1], [k], [s], [d]), wanted)


def test_windows_of_a_dynamic_extent_have_a_dynamic_count() -> None:
    n = Variable("n", 8, 64)
    x = Tensor.of(graph.source(graph.Source(F32, (n, 2))))
    assert windows(x, [0], [3], [2], [1]).shape == ((n - 3) // 2 + 1, 2, 3)


# --- convolutions -------------------------------------------------------------------------------------------------


def convolved(x: Array, w: Array, s: Sequence[int], p: Sequence[int], d: Sequence[int], groups: int) -> Array:
    """Return the convolution of integers by its definition, over any number of axes."""
    x = np.pad(x, [(0, 0), (0, 0), *((v, v) for v in p)])
    kernel, inner = w.shape[2:], w.shape[1]
    counts = [places(n, *v) for n, *v in zip(x.shape[2:], kernel, s, d, strict=True)]
    y = np.zeros((x.shape[0], w.shape[0], *counts), x.dtype)
    for o, *at in itertools.product(range(w.shape[0]), *map(range, counts)):
        group = o // (w.shape[0] // groups)
        cut = tuple(slice(i * a, i * a + b * (k - 1) + 1, b) for i, a, b, k in zip(at, s, d, kernel, strict=True))
        part = x[(slice(None), slice(group * inner, (group + 1) * inner), *cut)]
        y[(slice(None), o, *at)] = (part * w[o]).reshape(len(x), -1).sum(1)
    return y


SETTINGS = list(itertools.product((1, 2), (0, 1), (1, 2), (1, 2)))


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), SETTINGS)
def test_a_convolution_of_integers_is_its_definition(stride: int, padding: int, dilation: int, groups: int) -> None:
    x, w, b = whole(2, 4, 7, 6), whole(6, 4 // groups, 3, 2, seed=1), whole(6, seed=2)
    wanted = convolved(x, w, [stride] * 2, [padding] * 2, [dilation] * 2, groups)
    same(f.conv2d(Tensor(x), Tensor(w), None, stride, padding, dilation, groups), wanted)
    same(f.conv2d(Tensor(x), Tensor(w), Tensor(b), stride, padding, dilation, groups), wanted + b[:, None, None])


@pytest.mark.parametrize("rank", [1, 3])
def test_a_convolution_over_one_or_three_axes_is_its_definition(rank: int) -> None:
    x, w = whole(2, 3, *(6, 5, 7)[:rank]), whole(4, 3, *(3, 2, 2)[:rank], seed=1)
    s, p, d = (2, 1, 3)[:rank], (1, 0, 2)[:rank], (1, 2, 1)[:rank]
    function = f.conv1d if rank == 1 else f.conv3d
    same(function(Tensor(x), Tensor(w), None, s, p, d), convolved(x, w, s, p, d, 1))


def test_a_depthwise_convolution_has_a_group_for_each_channel() -> None:
    x, w = whole(1, 3, 5, 5), whole(3, 1, 3, 3, seed=1)
    same(f.conv2d(Tensor(x), Tensor(w), padding=1, groups=3), convolved(x, w, [1, 1], [1, 1], [1, 1], 3))


def test_a_single_sample_may_lack_its_axis() -> None:
    x, w = whole(2, 5, 5), whole(4, 2, 3, 3, seed=1)
    same(f.conv2d(Tensor(x), Tensor(w)), convolved(x[None], w, [1, 1], [0, 0], [1, 1], 1)[0])
    assert f.conv_transpose2d(Tensor(x), Tensor(whole(2, 4, 3, 3))).shape == (4, 7, 7)


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_a_convolution_of_narrow_floats_accumulates_in_f32(dtype: DType) -> None:
    x, w = np.ones((1, 64, 8, 8), dtype.numpy), np.ones((1, 64, 8, 8), dtype.numpy)
    same(f.conv2d(Tensor(x), Tensor(w)), np.full((1, 1, 1, 1), 4096, dtype.numpy))


def test_a_convolution_is_one_multiplication_and_one_sum_over_the_last_axes() -> None:
    node = f.conv2d(Tensor(random(2, 4, 6, 6)), Tensor(random(8, 4, 3, 3)), padding=1).node
    ops = [(n.op, n.attr) for n in graph.topological([node]) if n.op in ("map", "reduce")]
    assert ops == [("map", "mul"), ("reduce", ("add", (5, 6, 7)))]


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), SETTINGS)
def test_a_transposed_convolution_is_the_adjoint(stride: int, padding: int, dilation: int, groups: int) -> None:
    u, w = whole(2, 4, 9, 8), whole(6, 4 // groups, 3, 2, seed=1)
    forward = convolved(u, w, [stride] * 2, [padding] * 2, [dilation] * 2, groups)
    v = whole(*forward.shape, seed=2)
    shortest = [
        (n - 1) * stride - 2 * padding + dilation * (k - 1) + 1 for n, k in zip(v.shape[2:], w.shape[2:], strict=True)
    ]
    extra = [n - m for n, m in zip(u.shape[2:], shortest, strict=True)]
    back = value(f.conv_transpose2d(Tensor(v), Tensor(w), None, stride, padding, extra, dilation, groups))
    assert back.shape == u.shape
    assert (forward.astype(np.int64) * v).sum() == (u.astype(np.int64) * back).sum()


def test_transposed_convolutions_over_one_and_three_axes_spread_the_kernel() -> None:
    w = whole(1, 1, 3)
    same(f.conv_transpose1d(Tensor(np.array([[[1, 0, 2]]], np.int32)), Tensor(w), stride=3),
         np.concatenate([w[0, 0], w[0, 0] * 0, w[0, 0] * 2])[None, None])  # fmt: skip
    one = np.ones((1, 1, 1, 1, 1), np.int32)
    cube = whole(1, 1, 2, 2, 2)
    same(f.conv_transpose3d(Tensor(one), Tensor(cube), Tensor([5])), cube + 5)


def test_unfold_gives_windows_as_columns() -> None:
    x = whole(1, 2, 4, 4)
    columns = value(f.unfold(Tensor(x), 3))
    assert columns.shape == (1, 18, 4)
    np.testing.assert_array_equal(columns[0, :, 1], x[0, :, 0:3, 1:4].ravel())


# --- pooling ------------------------------------------------------------------------------------------------------


def test_pooling_by_default_takes_windows_side_by_side() -> None:
    x = whole(2, 3, 8, 6)
    same(f.max_pool(Tensor(x), 2), x.reshape(2, 3, 4, 2, 3, 2).max((3, 5)))
    y = x.astype(np.float32)
    same(f.avg_pool(Tensor(y), 2), y.reshape(2, 3, 4, 2, 3, 2).mean((3, 5)))


def test_what_is_padded_never_is_a_maximum() -> None:
    x = -np.abs(whole(1, 1, 5)) - 1
    wanted = [max(x[0, 0, max(0, i - 1) : i + 2]) for i in range(5)]
    same(f.max_pool(Tensor(x), 3, 1, 1), np.array([[wanted]], np.int32))
    same(f.max_pool(Tensor(x.astype(np.float16)), 3, 1, 1), np.array([[wanted]], np.float16))


def test_a_maximum_over_a_window_with_nan_is_nan() -> None:
    x = np.array([[[1, math.nan, 2, 3]]], np.float32)
    same(f.max_pool(Tensor(x), 2), np.array([[[math.nan, 3]]], np.float32))


@pytest.mark.parametrize("counted", [True, False])
def test_a_mean_over_padding_counts_it_or_not(counted: bool) -> None:
    x = whole(1, 2, 5, 4).astype(np.float32)
    around = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=0 if counted else math.nan)
    wanted = np.nanmean(np.lib.stride_tricks.sliding_window_view(around, (3, 3), (2, 3)), (-1, -2))[:, :, ::2, ::2]
    close(f.avg_pool(Tensor(x), 3, 2, 1, count_padding=counted), wanted, 3)


def test_adaptive_pooling_makes_bins_of_nearly_one_size() -> None:
    x = whole(2, 3, 8, 9).astype(np.float32)
    rows = [(i * 8 // 3, -(-(i + 1) * 8 // 3)) for i in range(3)]
    wanted = [[x[:, :, a:b, c : c + 3] for c in (0, 3, 6)] for a, b in rows]
    maxima = np.stack([np.stack([w.max((2, 3)) for w in row], -1) for row in wanted], -2)
    means = np.stack([np.stack([w.astype(np.float64).mean((2, 3)) for w in row], -1) for row in wanted], -2)
    same(f.adaptive_max_pool(Tensor(x), 3), maxima)
    close(f.adaptive_avg_pool(Tensor(x), 3), means, 8)
    close(f.adaptive_avg_pool(Tensor(x), 1), x.astype(np.float64).mean((2, 3), keepdims=True), 18)


# --- interpolation ------------------------------------------------------------------------------------------------


def test_nearest_repeats_or_leaves_out_elements() -> None:
    x = whole(1, 2, 8, 3)
    same(f.interpolate(Tensor(x), scale=2), x.repeat(2, 2).repeat(2, 3))
    same(f.interpolate(Tensor(x), (5, 3)), x[:, :, [0, 1, 3, 4, 6]])
    same(f.interpolate(Tensor(x), scale=(0.5, 1.0)), x[:, :, ::2])


@pytest.mark.parametrize("count", [1, 5, 8, 15])
@pytest.mark.parametrize("corners", [True, False])
def test_linear_interpolation_is_that_of_numpy(count: int, corners: bool) -> None:
    x = random(2, 3, 8)
    at = np.linspace(0, 7, count) if corners else (np.arange(count) + 0.5) * 8 / count - 0.5
    wanted = np.stack([[np.interp(at, np.arange(8), row) for row in sample] for sample in x.astype(np.float64)])
    close(f.interpolate(Tensor(x), count, mode="linear", align_corners=corners), wanted, 8)


def keys(t: float) -> float:
    """Return Keys' kernel with a = -0.75 at a distance."""
    t, a = abs(t), -0.75
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


@pytest.mark.parametrize("count", [3, 8, 24])
def test_cubic_interpolation_is_the_sum_of_the_four_elements_around(count: int) -> None:
    x = random(1, 1, 8)
    wanted: list[float] = []
    for i in range(count):
        at = (i + 0.5) * 8 / count - 0.5
        around = range(math.floor(at) - 1, math.floor(at) + 3)
        wanted.append(sum(float(x[0, 0, min(max(j, 0), 7)]) * keys(at - j) for j in around))
    close(f.interpolate(Tensor(x), count, mode="cubic"), [[wanted]], 24)


X, W = Tensor(random(1, 4, 6, 6)), Tensor(random(8, 4, 3, 3))
ERRORS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "channels": (lambda: f.conv2d(X, Tensor(random(8, 3, 3, 3))), ShapeError,
        r"conv2d: input \(1, 4, 6, 6\) and weight \(8, 3, 3, 3\) with 1 groups: 4 channels are not 1 x 3"),
    "groups": (lambda: f.conv2d(X, Tensor(random(7, 2, 3, 3)), groups=2), ShapeError,
        "7 output channels do not divide into 2"),
    "no groups": (lambda: f.conv2d(X, W, groups=0), ShapeError, "with 0 groups"),
    "bias": (lambda: f.conv2d(X, W, Tensor(random(4))), ShapeError, r"bias \(4,\) does not fit the 8 output channels"),
    "rank": (lambda: f.conv1d(X, W), ShapeError, r"conv1d: weight \(8, 4, 3, 3\) needs 3 axes"),
    "input rank": (lambda: f.conv2d(Tensor(random(6, 6)), W), ShapeError, "differ in rank"),
    "kernel": (lambda: f.conv2d(X, W, dilation=3), ShapeError, r"a kernel of 3 dilated by 3 does not fit axis 2 of"),
    "stride": (lambda: f.conv2d(X, W, stride=(1, 2, 3)), ShapeError,
        r"conv2d: stride needs one number or 2, got \[1, 2, 3\]"),
    "step 0": (lambda: f.conv2d(X, W, stride=0), ShapeError, "windows of 3 by steps of 0"),
    "bool": (lambda: f.conv2d(X > 0, W > 0), DTypeError, "conv2d is not defined on bool"),
    "transposed": (lambda: f.conv_transpose2d(X, W), ShapeError, r"conv_transpose2d: .*4 channels are not 1 x 8"),
    "pool": (lambda: f.max_pool(X, 7), ShapeError, "windows of 7 .* do not fit axis 2"),
    "pool padding": (lambda: f.avg_pool(X, 2, padding=2), ShapeError, "padding .* is more than half of the kernel"),
    "pool rank": (lambda: f.max_pool(X, (2, 2, 2, 2)), ShapeError, "with 4 spatial axes"),
    "adaptive": (lambda: f.adaptive_avg_pool(X, 0), ShapeError, "cannot make 0 bins"),
    "mode": (lambda: f.interpolate(X, 3, mode="best"), UsageError, "unknown mode 'best'; it is nearest, linear, cubic"),
    "size and scale": (lambda: f.interpolate(X, 3, scale=2.0), UsageError, "give either size or scale"),
    "neither": (lambda: f.interpolate(X), UsageError, "give either size or scale"),
    "nothing": (lambda: f.interpolate(X, 0), ShapeError, r"cannot resize \(1, 4, 6, 6\) to \(0, 0\)"),
    "corners": (lambda: f.interpolate(X, 3, align_corners=True), UsageError, "has no align_corners"),
    "no axes": (lambda: f.interpolate(Tensor([1.0]), 3), ShapeError, r"needs an input \(n, c, \*spatial\)"),
    "scale": (lambda: f.interpolate(X, scale=(1.0, 2.0, 3.0)), ShapeError, "scale needs one number or 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_what_does_not_fit_is_refused_by_the_name_of_the_operation(name: str) -> None:
    act, error, text = ERRORS[name]
    with pytest.raises(error, match=text):
        act()
