"""Cases of scalar loads and stores and of asynchronous copies: every dtype, gates, permutations, shared memory.

A closed gate must make no access at all: where it is false the index points far outside of the buffer.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from portkit.conformance.case import Case, Cell, Tier
from portkit.conformance.cases.cells import form_cells
from portkit.conformance.cases.draws import Draws, Patterns, as_array
from portkit.conformance.cases.inputs import random_values
from portkit.conformance.cases.kernelcase import Arrays, Build, Data, KernelCase, Scalars, rows_to_cases
from portkit.conformance.cases.mapping import (
    GROUP,
    WORD_BYTES,
    Frame,
    affine,
    geometry,
    load_item,
    map_kernel,
    repeats,
    store_item,
    truth,
    unchanged,
)
from portkit.conformance.cases.plan import SMOKE_TYPES
from portkit.conformance.cases.specials import finite_specials, nonfinite_specials
from portkit.contract import Capabilities
from portkit.spec.builder import Builder, Reg
from portkit.spec.forms import FORMS
from portkit.spec.kernel import Kernel, Numeric
from portkit.spec.types import DTYPES, DType, parse_type

ITEMS = 1000
FAR = 1 << 28
"""Added to the index where the gate is closed; an access there is outside of every buffer."""
CHUNK = 4
"""Elements of each asynchronous copy: whole words in every dtype."""


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the cases of load, store, load.async and wait.token."""
    for form, rows in (("load", _load_rows), ("store", _store_rows), ("load.async", _async_rows)):
        for cell in form_cells(FORMS[form], capabilities):
            yield from rows_to_cases(rows(cell), capabilities)


def memory_values(case_id: str, dtype: DType, count: int) -> Patterns:
    """Return special values of every kind, NaN payloads included, then random bits: what memory must carry."""
    draws = Draws(case_id)
    special = np.array(finite_specials(dtype) + nonfinite_specials(dtype), dtype=np.uint64)[:count]
    return np.concatenate([special, random_values(draws, dtype, count - len(special))])


def far_where_closed(builder: Builder, index: Reg, mask: Reg) -> tuple[Reg, Reg]:
    """Return the gate `mask != 0` and an index that is far outside where it is false."""
    gate = truth(builder, mask)
    far = builder.add(index, builder.const("i32", FAR))
    return gate, builder.lt(builder.const("i32", 0), mask, index, far)


def _rows(cell: Cell, variants: dict[str, tuple[Build, Data]], smoke: str) -> Iterator[KernelCase]:
    for name, (build, data) in variants.items():
        tier = Tier.SMOKE if name == smoke and cell.dtype in SMOKE_TYPES else Tier.STANDARD
        yield KernelCase(f"ops/{cell.form}/{cell.dtype}/{name}", build, data, (cell,), tier)


# --- load ---------------------------------------------------------------------------------------------------------


def _load_rows(cell: Cell) -> Iterator[KernelCase]:
    dtype = DTYPES[cell.dtype]
    variants: dict[str, tuple[Build, Data]] = {
        "special": (partial(copy_kernel, dtype.name), partial(_copy_data, dtype)),
        "gate": (partial(gated_load_kernel, dtype.name), partial(_gated_load_data, dtype)),
        "permuted": (partial(permuted_load_kernel, dtype.name), partial(_permuted_load_data, dtype)),
        "uniform": (partial(uniform_load_kernel, dtype.name), partial(_copy_data, dtype)),
        "shared": (partial(shared_kernel, dtype.name), partial(_copy_data, dtype)),
    }
    yield from _rows(cell, variants, "special")


def copy_kernel(dtype: str, numeric: Numeric) -> Kernel:
    """out[i] = a[i], gated at the tail only."""
    return map_kernel(f"copy_{dtype}", (dtype,), (dtype,), unchanged, numeric)


def _elements(dtype: DType) -> int:
    return ITEMS * repeats([parse_type(dtype.name)])


def _copy_data(dtype: DType, case_id: str) -> tuple[Scalars, Arrays]:
    values = memory_values(case_id, dtype, _elements(dtype))
    return geometry(ITEMS), {"a": as_array(dtype, values)}


def gated_load_kernel(dtype: str, numeric: Numeric) -> Kernel:
    """out[i] = a[i] where mask[i], else b[i]; a closed gate's index is far outside."""
    frame, type_ = Frame.open(f"gated_load_{dtype}", numeric), parse_type(dtype)
    builder, count = frame.builder, repeats([type_])
    a, b = (frame.buffer(name, type_, count, "read") for name in "ab")
    masks = frame.buffer("mask", parse_type("i32"), count, "read")
    target = frame.buffer("out", type_, count, "write")
    for part in range(count):
        at = affine(builder, frame.item, count, part)
        mask = load_item(builder, masks, at, parse_type("i32"), frame.inside)
        other = load_item(builder, b, at, type_, frame.inside)
        gate, index = far_where_closed(builder, at, mask)
        store_item(builder, target, at, type_, builder.load(a, index, gate=gate, other=other), frame.inside)
    return builder.build()


