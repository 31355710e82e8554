"""Exchange of tensors with NumPy and, through DLPack, with any array library, without copies where there need be none.

On a device that works in the memory of the host, `numpy.asarray(t, copy=False)` and DLPack show the tensor's own
memory, read-only where the protocol can say so; who writes to it all the same changes the tensor. Taken in, an array is
used in place if it is contiguous and starts at a multiple of 64 bytes, as those of torch and jax do and large NumPy
arrays by chance, and must then stay as it is; else it is copied when first needed. NumPy speaks DLPack for us, so bf16
and f8 travel as `bitcast("u16")` and `bitcast("u8")`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from portkit.errors import DTypeError
from portkit.tensor.base import device_name, source_of
from portkit.tensor.realising import contents
from portkit.tensor.tensor import Tensor

HOST = (1, 0)
"""`kDLCPU` of DLPack, device 0."""
_VERSIONED = (1, 0)


def from_numpy(array: NDArray[Any], device: str | None = None) -> Tensor:
    """Return a tensor of an array's elements, in place where that can be; `Tensor(array)` always copies.

    Raises `DTypeError` for what is no array, or has a dtype of no number format.
    """
    if not isinstance(array, (np.ndarray, np.generic)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DTypeError(f"from_numpy takes a NumPy array, got {type(array).__name__}; make a tensor with Tensor(...)")
    return Tensor.of(source_of(array), device_name(device))


def from_dlpack(array: Any, device: str | None = None) -> Tensor:
    """Return a tensor of the elements of any array of the host with `__dlpack__`, in place where that can be.

    Raises `DTypeError` where NumPy cannot take it, saying why.
    """
    if not hasattr(array, "__dlpack__"):
        raise DTypeError(f"from_dlpack takes what has __dlpack__, got {type(array).__name__}; use Tensor(...)")
    try:
        return from_numpy(np.from_dlpack(array), device)
    except (BufferError, RuntimeError) as error:
        raise DTypeError(f"from_dlpack: {error}; the array must be the host's, of a dtype that NumPy has") from error


def capsule_of(tensor: Tensor, max_version: tuple[int, int] | None, copy: bool | None) -> Any:
    """Return a tensor's capsule for `__dlpack__`; who cannot read read-only memory gets a copy, unless forbidden.

    Raises `DTypeError` for a dtype that NumPy cannot hand out, `BufferError` where a copy is needed and forbidden.
    """
    array = contents(tensor)
    if array.dtype.type.__module__ != "numpy":
        raise DTypeError(f"DLPack: {tensor.dtype} does not travel; use bitcast to u{tensor.dtype.bits} first")
    versioned = max_version is not None and max_version >= _VERSIONED
    if copy or (copy is None and not versioned):
        array = array.copy()
    return array.__dlpack__(max_version=max_version) if versioned else array.__dlpack__()
