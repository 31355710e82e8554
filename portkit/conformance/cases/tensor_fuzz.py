"""Seeded random graphs, each compiled in several ways that must all lie inside the one bound of the graph.

`fused` as the compiler likes it; `stored` with every intermediate result kept in memory; `narrow` for a device with
fewer processors and short vectors, so that every loop is cut differently; `plain` without any extension.

Beside these ways each graph is compiled rewritten, so that it computes the same by other operations
(`portkit.conformance.cases.tensor_fuzz_rewrites`). The bound remains that of the graph as it was written: one rewriting
of each graph up to tier standard, in turn, and all of them in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import msgspec

import portkit.tensor as t
from portkit.conformance.case import Case, Cell, GraphTrial, Tier
from portkit.conformance.cases.draws import Draws
from portkit.conformance.cases.tensor_fuzz_rewrites import REWRITINGS, Rewriting
from portkit.conformance.cases.tensorcase import Input, holds, leaves_of, tensor_case, trial_of
from portkit.contract import Capabilities, Tuning
from portkit.tensor.tensor import Tensor

if TYPE_CHECKING:
    from portkit.compiler.graph import Node

SEEDS = {Tier.SMOKE: 2, Tier.STANDARD: 24, Tier.FULL: 400}
"""How many graphs there are up to and including a tier."""
STEPS = (5, 11)
_LARGE = 200
"""Elements beyond which a tensor does not grow."""
_SHAPES = ((4, 6), (6, 5), (1, 6), (3, 4, 6), (5,), (4, 1), (6, 6))

Step = Callable[["_Writer", Tensor], Tensor]


class _Writer:
    """Makes a graph step by step from a pool of tensors whose elements stay within a few units."""

    def __init__(self, seed: str) -> None:
        self.draws = Draws(seed)
        shapes = [_SHAPES[self.below(len(_SHAPES))] for _ in range(4)]
        self.leaves = [Tensor.of(leaf) for leaf in leaves_of([Input(s) for s in shapes], seed)]
        self.pool = list(self.leaves)

    def write(self) -> list[Node]:
        """Return the outputs: the last tensor and one on the way."""
        low, high = STEPS
        for _ in range(low + self.below(high - low + 1)):
            x = self.recent()
            self.pool.append(_STEPS[self.below(len(_STEPS))](self, x))
        return [self.pool[-1].node, self.pool[len(self.leaves) + 1].node]

    def below(self, count: int) -> int:
        return int(self.draws.integers(0, count - 1, 1)[0])

    def recent(self) -> Tensor:
        """Return a tensor of the pool, rather a late one, so that graphs are deep."""
        return self.pool[max(self.below(len(self.pool)), self.below(len(self.pool)))]

    def axis(self, x: Tensor) -> int:
        return self.below(max(x.ndim, 1))

    def partner(self, x: Tensor) -> Tensor:
        """Return a tensor that broadcasts with `x`."""
        fitting = [y for y in self.pool if _broadcasts(x, y)]
        return fitting[self.below(len(fitting))]


def _broadcasts(x: Tensor, y: Tensor) -> bool:
    """Whether two shapes fit, and the larger one holds all of the result."""
    pairs = zip(reversed(x.shape), reversed(y.shape), strict=False)
    return all(n == m or 1 in (n, m) for n, m in pairs)


def _halved_sum(w: _Writer, x: Tensor) -> Tensor:
    return (x + w.partner(x)) * 0.5


def _chosen(w: _Writer, x: Tensor) -> Tensor:
    """A choice by an input, so that no condition is uncertain."""
    leaf = w.leaves[w.below(len(w.leaves))]
    return t.where(leaf > 0.0, x, t.neg(x)) if _broadcasts(x, leaf) else t.relu(leaf)


def _multiplied(w: _Writer, x: Tensor) -> Tensor:
    """The product with a matrix of fitting rows, scaled by their number."""
    if x.ndim < 1:
        return x * 0.5
    fitting = [y for y in w.pool if y.ndim == 2 and y.shape[0] == x.shape[-1]]
    return x @ fitting[w.below(len(fitting))] * (1 / 6) if fitting else t.sigmoid(x)


def _reduced(fold: Callable[..., Tensor]) -> Step:
    return lambda w, x: fold(x, axis=w.axis(x), keepdims=True) if x.ndim else t.abs(x)


def _along(f: Callable[..., Tensor]) -> Step:
    return lambda w, x: f(x, w.axis(x)) if x.ndim else t.tanh(x)


def _mapped(f: Callable[[Tensor], Tensor]) -> Step:
    return lambda _, x: f(x)


def _padded(w: _Writer, x: Tensor) -> Tensor:
    widths = [(w.below(2), w.below(3)) for _ in range(x.ndim)]
    return t.pad(x, widths, 0.25)


def _permuted(w: _Writer, x: Tensor) -> Tensor:
    return t.permute(x, *[int(a) for a in w.draws.permutation(x.ndim)]) if x.ndim > 1 else x * 1.5


def _sliced(w: _Writer, x: Tensor) -> Tensor:
    return x[w.below(2) :: 1 + w.below(2)] if x.ndim and x.shape[0] != 1 else t.square(x)


def _doubled(w: _Writer, x: Tensor) -> Tensor:
    return t.cat([x, t.sin(x)], w.axis(x)) if x.ndim and _size(x) < _LARGE else t.cos(x)


def _size(x: Tensor) -> int:
    """Return the number of elements of a tensor of fixed shape."""
    return x.size if isinstance(x.size, int) else 0


_STEPS: tuple[Step, ...] = (
    _halved_sum,
    lambda w, x: t.tanh(x * w.partner(x)),
    lambda w, x: t.maximum(x, w.partner(x)),
    _chosen,
    _multiplied,
    _multiplied,
    _reduced(t.mean),
    _reduced(t.max),
    lambda w, x: t.tanh(_reduced(t.sum)(w, x)),
    _along(t.softmax),
    lambda w, x: t.tanh(_along(t.cumsum)(w, x)),
    _mapped(t.sigmoid),
    _mapped(t.gelu),
    _mapped(lambda x: t.exp(t.neg(t.abs(x)))),
    _mapped(lambda x: t.sqrt(t.abs(x) + 0.5)),
    _mapped(lambda x: t.reciprocal(t.abs(x) + 0.5)),
    _mapped(lambda x: t.log1p(t.abs(x))),
    _mapped(lambda x: t.reshape(x, -1)),
    _padded,
    _permuted,
    _sliced,
    _doubled,
    _along(t.flip),
)


# --- the ways to compile ------------------------------------------------------------------------------------------


def stored(outputs: Sequence[Node]) -> list[Node]:
    """Return a graph with every intermediate result kept in memory."""
    from portkit.compiler import graph

    new: dict[Node, Node] = {}
    for node in graph.topological(outputs):
        made = graph.with_inputs(node, tuple(new[x] for x in node.inputs))
        new[node] = made if node.op in ("const", "iota", "source") else graph.store(made)
    return [new[node] for node in outputs]


def narrow(capabilities: Capabilities) -> Capabilities:
    """Return a device with two more processors, vectors of 4 and little cache."""
    workers = capabilities.tuning.workers + 2
    lanes = tuple(n for n in capabilities.lanes if n <= 4) or capabilities.lanes[:1]
    tuning = Tuning(workers=workers, vector_bytes=16, vector_registers=8, cache_bytes=(4096, 16384))
    return msgspec.structs.replace(capabilities, lanes=lanes, tuning=tuning)


def plain(capabilities: Capabilities) -> Capabilities:
    """Return a device without extensions."""
    return msgspec.structs.replace(capabilities, extensions=(), lanes=(), math={}, atomic={})


_WAYS: dict[str, Callable[[Capabilities], Capabilities]] = {
    "fused": lambda c: c,
    "stored": lambda c: c,
    "narrow": narrow,
    "plain": plain,
}


def cells(capabilities: Capabilities) -> Iterator[Cell]:
    """Yield the cells of random graphs."""
    yield from (Cell(f"tensor.random.{way}", "f32") for way in _WAYS)
    yield from (_cell(rewriting) for rewriting in _rewritings(capabilities))


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield every random graph in every way, and then rewritten."""
    for seed in range(SEEDS[Tier.FULL]):
        for way in _WAYS:
            case_id = f"tensors/fused/random-{seed:03}/{way}"
            yield tensor_case(case_id, partial(_trial, seed, way), (Cell(f"tensor.random.{way}", "f32"),), _tier(seed))
    made = [(rewriting, (_cell(rewriting),)) for rewriting in _rewritings(capabilities)]
    for seed in range(SEEDS[Tier.FULL]):
        for rewriting, of in made:
            case_id = f"tensors/rewritten/random-{seed:03}/{rewriting.name}"
            tier = _tier(seed) if rewriting is REWRITINGS[seed % len(REWRITINGS)] else Tier.FULL
            yield tensor_case(case_id, partial(_rewritten, seed, rewriting, case_id), of, tier)


