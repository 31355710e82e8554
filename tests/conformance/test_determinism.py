"""The determinism certificate: repeated launches and permuted work-groups, on devices whose faults are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from portkit.conformance.case import Trial
from portkit.conformance.determinism import ORDERS, certified, differences, free_forms, group_orders, reordered
from portkit.conformance.finding import Check, Finding, Stability
from portkit.conformance.launching import Launch
from portkit.conformance.mutants.device import Wrapped
from portkit.conformance.mutants.model import ModelDevice
from portkit.conformance.verdict import Verdict
from portkit.contract import Capabilities
from portkit.reference.bounds import NumericModel
from portkit.reference.values import run
from portkit.runtime.client import DeviceClient, Executed
from portkit.spec.builder import Builder
from portkit.spec.geometry import host_value
from portkit.spec.kernel import Kernel
from portkit.spec.verify import verify

CAPABILITIES = Capabilities(
    "model", "1", "tests", "own-model", extensions=("atomic", "group"), atomic={"add": ("f32", "i32")}
)


def numbered(*extents: int) -> Kernel:
    """Return a kernel in which each group of a grid writes its own numbers to its own place."""
    b = Builder("numbered")
    out = b.buffer("out", "i32", int(np.prod(extents)) * 2, "write")
    grids = [b.grid(n) for n in extents]
    lane = b.lane(2)
    place = b.const("i32", 0)
    for index, extent in zip(grids, extents, strict=True):
        place = b.add(b.mul(place, b.const("i32", extent)), index)
    b.store(out, b.add(b.mul(place, b.const("i32", 2)), lane), b.add(b.mul(place, b.const("i32", 10)), lane))
    return b.build()


def added(dtype: str = "f32") -> Trial:
    """Return a launch whose 37 groups add to one element, with values that no order sums alike in f32."""
    b = Builder("added")
    x, out = b.buffer("x", dtype, 37, "read"), b.buffer("out", dtype, 1, "readwrite")
    g = b.grid(37)
    b.lane(1)
    b.op("store.atomic.add", b.const("i32", 0), b.load(x, g), mems=(out,))
    kernel = b.build()
    numbers = np.random.default_rng(5).normal(size=37) * 1e4
    values = numbers.astype(kernel.buffers[0].dtype.numpy)
    return Trial(kernel, {}, {"x": values, "out": np.zeros(1, values.dtype)})


def launch(trial: Trial, device: DeviceClient | None = None) -> Launch:
    return Launch(trial, device or ModelDevice(CAPABILITIES).as_client(), NumericModel(), 10.0)


def certificate(trial: Trial, device: DeviceClient | None = None, runs: int = 3) -> Finding:
    return certified(launch(trial, device), runs)


# --- group orders -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("extents", [(5,), (3, 4), (2, 1, 3), (1, 7)])
def test_a_kernel_with_permuted_groups_is_valid_and_means_the_same(order: str, extents: tuple[int, ...]) -> None:
    kernel = numbered(*extents)
    permuted = reordered(kernel, extents, ORDERS[order][1])
    verify(permuted)
    assert permuted != kernel
    outputs = [run(k, {}, {"out": np.zeros(2 * int(np.prod(extents)), np.int32)})["out"] for k in (kernel, permuted)]
    assert outputs[0].tolist() == outputs[1].tolist()


def permutation(kernel: Kernel, count: int, order: str) -> list[int]:
    """Return which of the kernel's groups each of the device's computes."""
    permuted = reordered(kernel, (count,), ORDERS[order][1])
    head = next(k for k, i in enumerate(permuted.body) if i.name == "loop.grid")
    numbers: list[int] = []
    for group in range(count):
        known = {permuted.body[head].result: group}
        for instr in permuted.body[head + 1 :]:
            value = host_value(instr, known)
            if value is not None:
                known[instr.result] = value
        numbers.append(known[kernel.body[kernel.nest.grids[0]].result])
    return numbers


@pytest.mark.parametrize(("order", "count"), [("reversed", 2), ("reversed", 37), ("rotated", 3), ("rotated", 100)])
def test_an_order_is_a_permutation_that_moves_groups(order: str, count: int) -> None:
    found = permutation(numbered(count), count, order)
    assert sorted(found) == list(range(count))
    assert found != list(range(count))
    assert found != found[::-1]
