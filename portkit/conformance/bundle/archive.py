"""Reading and writing the files of a bundle, or of outputs: a zip archive, or for outputs a folder.

Archives come from outside. Names are keys and never become paths; of each file no more is read than its record allows,
and before anything is read the directory of the archive is held against limits. Writing gives the same bytes for the
same files: names in order, one date, one compression.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol

from portkit.conformance.bundle.model import PART
from portkit.errors import SchemaError, UsageError

MAX_ARCHIVE_BYTES = 1 << 30
MAX_DIRECTORY_BYTES = 16 << 20
MAX_FILES = 60_000
MAX_TOTAL_BYTES = 4 << 30
"""Bytes of all files together, unpacked."""
_NAME = re.compile(rf"{PART}(/{PART})*")
_DATE = (1980, 1, 1, 0, 0, 0)
_END = struct.Struct("<4s4H2IH")
_LOCATOR_MARK, _LOCATOR_BYTES = b"PK\x06\x07", 20
"""What leads to a zip64 directory, which zipfile reads in place of the other: right before the record at the end."""
_END_MARK = b"PK\x05\x06"
_UNREADABLE = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError),
)
"""What zipfile raises for a file that cannot be unpacked."""
_SHOWN = 80


class Source(Protocol):
    """Files by name."""

    where: str

    def sizes(self) -> Mapping[str, int]:
        """Return the length of every file, as far as is said before it is read."""
        ...

    def read(self, name: str, limit: int) -> bytes:
        """Return a file. Raises `SchemaError` where it is longer than `limit` bytes or cannot be unpacked."""
        ...

    def close(self) -> None:
        """Let the files go."""
        ...

    def __enter__(self) -> Source: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


# --- writing ------------------------------------------------------------------------------------------------------


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return a zip archive of files by name; the same for the same files. Raises `UsageError` for too many."""
    if len(files) > MAX_FILES:
        raise UsageError(f"{len(files)} files are more than the {MAX_FILES} of an archive; select fewer with --case")
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, content)
    return target.getvalue()


# --- reading ------------------------------------------------------------------------------------------------------


def open_source(path: Path) -> Source:
    """Return the files of a zip archive or of a folder.

    Raises `UsageError` where there is neither, `SchemaError` for an archive that is broken, too large, or that holds
    anything but plain files with plain names, each once.
    """
    if path.is_dir():
        return FolderSource(path)
    if not path.exists():
        raise UsageError(f"{path} is not there; give a zip archive or, for outputs, a folder")
    return ZipSource(path)


class _Closing:
    """Closes at the end of a `with`."""

    def close(self) -> None:
        """Let the files go."""

    def __enter__(self) -> Source:
        return self  # pyright: ignore[reportReturnType] # the subclasses are sources

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ZipSource(_Closing):
    """The files of a zip archive."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        _check_directory(path)
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, ValueError) as error:
            raise SchemaError(f"{path}: not a zip archive: {error}") from error
        try:
            self._entries = _checked(self.where, self._archive.infolist())
        except BaseException:
            self._archive.close()
            raise
        self._sizes = {name: entry.file_size for name, entry in self._entries.items()}

    def sizes(self) -> Mapping[str, int]:
        """Return the length of every file as the directory of the archive says."""
        return self._sizes

    def read(self, name: str, limit: int) -> bytes:
        """Unpack a file, `limit` bytes at most."""
        entry = self._entries[name]
        if entry.file_size > limit:
            raise SchemaError(f"{self.where}: {name} has {entry.file_size} bytes, {limit} are the most")
        try:
            with self._archive.open(entry) as file:
                content = file.read(limit + 1)
        except _UNREADABLE as error:
            raise SchemaError(f"{self.where}: {name} cannot be unpacked: {error}") from error
        if len(content) != entry.file_size:
            raise SchemaError(f"{self.where}: {name} unpacks to another length than the archive says")
        return content

    def close(self) -> None:
        """Close the archive."""
        self._archive.close()


class FolderSource(_Closing):
    """The files that lie in a folder, none of them in a folder below."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self._files: dict[str, Path] = {}
        for place in sorted(path.iterdir()):
            _check_name(self.where, place.name)
            if place.is_symlink():
                raise SchemaError(f"{path}: {place.name} is a symbolic link; put the file itself there")
            if not place.is_file():
                raise SchemaError(f"{path}: {place.name} is no plain file")
            self._files[place.name] = place
            if len(self._files) > MAX_FILES:
                raise SchemaError(f"{path}: holds more than {MAX_FILES} files")
        self._sizes = {name: place.stat().st_size for name, place in self._files.items()}
        _check_total(self.where, self._sizes.values())

    def sizes(self) -> Mapping[str, int]:
        """Return the length that every file had when the folder was opened."""
        return self._sizes

    def read(self, name: str, limit: int) -> bytes:
        """Read a file, `limit` bytes at most."""
        try:
            with self._files[name].open("rb") as file:
                content = file.read(limit + 1)
        except OSError as error:
            raise SchemaError(f"{self.where}: {name} cannot be read: {error.strerror or error}") from error
        if len(content) > limit:
            raise SchemaError(f"{self.where}: {name} has more than {limit} bytes")
        return content