def _tier(seed: int) -> Tier:
    return next(tier for tier, count in SEEDS.items() if seed < count)


def _cell(rewriting: Rewriting) -> Cell:
    return Cell(f"tensor.rewritten.{rewriting.name}", "f32")


def _rewritings(capabilities: Capabilities) -> list[Rewriting]:
    """Return the rewritings whose dtypes a device can hold."""
    return [r for r in REWRITINGS if holds(capabilities, r.dtypes)]


@lru_cache(maxsize=8)
def random_graph(seed: int) -> tuple[Node, ...]:
    """Return the outputs of the graph of a seed; its sources have their contents."""
    return tuple(_Writer(f"tensors/fused/random-{seed:03}").write())


def rewritable(seed: int, rewriting: Rewriting) -> tuple[Node, ...]:
    """Return the first graph from a seed on that a rewriting applies to."""
    graphs = (random_graph(number) for number in range(seed, seed + SEEDS[Tier.FULL]))
    return next(nodes for nodes in graphs if rewriting.sites(nodes))


def _trial(seed: int, way: str, capabilities: Capabilities) -> GraphTrial:
    nodes = random_graph(seed)
    return trial_of(nodes, _WAYS[way](capabilities), stored(nodes) if way == "stored" else ())


def _rewritten(seed: int, rewriting: Rewriting, case_id: str, capabilities: Capabilities) -> GraphTrial:
    nodes = rewritable(seed, rewriting)
    return trial_of(nodes, capabilities, rewriting.of(nodes, case_id))
