"""The kill matrix: which case finds which seeded fault, what is recorded of it, and the scores that follow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portkit.conformance.case import Case, CheckFailed, Level, Tier
from portkit.conformance.cases.collect import collect
from portkit.conformance.finding import Check
from portkit.conformance.mutants import record as records
from portkit.conformance.mutants.device import Wrapped
from portkit.conformance.mutants.kills import Hunted, Hunter, jobs
from portkit.conformance.mutants.model import ModelDevice
from portkit.conformance.mutants.mutant import Mutant
from portkit.conformance.mutants.record import Found, Job, Kill, Killer, Record
from portkit.conformance.mutants.table import MUTANTS, distinguishable, equivalent, fits
from portkit.contract import Capabilities, find_backend
from portkit.errors import SchemaError
from portkit.runtime.client import DeviceClient

SHIFT, COPY = "shift-right-ignores-sign", "copy-is-short"
FINDS_SHIFT = "ops/mul.shr/i32/special"
FINDS_COPY = "device/copy/whole"
UNTOUCHED = "ops/add/i32/special"
"""A case whose kernel the shift's fault leaves as it is."""


@pytest.fixture(scope="module")
def capabilities() -> Capabilities:
    return find_backend("cpu").capabilities


@pytest.fixture(scope="module")
def cases(capabilities: Capabilities) -> dict[str, Case]:
    return {case.id: case for case in collect(capabilities)}


class Device(ModelDevice):
    """A model device that counts its launches and how often its process was ended."""

    def __init__(self, capabilities: Capabilities) -> None:
        super().__init__(capabilities)
        self.launches = 0
        self.kills = 0

    def execute(self, *args: Any, **options: Any) -> Any:
        self.launches += 1
        return super().execute(*args, **options)

    def kill(self) -> None:
        self.kills += 1
        super().kill()


@pytest.fixture
def device(capabilities: Capabilities) -> Device:
    return Device(capabilities)


@pytest.fixture
def hunter(device: Device) -> Hunter:
    return Hunter(device.as_client())


def check_case(case_id: str, check: Any) -> Case:
    return Case(case_id, Level.DEVICE, Tier.SMOKE, check=check)


def _fails(client: DeviceClient) -> None:
    del client
    raise CheckFailed("expected a copy, saw nothing")


# --- hunting ------------------------------------------------------------------------------------------------------


def test_a_case_that_finds_a_fault_is_a_kill_and_says_which_check_found_it(hunter: Hunter) -> None:
    found = hunter.run(Job((FINDS_SHIFT,), (SHIFT,)))
    assert found.kills == (Kill(SHIFT, FINDS_SHIFT, hunter.cases[FINDS_SHIFT].tier.value, ("values",)),)
    assert found.survivors() == []


def test_a_fault_that_leaves_the_kernel_as_it_is_is_not_launched(hunter: Hunter, device: Device) -> None:
    found = hunter.run(Job((UNTOUCHED,), (SHIFT,)))
    assert found == Hunted()
    assert device.launches == 0


def test_a_fault_of_the_devices_functions_is_tried_on_checks(hunter: Hunter) -> None:
    found = hunter.run(Job((FINDS_COPY,), (COPY,)))
    assert [(kill.mutant, kill.checks) for kill in found.kills] == [(COPY, ("device",))]


def test_a_fault_that_no_case_finds_survives(hunter: Hunter) -> None:
    assert hunter.run(Job(("device/transfer/offsets",), (COPY,))).survivors() == [COPY]


def test_a_fault_of_a_function_that_a_launch_does_not_call_is_not_tried_on_launches(hunter: Hunter) -> None:
    assert hunter.run(Job((UNTOUCHED,), (COPY,))) == Hunted()


def test_enough_kills_of_a_mutant_end_its_trials(hunter: Hunter) -> None:
    about = tuple(case_id for case_id in hunter.cases if case_id.startswith("ops/mul.shr/i32/"))
    assert len(hunter.run(Job(about, (SHIFT,), most=1)).kills) == 1
    assert len(hunter.run(Job(about, (SHIFT,), most=2)).kills) == 2


def test_a_case_that_does_not_pass_without_a_fault_kills_nothing(hunter: Hunter) -> None:
    hunter.cases["device/copy/wrong"] = check_case("device/copy/wrong", _fails)
    found = hunter.run(Job(("device/copy/wrong",), (COPY,)))
    assert found.unfit == ("device/copy/wrong",)
    assert found.kills == ()


