"""A kernel that fits what a device declares, from one that may use the whole language."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from portkit.compiler.legal.groups import expand_groups
from portkit.compiler.legal.vectors import split_vectors
from portkit.compiler.storage import Storage, storage
from portkit.contract import Capabilities, unsupported
from portkit.errors import UsageError
from portkit.spec.kernel import Kernel

_PASSES: tuple[Callable[[Kernel, Capabilities], Kernel], ...] = (
    split_vectors,
    expand_groups,
)
"""In order; each gives the kernel itself back where it has nothing to do."""


@dataclass(frozen=True)
class Legal:
    """A kernel that a device takes, and how each buffer of it is stored there."""

    kernel: Kernel
    storage: dict[str, Storage]


def legalise(kernel: Kernel, capabilities: Capabilities) -> Legal:
    """Return a kernel that computes the same with what the device declares.

    A strict kernel gives the same bits, NaN payloads aside. Raises `UsageError` for what cannot be had otherwise
    (atomics, sizes beyond the limits, `numeric strict`), `DTypeError` for f64 on a device without it.
    """
    stored = {b.name: storage(b.dtype, capabilities) for b in kernel.buffers}
    if not unsupported(kernel, capabilities):
        return Legal(kernel, stored)
    for step in _PASSES:
        kernel = step(kernel, capabilities)
    _check_fits(kernel, capabilities)
    return Legal(kernel, stored)


def _check_fits(kernel: Kernel, capabilities: Capabilities) -> None:
    reasons = unsupported(kernel, capabilities)
    if reasons:
        raise UsageError(f"kernel {kernel.name} does not run on {capabilities.name}: {'; '.join(reasons)}")
