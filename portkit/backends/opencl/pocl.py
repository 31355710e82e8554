"""What helps PoCL, an OpenCL driver for processors; without it everything works, slower.

PoCL's front end reads the declarations of all functions of OpenCL C, 18,000 lines, before each kernel: 80 of the 95 ms
of a build. They have an include guard, so they can be left out and the few that kernels use be declared instead.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

PLATFORM = "Portable Computing Language"
LIGHT_OPTION = "-D_OPENCL_H_"
_PREFIX = "portkit-pocl-"


def settle() -> None:
    """Keep PoCL's files in a private folder until this process ends; `POCL_CACHE_DIR` names one that lasts.

    Called before the first platform is asked for, which is when PoCL reads its environment.
    """
    if "POCL_CACHE_DIR" in os.environ:
        return
    _sweep(Path(tempfile.gettempdir()))
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-")
    os.environ["POCL_CACHE_DIR"] = folder
    os.environ.setdefault("POCL_KERNEL_CACHE", "0")
    atexit.register(_remove, folder, os.getpid())


def _remove(folder: str, owner: int) -> None:
    """Remove the folder, unless this is a forked child of the process that made it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(place: Path) -> None:
    """Remove the folders of processes that were killed."""
    for folder in place.glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and _ended(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _ended(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # there is one, another user's
        return False
    return False
