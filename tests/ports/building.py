"""Drivers in C, built for a test with the C compiler of this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from portkit.backends.drivers.c_driver import INCLUDE
from portkit.backends.toolkit.host_compiler import NAMES, shared_library

STRICT = (
    "-shared",
    "-fPIC",
    "-O1",
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Werror",
    f"-I{INCLUDE}",
    "-pthread",
)

needs_a_c_compiler = pytest.mark.skipif(not any(map(shutil.which, NAMES)), reason="there is no cc, gcc or clang here")


def build(text: str, folder: Path, name: str = "driver.so") -> Path:
    """Compile a driver, warnings as errors; returns the library."""
    library = folder / name
    library.write_bytes(shared_library(text.encode(), flags=STRICT))
    return library


def build_queued(folder: Path) -> Path:
    """Build the library of `tests.ports.queued`."""
    return build(Path(__file__).with_name("queued").joinpath("driver.c").read_text(encoding="utf-8"), folder)
