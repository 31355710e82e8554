"""Writing one file: to a temporary beside its place, then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from portkit.errors import UsageError


def write_atomically(path: Path, content: bytes) -> Path:
    """Replace a file's content so that a reader sees the old or the new one, never half of either."""
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(scratch).chmod(0o644)
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    return path


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Turn what the file system refuses into a `UsageError` that names the path."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
