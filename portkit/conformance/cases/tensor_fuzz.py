"""Seeded random graphs, each compiled in several ways that must all lie inside the one bound of the graph.

`fused` as the compiler likes it; `stored` with every intermediate result kept in memory; `narrow` for a device with
fewer processors and short vectors, so that every loop is cut differently; `plain` without any extension.

Beside these ways each graph is compiled rewritten, so that it computes the same by other operations
(`portkit.conformance.cases.tensor_fuzz_rewrites`), in one way or in several, one after another. The bound remains that
of the graph as it was written. In tier standard each rewriting has its turn; full has all of them of every graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import msgspec

from portkit.conformance.case import Case, Cell, GraphTrial, Tier
from portkit.conformance.cases.tensor_fuzz_algebra import ALGEBRA
from portkit.conformance.cases.tensor_fuzz_floats import float_graph
from portkit.conformance.cases.tensor_fuzz_folds import FOLDS
from portkit.conformance.cases.tensor_fuzz_integers import REWRITINGS_OF_INTEGERS
from portkit.conformance.cases.tensor_fuzz_mixed import mixed_graph
from portkit.conformance.cases.tensor_fuzz_movement import MOVEMENT
from portkit.conformance.cases.tensor_fuzz_rewrites import Places, Rewriting
from portkit.conformance.cases.tensorcase import holds, tensor_case, trial_of
from portkit.contract import Capabilities, Tuning

if TYPE_CHECKING:
    from portkit.compiler.graph import Node


@dataclass(frozen=True, eq=False, slots=True)
class Family:
    """Random graphs of one kind: how one is written, how many there are up to and including a tier, what they are of.

    `compiled` and `rewritten` are what ids begin with, before the seed. The first `owed` rewritings have their turn in
    tier standard, each a cell of its own.
    """

    name: str
    dtype: str
    compiled: str
    rewritten: str
    write: Callable[[str], Sequence[Node]]
    seeds: Mapping[Tier, int]
    rewritings: tuple[Rewriting, ...]
    owed: int

    def tier(self, seed: int) -> Tier:
        return next(tier for tier, count in self.seeds.items() if seed < count)

    def turns(self, seed: int) -> tuple[Rewriting, ...]:
        """Return the rewritings of a graph in tier standard, none if it is not in that tier."""
        return self.rewritings[: self.owed][seed :: self.seeds[Tier.STANDARD]] if self.tier(seed) != Tier.FULL else ()

    def of_way(self, way: str) -> Cell:
        return Cell(f"tensor.{self.name}.{way}", self.dtype)

    @property
    def of_several(self) -> Cell:
        return Cell("tensor.rewritten.several", self.dtype)

    def of_rewriting(self, rewriting: Rewriting) -> tuple[Cell, ...]:
        """Return the cell of a rewriting, none if the family does not owe it."""
        owed = rewriting in self.rewritings[: self.owed]
        return (Cell(f"tensor.rewritten.{rewriting.name}", self.dtype),) if owed else ()

    def possible(self, capabilities: Capabilities) -> list[Rewriting]:
        """Return the rewritings whose dtypes a device can hold."""
        return [r for r in self.rewritings if holds(capabilities, r.dtypes)]


REWRITINGS = (*MOVEMENT, *ALGEBRA, *FOLDS)
FLOATS = Family(
    "random",
    "f32",
    "tensors/fused/random",
    "tensors/rewritten/random",
    float_graph,
    {Tier.SMOKE: 2, Tier.STANDARD: 24, Tier.FULL: 400},
    REWRITINGS,
    len(REWRITINGS),
)
MIXED = Family(
    "mixed",
    "i32",
    "tensors/mixed/random",
    "tensors/rewritten/mixed",
    mixed_graph,
    {Tier.SMOKE: 1, Tier.STANDARD: 6, Tier.FULL: 100},
    (*REWRITINGS_OF_INTEGERS, *REWRITINGS),
    len(REWRITINGS_OF_INTEGERS),
)
FAMILIES = (FLOATS, MIXED)
_SEVERAL = 6
"""How many rewritings one after another make a graph."""
_STANDARD_SEVERAL = 4
"""How many such graphs of each family are in tier standard."""


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


# --- cells and cases ----------------------------------------------------------------------------------------------


def cells(capabilities: Capabilities) -> Iterator[Cell]:
    """Yield the cells of random graphs."""
    for family in FAMILIES:
        yield from map(family.of_way, _WAYS)
        yield family.of_several
        for rewriting in family.possible(capabilities):
            yield from family.of_rewriting(rewriting)


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield every random graph in every way, and then rewritten."""
    for family in FAMILIES:
        yield from _compiled(family)
        yield from _rewritten(family, capabilities)
        yield from _rewritten_often(family)


