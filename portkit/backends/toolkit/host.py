"""What the scheduler wants to know of this processor, found without LLVM: processors, vectors, caches.

None of it changes a result. What cannot be found out stays as `capabilities.toml` has it.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from msgspec import structs

from portkit.contract import Tuning

_CPUINFO = Path("/proc/cpuinfo")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_VECTORS: Mapping[str, tuple[int, int]] = {"avx512f": (64, 32), "avx2": (32, 16), "asimd": (16, 32)}
"""Bytes of a vector register and how many there are, by the feature that has them, the widest first."""


def host_tuning(declared: Tuning, cpuinfo: Path = _CPUINFO, caches: Path = _CACHES) -> Tuning:
    """Return the sizes of this host where Linux tells them, else the declared ones."""
    found: dict[str, object] = {"workers": len(usable_processors())}
    vectors = _vectors(cpuinfo)
    if vectors is not None:
        found["vector_bytes"], found["vector_registers"] = vectors
    sizes = _cache_bytes(caches)
    if sizes:
        found["cache_bytes"] = sizes
    return structs.replace(declared, **found)


def usable_processors() -> list[int]:
    """Return the numbers of the processors that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _vectors(cpuinfo: Path) -> tuple[int, int] | None:
    """Return bytes and number of vector registers, from the features of the first processor."""
    try:
        with cpuinfo.open(encoding="ascii", errors="replace") as lines:
            line = next((t for t in lines if t.lower().startswith(("flags", "features"))), "")
    except OSError:
        line = "asimd" if platform.machine() == "arm64" else ""
    features = set(line.split())
    return next((size for feature, size in _VECTORS.items() if feature in features), None)


def _cache_bytes(caches: Path) -> tuple[int, ...]:
    """Return the sizes of the data caches, the nearest first."""
    sizes: dict[int, int] = {}
    try:
        for entry in caches.glob("index*"):
            if (entry / "type").read_text().strip() != "Instruction":
                sizes[int((entry / "level").read_text())] = _bytes((entry / "size").read_text().strip())
    except (OSError, ValueError, KeyError):
        return ()
    return tuple(sizes[level] for level in sorted(sizes))


def _bytes(size: str) -> int:
    return int(size[:-1]) * _UNITS[size[-1]] if size[-1:].isalpha() else int(size)
