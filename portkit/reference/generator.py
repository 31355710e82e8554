"""Our own counter-based random numbers: the same for a text on every machine and with every release of NumPy.

Philox4x32-10: a block of four words is a function of a 64-bit key and a 128-bit counter, so any part of a stream can be
computed on its own. Key and upper half of the counter are the first 16 bytes of the SHA-256 of the text; the lower half
counts blocks. Source: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel Random Numbers: As Easy as 1, 2,
3", SC 2011.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF


def philox(counters: NDArray[np.uint64], key: tuple[int, int]) -> Words:
    """Return the blocks of an array of counters: shape (4, n) of 32-bit words, held in u64, to shape (n, 4)."""
    c0, c1, c2, c3 = counters
    k0, k1 = key
    for _ in range(_ROUNDS):
        p0, p1 = c0 * np.uint64(_MULTIPLIERS[0]), c2 * np.uint64(_MULTIPLIERS[1])
        c0, c1 = (p1 >> 32) ^ c1 ^ np.uint64(k0), p1 & _MASK
        c2, c3 = (p0 >> 32) ^ c3 ^ np.uint64(k1), p0 & _MASK
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return np.stack((c0, c1, c2, c3), axis=1).astype(np.uint32)


class Stream:
    """The words of one text in order; every draw continues where the last one ended."""

    def __init__(self, text: str) -> None:
        seed = hashlib.sha256(text.encode()).digest()
        words = [int.from_bytes(seed[i : i + 4], "little") for i in range(0, 16, 4)]
        self._key = (words[0], words[1])
        self._high = (words[2], words[3])
        self._position = 0

    def bits(self, count: int) -> Words:
        """Return `count` words of 32 uniform bits; each draw takes exactly as many words of the stream."""
        first, end = self._position // 4, -(-(self._position + count) // 4)
        blocks = np.arange(first, end, dtype=np.uint64)
        high = [np.full_like(blocks, word) for word in self._high]
        counters = np.stack((blocks & np.uint64(_MASK), blocks >> np.uint64(32), *high))
        words = philox(counters, self._key).reshape(-1)
        start = self._position - 4 * first
        self._position += count
        return words[start : start + count]

    def integers(self, low: int, high: int, count: int) -> NDArray[np.int64]:
        """Return `count` integers from low to high, both included, at most 2^32 different ones; two words each.

        The chances of any two differ by at most 2^-64.
        """
        words = self.bits(2 * count).astype(np.uint64)
        width = np.uint64(high - low + 1)
        upper = words[::2] * width + (words[1::2] * width >> 32)
        return (upper >> 32).astype(np.int64) + low

    def floats(self, count: int) -> NDArray[np.float64]:
        """Return `count` multiples of 2^-53 in [0, 1), all equally likely; two words each."""
        words = self.bits(2 * count).astype(np.uint64)
        return ((words[::2] << 21) | (words[1::2] >> 11)).astype(np.float64) * 2.0**-53


def stream(text: str) -> Stream:
    """Return the stream of a text id, from its beginning."""
    return Stream(text)