def _compiled(family: Family) -> Iterator[Case]:
    of = {way: (family.of_way(way),) for way in _WAYS}
    for seed in range(family.seeds[Tier.FULL]):
        for way in _WAYS:
            case_id = f"{family.compiled}-{seed:03}/{way}"
            yield tensor_case(case_id, partial(_compiled_trial, family, seed, way), of[way], family.tier(seed))


def _rewritten(family: Family, capabilities: Capabilities) -> Iterator[Case]:
    made = [(rewriting, family.of_rewriting(rewriting)) for rewriting in family.possible(capabilities)]
    for seed in range(family.seeds[Tier.FULL]):
        for rewriting, of in made:
            case_id = f"{family.rewritten}-{seed:03}/{rewriting.name}"
            tier = Tier.STANDARD if rewriting in family.turns(seed) else Tier.FULL
            yield tensor_case(case_id, partial(_rewritten_trial, family, seed, rewriting, case_id), of, tier)


def _rewritten_often(family: Family) -> Iterator[Case]:
    cell = (family.of_several,)
    for seed in range(family.seeds[Tier.FULL]):
        case_id = f"{family.rewritten}-{seed:03}/several"
        tier = Tier.STANDARD if seed < _STANDARD_SEVERAL else Tier.FULL
        yield tensor_case(case_id, partial(_several_trial, family, seed, case_id), cell, tier)


@lru_cache(maxsize=8)
def random_graph(seed: int, family: Family = FLOATS) -> tuple[Node, ...]:
    """Return the outputs of the graph of a seed; its sources have their contents."""
    return tuple(family.write(f"{family.compiled}-{seed:03}"))


def rewritable(seed: int, rewriting: Rewriting, family: Family = FLOATS) -> tuple[Node, ...]:
    """Return the first graph from a seed on that a rewriting applies to."""
    graphs = (random_graph(number, family) for number in range(seed, seed + family.seeds[Tier.FULL]))
    return next(nodes for nodes in graphs if rewriting.sites(nodes))


def several(outputs: Sequence[Node], rewritings: Sequence[Rewriting], case_id: str) -> list[Node]:
    """Return a graph after some rewritings, each of what those before it made.

    Those that need dtypes are left out, so that an id means the same graph on every device.
    """
    nodes, left = list(outputs), _SEVERAL
    for k in Places(case_id).permutation(len(rewritings)):
        rewriting = rewritings[k]
        if left and not rewriting.dtypes and rewriting.sites(nodes):
            nodes = rewriting.of(nodes, f"{case_id}:{rewriting.name}")
            left -= 1
    return nodes


def _compiled_trial(family: Family, seed: int, way: str, capabilities: Capabilities) -> GraphTrial:
    nodes = random_graph(seed, family)
    return trial_of(nodes, _WAYS[way](capabilities), stored(nodes) if way == "stored" else ())


def _rewritten_trial(
    family: Family, seed: int, rewriting: Rewriting, case_id: str, capabilities: Capabilities
) -> GraphTrial:
    nodes = rewritable(seed, rewriting, family)
    return trial_of(nodes, capabilities, rewriting.of(nodes, case_id))


def _several_trial(family: Family, seed: int, case_id: str, capabilities: Capabilities) -> GraphTrial:
    nodes = random_graph(seed, family)
    return trial_of(nodes, capabilities, several(nodes, family.rewritings, case_id))
