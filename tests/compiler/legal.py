"""Devices of several capabilities, and the check that a legalised kernel computes what the kernel does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from portkit.compiler.legalise import legalise
from portkit.compiler.storage import from_device, to_device
from portkit.contract import BASE_DTYPES, Capabilities, Limits, NumericLimits, unsupported
from portkit.reference import values
from portkit.reference.checks import check
from portkit.spec.builder import Builder, Reg
from portkit.spec.kernel import Kernel, Numeric
from portkit.spec.types import DTYPES, DType
from portkit.spec.verify import verify

Array = NDArray[Any]
Body = Callable[[Builder, list[Reg]], Reg]

BASE = Capabilities(
    name="base", version="1", vendor="test", evidence="stand-in", numeric=NumericLimits(strict=True),
    limits=Limits(shared_bytes=1 << 20, buffers=64, lanes=1024),
)  # fmt: skip
_ALL = tuple(name for name in DTYPES if not name.startswith("f8"))


def like_base(name: str, **fields: Any) -> Capabilities:
    """The base, and what is given."""
    return msgspec.structs.replace(BASE, name=name, **fields)


DEVICES = {
    c.name: c
    for c in (
        BASE,
        like_base("vec4", extensions=("vec",), lanes=(2, 4)),
        like_base("vec3", extensions=("vec", "group"), lanes=(3,), dtypes=(*BASE_DTYPES, "u16")),
        like_base("no64", extensions=("vec", "group", "fma"), lanes=(2, 8), dtypes=(*BASE_DTYPES, "f16", "u8", "u64")),
        like_base("ints", extensions=("group",), dtypes=(*BASE_DTYPES, "i8", "u8", "i16", "u16", "i64", "u64")),
        like_base("scalar", dtypes=_ALL),
    )
}
"""Each lacks something else; none has math or atomics."""


def same(expected: Array, given: Array) -> Array:
    """Where two arrays hold the same bits, or NaN both."""
    unsigned = f"u{expected.dtype.itemsize}"
    equal = expected.view(unsigned) == given.view(unsigned)
    if expected.dtype.kind in "iu":
        return equal
    with np.errstate(invalid="ignore"):  # a signalling NaN of ml_dtypes
        return equal | (np.isnan(expected) & np.isnan(given))


def run_legal(
    kernel: Kernel, capabilities: Capabilities, scalars: Mapping[str, int | float], inputs: Mapping[str, Array]
) -> dict[str, Array]:
    """The buffers after the legalised kernel has run on what the device would hold."""
    legal = legalise(kernel, capabilities)
    verify(legal.kernel)
    assert unsupported(legal.kernel, capabilities) == []
    held = {name: to_device(array, legal.storage[name]) for name, array in inputs.items()}
    if legal.kernel is not kernel and any(i.name == "barrier" for i in legal.kernel.body):
        check(legal.kernel, scalars, held)
    after = values.run(legal.kernel, scalars, held)
    shapes = {b.name: (b.extent.evaluate(scalars),) for b in kernel.buffers}
    return {
        b.name: from_device(after[b.name].tobytes(), b.dtype, shapes[b.name], legal.storage[b.name])
        for b in kernel.buffers
    }


def assert_agrees(
    kernel: Kernel, capabilities: Capabilities, scalars: Mapping[str, int | float], inputs: Mapping[str, Array]
) -> None:
    """Both kernels leave the same in every buffer, and what synchronises in the legal one is enough."""
    expected, given = values.run(kernel, scalars, inputs), run_legal(kernel, capabilities, scalars, inputs)
    for name, array in expected.items():
        wrong = np.flatnonzero(~same(array, given[name]))
        assert not wrong.size, (name, wrong[:4], array[wrong[:4]], given[name][wrong[:4]])


LANES = 256


def column_kernel(body: Body, operands: Sequence[DType], result: DType, count: int, numeric: Numeric) -> Kernel:
    """A kernel of `body` applied to each row of columns `in0`, `in1`, ... into `out`."""
    b = Builder("columns", numeric)
    sources = [b.buffer(f"in{k}", d.name, count, "read") for k, d in enumerate(operands)]
    target = b.buffer("out", result.name, count, "write")
    index = b.add(b.mul(b.grid(-(-count // LANES)), b.const("i32", LANES)), b.lane(LANES))
    inside = b.lt(index, b.const("i32", count))
    loaded = [b.load(s, index, gate=inside, other=b.bits_const(s.dtype.name, 0)) for s in sources]
    b.store(target, index, body(b, loaded), gate=inside)
    return b.build()


def check_columns(
    body: Body, operands: Sequence[DType], result: DType, columns: Sequence[Array], capabilities: Capabilities = BASE,
    numeric: Numeric = "strict",
) -> None:  # fmt: skip
    """`body` gives the same on the device; `columns` are unsigned bit patterns, one array for each operand."""
    kernel = column_kernel(body, operands, result, len(columns[0]), numeric)
    inputs = {
        f"in{k}": column.astype(f"u{d.bytes}").view(d.numpy)
        for k, (column, d) in enumerate(zip(columns, operands, strict=True))
    }
    assert_agrees(kernel, capabilities, {}, inputs)


def form(name: str, **extra: Any) -> Body:
    """A body of one form."""
    return lambda b, xs: b.op(name, *xs, **extra)


def crossed(*lists: Sequence[int]) -> list[Array]:
    """Every combination of the patterns given, as columns."""
    grids = np.meshgrid(*(np.array(patterns, np.uint64) for patterns in lists))
    return [grid.reshape(-1) for grid in grids]
