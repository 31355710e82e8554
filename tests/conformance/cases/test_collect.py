"""The list of cases: unique, stable, the same for the same capabilities, and every one of them valid."""

from __future__ import annotations

import hashlib
from collections import Counter

import msgspec
import pytest

from portkit.conformance.case import Case, Level, Tier
from portkit.conformance.cases import collect
from portkit.conformance.ladder import SERIES, Ladder, stage
from portkit.errors import UsageError
from portkit.reference.checks import check
from portkit.spec.geometry import buffer_extents
from portkit.spec.verify import verify
from tests.conformance.cases.golden import check_golden
from tests.conformance.cases.host_device import BASE, MAXIMAL

DTYPES = tuple(name for name in MAXIMAL.dtypes if not name.startswith("f8"))
WIDE = msgspec.structs.replace(MAXIMAL, dtypes=DTYPES, lanes=(2, 4, 16))
ALL = collect(MAXIMAL)
RUNGS = 30
"""More rungs than this would cost the time of everybody: they run one after another before all other cases."""


def test_ids_are_unique() -> None:
    assert [i for i, count in Counter(c.id for c in ALL).items() if count > 1] == []


def test_ids_consist_of_plain_characters_and_name_their_level() -> None:
    assert [c.id for c in ALL if set(c.id) - set("abcdefghijklmnopqrstuvwxyz0123456789_-./")] == []
    assert [c.id for c in ALL if not c.id.startswith(f"{c.level.value}/")] == []


def test_the_list_of_ids_is_the_recorded_one() -> None:
    for name, capabilities in (("base", BASE), ("maximal", MAXIMAL)):
        lines = "\n".join(f"{c.id} {c.tier.value}" for c in collect(capabilities))
        check_golden(f"ids of {name}", hashlib.sha256(lines.encode()).hexdigest())


def test_two_collections_are_the_same() -> None:
    again = collect(MAXIMAL)
    assert [(c.id, c.tier, c.cells, c.needs) for c in again] == [(c.id, c.tier, c.cells, c.needs) for c in ALL]


def test_a_case_has_either_a_launch_or_a_check() -> None:
    assert [c.id for c in ALL if (c.trial is None) == (c.check is None) or c.graph is not None] == []


def test_every_level_has_cases_in_smoke() -> None:
    assert {c.level for c in collect(BASE, "compute") if c.tier is Tier.SMOKE} == set(Level)


def test_what_cases_need_is_there_and_little() -> None:
    smoke = {c.id for c in collect(BASE) if c.tier is Tier.SMOKE}
    needed = {n for c in ALL for n in c.needs}
    assert needed <= smoke
    assert needed <= {rung.id for rung in Ladder(ALL).rungs}
    assert len(Ladder(ALL).rungs) <= RUNGS


def test_what_a_case_needs_stands_no_higher_on_the_ladder_than_the_case() -> None:
    ladder = Ladder(ALL)
    pairs = {(need, case.id) for case in ALL for need in (*ladder.needs(case), *ladder.series(case))}
    assert [pair for pair in pairs if stage(pair[0]) > stage(pair[1])] == []


def test_what_a_rung_stands_for_is_in_the_smoke_tier() -> None:
    smoke = {c.id for c in collect(BASE) if c.tier is Tier.SMOKE}
    assert {*SERIES, *(member for series in SERIES.values() for member in series)} <= smoke


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="core"):
        collect(BASE, "cores")


def _launches(cases: list[Case]) -> list[Case]:
    """Launches of all kinds but random kernels, which have tests of their own, and pieces of 2^24 elements."""
    return [c for c in cases if c.trial is not None and not c.id.startswith("kernels/fuzz") and "/all_" not in c.id]


def _validate(case: Case) -> None:
    assert case.trial is not None
    trial = case.trial()
    verify(trial.kernel)
    for buffer, extent in zip(trial.kernel.buffers, buffer_extents(trial.kernel, trial.scalars), strict=True):
        given = trial.inputs.get(buffer.name)
        assert (given is None) == (buffer.access == "write"), buffer.name
        if given is not None:
            assert given.dtype == buffer.dtype.numpy
            assert given.shape == (extent,)
    check(trial.kernel, trial.scalars, trial.inputs)


@pytest.mark.parametrize("case", [c for c in _launches(collect(BASE)) if c.tier is Tier.SMOKE], ids=lambda c: c.id)
def test_every_smoke_case_is_a_valid_launch(case: Case) -> None:
    _validate(case)


@pytest.mark.parametrize(
    "case", [c for c in _launches(collect(WIDE)) if c.level is Level.KERNELS][::5], ids=lambda c: c.id
)
def test_kernels_are_valid_launches(case: Case) -> None:
    _validate(case)


@pytest.mark.parametrize(
    "case", [c for c in _launches(collect(WIDE)) if c.level is Level.OPS][::37], ids=lambda c: c.id
)
def test_a_sample_of_the_ops_are_valid_launches(case: Case) -> None:
    _validate(case)


def test_all_sets_of_one_form_and_type_share_one_kernel() -> None:
    kernels = [c.trial().kernel for c in ALL if c.id.startswith("ops/add/f32/") and c.trial and "strict" not in c.id]
    assert len(kernels) > 1
    assert all(kernel is kernels[0] for kernel in kernels)
