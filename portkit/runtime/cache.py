"""A folder of bytes by key that many processes share: what was compiled once is not compiled again.

An entry is a file: a line that says so, the SHA-256 of key and contents, the contents. It appears under its name whole
(written elsewhere in the folder, then renamed) or not at all, so that neither a second process nor a kill leaves half
of one; what does not check is removed and made again. Above its limit the folder loses what was longest unused.

**Trust.** An entry may be machine code: who can write to the folder can run code as its owner. So the folder is made
for its owner only, and is used only if it belongs to who runs and nobody else can write to it. The checksum finds
accidents, not attacks. Entries are read as data of a fixed schema, never unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import sys
import time
import warnings
from pathlib import Path

VARIABLE = "PORTKIT_CACHE"
_OFF = frozenset({"", "off"})
LIMIT = 256 << 20
"""Bytes that the folder may hold."""
_MAGIC = b"portkit cache entry 1\n"
_DIGEST = hashlib.sha256().digest_size
_TEMPORARY = ".new-"
_STALE_SECONDS = 3600.0
_FRESH_SECONDS = 60.0
_WRITES_BETWEEN_SWEEPS = 64


def folder() -> Path | None:
    """Return the folder that PORTKIT_CACHE names, else the user's cache folder; None where it is empty or `off`."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return None if named.lower() in _OFF else Path(named)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if base and Path(base).is_absolute():
        return Path(base) / "portkit"
    home = Path.home()
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "portkit"


class Store:
    """The cache folder; one that cannot be had, or trusted, holds nothing and forgets what it is given."""

    def __init__(self, path: Path | None, limit: int = LIMIT) -> None:
        """Use `path`, made if need be, up to `limit` bytes. Warns where others could write to it."""
        self.limit = limit
        self._writes = 0
        self._folder = -1 if path is None else _open_folder(path)

    @property
    def usable(self) -> bool:
        """Whether there is a folder."""
        return self._folder >= 0

    def get(self, name: str) -> bytes | None:
        """Return the contents of an entry; None where there is none, or none that checks."""
        if not self.usable:
            return None
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._folder)
        except OSError:
            return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)  # a folder, a pipe: none of ours
            return None
        with os.fdopen(descriptor, "rb") as file:
            raw = file.read()
            if os.fstat(descriptor).st_mtime < time.time() - _FRESH_SECONDS:
                with contextlib.suppress(OSError):
                    os.utime(descriptor)  # used just now
        start = len(_MAGIC) + _DIGEST
        contents = raw[start:]
        if raw[:start] == _MAGIC + _checksum(name, contents):
            return contents
        self.remove(name)
        return None

    def put(self, name: str, contents: bytes) -> None:
        """Keep an entry; where that fails (no space, no folder) it is as if it had not been given."""
        if not self.usable:
            return
        temporary = f"{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=self._folder), "wb") as file:
                file.write(_MAGIC + _checksum(name, contents) + contents)
            os.replace(temporary, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError:
            self.remove(temporary)
            return
        if self._writes % _WRITES_BETWEEN_SWEEPS == 0:
            self.sweep()
        self._writes += 1

    def remove(self, name: str) -> None:
        """Remove an entry if it is there."""
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self._folder)

    def sweep(self) -> None:
        """Remove what was longest unused until the folder keeps to its limit, and what killed processes left."""
        now, held = time.time(), 0
        entries = sorted(self._entries(), reverse=True)
        for used, size, name in entries:
            left = name.startswith(_TEMPORARY)
            held += 0 if left else size
            if (left and used < now - _STALE_SECONDS) or (not left and held > self.limit):
                self.remove(name)

    def _entries(self) -> list[tuple[float, int, str]]:
        """Return (last use, bytes, name) of every file."""
        found: list[tuple[float, int, str]] = []
        with contextlib.suppress(OSError):
            for name in os.listdir(self._folder):  # noqa: PTH208  (a descriptor, no path)
                with contextlib.suppress(OSError):  # another process was quicker
                    about = os.stat(name, dir_fd=self._folder, follow_symlinks=False)
                    found.append((about.st_mtime, about.st_size, name))
        return found

    def close(self) -> None:
        """Let go of the folder; a second call does nothing."""
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1


def _checksum(name: str, contents: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + contents).digest()


def _open_folder(path: Path) -> int:
    """Return a descriptor of the folder, -1 where there can be none; what is done later goes through it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1
    about = os.fstat(descriptor)
    shared = about.st_uid != os.geteuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if shared:
        os.close(descriptor)
        said = f"{path} belongs to somebody else or others can write to it, so what is compiled is not kept there"
        warnings.warn(f"{said}: chmod 700 it, or name another folder in {VARIABLE}", RuntimeWarning, stacklevel=4)
        return -1
    return descriptor
