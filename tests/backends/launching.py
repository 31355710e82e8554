"""Running kernels on a device in tests: arrays in, arrays out, and operands full of special values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portkit.contract import Device
from portkit.reference.generator import stream
from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.forms import Role, form
from portkit.spec.geometry import buffer_extents, grid_counts
from portkit.spec.kernel import Kernel
from portkit.spec.types import BOOL, DTYPES, DType, Type, mantissa_bits, parse_type

Array = NDArray[Any]
MOST_COMBINATIONS = 4096
LANES = 8
"""The work-group size of pointwise kernels; operands of every vector length share the tests' inputs."""


def execute(
    device: Device, kernel: Kernel, inputs: Mapping[str, Array], scalars: Mapping[str, int | float] | None = None
) -> dict[str, Array]:
    """Compile and run a kernel; buffers that are not given start as zeros. Returns every buffer afterwards."""
    given = scalars or {}
    executable = device.compile(kernel)
    handles: list[int] = []
    for buffer, extent in zip(kernel.buffers, buffer_extents(kernel, given), strict=True):
        array = inputs.get(buffer.name, np.zeros(extent, buffer.dtype.numpy))
        handles.append(device.allocate(array.nbytes))
        device.write(handles[-1], 0, array.tobytes())
    device.launch(executable, grid_counts(kernel, given), handles, [given[s.name] for s in kernel.scalars])
    outputs = {
        buffer.name: np.frombuffer(device.read(handle, 0, extent * buffer.dtype.bytes), buffer.dtype.numpy)
        for buffer, handle, extent in zip(kernel.buffers, handles, buffer_extents(kernel, given), strict=True)
    }
    for handle in handles:
        device.free(handle)
    executable.release()
    return outputs


def special_bits(dtype: DType) -> list[int]:
    """Bit patterns at which arithmetic goes wrong first: zeros, units, extremes, ties, subnormals, infinities, NaN."""
    if dtype.is_int:
        top = 1 << (dtype.bits - 1)
        near = [0, 1, 2, 3, 5, 31, 33, top - 1, top, top + 1, 2 * top - 2, 2 * top - 1, (2 * top - 1) // 3, 0x5A]
        return sorted({value % (2 * top) for value in near})
    fraction, sign = mantissa_bits(dtype), 1 << (dtype.bits - 1)
    infinity, one = ((sign >> fraction) - 1) << fraction, (dtype.emax) << fraction
    near = [
        0,
        1,
        2,
        (1 << fraction) - 1,
        1 << fraction,
        (1 << fraction) + 1,
        one - 1,
        one,
        one + 1,
        one + (1 << fraction),
    ]
    near += [one + (1 << (fraction - 1)), infinity - 1, infinity, infinity + 1, infinity | (1 << (fraction - 1)) | 1]
    return [bits | side for bits in near for side in (0, sign)]


def operands(dtype: DType, count: int, *, seed: str, extra: int = 512) -> list[Array]:
    """Arrays for `count` operands: every combination of special values, or many, then random bits."""
    specials = np.array(special_bits(dtype), np.uint64)
    draw = stream(f"{seed}/{dtype}/{count}")
    if len(specials) ** count <= MOST_COMBINATIONS:
        columns = np.array(list(itertools.product(specials, repeat=count)), np.uint64).T
    else:
        columns = specials[draw.bits(MOST_COMBINATIONS * count) % np.uint32(len(specials))].reshape(count, -1)
    words = draw.bits(2 * extra * count).astype(np.uint64).reshape(count, 2, extra)
    random = (words[:, 0] << np.uint64(32)) | words[:, 1]
    together = np.concatenate([columns, random & np.uint64((1 << dtype.bits) - 1)], axis=1)
    return [column.astype(f"u{dtype.bytes}").view(dtype.numpy) for column in together]


def padded(arrays: Sequence[Array], multiple: int) -> list[Array]:
    """Repeat the arrays' beginnings until their length is a multiple."""
    size = -(-len(arrays[0]) // multiple) * multiple
    return [np.resize(array, size) for array in arrays]


def pointwise(name: str, args: Sequence[str], count: int, *, result: str = "", imms: tuple[int, ...] = ()) -> Kernel:
    """A strict kernel that applies a pure form to `count` elements: buffers a0, a1, ... in, `out` out.

    `args` are the operand types; a bool operand is made from an i32 buffer, a bool result stored as i32.
    """
    types = [parse_type(text) for text in args]
    b = Builder("pointwise", numeric="fast" if form(name).extension == "math" else "strict")
    lanes = types[0].lanes
    sources = [b.buffer(f"a{i}", _stored(t.dtype).name, count, "read") for i, t in enumerate(types)]
    has_type = any(o.role is Role.TYPE for o in form(name).operands)
    item = _group_index(b, count // (LANES * lanes))
    values = [_load(b, source, item, t) for source, t in zip(sources, types, strict=True)]
    made = b.op(name, *values, imms=imms, type=result if has_type else None)
    out_dtype = _stored(made.type.dtype)
    target = b.buffer("out", out_dtype.name, count // lanes * made.type.lanes, "write")
    _store(b, target, item, made)
    return b.build()


def _stored(dtype: DType) -> DType:
    return DTYPES["i32"] if dtype == BOOL else dtype


def _group_index(b: Builder, groups: int) -> Reg:
    g, lane = b.grid(groups), b.lane(LANES)
    return b.add(b.mul(g, b.const("i32", LANES)), lane)


def _load(b: Builder, source: Mem, item: Reg, type_: Type) -> Reg:
    if type_.lanes == 1:
        value = b.load(source, item)
    else:
        value = b.load_vec(source, b.mul(item, b.const("i32", type_.lanes)), type_.lanes)
    return b.lt(b.splat(b.const("i32", 0), type_.lanes), value) if type_.dtype == BOOL else value


def _store(b: Builder, target: Mem, item: Reg, value: Reg) -> None:
    if value.type.dtype == BOOL:
        lanes = value.type.lanes
        false = b.splat(b.const("bool", False), lanes)
        zero, one = (b.splat(b.const("i32", n), lanes) for n in (0, 1))
        value = b.op("phi.eq", value, false, zero, one)
    if value.type.lanes == 1:
        b.store(target, item, value)
    else:
        b.store_vec(target, b.mul(item, b.const("i32", value.type.lanes)), value)


def same(actual: Array, expected: Array) -> Array:
    """Where two arrays agree in every bit, or are both NaN."""
    bits = f"u{actual.dtype.itemsize}"
    equal = actual.view(bits) == expected.view(bits)
    if actual.dtype.kind in "iu":
        return equal
    with np.errstate(invalid="ignore"):  # ml_dtypes raises the flag for signalling NaN
        return equal | (np.isnan(actual) & np.isnan(expected))


def assert_same(actual: Array, expected: Array, *operands: Array) -> None:
    """Fail with the first element that differs and its operands."""
    wrong = np.flatnonzero(~same(actual, expected))
    if len(wrong):
        at = int(wrong[0])
        given = ", ".join(repr(o[at]) for o in operands if len(o) == len(actual))
        raise AssertionError(
            f"{len(wrong)} of {len(actual)} differ, first at {at}: f({given}) = {actual[at]!r}, not {expected[at]!r}"
        )
