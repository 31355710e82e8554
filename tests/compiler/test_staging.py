"""Staging: what a fold computes along a row is kept for the stores, in an output where one can hold it."""

from __future__ import annotations

import numpy as np
import pytest

from portkit.compiler import graph as g
from portkit.compiler.evaluate import evaluate
from portkit.compiler.graph import Node, Source
from portkit.reference.checks import check
from portkit.spec.kernel import Kernel
from portkit.spec.types import BF16, F32, DType
from tests.compiler.running import CPU, run_graph, small_integers


def shares(x: Node, dtype: DType) -> Node:
    """Powers of two of each row, times a power of two from their sum: exact, and dear enough to keep."""
    power = g.map_("exp2", x)
    total = g.reduce("max", g.map_("add", power, power), [1])
    return g.cast(g.map_("mul", power, g.expand(total, x.shape)), dtype)


def compiled(dtype: DType, columns: int) -> tuple[np.ndarray, np.ndarray, Kernel]:
    x = g.source(Source(F32, (5, columns)))
    contents = {x.attr: small_integers(x, 1)}
    output = shares(x, dtype)
    (found,), program = run_graph([output], contents, CPU)
    (launch,) = program.program.launches
    return found, evaluate([output], contents)[0], launch.kernel


@pytest.mark.parametrize("columns", [16, 37, 64, 130])
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_a_kept_row_gives_what_computing_it_again_gives(dtype: DType, columns: int) -> None:
    found, wanted, _ = compiled(dtype, columns)
    np.testing.assert_array_equal(found, wanted)


def test_an_output_of_the_same_dtype_holds_the_row() -> None:
    *_, kernel = compiled(F32, 37)
    assert kernel.shared == ()
    assert [b.access for b in kernel.buffers] == ["read", "readwrite"]


def test_shared_memory_holds_a_row_that_no_output_can_hold() -> None:
    *_, kernel = compiled(BF16, 37)
    assert [s.extent for s in kernel.shared] == [37]
    assert [b.access for b in kernel.buffers] == ["read", "write"]


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_a_kept_row_is_written_before_it_is_read_and_races_with_none(dtype: DType) -> None:
    *_, kernel = compiled(dtype, 37)
    check(kernel, {}, {b.name: np.zeros(5 * 37, b.dtype.numpy) for b in kernel.buffers})
