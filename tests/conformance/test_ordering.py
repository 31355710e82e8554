"""Failures that depend on an earlier case: found, cut down to the fewest cases, and shown again by a replay line."""

from __future__ import annotations

import random
import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from portkit.conformance import confirming, journal, ordering
from portkit.conformance.case import Case, Level, Tier, Trial
from portkit.conformance.journal import Entry
from portkit.conformance.judge import judge_case
from portkit.conformance.ordering import Clock, History, find_cause, minimise, shuffled
from portkit.conformance.run import RunOptions, RunResult, run_suite
from portkit.conformance.verdict import ExitCode, Verdict
from portkit.runtime.client import DeviceClient
from portkit.spec.builder import Builder
from tests.conformance.suite import launch_case, trial

FAKES = "tests.fakes.devices"
SUITE = "tests.conformance.suite:collect_ordered"


# --- searching ----------------------------------------------------------------------------------------------------


class Needs:
    """A failure that takes certain items, and counts how often it was tried."""

    def __init__(self, *needed: int) -> None:
        self.needed = set(needed)
        self.tries: list[tuple[int, ...]] = []

    def __call__(self, items: Sequence[int]) -> bool:
        self.tries.append(tuple(items))
        return self.needed <= set(items)


@pytest.mark.parametrize("seed", range(40))
def test_the_fewest_items_are_found_whichever_they_are(seed: int) -> None:
    numbers = random.Random(seed)
    count = numbers.randint(1, 300)
    fails = Needs(*numbers.sample(range(count), min(count, 1 + seed % 3)))
    assert find_cause(range(count), fails, Clock(60.0)) == tuple(sorted(fails.needed))


def test_one_item_of_a_thousand_takes_few_tries() -> None:
    fails = Needs(417)
    assert find_cause(range(1000), fails, Clock(60.0)) == (417,)
    assert len(fails.tries) <= 30


def test_an_item_that_ran_last_is_found_at_once() -> None:
    fails = Needs(999)
    assert find_cause(range(1000), fails, Clock(60.0)) == (999,)
    assert fails.tries == [(999,)]


def test_nothing_is_found_where_it_never_fails() -> None:
    assert find_cause(range(50), Needs(50), Clock(60.0)) == ()


def test_the_order_of_the_items_is_kept() -> None:
    fails = Needs(3, 90, 40)
    find_cause(range(100), fails, Clock(60.0))
    assert all(list(tried) == sorted(tried) for tried in fails.tries)


def test_when_the_time_is_over_what_was_reached_still_fails() -> None:
    class Ticks(Clock):
        """A clock that is over after so many looks at it."""

        looks = 6

        @property
        def over(self) -> bool:
            self.looks -= 1
            return self.looks < 0

    fails = Needs(1, 200)
    reached = minimise(tuple(range(256)), fails, Ticks(60.0))
    assert fails.needed <= set(reached)
    assert len(reached) > 2


def test_a_clock_without_seconds_lets_nothing_be_tried() -> None:
    fails = Needs(0)
    assert (find_cause(range(9), fails, Clock(0.0)), fails.tries) == ((), [])


# --- history ------------------------------------------------------------------------------------------------------


def test_a_history_has_what_ran_in_the_same_life_of_the_process_only() -> None:
    history, cases = History(), [launch_case(f"ops/{k}", "sum") for k in range(3)]
    history.add(cases[0], 0)
    history.add(cases[1], 0)
    assert history.before(0) == (cases[0], cases[1])
    assert history.before(1) == ()
    history.add(cases[2], 1)
    assert (history.before(0), history.before(1)) == ((), (cases[2],))


# --- shuffling ----------------------------------------------------------------------------------------------------


def test_a_seed_fixes_the_order_whatever_else_is_selected() -> None:
    cases = [launch_case(f"ops/{k}", "sum") for k in range(30)]
    first, again, other = shuffled(cases, 7), shuffled(cases[::-1], 7), shuffled(cases, 8)
    assert first == again
    assert first not in (other, cases)
    assert [c for c in first if c in cases[:10]] == shuffled(cases[:10], 7)


# --- judging ------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure with few runs: each costs a process at worst."""
    monkeypatch.setattr(confirming, "RUNS", 4)
    monkeypatch.setattr(confirming, "_CONFIRMATIONS", 1)


