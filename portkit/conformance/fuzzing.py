"""Open-ended runs of random kernels: seeds in batches, each with a journal of its own, and what they covered.

result = fuzz(FuzzOptions("cpu", out=Path("out/fuzz"), count=10_000))
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from portkit.conformance.case import Case, Tier
from portkit.conformance.cases.fuzz import fuzz_kernel, palette_of, seeded
from portkit.conformance.cases.fuzz_coverage import Coverage, declared_cells
from portkit.conformance.cases.fuzz_palette import Palette
from portkit.conformance.journal import Entry
from portkit.conformance.judge import CASE_SECONDS
from portkit.conformance.run import Progress, RunOptions, RunResult, run_suite
from portkit.conformance.verdict import ExitCode, Verdict
from portkit.contract import Capabilities
from portkit.runtime.client import DeviceClient

BATCH = 1000
"""Seeds of one journal."""
PALETTES = ("declared", "base")


@dataclass(frozen=True, slots=True)
class FuzzOptions:
    """Which seeds to run on what: `count` of them, or as many as begin within `seconds`, or without end.

    `workers` as in `RunOptions`; `case_seconds` is the time limit of one kernel.
    """

    backend: str
    out: Path
    palette: str = "declared"
    start: int = 0
    count: int | None = None
    seconds: float | None = None
    workers: int | None = None
    case_seconds: float = CASE_SECONDS
    on_progress: Callable[[Progress], None] = field(default=lambda progress: None)
    on_batch: Callable[[RunResult, Path], None] = field(default=lambda result, folder: None)


@dataclass(frozen=True, slots=True)
class FuzzResult:
    """How a run ended: verdicts, what did not pass, the coverage, and the seeds from `start` up to but not `end`."""

    exit_code: ExitCode
    message: str
    counts: Mapping[Verdict, int]
    wrong: Sequence[Entry]
    coverage: Coverage
    start: int
    end: int
    seconds: float


def seeds(capabilities: Capabilities, profile: str, argument: str) -> list[Case]:
    """Collect a range of seeds; the argument is `PALETTE,START,END`."""
    del profile
    name, start, end = argument.split(",")
    return list(seeded(capabilities, name, range(int(start), int(end))))


def fuzz(options: FuzzOptions) -> FuzzResult:
    """Run seeds in batches until the count, the time or the user ends it; raises `PortkitError` for a wrong backend."""
    with DeviceClient(options.backend, timeout=options.case_seconds) as client:
        palette = palette_of(client.capabilities, options.palette)
    return _Fuzzing(options, palette).run()


class _Fuzzing:
    """One run over its batches."""

    def __init__(self, options: FuzzOptions, palette: Palette) -> None:
        self.options = options
        self.palette = palette
        self.coverage = Coverage(declared_cells(palette.cells))
        self.counts: Counter[Verdict] = Counter()
        self.wrong: list[Entry] = []
        self.began = time.perf_counter()
        self.worst = ExitCode.PASSED
        self.message = ""
        self.timed_out = False

    def run(self) -> FuzzResult:
        options, at = self.options, self.options.start
        end = at + options.count if options.count is not None else None
        while (end is None or at < end) and not self._over():
            last = at + BATCH if end is None else min(at + BATCH, end)
            if not self._batch(at, last):
                break
            at = last
        done = options.start + sum(self.counts.values())
        seconds = time.perf_counter() - self.began
        return FuzzResult(
            self.worst, self.message, self.counts, self.wrong, self.coverage, options.start, done, seconds
        )

    def _over(self) -> bool:
        return self.options.seconds is not None and time.perf_counter() - self.began >= self.options.seconds

    def _batch(self, start: int, end: int) -> bool:
        """Run one batch; returns whether to go on."""
        options, name = self.options, f"{self.options.palette}-{start:07}-{end:07}"
        result = run_suite(
            RunOptions(
                options.backend,
                out=options.out / name,
                tier=Tier.FULL,
                workers=options.workers,
                seconds=options.case_seconds,
                suite=f"{__name__}:seeds/{options.palette},{start},{end}",
                go_on=f"go on with --from {start}",
                on_progress=self._note,
            )
        )
        options.on_batch(result, options.out / name)
        complete = result.exit_code in (ExitCode.PASSED, ExitCode.NOT_PASSED) and not result.message
        if not self.timed_out:
            self.worst = max(self.worst, result.exit_code)
            self.message = result.message
        elif self.wrong:
            self.worst = max(self.worst, *(entry.verdict.meaning.exit for entry in self.wrong))
        return complete and not self.timed_out

    def _note(self, progress: Progress) -> None:
        """Count one outcome; time that is up ends the batch as an interruption does."""
        entry = progress.entry
        self.counts[entry.verdict] += 1
        self.coverage.add(fuzz_kernel(entry.id, self.palette))
        if not entry.verdict.passes:
            self.wrong.append(entry)
        total = self.options.count or 0
        self.options.on_progress(Progress(entry, sum(self.counts.values()), total))
        if self._over():
            self.timed_out = True
            raise KeyboardInterrupt
