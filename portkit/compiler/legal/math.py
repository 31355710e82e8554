"""Native functions that a device lacks, by their derivations.

y = mov.trunc x       ->     r = ...      # what `portkit.compiler.decompose` writes for trunc
                             y = r
"""

from __future__ import annotations

from collections.abc import Callable

from portkit.compiler.decompose import emit
from portkit.compiler.features import Features
from portkit.compiler.legal.rewrite import Parts, Rewrite
from portkit.contract import Capabilities
from portkit.spec.kernel import Instr, Kernel


def derive_math(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """Return the kernel with the math forms that the device does not declare for a dtype written as others."""
    rewrite = _Math(kernel, capabilities)
    return rewrite.run() if any(map(rewrite.rule, kernel.body)) else kernel


class _Math(Rewrite):
    def __init__(self, kernel: Kernel, capabilities: Capabilities) -> None:
        super().__init__(kernel, capabilities)
        self._features = Features.of(capabilities, kernel.numeric)

    def rule(self, instr: Instr) -> Callable[[Instr], Parts] | None:
        if instr.form.extension != "math" or self._features.has(instr.form.kind, self.types[instr.args[0]].dtype):
            return None
        return self._derive

    def _derive(self, instr: Instr) -> Parts:
        x = self.one(instr.args[0])
        return (emit(self.b, instr.form.kind, [x], x.type.dtype, self._features),)
