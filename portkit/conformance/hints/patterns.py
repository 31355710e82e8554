"""Hints from what the wrong elements look like, for what no simulation explains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from portkit.conformance.hints.causes import LOOK_AT, Cause
from portkit.conformance.hints.symptoms import Array, Evidence, Hint, Indices, same
from portkit.reference.acceptance import Acceptance


@dataclass(frozen=True, slots=True)
class Wrong:
    """The wrong elements of one buffer: where they are, and which of all elements still hold poison."""

    evidence: Evidence
    name: str
    indices: Indices

    @property
    def actual(self) -> Array:
        """The whole buffer after the launch."""
        return self.evidence.after[self.name]

    @property
    def accepted(self) -> Acceptance:
        """What is accepted in the whole buffer."""
        return self.evidence.accepted[self.name]

    @property
    def is_float(self) -> bool:
        return self.accepted.dtype.is_float

    @property
    def values(self) -> Array:
        """The wrong values, floats as f64."""
        return self._numbers(self.actual)

    @property
    def wanted(self) -> Array:
        """The lower ends of what is accepted in their place."""
        return self._numbers(self.accepted.lo)

    @property
    def poisoned(self) -> Array:
        """Which elements of the buffer still hold poison."""
        return self.evidence.poisoned[self.name]

    def _numbers(self, array: Array) -> Array:
        chosen = array[self.indices]
        return chosen.astype(np.float64) if self.is_float else chosen

    def uses(self, *forms: str) -> bool:
        """Whether the kernel has an instruction of one of the forms, `reduce.group` meaning all of its kinds."""
        return any(i.name == f or i.name.startswith(f"{f}.") for i in self.evidence.kernel.body for f in forms)

    def beside(self) -> list[Array]:
        """Return the values of buffers of the same dtype and extent at the wrong indices, before the launch."""
        alike = self.evidence.before.items()
        return [
            a[self.indices]
            for n, a in alike
            if n != self.name and a.dtype == self.actual.dtype and len(a) == len(self.actual)
        ]


_NATIVE = ("mov.exp2", "mov.log2", "mov.sin", "mov.recip", "mov.sqrt", "mov.rsqrt")
Rule = Callable[[Wrong], bool]


# --- elements that were not written -------------------------------------------------------------------------------


def _nothing_written(w: Wrong) -> bool:
    return bool(w.poisoned.all())


def _tail_missing(w: Wrong) -> bool:
    suffix = np.arange(len(w.actual) - len(w.indices), len(w.actual))
    return _some_missing(w) and len(suffix) < len(w.actual) and np.array_equal(w.indices, suffix)


def _every_kth_missing(w: Wrong) -> bool:
    steps = np.diff(w.indices)
    return _some_missing(w) and len(steps) > 1 and int(steps[0]) > 1 and bool((steps == steps[0]).all())


def _some_missing(w: Wrong) -> bool:
    return bool(w.poisoned[w.indices].all())


# --- values -------------------------------------------------------------------------------------------------------


def _sign_of_zero(w: Wrong) -> bool:
    return w.is_float and bool(((w.values == 0) & (w.wanted == 0)).all())


def _flushed(w: Wrong) -> bool:
    if not w.is_float:
        return False
    small = 2.0**w.accepted.dtype.emin
    tiny = np.abs(w.wanted) < small
    for beside in w.beside():
        size = np.abs(beside.astype(np.float64))
        tiny |= (size > 0) & (size < small)
    return bool((tiny & (np.abs(w.values) <= np.abs(w.wanted))).all())


def _toward_zero(w: Wrong) -> bool:
    if not w.is_float:
        return False
    one = w.accepted.distance_ulp(w.actual)[w.indices] <= 1.0
    return bool((one & (np.abs(w.values) < np.abs(w.wanted))).all())


def _nan_lost(w: Wrong) -> bool:
    return w.is_float and bool((np.isnan(w.wanted) != np.isnan(w.values)).all())


def _infinity(w: Wrong) -> bool:
    return w.is_float and bool((np.isinf(w.wanted) != np.isinf(w.values)).all())


def _coarse(w: Wrong) -> bool:
    """Near, in units of the last place, to what is accepted, in a kernel with a native function."""
    near = w.accepted.distance_ulp(w.actual)[w.indices] if w.is_float else np.array([np.inf])
    return w.uses(*_NATIVE) and bool((near < 2.0 ** (w.accepted.dtype.precision - 3)).all())


def _less_precise(w: Wrong) -> bool:
    near = w.accepted.distance_ulp(w.actual)[w.indices] if w.is_float else np.array([np.inf])
    return bool((near < 2.0 ** (w.accepted.dtype.precision // 2 + 4)).all()) and len(w.indices) > 8


def _upper_bits(w: Wrong) -> bool:
    """Right in the lower half of the bits."""
    if w.is_float or w.actual.itemsize < 2:
        return False
    mask = (1 << (4 * w.actual.itemsize)) - 1
    unsigned = f"u{w.actual.itemsize}"
    alike = (w.values.view(unsigned) ^ w.wanted.view(unsigned)) & np.array(mask, unsigned)
    return len(w.indices) > 1 and not alike.any()


def _beside_high_bits(w: Wrong) -> bool:
    """Each wrong element has an input beside it whose highest bit is set, and some right ones have none."""
    bits = 8 * w.actual.itemsize - 1
    high = [(a.view(f"u{a.itemsize}") >> bits) == 1 for a in w.beside()]
    return not w.is_float and bool(high) and len(w.indices) > 1 and bool(np.logical_or.reduce(high).all())


# --- places -------------------------------------------------------------------------------------------------------


def _permuted(w: Wrong) -> bool:
    """The wrong elements hold, in another order, just what they should hold."""
    ours, theirs = w.actual[w.indices], w.accepted.lo[w.indices]
    bits = f"u{ours.itemsize}"
    return len(w.indices) > 1 and np.array_equal(np.sort(ours.view(bits)), np.sort(theirs.view(bits)))


def _repeats_the_first(w: Wrong) -> bool:
    """All wrong elements hold one value other than zero, which is right at the first index."""
    values = w.actual[w.indices]
    return len(values) > 2 and not _all_zero(w) and bool(same(values, np.full_like(values, w.accepted.lo[0])).all())


def _same_operands(w: Wrong) -> bool:
    """Each of two or more wrong elements has the same values beside it."""
    beside = w.beside()
    return len(w.indices) > 1 and bool(beside) and all(bool(same(a, np.full_like(a, a[0])).all()) for a in beside)


def _all_zero(w: Wrong) -> bool:
    return len(w.indices) > 2 and not w.actual[w.indices].view(f"u{w.actual.itemsize}").any()


def _shifted(w: Wrong) -> bool:
    """Each wrong element holds what belongs to the next index, or to the one before."""
    lo = w.accepted.lo
    neighbours = (np.roll(lo, -1), np.roll(lo, 1))
    return len(w.indices) > 2 and any(bool(same(w.actual, n)[w.indices].all()) for n in neighbours)


def _unchanged(w: Wrong) -> bool:
    """A buffer that is read and written holds what it did before."""
    before = w.evidence.before[w.name]
    return not w.poisoned.any() and bool(same(w.actual, before)[w.indices].all())


def _an_input(w: Wrong) -> bool:
    """Each wrong element holds that of one input at its index."""
    values = w.actual[w.indices]
    return len(w.indices) > 2 and any(bool(same(values, a).all()) for a in w.beside())


# --- what the kernel uses -----------------------------------------------------------------------------------------


def _using(*forms: str) -> Rule:
    return lambda w: w.uses(*forms)


_C = Cause
_UNWRITTEN: tuple[tuple[Rule, Cause, str], ...] = (
    (_nothing_written, _C.NOTHING, "nothing was written"),
    (_tail_missing, _C.TAIL, "only the last elements were not written"),
    (_every_kth_missing, _C.MISSING, "elements at even distances were not written"),
    (_some_missing, _C.MISSING, "some elements were not written"),
)
_VALUES: tuple[tuple[Rule, Cause, str], ...] = (
    (_sign_of_zero, _C.ZERO_SIGN, "zeros have the wrong sign"),
    (_flushed, _C.FLUSH, "wrong only beside subnormals, and too small"),
    (_toward_zero, _C.TOWARD_ZERO, "each is one step too near to zero"),
    (_nan_lost, _C.NAN_LOST, "NaN in place of a number, or the reverse"),
    (_infinity, _C.OVERFLOW, "an infinity in place of a number, or the reverse"),
    (_same_operands, _C.WRONG_OPERATION, "wrong for certain operands only"),
    (_coarse, _C.COARSE, "near what is accepted, in a kernel with native functions"),
    (_shifted, _C.OFFSET, "each wrong element holds what belongs beside it"),
    (_permuted, _C.LANE_ORDER, "the right values in other places"),
    (_repeats_the_first, _C.GRID, "every wrong element holds what belongs to the first"),
    (_unchanged, _C.MISSING, "the wrong elements are as they were before the launch"),
    (_using("wait.token"), _C.WAIT, "the kernel copies asynchronously"),
    (_using("barrier"), _C.BARRIER, "the kernel has barriers"),
    (_using("reduce.group"), _C.GROUP_FOLD, "the kernel folds over groups"),
    (_using("store.atomic"), _C.ATOMIC, "the kernel has atomic stores"),
    (_using(*_NATIVE), _C.COARSE, "wrong in a kernel with native functions"),
    (_beside_high_bits, _C.SIGNEDNESS, "wrong where the highest bit of an input is set"),
    (_upper_bits, _C.NARROW_INTEGERS, "the lower half of the bits is right"),
    (_less_precise, _C.NARROW_SUM, "near what is accepted"),
    (_an_input, _C.WRONG_OPERATION, "each wrong element is that of an input"),
    (_all_zero, _C.MISSING, "zeros in place of values"),
)


def from_patterns(evidence: Evidence) -> Iterator[Hint]:
    """Yield what fits the wrong elements of every buffer that has some, the most specific first.

    One wrong value alone is no pattern: it may be anything.
    """
    buffers = [Wrong(evidence, name, indices) for name, indices in evidence.wrong.items()]
    for rule, cause, says in (*_UNWRITTEN, *(_VALUES if evidence.count > 1 else ())):
        if all(rule(w) for w in buffers):
            yield Hint(cause, f"{says}: {LOOK_AT[cause]}")
