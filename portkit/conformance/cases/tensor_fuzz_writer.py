"""Writers of random graphs: step by step, from a pool of tensors that begins with the inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from portkit.conformance.cases.draws import Draws
from portkit.conformance.cases.tensorcase import Input, leaves_of
from portkit.tensor.tensor import Tensor

if TYPE_CHECKING:
    from portkit.compiler.graph import Node

STEPS = (5, 11)
"""How many steps a graph has, at least and at most."""
SHAPES = ((4, 6), (6, 5), (1, 6), (3, 4, 6), (5,), (4, 1), (6, 6))
LARGE = 200
"""Elements beyond which a tensor does not grow."""

Fits: TypeAlias = Callable[[Tensor], bool]


class Writer:
    """Makes a graph step by step from inputs of random shapes; the seed gives shapes, contents and steps."""

    def __init__(self, seed: str, leaves: Sequence[tuple[str, str]]) -> None:
        """Begin with inputs, of each its dtype and what it holds (`Input`)."""
        self.draws = Draws(seed)
        shapes = [SHAPES[self.below(len(SHAPES))] for _ in leaves]
        inputs = [Input(shape, *leaf) for shape, leaf in zip(shapes, leaves, strict=True)]
        self.leaves = [Tensor.of(leaf) for leaf in leaves_of(inputs, seed)]
        self.pool = list(self.leaves)

    def write(self, step: Callable[[], Tensor]) -> list[Node]:
        """Take steps and return what they made."""
        low, high = STEPS
        for _ in range(low + self.below(high - low + 1)):
            self.pool.append(step())
        return [x.node for x in self.pool[len(self.leaves) :]]

    def below(self, count: int) -> int:
        return int(self.draws.integers(0, count - 1, 1)[0])

    def recent(self, fits: Fits = lambda _: True) -> Tensor:
        """Return a tensor of the pool, rather a late one, so that graphs are deep."""
        found = [x for x in self.pool if fits(x)]
        return found[max(self.below(len(found)), self.below(len(found)))]

    def axis(self, x: Tensor) -> int:
        return self.below(max(x.ndim, 1))

    def partner(self, x: Tensor) -> Tensor:
        """Return a tensor that broadcasts with `x`."""
        fitting = [y for y in self.pool if broadcasts(x, y)]
        return fitting[self.below(len(fitting))]


def broadcasts(x: Tensor, y: Tensor) -> bool:
    """Whether two shapes fit, and the larger one holds all of the result."""
    pairs = zip(reversed(x.shape), reversed(y.shape), strict=False)
    return all(n == m or 1 in (n, m) for n, m in pairs)


def size(x: Tensor) -> int:
    """Return the number of elements of a tensor of fixed shape."""
    return x.size if isinstance(x.size, int) else 0
