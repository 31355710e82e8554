"""Judging the compiler step by step: graph, simplified graph, nests, merged nests, kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portkit.compiler.build import build_nest
from portkit.compiler.compile import fusion_limits
from portkit.compiler.evaluate import evaluate
from portkit.compiler.facts import through
from portkit.compiler.fuse import fuse
from portkit.compiler.graph import Node, Source, topological, unmarked
from portkit.compiler.index import Expr
from portkit.compiler.index import evaluate as evaluate_index
from portkit.compiler.interpret import interpret
from portkit.compiler.merge import merge_axes
from portkit.compiler.nest import Nest
from portkit.compiler.simplify import simplify
from portkit.compiler.split import split_reductions
from portkit.contract import Capabilities
from tests.compiler.running import run_graph

Array = NDArray[Any]
Contents = Mapping[Source, Array]
Variables = Mapping[Expr, int]


def same(name: str, got: Sequence[Array], wanted: Sequence[Array]) -> None:
    """Check that results have the same dtypes, shapes and elements, any NaN being any other; say after which step."""
    for number, (array, expected) in enumerate(zip(got, wanted, strict=True)):
        told = f"output {number} after {name}"
        assert (array.dtype, array.shape) == (expected.dtype, expected.shape), told
        with np.errstate(invalid="ignore"):  # NumPy does not know the NaN of bf16 and f8 as equal to itself
            wide = [a.astype(np.float64) if a.dtype.kind in "fV" else a for a in (array, expected)]
        np.testing.assert_array_equal(*wide, err_msg=told)


def interpreted(wanted: Sequence[Node], nests: Sequence[Nest], contents: Contents, variables: Variables) -> list[Array]:
    """Return what nests store for `wanted`, run one after the other."""
    known = {n: contents[n.attr] for n in topological(wanted) if n.op == "source"}
    for nest in nests:
        known |= interpret(nest, known, variables)
    shapes = [[int(evaluate_index(n, variables)) for n in node.shape] for node in wanted]
    return [known[n] if n in known else np.empty(shape, n.dtype.numpy) for n, shape in zip(wanted, shapes, strict=True)]


def nests_of(outputs: Sequence[Node], capabilities: Capabilities) -> tuple[list[Node], list[Nest]]:
    """Return what a graph becomes after simplification and splitting, and the nests that compute it."""
    limits = fusion_limits(capabilities)
    simple = simplify(unmarked(outputs, ("detach", "input", "checkpoint")))
    wanted = split_reductions([through(node) for node in simple], limits.rows)
    return wanted, [build_nest(group) for group in fuse(wanted, limits)]


def judge_nests(
    outputs: Sequence[Node], contents: Contents, capabilities: Capabilities, variables: Variables
) -> list[Array]:
    """Check each step from graph to merged nests, and return what the outputs are."""
    expected = evaluate(outputs, contents)
    wanted, nests = nests_of(outputs, capabilities)
    sources = [n for n in topological(outputs) if n.op == "source"]  # they say what dynamic dimensions are
    same("simplification", evaluate([*wanted, *sources], contents)[: len(wanted)], expected)
    same("fusion", interpreted(wanted, nests, contents, variables), expected)
    merged = [merge_axes(nest) for nest in nests]
    same("merging", interpreted(wanted, merged, contents, variables), expected)
    return expected


def judge(
    outputs: Sequence[Node], contents: Contents, capabilities: Capabilities, variables: Variables | None = None
) -> None:
    """Check every step, kernels on the reference interpreter included."""
    expected = judge_nests(outputs, contents, capabilities, variables or {})
    got, _ = run_graph(outputs, contents, capabilities, variables)
    same("lowering", got, expected)
