"""Dynamic shapes: one graph with an extent that is known only when it runs, one kernel, several sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import portkit.tensor as t
from portkit.conformance.case import Case, Cell, GraphTrial
from portkit.conformance.cases.tensorcase import Build, Input, results_of, tensor_case
from portkit.contract import Capabilities
from portkit.spec.types import F32

if TYPE_CHECKING:
    from portkit.compiler.graph import Node

SIZES = (1, 7, 64)
MOST = 64
"""The largest size that a graph is compiled for."""
N = 0
"""Stands for the dynamic extent in a shape."""


@dataclass(frozen=True, slots=True)
class Dynamic:
    """A row: what is computed of inputs whose shapes have `N` for the dynamic extent."""

    name: str
    build: Build
    shapes: tuple[tuple[int, ...], ...]


ROWS = (
    Dynamic("map", lambda x: t.tanh(x) * 2.0 + 1.0, ((3, N),)),
    Dynamic("sum", partial(t.sum, axis=1), ((3, N),)),
    Dynamic("sum-rows", partial(t.sum, axis=0), ((N, 5),)),
    Dynamic("softmax", t.softmax, ((3, N),)),
    Dynamic("layer_norm", lambda x: (x - t.mean(x, 1, True)) * t.rsqrt(t.var(x, 1, True, 0) + 1e-5), ((4, N),)),
    Dynamic("matmul-rows", t.matmul, ((N, 12), (12, 5))),
    Dynamic("matmul-inner", t.matmul, ((6, N), (N, 5))),
    Dynamic("cumsum", partial(t.cumsum, axis=0), ((N, 3),)),
    Dynamic("transpose", lambda x: t.transpose(x, 0, 1) + 1.0, ((N, 6),)),
    Dynamic("reshape", lambda x: t.reshape(x, -1) * 0.5, ((N, 6),)),
    Dynamic("pad-slice", lambda x: t.pad(x, [(1, 2), (0, 0)])[1:], ((N, 4),)),
    Dynamic("cat", lambda x, y: t.cat([x, y], 0), ((N, 4), (3, 4))),
    Dynamic("attention", t.scaled_dot_product_attention, ((1, 3, 8), (1, N, 8), (1, N, 8))),
)


def cells() -> Iterator[Cell]:
    """Yield the cells of dynamic shapes."""
    return (Cell(f"tensor.dynamic.{row.name}", "f32") for row in ROWS)


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield a case for each row and size."""
    del capabilities
    for row in ROWS:
        for size in SIZES:
            case_id = f"tensors/dynamic/{row.name}/{size}"
            yield tensor_case(
                case_id, partial(_trial, row, size, case_id), (Cell(f"tensor.dynamic.{row.name}", "f32"),)
            )


@cache
def _graph(row: Dynamic) -> tuple[list[Node], list[Node]]:
    """Return the results and sources of a row, the same nodes for all sizes."""
    from portkit.compiler.graph import Source, source
    from portkit.compiler.index import Variable

    extent = Variable("n", 1, MOST)
    shapes = [tuple(extent if n == N else n for n in shape) for shape in row.shapes]
    leaves = [source(Source(F32, shape, None, f"x{number}")) for number, shape in enumerate(shapes)]
    return results_of(row.build, leaves), leaves


def _trial(row: Dynamic, size: int, case_id: str, capabilities: Capabilities) -> GraphTrial:
    nodes, leaves = _graph(row)
    contents: dict[Any, Any] = {}
    for number, (leaf, shape) in enumerate(zip(leaves, row.shapes, strict=True)):
        known = tuple(size if n == N else n for n in shape)
        contents[leaf.attr] = Input(known).contents(f"{case_id}:{number}")
    return GraphTrial(nodes, contents, capabilities)
