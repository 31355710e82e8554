"""Dynamic dimensions: one compiled program for every extent within bounds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from portkit.errors import AxisError, ShapeError
from portkit.runtime import programs
from portkit.tensor import Tensor
from portkit.tensor import functional as F
from portkit.tensor.dynamic import Dimension, dynamic
from portkit.tensor.jit import jit

N = Dimension("n", 1, 40)
SIZES = (1, 3, 16, 17, 40)


def numbers(*shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 7 - 3).astype(np.float32).reshape(shape)


BUILDS: dict[str, Callable[[Tensor], Tensor]] = {
    "a map": lambda x: x * 2 + 1,
    "a sum over the dimension": lambda x: x.sum(axis=0),
    "a sum along the rest": lambda x: x.sum(axis=1),
    "a maximum over the dimension": lambda x: x.max(axis=0),
    "a product with a matrix": lambda x: x @ Tensor(numbers(6, 5)),
    "a product with its transpose": lambda x: x.transpose(0, 1) @ x,
    "a transpose": lambda x: x.transpose(0, 1) + 1,
    "a softmax along the rest": lambda x: F.softmax(x, axis=1),
    "a running sum": lambda x: x.cumsum(axis=0),
}


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS.keys())
def test_every_extent_gives_what_a_fixed_one_gives(build: Callable[[Tensor], Tensor]) -> None:
    for size in SIZES:
        x = numbers(size, 6)
        found = build(dynamic(Tensor(x), 0, N)).numpy()
        wanted = build(Tensor(x)).numpy()
        assert found.shape == wanted.shape
        np.testing.assert_array_equal(found, wanted)  # small integers, and one order for what is rounded


def test_all_extents_share_one_compiled_program(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    real = programs.compile_graph
    monkeypatch.setattr(programs, "compile_graph", lambda *a: compiled.append(a) or real(*a))
    own = Dimension("only_here", 1, 64)
    for size in SIZES:
        (dynamic(Tensor(numbers(size, 9)), 0, own) * 3 - 2).realize()
    assert len(compiled) <= 1


def test_a_value_that_needs_no_contents_still_has_the_extents_of_its_tensors() -> None:
    x = dynamic(Tensor(np.arange(5, dtype=np.int32)), 0, N)
    assert (x - x).numpy().tolist() == [0] * 5


def test_one_dimension_has_one_extent_at_a_time() -> None:
    x, y = dynamic(Tensor(numbers(3, 2)), 0, N), dynamic(Tensor(numbers(4, 2)), 0, N)
    with pytest.raises(ShapeError, match="dimension n is 3 in one tensor and 4 in another"):
        (x + y).realize()


def test_an_extent_outside_the_bounds_is_refused() -> None:
    with pytest.raises(ShapeError, match="1 to 40 of dimension n"):
        dynamic(Tensor(numbers(41, 2)), 0, N)


def test_an_axis_out_of_range_is_refused() -> None:
    with pytest.raises(AxisError, match="axis 2"):
        dynamic(Tensor(numbers(4, 2)), 2, N)


def test_a_captured_function_knows_an_extent_that_it_does_not_read() -> None:
    @jit
    def nothing(x: Tensor) -> Tensor:
        return x - x

    for size in (3, 5):
        found = nothing(dynamic(Tensor(np.arange(size, dtype=np.int32)), 0, N))
        np.testing.assert_array_equal(found.numpy(), np.zeros(size, np.int32))
