"""Cases of the forms that build, take apart and fold vectors: splat, lane, pack, reduce.vec."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from portkit.conformance.case import Case, Cell
from portkit.conformance.cases import inputs
from portkit.conformance.cases.cells import available, form_cells
from portkit.conformance.cases.draws import Draws, Patterns, compose
from portkit.conformance.cases.inputs import Operands
from portkit.conformance.cases.mapping import (
    Frame,
    affine,
    load_item,
    repeats,
    store_item,
    unchanged,
)
from portkit.conformance.cases.plan import InputSet, Plan, dtype_of, plan_cases, type_text
from portkit.conformance.cases.specials import finite_specials, nonfinite_specials
from portkit.contract import Capabilities
from portkit.spec.builder import Builder, Reg
from portkit.spec.forms import FORMS
from portkit.spec.kernel import Kernel, Numeric
from portkit.spec.types import DType, Type, encode, parse_type

FOLD_COUNT = 2048
TELLING_FOLDS = 6
"""How many folds an operand at a random place decides."""
DROWNING = 8
"""Operands of a fold of special integers from which on the result is often the same without one of them."""
ORDERED = ("max", "min", "and", "or", "xor")
"""Folds whose result does not depend on the order; the others free it for floats (Spec: numeric_c2)."""


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the cases of every declared vector form."""
    for form, planner in _PLANNERS.items():
        if available(FORMS[form], capabilities):
            for cell in form_cells(FORMS[form], capabilities):
                yield from plan_cases(planner(cell), capabilities)


# --- splat, lane, pack --------------------------------------------------------------------------------------------


def _splat(cell: Cell) -> Plan:
    vector = type_text(cell.dtype, cell.lanes)
    emit = partial(_emit_splat, cell.lanes)
    sets: dict[str, InputSet] = {"special": inputs.everything_special}
    return Plan(f"ops/mov.splat/{vector}", (cell.dtype,), (vector,), emit, sets, (cell,))


def _emit_splat(lanes: int, builder: Builder, value: Reg) -> Reg:
    return builder.splat(value, lanes)


def _shuffle(build: Callable[[Plan, Numeric], Kernel], cell: Cell) -> Plan:
    vector = type_text(cell.dtype, cell.lanes)
    sets: dict[str, InputSet] = {"special": _shuffled_specials}
    return Plan(f"ops/{cell.form}/{vector}", (vector,), (vector,), unchanged, sets, (cell,), build=build)


def _shuffled_specials(case_id: str, dtypes: Sequence[DType]) -> Operands:
    table = finite_specials(dtypes[0]) + nonfinite_specials(dtypes[0])
    return (Draws(case_id).one_of(table, FOLD_COUNT),)


def lane_kernel(plan: Plan, numeric: Numeric) -> Kernel:
    """Loads a vector, stores lane k as a scalar at place lanes-1-k."""
    frame, type_, count = _shuffle_frame(plan, numeric)
    builder = frame.builder
    source, target = frame.buffer("a", type_, count, "read"), frame.buffer("out", type_, count, "write")
    for part in range(count):
        at = affine(builder, frame.item, count, part)
        vector = load_item(builder, source, at, type_, frame.inside)
        for k in range(type_.lanes):
            value = builder.op("mov.lane", vector, imms=(k,))
            place = affine(builder, at, type_.lanes, type_.lanes - 1 - k)
            store_item(builder, target, place, type_.scalar, value, frame.inside)
    return builder.build()


def pack_kernel(plan: Plan, numeric: Numeric) -> Kernel:
    """Loads scalars, packs them in reverse, stores the vector."""
    frame, type_, count = _shuffle_frame(plan, numeric)
    builder = frame.builder
    source, target = frame.buffer("a", type_, count, "read"), frame.buffer("out", type_, count, "write")
    for part in range(count):
        at = affine(builder, frame.item, count, part)
        places = [affine(builder, at, type_.lanes, k) for k in reversed(range(type_.lanes))]
        scalars = [load_item(builder, source, place, type_.scalar, frame.inside) for place in places]
        store_item(builder, target, at, type_, builder.op("mov.pack", *scalars), frame.inside)
    return builder.build()


def _shuffle_frame(plan: Plan, numeric: Numeric) -> tuple[Frame, Type, int]:
    type_ = parse_type(plan.operands[0])
    return Frame.open(plan.name, numeric), type_, repeats([type_])


# --- reduce.vec ---------------------------------------------------------------------------------------------------


def _fold(cell: Cell) -> Plan:
    vector, kind = type_text(cell.dtype, cell.lanes), FORMS[cell.form].kind
    sets = fold_sets(kind, dtype_of(cell), cell.lanes)
    if cell.lanes >= DROWNING and kind in ("and", "or", "mul"):
        sets |= telling_sets(kind, dtype_of(cell), cell.lanes)
    emit = partial(_emit_fold, cell.form)
    strict = tuple(sets) if dtype_of(cell).is_float else ()
    return Plan(f"ops/{cell.form}/{vector}", (vector,), (cell.dtype,), emit, sets, (cell,), strict)


def _emit_fold(form: str, builder: Builder, value: Reg) -> Reg:
    return builder.op(form, value)


