"""The reducer: passes in turn, large steps first, until none of them makes the launch smaller.

Source: A. Zeller and R. Hildebrandt, "Simplifying and isolating failure-inducing input", IEEE TSE 28(2), 2002 (runs are
removed by halving lengths); J. Regehr et al., "Test-case reduction for C compiler bugs", PLDI 2012 (passes to a
fixpoint, with a test of validity, so that what is left is a valid program).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from portkit.conformance.card import Reduced, kernel_text
from portkit.conformance.case import Trial
from portkit.conformance.finding import Check, Finding
from portkit.conformance.reducing import body, contents, geometry, isolate
from portkit.conformance.reducing.session import OutOfTime, Pass, Session
from portkit.reference.bounds import NumericModel
from portkit.runtime.client import DeviceClient

BUDGET_SECONDS = 10.0

PASSES: tuple[Pass, ...] = (
    isolate.one_store,
    isolate.one_run,
    geometry.failing_place,
    body.one_output,
    body.coarse_removals,
    geometry.counts,
    geometry.one_nest,
    body.values,
    geometry.scalars,
    geometry.loops,
    body.removals,
    body.carries,
    body.gates,
    body.operands,
    body.vectors,
    geometry.extents,
    body.fast,
    contents.runs_of_zeros,
    contents.simpler_numbers,
)
"""What is tried after single instructions, in this order; all of it again while something is taken."""

COSTLY = (Check.HANG, Check.CRASH)
"""Where each step that is taken costs a time limit, or a new process: fewest steps first."""
LARGE_STEPS: tuple[Pass, ...] = (isolate.one_store, body.removals, geometry.loops, geometry.counts)


@dataclass(frozen=True, slots=True)
class Reduction:
    """The smallest launch that was found, and what the device makes of it."""

    trial: Trial
    finding: Finding
    instructions: int
    """Of the kernel; loops and their ends count."""
    attempts: int
    """Launches of candidates; those that are no valid kernels are not launched."""
    steps: int
    """Candidates that were taken."""
    seconds: float
    complete: bool
    """Nothing more was found to take away; False where the time was up."""


def reduce_trial(
    trial: Trial,
    client: DeviceClient,
    model: NumericModel,
    *,
    seconds: float,
    budget: float = BUDGET_SECONDS,
    prefer: str = "",
    on_progress: Callable[[Trial, int], None] | None = None,
) -> Reduction | None:
    """Shrink a launch that fails to a minimal one that fails in the same way; None if it does not fail.

    The same way is the same verdict, found by the same check, and for calls the same exception class. Every step is a
    verified kernel without races or accesses outside, which uses what the device declares. `seconds` is the time limit
    of one launch, `budget` that of all but the first; the smallest launch so far is returned when it is used up.
    `prefer` is the form that is suspected: where several instructions of the kernel are wrong, one of it is left.
    `on_progress` gets each launch that is taken, and the number of attempts. Raises `InvalidKernelError` for a launch
    that is not valid.
    """
    session = Session(trial, client, model, seconds, budget, on_progress)
    if not session.begin():
        return None
    costly = session.finding.check in COSTLY
    complete = _exhaust(session, (*(LARGE_STEPS if costly else ()), partial(isolate.isolated, prefer=prefer), *PASSES))
    session.confirm()
    return Reduction(
        trial=session.best,
        finding=session.finding,
        instructions=len(session.best.kernel.body),
        attempts=session.attempts,
        steps=len(session.accepted) - 1,
        seconds=time.perf_counter() - session.started,
        complete=complete,
    )


def _exhaust(session: Session, passes: Sequence[Pass]) -> bool:
    """Run the passes until none takes anything; returns False where the time was up before."""
    with contextlib.suppress(OutOfTime):
        session.tidy()
        while sum(_repeated(session, made) for made in passes):
            pass
        return True
    return False


def _repeated(session: Session, made: Pass) -> bool:
    taken = False
    while session.run(made):
        taken = True
    return taken


def reduced_record(reduction: Reduction, file: str = "", replay: str = "") -> Reduced:
    """Return what a failure card says of a reduction; `file` holds the launch, `replay` is the command that runs it."""
    return Reduced(kernel_text(reduction.trial.kernel), reduction.instructions, file, replay)
