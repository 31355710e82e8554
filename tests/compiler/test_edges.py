"""What random graphs found at the edges of the compiler, each in its smallest form."""

from __future__ import annotations

import numpy as np
import pytest

from portkit.compiler import graph as g
from portkit.compiler.graph import Source
from portkit.compiler.index import Axis, Variable
from portkit.compiler.merge import merge_axes
from portkit.compiler.nest import Nest, Store, fold, load
from portkit.contract import Capabilities
from portkit.spec.types import BF16, F32, I32
from tests.compiler.running import BASE, CPU
from tests.compiler.stepwise import judge


@pytest.mark.parametrize("capabilities", [CPU, BASE], ids=["cpu", "base"])
@pytest.mark.parametrize("size", [0, 1])
def test_a_fold_of_one_element_or_none_reads_no_memory_that_is_empty(size: int, capabilities: Capabilities) -> None:
    n = Variable("n", 0, 1)
    x = g.source(Source(F32, (n,)))
    contents = {x.attr: np.full(size, 3, np.float32)}
    judge([g.reduce("add", g.map_("sub", x, g.map_("neg", x)), [0])], contents, capabilities, {n: size})


def test_a_gather_from_nothing_gives_zeros() -> None:
    x, at = g.source(Source(F32, (0, 3))), g.source(Source(I32, (2, 3)))
    contents = {x.attr: np.empty((0, 3), np.float32), at.attr: np.zeros((2, 3), np.int32)}
    judge([g.gather(x, at, 0)], contents, CPU)


@pytest.mark.parametrize("kind", ["max", "min"])
def test_the_extreme_of_a_dynamic_dimension_without_elements_is_infinite(kind: str) -> None:
    n = Variable("n", 0, 9)
    x = g.source(Source(BF16, (n, 2)))
    judge([g.reduce(kind, x, [0])], {x.attr: np.empty((0, 2), BF16.numpy)}, CPU, {n: 0})


def test_long_chains_of_reshapes_are_cut_rather_than_indexed_by_ever_longer_expressions() -> None:
    x = y = g.source(Source(I32, (4, 5)))
    for _ in range(100):
        y = g.reshape(g.permute(g.reshape(y, y.shape[::-1]), (1, 0)), (4, 5))
    judge([y], {x.attr: np.arange(20, dtype=np.int32).reshape(4, 5)}, CPU)


def test_axes_of_more_points_than_an_index_holds_are_not_merged() -> None:
    x = g.source(Source(F32, (1,)))
    rows, columns = Axis(1 << 16), Axis(1 << 16)
    total = fold("add", (rows, columns), load(x, 0), F32)
    nest = Nest((), folds=(total,), row_stores=(Store(x, 0, total),))
    assert merge_axes(nest).folds[0].attr[1] == (rows, columns)
