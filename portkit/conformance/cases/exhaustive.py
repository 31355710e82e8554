"""Tier `full`: every f32 operand of the one-operand forms, in 256 pieces of 2^24 elements each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from portkit.conformance.case import Case, Cell, Level, Tier
from portkit.conformance.cases.cells import available, form_cells
from portkit.conformance.cases.inputs import Operands
from portkit.conformance.cases.ops_arithmetic import emit_form
from portkit.conformance.cases.ops_convert import cast_emit
from portkit.conformance.cases.plan import Plan, plan_trial
from portkit.contract import Capabilities
from portkit.spec.forms import FORMS
from portkit.spec.types import DType

PIECES = 256
PIECE = 1 << 24


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the pieces for every declared native function of f32 and every cast from f32."""
    for form in (f for f in FORMS.values() if f.extension == "math" and available(f, capabilities)):
        for cell in form_cells(form, capabilities):
            if cell.dtype == "f32" and cell.lanes == 1:
                plan = Plan(f"ops/{form.name}/f32", ("f32",), ("f32",), partial(emit_form, form.name), {}, (cell,))
                yield from _pieces(plan, cell, capabilities)
    for cell in form_cells(FORMS["mov.cast"], capabilities):
        if cell.source == "f32" and cell.lanes == 1:
            path = f"ops/mov.cast/f32-to-{cell.dtype}"
            plan = Plan(path, ("f32",), (cell.dtype,), cast_emit(cell.dtype), {}, (cell,))
            yield from _pieces(plan, cell, capabilities)


def _pieces(plan: Plan, cell: Cell, capabilities: Capabilities) -> Iterator[Case]:
    for number in range(PIECES):
        # The pieces of the largest exponent hold infinities and NaN.
        if capabilities.numeric.nonfinite or number % (PIECES // 2) != PIECES // 2 - 1:
            case_id = f"{plan.path}/all_{number:02x}"
            trial = partial(plan_trial, plan, "fast", case_id, (partial(_piece, number),))
            yield Case(case_id, Level.OPS, Tier.FULL, (cell,), trial=trial, needs=plan.needs)


def _piece(number: int, case_id: str, dtypes: Sequence[DType]) -> Operands:
    del case_id, dtypes
    return (np.arange(number * PIECE, (number + 1) * PIECE, dtype=np.uint64),)
