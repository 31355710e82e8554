"""Hints: patterns of wrong elements that have a known cause.

A hint is a guess and says so; the verdict does not depend on it. The first rule that explains every wrong element wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from portkit.reference.acceptance import Acceptance
from portkit.spec.kernel import Kernel

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Wrong:
    """The wrong elements of one buffer: their indices, which of all still hold poison, and the inputs by name."""

    kernel: Kernel
    actual: Array
    accepted: Acceptance
    indices: Array
    poisoned: Array
    inputs: Mapping[str, Array]

    @property
    def values(self) -> Array:
        """The wrong values, floats as f64."""
        return self._numbers(self.actual)

    @property
    def wanted(self) -> Array:
        """The lower ends of what is accepted in their place."""
        return self._numbers(self.accepted.lo)

    def _numbers(self, array: Array) -> Array:
        chosen = array[self.indices]
        return chosen.astype(np.float64) if self.accepted.dtype.is_float else chosen

    def uses(self, *forms: str) -> bool:
        """Whether the kernel has an instruction of one of the forms, `reduce.group` meaning all of its kinds."""
        return any(i.name == f or i.name.startswith(f"{f}.") for i in self.kernel.body for f in forms)


def _tail_missing(w: Wrong) -> bool:
    suffix = np.arange(len(w.actual) - len(w.indices), len(w.actual))
    return bool(w.poisoned[w.indices].all()) and len(suffix) < len(w.actual) and np.array_equal(w.indices, suffix)


def _nothing_written(w: Wrong) -> bool:
    return bool(w.poisoned.all())


def _some_missing(w: Wrong) -> bool:
    return bool(w.poisoned[w.indices].all())


def _flushed(w: Wrong) -> bool:
    dtype = w.accepted.dtype
    if not dtype.is_float:
        return False
    small = 2.0**dtype.emin
    inputs = [a for a in w.inputs.values() if a.dtype == w.actual.dtype and len(a) == len(w.actual)]
    tiny = np.abs(w.wanted) < small
    for array in inputs:
        beside = np.abs(array[w.indices].astype(np.float64))
        tiny |= (beside > 0) & (beside < small)
    return bool((tiny & (np.abs(w.values) <= np.abs(w.wanted))).all())


def _toward_zero(w: Wrong) -> bool:
    if not w.accepted.dtype.is_float:
        return False
    one = w.accepted.distance_ulp(w.actual)[w.indices] <= 1.0
    return bool((one & (np.abs(w.values) < np.abs(w.wanted))).all())


def _sign_of_shift(w: Wrong) -> bool:
    return w.uses("mul.shr") and not w.accepted.dtype.is_float and _only_beside_high_bits(w)


def _only_beside_high_bits(w: Wrong) -> bool:
    """Whether each wrong element has an input beside it whose highest bit is set."""
    inputs = [a for a in w.inputs.values() if a.dtype == w.actual.dtype and len(a) == len(w.actual)]
    bits = 8 * w.actual.itemsize
    high = [(a[w.indices].view(f"u{a.itemsize}") >> (bits - 1)) == 1 for a in inputs]
    return bool(high) and bool(np.logical_or.reduce(high).all())


def _sign_of_zero(w: Wrong) -> bool:
    return w.accepted.dtype.is_float and bool(((w.values == 0) & (w.wanted == 0)).all())


def _nan_lost(w: Wrong) -> bool:
    return w.accepted.dtype.is_float and bool((np.isnan(w.wanted) != np.isnan(w.values)).all())


def _synchronised(w: Wrong) -> bool:
    return w.uses("barrier", "reduce.group", "wait.token", "load.async")


_RULES: tuple[tuple[Callable[[Wrong], bool], str], ...] = (
    (_nothing_written, "nothing was written: is the kernel launched, and is the output the right argument?"),
    (_tail_missing, "the last elements only were not written: look at the tail, where lanes or groups do not divide"),
    (_some_missing, "some elements were not written: look at gates and at the mapping of lanes and groups to indices"),
    (_sign_of_zero, "zeros of the wrong sign"),
    (_flushed, "subnormals are flushed to zero: declare `numeric.subnormals`, or switch flushing off"),
    (_toward_zero, "each is one step too near to zero: it looks like rounding toward zero"),
    (_nan_lost, "NaN in place of a number, or the reverse: look at comparisons, max and min, and fast-math switches"),
    (_sign_of_shift, "wrong where the highest bit is set only: it looks like a shift that takes the wrong sign"),
    (_synchronised, "the kernel synchronises: it may be a barrier, fence or wait that is missing or too early"),
)


def hint(wrong: Wrong) -> str:
    """Return what the wrong elements look like, empty where no known pattern fits all of them."""
    with np.errstate(all="ignore"):
        return next((text for rule, text in _RULES if rule(wrong)), "")
