"""Which case finds which seeded fault: the kill matrix.

It is measured case by case, so that what the reference expects is computed once for all mutants, and a fault that
leaves the case's kernel as it is need not run. A verdict is not confirmed here: one failing attempt is a kill. In each
*family* of cases (`ops/add`, `device/copy`, `kernels/loops`) a mutant is tried until a few cases have killed it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event
from threading import Thread
from typing import Any, cast

from portkit.conformance.case import Case, CheckFailed, Tier
from portkit.conformance.cases.collect import collect
from portkit.conformance.finding import Check, Finding, failed_call
from portkit.conformance.judge import CASE_SECONDS, model_of
from portkit.conformance.launching import Launch
from portkit.conformance.mutants.device import Wrapped
from portkit.conformance.mutants.mutant import Mutant
from portkit.conformance.mutants.record import KILLS_PER_FAMILY, Job, Kill, family
from portkit.conformance.mutants.table import MUTANTS
from portkit.conformance.support import undeclared
from portkit.conformance.verdict import Verdict
from portkit.conformance.worker import leave, open_client
from portkit.errors import ContractError, DeviceError, VerifyError
from portkit.runtime.client import DeviceClient, RemoteExecutable
from portkit.spec.kernel import Kernel
from portkit.spec.verify import verify

_TIERS = list(Tier)
_INTERRUPT = (signal.SIGINT,)


@dataclass(frozen=True, slots=True)
class Hunted:
    """What was found.

    `tried` are the mutants that could show in some case: a fault in what the device does not declare cannot. `unfit`
    are cases that do not pass without a fault, and so say nothing.
    """

    kills: tuple[Kill, ...] = ()
    tried: frozenset[str] = frozenset()
    unfit: tuple[str, ...] = ()

    def __add__(self, other: Hunted) -> Hunted:
        """Return what two hunts found together."""
        return _merged((self, other))

    def survivors(self) -> list[str]:
        """Return the mutants that could show and that no case killed."""
        return sorted(self.tried - {kill.mutant for kill in self.kills})


def jobs(cases: Sequence[Case], mutants: Sequence[str], most: int = KILLS_PER_FAMILY) -> list[Job]:
    """Return one job a family, the cases of the smaller tiers first in each; the longest jobs first."""
    families: dict[str, list[Case]] = {}
    for case in cases:
        families.setdefault(family(case.id), []).append(case)
    ordered = [sorted(found, key=lambda case: _TIERS.index(case.tier)) for found in families.values()]
    ordered.sort(key=len, reverse=True)
    return [Job(tuple(case.id for case in found), tuple(mutants), most) for found in ordered]


# --- one device process -------------------------------------------------------------------------------------------


class Hunter:
    """Tries mutants on cases, on one device process, until it is to stop."""

    def __init__(self, client: DeviceClient, stopped: Callable[[], bool] = lambda: False) -> None:
        self.client = client
        self.stopped = stopped
        self.model = model_of(client.capabilities)
        self.cases = {case.id: case for case in collect(client.capabilities)}

    def run(self, job: Job) -> Hunted:
        """Do a job."""
        kills: list[Kill] = []
        unfit: list[str] = []
        seen: set[str] = set()
        left = dict.fromkeys(job.mutants, job.most)
        touched = _Touched([MUTANTS[name] for name in job.mutants])
        for case in (self.cases[case_id] for case_id in job.cases if case_id in self.cases):
            if self.stopped():
                break
            kernels = self._kernels(case)
            planted = {m.name: m.wrap(self.client) for m in touched.by(kernels, case) if left[m.name]}
            faults = {name: fault for name, fault in planted.items() if fault.may_show(kernels)}
            seen |= set(faults)
            found = self._case(case, faults) if faults else []
            unfit += [case.id] if found is None else []
            for kill in found or ():
                left[kill.mutant] -= 1
                kills.append(kill)
        return Hunted(tuple(kills), frozenset(seen), tuple(unfit))

    def _kernels(self, case: Case) -> list[Kernel]:
        """Return the kernels that a case sends to the device."""
        if case.trial is not None:
            kernel = case.trial().kernel
            return [] if undeclared(kernel, self.client.capabilities) else [kernel]
        recorder = _Recorder(self.client)
        _check(case, cast("DeviceClient", recorder))
        return recorder.kernels

    def _case(self, case: Case, faults: Mapping[str, Wrapped]) -> list[Kill] | None:
        """Return the kills of a case among faulty devices by mutant; None where it does not pass without a fault."""
        attempt = self._attempt(case)
        if attempt(self.client).verdict is not Verdict.PASS:
            self.client.kill()  # an earlier mutant may have damaged the process
            if attempt(self.client).verdict is not Verdict.PASS:
                return None
        found = (self._tried(case, attempt, name, fault) for name, fault in faults.items() if not self.stopped())
        return [kill for kill in found if kill]

    def _attempt(self, case: Case) -> Callable[[DeviceClient], Finding]:
        if case.trial is None:
            return lambda client: _check(case, client)
        launch = Launch(case.trial(), self.client, self.model, CASE_SECONDS)

        def attempt(client: DeviceClient) -> Finding:
            launch.client = client
            return launch.run()

        return attempt

    def _tried(self, case: Case, attempt: Callable[[DeviceClient], Finding], name: str, fault: Wrapped) -> Kill | None:
        found = attempt(cast("DeviceClient", fault))
        if Check.CALL in found.found_by or (case.trial is None and found.verdict is not Verdict.PASS):
            self.client.kill()
        if found.verdict is Verdict.PASS:
            return None
        return Kill(name, case.id, case.tier.value, tuple(check.value for check in found.found_by))


def _check(case: Case, client: DeviceClient) -> Finding:
    """Run a case that talks to the device itself."""
    assert case.check is not None
    try:
        case.check(client)
    except CheckFailed as error:
        return Finding(Verdict.FAIL, str(error), Check.DEVICE)
    except (DeviceError, ContractError) as error:
        return failed_call(error, client)
    return Finding(Verdict.PASS)


class _Recorder(Wrapped):
    """Notes the kernels that a check compiles."""

    def __init__(self, inner: DeviceClient) -> None:
        super().__init__(inner)
        self.kernels: list[Kernel] = []

    def execute(self, kernel: Kernel, *args: Any, **options: Any) -> Any:
        self.kernels.append(kernel)
        return self.inner.execute(kernel, *args, **options)

    def compile(self, kernel: Kernel) -> RemoteExecutable:
        self.kernels.append(kernel)
        return self.inner.compile(kernel)


class _Touched:
    """Which mutants may show in a case: faults of the device's functions, and rewritings that change its kernels."""

    def __init__(self, mutants: Sequence[Mutant]) -> None:
        self._mutants = mutants
        self._known: dict[int, tuple[Kernel, frozenset[str]]] = {}

    def by(self, kernels: Sequence[Kernel], case: Case) -> list[Mutant]:
        """Return the mutants that are to be tried on a case, which sends these kernels to the device."""
        changed = frozenset[str]().union(*map(self._changing, kernels))
        return [m for m in self._mutants if m.name in changed or (m.level == "device" and _reaches(m, case))]

    def _changing(self, kernel: Kernel) -> frozenset[str]:
        if id(kernel) not in self._known:  # cases of a plan share the kernel object, which is kept alive here
            planted = self._mutants if _valid(kernel) else ()
            rewritten = (m.name for m in planted if m.level == "kernel" and m.rewrites(kernel))
            self._known[id(kernel)] = (kernel, frozenset(rewritten))
        return self._known[id(kernel)][1]


