"""The judged never imports the judge: what a device process refuses to import.

A finder in front of all others refuses by name. What gets past it (a backend that removes the finder, or loads the file
by its path) is found afterwards by looking at the modules that are loaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import portkit
from portkit.errors import ContractError

FORBIDDEN = ("reference", "compiler", "tensor", "conformance", "cli")
_HOME = Path(portkit.__file__).resolve().parent
_NAMES = tuple(f"portkit.{layer}" for layer in FORBIDDEN)
_FOLDERS = tuple(f"{_HOME / layer}{os.sep}" for layer in FORBIDDEN)


def _is_forbidden(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in _NAMES)


def _refusal(module: str) -> ContractError:
    return ContractError(f"the backend imports {module}, which belongs to the judge; a backend computes by itself")


class ImportGuard(MetaPathFinder):
    """Refuses the judge's modules and remembers the first attempt, in case the backend swallows the error."""

    def __init__(self) -> None:
        self.attempt = ""
        self._seen = 0

    def install(self) -> None:
        """Put the guard in front of every other finder."""
        sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse a forbidden module. Raises `ContractError` naming it."""
        if _is_forbidden(fullname):
            self.attempt = self.attempt or fullname
            raise _refusal(fullname)
        return None

    def check(self) -> None:
        """Raise `ContractError` if a forbidden module was asked for or is loaded, by whatever way."""
        if self.attempt:
            raise _refusal(self.attempt)
        if len(sys.modules) == self._seen and self in sys.meta_path:
            return
        for name, module in list(sys.modules.items()):
            origin = getattr(module, "__file__", None)
            if _is_forbidden(name) or (origin and os.path.realpath(origin).startswith(_FOLDERS)):
                raise _refusal(name)
        if self not in sys.meta_path:
            raise ContractError("the backend removed the import guard from sys.meta_path; leave it in place")
        self._seen = len(sys.modules)
