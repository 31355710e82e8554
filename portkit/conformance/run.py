"""Run the suite on a backend: select the cases, climb the ladder, share the rest among workers, count the journal.

    result = run_suite(RunOptions("cpu", out=Path("out/cpu")))
    sys.exit(result.exit_code)

The rungs of the ladder run in this process. What is left runs in pytest with xdist, in a process of its own with
nothing but portkit's plugin, so that neither the current folder's tests nor installed plugins change a verdict.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from portkit import __version__
from portkit.conformance import journal as journals
from portkit.conformance.case import SUITE_VERSION, Case, Tier
from portkit.conformance.cases.collect import PROFILES, collect
from portkit.conformance.cases.fuzz import unlisted
from portkit.conformance.digest import suite_digest
from portkit.conformance.journal import Entry, Follower, Header
from portkit.conformance.judge import CASE_SECONDS
from portkit.conformance.ladder import Ladder
from portkit.conformance.ordering import shuffled
from portkit.conformance.select import matches, select
from portkit.conformance.verdict import ExitCode, Verdict
from portkit.conformance.waivers import Waiver, check_meant, load_waivers, stale
from portkit.conformance.worker import (
    LIFELINE_VARIABLE,
    PLAN_SUFFIX,
    Plan,
    Worker,
    begun,
    leave,
    lost,
    open_client,
    suite_of,
    write_plan,
)
from portkit.contract import CONTRACT_VERSION, Capabilities
from portkit.errors import (
    CannotRunHere,
    ContractError,
    DeviceError,
    NotReachable,
    PortkitError,
    SchemaError,
    UsageError,
)
from portkit.runtime.process import environment
from portkit.spec import forms

IN_PROCESS = 24
"""So few cases are judged in this process: starting workers would take longer."""
GROUP_SIZES = (10, 50)
MOST_HANGS = 20
"""After so many cases that did not end a run stops: each takes its time limit several times over."""
_POLL_SECONDS = 0.02
_ENDING_SECONDS = 5.0
_CODES: tuple[tuple[type[PortkitError], ExitCode], ...] = (
    (UsageError, ExitCode.USAGE),
    (SchemaError, ExitCode.USAGE),
    (CannotRunHere, ExitCode.CANNOT_RUN_HERE),
    (DeviceError, ExitCode.NOT_PASSED),
    (ContractError, ExitCode.NOT_PASSED),
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: the newest entry, and how many cases are done of how many."""

    entry: Entry
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What to run and where to write.

    `patterns` are ids, prefixes or globs; `workers` None means one per processor, at most what the backend declares;
    `seconds` is the time limit of one case; `suite` names another suite than portkit's own (`package.module:FUNCTION`);
    `mutant` plants a fault in the device, to see that the suite finds it. From a `repeat` of 2 on, each launch that
    passes runs so often, and in other orders of its work-groups, and is compared. `shuffle` is the seed of the order of
    the cases, None for the suite's own; `in_order` judges them in one process in the order of the patterns. `go_on` is
    what to say of a run that is cut off.
    """

    backend: str
    out: Path
    profile: str = "core"
    tier: Tier = Tier.SMOKE
    patterns: tuple[str, ...] = ()
    resume: bool = False
    workers: int | None = None
    waivers: Path | None = None
    seconds: float = CASE_SECONDS
    suite: str = ""
    mutant: str = ""
    repeat: int = 1
    shuffle: int | None = None
    in_order: bool = False
    go_on: str = "go on with --resume"
    on_progress: Callable[[Progress], None] = field(default=lambda progress: None)


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: its exit code, why if it is not a matter of verdicts, and how often each verdict was given."""

    exit_code: ExitCode
    message: str = ""
    journal: Path | None = None
    counts: Mapping[Verdict, int] = field(default_factory=dict[Verdict, int])
    stale_waivers: tuple[Waiver, ...] = ()
    seconds: float = 0.0


