"""Acceptance sets: what a buffer may hold after a launch, element by element."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portkit.reference.planes import Array, Bools, Choices, Interval, Value, undetermined
from portkit.reference.ulp import Float64, ordinal, ulp
from portkit.spec.types import BOOL, DType


@dataclass(frozen=True)
class Acceptance:
    """The admitted contents of one buffer; every array is one-dimensional with the buffer's extent.

    `lo` and `hi`, of the buffer's NumPy dtype, are the ends of what is admitted: for floats in the order that puts -0
    before +0, both NaN where only NaN is admitted; for integers the least and greatest of the `alternatives`.
    `may_nan` is where NaN is admitted, with any payload unless `nan_bits`: then the kernel only moves it, and its bits
    are those of `lo`. Nothing is claimed where `ill_conditioned`.
    Spec: numeric_c2, numeric_c6, numeric_c7; the accuracy table.
    """

    dtype: DType
    lo: Array
    hi: Array
    may_nan: Bools
    ill_conditioned: Bools
    alternatives: tuple[Array, ...] = ()
    nan_bits: bool = False

    @cached_property
    @np.errstate(all="ignore")
    def determined(self) -> Bools:
        """Where one value only is admitted; a NaN of any payload counts as one."""
        if self.lo is self.hi:
            return np.ones(self.lo.shape, np.bool_)
        if self.dtype.is_float:
            return ~undetermined(Interval(self.lo, self.hi, self.may_nan))
        return ~undetermined(Choices(self.alternatives, self.ill_conditioned))

    @np.errstate(all="ignore")
    def accepts(self, actual: Array) -> Bools:
        """Return where an element of `actual`, an array like `lo`, is admitted."""
        actual = self._checked(actual)
        bits = f"u{self.dtype.bytes}"
        same = actual.view(bits) == self.lo.view(bits)
        if same.all():
            return same
        if not self.dtype.is_float:
            return self._in_alternatives(actual)
        inside = (ordinal(self.lo) <= ordinal(actual)) & (ordinal(actual) <= ordinal(self.hi))
        nan = np.isnan(actual)
        admitted = self.may_nan & (same | ~np.isnan(self.lo)) if self.nan_bits else self.may_nan
        return np.where(nan, admitted, inside & ~np.isnan(self.lo)) | self.ill_conditioned

    def _checked(self, actual: Array) -> Array:
        assert actual.dtype == self.lo.dtype
        assert actual.shape == self.lo.shape
        return actual

    def _in_alternatives(self, actual: Array) -> Bools:
        return np.logical_or.reduce([actual == option for option in self.alternatives]) | self.ill_conditioned

    def distance_ulp(self, actual: Array) -> Float64:
        """Return how far each element is outside, 0 inside.

        Floats: in ulp after Muller at the nearer end, inf between NaN and numbers or finite and infinite. Integers: the
        difference to the nearest alternative.
        """
        accepted = self.accepts(actual)
        far = self._float_distance(actual) if self.dtype.is_float else self._integer_distance(actual)
        return np.where(accepted, 0.0, far)

    @np.errstate(all="ignore")
    def _float_distance(self, actual: Array) -> Float64:
        value, lo, hi = (x.astype(np.float64) for x in (actual, self.lo, self.hi))
        near = np.where(ordinal(actual) < ordinal(self.lo), lo, hi)
        distance = np.abs(value - near) / ulp(near, self.dtype)
        known = np.isfinite(value) & np.isfinite(near)
        return np.where(known, distance, np.inf)

    @np.errstate(all="ignore")
    def _integer_distance(self, actual: Array) -> Float64:
        if self.dtype == BOOL:
            return np.ones(actual.shape)
        distances = [
            np.where(actual > option, actual - option, option - actual).view(f"u{self.dtype.bytes}").astype(np.float64)
            for option in self.alternatives
        ]
        return np.minimum.reduce(distances)

    def error_share(self, actual: Array) -> Float64:
        """Return |actual - centre| as a share of the admitted error: below 1 where admitted, at least 1 elsewhere.

        The centre is that of the admitted interval, the admitted error half its width and half an ulp, so that a
        determined element that matches gives 0. It is 0 for integers and where an end is infinite, if the element is
        admitted, and inf for integers, NaN and infinities that are not.
        """
        accepted = self.accepts(actual)
        if not self.dtype.is_float:
            return np.where(accepted, 0.0, np.inf)
        with np.errstate(all="ignore"):
            value, lo, hi = (x.astype(np.float64) for x in (actual, self.lo, self.hi))
            unit = ulp(np.maximum(np.abs(lo), np.abs(hi)), self.dtype)
            above, below = value / unit - lo / unit, hi / unit - value / unit
            share = np.abs(above - below) / (above + below + 1)
        bounded = np.isfinite(lo) & np.isfinite(hi) & np.isfinite(value)
        return np.where(accepted, np.where(bounded, share, 0.0), np.where(bounded, np.maximum(share, 1.0), np.inf))

    def describe(self, index: int) -> str:
        """Return what is admitted at an index, in decimal and hexadecimal, for failure cards."""
        if self.ill_conditioned[index]:
            return "anything (ill-conditioned: nothing is claimed)"
        if not self.dtype.is_float:
            options = sorted({int(option[index]) for option in self.alternatives or (self.lo,)})
            return " or ".join(f"{value} ({self._hex(np.array(value, self.lo.dtype))})" for value in options)
        lo, hi = self.lo[index], self.hi[index]
        if np.isnan(lo):
            return f"NaN ({self._hex(lo)})" if self.nan_bits else "NaN (any payload)"
        ends = self._text(lo) if self.determined[index] else f"{self._text(lo)} .. {self._text(hi)}"
        return f"{ends} or NaN" if self.may_nan[index] else ends

    def _text(self, value: Any) -> str:
        return f"{float(value)!r} ({self._hex(value)})"

    def _hex(self, value: Any) -> str:
        bits = int(np.asarray(value).view(f"u{self.dtype.bytes}"))
        return f"0x{bits:0{2 * self.dtype.bytes}x}"


def acceptance(dtype: DType, contents: Value, nan_bits: bool) -> Acceptance:
    """Return the acceptance set of what is known of a buffer."""
    if isinstance(contents, Interval):
        silent = (contents.lo == -np.inf) & (contents.hi == np.inf) & contents.nan
        return Acceptance(dtype, contents.lo, contents.hi, contents.nan, silent, nan_bits=nan_bits)
    if isinstance(contents, Choices):
        options = contents.alternatives
        lo: Array = np.minimum.reduce(options)
        hi: Array = np.maximum.reduce(options)
        lo[contents.free], hi[contents.free] = dtype.min_int, dtype.max_int
        return Acceptance(dtype, lo, hi, np.zeros(lo.shape, np.bool_), contents.free, options)
    nothing: NDArray[np.bool_] = np.zeros(contents.shape, np.bool_)
    nan = np.isnan(contents) if dtype.is_float else nothing
    return Acceptance(dtype, contents, contents, nan, nothing, () if dtype.is_float else (contents,), nan_bits)
