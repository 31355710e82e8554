"""How the elements of a buffer are stored on a device, and the conversion of arrays to and from that.

A device that declares a dtype stores it as NumPy does. Elsewhere an element is unsigned integers that the device has:
one of the same width or else one 32-bit *word* with the bits zero-extended, and for 64-bit integers a *pair* of words,
the low one first. Everything is little-endian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.contract import Capabilities
from portkit.errors import DTypeError
from portkit.spec.types import BOOL, DTYPES, F64, U8, U32, DType

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Storage:
    """An element is `count` consecutive elements of the dtype `element`; native where that is the dtype itself."""

    element: DType
    count: int = 1
    native: bool = True

    @property
    def bytes(self) -> int:
        """Bytes of one stored element."""
        return self.element.bytes * self.count


def storage(dtype: DType, capabilities: Capabilities) -> Storage:
    """Return how a device stores elements of `dtype`; bool is stored as u8 is.

    Raises `DTypeError` for f64 on a device without it: two words would hold it, but nothing could compute with them.
    """
    if dtype == BOOL:
        return Storage(storage(U8, capabilities).element, native=False)
    if dtype.name in capabilities.dtypes:
        return Storage(dtype)
    if dtype == F64:
        raise DTypeError(f"{capabilities.name} has no f64: cast to f32 before the data goes to the device")
    if dtype.bits == 64:
        return Storage(U32, count=2, native=False)
    same_width = DTYPES[f"u{dtype.bits}"]
    return Storage(same_width if same_width.name in capabilities.dtypes else U32, native=False)


def element_bytes(dtype: DType, capabilities: Capabilities) -> int:
    """Return the bytes that one element of `dtype` takes on a device; raises as `storage`."""
    return storage(dtype, capabilities).bytes


def to_device(array: Array, stored: Storage) -> Array:
    """Return an array's elements in C order as a device stores them: one dimension, little-endian, of stored elements.

    A view where the bytes are the same, so without a copy for contiguous native arrays, pairs and equal widths.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    little = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    target = np.dtype(stored.element.numpy).newbyteorder("<")
    if little.dtype.itemsize == stored.bytes:
        return little.view(target)
    return little.view(f"<u{little.dtype.itemsize}").astype(target)


def from_device(raw: bytes | memoryview, dtype: DType, shape: Sequence[int], stored: Storage) -> Array:
    """Return the array of `dtype` and `shape` that a device stores as `raw`.

    A view of `raw`, read-only where that is, unless elements are wider there. Words are cut to the element's width.
    """
    flat = np.frombuffer(raw, np.dtype(stored.element.numpy).newbyteorder("<"), count=prod(shape) * stored.count)
    if stored.bytes != dtype.bytes:
        flat = flat.astype(f"<u{dtype.bytes}")
    return flat.view(dtype.numpy.newbyteorder("<")).astype(dtype.numpy, copy=False).reshape(tuple(shape))
