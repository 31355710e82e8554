"""Random programs of many operations, compiled for the cpu backend, give the bits that their graphs mean."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from portkit.tensor import elementwise, movement
from portkit.tensor.tensor import Tensor
from portkit.tensor.windows import windows
from tests.tensor.judging import value

LARGEST = 3000
"""Elements of a tensor; what would be larger is left out of a program."""

Step = Callable[[random.Random, Tensor, int, int], Tensor]
"""From a tensor, one of its axes and that axis's extent, which is not 0, to another tensor."""


def narrowed(r: random.Random, x: Tensor, axis: int, n: int) -> Tensor:
    start = r.randrange(n)
    return x.narrow(axis, start, r.randrange(1, n - start + 1))


def assigned(r: random.Random, x: Tensor, axis: int, n: int) -> Tensor:
    y = x + 0
    y[(*(slice(None) for _ in range(axis)), r.randrange(n))] = r.randrange(9)
    return y


STEPS: dict[str, Step] = {
    "add": lambda r, x, axis, n: x + r.randrange(4),
    "square": lambda r, x, axis, n: x * x,
    "relu": lambda r, x, axis, n: x.maximum(0),
    "where": lambda r, x, axis, n: elementwise.where(x > 0, x, -x),
    "permute": lambda r, x, axis, n: x.permute(r.sample(range(x.ndim), x.ndim)),
    "flip": lambda r, x, axis, n: x.flip(axis),
    "narrow": narrowed,
    "pad": lambda r, x, axis, n: x.pad([(r.randrange(3), r.randrange(3)) for _ in x.shape], r.randrange(-3, 3)),
    "sum": lambda r, x, axis, n: x.sum(axis, keepdims=r.random() < 0.5),
    "max": lambda r, x, axis, n: x.max(axis),
    "argmax": lambda r, x, axis, n: x.argmax(axis),
    "cumsum": lambda r, x, axis, n: x.cumsum(axis),
    "cat": lambda r, x, axis, n: movement.cat([x, x + 1, x], axis),
    "slice": lambda r, x, axis, n: x[tuple(slice(None, None, r.choice([1, 2, -1, -2])) for _ in x.shape)],
    "flatten": lambda r, x, axis, n: x.flatten(0, axis),
    "windows": lambda r, x, axis, n: windows(x, [axis], [r.randrange(1, n + 1)], [r.randrange(1, 4)], [1]),
    "take": lambda r, x, axis, n: x.take(Tensor([0, -1, 99, n // 2]), axis),
    "gram": lambda r, x, axis, n: x.flatten(1) @ x.flatten(1).transpose() if x.ndim > 1 else x,
    "repeat": lambda r, x, axis, n: x.repeat_interleave(2, axis),
    "sort": lambda r, x, axis, n: x.sort(axis),
    "assign": assigned,
    "store": lambda r, x, axis, n: x.contiguous(),
    "roll": lambda r, x, axis, n: x.roll(r.randrange(-3, 4), axis),
}


def program(r: random.Random) -> list[Tensor]:
    """Return the last tensors of a random program on integers."""
    numbers = np.random.default_rng(r.randrange(1 << 30))
    made = [Tensor(numbers.integers(-5, 6, [r.randrange(1, 6) for _ in range(r.randrange(1, 4))]).astype(np.int32))]
    for _ in range(r.randrange(3, 14)):
        x = r.choice(made)
        if not x.ndim:
            continue
        axis = r.randrange(x.ndim)
        n = x.shape[axis]
        assert isinstance(n, int)
        y = r.choice(list(STEPS.values()))(r, x, axis, n) if n else x
        if isinstance(y.size, int) and y.size <= LARGEST:
            made.append(y)
    return made[-3:]


@pytest.mark.parametrize("seed", range(30))
def test_a_random_program_of_integers_gives_the_same_bits_on_the_cpu(seed: int) -> None:
    results = program(random.Random(seed))
    wanted = [value(t) for t in results]
    results[0].realize(*results[1:])
    for tensor, expected in zip(results, wanted, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), expected)
