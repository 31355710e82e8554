"""portkit: port a machine-learning accelerator by implementing twelve operations, and prove the port conforms.

`import portkit` loads nothing else; each subpackage loads on first use (`portkit.spec`, `portkit.reference`, ...).
"""

from __future__ import annotations

import importlib
from types import ModuleType

__version__ = "0.1.0.dev0"

_LAZY = ("backends", "conformance", "contract", "errors", "reference", "runtime", "spec")

__all__ = ["__version__"]


def __getattr__(name: str) -> ModuleType:
    """Import the subpackage *name* on first use.

    Raises:
        AttributeError: *name* is not a public part of portkit.
    """
    if name in _LAZY:
        return importlib.import_module(f"portkit.{name}")
    raise AttributeError(f"module 'portkit' has no attribute {name!r}; its parts are {', '.join(_LAZY)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