def _gated_load_data(dtype: DType, case_id: str) -> tuple[Scalars, Arrays]:
    count = _elements(dtype)
    arrays = {name: as_array(dtype, memory_values(f"{case_id}:{name}", dtype, count)) for name in "ab"}
    return geometry(ITEMS), arrays | {"mask": mask_data(case_id, count)}


def mask_data(case_id: str, count: int) -> np.ndarray:
    """Return 0 and 1 with runs of both at the ends."""
    mask = Draws(f"{case_id}:mask").bits(1, count).astype(np.int32)
    mask[:16], mask[16:32], mask[-1] = 0, 1, 0
    return mask


def permuted_load_kernel(dtype: str, numeric: Numeric) -> Kernel:
    """out[i] = a[place[i]]."""
    frame, type_ = Frame.open(f"permuted_load_{dtype}", numeric), parse_type(dtype)
    builder, count = frame.builder, repeats([type_])
    source, places = frame.buffer("a", type_, count, "read"), frame.buffer("place", parse_type("i32"), count, "read")
    target = frame.buffer("out", type_, count, "write")
    for part in range(count):
        at = affine(builder, frame.item, count, part)
        place = load_item(builder, places, at, parse_type("i32"), frame.inside)
        store_item(builder, target, at, type_, load_item(builder, source, place, type_, frame.inside), frame.inside)
    return builder.build()


def _permuted_load_data(dtype: DType, case_id: str) -> tuple[Scalars, Arrays]:
    count = _elements(dtype)
    places = Draws(f"{case_id}:place").integers(0, count - 1, count).astype(np.int32)
    return geometry(ITEMS), {"a": as_array(dtype, memory_values(case_id, dtype, count)), "place": places}


def uniform_load_kernel(dtype: str, numeric: Numeric) -> Kernel:
    """Every lane of a work-group loads the element with the group's number."""
    frame, type_ = Frame.open(f"uniform_load_{dtype}", numeric), parse_type(dtype)
    builder, count = frame.builder, repeats([type_])
    source, target = frame.buffer("a", type_, count, "read"), frame.buffer("out", type_, count, "write")
    group = builder.op("mul.shr", frame.item, builder.const("i32", GROUP.bit_length() - 1))
    for part in range(count):
        value = load_item(builder, source, group, type_, frame.inside)
        store_item(builder, target, affine(builder, frame.item, count, part), type_, value, frame.inside)
    return builder.build()


def shared_kernel(dtype: str, numeric: Numeric) -> Kernel:
    """Each lane writes its own words of a shared array and reads them back."""
    type_ = parse_type(dtype)
    count = repeats([type_])
    frame = Frame.open(f"shared_{dtype}", numeric)
    builder = frame.builder
    source, target = frame.buffer("a", type_, count, "read"), frame.buffer("out", type_, count, "write")
    stage = builder.shared("stage", dtype, GROUP * count)
    lane = builder.op("reduce.and", frame.item, builder.const("i32", GROUP - 1))
    for part in range(count):
        at, own = affine(builder, frame.item, count, part), affine(builder, lane, count, part)
        builder.store(stage, own, load_item(builder, source, at, type_, frame.inside))
        store_item(builder, target, at, type_, builder.load(stage, own), frame.inside)
    return builder.build()


# --- store --------------------------------------------------------------------------------------------------------


def _store_rows(cell: Cell) -> Iterator[KernelCase]:
    dtype = DTYPES[cell.dtype]
    variants: dict[str, tuple[Build, Data]] = {
        "special": (partial(copy_kernel, dtype.name), partial(_copy_data, dtype)),
        "gate": (partial(gated_store_kernel, dtype.name), partial(_gated_store_data, dtype)),
        "permuted": (partial(permuted_store_kernel, dtype.name), partial(_permuted_store_data, dtype)),
        "overwrite": (partial(overwrite_kernel, dtype.name), partial(_overwrite_data, dtype)),
    }
    yield from _rows(cell, variants, "special")


def gated_store_kernel(dtype: str, numeric: Numeric) -> Kernel:
    """out[i] = a[i] where mask[i]; the others keep what they held; a closed gate's index is far outside."""
    frame, type_ = Frame.open(f"gated_store_{dtype}", numeric), parse_type(dtype)
    builder, count = frame.builder, repeats([type_])
    source, masks = frame.buffer("a", type_, count, "read"), frame.buffer("mask", parse_type("i32"), count, "read")
    target = frame.buffer("out", type_, count, "readwrite")
    for part in range(count):
        at = affine(builder, frame.item, count, part)
        mask = load_item(builder, masks, at, parse_type("i32"), frame.inside)
        gate, index = far_where_closed(builder, at, mask)
        builder.store(target, index, load_item(builder, source, at, type_, frame.inside), gate=gate)
    return builder.build()


