"""From a plan to cases: one map kernel, several input sets, one case per set.

All sets of one plan and numeric mode share one kernel object, so that a device process which keeps its executables
compiles it once per case group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np

from portkit.conformance.case import Case, Cell, Level, Tier, Trial
from portkit.conformance.cases import inputs
from portkit.conformance.cases.inputs import Operands
from portkit.conformance.cases.mapping import Emit, map_kernel, map_trial
from portkit.contract import Capabilities
from portkit.spec.kernel import Kernel, Numeric
from portkit.spec.types import DTYPES, DType, parse_type

InputSet = Callable[[str, Sequence[DType]], Operands]
"""Given the case id and the operand dtypes, gives one pattern array per operand."""

STRICT = "strict"
SMOKE_TYPES = ("i32", "u32", "f32", "bool")
LAUNCH = ("device/launch/index",)


@dataclass(frozen=True)
class Plan:
    """One form on one type: what a map kernel of it loads, computes and stores, and the sets that it runs on.

    `path` is the id without the set, `strict` the sets that the strict case runs together (none: no strict case).
    """

    path: str
    operands: tuple[str, ...]
    results: tuple[str, ...]
    emit: Emit
    sets: Mapping[str, InputSet] = field(hash=False)
    cells: tuple[Cell, ...]
    strict: tuple[str, ...] = ()
    needs: tuple[str, ...] = LAUNCH
    build: Callable[[Plan, Numeric], Kernel] | None = None
    """Builds the kernel where it is not the plain map of `emit`."""

    @property
    def name(self) -> str:
        """The kernel's name."""
        return "".join(c if c.isalnum() else "_" for c in self.path.removeprefix("ops/"))

    @property
    def dtypes(self) -> tuple[DType, ...]:
        return tuple(parse_type(t).dtype for t in self.operands)


@lru_cache(maxsize=256)
def plan_kernel(plan: Plan, numeric: Numeric) -> Kernel:
    """Return the kernel of a plan, the same object for all its sets."""
    if plan.build is not None:
        return plan.build(plan, numeric)
    return map_kernel(plan.name, plan.operands, plan.results, plan.emit, numeric)


def plan_cases(plan: Plan, capabilities: Capabilities) -> Iterator[Case]:
    """Yield one case per set, and a strict one over `plan.strict` where the device declares strict."""
    for name, maker in plan.sets.items():
        if name != "nonfinite" or capabilities.numeric.nonfinite:
            yield _case(plan, name, "fast", (maker,))
    if plan.strict and capabilities.numeric.strict:
        yield _case(plan, STRICT, "strict", tuple(plan.sets[name] for name in plan.strict))


def _case(plan: Plan, name: str, numeric: Numeric, makers: tuple[InputSet, ...]) -> Case:
    case_id = f"{plan.path}/{name}"
    trial = partial(plan_trial, plan, numeric, case_id, makers)
    return Case(case_id, Level.OPS, tier_of(plan, name), plan.cells, trial=trial, needs=plan.needs)


def plan_trial(plan: Plan, numeric: Numeric, case_id: str, makers: Sequence[InputSet]) -> Trial:
    """Return the launch of a plan's kernel on the concatenation of the given sets."""
    parts = [maker(case_id, plan.dtypes) for maker in makers]
    patterns = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
    return map_trial(plan_kernel(plan, numeric), plan.operands, plan.results, patterns)


def tier_of(plan: Plan, name: str) -> Tier:
    """Return the tier of a set: specials of base types in smoke; wide vectors keep their specials in standard."""
    types = [parse_type(t) for t in (*plan.operands, *plan.results)]
    if name in ("special", STRICT) and all(t.lanes == 1 and t.dtype.name in SMOKE_TYPES for t in types):
        return Tier.SMOKE
    if all(t.lanes == 1 for t in types):
        return Tier.STANDARD
    # Only reductions mean something else under strict: elsewhere the scalar strict case has shown the same digest.
    repeats = ("random", "nonfinite", "all", "many", *(() if plan.path.startswith("ops/reduce") else (STRICT,)))
    return Tier.FULL if name in repeats else Tier.STANDARD


def all_values(case_id: str, dtypes: Sequence[DType]) -> Operands:
    """Return every combination of operands: one 16-bit operand or two 8-bit ones."""
    del case_id
    lists = [range(1 << d.bits) for d in dtypes]
    grids = np.meshgrid(*[np.arange(len(v), dtype=np.uint64) for v in lists], indexing="ij")
    return tuple(np.ascontiguousarray(grid).reshape(-1) for grid in grids)


def random_or_all(dtypes: Sequence[DType]) -> dict[str, InputSet]:
    """Return the set `all` where every combination is at most 2^16 elements, else `random`."""
    exhaustive = all(d.is_int for d in dtypes) and sum(d.bits for d in dtypes) <= 16
    return {"all": all_values} if exhaustive else {"random": inputs.random}


def type_text(dtype: str, lanes: int) -> str:
    """Return `f32` or `f32x4`."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def dtype_of(cell: Cell) -> DType:
    """Return the dtype of a cell's result."""
    return DTYPES[cell.dtype]