def judged(backend: str, cases: Sequence[Case]) -> list[Entry]:
    """Return the entries of cases that run one after the other in one process, with their history."""
    with DeviceClient(f"{FAKES}:{backend}") as client:
        history = History()
        return [judge_case(case, client, history=history) for case in cases]


def named(*names: str) -> list[Case]:
    return [launch_case(f"ops/{k}/{name}", name) for k, name in enumerate(names)]


def test_state_that_is_kept_between_launches_is_traced_to_the_case_that_left_it() -> None:
    *others, entry = judged("KEEPS_MODE", named("other", "mode", "another", "more", "sums"))
    assert {e.verdict for e in others} == {Verdict.PASS}
    assert (entry.verdict, entry.check, entry.after) == (Verdict.FAIL, "order", ("ops/1/mode",))
    assert entry.reason.startswith("fails after ops/1/mode, passes alone: out[0] is wrong")
    assert entry.card is not None
    assert entry.card.suspect == "what ops/1/mode leaves behind"


def test_a_buffer_that_is_cleared_too_late_is_no_flaky_case_though_the_next_run_passes() -> None:
    *_, entry = judged("CLEARS_LATE", named("fills", "other", "sums"))
    assert (entry.verdict, entry.after) == (Verdict.FAIL, ("ops/0/fills",))


def product() -> Trial:
    """Return a launch of a kernel that has the name of another."""
    b = Builder("sum")
    x, y = b.buffer("x", "f32", 64, "read"), b.buffer("y", "f32", 64, "read")
    out = b.buffer("out", "f32", 64, "write")
    i = b.add(b.mul(b.grid(2), b.const("i32", 32)), b.lane(32))
    b.store(out, i, b.mul(b.load(x, i), b.load(y, i)))
    return Trial(b.build(), {}, trial("sum").inputs)


def test_a_cache_that_is_keyed_wrongly_is_traced_to_the_case_that_filled_it() -> None:
    cases = [*named("one", "sum", "two"), Case("ops/3/product", Level.OPS, Tier.SMOKE, trial=product)]
    *_, entry = judged("CACHES_BY_NAME", cases)
    assert (entry.verdict, entry.after) == (Verdict.FAIL, ("ops/1/sum",))


def test_a_crash_that_takes_two_earlier_cases_names_both() -> None:
    *_, entry = judged("CRASHES_ON_THIRD", named("one", "other", "two", "another", "dies"))
    assert (entry.verdict, entry.after) == (Verdict.CRASH, ("ops/0/one", "ops/2/two"))
    assert entry.reason.startswith("fails after ops/0/one, ops/2/two, passes alone: ")


def test_a_case_that_also_fails_alone_depends_on_nothing() -> None:
    *_, entry = judged("FAULTY", named("other", "wrong"))
    assert (entry.verdict, entry.check, entry.after) == (Verdict.FAIL, "values", ())


def test_a_failing_case_leaves_no_history_behind() -> None:
    entries = judged("KEEPS_MODE", named("mode", "sums", "sums"))
    assert [e.verdict for e in entries] == [Verdict.PASS, Verdict.FAIL, Verdict.PASS]


def test_of_cases_that_all_fail_each_takes_one_process() -> None:
    history = History()
    with DeviceClient(f"{FAKES}:FAULTY") as client:
        entries = [judge_case(case, client, history=history).verdict for case in named("wrong_a", "wrong_b", "wrong_c")]
        assert client.restarts == 3  # the next process shows the source for the card
    assert entries == [Verdict.FAIL] * 3


def test_a_case_that_fails_now_and_then_is_flaky_and_no_earlier_case_is_blamed() -> None:
    *_, entry = judged("EVERY_THIRD", named("other", "sums_a", "sums_b"))
    assert (entry.verdict, entry.after) == (Verdict.FLAKY, ())
    assert 0 < entry.failed < entry.runs
    assert f"did not pass in {entry.failed} of {entry.runs} runs" in entry.reason