def _gated_store_data(dtype: DType, case_id: str) -> tuple[Scalars, Arrays]:
    count = _elements(dtype)
    arrays = {name: as_array(dtype, memory_values(f"{case_id}:{name}", dtype, count)) for name in ("a", "out")}
    return geometry(ITEMS), arrays | {"mask": mask_data(case_id, count)}


def permuted_store_kernel(dtype: str, numeric: Numeric) -> Kernel:
    """Item i stores its words at item place[i]."""
    frame, type_ = Frame.open(f"permuted_store_{dtype}", numeric), parse_type(dtype)
    builder, count = frame.builder, repeats([type_])
    source, places = frame.buffer("a", type_, count, "read"), frame.buffer("place", parse_type("i32"), 1, "read")
    target = frame.buffer("out", type_, count, "write")
    place = load_item(builder, places, frame.item, parse_type("i32"), frame.inside)
    for part in range(count):
        value = load_item(builder, source, affine(builder, frame.item, count, part), type_, frame.inside)
        store_item(builder, target, affine(builder, place, count, part), type_, value, frame.inside)
    return builder.build()


def _permuted_store_data(dtype: DType, case_id: str) -> tuple[Scalars, Arrays]:
    places = Draws(f"{case_id}:place").permutation(ITEMS).astype(np.int32)
    return geometry(ITEMS), {"a": as_array(dtype, memory_values(case_id, dtype, _elements(dtype))), "place": places}


def overwrite_kernel(dtype: str, numeric: Numeric) -> Kernel:
    """Each lane stores a constant, reads it, stores the loaded value over it: program order within one lane."""
    frame, type_ = Frame.open(f"overwrite_{dtype}", numeric), parse_type(dtype)
    builder, count = frame.builder, repeats([type_])
    source, target = frame.buffer("a", type_, count, "read"), frame.buffer("out", type_, count, "readwrite")
    for part in range(count):
        at = affine(builder, frame.item, count, part)
        store_item(builder, target, at, type_, builder.const(dtype, 1), frame.inside)
        seen = load_item(builder, target, at, type_, frame.inside)
        value = load_item(builder, source, at, type_, frame.inside)
        chosen = builder.eq(_comparable(builder, seen), _comparable(builder, builder.const(dtype, 1)), value, seen)
        store_item(builder, target, at, type_, chosen, frame.inside)
    return builder.build()


def _comparable(builder: Builder, value: Reg) -> Reg:
    """The value, or as f32 where its dtype has no comparison (f8)."""
    return value if value.type.dtype in FORMS["phi.eq"].dtypes("T") else builder.cast(value, "f32")


def _overwrite_data(dtype: DType, case_id: str) -> tuple[Scalars, Arrays]:
    count = _elements(dtype)
    arrays = {name: as_array(dtype, memory_values(f"{case_id}:{name}", dtype, count)) for name in ("a", "out")}
    return geometry(ITEMS), arrays


# --- load.async ---------------------------------------------------------------------------------------------------


def _async_rows(cell: Cell) -> Iterator[KernelCase]:
    dtype = DTYPES[cell.dtype]
    cells = (cell, Cell("wait.token", "i32"))
    variants = [("own", 0, CHUNK), ("neighbour", 1, CHUNK)]
    if dtype.bytes == WORD_BYTES:
        variants += [(f"chunk_{count}", 3, count) for count in (1, 3, 17)]
    for name, shift, count in variants:
        build, data = partial(async_kernel, dtype.name, shift, count), partial(_async_data, dtype, count)
        yield KernelCase(f"ops/load.async/{dtype.name}/{name}", build, data, cells)


def async_kernel(dtype: str, shift: int, count: int, numeric: Numeric) -> Kernel:
    """Each lane copies `count` elements to shared memory, waits, meets the others, stores those of lane + shift."""
    builder = Builder(f"async_{dtype}_{shift}_{count}", numeric)
    extent = ("groups", GROUP * count)
    source, target = builder.buffer("a", dtype, extent, "read"), builder.buffer("out", dtype, extent, "write")
    stage = builder.shared("stage", dtype, GROUP * count)
    group, lane = builder.grid(builder.scalar("groups", "i32")), builder.lane(GROUP)
    item = builder.add(builder.mul(group, builder.const("i32", GROUP)), lane)
    start, own = affine(builder, item, count, 0), affine(builder, lane, count, 0)
    builder.wait(builder.async_copy(stage, own, source, start, count))
    builder.barrier()
    other = builder.op("reduce.and", affine(builder, lane, 1, shift), builder.const("i32", GROUP - 1))
    for part in range(count):
        value = builder.load(stage, affine(builder, other, count, part))
        builder.store(target, affine(builder, item, count, part), value)
    return builder.build()


def _async_data(dtype: DType, count: int, case_id: str) -> tuple[Scalars, Arrays]:
    groups = 3
    return {"groups": groups}, {"a": as_array(dtype, memory_values(case_id, dtype, groups * GROUP * count))}
