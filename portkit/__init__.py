"""portkit: port a machine-learning accelerator by implementing twelve operations, and prove the port conforms.

`import portkit` loads nothing else; each subpackage loads on first use (`portkit.spec`, `portkit.reference`, ...), and
so does `portkit.Tensor`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor as Tensor

__version__ = "0.1.0.dev0"

_LAZY = ("backends", "conformance", "contract", "errors", "reference", "runtime", "spec", "tensor")

__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    """Import the subpackage *name*, or the class `Tensor`, on first use.

    Raises:
        AttributeError: *name* is not a public part of portkit.
    """
    if name in _LAZY:
        return importlib.import_module(f"portkit.{name}")
    if name == "Tensor":
        return importlib.import_module("portkit.tensor").Tensor
    raise AttributeError(f"module 'portkit' has no attribute {name!r}; its parts are {', '.join(_LAZY)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY, "Tensor"])
