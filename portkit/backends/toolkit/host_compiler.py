"""The C compiler of this machine, called as a program: C text, or an object file, to the bytes of a shared library."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from portkit.errors import CannotRunHere, CompileError

NAMES = ("cc", "gcc", "clang")
VARIABLE = "CC"
SECONDS = 300
FLAGS = ("-shared", "-fPIC", "-O1", "-ffp-contract=off", "-fno-strict-aliasing")
"""Flags that keep every float operation as it is written; `-O1` compiles in half the time of `-O2`."""
_LONGEST = 4000


def find_compiler(language: str = "cc") -> list[str]:
    """Return the words that call the C compiler: those in the variable CC, else `cc`, `gcc` or `clang`.

    Without any, the package `ziglang` has one that pip installs, which has to be told C (`cc`) from C++ (`c++`).
    Raises `CannotRunHere` where that is missing too, or CC cannot be read.
    """
    try:
        named = shlex.split(os.environ.get(VARIABLE, ""))
    except ValueError as error:
        raise CannotRunHere(f"{VARIABLE} cannot be read as a command: {error}") from error
    found = next(filter(None, map(shutil.which, named[:1] or NAMES)), None)
    if found is None and not named and find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", language]
    if found is None:
        lacks = f"{VARIABLE} names {named[0]}, which is no program here" if named else "there is no C compiler here"
        raise CannotRunHere(f"{lacks}; install gcc or clang, or pip install ziglang, or set {VARIABLE}")
    return [found, *named[1:]]


def shared_library(source: bytes, suffix: str = ".c", flags: Sequence[str] = FLAGS) -> bytes:
    """Compile, or for the suffix `.o` link, and return the shared library.

    Raises `CompileError` with the compiler's own words, or where there is no compiler.
    """
    try:
        compiler = find_compiler("c++" if suffix == ".cpp" else "cc")
    except CannotRunHere as error:
        raise CompileError(str(error)) from error
    with tempfile.TemporaryDirectory(prefix="portkit-cc-") as folder:
        given, made = Path(folder, f"kernel{suffix}"), Path(folder, "kernel.so")
        given.write_bytes(source)
        command = [*compiler, *flags, "-o", str(made), str(given), "-lm"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CompileError(f"the C compiler could not be run: {error}") from error
        if done.returncode:
            words = done.stderr.replace(f"{folder}{os.sep}", "").strip()
            raise CompileError(f"{Path(command[0]).name} exited with status {done.returncode}: {words[:_LONGEST]}")
        return made.read_bytes()
