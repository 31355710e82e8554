"""The determinism certificate: repeated launches and permuted work-groups, on devices whose faults are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from portkit.conformance import journal
from portkit.conformance.case import Trial
from portkit.conformance.determinism import ORDERS, certified, differences, free_forms, group_orders, reordered
from portkit.conformance.finding import Check, Finding, Stability
from portkit.conformance.launching import Launch
from portkit.conformance.mutants.device import Wrapped
from portkit.conformance.mutants.model import ModelDevice
from portkit.conformance.run import RunOptions, run_suite
from portkit.conformance.verdict import Verdict
from portkit.contract import Capabilities
from portkit.reference.bounds import NumericModel
from portkit.reference.values import run
from portkit.runtime.client import DeviceClient, Executed
from portkit.spec.builder import Builder
from portkit.spec.geometry import host_value
from portkit.spec.kernel import Instr, Kernel
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


def test_a_loop_of_one_group_is_left_alone() -> None:
    kernel = numbered(1)
    assert reordered(kernel, (1,), ORDERS["reversed"][1]) is kernel


@pytest.mark.parametrize(
    ("extents", "names"), [((1, 1), []), ((2,), ["reversed"]), ((2, 2), ["reversed"]), ((3,), ["reversed", "rotated"])]
)
def test_only_orders_that_differ_are_tried(extents: tuple[int, ...], names: list[str]) -> None:
    assert list(group_orders(numbered(*extents), extents)) == names


def test_a_launch_of_no_groups_has_no_other_order() -> None:
    assert group_orders(numbered(5), (0,)) == {}


def test_groups_that_wait_for_each_other_keep_their_order() -> None:
    kernel = numbered(5)
    body = (*kernel.body[:-2], Instr("barrier.grid"), *kernel.body[-2:])
    assert group_orders(replace(kernel, body=body), (5,)) == {}


# --- devices that vary --------------------------------------------------------------------------------------------


Change = Callable[[Kernel, int, bytes], bytes]
"""Changes the bytes of the last buffer, by the kernel and the number of the launch."""


def device(change: Change) -> DeviceClient:
    """Return a correct device but for what it does to the last buffer of each launch."""

    class Changed(Wrapped):
        launches = 0

        def execute(self, kernel: Kernel, grid: Sequence[int], operands: Any, *args: Any, **options: Any) -> Executed:
            ran = self.inner.execute(kernel, grid, operands, *args, **options)
            self.launches += 1
            outputs = list(ran.outputs)
            outputs[-2] = change(kernel, self.launches, outputs[-2])
            return replace(ran, outputs=outputs)

    return cast("DeviceClient", Changed(ModelDevice(CAPABILITIES).as_client()))


def permuted(kernel: Kernel) -> bool:
    """Whether the judge has permuted the kernel's groups."""
    return any(i.name == "loop.grid" and i.result.startswith("m") for i in kernel.body)


def last_place(data: bytes) -> bytes:
    """Return the bytes with the last place of the first float changed by one."""
    return bytes([data[0] ^ 1]) + data[1:]


def test_a_launch_that_is_always_the_same_is_bit_identical_in_all_its_runs() -> None:
    found = certificate(Trial(numbered(5), {}, {}))
    assert (found.verdict, found.check) == (Verdict.PASS, None)
    assert found.stability == Stability(3, ("reversed", "rotated"))


def test_one_run_is_no_certificate_and_repeats_nothing() -> None:
    launches: list[int] = []
    counting = device(lambda _, number, data: launches.append(number) or data)
    assert certificate(Trial(numbered(5), {}, {}), counting, runs=1).stability == Stability()
    assert launches == [1]


def test_each_run_and_each_order_is_one_launch() -> None:
    launches: list[bool] = []
    counting = device(lambda kernel, _, data: launches.append(permuted(kernel)) or data)
    certificate(Trial(numbered(5), {}, {}), counting, runs=4)
    assert launches == [False] * 4 + [True] * 2


def test_a_float_atomic_whose_bits_vary_passes_and_is_named() -> None:
    wobbling = device(lambda _, number, data: last_place(data) if number == 2 else data)
    found = certificate(added(), wobbling)
    assert found.verdict is Verdict.PASS
    assert found.stability.varying["repeat"] == 1
    assert found.stability.free == ("store.atomic.add",)


def test_the_group_order_alone_varies_a_sum_by_float_atomics() -> None:
    """The model runs groups by number, so that what an order changes is the order of the sum itself."""
    found = certificate(added())
    assert found.verdict is Verdict.PASS
    assert "repeat" not in found.stability.varying
    assert set(found.stability.varying) <= {"reversed", "rotated"}
    assert found.stability.varying


