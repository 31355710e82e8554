"""How often the first hint is the planted fault: each mutant on its witness, and on other cases that find it.

Prints the rates and what was missed; the limit is three quarters on the witnesses. By default on the model device,
which needs no process; name a backend to plant the faults there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping

from portkit.conformance.case import Case, Tier
from portkit.conformance.cases.collect import collect
from portkit.conformance.journal import Entry
from portkit.conformance.judge import judge_case
from portkit.conformance.mutants.model import ModelDevice
from portkit.conformance.mutants.table import MUTANTS, Mutant
from portkit.conformance.verdict import Verdict
from portkit.contract import find_backend
from portkit.runtime.client import DeviceClient

LIMIT = 0.75
KILLERS = 5
TRIED = 400
"""Cases about the form at fault that are tried for more that find it."""


def main() -> int:
    """Measure and print; returns 1 where the limit is missed."""
    backend = sys.argv[1] if len(sys.argv) > 1 else ""
    device = DeviceClient(backend) if backend else ModelDevice(find_backend("cpu").capabilities).as_client()
    cases = {case.id: case for case in collect(device.capabilities) if case.tier is not Tier.FULL}
    mutants = [m for m in MUTANTS.values() if m.cause is not None and m.witness in cases]
    started = time.perf_counter()
    on_witness = [(m, _hint(m, cases[m.witness], device)) for m in mutants]
    seconds = time.perf_counter() - started
    rate = _show("on its witness", on_witness)
    print(f"{1000 * seconds / max(1, len(on_witness)):.0f} ms a case, judging included")
    _show("on other cases that find it", _on_others(mutants, cases, device))
    if backend:
        device.close()
    return int(rate < LIMIT)


def _hint(mutant: Mutant, case: Case, device: DeviceClient) -> Entry:
    return judge_case(case, mutant.plant(device))


def _on_others(
    mutants: Iterable[Mutant], cases: Mapping[str, Case], device: DeviceClient
) -> Iterable[tuple[Mutant, Entry]]:
    """Yield what is found of each mutant by the first cases, beside its witness, that find it."""
    for mutant in mutants:
        found = 0
        for case in _about(mutant, cases):
            entry = _hint(mutant, case, device)
            if _counts(entry):
                found += 1
                yield mutant, entry
            if found == KILLERS:
                break


def _about(mutant: Mutant, cases: Mapping[str, Case]) -> list[Case]:
    """Return the cases, beside the witness, whose cells name the form at fault, evenly chosen."""
    form = mutant.suspect.partition("/")[0]
    about = [c for c in cases.values() if c.id != mutant.witness and any(cell.form == form for cell in c.cells)]
    if mutant.suspect.startswith("device/"):
        about = [c for c in cases.values() if c.id != mutant.witness and c.id.startswith(mutant.suspect)]
    return about[:: max(1, len(about) // TRIED)]


def _counts(entry: Entry) -> bool:
    return entry.verdict in (Verdict.FAIL, Verdict.FLAKY, Verdict.CRASH, Verdict.TIMEOUT)


def _show(title: str, found: Iterable[tuple[Mutant, Entry]]) -> float:
    """Print the rate and the misses of a list; returns the rate."""
    counted = [(m, e) for m, e in found if _counts(e)]
    missed = [(m, e) for m, e in counted if e.card is None or e.card.cause != (m.cause.value if m.cause else "")]
    rate = 1 - len(missed) / max(1, len(counted))
    print(f"the first hint is the planted fault, {title}: {len(counted) - len(missed)} of {len(counted)}, {rate:.1%}")
    for mutant, entry in missed:
        wanted = mutant.cause.value if mutant.cause else ""
        print(f"  {mutant.name} on {entry.id}: {entry.card.cause if entry.card else ''} for {wanted}")
    return rate


if __name__ == "__main__":
    sys.exit(main())
