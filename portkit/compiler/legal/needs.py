"""What of a kernel a device lacks, as the passes ask it."""

from __future__ import annotations

from portkit.contract import Capabilities
from portkit.spec.kernel import Instr
from portkit.spec.types import BF16, BOOL, F16, TOKEN, DType, Type


def lacks(dtype: DType, capabilities: Capabilities) -> bool:
    """Return whether a dtype has to be carried by others."""
    return dtype != TOKEN and dtype.name not in capabilities.dtypes


def is_wide(dtype: DType, capabilities: Capabilities) -> bool:
    """Return whether values of a dtype are carried as pairs of words, which are scalars always."""
    return dtype.is_int and dtype.bits == 64 and lacks(dtype, capabilities)


def rounds_each_step(kind: str, dtype: DType, capabilities: Capabilities) -> bool:
    """Return whether a fold is not that of the carriers rounded at the end: products of narrow floats."""
    return kind == "mul" and dtype in (F16, BF16) and lacks(dtype, capabilities)


def expands_group(instr: Instr, types: dict[str, Type], capabilities: Capabilities) -> bool:
    """Return whether a form is a reduction over the work-group that has to go through shared memory."""
    if instr.form.extension != "group":
        return False
    dtype = types[instr.args[0]].dtype
    stepwise = is_wide(dtype, capabilities) or rounds_each_step(instr.form.kind, dtype, capabilities)
    return stepwise or not capabilities.has("group") or (dtype == BOOL and not capabilities.admits(instr.form, BOOL))
