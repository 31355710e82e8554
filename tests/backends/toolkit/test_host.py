"""What the cpu backend finds out about its host, and that it declares what it cannot find."""

from __future__ import annotations

from pathlib import Path

import pytest

from portkit.backends.toolkit.host import host_tuning, usable_processors
from portkit.contract import Tuning

DECLARED = Tuning(workers=1, vector_bytes=8, vector_registers=5, cache_bytes=(7,))


def cpuinfo(folder: Path, line: str) -> Path:
    path = folder / "cpuinfo"
    path.write_text(f"processor : 0\n{line}\nbogomips : 1\n", encoding="ascii")
    return path


def cache(folder: Path, number: int, level: int, kind: str, size: str) -> None:
    entry = folder / f"index{number}"
    entry.mkdir()
    for name, text in (("level", str(level)), ("type", kind), ("size", size)):
        (entry / name).write_text(f"{text}\n", encoding="ascii")


@pytest.mark.parametrize(
    ("line", "vectors"),
    [
        ("flags : fpu sse2 avx2 avx512f", (64, 32)),
        ("flags : fpu sse2 avx2", (32, 16)),
        ("Features : fp asimd crc32", (16, 32)),
        ("flags : fpu sse2", (8, 5)),
    ],
)
def test_vectors_are_those_of_the_widest_feature_of_the_processor(
    tmp_path: Path, line: str, vectors: tuple[int, int]
) -> None:
    found = host_tuning(DECLARED, cpuinfo(tmp_path, line), tmp_path / "none")
    assert (found.vector_bytes, found.vector_registers) == vectors


def test_caches_are_those_of_data_by_level(tmp_path: Path) -> None:
    cache(tmp_path, 0, 1, "Data", "48K")
    cache(tmp_path, 1, 1, "Instruction", "32K")
    cache(tmp_path, 2, 3, "Unified", "8M")
    cache(tmp_path, 3, 2, "Unified", "2048K")
    assert host_tuning(DECLARED, tmp_path / "none", tmp_path).cache_bytes == (48 << 10, 2 << 20, 8 << 20)


def test_what_the_system_does_not_tell_is_as_declared(tmp_path: Path) -> None:
    found = host_tuning(DECLARED, tmp_path / "none", tmp_path / "none")
    assert found.cache_bytes == DECLARED.cache_bytes


def test_a_cache_size_that_is_no_number_is_not_used(tmp_path: Path) -> None:
    cache(tmp_path, 0, 1, "Data", "?")
    assert host_tuning(DECLARED, tmp_path / "none", tmp_path).cache_bytes == DECLARED.cache_bytes


def test_there_is_a_worker_for_each_usable_processor(tmp_path: Path) -> None:
    found = host_tuning(DECLARED, tmp_path / "none", tmp_path / "none")
    assert found.workers == len(usable_processors())
