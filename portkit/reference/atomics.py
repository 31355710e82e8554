"""Float atomics: operands gathered over a launch, then folded per element in no order.

Each step is rounded in the element's own dtype, and the element's first value is one more term.
Spec: atomic_c1, numeric_c2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from portkit.reference.intervals import may_be_minus_zero, may_be_plus_zero, open_nonfinite
from portkit.reference.lifting import NumericModel
from portkit.reference.planes import (
    Bools,
    Interval,
    Value,
    alike,
    each,
    forget,
    interval,
    planes,
    put,
    rebuild,
    settle,
    shape_of,
)
from portkit.reference.sums import Rule, Segments, free_sum
from portkit.reference.ulp import from_ordinal, ordinal
from portkit.spec.types import DType


@dataclass(slots=True)
class AtomicLog:
    """The atomic stores to one memory, all of one kind: which cells, what values, and the cells that are lost."""

    dtype: DType
    kind: str
    model: NumericModel
    _cells: list[NDArray[np.intp]] = field(default_factory=list)
    _values: list[Value] = field(default_factory=list)
    _lost: list[NDArray[np.intp]] = field(default_factory=list)

    def add(self, cells: NDArray[np.integer], values: Value) -> None:
        """Note values that are certainly folded into cells."""
        self._cells.append(cells.astype(np.intp))
        self._values.append(values)

    def lose(self, cells: NDArray[np.integer]) -> None:
        """Note cells that an unknown operand may reach."""
        self._lost.append(cells.astype(np.intp))

    def resolved(self, contents: Value) -> Value:
        """Return memory of the given contents after everything noted."""
        if sum(map(len, self._cells)):
            contents = self._folded(contents)
        lost = np.zeros(shape_of(contents), np.bool_)
        for cells in self._lost:
            lost[np.clip(cells, 0, len(lost) - 1)] = True
        return forget(contents, lost)

    def _folded(self, contents: Value) -> Value:
        cells = np.concatenate(self._cells)
        touched = np.unique(cells)
        terms = _concatenated([each(lambda plane: plane[touched], contents), *self._values])
        cells = np.concatenate((touched, cells))
        order = np.argsort(cells, kind="stable")
        terms, cells = each(lambda plane: plane[order], terms), cells[order]
        owner = np.searchsorted(touched, cells)
        groups = Segments(np.searchsorted(cells, touched), owner)
        if self.kind == "add":
            result = free_sum(terms, groups, Rule(self.dtype, self.dtype, self.model.flush))
        else:
            result = _extreme(interval(terms), groups, self.kind, self.dtype)
        return put(contents, touched, result if self.model.nonfinite else open_nonfinite(result))


def _concatenated(parts: list[Value]) -> Value:
    most = reduce(lambda a, b: alike(a, b)[0], parts, parts[0])
    same = [alike(part, most)[0] for part in parts]
    return rebuild(most, tuple(np.concatenate(column) for column in zip(*map(planes, same), strict=True)))


def _extreme(terms: Interval, groups: Segments, kind: str, dtype: DType) -> Value:
    """Return the greatest or least of each group; zeros of both signs leave the sign open (Spec: numeric_c2)."""
    step = np.maximum if kind == "max" else np.minimum
    lo, hi = (from_ordinal(groups.fold(step, ordinal(end)), dtype) for end in (terms.lo, terms.hi))
    mixed = _any(may_be_plus_zero(terms), groups) & _any(may_be_minus_zero(terms), groups)
    if kind == "max":
        lo = np.where(mixed & (lo == 0), -np.zeros_like(lo), lo)
    else:
        hi = np.where(mixed & (hi == 0), np.zeros_like(hi), hi)
    sure, nan = _any(np.isnan(terms.lo), groups), np.full_like(lo, np.nan)
    return settle(Interval(np.where(sure, nan, lo), np.where(sure, nan, hi), _any(terms.nan, groups)))


def _any(condition: Bools, groups: Segments) -> Bools:
    return groups.fold(np.logical_or, condition)