def _valid(kernel: Kernel) -> bool:
    """Whether a kernel is well formed; a malformed one is passed on as it is."""
    try:
        verify(kernel)
    except VerifyError:
        return False
    return True


def _reaches(mutant: Mutant, case: Case) -> bool:
    """Whether a fault of the device's functions is in one that the case calls: a launch is one `execute`."""
    return case.trial is None or getattr(mutant.fault, "execute", None) is not Wrapped.execute


# --- several processes --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Process:
    """What a worker process keeps between jobs."""

    hunters: list[Hunter] = field(default_factory=list[Hunter])


_PROCESS = _Process()


def _open(backend: str, stop: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process: who started this one says `stop`
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)
    Thread(target=_end_with_parent, daemon=True).start()
    client = open_client(backend, CASE_SECONDS)
    atexit.register(leave, client)
    _PROCESS.hunters.append(Hunter(client, stop.is_set))


def _end_with_parent() -> None:
    """End this process as soon as the one that started it is gone: nobody would take the results."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run(job: Job) -> Hunted:
    return _PROCESS.hunters[0].run(job)


def hunt(backend: str, work: Sequence[Job], workers: int, on_job: Callable[[int], None]) -> Hunted:
    """Do jobs in worker processes, each with a device process of its own; `on_job` is told how many are done.

    Raises what opening the backend raises, and `HarnessError` where the judge itself fails.
    """
    if workers == 1 or len(work) == 1:
        return _merged(_in_turn(backend, work, on_job))
    context = get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(workers, context, _open, (backend, stop)) as pool:
        try:
            with _held_back():
                futures = [pool.submit(_run, job) for job in work]
            return _merged(_collected(futures, on_job))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)  # waits: a process that still starts needs `stop`
            raise


@contextlib.contextmanager
def _held_back() -> Generator[None]:
    """Hold Ctrl-C back while processes start: they inherit that, until they have said that they ignore it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)


def _in_turn(backend: str, work: Sequence[Job], on_job: Callable[[int], None]) -> Iterator[Hunted]:
    client = open_client(backend, CASE_SECONDS)
    with contextlib.ExitStack() as stack:
        stack.callback(leave, client)
        hunter = Hunter(client)
        for number, job in enumerate(work):
            yield hunter.run(job)
            on_job(number + 1)


def _collected(futures: Sequence[Future[Hunted]], on_job: Callable[[int], None]) -> Iterator[Hunted]:
    for number, future in enumerate(as_completed(futures)):
        yield future.result()
        on_job(number + 1)


def _merged(parts: Iterable[Hunted]) -> Hunted:
    found = list(parts)
    kills = sorted((kill for part in found for kill in part.kills), key=lambda kill: (kill.mutant, kill.case))
    tried = frozenset[str]().union(*(part.tried for part in found))
    return Hunted(tuple(kills), tried, tuple(sorted(case for part in found for case in part.unfit)))
