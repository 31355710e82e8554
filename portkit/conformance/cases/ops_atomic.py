"""Cases of atomic stores: one element under full contention, bins, gates, special values."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from portkit.conformance.case import Case, Cell, Tier
from portkit.conformance.cases import inputs
from portkit.conformance.cases.cells import available, form_cells
from portkit.conformance.cases.draws import Draws, Patterns, as_array
from portkit.conformance.cases.kernelcase import Arrays, KernelCase, Scalars, rows_to_cases
from portkit.conformance.cases.mapping import Frame, geometry, load_item
from portkit.conformance.cases.ops_memory import FAR, mask_data
from portkit.conformance.cases.specials import finite_specials, nonfinite_specials
from portkit.contract import Capabilities
from portkit.spec.forms import FORMS
from portkit.spec.kernel import Kernel, Numeric
from portkit.spec.types import DTYPES, DType, parse_type

ITEMS = 3000
BINS = 37


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the cases of every declared atomic store."""
    for form in (f for f in FORMS.values() if f.extension == "atomic" and available(f, capabilities)):
        for cell in form_cells(form, capabilities):
            yield from rows_to_cases(_rows(cell, form.kind), capabilities)


def _rows(cell: Cell, kind: str) -> Iterator[KernelCase]:
    dtype = DTYPES[cell.dtype]
    build = partial(atomic_kernel, cell.form, dtype.name)
    path = f"ops/{cell.form}/{dtype.name}"
    for name, (bins, values) in _variants(kind, dtype).items():
        yield KernelCase(f"{path}/{name}", build, partial(_data, dtype, bins, values), (cell,), Tier.STANDARD)


def _variants(kind: str, dtype: DType) -> dict[str, tuple[int, str]]:
    """Small integers under contention have one exact answer in any order; special values need no sum."""
    variants = {"contended": (1, "small"), "bins": (BINS, "small"), "random": (BINS, "random")}
    if kind != "add" or dtype.is_int:
        variants["special"] = (BINS, "special")
    if kind != "add" and dtype.is_float:
        variants["nonfinite"] = (ITEMS, "nonfinite")
    return variants


def atomic_kernel(form: str, dtype: str, numeric: Numeric) -> Kernel:
    """Every item folds a[i] into out[place[i]]; where place[i] is far outside, the gate is closed."""
    frame, type_ = Frame.open(f"{form.replace('.', '_')}_{dtype}", numeric), parse_type(dtype)
    builder = frame.builder
    bins = builder.scalar("bins", "i32")
    source, places = frame.buffer("a", type_, 1, "read"), frame.buffer("place", parse_type("i32"), 1, "read")
    target = builder.buffer("out", dtype, "bins", "readwrite")
    place = load_item(builder, places, frame.item, parse_type("i32"), frame.inside)
    open_ = builder.op("reduce.and", builder.lt(place, bins), frame.inside)
    value = load_item(builder, source, frame.item, type_, frame.inside)
    builder.op(form, place, value, mems=(target,), gate=open_)
    return builder.build()


def _data(dtype: DType, bins: int, values: str, case_id: str) -> tuple[Scalars, Arrays]:
    draws = Draws(case_id)
    places = draws.integers(0, bins - 1, ITEMS).astype(np.int32) + mask_data(case_id, ITEMS) * np.int32(FAR)
    arrays = {
        "a": as_array(dtype, _values(draws, dtype, values, ITEMS)),
        "place": places,
        "out": as_array(dtype, _values(draws, dtype, values, bins)),
    }
    return {**geometry(ITEMS), "bins": bins}, arrays


def _values(draws: Draws, dtype: DType, kind: str, count: int) -> Patterns:
    if kind == "small":
        return _sparse(draws, dtype, count)
    if kind == "random":
        return draws.floats(dtype, -3, 3, count) if dtype.is_float else draws.bits(dtype.bits, count)
    table = finite_specials(dtype) if kind == "special" else finite_specials(dtype) + nonfinite_specials(dtype)
    return draws.one_of(table, count)


def _sparse(draws: Draws, dtype: DType, count: int) -> Patterns:
    """-1, 0 and 1, mostly 0 where the precision is short: sums stay exact in any order while they are below 2^p."""
    values = inputs.small_values(draws, dtype, count, 1)
    if dtype.is_float and (1 << dtype.precision) < ITEMS:
        values[draws.integers(0, 7, count) != 0] = 0
    return values
