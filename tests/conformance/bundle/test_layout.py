"""The memory image of a launch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portkit.conformance.bundle.layout import ALIGNMENT, layout
from portkit.conformance.launching import GUARD_BYTES

GUARD = 0xC3
SIZES = st.lists(st.integers(0, 1500), max_size=6)


def pieces(sizes: list[int]) -> list[bytes]:
    """Return operands as a launch has them: guards, and buffers of 7 whose tail is a guard."""
    guard = bytes([GUARD]) * GUARD_BYTES
    return [guard, *(piece for size in sizes for piece in (b"\7" * size + guard, guard))]


@given(SIZES)
def test_what_an_image_is_made_of_is_read_back_from_it(sizes: list[int]) -> None:
    place = layout(sizes)
    assert place.pieces(place.image(pieces(sizes), GUARD), bytes([GUARD]) * GUARD_BYTES) == pieces(sizes)


@given(SIZES)
def test_every_buffer_is_aligned_and_has_guards_on_both_sides(sizes: list[int]) -> None:
    place = layout(sizes)
    ends = [offset + size for offset, size in zip(place.offsets, sizes, strict=True)]
    assert all(offset % ALIGNMENT == 0 for offset in place.offsets)
    assert all(offset - end >= GUARD_BYTES for offset, end in zip(place.offsets, [0, *ends], strict=False))
    assert place.size - max(ends, default=0) >= GUARD_BYTES


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257])
def test_a_change_behind_a_buffer_is_seen_wherever_it_is(size: int) -> None:
    place = layout([size, 64])
    image = place.image(pieces([size, 64]), GUARD)
    clean = pieces([size, 64])
    for at in range(place.offsets[0] + size, place.offsets[1]):
        touched = bytearray(image)
        touched[at] ^= 1
        assert place.pieces(bytes(touched), clean[0]) != clean


def test_a_launch_without_buffers_is_a_guard() -> None:
    place = layout([])
    assert place.size == GUARD_BYTES
    assert place.image(pieces([]), GUARD) == pieces([])[0]
