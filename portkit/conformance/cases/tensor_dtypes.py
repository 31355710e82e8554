"""Representative operations on every dtype that the device can hold, by itself or in words of integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import portkit.tensor as t
from portkit.conformance.case import Case, Cell
from portkit.conformance.cases.tensorcase import Build, Input, TensorCase, holds, rows_to_cases
from portkit.contract import Capabilities
from portkit.spec.forms import CLASSES
from portkit.tensor.tensor import Tensor

FLOATS, NUMBERS, VALUES, ORDERED = (CLASSES[name] for name in ("real", "arith", "value", "ordered"))


@dataclass(frozen=True, slots=True)
class Representative:
    """An operation that stands for its kind on every dtype of a class; `inputs` gives its inputs of a dtype."""

    name: str
    build: Build
    dtypes: tuple[str, ...]
    inputs: Callable[[str], tuple[Input, ...]]
    grad: bool = False


def _one(*shape: int, contents: str = "unit") -> Callable[[str], tuple[Input, ...]]:
    return lambda dtype: (Input(shape, dtype, contents),)


def _places(*shape: int, limit: int) -> Input:
    return Input(shape, "i32", "index", limit)


def _moved(x: Tensor, y: Tensor) -> Tensor:
    """Return a graph of every movement."""
    both = t.cat([t.permute(x, 1, 0), t.flip(y, 0)], 1)
    return t.reshape(t.pad(both[1:, ::2], [(1, 2), (0, 1)]), 3, -1)


REPRESENTATIVES = (
    Representative("sum", partial(t.sum, axis=1), NUMBERS, _one(5, 19), grad=True),
    Representative("prod", partial(t.prod, axis=1), NUMBERS, _one(5, 6)),
    Representative("max", partial(t.max, axis=1), NUMBERS, _one(5, 19, contents="any")),
    Representative("argmin", partial(t.argmin, axis=1), NUMBERS, _one(5, 9, contents="small")),
    Representative("cumsum", partial(t.cumsum, axis=1), NUMBERS, _one(3, 11)),
    Representative("sort", t.sort, NUMBERS, _one(3, 9, contents="small")),
    Representative("matmul", t.matmul, NUMBERS, lambda d: (Input((9, 14), d), Input((14, 7), d)), grad=True),
    Representative("conv2d", t.conv2d, NUMBERS, lambda d: (Input((1, 2, 5, 5), d), Input((3, 2, 3, 3), d))),
    Representative(
        "scatter_add",
        lambda x, i, v: t.scatter_add(x, 0, i, v),
        NUMBERS,
        lambda d: (Input((4, 3), d), _places(7, 3, limit=4), Input((7, 3), d)),
    ),
    Representative(
        "gather",
        lambda x, i: t.gather(x, 1, i),
        VALUES,
        lambda d: (Input((4, 7), d, "any"), _places(4, 5, limit=7)),
    ),
    Representative("cat", _moved, VALUES, lambda d: (Input((4, 6), d, "any"), Input((6, 5), d, "any"))),
    Representative(
        "where",
        t.where,
        VALUES,
        lambda d: (Input((4, 6), "bool", "any"), Input((4, 6), d, "any"), Input((4, 6), d, "any")),
    ),
    Representative("softmax", t.softmax, FLOATS, _one(4, 9), grad=True),
    Representative("layer_norm", lambda x: t.layer_norm(x, 9), FLOATS, _one(4, 9), grad=True),
    Representative("mean", t.mean, FLOATS, _one(5, 7), grad=True),
)


def cells(capabilities: Capabilities) -> Iterator[Cell]:
    """Yield the cells of every representative on every dtype, and of their gradients."""
    for row in REPRESENTATIVES:
        for dtype in row.dtypes:
            if holds(capabilities, (dtype,)):
                yield Cell(f"tensor.{row.name}", dtype)
                if row.grad and dtype in FLOATS:
                    yield Cell(f"tensor.{row.name}.grad", dtype)


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the cases that the device can hold; the cell is that of the dtype, wherever it stands among the inputs."""
    rows = [
        TensorCase(
            f"dtypes/{row.name}/{dtype}",
            row.build,
            row.inputs(dtype),
            op=row.name,
            grad=row.grad and dtype in FLOATS,
            dtype=dtype,
        )
        for row in REPRESENTATIVES
        for dtype in row.dtypes
    ]
    yield from rows_to_cases(rows, capabilities)