def fold_sets(kind: str, dtype: DType, run: int, width: int = 1) -> dict[str, InputSet]:
    """Return the sets for folds by `kind` of `run` consecutive vectors of `width` elements, lane by lane.

    Sums and products of floats get small numbers, for which the exact answer is required, and well-scaled random ones;
    special values are sprinkled one per run, so that they do not drown each other.
    """
    if not dtype.is_float:
        return {"special": _shuffled_specials, "random": inputs.random}
    sets: dict[str, InputSet] = {"special": partial(_sprinkled, kind, (run, width), False)}
    sets["nonfinite"] = partial(_sprinkled, kind, (run, width), True)
    if kind not in ORDERED:
        sets |= {"small": partial(_exact, kind, run), "random": _cancelling}
    return sets


def _sprinkled(
    kind: str, shape: tuple[int, int], with_nonfinite: bool, case_id: str, dtypes: Sequence[DType]
) -> Operands:
    """Ordinary values with one special value in each fold at a random place (max, min: all of them special)."""
    draws, dtype, (run, width) = Draws(case_id), dtypes[0], shape
    folds = max(FOLD_COUNT // (run * width), 4)
    table = nonfinite_specials(dtype) if with_nonfinite else finite_specials(dtype)
    if kind in ORDERED and not with_nonfinite:
        return (draws.one_of(table, folds * run * width),)
    values = _scaled(draws, kind, dtype, folds * run * width).reshape(folds, run, width)
    rows = draws.integers(0, run - 1, folds * width).reshape(folds, 1, width)
    specials = draws.one_of(table, folds * width).reshape(folds, 1, width)
    np.put_along_axis(values, rows, specials, axis=1)
    return (values.reshape(-1),)


def _scaled(draws: Draws, kind: str, dtype: DType, count: int) -> Patterns:
    """Values near 1 for products, so that they neither overflow nor vanish."""
    return draws.floats(dtype, -1, 0, count) if kind == "mul" else draws.floats(dtype, -4, 3, count)


def _exact(kind: str, run: int, case_id: str, dtypes: Sequence[DType]) -> Operands:
    """Small integers for sums; for products powers of two in pairs that keep the product in range."""
    draws, dtype = Draws(case_id), dtypes[0]
    if kind == "add":
        return (inputs.small_values(draws, dtype, FOLD_COUNT, 1 if run > 64 else 4),)
    signs, zeros = draws.bits(1, FOLD_COUNT), np.zeros(FOLD_COUNT, dtype=np.uint64)
    exponents = draws.integers(0, 3, FOLD_COUNT // 2) // 3
    pairs = np.stack([exponents, -exponents], axis=1).reshape(-1)
    return (compose(dtype, signs, pairs, zeros),)


def _cancelling(case_id: str, dtypes: Sequence[DType]) -> Operands:
    """Half well-scaled values, half pairs that nearly cancel."""
    draws, dtype = Draws(case_id), dtypes[0]
    first = draws.floats(dtype, -2, 2, FOLD_COUNT // 2)
    minus = first ^ np.uint64(1 << (dtype.bits - 1)) ^ draws.bits(2, FOLD_COUNT // 2)
    pairs = np.stack([first, minus], axis=1).reshape(-1)
    return (np.concatenate([draws.floats(dtype, -1, 0, FOLD_COUNT), pairs]),)


_PLANNERS: dict[str, Callable[[Cell], Plan]] = {
    "mov.splat": _splat,
    "mov.lane": partial(_shuffle, lane_kernel),
    "mov.pack": partial(_shuffle, pack_kernel),
    **{f"reduce.vec.{kind}": _fold for kind in ("add", "mul", "max", "min", "and", "or", "xor")},
}


# --- folds in which each operand tells ------------------------------------------------------------------------------


def telling_sets(kind: str, dtype: DType, size: int) -> dict[str, InputSet]:
    """Return a set in which an operand that is left out shows, where random ones hide it.

    Random extremes are there many times, and products of random integers are 0.
    """
    if kind in _DECIDING:
        return {"deciding": partial(_deciding, kind, size)}
    return {"odd": partial(_odd, size)} if kind == "mul" and dtype.is_int else {}


def _odd(size: int, case_id: str, dtypes: Sequence[DType]) -> Operands:
    """Odd numbers above 1: no product of them is 0, and without one of them it is another."""
    dtype = dtypes[0]
    return (Draws(case_id).one_of([3, 5, 7, 11, 13, 101, dtype.max_int], TELLING_FOLDS * size),)


def _deciding(kind: str, size: int, case_id: str, dtypes: Sequence[DType]) -> Operands:
    """One value in each fold decides it: in the last lane, the first, then others."""
    draws, dtype = Draws(case_id), dtypes[0]
    others, decisive = _DECIDING[kind]
    places = np.array([size - 1, 0, size // 2, size - 2, *draws.integers(0, size - 1, TELLING_FOLDS)]) % size
    values = draws.one_of([_pattern(dtype, v) for v in others], len(places) * size).reshape(len(places), size)
    values[np.arange(len(places)), places] = _pattern(dtype, decisive)
    return (values.reshape(-1),)


def _pattern(dtype: DType, value: int) -> int:
    if dtype.name == "bool":
        return int(value in _TRUE)
    return encode(dtype, value) if dtype.is_float else value & ((1 << dtype.bits) - 1)


_DECIDING: dict[str, tuple[tuple[int, ...], int]] = {
    "max": ((2, 3, 5, 7), 100),
    "min": ((100, 101, 107), 3),
    "and": ((-1,), ~0x10),
    "or": ((0,), 0x10),
}
"""By kind: the values of the other operands, and the one that decides."""
_TRUE = (-1, 0x10)
"""Which of them are true as bool."""
