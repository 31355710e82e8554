"""What the spec accepts after a launch, and the digest of outputs that it fixes bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from portkit.reference.acceptance import Acceptance
from portkit.reference.bounds import NumericModel, bounds
from portkit.reference.numerics import self_check
from portkit.spec.kernel import Kernel

Array: TypeAlias = np.ndarray[Any, Any]
Acceptances: TypeAlias = Mapping[str, Acceptance]


def expect(
    kernel: Kernel, scalars: Mapping[str, int | float], before: Mapping[str, Array], model: NumericModel
) -> Acceptances:
    """Return the acceptance set of every buffer after a launch.

    `before` holds every buffer, those included that the kernel only writes. Raises `HarnessError` where this process
    does not compute as IEEE 754 says: a library may have changed its floating-point mode.
    """
    self_check()
    return bounds(kernel, scalars, before, model)


def outputs_digest(outputs: Mapping[str, Array]) -> str:
    """Return the SHA-256, in hexadecimal, of arrays by name; every NaN counts as the same one."""
    digest = hashlib.sha256()
    for name, array in sorted(outputs.items()):
        digest.update(f"{name}\0{array.dtype}\0{len(array)}\0".encode())
        digest.update(_canonical(array).tobytes())
    return digest.hexdigest()


def _canonical(array: Array) -> Array:
    if array.dtype.kind not in "fV":  # V: the formats of ml_dtypes
        return array
    with np.errstate(invalid="ignore"):  # asking whether a signalling NaN is one counts as using it
        nan = np.isnan(array)
    return np.where(nan, np.array(np.nan, array.dtype), array) if nan.any() else array