def test_integer_atomics_vary_with_no_order() -> None:
    assert certificate(added("i32")).stability == Stability(3, ("reversed", "rotated"))


def test_bits_that_vary_where_the_spec_fixes_them_do_not_pass() -> None:
    wobbling = device(lambda _, number, data: last_place(data) if number == 3 else data)
    found = certificate(Trial(numbered(5), {}, {}), wobbling)
    assert (found.verdict, found.check, found.suspect) == (Verdict.FAIL, Check.REPEAT, "launch: results vary")
    assert found.reason.startswith("passes at first, not when it is run again: out[0] is wrong")


@pytest.mark.parametrize("order", ORDERS)
def test_a_device_that_depends_on_the_group_order_does_not_pass(order: str) -> None:
    other = reordered(numbered(5), (5,), ORDERS[order][1])
    depends = device(lambda kernel, _, data: last_place(data) if kernel == other else data)
    found = certificate(Trial(numbered(5), {}, {}), depends, runs=2)
    assert (found.verdict, found.check) == (Verdict.FAIL, Check.REPEAT)
    assert found.suspect == "launch: depends on the group order"
    assert f"not when its work-groups are {order}" in found.reason
    assert found.stability.orders == (order,)


def test_a_write_past_the_end_in_a_repeated_run_is_found_too() -> None:
    overrun = device(lambda _, number, data: data[:-1] + b"!" if number == 2 else data)
    assert "wrote past the end of out" in certificate(Trial(numbered(5), {}, {}), overrun).reason


def test_a_wrong_first_run_is_not_repeated() -> None:
    launches: list[int] = []
    wrong = device(lambda _, number, data: launches.append(number) or last_place(data))
    assert certificate(Trial(numbered(5), {}, {}), wrong).check is Check.VALUES
    assert launches == [1]


def test_open_values_may_vary_and_are_counted() -> None:
    varying = device(lambda _, number, data: bytes([number]) + data[1:])
    found = certificate(Trial(numbered(1), {}, {}, device_check_only=True), varying, runs=2)
    assert (found.verdict, found.stability.varying) == (Verdict.PASS, {"repeat": 1})


# --- comparing ----------------------------------------------------------------------------------------------------


def floats(*values: float) -> dict[str, Any]:
    return {"out": np.array(values, np.float32)}


def test_differing_elements_are_counted_by_their_bits() -> None:
    assert differences(floats(0.0, 1.0, 2.0), floats(-0.0, 1.0, 3.0)) == 2


def test_the_payload_of_nan_does_not_count() -> None:
    payload = {"out": np.array([0x7FC00001, 0xFFC00000], np.uint32).view(np.float32)}
    assert differences(payload, floats(np.nan, np.nan)) == 0
    assert differences(payload, floats(np.nan, 1.0)) == 1


def test_two_launches_of_a_case_are_taken_together() -> None:
    first = Stability(3, ("reversed",), {"reversed": 2}, ("mov.exp2",))
    second = Stability(3, ("reversed", "rotated"), {"reversed": 1, "repeat": 4}, ("mov.log2",))
    both = Stability(3, ("reversed", "rotated"), {"reversed": 3, "repeat": 4}, ("mov.exp2", "mov.log2"))
    assert first + second == both
    assert Stability() + first == first


def test_only_what_fast_frees_is_free() -> None:
    assert free_forms(added().kernel) == ("store.atomic.add",)
    assert free_forms(added("i32").kernel) == ()
    assert free_forms(numbered(5)) == ()
    assert free_forms(replace(added().kernel, numeric="strict")) == ()


# --- whole runs ---------------------------------------------------------------------------------------------------


def test_a_repeated_run_notes_in_its_journal_what_was_compared(tmp_path: Path) -> None:
    options = RunOptions("cpu", tmp_path, patterns=("kernels/loops/triangle", "device/copy/whole"), repeat=2)
    result = run_suite(options)
    assert result.journal is not None
    read = journal.read(result.journal)
    assert read.header.repeat == 2
    launched, checked = read.entries["kernels/loops/triangle"], read.entries["device/copy/whole"]
    assert (launched.runs, launched.varying) == (2, {})
    assert checked.runs == 0


def test_every_launch_of_a_graph_is_repeated(tmp_path: Path) -> None:
    result = run_suite(RunOptions("cpu", tmp_path, profile="compute", patterns=("tensors/softmax",), repeat=2))
    assert result.journal is not None
    assert {e.runs for e in journal.read(result.journal).entries.values()} == {2}
