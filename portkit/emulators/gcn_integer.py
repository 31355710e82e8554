"""The integer and bit instructions of gfx942's vector unit, on arrays. Source: CDNA3 ISA, 12.7 to 12.12."""

from __future__ import annotations

from typing import Any

import numpy as np

from portkit.emulators.gcn_waves import Array, Mask

_BITS32 = np.uint64(0xFFFFFFFF)


def low_product(a: Array, b: Array) -> Array:
    """The lower half of the product."""
    return a * b


def high_product(a: Array, b: Array) -> Array:
    """The upper half of the product of 32-bit integers, signed as they are."""
    wide = np.int64 if a.dtype == np.int32 else np.uint64
    return ((a.astype(wide) * b.astype(wide)) >> 32).astype(a.dtype)


def low24(a: Array) -> Array:
    """The lower 24 bits of a register, extended by the sign where the type is signed."""
    return ((a << 8) >> 8).astype(a.dtype)


def product24(a: Array, b: Array) -> Array:
    """The lower 32 bits of the product of 24-bit integers."""
    return low24(a) * low24(b)


def wide_product(dtype: type[np.integer[Any]]) -> Any:
    """Return a * b + c in 64 bits for 32-bit a and b (V_MAD_U64_U32, V_MAD_I64_I32), with the carry of the sum."""

    def run(a: Array, b: Array, c: Array) -> tuple[Array, Mask]:
        product = a.astype(dtype) * b.astype(dtype)
        total = product + c
        return total, (total < product) if dtype is np.uint64 else ((total < product) != (c < 0))

    return run


def shift(direction: Any) -> Any:
    """Return a shift whose count comes first and counts modulo the width (V_LSHLREV and others)."""

    def run(count: Array, x: Array) -> Array:
        return direction(x, (count & (8 * x.dtype.itemsize - 1)).astype(x.dtype)).astype(x.dtype)

    return run


def add_carry(a: Array, b: Array) -> tuple[Array, Mask]:
    """The sum and its carry."""
    total = a + b
    return total, total < a


def add_with_carry(a: Array, b: Array, carry: Mask) -> tuple[Array, Mask]:
    """The sum of three and its carry."""
    total = a.astype(np.uint64) + b + carry
    return total.astype(np.uint32), total > _BITS32


def subtract_borrow(a: Array, b: Array) -> tuple[Array, Mask]:
    """The difference and its borrow."""
    return a - b, a < b


def subtract_with_borrow(a: Array, b: Array, borrow: Mask) -> tuple[Array, Mask]:
    """The difference of three and its borrow."""
    return (a - b - borrow).astype(np.uint32), a < b.astype(np.uint64) + borrow


def extract(x: Array, first: Array, width: Array) -> Array:
    """A bit field, extended by its sign where the type is signed (V_BFE_U32, V_BFE_I32)."""
    first, width = first & 31, (width & 31).astype(np.int64)
    field = (x.view(np.uint32).astype(np.uint64) >> first.astype(np.uint64)).astype(np.int64)
    if x.dtype == np.int32:
        field = (x.astype(np.int64) >> first.astype(np.int64)) << (64 - width) >> (64 - width)
    else:
        field = field & ((np.int64(1) << width) - 1)
    return np.where(width == 0, 0, field).astype(x.dtype)


def insert(mask: Array, a: Array, b: Array) -> Array:
    """Bits of `a` where the mask has ones, else of `b` (V_BFI_B32)."""
    return (mask & a) | (~mask & b)


def align_bits(high: Array, low: Array, count: Array) -> Array:
    """32 bits of two registers side by side, from bit `count` on (V_ALIGNBIT_B32)."""
    wide = (high.astype(np.uint64) << np.uint64(32)) | low
    return (wide >> (count & 31).astype(np.uint64)).astype(np.uint32)


def align_bytes(high: Array, low: Array, count: Array) -> Array:
    """32 bits of two registers side by side, from byte `count` on (V_ALIGNBYTE_B32)."""
    return align_bits(high, low, (count & 3) * 8)


def permute(high: Array, low: Array, selector: Array) -> Array:
    """Four bytes, each chosen from eight of two registers, from their signs, or constant (V_PERM_B32)."""
    wide = (high.astype(np.uint64) << np.uint64(32)) | low
    result = np.zeros(np.broadcast_shapes(wide.shape, selector.shape), np.uint32)
    for place in range(4):
        chosen = ((selector >> (8 * place)) & 0xFF).astype(np.uint64)
        byte = (wide >> (8 * (chosen & np.uint64(7)))) & np.uint64(0xFF)
        signs = ((wide >> (16 * (chosen & np.uint64(3)) + np.uint64(15))) & np.uint64(1)) * np.uint64(0xFF)
        byte = np.select([chosen < 8, chosen < 12, chosen == 12], [byte, signs, np.uint64(0)], np.uint64(0xFF))
        result |= byte.astype(np.uint32) << (8 * place)
    return result


def leading(x: Array) -> Array:
    """How many zeros stand above the first one; -1 of zero (V_FFBH_U32)."""
    return np.where(x == 0, -1, 32 - np.frexp(x.astype(np.float64))[1]).astype(np.int32).view(np.uint32)


def leading_signs(x: Array) -> Array:
    """How many bits from the top on are as the sign; -1 where all are (V_FFBH_I32)."""
    return leading(np.where(x < 0, ~x, x).astype(np.int32).view(np.uint32))


def trailing(x: Array) -> Array:
    """The number of the lowest one; -1 of zero (V_FFBL_B32)."""
    lowest = x & (~x + np.uint32(1))
    return np.where(x == 0, -1, np.frexp(lowest.astype(np.float64))[1] - 1).astype(np.int32).view(np.uint32)


def reverse(x: Array) -> Array:
    """The bits from the other end (V_BFREV_B32)."""
    for step, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF)):
        x = ((x >> step) & np.uint32(mask)) | ((x & np.uint32(mask)) << step)
    return (x >> 16) | (x << 16)


def ones(x: Array) -> Array:
    """How many bits are one."""
    return np.bitwise_count(x).astype(np.uint32)
