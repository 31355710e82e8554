"""Acceptance sets as files: whoever reads them can judge with a few lines, and without a reference.

For floats the admitted values of an element are those from `lo` to `hi`, in the order that puts -0 before +0, and any
NaN where the flag says so; a NaN as `lo` admits its own bits alone, or with the flag every NaN. For integers and bools
they are listed. Spec: numeric_c2, numeric_c6, numeric_c7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from portkit.reference.acceptance import Acceptance
from portkit.spec.types import DType

Array = np.ndarray[Any, Any]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
ANY_NAN, ANYTHING = 1, 2
"""The bits of a flag."""


@dataclass(frozen=True, slots=True)
class Spelt:
    """An acceptance set as bytes: elements are little-endian, flags empty where all of them are 0."""

    rule: Literal["interval", "choice"]
    values: tuple[bytes, ...]
    flags: bytes


def spell(accepted: Acceptance) -> Spelt:
    """Return the files of an acceptance set."""
    if not accepted.dtype.is_float:
        arrays, flags = accepted.alternatives, ANYTHING * accepted.ill_conditioned.astype(np.uint8)
        return Spelt("choice", _distinct([little(array) for array in arrays]), _flags(flags))
    free = accepted.may_nan & ~_nan(accepted.lo) if accepted.nan_bits else accepted.may_nan
    flags = ANY_NAN * free.astype(np.uint8) + ANYTHING * accepted.ill_conditioned.astype(np.uint8)
    return Spelt("interval", _distinct([little(accepted.lo), little(accepted.hi)]), _flags(flags))


def _distinct(files: Sequence[bytes]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(files))


def _flags(flags: Array) -> bytes:
    return flags.tobytes() if flags.any() else b""


def restore(dtype: DType, spelt: Spelt) -> Acceptance:
    """Return the acceptance set that files spell; what one admits, so does the other."""
    arrays = tuple(elements(content, dtype) for content in spelt.values)
    lo, hi = arrays[0], arrays[-1]
    flags = np.frombuffer(spelt.flags, np.uint8) if spelt.flags else np.zeros(lo.shape, np.uint8)
    silent: Bools = (flags & ANYTHING) != 0
    if not dtype.is_float:
        least: Array = np.minimum.reduce(arrays)
        greatest: Array = np.maximum.reduce(arrays)
        return Acceptance(dtype, least, greatest, np.zeros(len(lo), np.bool_), silent, arrays)
    nan, free = _nan(lo), (flags & ANY_NAN) != 0
    may_nan: Bools = np.logical_or(free, nan)
    return Acceptance(dtype, lo, hi, may_nan, silent, nan_bits=bool((nan & ~free).any()))


def _nan(array: Array) -> Bools:
    with np.errstate(invalid="ignore"):  # asking whether a signalling NaN is one counts as using it
        return np.isnan(array)


def little(array: Array) -> bytes:
    """Return the elements of an array in little-endian order."""
    return np.ascontiguousarray(array).view(f"u{array.itemsize}").astype(f"<u{array.itemsize}").tobytes()


def elements(content: bytes, dtype: DType) -> Array:
    """Return the array whose elements `little` gave."""
    bits = np.frombuffer(content, f"<u{dtype.bytes}").astype(f"u{dtype.bytes}")
    return bits.view(dtype.numpy)
