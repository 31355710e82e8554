"""What a device computes natively, as far as it decides how a function is derived."""

from __future__ import annotations

from dataclasses import dataclass

from portkit.contract import Capabilities
from portkit.spec.forms import FORMS
from portkit.spec.kernel import Numeric
from portkit.spec.types import DType

_STRICT_KINDS = ("recip", "sqrt", "trunc")


@dataclass(frozen=True, slots=True)
class Features:
    """The extension forms that derivations may use; without any, they are written in base forms.

    `fma` names the dtypes that have `mul.add`, `math` the pairs (kind, dtype) of native functions.
    """

    fma: frozenset[str] = frozenset()
    math: frozenset[tuple[str, str]] = frozenset()

    @staticmethod
    def of(capabilities: Capabilities, numeric: Numeric = "fast") -> Features:
        """Return what a device declares and a kernel of that numeric mode may use (Spec: ext_c1, numeric_c3)."""
        forms = [form for form in FORMS.values() if form.extension in ("fma", "math")]
        declared = [(f, d) for f in forms for d in f.dtypes("T") if capabilities.admits(f, d)]
        return Features(
            frozenset(d.name for f, d in declared if f.extension == "fma"),
            frozenset(
                (f.kind, d.name)
                for f, d in declared
                if f.extension == "math" and (numeric == "fast" or f.kind in _STRICT_KINDS)
            ),
        )

    def fuses(self, dtype: DType) -> bool:
        """Whether `mul.add` is native on a dtype."""
        return dtype.name in self.fma

    def has(self, kind: str, dtype: DType) -> bool:
        """Whether the math form `mov.KIND` is native on a dtype."""
        return (kind, dtype.name) in self.math


BASE = Features()
"""No extension: what every device can do."""
