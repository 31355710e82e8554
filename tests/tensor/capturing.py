"""Tensors and notes for the tests of `jit`."""

from __future__ import annotations

from typing import Any

import numpy as np

from portkit.tensor import Tensor


def full(value: float, *shape: int) -> Tensor:
    return Tensor(np.full(shape or (3,), value, np.float32))


def first(tensor: Tensor) -> float:
    return float(tensor.numpy().reshape(-1)[0])


class Notes:
    """Notes what it is told where `jit` does not look: as far as constants go, it is of another package."""

    __module__ = "numpy"

    def __init__(self) -> None:
        self.told: list[Any] = []

    def tell(self, what: Any) -> None:
        self.told.append(what)
