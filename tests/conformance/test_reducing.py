"""The reducer: what is left is small, valid, fails in the same way, and is found within the budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from portkit.conformance.bounded import see_that_it_ends
from portkit.conformance.case import Case, Trial
from portkit.conformance.cases.collect import collect
from portkit.conformance.finding import Check
from portkit.conformance.judge import model_of
from portkit.conformance.mutants.device import ClobbersInput, LaunchSkipped, Wrapped, WritesPastTheEnd, rewriting
from portkit.conformance.mutants.model import ModelDevice
from portkit.conformance.mutants.table import MUTANTS
from portkit.conformance.reducing.reduction import Reduction, reduce_trial, reduced_record
from portkit.conformance.reducing.session import complexity, weight
from portkit.conformance.rewriting import Emitter, rewrite
from portkit.conformance.verdict import Verdict
from portkit.contract import Capabilities, find_backend
from portkit.errors import CompileError, DeviceHang, DeviceLost, HarnessError, InvalidKernelError, OutOfMemory
from portkit.reference.bounds import NumericModel
from portkit.reference.checks import check
from portkit.runtime.client import DeviceClient, Executed
from portkit.spec.builder import Builder
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.text import parse
from portkit.spec.types import I32, Type
from portkit.spec.verify import verify
from tests.conformance.suite import trial as sum_of_64

MODEL = NumericModel()


@pytest.fixture(scope="module")
def capabilities() -> Capabilities:
    return find_backend("cpu").capabilities


@pytest.fixture(scope="module")
def good(capabilities: Capabilities) -> DeviceClient:
    return ModelDevice(capabilities).as_client()


def with_fault(client: DeviceClient, expand: Callable[[Instr, Emitter], bool]) -> DeviceClient:
    """Return a device that gets every kernel rewritten."""
    return cast("DeviceClient", rewriting(lambda kernel: rewrite(kernel, expand))(client))


def add_is_mul(i: Instr, e: Emitter) -> bool:
    if i.name != "add" or i.type is None or not i.type.dtype.is_float:
        return False
    e.op("mul", *i.args, result=i.result)
    return True


def raising(client: DeviceClient, error: Exception, when: Callable[[Kernel], bool]) -> DeviceClient:
    """Return a device that raises an error for some kernels."""

    class Raising(Wrapped):
        def execute(self, kernel: Kernel, *args: Any, **options: Any) -> Executed:
            if when(kernel):
                raise error
            return self.inner.execute(kernel, *args, **options)

    return cast("DeviceClient", Raising(client))


def has(name: str) -> Callable[[Kernel], bool]:
    return lambda kernel: any(i.name == name for i in kernel.body)


def reduced(trial: Trial, client: DeviceClient, budget: float = 20.0) -> Reduction:
    made = reduce_trial(trial, client, MODEL, seconds=5.0, budget=budget)
    assert made is not None
    return made


def names(made: Reduction) -> list[str]:
    return [i.name for i in made.trial.kernel.body]


# --- what is left -------------------------------------------------------------------------------------------------


def test_a_wrong_instruction_is_left_with_what_feeds_it_and_what_shows_it(good: DeviceClient) -> None:
    made = reduced(sum_of_64("sum"), with_fault(good, add_is_mul))
    assert names(made) == ["loop.grid", "loop.lane", "load", "add", "store", "endloop", "endloop"]
    assert made.complete


def test_buffers_are_left_with_the_one_failing_element(good: DeviceClient) -> None:
    made = reduced(sum_of_64("sum"), with_fault(good, add_is_mul))
    assert [b.extent.evaluate({}) for b in made.trial.kernel.buffers] == [1, 1]
    assert made.finding.elements == 1


def test_inputs_are_left_simple(good: DeviceClient) -> None:
    numbers = np.arange(1, 65, dtype=np.float32) * np.float32(1.234567)
    trial = replace(sum_of_64("sum"), inputs={"x": numbers, "y": numbers})
    made = reduced(trial, with_fault(good, add_is_mul))
    assert all(a.tolist() == [1.0] for a in made.trial.inputs.values())


def test_what_is_left_fails_when_it_is_launched_again(good: DeviceClient) -> None:
    client = with_fault(good, add_is_mul)
    once = reduced(sum_of_64("sum"), client)
    again = reduced(once.trial, client)
    assert again.trial.kernel == once.trial.kernel
    assert again.steps == 0


def test_nothing_is_reduced_of_a_launch_that_passes(good: DeviceClient) -> None:
    assert reduce_trial(sum_of_64("sum"), good, MODEL, seconds=5.0) is None


def test_a_launch_that_is_not_valid_is_refused(good: DeviceClient) -> None:
    b = Builder("race")
    out = b.buffer("out", "i32", 1, "write")
    b.grid(1)
    lane = b.lane(2)
    b.store(out, b.const("i32", 0), lane)
    with pytest.raises(InvalidKernelError):
        reduce_trial(Trial(b.build(), {}, {}), good, MODEL, seconds=5.0)


def test_strict_is_dropped_where_the_failure_does_not_need_it(good: DeviceClient) -> None:
    made = reduced(sum_of_64("sum", numeric="strict"), with_fault(good, add_is_mul))
    assert made.trial.kernel.numeric == "fast"


def test_the_kernels_name_is_kept(good: DeviceClient) -> None:
    assert reduced(sum_of_64("sum"), with_fault(good, add_is_mul)).trial.kernel.name == "sum"


def test_an_input_that_is_not_needed_is_dropped_with_its_contents(good: DeviceClient) -> None:
    made = reduced(sum_of_64("sum"), with_fault(good, add_is_mul))
    assert made.trial.inputs.keys() == {b.name for b in made.trial.kernel.buffers if b.access == "read"}


MUTANTS_SHOWN = {
    "add-rounds-toward-zero": 8,
    "mul-hi-is-unsigned": 8,
    "loop-stops-one-early": 9,
    "zero-trip-loop-runs-once": 9,
    "carries-assigned-in-turn": 11,
    "async-copy-is-short": 9,
    "gated-load-gives-zero": 9,
    "vec-add-drops-last-lane": 8,
    "cast-to-int-rounds": 7,
    "atomic-max-adds": 7,
}


@pytest.fixture(scope="module")
def cases(capabilities: Capabilities) -> dict[str, Case]:
    return {case.id: case for case in collect(capabilities)}


@pytest.mark.parametrize(("mutant", "most"), MUTANTS_SHOWN.items(), ids=MUTANTS_SHOWN.keys())
def test_the_witness_of_a_fault_shrinks(
    mutant: str, most: int, capabilities: Capabilities, cases: dict[str, Case]
) -> None:
    fault = MUTANTS[mutant]
    case = cases[fault.witness]
    assert case.trial is not None
    client = fault.plant(ModelDevice(capabilities).as_client())
    made = reduce_trial(case.trial(), client, model_of(capabilities), seconds=5.0, budget=20.0)
    assert made is not None
    assert made.instructions <= most


@pytest.mark.parametrize("fault", [LaunchSkipped, WritesPastTheEnd])
def test_a_large_kernel_shrinks_to_a_store(
    fault: type[Wrapped], capabilities: Capabilities, cases: dict[str, Case]
) -> None:
    case = cases["kernels/fuzz/base/0163"]
    assert case.trial is not None
    client = cast("DeviceClient", fault(ModelDevice(capabilities).as_client()))
    made = reduce_trial(case.trial(), client, model_of(capabilities), seconds=5.0, budget=20.0)
    assert made is not None
    assert made.instructions <= 6


def test_a_buffer_that_is_read_and_written_needs_no_contents(good: DeviceClient) -> None:
    text = """portkit 1.0-draft
