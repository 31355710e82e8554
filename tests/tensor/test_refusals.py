"""Arguments of the wrong kind are refused by the name of the operation, with what was given and what to give."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from portkit.errors import DTypeError, ShapeError, UsageError
from portkit.tensor import creation, functional, movement, nn, optim, random, safetensors
from portkit.tensor.einstein import einsum
from portkit.tensor.exchange import from_dlpack, from_numpy
from portkit.tensor.tensor import Tensor

X = Tensor([[1.0, 2.0], [3.0, 4.0]])
IMAGE = X.reshape(1, 1, 2, 2)


def wrong(value: object) -> Any:
    """Return a value that no type checker would let pass here."""
    return cast("Any", value)


REFUSED: dict[str, tuple[Callable[[], object], type[UsageError], str]] = {
    "a broken kernel": (lambda: functional.avg_pool(IMAGE, wrong(1.5)), ShapeError, "avg_pool: kernel is .* got 1.5"),
    "a kernel of text": (lambda: functional.max_pool(IMAGE, wrong("ab")), ShapeError, "kernel is .* got 'ab'"),
    "a scale of NaN": (lambda: functional.interpolate(IMAGE, scale=math.nan), ShapeError, "finite number .* nan"),
    "an infinite scale": (lambda: functional.interpolate(IMAGE, scale=[1, math.inf]), ShapeError, "got inf"),
    "a scale of text": (lambda: functional.interpolate(IMAGE, scale=wrong("a")), ShapeError, "number or 2, got 'a'"),
    "a correction of text": (lambda: X.var(correction=wrong("a")), ShapeError, "var: the correction .* got 'a'"),
    "no equation": (lambda: einsum(wrong(5), X), UsageError, "einsum: the equation comes first .*'ij,jk->ik', got 5"),
    "one width": (lambda: X.pad(wrong(-1)), ShapeError, r"pad of .* needs \(before, after\) .* 2 axes, got -1"),
    "flat widths": (lambda: X.pad(wrong((1, 2))), ShapeError, r"needs \(before, after\) .* got \(1, 2\)"),
    "steps of 0": (lambda: movement.dilate(X, wrong(0)), ShapeError, "dilate: step is at least 1, got 0"),
    "a ragged index": (lambda: X[[0, [1, 0]]], ShapeError, r"getitem: the index \[0, \[1, 0\]\] is ragged"),
    "a list for an array": (lambda: from_numpy(wrong([1])), DTypeError, r"a NumPy array, got list; .*Tensor\("),
    "a list for DLPack": (lambda: from_dlpack([1]), DTypeError, r"from_dlpack takes .* got list; use Tensor\(\.\.\.\)"),
    "a number to compute": (lambda: X.realize(wrong(5)), DTypeError, "realize takes tensors, got 5"),
    "a seed of text": (lambda: random.seed(wrong("a")), UsageError, "seed: .* integer from 0 to .*got 'a'"),
    "a negative std": (lambda: random.normal(2, std=-1.0), UsageError, "normal: std is .* got -1.0; give"),
    "places up to NaN": (lambda: creation.arange(math.nan), ShapeError, "arange from 0 to nan by 1: .* finite numbers"),
    "places up to text": (lambda: creation.arange(wrong("a")), ShapeError, "arange from 0 to 'a' by 1: .* finite"),
    "a number for a parameter": (lambda: optim.SGD(wrong([5]), 0.1), UsageError, "parameter 0 is a int; give tensors"),
    "a size of text": (lambda: X.nonzero(wrong("a")), ShapeError, "nonzero: size is an int, got 'a'"),
    "a rate of text": (lambda: functional.dropout(X, X, wrong("a")), UsageError, "dropout: the rate is .* got 'a'"),
    "a broken offset": (lambda: creation.tril(X, wrong(1.5)), ShapeError, "tril: the offset is an int, got 1.5"),
    "a device by number": (lambda: Tensor([1.0], device=wrong(5)), UsageError, "device is named by .* got 5"),
    "zeros on a number": (lambda: creation.zeros(2, device=wrong(5)), UsageError, "device is named by .* got 5"),
    "a generator on a number": (lambda: random.Generator(0, wrong(5)), UsageError, "device is named by .* got 5"),
    "an unknown device": (lambda: X.to("nope"), UsageError, "to: 'nope' is no dtype and no installed backend; .*cpu"),
    "a dtype with a typo": (lambda: X.to("f23"), UsageError, "to: 'f23' is no dtype .*did you mean .*f32"),
    "too little width": (lambda: nn.Linear(-1, 2), ShapeError, "Linear: inputs is at least 0, got -1"),
    "a width of text": (lambda: nn.Linear(wrong("a"), 2), ShapeError, "Linear: inputs is an int, got 'a'"),
    "no window": (lambda: nn.Conv2d(3, 4, 0), ShapeError, "Conv2d: kernel is at least 1, got 0"),
    "no window on one axis": (lambda: nn.ConvTranspose2d(3, 4, (2, 0)), ShapeError, "kernel is at least 1, got 0"),
    "one extent of two": (lambda: nn.Conv2d(3, 4, (2,)), ShapeError, r"kernel needs one number or 2, got \[2\]"),
    "no groups": (lambda: nn.Conv2d(3, 4, 2, groups=0), ShapeError, "Conv2d: groups is at least 1, got 0"),
    "groups that leave a rest": (lambda: nn.Conv2d(3, 4, 2, groups=2), ShapeError, "3 inputs and 4 .* 2 groups"),
    "an empty weight": (lambda: functional.conv2d(IMAGE, creation.zeros(1, 1, 0, 2)), ShapeError, "a kernel of 0"),
    "too much at the end": (
        lambda: functional.conv_transpose2d(IMAGE, IMAGE, stride=2, output_padding=2),
        ShapeError,
        r"conv_transpose2d: output_padding \[2, 2\] .* stride \[2, 2\]",
    ),
    "less than nothing at the end": (
        lambda: functional.conv_transpose2d(IMAGE, IMAGE, output_padding=-1), ShapeError, r"output_padding \[-1, -1\]"
    ),
    "one weight for all": (
        lambda: functional.layer_norm(X, 2, Tensor([1.0])), ShapeError, r"layer_norm: weight \(1,\) .* shape \(2,\)"
    ),
    "one bias for all": (
        lambda: functional.layer_norm(X, 2, None, Tensor([1.0])), ShapeError, r"layer_norm: bias \(1,\) .* shape \(2,\)"
    ),
    "one weight for the root": (
        lambda: functional.rms_norm(X, None, Tensor([1.0])), ShapeError, r"rms_norm: weight \(1,\) .* shape \(2,\)"
    ),
    "a file of arrays": (
        lambda: safetensors.save({"a": wrong(np.zeros(2))}, "never.safetensors"), DTypeError, "save: 'a' is a ndarray"
    ),
    "a std of NaN": (lambda: random.normal(2, std=math.nan), UsageError, "normal: std is .* got nan"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_arguments_of_the_wrong_kind_are_refused_by_name(name: str) -> None:
    act, error, text = REFUSED[name]
    with pytest.raises(error, match=text):
        act()


def test_an_empty_list_of_places_takes_nothing() -> None:
    assert X[[]].shape == (0, 2)


@pytest.mark.parametrize("apply", [functional.softmax, functional.log_softmax])
def test_a_softmax_over_an_axis_without_elements_is_empty(apply: Callable[[Tensor, int], Tensor]) -> None:
    x = creation.zeros(0, 3)
    found = apply(x, 0)
    assert found is not x
    assert found.numpy().shape == (0, 3)


def test_output_padding_below_the_dilation_is_taken() -> None:
    assert functional.conv_transpose2d(IMAGE, IMAGE, output_padding=1, dilation=2).shape == (1, 1, 5, 5)


def test_a_tensor_of_more_axes_than_arrays_have_says_so() -> None:
    x = X.reshape((1,) * 62 + (2, 2)).unsqueeze(0)
    with pytest.raises(ShapeError, match=r"rank 65 .* 64 axes; reshape"):
        x.numpy()
    assert x.reshape(4).tolist() == [1.0, 2.0, 3.0, 4.0]


FORKING = """
import os, warnings
warnings.simplefilter("ignore")
from portkit import Tensor
from portkit.errors import DeviceLost
kept = (Tensor([1.0]) + 1).realize()
if os.fork() == 0:
    code = 1
    try:
        (kept + 1).numpy()
    except DeviceLost as error:
        code = 0 if "tensors too" in str(error) and "spawn" in str(error) else 2
    finally:
        os._exit(code)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_tensor_of_the_parent_says_in_a_fork_what_to_do() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
