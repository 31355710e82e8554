"""Seeded random kernels: `base` seeds use what every device has, `declared` seeds all that this device declares."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial

import numpy as np

from portkit.conformance.case import Case, Level, Tier, Trial
from portkit.conformance.cases.draws import Draws, as_array
from portkit.conformance.cases.fuzz_writer import EXTENT, KernelWriter, Palette
from portkit.conformance.cases.inputs import random_values
from portkit.conformance.cases.shapes import KERNEL_NEEDS
from portkit.conformance.cases.specials import finite_specials
from portkit.contract import Capabilities
from portkit.spec.kernel import Kernel
from portkit.spec.types import DType

SEEDS = {Tier.SMOKE: 4, Tier.STANDARD: 36, Tier.FULL: 1000}
"""How many seeds of each palette there are up to and including a tier."""
GROUPS = 3


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the random kernels."""
    for name, palette in (("base", Palette.base()), ("declared", Palette.declared(capabilities))):
        for seed in range(SEEDS[Tier.FULL]):
            case_id = f"kernels/fuzz/{name}/{seed:04}"
            tier = next(tier for tier, count in SEEDS.items() if seed < count)
            trial = partial(fuzz_trial, case_id, palette)
            yield Case(case_id, Level.KERNELS, tier, trial=trial, needs=KERNEL_NEEDS)


@lru_cache(maxsize=64)
def fuzz_kernel(case_id: str, palette: Palette) -> Kernel:
    """Return the random kernel of a case."""
    return KernelWriter(case_id, palette).write()


def fuzz_trial(case_id: str, palette: Palette) -> Trial:
    """Return the launch: three work-groups, the last one ragged; special and random values in equal parts."""
    kernel = fuzz_kernel(case_id, palette)
    size = max(1, (GROUPS - 1) * kernel.lanes + kernel.lanes // 2)
    draws = Draws(f"{case_id}:data")
    inputs = {b.name: _contents(draws, b.dtype) for b in kernel.buffers if b.name.startswith("in_")}
    if any(b.name == "bins" for b in kernel.buffers):
        inputs["bins"] = np.arange(16, dtype=np.int32)
    return Trial(kernel, {"n": size, "groups": GROUPS, "f": 0.75}, inputs)


def _contents(draws: Draws, dtype: DType) -> np.ndarray:
    values = random_values(draws, dtype, EXTENT)
    values[::2] = draws.one_of(finite_specials(dtype), EXTENT // 2)
    return as_array(dtype, values)
