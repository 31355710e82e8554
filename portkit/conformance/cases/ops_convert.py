"""Cases of the forms that convert: mov.cast for every pair of dtypes, mov.bits for every pair of types, mov.const."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from portkit.conformance.case import Case, Cell, Level, Tier, Trial
from portkit.conformance.cases import inputs, ties
from portkit.conformance.cases.cells import form_cells
from portkit.conformance.cases.inputs import Operands
from portkit.conformance.cases.mapping import Emit, memory_dtype, number
from portkit.conformance.cases.plan import LAUNCH, SMOKE_TYPES, InputSet, Plan, all_values, plan_cases, type_text
from portkit.conformance.cases.specials import finite_specials, nonfinite_specials
from portkit.contract import Capabilities
from portkit.spec.builder import Builder, Reg
from portkit.spec.forms import FORMS
from portkit.spec.kernel import Kernel
from portkit.spec.types import DTYPES, DType, Type


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the cases of mov.const, mov.cast and mov.bits."""
    for cell in form_cells(FORMS["mov.const"], capabilities):
        yield _const_case(cell)
    for cell in form_cells(FORMS["mov.cast"], capabilities):
        yield from plan_cases(_cast_plan(cell), capabilities)
    for plan in _bits_plans(capabilities):
        yield from plan_cases(plan, capabilities)


# --- mov.const ----------------------------------------------------------------------------------------------------


def _const_case(cell: Cell) -> Case:
    tier = Tier.SMOKE if cell.dtype in SMOKE_TYPES else Tier.STANDARD
    trial = partial(_const_trial, cell.dtype)
    return Case(f"ops/mov.const/{cell.dtype}/special", Level.OPS, tier, (cell,), trial=trial, needs=LAUNCH)


def const_kernel(dtype: str) -> Kernel:
    """One lane stores every special value of a dtype from constants, in order."""
    builder = Builder(f"const_{dtype}")
    constants = finite_specials(DTYPES[dtype]) + nonfinite_specials(DTYPES[dtype])
    stored = memory_dtype(Type(DTYPES[dtype]))
    out = builder.buffer("out", stored, len(constants), "write")
    builder.grid(1)
    builder.lane(1)
    for place, bits in enumerate(constants):
        value = builder.bits_const(dtype, bits)
        builder.store(out, builder.const("i32", place), number(builder, value) if dtype == "bool" else value)
    return builder.build()


def _const_trial(dtype: str) -> Trial:
    return Trial(const_kernel(dtype), {}, {})


# --- mov.cast -----------------------------------------------------------------------------------------------------


def _cast_plan(cell: Cell) -> Plan:
    source, target = DTYPES[cell.source], DTYPES[cell.dtype]
    result = type_text(cell.dtype, cell.lanes)
    tie_set: InputSet = partial(_cast_ties, target)
    sets: dict[str, InputSet] = {"special": partial(_special_and_ties, target)} if cell.lanes > 1 else {}
    if cell.lanes == 1:
        sets |= {"special": inputs.special, "ties": tie_set}
    if source.is_float:
        sets["nonfinite"] = inputs.nonfinite
    if cell.lanes == 1:
        sets |= {"all": all_values} if source.is_int and source.bits <= 16 else {"random": inputs.random}
    strict = tuple(sets) if source.is_float or target.is_float else ()
    return Plan(
        f"ops/mov.cast/{cell.source}-to-{result}",
        (type_text(cell.source, cell.lanes),),
        (result,),
        cast_emit(result),
        sets,
        (cell,),
        strict,
    )


def cast_emit(result: str) -> Emit:
    """Return what emits a cast to the type `result`."""
    return partial(_emit_typed, "mov.cast", (result,))


def _cast_ties(target: DType, case_id: str, dtypes: Sequence[DType]) -> Operands:
    return ties.cast_ties(case_id, dtypes[0], target)


def _special_and_ties(target: DType, case_id: str, dtypes: Sequence[DType]) -> Operands:
    """Vectors get the specials and the ties in one launch."""
    return (np.concatenate([inputs.special(case_id, dtypes)[0], *_cast_ties(target, case_id, dtypes)]),)


def _emit_typed(form: str, results: Sequence[str], builder: Builder, value: Reg) -> list[Reg]:
    return [builder.op(form, value, type=result) for result in results]


# --- mov.bits -----------------------------------------------------------------------------------------------------


def _bits_plans(capabilities: Capabilities) -> Iterator[Plan]:
    """One kernel per source type and width of the target's elements; each result has its own buffer."""
    table: dict[tuple[str, int], list[Cell]] = defaultdict(list)
    for cell in form_cells(FORMS["mov.bits"], capabilities):
        table[cell.source, DTYPES[cell.dtype].bits].append(cell)
    for (source, width), cells in table.items():
        results = tuple(type_text(cell.dtype, cell.lanes) for cell in cells)
        yield Plan(
            f"ops/mov.bits/{source}-to-{width}-bit",
            (source,),
            results,
            partial(_emit_typed, "mov.bits", results),
            {"special": _bit_patterns},
            tuple(cells),
        )


def _bit_patterns(case_id: str, dtypes: Sequence[DType]) -> Operands:
    special = np.array(finite_specials(dtypes[0]) + nonfinite_specials(dtypes[0]), dtype=np.uint64)
    return (np.concatenate([special, inputs.bit_patterns(case_id, dtypes[0])]),)
