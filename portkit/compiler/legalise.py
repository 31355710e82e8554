"""A kernel that fits what a device declares, from one that may use the whole language."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from portkit.compiler.legal.floats import carry_narrow_floats
from portkit.compiler.legal.fused import expand_fused
from portkit.compiler.legal.groups import expand_groups
from portkit.compiler.legal.math import derive_math
from portkit.compiler.legal.needs import lacks
from portkit.compiler.legal.small import widen_small_integers
from portkit.compiler.legal.unused import drop_unused
from portkit.compiler.legal.vectors import split_vectors
from portkit.compiler.legal.wide import split_wide_integers
from portkit.compiler.storage import Storage, storage
from portkit.contract import Capabilities, unsupported
from portkit.errors import DTypeError, UsageError, VerifyError
from portkit.spec.assemble import MAX_INSTRUCTIONS
from portkit.spec.kernel import Kernel
from portkit.spec.types import F64
from portkit.spec.verify import verify

_PASSES: tuple[Callable[[Kernel, Capabilities], Kernel], ...] = (
    derive_math,
    split_vectors,
    expand_groups,
    carry_narrow_floats,
    expand_fused,
    split_wide_integers,
    widen_small_integers,
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
    _check_possible(kernel, capabilities)
    legal = kernel
    for step in _PASSES:
        legal = step(legal, capabilities)
    legal = drop_unused(legal)
    _check_fits(legal, capabilities)
    if any(i.form.extension == "group" for i in kernel.body):
        _check_uniform(legal, capabilities)
    return Legal(legal, stored)


def _check_possible(kernel: Kernel, capabilities: Capabilities) -> None:
    """Refuse what no pass can give."""
    if lacks(F64, capabilities) and any(t.dtype == F64 for t in (*kernel.types.values(), *kernel.shared)):
        raise DTypeError(f"kernel {kernel.name} computes in f64, which {capabilities.name} has not: compute in f32")
    for instr in kernel.body:
        if instr.form.extension == "atomic":
            dtype = kernel.memories[instr.mems[0]].dtype
            if not capabilities.admits(instr.form, dtype):
                raise UsageError(
                    f"kernel {kernel.name}: {capabilities.name} has no {instr.name} on {dtype}; "
                    "reduce in a second kernel, or on a dtype that it declares"
                )


def _check_fits(kernel: Kernel, capabilities: Capabilities) -> None:
    """Refuse what is beyond the limits."""
    if len(kernel.body) > MAX_INSTRUCTIONS:
        message = f"kernel {kernel.name} has {len(kernel.body)} instructions once it fits {capabilities.name}"
        raise UsageError(f"{message}, {MAX_INSTRUCTIONS} is the most: split the kernel")
    reasons = unsupported(kernel, capabilities)
    if reasons:
        raise UsageError(f"kernel {kernel.name} does not run on {capabilities.name}: {'; '.join(reasons)}")


def _check_uniform(kernel: Kernel, capabilities: Capabilities) -> None:
    """Refuse a barrier in a loop whose count only the extension `group` makes uniform."""
    try:
        verify(kernel)
    except VerifyError as error:
        raise UsageError(
            f"kernel {kernel.name} needs the extension group, which {capabilities.name} has not: what is read from "
            f"shared memory in the place of a reduction is uniform nowhere; {error}"
        ) from error