def test_a_case_that_the_device_does_not_have_is_left_out(hunter: Hunter) -> None:
    assert hunter.run(Job(("ops/none/f32/special",), (COPY,))) == Hunted()


def test_every_equivalent_mutant_changes_a_kernel_of_its_form(cases: dict[str, Case]) -> None:
    for mutant in equivalent():
        makers = [case.trial for case_id, case in cases.items() if case_id.startswith(f"ops/{mutant.suspect}/")]
        assert any(mutant.rewrites(make().kernel) for make in makers if make), mutant.name


def test_a_malformed_kernel_reaches_the_device_as_it_is(cases: dict[str, Case], device: Device) -> None:
    check = cases["device/errors/compile"].check
    assert check is not None
    for mutant in distinguishable():
        if mutant.level == "kernel":
            check(mutant.plant(device.as_client()))


def test_faults_of_kernels_are_not_tried_on_malformed_ones(hunter: Hunter) -> None:
    every = tuple(mutant.name for mutant in distinguishable() if mutant.level == "kernel")
    assert len(every) > 300
    about = tuple(case_id for case_id in hunter.cases if case_id.startswith("kernels/refuse/header"))
    assert about
    assert hunter.run(Job(about, every)) == Hunted()


def test_a_hunt_that_is_to_stop_tries_nothing_more(device: Device) -> None:
    stopped = Hunter(device.as_client(), lambda: device.launches >= 2)  # the case without a fault, and one mutant
    every = tuple(mutant.name for mutant in distinguishable() if mutant.level == "kernel")
    stopped.run(Job((FINDS_SHIFT, UNTOUCHED), every))
    assert device.launches == 2


def test_what_is_expected_is_computed_once_for_all_mutants(hunter: Hunter, monkeypatch: pytest.MonkeyPatch) -> None:
    from portkit.conformance import launching

    calls: list[str] = []
    true = launching.expect
    monkeypatch.setattr(launching, "expect", lambda kernel, *rest: calls.append(kernel.name) or true(kernel, *rest))
    every = [m.name for m in distinguishable() if m.witness == FINDS_SHIFT]
    hunter.run(Job((FINDS_SHIFT,), (*every, COPY)))
    assert len(calls) == 1