def test_without_time_for_a_search_the_case_is_flaky_with_what_was_measured() -> None:
    history = History()
    history.seconds_left = 0.0
    with DeviceClient(f"{FAKES}:KEEPS_MODE") as client:
        for case in named("mode", "other"):
            judge_case(case, client, history=history)
        entry = judge_case(launch_case("ops/sums", "sums"), client, history=history)
    assert (entry.verdict, entry.after) == (Verdict.FLAKY, ())
    assert "did not pass in 2 of 6 runs" in entry.reason


def test_a_search_uses_up_the_time_of_its_worker() -> None:
    history = History()
    with DeviceClient(f"{FAKES}:KEEPS_MODE") as client:
        for case in named("mode", "sums"):
            judge_case(case, client, history=history)
    assert 0 < history.seconds_left < ordering.ALL_SEARCHES_SECONDS


# --- whole runs ---------------------------------------------------------------------------------------------------


def run(out: Path, backend: str = "KEEPS_MODE", **options: object) -> RunResult:
    return run_suite(RunOptions(f"{FAKES}:{backend}", out, suite=SUITE, **options))  # type: ignore[arg-type]


def victim(result: RunResult) -> Entry:
    assert result.journal is not None
    return journal.read(result.journal).entries["ops/z/victim"]


def test_a_replay_line_names_the_pair_and_running_it_fails_the_same_way(tmp_path: Path) -> None:
    found = victim(run(tmp_path / "all", workers=1))
    assert (found.verdict, found.after) == (Verdict.FAIL, ("ops/c/culprit",))
    assert found.card is not None
    words = shlex.split(found.card.replay)
    assert "--in-order" in words
    patterns = tuple(word for flag, word in pairwise(words) if flag == "--case")
    assert patterns == ("ops/c/culprit", "ops/z/victim")
    again = victim(run(tmp_path / "pair", patterns=patterns, in_order=True))
    assert (again.verdict, again.after) == (Verdict.FAIL, ("ops/c/culprit",))
    assert victim(run(tmp_path / "alone", patterns=patterns[1:])).verdict is Verdict.PASS


def test_in_order_runs_the_cases_as_their_patterns_stand_and_each_once(tmp_path: Path) -> None:
    result = run(tmp_path, "GOOD", patterns=("ops/z", "ops/add/1?", "ops/z/victim", "ops/c"), in_order=True)
    assert result.journal is not None
    ran = list(journal.read(result.journal).entries)
    assert ran == ["ops/z/victim", *(f"ops/add/{k}" for k in range(10, 20)), "ops/c/culprit"]


@pytest.mark.parametrize("options", [{}, {"patterns": ("ops",), "resume": True}, {"patterns": ("ops",), "shuffle": 1}])
def test_in_order_needs_an_order_to_keep(tmp_path: Path, options: dict[str, object]) -> None:
    result = run(tmp_path, "GOOD", in_order=True, **options)
    assert result.exit_code is ExitCode.USAGE
    assert "--in-order needs --case" in result.message


def test_a_shuffled_run_judges_every_case_in_another_order_and_says_its_seed(tmp_path: Path) -> None:
    orders: list[list[str]] = []
    for seed in (1, 2):
        result = run(tmp_path / str(seed), "GOOD", shuffle=seed, patterns=("ops/add/0?", "ops/add/1?"))
        assert result.journal is not None
        read = journal.read(result.journal)
        assert read.header.shuffle == seed
        orders.append(list(read.entries))
    assert sorted(orders[0]) == sorted(orders[1]) == [f"ops/add/{k:02d}" for k in range(20)]
    assert orders[0] != orders[1]


def test_a_shuffled_run_still_climbs_the_ladder_first(tmp_path: Path) -> None:
    options = RunOptions(
        f"{FAKES}:GOOD",
        tmp_path,
        suite="tests.conformance.suite:collect",
        patterns=("device", "ops/add/00?"),
        shuffle=3,
    )
    result = run_suite(options)
    assert result.journal is not None
    assert next(iter(journal.read(result.journal).entries)) == "device/allocate"


def test_a_run_with_another_seed_does_not_resume(tmp_path: Path) -> None:
    run(tmp_path, "GOOD", shuffle=1, patterns=("ops/c",))
    result = run(tmp_path, "GOOD", shuffle=2, patterns=("ops/c",), resume=True)
    assert result.exit_code is ExitCode.USAGE
    assert "its shuffle is 1, now it is 2" in result.message