def run_suite(options: RunOptions) -> RunResult:
    """Run the suite; never raises for what goes wrong in it.

    The journal is `options.out / "journal.jsonl"`.
    """
    started = time.perf_counter()
    run = _Run(options)
    try:
        run.run()
        message = ""
    except KeyboardInterrupt:
        return run.result(ExitCode.INTERRUPTED, f"interrupted; {options.go_on}", started)
    except PortkitError as error:
        again = f"; {options.go_on} when it answers again" if run.began and isinstance(error, NotReachable) else ""
        code = next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.HARNESS_ERROR)
        return run.result(code, f"{error}{again}", started)
    finally:
        run.close()
    return run.result(None, message, started)


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def exit_code(entries: Sequence[Entry], stale_waivers: Sequence[Waiver] = ()) -> ExitCode:
    """Return the exit code of a complete run; one in which nothing was judged has not passed."""
    worst = max((entry.verdict.meaning.exit for entry in entries), default=ExitCode.NOT_PASSED)
    judged = any(entry.verdict is not Verdict.UNSUPPORTED for entry in entries)
    return worst if worst or (judged and not stale_waivers) else ExitCode.NOT_PASSED


class _Run:
    """One run, from options to journal."""

    def __init__(self, options: RunOptions) -> None:
        self.options = options
        self.out = options.out.absolute()
        self.path = self.out / "journal.jsonl"
        self.scratch = tempfile.TemporaryDirectory(prefix="portkit-run-", ignore_cleanup_errors=True)
        """The folder for temporary files of device processes: those that are killed leave theirs behind."""
        self.client = open_client(options.backend, options.seconds, options.mutant, self._temporary())
        self.waivers: tuple[Waiver, ...] = ()
        self.entries: dict[str, Entry] = {}
        self.tier_ids: list[str] = []
        self.total = 0
        self.began = False
        self._hangs = 0
        self._lock = -1

    def close(self) -> None:
        """End the device process, remove what it left, and let other runs have the folder."""
        self.client.kill()
        self.scratch.cleanup()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _temporary(self) -> dict[str, str]:
        return {"TMPDIR": self.scratch.name}

    def run(self) -> None:
        options = self.options
        if options.waivers is not None:
            self.waivers = load_waivers(options.waivers, dt.datetime.now(dt.UTC).date())
        self.client.require()
        cases = self._select(self.client.capabilities)
        self.total = len(cases)
        self._begin(self._header())
        left = [case for case in cases if case.id not in self.entries]
        left = self._climb(Ladder(cases), left)
        leave(self.client)  # the workers may be all that the device admits
        while left:  # again where a worker died and took its group along
            last = self._share(left)
            before, left = left, [case for case in left if case.id not in self.entries]
            deadly = [case for case in left if case.id in last] or (left if len(left) == len(before) else [])
            self._give_up(deadly)
            left = [case for case in left if case.id not in self.entries]

    def _select(self, capabilities: Capabilities) -> list[Case]:
        options = self.options
        asked: list[Case] = [] if options.suite else list(unlisted(capabilities, options.patterns))
        suite = [*suite_of(options.suite)(capabilities, options.profile), *asked]
        self._check_waivers(suite, capabilities)
        self.tier_ids = [case.id for case in select(suite, options.tier, ())]
        cases = select(suite, options.tier, options.patterns)
        if not cases:
            raise UsageError(f"no case of tier {options.tier.value} is selected; try a larger tier")
        if options.in_order:
            return _by_pattern(cases, options)
        return cases if options.shuffle is None else shuffled(cases, options.shuffle)

    def _check_waivers(self, suite: Sequence[Case], capabilities: Capabilities) -> None:
        """Raise `SchemaError` for a waiver that means no case, neither of this profile nor of another."""
        if not self.waivers:
            return
        ids = [case.id for case in suite]
        if not self.options.suite:  # one file serves the runs of all profiles
            others = (collect(capabilities, profile) for profile in PROFILES if profile != self.options.profile)
            ids += [case.id for cases in others for case in cases]
        check_meant(self.waivers, ids, str(self.options.waivers))

    def _header(self) -> Header:
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        return Header(
            journal=journals.JOURNAL_VERSION,
            portkit=__version__,
            spec=forms.VERSION,
            spec_digest=forms.digest(),
            suite=SUITE_VERSION,
            suite_digest=suite_digest(self.options.suite),
            contract=CONTRACT_VERSION,
            backend=self.client.name,
            backend_digest=self.client.backend_digest,
            capabilities=self.client.capabilities,
            info=self.client.info,
            profile=self.options.profile,
            tier=self.options.tier.value,
            patterns=self.options.patterns,
            mutant=self.options.mutant,
            repeat=self.options.repeat,
            shuffle=self.options.shuffle,
            started=now,
            cases=self.total,
        )

    def _begin(self, header: Header) -> None:
        resumed = self.options.resume and self.path.exists()
        self._lock = journals.lock(self.path)
        if resumed:
            found = journals.resume(self.path, header).entries.values()
            self.entries = {e.id: e for e in found if e.verdict is not Verdict.ERROR}  # that says nothing of the device
        else:
            journals.create(self.path, header)
        self.began = True

    def _record(self, entry: Entry) -> None:
        self.entries[entry.id] = entry
        self.options.on_progress(Progress(entry, len(self.entries), self.total))
        self._hangs += entry.verdict is Verdict.TIMEOUT
        if self._hangs >= MOST_HANGS and len(self.entries) < self.total:
            raise DeviceError(
                f"stopped early: {self._hangs} cases hung, the last {entry.id}, and "
                f"{self.total - len(self.entries)} are left; mend one with --case ID, or {self.options.go_on}"
            )

    # --- in this process ------------------------------------------------------------------------------------------

    def _climb(self, ladder: Ladder, left: Sequence[Case]) -> list[Case]:
        """Judge the rungs, and all cases if they are few; returns what is left to share, without what is blocked.

        Of cases whose order is given the rungs wait for their turn, and none is left.
        """
        worker = self._worker()
        todo = {case.id for case in left}
        in_order = self.options.in_order
        rungs = [] if in_order else [case for case in ladder.rungs if case.id in todo]
        others = [case for case in left if case.id not in {rung.id for rung in rungs}]
        try:
            for case in rungs:
                self._step(worker, ladder, case)
            few = in_order or len(others) <= IN_PROCESS
            shared: list[Case] = []
            for case in others:
                if few or ladder.blocked(case, self.entries):
                    self._step(worker, ladder, case)
                else:
                    shared.append(case)
            return shared
        finally:
            worker.writer.close()

    def _worker(self) -> Worker:
        return Worker(self.client, self.path, self.waivers, self.options.seconds, self.options.repeat)

    def _step(self, worker: Worker, ladder: Ladder, case: Case) -> None:
        blocked = ladder.blocked(case, self.entries)
        self._record(worker.judge(case) if blocked is None else worker.write(blocked))

    def _give_up(self, missing: Sequence[Case]) -> None:
        if not missing:
            return
        worker = self._worker()
        for case in missing:
            reason = f"the worker that judged it ended; see {self._log().name}"
            self._record(worker.write(Entry(case.id, Verdict.ERROR, case.level.value, reason=reason)))
        worker.writer.close()

    # --- in workers -----------------------------------------------------------------------------------------------

    def _share(self, cases: Sequence[Case]) -> set[str]:
        """Judge cases in pytest's workers, following the journal; returns the ids that the workers began last."""
        capabilities = self.client.capabilities
        workers = self._workers(capabilities, len(cases))
        folder = self.out / "work"
        folder.mkdir(parents=True, exist_ok=True)
        plan = Plan(
            backend=self.options.backend,
            capabilities=capabilities,
            profile=self.options.profile,
            journal=str(self.path),
            groups=_groups([case.id for case in cases], workers),
            waivers=self.waivers,
            seconds=self.options.seconds,
            suite=self.options.suite,
            repeat=self.options.repeat,
            mutant=self.options.mutant,
        )
        self.client.kill()
        write_plan(folder / f"suite{PLAN_SUFFIX}", plan)
        (folder / "pytest.ini").write_text("[pytest]\n")
        follower = Follower(self.path)
        try:
            self._pytest(folder, workers, follower)
            reason = lost(folder)
            if reason:
                raise NotReachable(reason)
            return begun(folder)
        finally:
            follower.close()
            shutil.rmtree(folder, ignore_errors=True)

    def _workers(self, capabilities: Capabilities, cases: int) -> int:
        wanted = self.options.workers or processors()
        return max(1, min(wanted, capabilities.limits.max_processes, -(-cases // GROUP_SIZES[0])))

    def _log(self) -> Path:
        return self.out / "pytest.log"

    def _pytest(self, folder: Path, workers: int, follower: Follower) -> None:
        life, lifeline = os.pipe()
        variables = {
            **{k: v for k, v in environment().items() if not k.startswith("PYTEST_")},
            **self._temporary(),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            LIFELINE_VARIABLE: str(life),
        }
        try:
            with self._log().open("ab") as log:
                process = subprocess.Popen(
                    _command(folder, workers),
                    cwd=folder,
                    env=variables,
                    pass_fds=[life],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            try:
                self._follow(process, follower)
            finally:
                _end(process)
        finally:
            os.close(life)
            os.close(lifeline)

    def _follow(self, process: subprocess.Popen[bytes], follower: Follower) -> None:
        running = True
        while running:
            running = process.poll() is None
            for entry in follower.new_entries():
                if entry.id not in self.entries:
                    self._record(entry)
            if running:
                time.sleep(_POLL_SECONDS)

    # --- the end --------------------------------------------------------------------------------------------------

    def result(self, code: ExitCode | None, message: str, started: float) -> RunResult:
        entries = list(self.entries.values())
        unneeded = tuple(stale(self.waivers, entries, self.tier_ids)) if code is None else ()
        if unneeded:
            message = (
                f"the waiver of {unneeded[0].cases} is not needed any more: its cases pass; take it out or narrow it"
            )
        return RunResult(
            exit_code=exit_code(entries, unneeded) if code is None else code,
            message=message,
            journal=self.path if self.began else None,
            counts=Counter(entry.verdict for entry in entries),
            stale_waivers=unneeded,
            seconds=time.perf_counter() - started,
        )


def _by_pattern(cases: Sequence[Case], options: RunOptions) -> list[Case]:
    """Return the cases in the order of the patterns. Raises `UsageError` where there is no one order to keep."""
    if not options.patterns or options.resume or options.shuffle is not None:
        raise UsageError("--in-order needs --case, and goes with neither --resume nor --shuffle")
    return sorted(cases, key=lambda c: next(k for k, p in enumerate(options.patterns) if matches(p, c.id)))


def _groups(ids: Sequence[str], workers: int) -> tuple[tuple[str, ...], ...]:
    """Return the ids in groups of 10 to 50, small enough that every worker gets several."""
    least, most = GROUP_SIZES
    size = min(most, max(least, len(ids) // (8 * workers)))
    return tuple(tuple(ids[k : k + size]) for k in range(0, len(ids), size))


def _command(folder: Path, workers: int) -> list[str]:
    options = ["-q", "-p", "portkit.conformance.plugin", "-p", "no:cacheprovider", "--noconftest"]
    options += ["-c", str(folder / "pytest.ini"), "--rootdir", str(folder), "--tb=short", "--no-header"]
    if workers > 1:
        options += ["-p", "xdist", "-n", str(workers), "--dist", "worksteal", "--max-worker-restart", "1000"]
    return [sys.executable, "-P", "-m", "pytest", *options, str(folder / f"suite{PLAN_SUFFIX}")]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End pytest and its workers if they still run: first asking, then not."""
    if process.poll() is not None:
        return
    try:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(_ENDING_SECONDS)
    except (subprocess.TimeoutExpired, ProcessLookupError, KeyboardInterrupt):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