def test_a_process_that_a_mutant_left_damaged_makes_no_case_unfit(
    hunter: Hunter, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spoils(Wrapped):
        """Leaves the process without memory."""

        def copy(self, *args: Any) -> None:
            spoilt.append(self.inner.copy(*args))

    spoilt: list[None] = []
    limit = device.kill
    monkeypatch.setattr(device, "kill", lambda: (spoilt.clear(), limit())[1])
    hunter.cases["device/copy/spoilt"] = check_case("device/copy/spoilt", lambda _: _fails(_) if spoilt else None)
    monkeypatch.setitem(MUTANTS, "spoils", Mutant("spoils", "device/copy", Spoils))
    assert hunter.run(Job((FINDS_COPY, "device/copy/spoilt"), ("spoils",))).unfit == ()


# --- jobs ---------------------------------------------------------------------------------------------------------


def test_each_family_of_cases_is_one_job_and_the_longest_comes_first() -> None:
    found = jobs([check_case(name, _fails) for name in ("ops/add/a", "ops/mul/a", "ops/mul/b")], ["x"])
    assert [job.cases for job in found] == [("ops/mul/a", "ops/mul/b"), ("ops/add/a",)]


def test_a_job_begins_with_the_smallest_tier() -> None:
    slow, fast = check_case("ops/add/a", _fails), check_case("ops/add/b", _fails)
    assert jobs([replace(slow, tier=Tier.STANDARD), fast], ["x"])[0].cases == ("ops/add/b", "ops/add/a")


# --- the record ---------------------------------------------------------------------------------------------------


def kill(mutant: str, case: str, tier: str, *checks: str) -> Kill:
    return Kill(mutant, case, tier, checks)


KILLS = (
    kill("m1", "ops/add/i32/special", "smoke", "values"),
    kill("m1", "kernels/loops/long", "standard", "values", "guards"),
    kill("m2", "ops/add/f32/special", "standard", "tail"),
    kill("m2", "ops/add/f64/special", "standard", "tail"),
    kill("m3", "ops/mul/f32/special", "standard", "values", "poison"),
)
FAMILIES = ("ops/add", "ops/mul", "kernels/loops", "device/copy")


@pytest.fixture
def made() -> Record:
    return records.make(KILLS, ["m1", "m2", "m3", "m4"], FAMILIES, "cpu")


def test_a_record_is_read_as_it_was_written(made: Record, tmp_path: Path) -> None:
    assert records.load(records.save(made, tmp_path / "killers.json")) == made


def test_killers_of_the_smallest_tier_come_first(made: Record) -> None:
    assert made.mutants["m1"].killers[0] == Killer("ops/add/i32/special", Tier.SMOKE, (Check.VALUES,))


def test_killers_of_other_families_are_kept_before_more_of_one() -> None:
    several = [kill("m", f"ops/add/{k}", "smoke", "values") for k in range(9)]
    far = kill("m", "kernels/loops/long", "standard", "values")
    kept = records.make([*several, far], ["m"], FAMILIES, "cpu").mutants["m"].killers
    assert [killer.case for killer in kept] == ["ops/add/0", "kernels/loops/long", "ops/add/1"]


def test_the_score_counts_what_a_tier_finds_with_the_smaller_ones(made: Record) -> None:
    assert str(records.score(made, Tier.SMOKE)) == "1 of 4 (25.0 %)"
    assert str(records.score(made, Tier.STANDARD)) == "3 of 4 (75.0 %)"


def test_the_score_of_no_mutants_is_none_killed() -> None:
    assert records.score(records.make([], [], [], "cpu")).share == 0.0


def test_survivors_are_the_mutants_without_a_killer(made: Record) -> None:
    assert records.survivors(made) == ["m4"]


def test_a_family_is_worth_the_mutants_that_it_alone_finds(made: Record) -> None:
    assert records.only_by_family(made) == {
        "ops/add": ["m2"],
        "ops/mul": ["m3"],
        "kernels/loops": [],
        "device/copy": [],
    }


def test_a_check_is_worth_the_mutants_that_no_case_finds_without_it(made: Record) -> None:
    lost = records.only_by_check(made)
    assert lost[Check.TAIL] == ["m2"]
    assert lost[Check.VALUES] == []
    assert lost[Check.POISON] == []


def test_mutants_with_the_same_killers_are_replayed_together(made: Record) -> None:
    again = replace_mutant(made, "m4", made.mutants["m2"])
    replayed = records.replay_jobs(again, ["m1", "m2", "m4"])
    assert [job.mutants for job in replayed] == [("m1",), ("m2", "m4")]
    assert all(job.most == 1 for job in replayed)


def test_a_mutant_without_killers_or_without_a_record_is_not_replayed(made: Record) -> None:
    assert records.replay_jobs(made, ["m4", "m5"]) == []


def replace_mutant(record: Record, name: str, found: Found) -> Record:
    return Record(
        record.version,
        record.spec_digest,
        record.suite_digest,
        record.backend,
        record.families,
        {**record.mutants, name: found},
    )


def test_a_record_of_other_mutants_does_not_fit(made: Record) -> None:
    assert not fits(made)


def test_a_record_of_these_mutants_and_this_suite_fits() -> None:
    assert fits(records.make([], [mutant.name for mutant in distinguishable()], FAMILIES, "cpu"))


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda text: text[:-40], "not a record"),
        (lambda text: text.replace('"version": 1', '"version": 2'), "version 2"),
        (lambda text: text.replace('"backend"', '"host"'), "not a record"),
        (lambda text: text.replace('"smoke"', '"tiny"'), "not a record"),
        (lambda _: "[" * 100_000, "not a record"),
        (lambda _: "\0", "not a record"),
    ],
    ids=["cut", "newer", "unknown field", "unknown tier", "deep", "bytes"],
)
def test_a_damaged_record_is_refused(made: Record, tmp_path: Path, damage: Any, what: str) -> None:
    place = records.save(made, tmp_path / "killers.json")
    place.write_text(damage(place.read_text()))
    with pytest.raises(SchemaError, match=what):
        records.load(place)


def test_a_missing_record_is_refused_and_the_error_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="portkit mutants --record"):
        records.load(tmp_path / "none.json")
