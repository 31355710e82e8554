"""Whether a kernel uses only what a backend declares."""

from __future__ import annotations

from collections.abc import Iterator

from portkit.contract import Capabilities
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import TOKEN, DType


def undeclared(kernel: Kernel, capabilities: Capabilities) -> str:
    """Return what a kernel needs beyond the declared capabilities, empty if nothing (Spec: ext_c1, limit_c1)."""
    return next(_missing(kernel, capabilities), "")


def _missing(kernel: Kernel, capabilities: Capabilities) -> Iterator[str]:
    limits = capabilities.limits
    if kernel.strict and not capabilities.numeric.strict:
        yield "numeric strict is not declared"
    for what, used, most in (
        ("lanes", kernel.lanes, limits.lanes),
        ("bytes of shared memory", kernel.shared_bytes, limits.shared_bytes),
        ("buffers", len(kernel.buffers), limits.buffers),
    ):
        if used > most:
            yield f"{used} {what} are more than the declared {most}"
    for memory in kernel.memories.values():
        if memory.dtype.name not in capabilities.dtypes:
            yield f"dtype {memory.dtype} is not declared"
    for instr in kernel.body:
        yield from _missing_of(kernel, instr, capabilities)


def _missing_of(kernel: Kernel, instr: Instr, capabilities: Capabilities) -> Iterator[str]:
    if instr.type is not None and instr.type.dtype is not TOKEN:
        if instr.type.dtype.name not in capabilities.dtypes:
            yield f"dtype {instr.type.dtype} is not declared"
        if instr.type.lanes not in capabilities.lane_counts():
            yield f"lane count {instr.type.lanes} is not declared"
    dtype = _dtype(kernel, instr)
    if instr.form.extension and (dtype is None or not capabilities.admits(instr.form, dtype)):
        yield f"{instr.name} on {dtype} is not declared"


def _dtype(kernel: Kernel, instr: Instr) -> DType | None:
    """Return the dtype that a form is declared for: that of its memory, of its first operand, or of its result."""
    if instr.mems:
        return kernel.memories[instr.mems[0]].dtype
    if instr.args:
        return kernel.types[instr.args[0]].dtype
    return instr.type.dtype if instr.type is not None else None
