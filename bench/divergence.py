"""How often the first divergence names the instruction that a seeded fault rewrote, and in what time.

Plants every mutant that rewrites kernels around the model device and around the cpu backend, and asks for the first
divergence of its witness case. Prints, per mutant, what was named, as what it counts, and the seconds.

What counts as right, by the class of fault:

- value: an instruction that the fault replaced in the kernel.
- loop: the head, a carry or the end of a loop of which the fault replaced one of these.
- memory: the fault replaced or dropped a copy, store, wait, barrier or fence, whose effect is in no value of their own;
  named is a load from memory that the kernel writes.
- store: the fault added something, and replaced nothing; named is a store.
- idle: the fault keeps lanes from storing; named is the loop of the lanes or groups that did not run.
- anything else, or nothing, is wrong: `-`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import cast

from portkit.conformance.card import Divergence
from portkit.conformance.case import Case, Trial
from portkit.conformance.cases.collect import collect
from portkit.conformance.divergence import first_divergence
from portkit.conformance.divergence.probes import loops
from portkit.conformance.judge import model_of
from portkit.conformance.launching import Launch
from portkit.conformance.mutants.model import ModelDevice
from portkit.conformance.mutants.mutant import Mutant
from portkit.conformance.mutants.table import MUTANTS
from portkit.conformance.verdict import Verdict
from portkit.contract import find_backend
from portkit.runtime.client import DeviceClient
from portkit.spec.forms import Op
from portkit.spec.kernel import Kernel

SECONDS = 10.0
_UNSEEN = (Op.BARRIER, Op.WAIT, Op.FENCE, Op.STORE)
_LOOP = (Op.LOOP, Op.PHI, Op.ENDLOOP)


def replaced(kernel: Kernel, faulty: Kernel) -> list[int]:
    """Return the positions of the instructions that a fault replaced or dropped; of equal ones that is the last."""
    lost = Counter(kernel.body) - Counter(faulty.body)
    found: list[int] = []
    for position in reversed(range(len(kernel.body))):
        if lost[kernel.body[position]]:
            lost[kernel.body[position]] -= 1
            found.append(position)
    return found


def of_a_loop(kernel: Kernel, changed: list[int], named: int) -> bool:
    """Whether a part of the loop was replaced that has the named part."""
    parts = [{loop.head, *loop.carries, loop.end} for _, loop in loops(kernel.nest.body)]
    return any(named in own and own & set(changed) for own in parts)


def reads_memory(kernel: Kernel, changed: list[int], named: int) -> bool:
    """Whether what was replaced acts on memory, and what is named loads from memory that the kernel writes."""
    acts = any(kernel.body[i].form.op in _UNSEEN or kernel.body[i].name == "load.async" for i in changed)
    written = {i.mems[0] for i in kernel.body if i.form.op is Op.STORE or i.name == "load.async"}
    return acts and kernel.body[named].form.op is Op.LOAD and kernel.body[named].mems[0] in written


def is_a_store(kernel: Kernel, changed: list[int], named: int) -> bool:
    """Whether nothing was replaced, only added, and a store is named."""
    return not changed and kernel.body[named].form.op is Op.STORE


def is_idle(kernel: Kernel, changed: list[int], named: int) -> bool:
    """Whether only stores were replaced, and the loop is named whose lanes did not store."""
    only_stores = bool(changed) and all(kernel.body[i].form.op is Op.STORE for i in changed)
    return only_stores and kernel.body[named].name in ("loop.grid", "loop.lane")


CLASSES: dict[str, Callable[[Kernel, list[int], int], bool]] = {
    "value": lambda kernel, changed, named: named in changed,
    "loop": of_a_loop,
    "memory": reads_memory,
    "store": is_a_store,
    "idle": is_idle,
}


def counts_as(mutant: Mutant, trial: Trial, found: Divergence | None) -> str:
    """Return the class under which what was found is right, "-" if it is not."""
    if found is None:
        return "-"
    assert not isinstance(mutant.fault, type)
    changed = replaced(trial.kernel, mutant.fault(trial.kernel))
    right = (name for name, test in CLASSES.items() if test(trial.kernel, changed, found.instruction))
    return next(right, "-")


def measured(device: DeviceClient, cases: dict[str, Case], *, every: bool) -> tuple[int, list[float], int]:
    """Print a line per mutant that its witness finds; returns how many were named rightly, times, and how many not
    found at all, which are left out."""
    right, unfound, times = 0, 0, list[float]()
    for mutant in MUTANTS.values():
        make = cases[mutant.witness].trial if mutant.level == "kernel" and mutant.witness in cases else None
        if make is None:
            continue
        trial, client, model = make(), mutant.plant(device), model_of(device.capabilities)
        if Launch(trial, client, model, SECONDS).run().verdict is Verdict.PASS:
            unfound += 1
            print(f"not found by its witness: {mutant.name}")
            continue
        start = time.perf_counter()
        found = first_divergence(trial, client, model, seconds=SECONDS)
        times.append(time.perf_counter() - start)
        kind = counts_as(mutant, trial, found)
        right += kind != "-"
        if every or kind != "value":
            said = f"{found.instruction} `{found.text}` {found.note}" if found else "nothing"
            print(f"{kind:6} {times[-1]:6.3f} s  {mutant.name}: {said}")
    return right, times, unfound


def main() -> None:
    """Measure on each device and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--all", action="store_true", help="print mutants of the class `value` too")
    parser.add_argument("--device", action="append", help="model or a backend's name; default: model and cpu")
    given = parser.parse_args()
    for name in given.device or ["model", "cpu"]:
        capabilities = find_backend("cpu" if name == "model" else name).capabilities
        cases = {case.id: case for case in collect(capabilities)}
        with nullcontext(ModelDevice(capabilities)) if name == "model" else DeviceClient(name) as device:
            right, times, unfound = measured(cast("DeviceClient", device), cases, every=given.all)
        shares = f"{right} of {len(times)} named rightly ({right / len(times):.1%}), {unfound} not found by the witness"
        print(f"{name}: {shares}; median {statistics.median(times):.3f} s, most {max(times):.3f} s")


if __name__ == "__main__":
    main()
