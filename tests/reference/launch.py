"""Run one form of the language on columns of bit patterns, through the values run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from portkit.reference import values
from portkit.spec.builder import Builder, Reg
from portkit.spec.kernel import Numeric
from portkit.spec.types import DType, Type

LANES = 32


def unsigned(dtype: DType) -> np.dtype:
    return np.dtype(f"u{dtype.bytes}")


def run_columns(
    body: Callable[[Builder, list[Reg]], Reg],
    operands: Sequence[DType],
    result: DType,
    columns: Sequence[Sequence[int]],
    numeric: Numeric = "strict",
) -> list[int]:
    """Return the bit pattern of `body` applied to each row of the columns."""
    count = len(columns[0])
    groups = -(-count // LANES)
    b = Builder("columns", numeric)
    sources = [b.buffer(f"in{k}", d.name, count, "read") for k, d in enumerate(operands)]
    target = b.buffer("out", result.name, count, "write")
    index = b.add(b.mul(b.grid(groups), b.const("i32", LANES)), b.lane(LANES))
    inside = b.lt(index, b.const("i32", count))
    loaded = [b.load(s, index, gate=inside, other=b.bits_const(s.dtype.name, 0)) for s in sources]
    b.store(target, index, body(b, loaded), gate=inside)
    inputs = {
        s.name: np.array(column, unsigned(s.dtype)).view(s.dtype.numpy)
        for s, column in zip(sources, columns, strict=True)
    }
    return values.run(b.build(), {}, inputs)["out"].view(unsigned(result)).tolist()


def run_form(
    form: str,
    dtype: DType,
    columns: Sequence[Sequence[int]],
    numeric: Numeric = "strict",
    result: DType | None = None,
) -> list[int]:
    """Return the bit pattern of a form applied to each row; `result` is the written type of the forms that have one."""
    written = None if result is None else Type(result)
    return run_columns(
        lambda b, xs: b.op(form, *xs, type=written), [dtype] * len(columns), result or dtype, columns, numeric
    )
