"""The pytest plugin: a plan file is collected as one item per case group, and each worker owns one device process.

Verdicts go to the journal, not to pytest: an item fails only where the harness itself does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from portkit.conformance.worker import LIFELINE_VARIABLE, PLAN_SUFFIX, Plan, PlannedWorker, lost, note_lost, read_plan
from portkit.errors import NotReachable
from portkit.runtime.lifeline import end_with

_WORKER: pytest.StashKey[PlannedWorker] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """End with the run that started this process; xdist's workers notice by themselves."""
    lifeline = os.environ.get(LIFELINE_VARIABLE)
    if lifeline and not hasattr(config, "workerinput"):
        end_with(int(lifeline))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect plan files and nothing else."""
    if file_path.suffix != PLAN_SUFFIX:
        return None
    return PlanFile.from_parent(parent, path=file_path)  # pyright: ignore[reportUnknownMemberType]


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the device process of this worker."""
    worker = config.stash.get(_WORKER, None)
    if worker is not None:
        worker.close()


class PlanFile(pytest.File):
    """The plan of a run."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item per case group."""
        plan = read_plan(self.path)
        for number, ids in enumerate(plan.groups):
            name = f"{number:04d}"
            yield CaseGroup.from_parent(self, name=name, plan=plan, ids=ids)  # pyright: ignore[reportUnknownMemberType]


class CaseGroup(pytest.Item):
    """Some cases that one worker judges in a row."""

    def __init__(self, *, plan: Plan, ids: tuple[str, ...], **arguments: object) -> None:
        super().__init__(**arguments)  # type: ignore[arg-type]
        self.plan = plan
        self.ids = ids

    def runtest(self) -> None:
        """Judge the cases of the group; none where the device cannot be reached any more."""
        folder = self.path.parent
        if lost(folder):
            return
        try:
            worker = self.config.stash.get(_WORKER, None)
            if worker is None:
                worker = self.config.stash[_WORKER] = PlannedWorker(self.plan, folder)
            worker.run(self.ids)
        except NotReachable as error:
            note_lost(folder, error)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return what pytest calls the item."""
        return self.path, None, f"{self.ids[0]} and {len(self.ids) - 1} more"
