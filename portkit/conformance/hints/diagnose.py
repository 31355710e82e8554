"""Find the likely cause of a failure: by what kind of failure it is, by simulation, by what its elements look like.

A hint is a guess and says so; no verdict depends on it. A simulated device that gives every wrong element bit for bit,
and acceptable ones elsewhere, is the best of evidence; patterns of the wrong elements come after it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, TypeAlias

import numpy as np

from portkit.conformance.hints.causes import LOOK_AT
from portkit.conformance.hints.failures import from_failure
from portkit.conformance.hints.patterns import from_patterns
from portkit.conformance.hints.scenario import (
    LITERAL_COUNT,
    Function,
    Place,
    Scenario,
    Twist,
    countable,
    places,
    simulate,
)
from portkit.conformance.hints.symptoms import Evidence, Hint, Symptoms
from portkit.conformance.hints.table import IN_PLACE, OF_LAUNCH, InPlace, OfLaunch
from portkit.spec.forms import FORMS
from portkit.spec.kernel import Kernel

MOST_HINTS: Final = 3
MOST_SECONDS: Final = 0.3
"""Processor time that the simulations of one failure may take."""
MOST_TIMES: Final = 5
LEAST_SECONDS: Final = 0.005
"""One simulation may take so many times what the right kernel takes, and this much in any case."""
MOST_SPOILED: Final = 2
"""A hypothesis may spoil so many right elements for each wrong one that it gives."""
Known: TypeAlias = Sequence[tuple[Place, Function]]


def diagnose(symptoms: Symptoms, *, seconds: float = MOST_SECONDS) -> list[Hint]:
    """Return the likely causes of a failure, the best first, at most three; none where nothing is known.

    `seconds` is the processor time that simulations may take.
    """
    found: dict[str, Hint] = {}
    with np.errstate(all="ignore"):
        for hint in _hints(symptoms, seconds):
            found.setdefault(hint.cause.value, hint)
            if len(found) == MOST_HINTS:
                break
    return list(found.values())


def guess(symptoms: Symptoms) -> list[Hint]:
    """Return what `diagnose` does, and nothing where it fails: a guess must not cost the verdict that it is about."""
    try:
        return diagnose(symptoms)
    except Exception:  # noqa: BLE001 - whatever it is, the tests of `diagnose` are there to find it
        return []


def _hints(symptoms: Symptoms, seconds: float) -> Iterator[Hint]:
    yield from from_failure(symptoms)
    evidence = symptoms.evidence
    if evidence is None or not evidence.wrong:
        return
    if all(mask.all() for mask in evidence.poisoned.values()):
        yield from from_patterns(evidence)  # nothing was written: whatever else would explain it is less likely
        return
    simulated = next(_simulated(evidence, _form_of(symptoms.case_id), seconds), None)
    yield from [simulated] if simulated is not None else from_patterns(evidence)


# --- simulation ---------------------------------------------------------------------------------------------------


def _simulated(evidence: Evidence, suspect: str, seconds: float) -> Iterator[Hint]:
    """Yield the hypotheses whose simulation gives what the device gave, in the order of the table.

    Last comes the one that gives every wrong element, but spoils the fewest right ones too: then the fault is that of
    some operands only.
    """
    nearest: tuple[int, Hint] | None = None
    started = time.thread_time()
    simulate(Scenario(evidence.kernel, evidence.scalars, evidence.before))
    usual = time.thread_time() - started
    for hint, scenario in _hypotheses(evidence, suspect):
        now = time.thread_time()
        if now > started + seconds:
            break
        outputs = simulate(scenario, min(started + seconds, now + MOST_TIMES * usual + LEAST_SECONDS))
        if outputs is None or not evidence.gives_the_wrong(outputs):
            continue
        spoiled = evidence.spoiled(outputs)
        if not spoiled:
            yield hint
        elif nearest is None or spoiled < nearest[0]:
            nearest = spoiled, hint
    if nearest is not None and evidence.distinct > 1 and nearest[0] <= MOST_SPOILED * evidence.count:
        yield nearest[1]


def _form_of(case_id: str) -> str:
    """Return the form that a case is about, by its id, empty for other cases."""
    level, _, rest = case_id.partition("/")
    name = rest.partition("/")[0] if level == "ops" else ""
    while name and name not in FORMS:
        name = name.rpartition(".")[0]  # of `add.then_mul`, the form is `add`
    return name


def _hypotheses(evidence: Evidence, suspect: str) -> Iterator[tuple[Hint, Scenario]]:
    """Yield scenarios: a fault in one kind of instruction, in the launch, in all instructions, in a single one.

    Kinds of the form that the case is about come first.
    """
    kernel = countable(evidence.kernel)
    given = Scenario(kernel, evidence.scalars, evidence.before, guard=evidence.guard)
    known = places(kernel)
    faults = [(fault, twist, _kinds(kernel, known, twist)) for fault in IN_PLACE for twist in fault.twists]
    for about in (True, False) if suspect else (False,):
        if about:
            yield from _of_launch(given, [launch for launch in OF_LAUNCH if suspect in launch.forms])
        for fault, twist, kinds in faults:
            for kind, positions in kinds.items():
                if kind.startswith((f"{suspect}/", f"{suspect} ")) is about:
                    yield _hint(fault, kind), _planted(given, twist, positions)
    yield from _of_launch(given, [launch for launch in OF_LAUNCH if not suspect or suspect not in launch.forms])
    for fault, twist, kinds in faults:
        if len(kinds) > 1:
            yield _hint(fault, "the device"), _planted(given, twist, [p for ps in kinds.values() for p in ps])
    for fault, twist, kinds in faults:
        for kind, positions in kinds.items():
            for position in positions if len(positions) > 1 else ():
                yield _hint(fault, f"one {kind}"), _planted(given, twist, [position])


def _of_launch(given: Scenario, launches: Sequence[OfLaunch]) -> Iterator[tuple[Hint, Scenario]]:
    for launch in launches:
        hint = Hint(launch.cause, f"{launch.says}: {LOOK_AT[launch.cause]}")
        yield from ((hint, scenario) for scenario in launch.change(given))


def _hint(fault: InPlace, what: str) -> Hint:
    return Hint(fault.cause, f"{what} {fault.says}: {LOOK_AT[fault.cause]}")


def _planted(given: Scenario, twist: Twist, positions: list[int]) -> Scenario:
    return Scenario(given.kernel, given.scalars, given.before, dict.fromkeys(positions, twist), guard=given.guard)


def _kinds(kernel: Kernel, known: Known, twist: Twist) -> Mapping[str, list[int]]:
    """Return the positions that a twist applies to, by form and dtypes."""
    hit = [position for position, (place, right) in enumerate(known) if twist(place, right) is not None]
    ordered = sorted(hit, key=lambda p: _kind(kernel, p))
    return {kind: list(positions) for kind, positions in groupby(ordered, key=lambda p: _kind(kernel, p))}


def _kind(kernel: Kernel, position: int) -> str:
    """Return the name of an instruction's form and dtypes, as in `mov.cast/i32<-f32`."""
    instr = kernel.body[position]
    if instr.mems:
        return f"{instr.name}/{kernel.memories[instr.mems[0]].dtype}"
    operand = kernel.types[instr.args[0]] if instr.args else instr.type
    if instr.name == "loop.serial":
        return f"{instr.name} of {'literal' if instr.args[0].startswith(LITERAL_COUNT) else 'computed'} count"
    if instr.name in ("mov.cast", "mov.bits"):
        return f"{instr.name}/{instr.type}<-{operand}"
    return f"{instr.name}/{operand}"
