"""Whether a kernel uses only what a backend declares."""

from __future__ import annotations

from portkit.contract import Capabilities, unsupported
from portkit.spec.kernel import Kernel


def undeclared(kernel: Kernel, capabilities: Capabilities) -> str:
    """Return in one line what a kernel needs beyond the declared capabilities, empty if nothing.

    Spec: ext_c1, limit_c1, numeric_c3.
    """
    return "; ".join(unsupported(kernel, capabilities))
