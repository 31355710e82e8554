"""Every verdict, each shown by a fake backend, and everything that the judge looks at after a launch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import msgspec
import numpy as np
import pytest

from portkit.conformance.card import render
from portkit.conformance.case import Case, Cell, CheckFailed, Level, Tier, Trial
from portkit.conformance.journal import Entry
from portkit.conformance.judge import judge_case, model_of
from portkit.conformance.verdict import Verdict
from portkit.contract import BASE_DTYPES, Capabilities, NumericLimits
from portkit.errors import DeviceError, DeviceLost, UsageError
from portkit.runtime.client import DeviceClient
from portkit.spec.builder import Builder
from tests.conformance.suite import launch_case, trial
from tests.fakes import fenv

FAKES = "tests.fakes.devices"


@pytest.fixture(scope="module")
def faulty() -> Iterator[DeviceClient]:
    with DeviceClient(f"{FAKES}:FAULTY") as client:
        yield client


def judge(client: DeviceClient, name: str, seconds: float = 10.0) -> Entry:
    return judge_case(launch_case(f"ops/add/{name}", name), client, seconds=seconds)


def test_a_right_result_passes_and_counts_its_elements(faulty: DeviceClient) -> None:
    entry = judge(faulty, "sum")
    assert (entry.verdict, entry.elements, entry.wrong, entry.card) == (Verdict.PASS, 64, 0, None)
    assert entry.cells == ("add/f32",)


def test_a_wrong_result_fails_and_its_card_says_where(faulty: DeviceClient) -> None:
    entry = judge(faulty, "wrong")
    assert (entry.verdict, entry.wrong, entry.elements) == (Verdict.FAIL, 1, 64)
    assert entry.card is not None
    found = entry.card.mismatch
    assert found is not None
    assert (found.buffer, found.element, found.actual.hex) == ("out", 0, "0x433d0001")
    assert found.accepted == "189.0 (0x433d0000)"
    assert found.inputs["y"].decimal == "189.0"
    assert entry.card.source == "evaluator of wrong"
    assert "add" in entry.card.kernel
    assert entry.card.replay == f"portkit conform --backend {FAKES}:FAULTY --case 'ops/add/wrong'"


def test_a_result_that_is_wrong_once_is_flaky(faulty: DeviceClient) -> None:
    faulty.kill()  # the fault is in the first launch of a process
    entry = judge(faulty, "flaky")
    assert entry.verdict is Verdict.FLAKY
    assert "did not pass in 2 of 22 runs; at first fail: out[0] is wrong" in entry.reason
    assert (entry.runs, entry.failed, entry.check) == (22, 2, "repeat")


def test_a_long_message_of_a_device_is_in_the_detail_and_begins_in_the_reason(faulty: DeviceClient) -> None:
    entry = judge(faulty, "verbose")
    assert entry.verdict is Verdict.FAIL
    assert entry.card is not None
    assert entry.reason.startswith("CompileError: no no")
    assert len(entry.reason) < 1000 < len(entry.card.detail)


def test_a_crash_is_attributed_to_its_case_and_the_next_one_passes(faulty: DeviceClient) -> None:
    entry = judge(faulty, "crash")
    assert entry.verdict is Verdict.CRASH
    assert "SIGSEGV" in entry.reason
    assert judge(faulty, "sum").verdict is Verdict.PASS


def test_a_hang_is_a_timeout_and_the_next_case_passes(faulty: DeviceClient) -> None:
    assert judge(faulty, "hang", seconds=0.1).verdict is Verdict.TIMEOUT
    assert judge(faulty, "sum").verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("name", "verdict"), [("HANGS", Verdict.TIMEOUT), ("LOST", Verdict.CRASH), ("FULL", Verdict.FAIL)]
)
def test_an_error_that_the_backend_itself_reports_gets_its_verdict(name: str, verdict: Verdict) -> None:
    with DeviceClient(f"{FAKES}:{name}") as client:
        assert judge(client, "sum").verdict is verdict


def test_a_kernel_that_does_not_compile_fails_with_the_vendors_text(faulty: DeviceClient) -> None:
    entry = judge(faulty, "uncompilable")
    assert entry.verdict is Verdict.FAIL
    assert entry.card is not None
    assert "register pressure" in entry.card.detail


def test_a_foreign_exception_fails(faulty: DeviceClient) -> None:
    entry = judge(faulty, "foreign")
    assert entry.verdict is Verdict.FAIL
    assert "compile raised KeyError" in entry.reason


def test_a_write_past_the_end_of_a_buffer_fails(faulty: DeviceClient) -> None:
    assert "wrote past the end of out: byte 0 after its 256" in judge(faulty, "overrun").reason


def test_a_clobbered_input_fails(faulty: DeviceClient) -> None:
    assert "changed the input x at element 0" in judge(faulty, "clobber").reason


def test_a_write_to_memory_beside_the_buffers_fails(faulty: DeviceClient) -> None:
    assert "outside every buffer" in judge(faulty, "stray").reason


def test_a_device_that_does_nothing_fails_as_not_written() -> None:
    with DeviceClient(f"{FAKES}:NOTHING") as client:
        entry = judge(client, "sum")
    assert entry.verdict is Verdict.FAIL
    assert "out[0] was not written, and with it 64 of 64" in entry.reason


def poison_trial() -> Trial:
    """Return a launch whose right answer is the poison itself, everywhere."""
    b = Builder("poison")
    out = b.buffer("out", "u32", 8, "write")
    b.grid(1)
    b.store(out, b.lane(8), b.const("u32", 0xA5A5A5A5))
    return Trial(b.build(), {}, {})


def poison_case() -> Case:
    return Case("ops/mov.const/poison", Level.OPS, Tier.SMOKE, trial=poison_trial)


def test_an_unwritten_element_is_found_even_where_the_poison_is_the_answer(faulty: DeviceClient) -> None:
    with DeviceClient(f"{FAKES}:NOTHING") as client:
        assert "not written" in judge_case(poison_case(), client).reason
    assert judge_case(poison_case(), faulty).verdict is Verdict.PASS


def sparse_trial() -> Trial:
    """Return a launch that writes every second element only."""
    b = Builder("sparse")
    out = b.buffer("out", "i32", 8, "write")
    b.grid(1)
    lane = b.lane(4)
    b.store(out, b.add(lane, lane), lane)
    return Trial(b.build(), {}, {})


def test_elements_that_the_kernel_leaves_alone_are_accepted(faulty: DeviceClient) -> None:
    case = Case("ops/store/sparse", Level.OPS, Tier.SMOKE, trial=sparse_trial)
    assert judge_case(case, faulty).verdict is Verdict.PASS


def test_with_device_check_only_values_do_not_count_but_guards_do(faulty: DeviceClient) -> None:
    def entry(name: str) -> Entry:
        case = Case(f"ops/open/{name}", Level.OPS, Tier.SMOKE, trial=partial(trial, name, check_only=True))
        return judge_case(case, faulty)

    assert (entry("wrong").verdict, entry("wrong").elements) == (Verdict.PASS, 0)
    assert entry("overrun").verdict is Verdict.FAIL


STRICT = Capabilities("strict", "1", "tests", "stand-in")


def undeclared_trials() -> dict[str, Callable[[], Trial]]:
    def vector() -> Trial:
        b = Builder("vector")
        x = b.buffer("x", "f32", 8, "write")
        b.grid(1)
        b.lane(1)
        b.store_vec(x, b.const("i32", 0), b.splat(b.const("f32", 0.0), 4))
        return Trial(b.build(), {}, {})

    def fused() -> Trial:
        b = Builder("fused")
        x = b.buffer("x", "f32", 8, "write")
        b.grid(1)
        one = b.const("f32", 1.0)
        b.store(x, b.lane(8), b.fma(one, one, one))
        return Trial(b.build(), {}, {})

    def wide_group() -> Trial:
        b = Builder("wide")
        x = b.buffer("x", "i32", 1024, "write")
        b.grid(1)
        lane = b.lane(1024)
        b.store(x, lane, lane)
        return Trial(b.build(), {}, {})

    return {
        "strict": partial(trial, "sum", numeric="strict"),
        "dtype": partial(trial, "sum", "f64"),
        "lane count": vector,
        "extension": fused,
        "group size": wide_group,
    }


@pytest.mark.parametrize("build", undeclared_trials().values(), ids=undeclared_trials().keys())
def test_what_is_not_declared_is_unsupported_and_not_sent(build: Callable[[], Trial], faulty: DeviceClient) -> None:
    entry = judge_case(Case("ops/x/y", Level.OPS, Tier.SMOKE, trial=build), faulty)
    assert entry.verdict is Verdict.UNSUPPORTED
    assert "declared" in entry.reason


def test_the_digests_of_a_strict_kernel_are_those_of_the_reference() -> None:
    with DeviceClient(f"{FAKES}:STRICT") as client:
        right, wrong = (
            judge_case(Case(f"ops/{n}", Level.OPS, Tier.SMOKE, trial=partial(trial, n, numeric="strict")), client)
            for n in ("sum", "wrong")
        )
    assert len(right.digest) == 64
    assert right.bit_exact is True
    assert wrong.bit_exact is False


# --- checks and our own faults ------------------------------------------------------------------------------------


def check_case(action: Callable[[DeviceClient], None]) -> Case:
    return Case("device/check", Level.DEVICE, Tier.SMOKE, check=action)


def raising(error: Exception) -> Callable[[DeviceClient], None]:
    def action(client: DeviceClient) -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (CheckFailed("expected 1, saw 2"), Verdict.FAIL),
        (DeviceError("no"), Verdict.FAIL),
        (ValueError("a bug in the check"), Verdict.ERROR),
        (UsageError("a bug in the check"), Verdict.ERROR),
    ],
)
def test_what_a_check_raises_decides_its_verdict(faulty: DeviceClient, error: Exception, verdict: Verdict) -> None:
    entry = judge_case(check_case(raising(error)), faulty)
    assert entry.verdict is verdict
    assert str(error) in entry.reason


def test_a_check_that_holds_passes(faulty: DeviceClient) -> None:
    assert judge_case(check_case(lambda client: client.free(client.allocate(1))), faulty).verdict is Verdict.PASS


def test_a_case_whose_trial_cannot_be_built_is_our_error(faulty: DeviceClient) -> None:
    entry = judge_case(Case("ops/bug", Level.OPS, Tier.SMOKE, trial=lambda: trial("sum", "no such dtype")), faulty)
    assert entry.verdict is Verdict.ERROR
    assert entry.card is not None
    assert entry.card.suspect == "portkit"


def test_a_case_whose_kernel_leaves_its_buffers_is_our_error(faulty: DeviceClient) -> None:
    def outside() -> Trial:
        b = Builder("outside")
        out = b.buffer("out", "i32", 4, "write")
        b.grid(1)
        lane = b.lane(8)
        b.store(out, lane, lane)
        return Trial(b.build(), {}, {})

    assert judge_case(Case("ops/bug", Level.OPS, Tier.SMOKE, trial=outside), faulty).verdict is Verdict.ERROR


needs_fenv = pytest.mark.skipif(not fenv.supported(), reason="the layout of fenv_t is not known here")


@needs_fenv
def test_a_device_process_that_flushes_subnormals_does_not_matter_to_the_judge() -> None:
    with DeviceClient(f"{FAKES}:FLUSHES") as client:
        assert judge(client, "sum").verdict is Verdict.PASS


@needs_fenv
def test_a_judge_that_flushes_subnormals_notices_it(faulty: DeviceClient) -> None:
    fenv.flush_to_zero()
    try:
        entry = judge(faulty, "sum")
    finally:
        fenv.flush_to_zero(on=False)
    assert entry.verdict is Verdict.ERROR
    assert "floating-point" in entry.reason


def test_a_case_that_launches_nothing_passes(faulty: DeviceClient) -> None:
    def empty() -> Trial:
        b = Builder("empty")
        n = b.scalar("n", "i32")
        out = b.buffer("out", "i32", 4, "write")
        b.grid(n)
        lane = b.lane(4)
        b.store(out, lane, lane)
        return Trial(b.build(), {"n": 0}, {})

    assert judge_case(
        Case("ops/none", Level.OPS, Tier.SMOKE, (Cell("store", "i32"),), trial=empty), faulty
    ).verdict is (Verdict.PASS)


def test_a_card_with_nan_and_infinity_in_it_can_be_written_and_read_again() -> None:
    def scaled() -> Trial:
        b = Builder("wrong_scaled")
        b.scalar("a", "f32")
        x, out = b.buffer("x", "f32", 4, "read"), b.buffer("out", "f32", 4, "write")
        b.grid(1)
        lane = b.lane(4)
        b.store(out, lane, b.load(x, lane))
        return Trial(b.build(), {"a": np.nan}, {"x": np.full(4, np.inf, np.float32)})

    with DeviceClient(f"{FAKES}:FAULTY") as client:
        entry = judge_case(Case("ops/scaled", Level.OPS, Tier.SMOKE, trial=scaled), client)
    assert entry.verdict is Verdict.FAIL
    assert msgspec.json.decode(msgspec.json.encode(entry), type=Entry) == entry
    assert entry.card is not None
    assert entry.card.scalars == {"a": "nan"}
    assert "inf (0x7f800000)" in render(entry.card)
    assert "scalars   a = nan" in render(entry.card)


def test_a_readwrite_buffer_starts_from_its_input(faulty: DeviceClient) -> None:
    def update() -> Trial:
        b = Builder("update")
        out = b.buffer("out", "i32", 8, "readwrite")
        b.grid(1)
        lane = b.lane(4)
        b.store(out, lane, b.add(b.load(out, lane), lane))
        return Trial(b.build(), {}, {"out": np.arange(8, dtype=np.int32) * 5})

    assert judge_case(Case("ops/update", Level.OPS, Tier.SMOKE, trial=update), faulty).verdict is Verdict.PASS


FLUSHING = NumericLimits(subnormals={"f32": "flush"})


@pytest.mark.parametrize(
    ("dtypes", "flushed"), [((), {"f32", "bf16"}), (("bf16",), {"f32"}), (("f16",), {"f32", "bf16"})]
)
def test_bf16_that_is_carried_in_a_flushing_f32_is_flushed_with_it(dtypes: tuple[str, ...], flushed: set[str]) -> None:
    declared = Capabilities("chip", "1", "vendor", "stand-in", dtypes=(*BASE_DTYPES, *dtypes), numeric=FLUSHING)
    assert model_of(declared).flush == flushed


def test_a_launch_that_passes_at_first_and_not_when_repeated_is_replayed_as_often() -> None:
    with DeviceClient(f"{FAKES}:EVERY_THIRD") as client:
        entry = judge_case(launch_case("ops/add/sums", "sums"), client, repeat=3)
    assert (entry.verdict, entry.check, entry.runs) == (Verdict.FAIL, "repeat", 3)
    assert "passes at first, not when it is run again: out[0] is wrong" in entry.reason
    assert entry.card is not None
    assert entry.card.replay.endswith("--case 'ops/add/sums' --repeat 3")


def test_a_device_that_is_wrong_now_and_then_is_flaky_by_how_often() -> None:
    with DeviceClient(f"{FAKES}:EVERY_THIRD") as client:
        judge_case(launch_case("ops/add/sums", "sums"), client)
        entry = judge_case(launch_case("ops/add/sums", "sums"), client)
    assert (entry.verdict, entry.runs, entry.failed) == (Verdict.FLAKY, 22, 8)


def test_a_crash_that_does_not_come_again_is_flaky() -> None:
    with DeviceClient(f"{FAKES}:GOOD") as client:
        crashes = iter([DeviceLost("the device process died")])

        def check(device: DeviceClient) -> None:
            for error in crashes:
                device.kill()
                raise error

        entry = judge_case(check_case(check), client)
    assert (entry.verdict, entry.failed) == (Verdict.FLAKY, 1)
    assert "at first crash: the device process died" in entry.reason
