"""All cases of level `tensors`, in the order of bring-up."""

from __future__ import annotations

from collections.abc import Iterator

from portkit.conformance.case import Case
from portkit.conformance.cases import (
    tensor_all,
    tensor_dtypes,
    tensor_dynamic,
    tensor_functions,
    tensor_fuzz,
    tensor_layers,
    tensor_ops,
)
from portkit.contract import Capabilities

_SOURCES = (
    tensor_functions.cases,
    tensor_ops.cases,
    tensor_layers.cases,
    tensor_dtypes.cases,
    tensor_dynamic.cases,
    tensor_fuzz.cases,
    tensor_all.cases,
)


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield every case of the level, all tiers, that the capabilities select."""
    for source in _SOURCES:
        yield from source(capabilities)
