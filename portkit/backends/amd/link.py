"""From an object file to what HIP loads: LLVM's linker lld makes a shared object of it.

lld comes with ROCm, with LLVM's packages, or with `ziglang` from PyPI, whose program is lld too when it is asked to be.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from portkit.errors import CannotRunHere, CompileError

_ROCM = "/opt/rocm"
_SECONDS = 60


@cache
def linker() -> tuple[str, ...]:
    """Return the command that starts lld.

    Raises:
        CannotRunHere: there is none.
    """
    places = os.pathsep.join([os.environ.get("PATH", ""), f"{os.environ.get('ROCM_PATH', _ROCM)}/llvm/bin"])
    if found := shutil.which("ld.lld", path=places):
        return (found,)
    if importlib.util.find_spec("ziglang"):
        return (sys.executable, "-m", "ziglang", "ld.lld")
    raise CannotRunHere("no linker for code objects: install LLVM's ld.lld, or: pip install ziglang")


def link_code_object(object_file: bytes) -> bytes:
    """Return the code object that HIP loads.

    Raises:
        CannotRunHere: there is no linker.
        CompileError: the linker refuses; its own words are in the message.
    """
    with TemporaryDirectory(prefix="portkit-amd-") as folder:
        source, target = Path(folder, "kernel.o"), Path(folder, "kernel.hsaco")
        source.write_bytes(object_file)
        command = [*linker(), "-shared", "-o", str(target), str(source)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CompileError(f"the linker {command[0]} did not finish: {error}") from error
        if done.returncode:
            raise CompileError(f"the linker failed: {done.stderr.decode(errors='replace').strip()}")
        return target.read_bytes()
