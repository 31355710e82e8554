"""Mutated bundles and outputs, in small; bench/hostile_bundles.py judges 10,000."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench.hostile_bundles import CHANGES, Attempt, Tally, Watch, attempt_once, beginning, matched, stray
from portkit.conformance.bundle.model import MANIFEST


@pytest.fixture(scope="module")
def start() -> Attempt:
    return beginning()


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


def judged(folder: Path, attempt: Attempt, watch: Watch) -> Tally:
    tally = Tally()
    attempt_once("attempt", attempt, folder, watch, tally)
    return tally


def test_what_was_not_changed_is_judged(tmp_path: Path, start: Attempt, watch: Watch) -> None:
    tally = judged(tmp_path, start, watch)
    assert (tally.judged, tally.faults) == (1, [])


@pytest.mark.filterwarnings("ignore:Duplicate name")  # of whoever writes it
@pytest.mark.parametrize("kind", range(len(CHANGES)))
def test_no_mutation_does_more_than_be_refused(tmp_path: Path, start: Attempt, watch: Watch, kind: int) -> None:
    tally, rng = Tally(), random.Random(kind)
    for number in range(10):
        attempt = matched(start, CHANGES[kind](rng, start))
        attempt_once(f"attempt {number}", attempt, tmp_path, watch, tally)
    assert tally.faults == []
    assert tally.judged + tally.refusals.total() == 10


# --- that the attempts can find something -------------------------------------------------------------------------


def test_what_is_written_elsewhere_is_noticed(tmp_path: Path, watch: Watch) -> None:
    with watch.only(tmp_path / "report"):
        (tmp_path / "elsewhere").write_bytes(b"")
        (tmp_path / "folder").mkdir()
    assert len(watch.found) == 2
    watch.found.clear()


def test_a_write_outside_that_passes_is_noticed(tmp_path: Path, start: Attempt, watch: Watch) -> None:
    changed = stray(random.Random(1), start)
    tally = judged(tmp_path, Attempt(start.bundle, start.outputs, strays=changed.strays), watch)
    assert "wrote where it may not" in tally.faults[0]


def test_an_error_that_is_not_portkits_own_is_noticed(
    tmp_path: Path, start: Attempt, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.hostile_bundles.judge", lambda folder, attempt: {}[MANIFEST])
    assert "KeyError" in judged(tmp_path, start, watch).faults[0]
