"""Every elementwise function on every dtype: special values first, then random ones."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from portkit.conformance.case import Case, Cell, GraphTrial, Tier
from portkit.conformance.cases import inputs
from portkit.conformance.cases.draws import Draws, Patterns
from portkit.conformance.cases.specials import finite_specials, nonfinite_specials
from portkit.conformance.cases.tensorcase import elements, holds, tensor_case, trial_of
from portkit.contract import Capabilities
from portkit.spec.types import DTYPES, DType

MOST = 400
"""Combinations of special values in one case; beyond it a random sample is taken."""
RANDOM = 80
_SMOKE = {"add": "f32", "exp": "f32", "idiv": "i32", "lt": "f32", "where": "f32", "mulhi": "u32"}


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield one case for each function and dtype that the device can hold, and one for each source of a cast."""
    for cell in cells(capabilities):
        name = cell.form.removeprefix("tensor.map.")
        tier = Tier.SMOKE if _SMOKE.get(name) == cell.dtype else Tier.STANDARD
        case_id = f"tensors/map/{name}/{cell.dtype}" + (f"-from-{cell.source}" if cell.source else "")
        yield tensor_case(case_id, partial(_trial, name, cell, case_id), (cell,), tier)


def cells(capabilities: Capabilities) -> Iterator[Cell]:
    """Yield every cell of functions: name and dtype; for casts also the dtype of the operand."""
    from portkit.compiler.functions import FUNCTIONS

    for function in FUNCTIONS.values():
        for name in function.dtypes:
            if not holds(capabilities, (name,)):
                continue
            if function.result != "given":
                yield Cell(f"tensor.map.{function.name}", name)
                continue
            for source in function.dtypes:
                same = DTYPES[source].bytes == DTYPES[name].bytes and "bool" not in (source, name)
                if holds(capabilities, (source,)) and (function.name == "cast" or same) and source != name:
                    yield Cell(f"tensor.map.{function.name}", name, source=source)


def _trial(name: str, cell: Cell, case_id: str, capabilities: Capabilities) -> GraphTrial:
    """Return the graph of one function of sources that hold all its operands."""
    from portkit.compiler.functions import FUNCTIONS
    from portkit.compiler.graph import map_
    from portkit.tensor.base import source_of

    dtypes = [DTYPES[cell.source or cell.dtype]] * FUNCTIONS[name].arity
    if name == "where":
        dtypes[0] = DTYPES["bool"]
    nonfinite = capabilities.numeric.nonfinite and name != "bits"  # the bits of a NaN may change on the way
    columns = _operands(case_id, dtypes, nonfinite=nonfinite)
    arrays = [elements(d, c) for d, c in zip(dtypes, columns, strict=True)]
    leaves = [source_of(array, f"x{number}") for number, array in enumerate(arrays)]
    given = DTYPES[cell.dtype] if cell.source else None
    return trial_of([map_(name, *leaves, dtype=given)], capabilities)


def _operands(case_id: str, dtypes: list[DType], *, nonfinite: bool) -> list[Patterns]:
    draws = Draws(case_id)
    lists = [finite_specials(d) + (nonfinite_specials(d) if nonfinite else ()) for d in dtypes]
    total = int(np.prod([len(values) for values in lists]))
    if total <= MOST:
        grids = np.meshgrid(*(np.array(v, np.uint64) for v in lists), indexing="ij")
        special = [grid.reshape(-1) for grid in grids]
    else:
        special = [draws.one_of(values, MOST) for values in lists]
    random = [inputs.random_values(draws, d, RANDOM) for d in dtypes]
    return [np.concatenate(pair) for pair in zip(special, random, strict=True)]
