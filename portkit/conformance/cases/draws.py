"""Random bit patterns and numbers for case inputs, from the suite's own generator.

A number is drawn as the bit pattern of its dtype, in a uint64 array, so that nothing here ever rounds: the same id
gives the same bits on every machine and with every release of NumPy. `as_array` turns patterns into the buffer's dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from portkit.conformance.case import SUITE_VERSION
from portkit.reference.generator import stream
from portkit.spec.types import DType, infinity_bits

Patterns = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]


class Draws:
    """Draws in order from the stream of one case id and suite version."""

    def __init__(self, case_id: str) -> None:
        self._stream = stream(f"{SUITE_VERSION}:{case_id}")

    def words(self, count: int) -> Patterns:
        """Return `count` uniform 64-bit words."""
        halves = self._stream.bits(2 * count).astype(np.uint64)
        return (halves[0::2] << np.uint64(32)) | halves[1::2]

    def integers(self, low: int, high: int, count: int) -> Integers:
        """Return `count` integers in [low, high], at most 2^32 different ones."""
        return self._stream.integers(low, high, count)

    def one_of(self, values: Sequence[int] | Patterns, count: int) -> Patterns:
        """Return `count` picks from `values`, as patterns."""
        table = np.array(values, dtype=np.uint64)
        return table[self.integers(0, len(table) - 1, count)]

    def permutation(self, count: int) -> Integers:
        """Return the numbers 0 to count-1 in random order; equal keys keep their order, so it is well defined."""
        return np.argsort(self.words(count), kind="stable").astype(np.int64)

    def bits(self, width: int, count: int) -> Patterns:
        """Return `count` uniform patterns of `width` bits."""
        return self.words(count) >> np.uint64(64 - width)

    def finite(self, dtype: DType, count: int) -> Patterns:
        """Return patterns uniform over all finite numbers of a float dtype, subnormals included."""
        magnitudes = self.words(count) % np.uint64(infinity_bits(dtype))
        return magnitudes | sign_bit(dtype, self.bits(1, count))

    def floats(self, dtype: DType, low: int, high: int, count: int) -> Patterns:
        """Return normal numbers with a uniform exponent in [low, high], either sign, random significands."""
        exponents = self.integers(low, high, count)
        return compose(dtype, self.bits(1, count), exponents, self.bits(dtype.precision - 1, count))


def u64(value: int) -> np.uint64:
    """Return a Python integer as a uint64 (negative ones wrap)."""
    return np.uint64(value & 0xFFFF_FFFF_FFFF_FFFF)


def sign_bit(dtype: DType, signs: Patterns) -> Patterns:
    """Return the sign bit of a float dtype where `signs` is 1."""
    return signs << u64(dtype.bits - 1)


def compose(dtype: DType, signs: Patterns, exponents: Integers, mantissas: Patterns) -> Patterns:
    """Return the patterns of (-1)^sign * 1.mantissa * 2^exponent; exponents are clamped to the normal range."""
    stored = np.clip(exponents, dtype.emin, dtype.emax) - dtype.emin + 1
    mantissa_bits = u64(dtype.precision - 1)
    return sign_bit(dtype, signs) | (stored.astype(np.uint64) << mantissa_bits) | mantissas


def exponent_of(dtype: DType, patterns: Patterns) -> Integers:
    """Return the exponent of normal numbers (subnormals give emin - 1)."""
    magnitude = patterns & u64((1 << (dtype.bits - 1)) - 1)
    return (magnitude >> u64(dtype.precision - 1)).astype(np.int64) + dtype.emin - 1


def as_array(dtype: DType, patterns: Patterns | Sequence[int]) -> npt.NDArray[Any]:
    """Return patterns as an array of the dtype's NumPy type; bool becomes the i32 that stands for it in memory."""
    if dtype.name == "bool":
        return np.asarray(patterns, dtype=np.uint64).astype(np.int32)
    unsigned = np.dtype(f"uint{dtype.bits}")
    return np.asarray(patterns, dtype=np.uint64).astype(unsigned).view(dtype.numpy)
