"""Rendering the scaffold of a port, and the record of it that `portkit upgrade` goes by."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec

from portkit.errors import SchemaError, UsageError

RECORD = ".portkit-scaffold.json"
"""The file in a port's folder that says what it was made from."""
MAX_RECORD_BYTES = 1 << 20
_MOST_FILES = 1000
_PACKAGE = "portkit_{{ name }}"
# `(?!\n)$` and not `$` alone: Python's `$` also matches before a final line feed.
_Name = Annotated[str, msgspec.Meta(max_length=40, pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*(?!\n)$")]
_Word = Annotated[str, msgspec.Meta(max_length=20, pattern=r"^[a-z]+(?!\n)$")]
_Path = Annotated[str, msgspec.Meta(max_length=200)]
_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")]


class Scaffold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a port was made from: the answers, the portkit whose template it was, and each file's SHA-256."""

    name: _Name
    route: _Word
    driver: _Word
    portkit: Annotated[str, msgspec.Meta(max_length=100)]
    files: Annotated[dict[_Path, _Digest], msgspec.Meta(max_length=_MOST_FILES)]

    def encode(self) -> bytes:
        """Return the record as indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


def read_record(folder: Path) -> Scaffold:
    """Read what a port was made from.

    Raises `UsageError` where there is no record, `SchemaError` for what is none, or names files outside the folder.
    """
    path = folder / RECORD
    try:
        with path.open("rb") as file:
            content = file.read(MAX_RECORD_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read {path} ({error.strerror or error}): portkit new writes it into each port that it makes; "
            "name the folder of such a port"
        ) from error
    if len(content) > MAX_RECORD_BYTES:
        raise SchemaError(f"{path}: larger than {MAX_RECORD_BYTES} bytes; not a record of portkit new")
    try:
        return msgspec.json.decode(content, type=Scaffold)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError(f"{path}: not a record of portkit new: {error}") from error


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_of(folder: Path) -> dict[str, Path]:
    """Return the files of a rendered scaffold by their paths in it, but for the record."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path for name, path in found.items() if name != RECORD}


@contextmanager
def rendered(answers: dict[str, str], beside: Path) -> Generator[Path]:
    """Render the scaffold, with its record, into a temporary folder on the disk of `beside`.

    Whoever wants to keep it renames it; else it is gone afterwards. `answers` are name, route and driver.
    """
    import copier

    from portkit import __version__

    layers = ("common", f"routes/{answers['route']}", f"drivers/{answers['driver']}")
    above = next(folder for folder in (beside.absolute(), *beside.absolute().parents) if folder.exists())
    with tempfile.TemporaryDirectory(prefix=".portkit-new-", dir=above) as scratch:
        # a copy, so that a template inside a git checkout is taken as it lies, not as last tagged
        source = Path(scratch) / "template"
        shutil.copytree(template_folder(), source, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(_header(), source / "drivers/c" / _PACKAGE)
        made = Path(scratch) / "rendered"
        for layer in layers:
            data = {**answers, "portkit_version": __version__, "layer": layer}
            copier.run_copy(str(source), made, data=data, defaults=True, quiet=True, overwrite=True)
        digests = {name: digest(path) for name, path in files_of(made).items()}
        record = Scaffold(answers["name"], answers["route"], answers["driver"], __version__, digests)
        (made / RECORD).write_bytes(record.encode())
        yield made


def template_folder() -> Path:
    """Return the scaffold's template, in an installed wheel or in a checkout."""
    import portkit

    package = Path(portkit.__file__).parent
    for folder in (package / "templates" / "new_backend", package.parent / "templates" / "new_backend"):
        if folder.is_dir():
            return folder
    raise UsageError("the scaffold's template is missing from this installation; reinstall portkit")


def _header() -> Path:
    import portkit

    return Path(portkit.__file__).parent / "include" / "portkit_device.h"
