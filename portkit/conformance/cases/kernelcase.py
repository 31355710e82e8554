"""Cases of one kernel each: a table row names the case, builds its kernel, and gives scalars and inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy.typing as npt

from portkit.conformance.case import Case, Cell, Level, Tier, Trial
from portkit.conformance.cases.plan import LAUNCH
from portkit.contract import Capabilities
from portkit.spec.kernel import Kernel, Numeric

Arrays = Mapping[str, npt.NDArray[Any]]
Scalars = Mapping[str, int | float]
Build = Callable[[Numeric], Kernel]
Data = Callable[[str], tuple[Scalars, Arrays]]
"""Given the case id, gives the scalars and the contents of every buffer that is not write-only."""


@dataclass(frozen=True)
class KernelCase:
    """A row of a table of cases: `build` is shared by rows that differ in data only.

    `requires` names the extensions, dtypes and native forms (`atomic.add.f32`) without which the row is left out.
    """

    id: str
    build: Build
    data: Data
    cells: tuple[Cell, ...] = ()
    tier: Tier = Tier.STANDARD
    numeric: Numeric = "fast"
    needs: tuple[str, ...] = LAUNCH
    requires: tuple[str, ...] = ()

    def case(self) -> Case:
        """Return the conformance case."""
        level = Level.OPS if self.id.startswith("ops/") else Level.KERNELS
        trial = partial(_trial, self.build, self.data, self.numeric, self.id)
        return Case(self.id, level, self.tier, self.cells, trial=trial, needs=self.needs)


@lru_cache(maxsize=256)
def built(build: Build, numeric: Numeric) -> Kernel:
    """Return the kernel of a builder, the same object for all rows that share it."""
    return build(numeric)


def _trial(build: Build, data: Data, numeric: Numeric, case_id: str) -> Trial:
    scalars, arrays = data(case_id)
    return Trial(built(build, numeric), scalars, arrays)


def rows_to_cases(rows: Iterable[KernelCase], capabilities: Capabilities) -> Iterator[Case]:
    """Yield the cases of the rows that the device declares: their forms, strict, infinities and NaN."""
    tables = {"atomic": capabilities.atomic, "math": capabilities.math}
    natives = {f"{t}.{kind}.{d}" for t, table in tables.items() for kind, dtypes in table.items() for d in dtypes}
    declared = {*capabilities.dtypes, *capabilities.extensions, *natives}
    numeric = capabilities.numeric
    for row in rows:
        finite = numeric.nonfinite or not row.id.endswith("/nonfinite")
        if finite and declared.issuperset(row.requires) and (row.numeric == "fast" or numeric.strict):
            yield row.case()
