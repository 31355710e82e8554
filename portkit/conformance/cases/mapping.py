"""The kernel shape of the `ops` level: each work-item loads its operands, applies one form, stores the results.

    buffer a f32[n] read
    buffer out f32[n] write
    scalar n i32
    scalar groups i32
    begin
    g = loop.grid groups
    l = loop.lane 64
    i = ... g * 64 + l
    p = phi.lt i n ...          # the last work-group is ragged
    x = load a i if p else zero
    ...
    store out i y if p
    endloop l
    endloop g

Where results are narrower than 32 bits a work-item handles several consecutive ones, so that one lane owns each 32-bit
word; `bool` has no memory and travels as i32 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt

from portkit.conformance.case import Trial
from portkit.conformance.cases.draws import Patterns, as_array
from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.kernel import Access, Kernel, Numeric
from portkit.spec.types import DTYPES, Type, parse_type

GROUP = 64
WORD_BYTES = 4

Emit = Callable[..., Sequence[Reg] | Reg]
"""Given the builder and the operand registers, gives the result registers."""


def memory_dtype(type_: Type) -> str:
    """Return the dtype that a type has in memory: i32 stands for bool."""
    return "i32" if type_.dtype.name == "bool" else type_.dtype.name


def repeats(outputs: Sequence[Type]) -> int:
    """Return how many consecutive results a work-item stores so that it owns whole 32-bit words."""
    sizes = [DTYPES[memory_dtype(t)].bytes * t.lanes for t in outputs]
    return max(1, *(WORD_BYTES // gcd(size, WORD_BYTES) for size in sizes))


def map_kernel(
    name: str, operands: Sequence[str], results: Sequence[str], emit: Emit, numeric: Numeric = "fast"
) -> Kernel:
    """Build the kernel of a map over items.

    Buffers `a b c ...` hold the operands, `out` or `out0 out1 ...` the results. `operands` and `results` are types such
    as `f32x4`. Scalars: `n` items, `groups` work-groups of 64.
    """
    frame = Frame.open(name, numeric)
    builder = frame.builder
    in_types, out_types = [parse_type(t) for t in operands], [parse_type(t) for t in results]
    count = repeats(out_types)
    sources = [frame.buffer(name, t, count, "read") for name, t in zip("abcdefg", in_types, strict=False)]
    names = output_names(results)
    targets = [frame.buffer(name, t, count, "write") for name, t in zip(names, out_types, strict=True)]
    for part in range(count):
        at = affine(builder, frame.item, count, part)
        values = [load_item(builder, m, at, t, frame.inside) for m, t in zip(sources, in_types, strict=True)]
        given = emit(builder, *values)
        for memory, type_, value in zip(targets, out_types, [given] if isinstance(given, Reg) else given, strict=True):
            store_item(builder, memory, at, type_, value, frame.inside)
    return builder.build()


@dataclass(frozen=True, slots=True)
class Frame:
    """An open kernel over `n` items: one work-item per item, the last work-group ragged."""

    builder: Builder
    item: Reg
    inside: Reg

    @classmethod
    def open(cls, name: str, numeric: Numeric = "fast", lanes: int = GROUP) -> Frame:
        """Declare the scalars `n` and `groups`, open the grid and the lane loop."""
        builder = Builder(name, numeric)
        size, groups = builder.scalar("n", "i32"), builder.scalar("groups", "i32")
        group = builder.grid(groups)
        lane = builder.lane(lanes)
        item = builder.add(builder.mul(group, builder.const("i32", lanes)), lane)
        return cls(builder, item, builder.lt(item, size))

    def buffer(self, name: str, type_: Type, count: int, access: Access) -> Mem:
        """Declare a buffer of `count` consecutive values per item."""
        size = type_.lanes * count
        factors: tuple[int | str, ...] = ("n", size) if size > 1 else ("n",)
        return self.builder.buffer(name, memory_dtype(type_), factors, access)


def geometry(items: int, lanes: int = GROUP) -> dict[str, int | float]:
    """Return the scalars of a launch over `items` items."""
    return {"n": items, "groups": (items + lanes - 1) // lanes}


def affine(builder: Builder, index: Reg, factor: int, offset: int) -> Reg:
    """Return index * factor + offset."""
    scaled = index if factor == 1 else builder.mul(index, builder.const("i32", factor))
    return scaled if offset == 0 else builder.add(scaled, builder.const("i32", offset))


def output_names(results: Sequence[str]) -> list[str]:
    """Return the names of the result buffers: `out`, or `out0 out1 ...` for several."""
    return ["out"] if len(results) == 1 else [f"out{k}" for k in range(len(results))]


def load_item(builder: Builder, memory: Mem, at: Reg, type_: Type, inside: Reg) -> Reg:
    """Load the item `at` (a scalar or a whole vector) where `inside`, else zeros; bool is decoded from i32."""
    stored = Type(DTYPES[memory_dtype(type_)], type_.lanes)
    zero = builder.const(stored.dtype.name, 0)
    if type_.lanes == 1:
        value = builder.load(memory, at, gate=inside, other=zero)
    else:
        value = builder.load_vec(
            memory,
            start_of(builder, at, type_),
            type_.lanes,
            natural_alignment(stored),
            gate=builder.splat(inside, type_.lanes),
            other=builder.splat(zero, type_.lanes),
        )
    return truth(builder, value) if type_.dtype.name == "bool" else value


def store_item(builder: Builder, memory: Mem, at: Reg, type_: Type, value: Reg, inside: Reg) -> None:
    """Store the item `at` (a scalar or a whole vector) where `inside`; bool is encoded as i32 0 and 1."""
    stored = number(builder, value) if type_.dtype.name == "bool" else value
    if type_.lanes == 1:
        builder.store(memory, at, stored, gate=inside)
        return
    gate = builder.splat(inside, type_.lanes)
    builder.store_vec(memory, start_of(builder, at, type_), stored, natural_alignment(stored.type), gate=gate)


def start_of(builder: Builder, at: Reg, type_: Type) -> Reg:
    """Return the index of the first element of item `at`."""
    return builder.mul(at, builder.const("i32", type_.lanes))


def natural_alignment(type_: Type) -> int:
    """Return the largest power of two, up to 64 bytes, at which consecutive vectors of a type all lie."""
    size = type_.bits // 8
    return min(size & -size, 64)


def unchanged(builder: Builder, value: Reg) -> Reg:
    """Emit nothing: the map that copies."""
    del builder
    return value


def truth(builder: Builder, value: Reg) -> Reg:
    """Return i32 0 and 1 as bool, lane by lane."""
    lanes = value.type.lanes
    return builder.lt(builder.splat(builder.const("i32", 0), lanes), value)


def number(builder: Builder, value: Reg) -> Reg:
    """Return bool as i32 0 and 1, lane by lane."""
    lanes = value.type.lanes
    yes = builder.splat(builder.const("bool", True), lanes)
    one, zero = (builder.splat(builder.const("i32", k), lanes) for k in (1, 0))
    return builder.eq(value, yes, one, zero)


def map_trial(kernel: Kernel, operands: Sequence[str], results: Sequence[str], patterns: Sequence[Patterns]) -> Trial:
    """Return a launch of a map kernel on operand patterns, repeated up to whole items."""
    types = [parse_type(t) for t in operands]
    count = repeats([parse_type(t) for t in results])
    per_item = [t.lanes * count for t in types]
    items = max((len(p) + size - 1) // size for p, size in zip(patterns, per_item, strict=True))
    items += items % GROUP == 0  # keep the last work-group ragged
    inputs = {
        name: fit(type_, pattern, items * size)
        for name, type_, pattern, size in zip("abcdefg", types, patterns, per_item, strict=False)
    }
    return Trial(kernel, geometry(items), inputs)


def fit(type_: Type, patterns: Patterns, size: int) -> npt.NDArray[Any]:
    """Return an array of exactly `size` elements, the patterns repeated from the start."""
    return as_array(type_.dtype, np.resize(patterns, size))
