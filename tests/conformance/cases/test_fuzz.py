"""The kernel fuzzer: what it writes is valid, determined, and worth running."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from portkit.conformance.cases.fuzz import fuzz_kernel, fuzz_trial
from portkit.conformance.cases.fuzz_writer import Dice, Palette
from portkit.conformance.support import undeclared
from portkit.contract import Limits
from portkit.reference.bounds import NumericModel, bounds
from portkit.reference.checks import check
from portkit.reference.values import run
from portkit.spec.text import format as to_text
from portkit.spec.verify import verify
from tests.conformance.cases.host_device import BASE, MAXIMAL

PALETTES = {"base": Palette.base(), "declared": Palette.declared(MAXIMAL)}
SEEDS = range(2000, 2125)
"""Not those that the suite ships, which run in `portkit conform`."""
BLOCK = 25


def ids(palette: str, seeds: range) -> list[str]:
    return [f"kernels/fuzz/{palette}/{seed:04}" for seed in seeds]


@pytest.mark.parametrize("start", range(SEEDS.start, SEEDS.stop, BLOCK))
@pytest.mark.parametrize("palette", PALETTES)
def test_random_kernels_verify_are_valid_and_have_determined_results(palette: str, start: int) -> None:
    for case_id in ids(palette, range(start, start + BLOCK)):
        trial = fuzz_trial(case_id, PALETTES[palette])
        verify(trial.kernel)
        check(trial.kernel, trial.scalars, trial.inputs)
        accepted = bounds(trial.kernel, trial.scalars, trial.inputs, NumericModel(frozenset()))
        assert not any(a.ill_conditioned.any() for a in accepted.values()), case_id


@pytest.mark.parametrize(("palette", "capabilities"), [("base", BASE), ("declared", MAXIMAL)])
def test_random_kernels_use_only_what_is_declared(palette: str, capabilities: object) -> None:
    kernels = [fuzz_kernel(case_id, PALETTES[palette]) for case_id in ids(palette, range(2000, 2040))]
    assert {undeclared(k, capabilities) for k in kernels} == {""}  # type: ignore[arg-type]


def test_the_same_id_gives_the_same_kernel_and_another_id_another() -> None:
    first = to_text(fuzz_kernel.__wrapped__("kernels/fuzz/base/0007", Palette.base()))
    assert to_text(fuzz_kernel.__wrapped__("kernels/fuzz/base/0007", Palette.base())) == first
    assert to_text(fuzz_kernel.__wrapped__("kernels/fuzz/base/0008", Palette.base())) != first


def test_random_kernels_use_every_pure_form_and_what_synchronises() -> None:
    used = Counter(i.name for c in ids("declared", SEEDS) for i in fuzz_kernel(c, PALETTES["declared"]).body)
    wanted = {"barrier", "wait.token", "load.async", "loop.serial", "phi.carry", "mul.hi", "mul.add", "mov.bits"}
    wanted |= {"reduce.group.add", "reduce.vec.max", "load.gather", "load.vec", "mov.pack", "store.atomic.add"}
    assert wanted <= used.keys()


def test_random_kernels_need_no_more_buffers_and_lanes_than_every_device_has() -> None:
    kernels = [fuzz_kernel(case_id, PALETTES["declared"]) for case_id in ids("declared", SEEDS)]
    assert max(len(k.buffers) for k in kernels) <= Limits().buffers
    assert max(k.lanes for k in kernels) <= Limits().lanes


def test_random_kernels_compute_something() -> None:
    """Few kernels store one and the same number everywhere."""
    constant = 0
    for case_id in ids("declared", SEEDS)[:50]:
        trial = fuzz_trial(case_id, PALETTES["declared"])
        digest = run(trial.kernel, trial.scalars, trial.inputs)["digest"]
        constant += len(np.unique(digest)) == 1
    assert constant <= 25


def test_dice_are_fair_enough_to_reach_every_choice() -> None:
    dice = Dice("fair")
    assert Counter(dice.below(6) for _ in range(600)).keys() == set(range(6))
