"""The identity of the suite: what fixes the cases, their inputs, and what is expected of them."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import portkit
from portkit.conformance.case import SUITE_VERSION

_SOURCES = (
    "conformance/case.py",
    "conformance/cases",
    "conformance/judge.py",
    "conformance/confirming.py",
    "conformance/determinism.py",
    "conformance/ordering.py",
    "conformance/rewriting.py",
    "conformance/finding.py",
    "conformance/outcome.py",
    "conformance/launching.py",
    "conformance/graphs.py",
    "conformance/graph_bounds.py",
    "conformance/graph_functions.py",
    "conformance/graph_views.py",
    "conformance/expectation.py",
    "reference",
    "compiler",
    "tensor",
)


@cache
def suite_digest(other: str = "") -> str:
    """Return the SHA-256, in hexadecimal, over the suite's version and the files that cases and verdicts come from.

    `other` names a suite that is run in place of portkit's own (`package.module:FUNCTION`).
    """
    home = Path(portkit.__file__).parent
    digest = hashlib.sha256(SUITE_VERSION.encode())
    for source in _SOURCES:
        path = home / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(home).as_posix()}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
    if other:
        spec = find_spec(other.partition(":")[0])
        digest.update(Path(spec.origin).read_bytes() if spec and spec.origin else other.encode())
    return digest.hexdigest()
