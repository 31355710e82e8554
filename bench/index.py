"""How many index expressions are built and simplified per second, over typical patterns of movement.

Prints expressions per second: the median of repetitions, each over fresh axes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from portkit.compiler import index as ix
from portkit.compiler.index import Axis, Index, Variable

REPETITIONS = 9
ROUNDS = 200


def reshape_static() -> int:
    """Four reshapes in a row: split, merge, cut at other places, and back."""
    shapes: tuple[tuple[Index, ...], ...] = ((8, 64, 56), (8, 4, 16, 7, 8), (32, 16, 56), (28672,), (8, 64, 56))
    at: tuple[Index, ...] = tuple(Axis(n) for n in shapes[-1])
    for new, old in zip(reversed(shapes), list(reversed(shapes))[1:], strict=False):
        at = ix.reshape_index(at, new, old)
    return sum(map(len, shapes[:-1]))


def reshape_dynamic() -> int:
    """Heads of attention over a sequence of unknown length: split, merge, position."""
    n = Variable("n", 1, 4096)
    at = ix.reshape_index((Axis(2), Axis(n), Axis(512)), (2, n, 512), (2 * n, 8, 64))
    ix.ravel(at, (2 * n, 8, 64))
    return 4


def window() -> int:
    """Unfold of an image into patches, as positions in the image."""
    patch, inside = Axis(28 * 28), Axis(3 * 3 * 64)
    row, column = ix.unravel(patch, (28, 28))
    down, across, channel = ix.unravel(inside, (3, 3, 64))
    ix.ravel((row * 2 + down, column * 2 + across, channel), (58, 58, 64))
    return 8


def main() -> None:
    """Print one line per pattern."""
    patterns: tuple[Callable[[], int], ...] = (reshape_static, reshape_dynamic, window)
    for pattern in patterns:
        rates: list[float] = []
        for _ in range(REPETITIONS):
            start = time.perf_counter()
            built = sum(pattern() for _ in range(ROUNDS))
            rates.append(built / (time.perf_counter() - start))
        print(f"{pattern.__name__:16} {statistics.median(rates):10,.0f} expressions/s")


if __name__ == "__main__":
    main()
