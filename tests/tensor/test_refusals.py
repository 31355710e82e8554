"""Arguments of the wrong kind are refused by the name of the operation, with what was given and what to give."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import pytest

from portkit.errors import DTypeError, ShapeError, UsageError
from portkit.tensor import functional, movement, random
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
    "a kernel of text": (lambda: functional.max_pool(IMAGE, wrong("ab")), ShapeError, "max_pool: kernel is .* got 'ab'"),
    "a scale of NaN": (lambda: functional.interpolate(IMAGE, scale=math.nan), ShapeError, "finite number above 0.* nan"),
    "an infinite scale": (lambda: functional.interpolate(IMAGE, scale=[1, math.inf]), ShapeError, "got inf"),
    "a scale of text": (lambda: functional.interpolate(IMAGE, scale=wrong("a")), ShapeError, "interpolate of .* got 'a'"),
    "a correction of text": (lambda: X.var(correction=wrong("a")), ShapeError, "var: the correction is .* got 'a'"),
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
    "a std of NaN": (lambda: random.normal(2, std=math.nan), UsageError, "normal: std is .* got nan"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_arguments_of_the_wrong_kind_are_refused_by_name(name: str) -> None:
    act, error, text = REFUSED[name]
    with pytest.raises(error, match=text):
        act()


def test_an_empty_list_of_places_takes_nothing() -> None:
    assert X[[]].shape == (0, 2)
