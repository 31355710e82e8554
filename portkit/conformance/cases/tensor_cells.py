"""The cells that a device owes on level `tensors`, from the tables of the library and not from those of the cases.

Every elementwise function on every dtype that the device can hold, every public function of `portkit.tensor` on the
dtype that is its own, representatives on all dtypes, dynamic shapes, and random graphs in every way to compile them and
in every rewriting.
"""

from __future__ import annotations

from collections.abc import Iterator

import portkit.tensor
from portkit.conformance.case import Cell
from portkit.conformance.cases import tensor_dtypes, tensor_dynamic, tensor_functions, tensor_fuzz
from portkit.contract import Capabilities

_OF_BOOL = "any all logical_not logical_and logical_or logical_xor"
_OF_I32 = (
    "bitwise_and bitwise_or bitwise_xor bitwise_not left_shift right_shift multiply_high one_hot arange "
    "random.randint random.permutation"
)
_RANDOM = "random.bits random.rand random.uniform random.randn random.normal random.randint random.permutation"
_OWN = {
    **dict.fromkeys(_OF_BOOL.split(), "bool"),
    **dict.fromkeys(_OF_I32.split(), "i32"),
    "random.bits": "u32",
    "random.bernoulli": "bool",
}
"""The dtype of a function that is not one of floats."""
_HOST = ("from_numpy", "from_dlpack")
"""Functions that compute nothing on a device."""
_FLAT = (
    "full zeros ones full_like zeros_like ones_like linspace eye floor_divide truncated_divide lt gt eq ne le ge sign "
    "floor ceil round trunc isnan isinf isfinite cast bitcast count_nonzero argmax argmin argsort nonzero"
)
"""Functions whose gradient is zero or not there: they count, compare, round, or take no float."""
_METHODS = ("getitem", "setitem")
"""Operations that are no functions."""


def cells(capabilities: Capabilities) -> list[Cell]:
    """Return every declared cell of the level, each once."""
    return list(dict.fromkeys(_all(capabilities)))


def _all(capabilities: Capabilities) -> Iterator[Cell]:
    yield from tensor_functions.cells(capabilities)
    public = [name for name in portkit.tensor.FUNCTIONS if name not in _HOST]
    for name in (*public, *_METHODS, *_RANDOM.split(), "random.bernoulli"):
        yield Cell(f"tensor.{name}", _OWN.get(name, "f32"))
    for name in (*public, *_METHODS):
        if name not in _OWN and name not in _FLAT.split():
            yield Cell(f"tensor.{name}.grad", "f32")
    yield from tensor_dtypes.cells(capabilities)
    yield from tensor_dynamic.cells()
    yield from tensor_fuzz.cells(capabilities)
