"""Programs on a device: launched one by one or recorded and replayed, the results are the same."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from msgspec import structs

from portkit.compiler.program import Launch, Program
from portkit.contract import find_backend
from portkit.errors import DeviceMismatch, OutOfMemory, ShapeError, UsageError
from portkit.runtime.buffers import Buffer
from portkit.runtime.devices import RuntimeDevice
from portkit.runtime.execute import run_program
from portkit.runtime.replay import Recorded, run
from tests.runtime.programs import (
    COUNT,
    LANES,
    PARTS,
    PLAIN,
    Limited,
    LimitedBackend,
    adding,
    chain,
    dynamic,
    given,
    slot,
    told,
)

RUNNERS = [run_program, run]
Runner = Callable[..., list[Buffer]]


@pytest.fixture(scope="module", params=["cpu", "plain", "parts"])
def device(request: pytest.FixtureRequest) -> Iterator[RuntimeDevice]:
    backend = {"cpu": find_backend("cpu"), "plain": PLAIN, "parts": PARTS}[request.param]
    with RuntimeDevice(backend) as opened:
        yield opened


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("length", [1, 2, 7])
def test_a_chain_gives_the_same_at_every_run(device: RuntimeDevice, runner: Runner, length: int) -> None:
    program = chain(length)
    for value in (0.0, 1.0, 2.0):
        (result,) = runner(device, program, given(device, value))
        assert (told(result) == value + length).all()


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("n", [0, 1, 5, COUNT])
def test_one_program_serves_all_values_of_a_dimension(device: RuntimeDevice, runner: Runner, n: int) -> None:
    program = dynamic()
    for _ in range(2):
        (result,) = runner(device, program, given(device, 2.0, 4.0, count=n), {"n": n})
        assert result.size == 4 * n
        assert (told(result, n) == 14.0).all()


@pytest.mark.parametrize("runner", RUNNERS)
def test_results_of_one_run_survive_the_next(device: RuntimeDevice, runner: Runner) -> None:
    program = chain(3)
    results = [runner(device, program, given(device, float(n)))[0] for n in range(10)]
    assert [float(told(r)[0]) for r in results] == [n + 3.0 for n in range(10)]


@pytest.mark.parametrize("runner", RUNNERS)
def test_an_output_may_be_an_input_or_be_named_twice(device: RuntimeDevice, runner: Runner) -> None:
    launch = Launch(adding(1.0), (COUNT // LANES,), (0, 1))
    program = Program((launch,), (slot("input"), slot("output")), (0,), (1, 0, 1))
    inputs = given(device, 1.0)
    first, passed, second = runner(device, program, inputs)
    assert passed is inputs[0]
    assert first is second
    assert told(first)[0] == 2.0


@pytest.mark.parametrize("runner", RUNNERS)
def test_inputs_that_no_launch_reads_are_handed_through(device: RuntimeDevice, runner: Runner) -> None:
    launch = Launch(adding(1.0), (COUNT // LANES,), (1, 3))
    slots = (slot("input"), slot("input"), slot("input"), slot("output"))
    some, none = Program((launch,), slots, (0, 1, 2), (2, 3)), Program((), slots[:2], (0, 1), (1, 0))
    for _ in range(3):
        inputs = given(device, 1.0, 2.0, 3.0)
        passed, result = runner(device, some, inputs)
        assert passed is inputs[2]
        assert told(result)[0] == 3.0
        assert runner(device, none, inputs[:2]) == [inputs[1], inputs[0]]


@pytest.mark.parametrize("runner", RUNNERS)
def test_one_buffer_may_be_two_inputs(device: RuntimeDevice, runner: Runner) -> None:
    (both,) = given(device, 3.0)
    (result,) = runner(device, dynamic(), [both, both], {"n": COUNT})
    assert (told(result) == 12.0).all()


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_result_may_be_the_next_input(device: RuntimeDevice, runner: Runner) -> None:
    program, (value,) = chain(2), given(device, 0.0)
    for _ in range(20):
        (value,) = runner(device, program, [value])
    assert (told(value) == 40.0).all()


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runner", RUNNERS)
def test_inputs_that_do_not_fit_are_refused(cpu: RuntimeDevice, device: RuntimeDevice, runner: Runner) -> None:
    with pytest.raises(UsageError, match="takes 1 inputs, got 2"):
        runner(device, chain(2), given(device, 1.0, 2.0))
    with pytest.raises(ShapeError, match=f"input 0 has 8 bytes, the program reads {4 * COUNT}"):
        runner(device, chain(2), [device.allocate(8)])
    with pytest.raises(DeviceMismatch, match="input 0 is on device cpu, the program runs on"):
        runner(device, chain(2), given(cpu, 1.0))


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_dimension_needs_a_value_inside_its_bounds(device: RuntimeDevice, runner: Runner) -> None:
    inputs = given(device, 1.0, 2.0)
    with pytest.raises(UsageError, match=f"dimension n has no value; it can be 0 to {COUNT}"):
        runner(device, dynamic(), inputs)
    for value in (-1, COUNT + 1):
        with pytest.raises(UsageError, match=f"dimension n is {value}, not in"):
            runner(device, dynamic(), inputs, {"n": value})


# --- memory -------------------------------------------------------------------------------------------------------


def test_launching_one_by_one_uses_two_temporaries_of_a_long_chain() -> None:
    with RuntimeDevice(PLAIN) as device:
        run_program(device, chain(50), given(device, 0.0))
        assert device.pool.statistics().peak_bytes == 3 * 4 * COUNT


@pytest.mark.parametrize("backend", [find_backend("cpu"), PLAIN, PARTS], ids=["cpu", "plain", "parts"])
def test_a_recording_keeps_two_temporaries_of_a_long_chain(backend: RuntimeDevice) -> None:
    with RuntimeDevice(backend) as device:  # type: ignore[arg-type]
        program = chain(50)
        for _ in range(4):
            run(device, program, given(device, 0.0))
        gc.collect()
        assert device.pool.statistics().peak_bytes <= (2 + 2) * 4 * COUNT


def test_recordings_take_turns_in_one_arena() -> None:
    with RuntimeDevice(PARTS) as device:
        small, large = Recorded(device, chain(4)), Recorded(device, chain(4))
        (x,) = given(device, 1.0)
        before = device.pool.statistics().live_bytes
        results = [told(recorded.replay([x])[0]) for recorded in (small, large)]
        assert np.unique(results).tolist() == [5]
        assert device.pool.statistics().live_bytes == before + small.plan.arena_bytes == before + 2 * 4 * COUNT


def test_a_recording_moves_to_the_larger_arena_that_another_needed() -> None:
    with RuntimeDevice(find_backend("cpu")) as device:
        small = Recorded(device, chain(3))
        (x,) = given(device, 1.0)
        small.replay([x])
        wide = Program(chain(3).launches, chain(3).slots, (0,), (3,))
        large = Recorded(device, _with_wide_temporaries(wide, 4))
        assert large.plan.arena_bytes > small.plan.arena_bytes
        large.replay([x])
        result = told(small.replay([x])[0])
        assert (result == 4).all()
        assert device.pool.statistics().live_bytes == large.plan.arena_bytes + 4 * COUNT


def _with_wide_temporaries(program: Program, factor: int) -> Program:
    from dataclasses import replace

    slots = (replace(s, bytes=s.bytes * factor) if s.role == "temporary" else s for s in program.slots)
    return Program(program.launches, tuple(slots), program.inputs, program.outputs)


def test_temporaries_that_no_one_buffer_can_hold_take_turns_in_several() -> None:
    backend = LimitedBackend("view")
    limits = structs.replace(backend.capabilities.limits, buffer_bytes=4 * COUNT)
    backend.capabilities = structs.replace(backend.capabilities, limits=limits)
    with RuntimeDevice(backend) as device:
        recorded = Recorded(device, chain(9))
        assert recorded.plan.arena_bytes > limits.buffer_bytes
        result = told(recorded.replay(given(device, 1.0))[0])
        assert (result == 10).all()


def test_a_full_device_lets_go_of_its_arena_and_records_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with RuntimeDevice(PARTS) as device:
        program, (x,) = chain(3), given(device, 1.0)
        for _ in range(2):
            run(device, program, [x])
        original, room = device.device.allocate, [0]

        def allocate(size: int, *align: int) -> int:
            if room:
                room.pop()
                raise OutOfMemory("full")
            return original(size, *align)

        monkeypatch.setattr(device.device, "allocate", allocate)
        large = device.allocate(1 << 20)
        assert large.size == 1 << 20
        assert not device.recorded
        for _ in range(3):
            result = told(run(device, program, [x])[0])
            assert (result == 4).all()


def test_a_program_that_nobody_runs_again_is_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portkit.runtime.replay._RECORDED", 4)
    with RuntimeDevice(PARTS) as device:
        for _ in range(10):
            run(device, chain(2), given(device, 1.0))
        assert len(device.recorded) == 4


# --- one call -----------------------------------------------------------------------------------------------------


def test_a_replay_on_a_device_that_can_is_one_call(cpu: RuntimeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("launch", "replay"):
        original = getattr(cpu.device, name)
        monkeypatch.setattr(cpu.device, name, lambda *a, o=original, n=name: (calls.append(n), o(*a))[1])
    program = chain(30)
    run(cpu, program, given(cpu, 1.0))
    assert calls == ["launch"] * 30
    calls.clear()
    run(cpu, program, given(cpu, 1.0))
    assert calls == ["replay"]


def test_a_replay_on_any_other_device_launches_each() -> None:
    with RuntimeDevice(PLAIN) as device:
        Recorded(device, chain(30)).replay(given(device, 1.0))
        assert isinstance(device.device, Limited)
        assert device.device.calls.count("launch") == 30
