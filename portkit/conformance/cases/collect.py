"""All cases of a profile, in the order of the levels; the same list wherever the capabilities are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from portkit.conformance.case import Case, Level
from portkit.conformance.cases import (
    device,
    device_launch,
    exhaustive,
    fuzz,
    kernels_bits,
    kernels_buffers,
    kernels_divergent,
    kernels_group,
    kernels_index,
    kernels_loops,
    kernels_math,
    kernels_shared,
    kernels_vector,
    ops_arithmetic,
    ops_atomic,
    ops_control,
    ops_convert,
    ops_group,
    ops_literals,
    ops_memory,
    ops_vector,
    ops_vector_memory,
    refuse,
)
from portkit.contract import Capabilities
from portkit.errors import UsageError, near_names

PROFILES: dict[str, tuple[Level, ...]] = {
    "core": (Level.DEVICE, Level.OPS, Level.KERNELS),
    "compute": (Level.DEVICE, Level.OPS, Level.KERNELS, Level.TENSORS),
}
"""What each profile claims, as the levels that it consists of."""


def _tensors(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the cases of level `tensors`, which take the compiler and the tensor library to list."""
    from portkit.conformance.cases import tensors

    yield from tensors.cases(capabilities)


_CORE: tuple[Callable[[Capabilities], Iterable[Case]], ...] = (
    device.cases,
    device_launch.cases,
    ops_memory.cases,
    ops_convert.cases,
    ops_arithmetic.cases,
    ops_literals.cases,
    ops_control.cases,
    ops_vector.cases,
    ops_vector_memory.cases,
    ops_group.cases,
    ops_atomic.cases,
    kernels_loops.cases,
    kernels_divergent.cases,
    kernels_index.cases,
    kernels_buffers.cases,
    kernels_shared.cases,
    kernels_math.cases,
    kernels_bits.cases,
    kernels_group.cases,
    kernels_vector.cases,
    refuse.cases,
    fuzz.cases,
    exhaustive.cases,
)
"""In the order of bring-up."""


def collect(capabilities: Capabilities, profile: str = "core") -> list[Case]:
    """Return every case of a profile, all tiers, that the capabilities select.

    Raises `UsageError` for an unknown profile.
    """
    if profile not in PROFILES:
        known = ", ".join(PROFILES)
        raise UsageError(f"unknown profile {profile!r}; known: {known}{near_names(profile, PROFILES)}")
    sources = (*_CORE, _tensors) if Level.TENSORS in PROFILES[profile] else _CORE
    return [case for source in sources for case in source(capabilities)]
