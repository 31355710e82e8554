"""How far the reducer shrinks the kernels that the seeded faults are found by.

Each fault of kernels is planted in a device, its witness is launched, and the launch is reduced. The table says how
many instructions the witness has and how many are left, every loop and its end included, and how long it took.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from portkit.conformance.case import Case, Trial
from portkit.conformance.cases.collect import collect
from portkit.conformance.judge import CASE_SECONDS, model_of
from portkit.conformance.mutants.model import ModelDevice
from portkit.conformance.mutants.table import MUTANTS, Mutant
from portkit.conformance.reducing.reduction import BUDGET_SECONDS, Reduction, reduce_trial
from portkit.runtime.client import DeviceClient
from portkit.spec.text import format as format_kernel

MOST_MEDIAN = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One fault: the launch that shows it, and what it is reduced to (None: the device does not show the fault)."""

    mutant: Mutant
    trial: Trial
    reduction: Reduction | None

    def __str__(self) -> str:
        if self.reduction is None:
            return f"{self.mutant.name:<48} passes on this device"
        r = self.reduction
        counts = f"{len(self.trial.kernel.body):>5} {r.instructions:>5} {r.attempts:>6} {r.seconds:>7.2f}"
        return f"{self.mutant.name:<48} {counts}{'' if r.complete else '  out of time'}"


def reductions(client: DeviceClient, prefix: str, budget: float) -> Iterator[Row]:
    """Reduce the witness of each fault of kernels whose name begins with a prefix."""
    cases: dict[str, Case] = {case.id: case for case in collect(client.capabilities)}
    for mutant in MUTANTS.values():
        case = cases.get(mutant.witness)
        if mutant.level == "kernel" and mutant.name.startswith(prefix) and case is not None and case.trial is not None:
            trial = case.trial()
            model = model_of(client.capabilities)
            found = reduce_trial(trial, mutant.plant(client), model, seconds=CASE_SECONDS, budget=budget)
            yield Row(mutant, trial, found)


def report(rows: list[Row]) -> bool:
    """Print median and worst; returns whether the median is small enough."""
    made = [(row.reduction.instructions, row) for row in rows if row.reduction is not None]
    if not made:
        print("no fault shows on this device")
        return False
    middle = median(n for n, _ in made)
    worst, row = max(made, key=lambda pair: pair[0])
    seconds = sorted(r.reduction.seconds for _, r in made if r.reduction is not None)
    print(f"{len(made)} of {len(rows)} faults show: median {middle:g} instructions left (limit {MOST_MEDIAN})")
    print(f"worst {worst}: {row.mutant.name}; seconds each: median {median(seconds):.2f}, longest {seconds[-1]:.2f}")
    return middle <= MOST_MEDIAN


def main() -> int:
    """Print the table; exit with 1 where the median is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="cpu", help="an installed backend, or `model`: the reference as a device")
    parser.add_argument("--mutant", default="", help="only faults whose name begins so")
    parser.add_argument("--seconds", type=float, default=BUDGET_SECONDS, help="the budget of each reduction")
    parser.add_argument("--kernels", action="store_true", help="print the reduced kernels too")
    given = parser.parse_args()
    model = given.backend == "model"
    with DeviceClient("cpu" if model else given.backend) as opened:
        client = ModelDevice(opened.capabilities).as_client() if model else opened
        rows: list[Row] = []
        print(f"{'fault':<48} {'had':>5} {'left':>5} {'tries':>6} {'seconds':>7}")
        for row in reductions(client, given.mutant, given.seconds):
            rows.append(row)
            print(row, flush=True)
            if given.kernels and row.reduction is not None:
                print(format_kernel(row.reduction.trial.kernel))
    return 0 if report(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
