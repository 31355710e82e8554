"""Which cells a seed must write, so that coverage is certain and needs no feedback between cases.

The cells of a device are grouped by form and dtype. One *pass* over the seeds visits every form on every dtype once;
each pass takes the next of the group's variants (lane counts, sources of conversions) and the next context. All goals
of one kernel share a dtype, so that its buffers suffice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from portkit.conformance.case import Cell
from portkit.conformance.cases.fuzz_palette import Palette

GOALS = 20
"""The most goals of one kernel."""
CONTEXTS = ("plain", "literal", "loop", "counted", "nested", "divergent", "carried", "barrier", "gated")
"""Where a goal stands: in no loop; with a constant operand; in a loop of literal count, of uniform count, in two
loops; in a loop whose count differs between lanes; with a carried operand; after a barrier; under a gate."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A cell that a kernel must contain, and the context to put it in."""

    cell: Cell
    context: str


def goals_of(palette: Palette, seed: int) -> list[Goal]:
    """Return the goals of a seed, all of one dtype."""
    kernels = _kernels(palette)
    turn, place = divmod(seed, len(kernels))
    goals: list[Goal] = []
    for number, variants in enumerate(kernels[place]):
        cell = variants[turn % len(variants)]
        context = turn + turn // len(variants) + number + place
        goals.append(Goal(cell, CONTEXTS[context % len(CONTEXTS)]))
    return goals


def seeds_of_a_pass(palette: Palette) -> int:
    """Return how many consecutive seeds write every form on every dtype of a palette."""
    return len(_kernels(palette))


def passes(palette: Palette) -> int:
    """Return how many passes write every cell of a palette."""
    return max(len(variants) for kernel in _kernels(palette) for variants in kernel)


@lru_cache(maxsize=16)
def _kernels(palette: Palette) -> list[list[list[Cell]]]:
    """Return for each seed of a pass its goals, each as the list of its variants."""
    by_dtype: dict[str, dict[str, list[Cell]]] = {}
    for cell in palette.cells:
        by_dtype.setdefault(cell.dtype, {}).setdefault(cell.form, []).append(cell)
    tokens = by_dtype.pop("token", {})
    by_dtype["i32"].update({f"{form} of tokens": found for form, found in tokens.items()})
    shares = [_shares(list(forms.values())) for forms in by_dtype.values()]
    longest = max(map(len, shares))
    return [share[k] for k in range(longest) for share in shares if k < len(share)]


def _shares(variants: list[list[Cell]]) -> list[list[list[Cell]]]:
    """Deal the forms of one dtype to as few kernels as hold them."""
    count = -(-len(variants) // GOALS)
    return [variants[k::count] for k in range(count)]