kernel counts
buffer bins i32[4] readwrite
begin
one = mov.const i32 1
zero = mov.const i32 0
g = loop.grid 1
l = loop.lane 4
store.atomic.add bins zero one
endloop l
endloop g
"""
    trial = Trial(parse(text), {}, {})
    made = reduced(trial, cast("DeviceClient", LaunchSkipped(good)))
    assert made.instructions < len(trial.kernel.body)
    assert made.trial.kernel.lanes == 1


# --- every step ---------------------------------------------------------------------------------------------------


def test_every_step_is_valid_smaller_and_fails(good: DeviceClient) -> None:
    steps = [sum_of_64("sum")]
    client = with_fault(good, add_is_mul)
    reduce_trial(steps[0], client, MODEL, seconds=5.0, on_progress=lambda trial, attempts: steps.append(trial))
    assert len(steps) > 2
    for trial in steps:
        verify(trial.kernel)
        check(trial.kernel, trial.scalars, trial.inputs)
    assert [weight(t) for t in steps] == sorted({weight(t) for t in steps}, reverse=True)


def test_nothing_undeclared_reaches_the_device(capabilities: Capabilities) -> None:
    sent: list[Kernel] = []
    client = raising(ModelDevice(capabilities).as_client(), DeviceLost("gone"), lambda k: bool(sent.append(k)) or True)
    reduced(sum_of_64("sum"), client)
    for kernel in sent:
        verify(kernel)


# --- the same way -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "found"),
    [(WritesPastTheEnd, Check.TAIL), (ClobbersInput, Check.INPUTS), (LaunchSkipped, Check.POISON)],
)
def test_the_check_stays_the_same(fault: type[Wrapped], found: Check, good: DeviceClient) -> None:
    made = reduced(sum_of_64("sum"), cast("DeviceClient", fault(good)))
    assert made.finding.check is found
    assert made.instructions < len(sum_of_64("sum").kernel.body)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (DeviceHang("no answer"), Verdict.TIMEOUT),
        (DeviceLost("died"), Verdict.CRASH),
        (CompileError("no"), Verdict.FAIL),
    ],
    ids=["hang", "crash", "refusal"],
)
def test_an_error_is_reduced_to_the_instruction_that_raises_it(
    error: Exception, verdict: Verdict, good: DeviceClient
) -> None:
    made = reduced(sum_of_64("sum"), raising(good, error, has("load")))
    assert made.finding.verdict is verdict
    assert "load" in names(made)
    assert made.instructions <= 7


def test_another_exception_is_not_the_same_failure(good: DeviceClient) -> None:
    inner = raising(good, OutOfMemory("no room"), lambda kernel: not has("mul")(kernel))
    made = reduced(sum_of_64("sum"), raising(inner, CompileError("no"), has("mul")))
    assert made.finding.reason.startswith("CompileError")
    assert "mul" in names(made)


def test_a_failure_that_comes_and_goes_is_given_back_as_it_was_seen(good: DeviceClient) -> None:
    class FailsOnce(Wrapped):
        launches = 0

        def execute(self, kernel: Kernel, grid: Sequence[int], *args: Any, **options: Any) -> Executed:
            self.launches += 1
            if self.launches == 1:
                raise CompileError("not today")
            return self.inner.execute(kernel, grid, *args, **options)

    made = reduced(sum_of_64("sum"), cast("DeviceClient", FailsOnce(good)))
    assert made.trial.kernel == sum_of_64("sum").kernel


def test_a_step_that_fails_only_once_is_taken_back(good: DeviceClient) -> None:
    class LiesOnce(Wrapped):
        lied = False

        def execute(self, kernel: Kernel, *args: Any, **options: Any) -> Executed:
            if has("load")(kernel) or not self.lied:
                self.lied |= not has("load")(kernel)
                raise CompileError("no")
            return self.inner.execute(kernel, *args, **options)

    made = reduced(sum_of_64("sum"), cast("DeviceClient", LiesOnce(good)))
    assert "load" in names(made)


def test_of_two_wrong_instructions_the_suspected_one_is_left(good: DeviceClient) -> None:
    def both_wrong(i: Instr, e: Emitter) -> bool:
        if i.name not in ("add", "mul") or i.type is None or not i.type.dtype.is_float:
            return False
        e.op("reduce.min", *i.args, result=i.result)
        return True

    b = Builder("both")
    x, y = b.buffer("x", "f32", 64, "read"), b.buffer("y", "f32", 64, "read")
    out = b.buffer("out", "f32", 64, "write")
    i = b.add(b.mul(b.grid(8), b.const("i32", 8)), b.lane(8))
    v = b.load(x, i)
    b.store(out, i, b.mul(b.add(v, b.load(y, i)), v))
    numbers = np.arange(3, 67, dtype=np.float32)
    trial = Trial(b.build(), {}, {"x": numbers, "y": numbers[::-1].copy()})
    for form in ("add", "mul"):
        made = reduce_trial(trial, with_fault(good, both_wrong), MODEL, seconds=5.0, prefer=form)
        assert made is not None
        assert form in names(made)


# --- crashes and hangs in a real process --------------------------------------------------------------------------


def test_a_kernel_that_ends_the_device_process_is_reduced() -> None:
    with DeviceClient("tests.fakes.devices:FAULTY") as client:
        made = reduced(sum_of_64("crash_7"), client)
        assert made.finding.verdict is Verdict.CRASH
        assert names(made) == ["loop.grid", "loop.lane", "load", "store", "endloop", "endloop"]


def test_a_kernel_that_hangs_is_reduced_with_a_short_limit() -> None:
    with DeviceClient("tests.fakes.devices:FAULTY") as client:
        made = reduce_trial(sum_of_64("hang_7"), client, MODEL, seconds=0.5, budget=3.0)
        assert made is not None
        assert made.finding.verdict is Verdict.TIMEOUT
        assert made.instructions < len(sum_of_64("hang_7").kernel.body)


# --- the budget ---------------------------------------------------------------------------------------------------


def test_the_smallest_so_far_is_given_when_the_time_is_up(good: DeviceClient) -> None:
    class Slow(Wrapped):
        def execute(self, kernel: Kernel, *args: Any, **options: Any) -> Executed:
            time.sleep(0.05)
            return self.inner.execute(kernel, *args, **options)

    client = with_fault(cast("DeviceClient", Slow(good)), add_is_mul)
    made = reduced(sum_of_64("sum"), client, budget=0.2)
    assert not made.complete
    assert made.seconds < 2
    assert made.finding.verdict is Verdict.FAIL


def test_no_time_at_all_gives_the_launch_as_it_is(good: DeviceClient) -> None:
    made = reduced(sum_of_64("sum"), with_fault(good, add_is_mul), budget=0.0)
    assert made.trial.kernel == sum_of_64("sum").kernel
    assert not made.complete


def test_the_time_of_the_first_launch_does_not_count(good: DeviceClient, monkeypatch: pytest.MonkeyPatch) -> None:
    launches = [0]
    clock = SimpleNamespace(perf_counter=lambda: 60.0 * min(launches[0], 1), thread_time=time.thread_time)
    monkeypatch.setattr("portkit.conformance.reducing.session.time", clock)

    class SlowAtFirst(Wrapped):
        def execute(self, kernel: Kernel, *args: Any, **options: Any) -> Executed:
            launches[0] += 1
            return self.inner.execute(kernel, *args, **options)

    made = reduced(sum_of_64("sum"), with_fault(cast("DeviceClient", SlowAtFirst(good)), add_is_mul), budget=10.0)
    assert made.complete
    assert made.steps > 0


MASKED_COUNT = """
portkit 1.0-draft
kernel masked_count
buffer counts i32[1] read
buffer x f32[1] read
buffer out f32[1] write
begin
g = loop.grid 1
lane = loop.lane 1
zero = mov.const i32 0
seven = mov.const i32 7
all = load counts zero
trips = reduce.and all seven
first = load x zero
k = loop.serial trips
sum = phi.carry first
next = add sum sum
endloop k sum=next
store out zero sum
endloop lane
endloop g
"""
"""Without the mask the loop would turn two thousand million times."""


def test_a_candidate_whose_loop_would_turn_for_ever_is_given_up(good: DeviceClient) -> None:
    inputs = {"counts": np.array([0x7FFFFFFF], np.int32), "x": np.array([3.0], np.float32)}
    looping = has("loop.serial")
    client = rewriting(lambda kernel: rewrite(kernel, add_is_mul) if looping(kernel) else kernel)(good)
    made = reduced(Trial(parse(MASKED_COUNT), {}, inputs), cast("DeviceClient", client))
    assert {"loop.serial", "add"} <= {*names(made)}


def test_a_kernel_that_does_not_end_in_time_is_refused() -> None:
    kernel = parse(MASKED_COUNT.replace("loop.serial trips", "loop.serial all"))
    inputs = {"counts": np.array([0x7FFFFFFF], np.int32), "x": np.array([3.0], np.float32)}
    with pytest.raises(HarnessError, match="takes too long"):
        see_that_it_ends(kernel, {}, inputs, 0.01)


def test_a_launch_that_holds_too_much_is_given_as_it_is_where_there_is_no_time(good: DeviceClient) -> None:
    trial = sum_of_64("sum")
    unused = Instr("mov.const", "unused", Type(I32), imms=(0,))
    untidy = replace(trial, kernel=replace(trial.kernel, body=(unused, *trial.kernel.body)))
    made = reduced(untidy, with_fault(good, add_is_mul), budget=0.0)
    assert not made.complete
    assert made.steps == 0


def test_the_record_for_a_card_holds_the_kernel_and_its_size(good: DeviceClient) -> None:
    made = reduced(sum_of_64("sum"), with_fault(good, add_is_mul))
    record = reduced_record(made, "a.trial.json", "portkit run a.trial.json")
    assert record.instructions == len(made.trial.kernel.body) == 7
    assert record.kernel.splitlines()[1] == "kernel sum"
    assert (record.file, record.replay) == ("a.trial.json", "portkit run a.trial.json")


# --- how simple numbers are ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8, np.float64])
def test_zero_is_simplest_then_one_then_few_bits(dtype: Any) -> None:
    ranks = complexity(np.array([0, 1, 2, 3, 77], dtype)).tolist()
    assert ranks == sorted(set(ranks))


def test_a_positive_number_is_simpler_than_its_negative() -> None:
    for dtype in (np.float32, np.int16):
        one, minus = complexity(np.array([1, -1], dtype))
        assert one < minus < one + 1
