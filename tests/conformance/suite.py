"""A small suite for the harness's own tests; kernel names choose the faults of `tests.fakes.devices:FAULTY`."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from portkit.conformance.case import Case, Cell, CheckFailed, Level, Tier, Trial
from portkit.conformance.worker import LIFELINE_VARIABLE
from portkit.contract import Capabilities
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel, Numeric

if TYPE_CHECKING:
    from portkit.runtime.client import DeviceClient

CRASHES = frozenset(range(3, 200, 10))
HANGS = frozenset({15, 77, 141})


def add_kernel(name: str, dtype: str = "f32", numeric: Numeric = "fast", extent: int = 64) -> Kernel:
    """Return `out[i] = x[i] + y[i]` over the first 64 elements of each buffer."""
    b = Builder(name, numeric)
    x, y = b.buffer("x", dtype, extent, "read"), b.buffer("y", dtype, extent, "read")
    out = b.buffer("out", dtype, extent, "write")
    g, lane = b.grid(2), b.lane(32)
    i = b.add(b.mul(g, b.const("i32", 32)), lane)
    b.store(out, i, b.add(b.load(x, i), b.load(y, i)))
    return b.build()


def trial(name: str, dtype: str = "f32", numeric: Numeric = "fast", *, check_only: bool = False) -> Trial:
    """Return a launch of `add_kernel` on fixed numbers."""
    kernel = add_kernel(name, dtype, numeric)
    x = np.arange(64).astype(kernel.buffers[0].dtype.numpy)
    return Trial(kernel, {}, {"x": x, "y": x[::-1] * 3}, device_check_only=check_only)


def launch_case(case_id: str, name: str, *, needs: tuple[str, ...] = (), tier: Tier = Tier.SMOKE) -> Case:
    """Return a case that launches the kernel of a name."""
    return Case(case_id, Level.OPS, tier, (Cell("add", "f32"),), trial=partial(trial, name), needs=needs)


def _works(client: DeviceClient) -> None:
    client.free(client.allocate(16))


def _never_works(client: DeviceClient) -> None:
    raise CheckFailed("expected a copy, saw nothing")


def collect(capabilities: Capabilities, profile: str) -> list[Case]:
    """Return 200 cases, 20 of which crash and 3 hang on the faulty fake; all are right on the good one."""
    del capabilities, profile
    rung = Case("device/allocate", Level.DEVICE, Tier.SMOKE, check=_works)
    return [rung, *(launch_case(f"ops/add/{k:03d}", _name(k), needs=("device/allocate",)) for k in range(200))]


def _name(number: int) -> str:
    if number in CRASHES:
        return f"crash_{number}"
    return f"hang_{number}" if number in HANGS else f"sum_{number}"


def collect_hanging(capabilities: Capabilities, profile: str) -> list[Case]:
    """Return 12 cases that hang on the faulty fake."""
    del capabilities, profile
    return [launch_case(f"ops/add/{k:02d}", f"hang_{k}") for k in range(12)]


def _kills_its_judge() -> Trial:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def collect_deadly(capabilities: Capabilities, profile: str) -> list[Case]:
    """Return 60 cases, two of which end the process that judges them."""
    del capabilities, profile
    deadly = Case("ops/add/deadly", Level.OPS, Tier.SMOKE, trial=_kills_its_judge)
    cases = [launch_case(f"ops/add/{k:02d}", "sum") for k in range(58)]
    return [*cases[:7], deadly, *cases[7:40], replace(deadly, id="ops/add/deadly2"), *cases[40:]]


def collect_shrinking(capabilities: Capabilities, profile: str) -> list[Case]:
    """Return 30 cases, none of them in a worker: a suite that depends on more than the capabilities."""
    del capabilities, profile
    inside = LIFELINE_VARIABLE in os.environ
    return [] if inside else [launch_case(f"ops/add/{k:02d}", "sum") for k in range(30)]


def collect_ordered(capabilities: Capabilities, profile: str) -> list[Case]:
    """Return 40 cases; on fakes that keep something between launches `ops/z/victim` fails after `ops/c/culprit`."""
    del capabilities, profile
    others = [launch_case(f"ops/add/{k:02d}", f"other_{k}") for k in range(38)]
    culprit, victim = launch_case("ops/c/culprit", "mode_fills"), launch_case("ops/z/victim", "sums")
    return [*others[:20], culprit, *others[20:], victim]


def collect_broken_rung(capabilities: Capabilities, profile: str) -> list[Case]:
    """Return a rung that fails, one above it, and 40 cases that need the upper one."""
    del capabilities, profile
    lower = Case("device/copy/one", Level.DEVICE, Tier.SMOKE, check=_never_works)
    upper = Case("device/launch", Level.DEVICE, Tier.SMOKE, check=_works, needs=("device/copy",))
    return [
        *(launch_case(f"ops/add/{k:02d}", "sum", needs=("device/launch",)) for k in range(40)),
        upper,
        lower,
        launch_case("ops/free", "sum"),
    ]


def collect_one(capabilities: Capabilities, profile: str) -> list[Case]:
    """Return one case that passes in `smoke`, and one in `full`."""
    del capabilities, profile
    return [launch_case("ops/add/one", "sum"), launch_case("ops/add/slow", "sum", tier=Tier.FULL)]


def collect_wrong(capabilities: Capabilities, profile: str) -> list[Case]:
    """Return a case that passes and one that does not."""
    del capabilities, profile
    return [launch_case("ops/add/right", "sum"), launch_case("ops/add/wrong", "wrong")]


def collect_wrong_and_crash(capabilities: Capabilities, profile: str) -> list[Case]:
    """Return a case that passes, one that is wrong and one that crashes."""
    return [*collect_wrong(capabilities, profile), launch_case("ops/add/crash", "crash")]
