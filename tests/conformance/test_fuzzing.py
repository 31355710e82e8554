"""Open-ended runs of random kernels: batches, and how they end."""

from __future__ import annotations

from pathlib import Path

import pytest

from portkit.conformance import fuzzing
from portkit.conformance.fuzzing import FuzzOptions, FuzzResult, fuzz
from portkit.conformance.run import Progress
from portkit.conformance.verdict import ExitCode, Verdict


@pytest.fixture(autouse=True)
def _two_seeds_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "BATCH", 2)


def interrupted_after(kernels: int, out: Path) -> FuzzResult:
    """Return the result of a run without end that a user interrupts after so many kernels."""

    def step(progress: Progress) -> None:
        if progress.done == kernels:
            raise KeyboardInterrupt

    return fuzz(FuzzOptions("cpu", out, palette="base", workers=1, on_progress=step))


def test_each_batch_has_a_folder_named_after_its_seeds(tmp_path: Path) -> None:
    result = fuzz(FuzzOptions("cpu", tmp_path, palette="base", start=5, count=5, workers=1))
    assert (result.start, result.end, result.counts) == (5, 10, {Verdict.PASS: 5})
    names = [f"base-{a:07}-{b:07}" for a, b in ((5, 7), (7, 9), (9, 10))]
    assert sorted(folder.name for folder in tmp_path.iterdir()) == names


def test_an_interruption_ends_all_batches_and_keeps_what_was_counted(tmp_path: Path) -> None:
    result = interrupted_after(3, tmp_path)
    assert result.exit_code is ExitCode.INTERRUPTED
    assert (result.end, result.counts) == (3, {Verdict.PASS: 3})
    assert result.coverage.kernels == 3


def test_a_wrong_kernel_in_one_batch_does_not_keep_the_next_from_running(tmp_path: Path) -> None:
    result = fuzz(FuzzOptions("tests.fakes.devices:NOTHING", tmp_path, palette="base", count=4, workers=1))
    assert result.exit_code is ExitCode.NOT_PASSED
    assert len(result.wrong) == 4
