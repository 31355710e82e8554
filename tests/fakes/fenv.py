"""Set the processor to flush subnormals to zero, through the C library's own functions: no compiler is needed."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform

# (size of fenv_t, offset of the control word in it, its flush bits), glibc
_LAYOUTS = {"x86_64": (32, 28, 0x8040), "aarch64": (8, 0, 1 << 24)}


def supported() -> bool:
    """Whether this machine's layout is known."""
    return platform.system() == "Linux" and platform.machine() in _LAYOUTS


def flush_to_zero(*, on: bool = True) -> None:
    """Flush subnormal inputs and results of this thread to zero, or stop doing so."""
    size, offset, bits = _LAYOUTS[platform.machine()]
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    environment = (ctypes.c_uint8 * size)()
    library.fegetenv(environment)
    word = ctypes.c_uint32.from_buffer(environment, offset)
    word.value = word.value | bits if on else word.value & ~bits
    library.fesetenv(environment)
