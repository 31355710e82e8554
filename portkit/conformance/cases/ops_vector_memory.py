"""Cases of vector memory forms: contiguous loads and stores at declared alignments, gather, scatter, gates per lane."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from portkit.conformance.case import Case, Cell, Tier
from portkit.conformance.cases.cells import available, form_cells
from portkit.conformance.cases.draws import Draws, as_array
from portkit.conformance.cases.kernelcase import Arrays, KernelCase, Scalars, rows_to_cases
from portkit.conformance.cases.mapping import (
    WORD_BYTES,
    Frame,
    affine,
    geometry,
    load_item,
    map_kernel,
    natural_alignment,
    repeats,
    start_of,
    store_item,
    truth,
    unchanged,
)
from portkit.conformance.cases.ops_memory import FAR, mask_data, memory_values
from portkit.conformance.cases.plan import type_text
from portkit.contract import Capabilities
from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.forms import FORMS
from portkit.spec.kernel import Kernel, Numeric
from portkit.spec.types import I32, Type, parse_type

ITEMS = 500
SHARED_GROUP = 16
"""Work-items that share memory: 16 of the widest vectors, 64 f64, fit the 16 KiB of every device."""


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the cases of load.vec, store.vec, load.gather and store.scatter."""
    for form, variants in _VARIANTS.items():
        if not available(FORMS[form], capabilities):
            continue
        for cell in form_cells(FORMS[form], capabilities):
            yield from rows_to_cases((_row(cell, name, *pair) for name, pair in variants.items()), capabilities)


Shape = Callable[[Type, Numeric], Kernel]
Contents = Callable[[Type, str], tuple[Scalars, Arrays]]


def _row(cell: Cell, name: str, shape: Shape, contents: Contents) -> KernelCase:
    type_ = parse_type(type_text(cell.dtype, cell.lanes))
    smoke = name == "special" and cell.dtype in ("f32", "i32") and cell.lanes == 4
    tier = Tier.SMOKE if smoke else Tier.STANDARD
    return KernelCase(f"ops/{cell.form}/{type_}/{name}", partial(shape, type_), partial(contents, type_), (cell,), tier)


def _elements(type_: Type) -> int:
    return ITEMS * type_.lanes * repeats([type_])


def _values(type_: Type, case_id: str, *names: str, extra: int = 0) -> dict[str, np.ndarray]:
    count = _elements(type_) + extra
    return {name: as_array(type_.dtype, memory_values(f"{case_id}:{name}", type_.dtype, count)) for name in names}


# --- contiguous ---------------------------------------------------------------------------------------------------


def copy_kernel(type_: Type, numeric: Numeric) -> Kernel:
    """out[i] = a[i], whole vectors at their natural alignment."""
    return map_kernel(f"copy_{type_}", (str(type_),), (str(type_),), unchanged, numeric)


def _copy_data(type_: Type, case_id: str) -> tuple[Scalars, Arrays]:
    return geometry(ITEMS), _values(type_, case_id, "a")