def _check_directory(path: Path) -> None:
    """Hold the size of the archive and of its directory against the limits, before zipfile reads the directory."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            start = max(0, size - _END.size - 0xFFFF - _LOCATOR_BYTES)
            file.seek(start)
            tail = file.read(_END.size + 0xFFFF + _LOCATOR_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    if size > MAX_ARCHIVE_BYTES:
        raise SchemaError(f"{path}: the archive has {size} bytes, {MAX_ARCHIVE_BYTES} are the most")
    at = tail.rfind(_END_MARK)
    if at < 0 or len(tail) - at < _END.size:
        raise SchemaError(f"{path}: not a zip archive: it has no directory at its end")
    _, _, _, _, files, directory, _, _ = _END.unpack_from(tail, at)
    located = tail[max(0, at - _LOCATOR_BYTES) : at].startswith(_LOCATOR_MARK)
    if located or files == 0xFFFF or directory == 0xFFFFFFFF:
        raise SchemaError(f"{path}: a zip64 archive; at most {MAX_FILES} files and 4 GiB are read")
    if files > MAX_FILES or directory > MAX_DIRECTORY_BYTES:
        raise SchemaError(f"{path}: the directory of the archive lists more than {MAX_FILES} files, or is too large")


def _checked(where: str, entries: Iterable[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return the entries by name. Raises `SchemaError` for one that is anything but a plain file with a plain name."""
    found: dict[str, zipfile.ZipInfo] = {}
    spellings: set[str] = set()
    for entry in entries:
        _check_name(where, entry.orig_filename)
        if entry.filename != entry.orig_filename:
            raise SchemaError(f"{where}: the file name {_show(entry.orig_filename)} is not a plain name")
        if entry.filename.lower() in spellings:
            raise SchemaError(f"{where}: holds two files of the name {entry.filename}")
        _check_kind(where, entry)
        found[entry.filename] = entry
        spellings.add(entry.filename.lower())
    if len(found) > MAX_FILES:
        raise SchemaError(f"{where}: holds more than {MAX_FILES} files")
    _check_total(where, (entry.file_size for entry in found.values()))
    return found


def _check_name(where: str, name: str) -> None:
    parts = re.split(r"[/\\]", name)
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        raise SchemaError(f"{where}: the file name {_show(name)} is an absolute path")
    if ".." in parts:
        raise SchemaError(f"{where}: the file name {_show(name)} leads out of the archive")
    if len(name) > 120 or _NAME.fullmatch(name) is None:
        folder = name.endswith("/")
        what = "a folder; pack the files themselves" if folder else "not a plain name; take it out if it is no output"
        raise SchemaError(f"{where}: the file name {_show(name)} is {what}")


def _check_kind(where: str, entry: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise SchemaError(f"{where}: {entry.filename} is a symbolic link")
    if kind not in (0, stat.S_IFREG):
        raise SchemaError(f"{where}: {entry.filename} is no plain file")
    if entry.flag_bits & 1:
        raise SchemaError(f"{where}: {entry.filename} is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise SchemaError(f"{where}: {entry.filename} is compressed in another way than deflate")


def _check_total(where: str, sizes: Iterable[int]) -> None:
    total = sum(sizes)
    if total > MAX_TOTAL_BYTES:
        raise SchemaError(f"{where}: unpacks to {total} bytes, {MAX_TOTAL_BYTES} are the most")


def _show(name: str) -> str:
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")
