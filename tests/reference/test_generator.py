"""Case inputs come from a published generator and never change."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from portkit.reference.generator import philox, stream

# Known answers of the authors' Random123 library, file kat_vectors, philox4x32 with 10 rounds.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter: tuple[int, ...], key: tuple[int, int], answer: str) -> None:
    block = philox(np.array(counter, np.uint64)[:, None], key)[0]
    assert " ".join(f"{word:08x}" for word in block) == answer


def test_a_stream_is_keyed_by_the_digest_of_its_text() -> None:
    words = np.frombuffer(hashlib.sha256(b"ops/add/f32/special").digest()[:16], "<u4")
    counter = np.array([0, 0, words[2], words[3]], np.uint64)[:, None]
    first = philox(counter, (int(words[0]), int(words[1])))[0]
    assert stream("ops/add/f32/special").bits(4).tolist() == first.tolist()


@pytest.mark.parametrize("cuts", [(0, 9), (1, 8), (3, 6), (4, 5), (5, 4)])
def test_draws_continue_where_the_last_one_ended(cuts: tuple[int, int]) -> None:
    parts = stream("a")
    assert np.concatenate([parts.bits(n) for n in cuts]).tolist() == stream("a").bits(9).tolist()


def test_streams_of_different_texts_differ() -> None:
    assert stream("a").bits(4).tolist() != stream("b").bits(4).tolist()


def test_integers_reach_both_ends_and_nothing_beyond() -> None:
    draws = stream("ends").integers(-3, 4, 1000)
    assert set(draws.tolist()) == set(range(-3, 5))


def test_integers_of_the_full_word_range_are_the_first_words() -> None:
    draws, words = stream("wide").integers(0, 2**32 - 1, 5), stream("wide").bits(10)
    assert draws.tolist() == words[::2].tolist()


def test_floats_are_the_top_53_bits_of_two_words() -> None:
    words = stream("unit").bits(8).astype(object)
    exact = [((int(a) << 32 | int(b)) >> 11) / 2**53 for a, b in zip(words[::2], words[1::2], strict=True)]
    assert stream("unit").floats(4).tolist() == exact