def offset_of(type_: Type) -> int:
    """Return the smallest offset in elements that is no multiple of the vector but keeps words whole."""
    return max(1, WORD_BYTES // type_.dtype.bytes)


def offset_kernel(type_: Type, numeric: Numeric) -> Kernel:
    """out[i + offset] = a[i + offset], aligned to the element or word only."""
    frame = Frame.open(f"offset_{type_}", numeric)
    builder, count, offset = frame.builder, repeats([type_]), offset_of(type_)
    extent = ("n", type_.lanes * count * 2)
    source = builder.buffer("a", type_.dtype.name, extent, "read")
    target = builder.buffer("out", type_.dtype.name, extent, "readwrite")
    align = offset * type_.dtype.bytes
    gate = builder.splat(frame.inside, type_.lanes)
    zero = builder.splat(builder.const(type_.dtype.name, 0), type_.lanes)
    for part in range(count):
        start = start_of(builder, affine(builder, frame.item, count, part), type_)
        index = affine(builder, start, 1, offset)
        value = builder.load_vec(source, index, type_.lanes, align, gate=gate, other=zero)
        builder.store_vec(target, index, value, align, gate=gate)
    return builder.build()


def _offset_data(type_: Type, case_id: str) -> tuple[Scalars, Arrays]:
    return geometry(ITEMS), _values(type_, case_id, "a", "out", extra=_elements(type_))


def ungated_kernel(type_: Type, numeric: Numeric) -> Kernel:
    """out[i] = a[i] without gates, over whole work-groups."""
    builder = Builder(f"ungated_{type_}", numeric)
    count = repeats([type_])
    extent = ("groups", 64 * type_.lanes * count)
    source = builder.buffer("a", type_.dtype.name, extent, "read")
    target = builder.buffer("out", type_.dtype.name, extent, "write")
    group, lane = builder.grid(builder.scalar("groups", "i32")), builder.lane(64)
    item = builder.add(builder.mul(group, builder.const("i32", 64)), lane)
    align = natural_alignment(type_)
    for part in range(count):
        start = start_of(builder, affine(builder, item, count, part), type_)
        builder.store_vec(target, start, builder.load_vec(source, start, type_.lanes, align), align)
    return builder.build()


def _ungated_data(type_: Type, case_id: str) -> tuple[Scalars, Arrays]:
    groups = 3
    count = groups * 64 * type_.lanes * repeats([type_])
    return {"groups": groups}, {"a": as_array(type_.dtype, memory_values(case_id, type_.dtype, count))}


def _masks(frame: Frame, type_: Type, masks: Mem, at: Reg) -> Reg:
    return truth(frame.builder, load_item(frame.builder, masks, at, Type(I32, type_.lanes), frame.inside))


def gated_load_kernel(type_: Type, numeric: Numeric) -> Kernel:
    """out[i] = a[i] lane by lane where the mask is set, else b[i]."""
    frame, count = Frame.open(f"gated_load_{type_}", numeric), repeats([type_])
    builder = frame.builder
    a, b = (frame.buffer(name, type_, count, "read") for name in "ab")
    masks, target = (
        frame.buffer("mask", Type(I32, type_.lanes), count, "read"),
        frame.buffer("out", type_, count, "write"),
    )
    for part in range(count):
        at = affine(builder, frame.item, count, part)
        gate = _masks(frame, type_, masks, at)
        other = load_item(builder, b, at, type_, frame.inside)
        start = builder.lt(
            builder.const("bool", False), frame.inside, start_of(builder, at, type_), builder.const("i32", 0)
        )
        value = builder.load_vec(a, start, type_.lanes, natural_alignment(type_), gate=gate, other=other)
        store_item(builder, target, at, type_, value, frame.inside)
    return builder.build()


def gated_store_kernel(type_: Type, numeric: Numeric) -> Kernel:
    """out[i] = a[i] lane by lane where the mask is set; the others keep what they held."""
    frame, count = Frame.open(f"gated_store_{type_}", numeric), repeats([type_])
    builder = frame.builder
    source, masks = frame.buffer("a", type_, count, "read"), frame.buffer("mask", Type(I32, type_.lanes), count, "read")
    target = frame.buffer("out", type_, count, "readwrite")
    for part in range(count):
        at = affine(builder, frame.item, count, part)
        value = load_item(builder, source, at, type_, frame.inside)
        gate = _masks(frame, type_, masks, at)
        builder.store_vec(target, start_of(builder, at, type_), value, natural_alignment(type_), gate=gate)
    return builder.build()


def _gated_data(type_: Type, case_id: str) -> tuple[Scalars, Arrays]:
    arrays = _values(type_, case_id, "a", "b")
    return geometry(ITEMS), arrays | {"mask": mask_data(case_id, _elements(type_))}


def _gated_store_data(type_: Type, case_id: str) -> tuple[Scalars, Arrays]:
    arrays = _values(type_, case_id, "a", "out")
    return geometry(ITEMS), arrays | {"mask": mask_data(case_id, _elements(type_))}


def shared_kernel(type_: Type, numeric: Numeric) -> Kernel:
    """Vectors through the work-item's own place in shared memory, stored and loaded at their natural alignment."""
    frame, count = Frame.open(f"shared_{type_}", numeric, SHARED_GROUP), repeats([type_])
    builder = frame.builder
    source, target = frame.buffer("a", type_, count, "read"), frame.buffer("out", type_, count, "write")
    stage = builder.shared("stage", type_.dtype.name, SHARED_GROUP * count * type_.lanes)
    lane, align = builder.op("reduce.and", frame.item, builder.const("i32", SHARED_GROUP - 1)), natural_alignment(type_)
    for part in range(count):
        at, own = (affine(builder, index, count, part) for index in (frame.item, lane))
        start = start_of(builder, own, type_)
        builder.store_vec(stage, start, load_item(builder, source, at, type_, frame.inside), align)
        value = builder.load_vec(stage, start, type_.lanes, align)
        store_item(builder, target, at, type_, value, frame.inside)
    return builder.build()


def _shared_data(type_: Type, case_id: str) -> tuple[Scalars, Arrays]:
    return geometry(ITEMS, SHARED_GROUP), _values(type_, case_id, "a")


def shuffle_kernel(type_: Type, numeric: Numeric) -> Kernel:
    """Scatters a vector to the work-item's own place in shared memory, turned by one lane, and gathers it reversed."""
    frame, count = Frame.open(f"shuffle_{type_}", numeric, SHARED_GROUP), repeats([type_])
    builder, lanes = frame.builder, type_.lanes
    source, target = frame.buffer("a", type_, count, "read"), frame.buffer("out", type_, count, "write")
    stage = builder.shared("stage", type_.dtype.name, SHARED_GROUP * count * lanes)
    lane = builder.op("reduce.and", frame.item, builder.const("i32", SHARED_GROUP - 1))
    turned = builder.op("mov.pack", *(builder.const("i32", (k + 1) % lanes) for k in range(lanes)))
    reverse = builder.op("mov.pack", *(builder.const("i32", lanes - 1 - k) for k in range(lanes)))
    for part in range(count):
        at, own = (affine(builder, index, count, part) for index in (frame.item, lane))
        start = builder.splat(start_of(builder, own, type_), lanes)
        value = load_item(builder, source, at, type_, frame.inside)
        builder.store(stage, builder.add(start, turned), value)
        store_item(builder, target, at, type_, builder.load(stage, builder.add(start, reverse)), frame.inside)
    return builder.build()


# --- gather and scatter -------------------------------------------------------------------------------------------


def _places(frame: Frame, type_: Type, places: Mem, at: Reg) -> Reg:
    return load_item(frame.builder, places, at, Type(I32, type_.lanes), frame.inside)


def gather_kernel(type_: Type, numeric: Numeric) -> Kernel:
    """out[i] = a[place[i]], one index per lane."""
    frame, count = Frame.open(f"gather_{type_}", numeric), repeats([type_])
    source, places = (
        frame.buffer("a", type_, count, "read"),
        frame.buffer("place", Type(I32, type_.lanes), count, "read"),
    )
    target = frame.buffer("out", type_, count, "write")
    for part in range(count):
        at = affine(frame.builder, frame.item, count, part)
        value = frame.builder.load(source, _places(frame, type_, places, at))
        store_item(frame.builder, target, at, type_, value, frame.inside)
    return frame.builder.build()


def _gather_data(type_: Type, case_id: str) -> tuple[Scalars, Arrays]:
    count = _elements(type_)
    places = Draws(f"{case_id}:place").integers(0, count - 1, count).astype(np.int32)
    return geometry(ITEMS), _values(type_, case_id, "a") | {"place": places}


def gated_gather_kernel(type_: Type, numeric: Numeric) -> Kernel:
    """out[i] = a[place[i]] where the index is not far outside, else b[i]."""
    frame, count = Frame.open(f"gated_gather_{type_}", numeric), repeats([type_])
    builder = frame.builder
    a, b = (frame.buffer(name, type_, count, "read") for name in "ab")
    places = frame.buffer("place", Type(I32, type_.lanes), count, "read")
    target = frame.buffer("out", type_, count, "write")
    limit = builder.splat(builder.const("i32", FAR), type_.lanes)
    for part in range(count):
        at = affine(builder, frame.item, count, part)
        index = _places(frame, type_, places, at)
        other = load_item(builder, b, at, type_, frame.inside)
        value = builder.load(a, index, gate=builder.lt(index, limit), other=other)
        store_item(builder, target, at, type_, value, frame.inside)
    return builder.build()


def _gated_gather_data(type_: Type, case_id: str) -> tuple[Scalars, Arrays]:
    scalars, arrays = _gather_data(type_, case_id)
    closed = mask_data(case_id, _elements(type_)) * np.int32(FAR)
    return scalars, {**arrays, **_values(type_, case_id, "b"), "place": arrays["place"] + closed}


def scatter_kernel(type_: Type, numeric: Numeric) -> Kernel:
    """out[place[i]] = a[i], one index per lane."""
    frame, count = Frame.open(f"scatter_{type_}", numeric), repeats([type_])
    builder = frame.builder
    source, places = (
        frame.buffer("a", type_, count, "read"),
        frame.buffer("place", Type(I32, type_.lanes), count, "read"),
    )
    target = frame.buffer("out", type_, count, "readwrite")
    limit = builder.splat(builder.const("i32", FAR), type_.lanes)
    inside = builder.splat(frame.inside, type_.lanes)
    for part in range(count):
        at = affine(builder, frame.item, count, part)
        index = _places(frame, type_, places, at)
        gate = builder.op("reduce.and", builder.lt(index, limit), inside)
        builder.store(target, index, load_item(builder, source, at, type_, frame.inside), gate=gate)
    return builder.build()


def _scatter_data(gated: bool, type_: Type, case_id: str) -> tuple[Scalars, Arrays]:
    """Whole words change places, and elements inside a work-item's own words; gated: half of them stay closed."""
    per_item = type_.lanes * repeats([type_])
    whole = max(1, WORD_BYTES // type_.dtype.bytes)
    draws = Draws(f"{case_id}:place")
    count = _elements(type_)
    if whole == 1:
        places = draws.permutation(count)
    else:
        inner = np.argsort(draws.words(count).reshape(ITEMS, per_item), axis=1, kind="stable")
        places = (draws.permutation(ITEMS)[:, None] * per_item + inner).reshape(-1)
    closed = mask_data(case_id, count) * np.int32(FAR) if gated else np.int32(0)
    return geometry(ITEMS), _values(type_, case_id, "a", "out") | {"place": places.astype(np.int32) + closed}


_VARIANTS: dict[str, dict[str, tuple[Shape, Contents]]] = {
    "load.vec": {
        "special": (copy_kernel, _copy_data),
        "offset": (offset_kernel, _offset_data),
        "gate": (gated_load_kernel, _gated_data),
        "shared": (shared_kernel, _shared_data),
    },
    "store.vec": {
        "special": (ungated_kernel, _ungated_data),
        "gate": (gated_store_kernel, _gated_store_data),
    },
    "load.gather": {
        "special": (gather_kernel, _gather_data),
        "gate": (gated_gather_kernel, _gated_gather_data),
        "shared": (shuffle_kernel, _shared_data),
    },
    "store.scatter": {
        "special": (scatter_kernel, partial(_scatter_data, False)),
        "gate": (scatter_kernel, partial(_scatter_data, True)),
    },
}
