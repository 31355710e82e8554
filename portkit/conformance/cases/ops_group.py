"""Cases of reduce.group: every kind, dtype and lane count over one work-group size, several sizes for base types."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from portkit.conformance.case import Case, Cell, Tier
from portkit.conformance.cases.cells import available, form_cells
from portkit.conformance.cases.draws import Patterns, as_array
from portkit.conformance.cases.kernelcase import Arrays, KernelCase, Scalars, rows_to_cases
from portkit.conformance.cases.mapping import (
    affine,
    memory_dtype,
    natural_alignment,
    number,
    repeats,
    start_of,
    truth,
)
from portkit.conformance.cases.ops_vector import fold_sets, telling_sets
from portkit.conformance.cases.plan import InputSet, type_text
from portkit.contract import Capabilities
from portkit.spec.builder import Builder
from portkit.spec.forms import FORMS
from portkit.spec.kernel import Kernel, Numeric
from portkit.spec.types import DTYPES, DType, Type, parse_type

LANES = 32
GROUPS = 6
SIZES = (1, 2, 3, 7, 31, 33, 64, 100, 128, 255, 256)
"""Work-group sizes around powers of two; every device takes 256 (Spec: limit_c1)."""
SIZED_TYPES = ("i32", "u32", "f32")


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the cases of every declared reduce.group form."""
    for form in (f for f in FORMS.values() if f.name.startswith("reduce.group.") and available(f, capabilities)):
        for cell in form_cells(form, capabilities):
            yield from rows_to_cases(_rows(cell), capabilities)


def _rows(cell: Cell) -> Iterator[KernelCase]:
    type_, kind = parse_type(type_text(cell.dtype, cell.lanes)), FORMS[cell.form].kind
    sets = fold_sets(kind, type_.dtype, LANES, type_.lanes)
    if cell.lanes == 1:
        sets |= telling_sets(kind, type_.dtype, LANES)
    yield from _set_rows(cell, type_, LANES, sets, f"ops/{cell.form}/{type_}")
    if cell.lanes == 1 and cell.dtype in SIZED_TYPES:
        for size in SIZES:
            chosen = _sized_sets(kind, type_.dtype, size)
            yield from _set_rows(cell, type_, size, chosen, f"ops/{cell.form}.{size}/{type_}")


def _sized_sets(kind: str, dtype: DType, size: int) -> dict[str, InputSet]:
    """Sums of floats get small numbers; in others each value tells, where such values are to be had."""
    name = "special" if dtype.is_int else "small"
    return telling_sets(kind, dtype, size) or {name: fold_sets(kind, dtype, size)[name]}


def _set_rows(cell: Cell, type_: Type, lanes: int, sets: dict[str, InputSet], path: str) -> Iterator[KernelCase]:
    build = partial(group_kernel, cell.form, type_, lanes)
    for name, maker in sets.items():
        data = partial(_data, type_, lanes, (maker,))
        yield KernelCase(f"{path}/{name}", build, data, (cell,), _tier(type_, name, sets))
    if type_.dtype.is_float and lanes == LANES:
        data = partial(_data, type_, lanes, tuple(sets.values()))
        tier = Tier.STANDARD if type_.lanes == 1 or "small" in sets else Tier.FULL
        yield KernelCase(f"{path}/strict", build, data, (cell,), tier, numeric="strict")


def _tier(type_: Type, name: str, sets: dict[str, InputSet]) -> Tier:
    """Vectors run their first telling set in standard: small numbers for sums and products, else special values."""
    telling = "small" if "small" in sets else "special"
    return Tier.STANDARD if type_.lanes == 1 or name == telling else Tier.FULL


def group_kernel(form: str, type_: Type, lanes: int, numeric: Numeric) -> Kernel:
    """Each work-group folds one item per lane; every lane stores the result, in whole words."""
    builder = Builder(f"{form.replace('.', '_')}_{type_}_{lanes}", numeric)
    dtype, count = memory_dtype(type_), repeats([type_])
    source = builder.buffer("a", dtype, ("groups", lanes * type_.lanes), "read")
    target = builder.buffer("out", dtype, ("groups", lanes * type_.lanes * count), "write")
    group, lane = builder.grid(builder.scalar("groups", "i32")), builder.lane(lanes)
    item = builder.add(builder.mul(group, builder.const("i32", lanes)), lane)
    stored = Type(DTYPES[dtype], type_.lanes)
    align = natural_alignment(stored)
    scalar = type_.lanes == 1
    start = start_of(builder, item, stored)
    loaded = builder.load(source, item) if scalar else builder.load_vec(source, start, stored.lanes, align)
    folded = builder.op(form, truth(builder, loaded) if type_.dtype.name == "bool" else loaded)
    value = number(builder, folded) if type_.dtype.name == "bool" else folded
    for part in range(count):
        at = affine(builder, item, count, part)
        if scalar:
            builder.store(target, at, value)
        else:
            builder.store_vec(target, start_of(builder, at, type_), value, align)
    return builder.build()


def _data(type_: Type, lanes: int, makers: tuple[InputSet, ...], case_id: str) -> tuple[Scalars, Arrays]:
    """The sets, one after the other, cut or repeated to whole work-groups."""
    values = np.concatenate([_groups(maker(case_id, (type_.dtype,))[0], lanes * type_.lanes) for maker in makers])
    return {"groups": len(values) // (lanes * type_.lanes)}, {"a": as_array(type_.dtype, values)}


def _groups(values: Patterns, per_group: int) -> Patterns:
    return np.resize(values, max(GROUPS, min(len(values) // per_group, 4 * GROUPS)) * per_group)
