"""Seeded random kernels: `base` seeds use what every device has, `declared` seeds all that this device declares."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from math import prod

import numpy as np

from portkit.conformance.case import Case, Level, Tier, Trial
from portkit.conformance.cases.draws import Draws, as_array
from portkit.conformance.cases.fuzz_palette import Palette
from portkit.conformance.cases.fuzz_writer import KernelWriter
from portkit.conformance.cases.inputs import random_values, unit_values
from portkit.conformance.cases.shapes import KERNEL_NEEDS
from portkit.conformance.cases.specials import finite_specials
from portkit.contract import Capabilities
from portkit.spec.geometry import grid_counts
from portkit.spec.kernel import Kernel
from portkit.spec.types import DType

SEEDS = {
    "base": {Tier.SMOKE: 4, Tier.STANDARD: 12, Tier.FULL: 1000},
    "declared": {Tier.SMOKE: 4, Tier.STANDARD: 36, Tier.FULL: 1000},
}
"""How many seeds of each palette there are up to and including a tier.

`standard` has a pass over the goals: each form on each dtype that a device may declare (see `fuzz_goals`).
"""
GROUPS = 3
_SEED_ID = re.compile(r"kernels/fuzz/(?P<name>base|declared)/(?P<seed>[1-9][0-9]{3,17})")


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the random kernels of the fixed tiers."""
    for name, seeds in SEEDS.items():
        yield from seeded(capabilities, name, range(seeds[Tier.FULL]))


def palette_of(capabilities: Capabilities, name: str) -> Palette:
    """Return the palette `base` or `declared` of a device."""
    return Palette.base() if name == "base" else Palette.declared(capabilities)


def seeded(capabilities: Capabilities, name: str, seeds: Iterable[int]) -> Iterator[Case]:
    """Yield the random kernels of a palette for any seeds, also those that no tier lists."""
    palette = palette_of(capabilities, name)
    for seed in seeds:
        case_id = f"kernels/fuzz/{name}/{seed:04}"
        tier = next((tier for tier, count in SEEDS[name].items() if seed < count), Tier.FULL)
        yield Case(case_id, Level.KERNELS, tier, trial=partial(fuzz_trial, case_id, palette), needs=KERNEL_NEEDS)


def unlisted(capabilities: Capabilities, ids: Iterable[str]) -> Iterator[Case]:
    """Yield the cases of ids that name a seed which no tier lists, so that any seed can be replayed."""
    for case_id in dict.fromkeys(ids):
        found = _SEED_ID.fullmatch(case_id)
        if found and int(found["seed"]) >= SEEDS[found["name"]][Tier.FULL]:
            yield from seeded(capabilities, found["name"], [int(found["seed"])])


@lru_cache(maxsize=64)
def fuzz_kernel(case_id: str, palette: Palette) -> Kernel:
    """Return the random kernel of a case."""
    return KernelWriter(case_id, palette).write()


def fuzz_trial(case_id: str, palette: Palette) -> Trial:
    """Return the launch: three work-groups or a multiple, the last one ragged.

    Inputs are special and random values in equal parts; buffers of atomic stores begin with small values.
    """
    kernel = fuzz_kernel(case_id, palette)
    scalars: dict[str, int | float] = {"n": 1, "groups": GROUPS, "f": 0.75}
    groups = prod(grid_counts(kernel, scalars))
    scalars["n"] = max(1, (groups - 1) * kernel.lanes + kernel.lanes // 2)
    draws = Draws(f"{case_id}:data")
    inputs = {
        b.name: _CONTENTS[b.access](draws, b.dtype, b.extent.evaluate(scalars))
        for b in kernel.buffers
        if b.access != "write"
    }
    return Trial(kernel, scalars, inputs)


def _special(draws: Draws, dtype: DType, count: int) -> np.ndarray:
    values = random_values(draws, dtype, count)
    values[::2] = draws.one_of(finite_specials(dtype), count // 2)
    return as_array(dtype, values)


def _small(draws: Draws, dtype: DType, count: int) -> np.ndarray:
    return as_array(dtype, unit_values(draws, dtype, count))


_CONTENTS = {"read": _special, "readwrite": _small}
