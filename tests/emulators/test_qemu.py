"""Addresses that are given out in parts, and the file that the emulator starts from."""

from __future__ import annotations

import itertools
import struct

import pytest

from portkit.emulators.qemu import Space, executable


def test_parts_are_aligned_and_never_meet() -> None:
    space = Space(1000, 10_000, "memory")
    starts = [space.take(size, align) for size, align in ((1, 64), (100, 256), (0, 64), (64, 1024))]
    assert [start % align for start, align in zip(starts, (64, 256, 64, 1024), strict=True)] == [0, 0, 0, 0]
    ranges = sorted((start, start + size) for start, size in zip(starts, (64, 128, 64, 64), strict=True))
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))


def test_a_part_given_back_is_given_out_again() -> None:
    space = Space(0, 1024, "memory")
    first, second = space.take(512), space.take(512)
    space.give(first)
    assert space.take(512) == first
    assert second == 512


def test_neighbours_given_back_are_one_part_again() -> None:
    space = Space(0, 1024, "memory")
    parts = [space.take(256) for _ in range(4)]
    assert [space.give(part) for part in (parts[1], parts[3], parts[2], parts[0])] == [256] * 4
    assert space.take(1024) == 0


def test_what_does_not_fit_is_refused_with_the_size_of_the_whole() -> None:
    space = Space(0, 1024, "memory for kernels")
    space.take(64)
    with pytest.raises(MemoryError, match="the memory for kernels of 1024 bytes has no 1000 bytes in a row left"):
        space.take(1000)


def test_the_executable_starts_at_its_code() -> None:
    elf, start = executable(243, b"\x13\x00\x00\x00")
    assert elf[:4] == b"\x7fELF"
    assert struct.unpack_from("<HHIQ", elf, 16) == (2, 243, 1, start)
    offset, address = struct.unpack_from("<QQ", elf, 64 + 8)
    assert elf[start - address + offset :] == b"\x13\x00\x00\x00"
