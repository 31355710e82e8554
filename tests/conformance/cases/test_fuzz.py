"""The kernel fuzzer: what it writes is valid, determined, and worth running."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from portkit.conformance.case import Trial
from portkit.conformance.cases.fuzz import fuzz_kernel, fuzz_trial
from portkit.conformance.cases.fuzz_coverage import Coverage, declared_cells
from portkit.conformance.cases.fuzz_goals import goals_of, seeds_of_a_pass
from portkit.conformance.cases.fuzz_palette import Dice, Palette
from portkit.conformance.reducing.origin import find_case
from portkit.conformance.support import undeclared
from portkit.conformance.worker import MOST_ILL_CONDITIONED
from portkit.contract import Limits
from portkit.reference.bounds import NumericModel, bounds
from portkit.reference.checks import check
from portkit.reference.values import run
from portkit.spec.text import format as to_text
from portkit.spec.verify import verify
from tests.conformance.cases.host_device import BASE, MAXIMAL

PALETTES = {"base": Palette.base(), "declared": Palette.declared(MAXIMAL)}
SEEDS = range(2000, 2060)
"""Not those that the suite ships, which run in `portkit conform`."""
BLOCK = 20


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
        unclaimed = sum(int(a.ill_conditioned.sum()) for a in accepted.values())
        assert unclaimed <= MOST_ILL_CONDITIONED * sum(a.lo.size for a in accepted.values()), case_id


@pytest.mark.parametrize(("palette", "capabilities"), [("base", BASE), ("declared", MAXIMAL)])
def test_random_kernels_use_only_what_is_declared(palette: str, capabilities: object) -> None:
    kernels = [fuzz_kernel(case_id, PALETTES[palette]) for case_id in ids(palette, range(2000, 2040))]
    assert {undeclared(k, capabilities) for k in kernels} == {""}  # type: ignore[arg-type]


def test_the_same_id_gives_the_same_kernel_and_another_id_another() -> None:
    first = to_text(fuzz_kernel.__wrapped__("kernels/fuzz/base/0007", Palette.base()))
    assert to_text(fuzz_kernel.__wrapped__("kernels/fuzz/base/0007", Palette.base())) == first
    assert to_text(fuzz_kernel.__wrapped__("kernels/fuzz/base/0008", Palette.base())) != first


def test_the_goals_of_a_seed_are_in_its_kernel_and_reach_an_output() -> None:
    palette = PALETTES["declared"]
    for seed in range(3000, 3020):
        coverage = Coverage(declared_cells(palette.cells))
        coverage.add(fuzz_kernel(f"kernels/fuzz/declared/{seed}", palette))
        missing = {goal.cell for goal in goals_of(palette, seed)} - coverage.cells.keys()
        assert not missing, (seed, missing)


def test_one_pass_over_the_seeds_covers_every_form_on_every_dtype() -> None:
    palette = PALETTES["base"]
    coverage = Coverage(declared_cells(palette.cells))
    for seed in range(seeds_of_a_pass(palette)):
        coverage.add(fuzz_kernel(f"kernels/fuzz/base/{seed:04}", palette))
    covered, declared = coverage.forms()
    assert covered == declared


def test_random_kernels_need_no_more_buffers_and_lanes_than_every_device_has() -> None:
    kernels = [fuzz_kernel(case_id, PALETTES["declared"]) for case_id in ids("declared", SEEDS)]
    assert max(len(k.buffers) for k in kernels) <= Limits().buffers
    assert max(k.lanes for k in kernels) <= Limits().lanes


def test_random_kernels_compute_something() -> None:
    """Few kernels store one and the same number everywhere."""
    constant = 0
    for case_id in ids("declared", SEEDS)[:25]:
        trial = fuzz_trial(case_id, PALETTES["declared"])
        words = run(trial.kernel, trial.scalars, trial.inputs)["words"].reshape(int(trial.scalars["n"]), -1)
        constant += len(np.unique(words[:, 0])) == 1
    assert constant <= 12


def test_random_kernels_fill_every_place_of_their_outputs() -> None:
    """What stays as it was has to be launched from a second poison, which costs as much again."""
    for case_id in ids("declared", SEEDS)[:35]:
        trial = fuzz_trial(case_id, PALETTES["declared"])
        first, second = (_after(trial, poison) for poison in (b"\xa5", b"\x5a"))
        for buffer in trial.kernel.buffers:
            assert first[buffer.name].tobytes() == second[buffer.name].tobytes(), (case_id, buffer.name)


def _after(trial: Trial, poison: bytes) -> dict[str, np.ndarray]:
    """Return the buffers after a launch; those that are only written begin as poison."""
    sizes = {b.name: (b.extent.evaluate(trial.scalars), b.dtype) for b in trial.kernel.buffers if b.access == "write"}
    start = {name: np.frombuffer(poison * (n * d.bytes), d.numpy) for name, (n, d) in sizes.items()}
    return run(trial.kernel, trial.scalars, {**trial.inputs, **start})


def test_a_seed_that_no_tier_lists_can_be_reduced() -> None:
    assert find_case("kernels/fuzz/declared/1234567", MAXIMAL).trial is not None


def test_dice_are_fair_enough_to_reach_every_choice() -> None:
    dice = Dice("fair")
    assert Counter(dice.below(6) for _ in range(600)).keys() == set(range(6))
