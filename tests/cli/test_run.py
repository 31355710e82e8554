"""`portkit run`: one kernel from a file, on a backend, alone or against the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from portkit.conformance.case import Trial
from portkit.conformance.trialfile import SavedTrial, save_trial
from portkit.spec.jsonform import to_json
from portkit.spec.text import parse
from tests.cli.calls import Portkit, one_line
from tests.conformance.suite import trial
from tests.conformance.test_replay import AXPY, OUTSIDE, RACE

WRONG = "tests.fakes.devices:FAULTY"


@pytest.fixture(autouse=True)
def _kernels() -> None:
    Path("axpy.pk").write_text(AXPY)
    Path("race.pk").write_text(RACE)
    Path("outside.pk").write_text(OUTSIDE)
    Path("wrong.pk").write_text(AXPY.replace("kernel axpy", "kernel wrong"))
    Path("axpy.json").write_bytes(to_json(parse(AXPY)))


def test_a_kernel_run_alone_shows_scalars_and_buffers(portkit: Portkit) -> None:
    called = portkit("run", "axpy.pk", "--set", "n=9", "--set", "a=0.5")
    assert called.status == 0
    lines = called.out.splitlines()
    assert lines[0] == "scalars   n = 9, a = 0.5"
    assert [line.split(":")[0] for line in lines[1:3]] == ["x         9 x float32", "y         9 x float32"]
    assert lines[3].startswith("compiled in ")


def test_a_kernel_in_json_runs_like_its_text(portkit: Portkit) -> None:
    text, json = (portkit("run", name, "--set", "n=4").out.splitlines()[:3] for name in ("axpy.pk", "axpy.json"))
    assert text == json


def test_a_kernel_that_is_right_passes_against_the_reference(portkit: Portkit) -> None:
    called = portkit("run", "axpy.pk", "--against", "reference")
    assert called.status == 0
    assert "pass: cpu against the reference, 256 elements" in called.out


def test_a_wrong_result_exits_with_1_and_shows_the_card(portkit: Portkit) -> None:
    called = portkit("run", "wrong.pk", "--against", "reference", "--set", "n=64", "-b", WRONG)
    assert called.status == 1
    assert f"fail: {WRONG} against the reference, 64 elements" in called.out
    assert "y[0] is wrong" in called.out
    assert "    kernel wrong" in called.out
    assert "evaluator of" not in called.out


def test_the_generated_source_is_shown_on_request(portkit: Portkit) -> None:
    assert "define" not in portkit("run", "axpy.pk").out
    assert "define" in portkit("run", "axpy.pk", "--source").out
    wrong = ("run", "wrong.pk", "--against", "reference", "--set", "n=64", "-b", WRONG, "--source")
    assert "evaluator of wrong" in portkit(*wrong).out


def test_a_malformed_kernel_is_refused_with_a_caret_below_the_place(portkit: Portkit) -> None:
    Path("bad.pk").write_text(AXPY.replace("v = load x i", "v = laod x i"))
    called = portkit("run", "bad.pk")
    assert called.status == 2
    message, source, caret = called.error.splitlines()
    assert "load" in message
    assert source.strip() == "v = laod x i"
    assert source[caret.index("^") :].startswith("laod")


def test_a_race_is_refused_as_the_kernels_fault(portkit: Portkit) -> None:
    called = portkit("run", "race.pk", "--against", "reference", "--set", "n=4")
    assert called.status == 2
    assert "race" in one_line(called) or "valid_c" in one_line(called)


def test_an_access_outside_a_buffer_is_refused(portkit: Portkit) -> None:
    called = portkit("run", "outside.pk", "--set", "n=4")
    assert called.status == 2
    assert "accesses memory outside its buffer" in one_line(called)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.pk"], "cannot read missing.pk: No such file or directory"),
        (["."], "cannot read .: Is a directory"),
        (["axpy.pk", "--set", "n"], "--set takes NAME=VALUE, got 'n'"),
        (["axpy.pk", "--set", "=3"], "--set takes NAME=VALUE"),
        (["axpy.pk", "--set", "nn=3"], "has no scalar 'nn'; its scalars are n, a"),
        (["axpy.pk", "--set", "n=x"], "n=x is not a number of dtype i32"),
        (["axpy.pk", "--set", "n=2000000000"], "give smaller scalars with --set"),
        (["axpy.pk", "--set", "n=-5"], "give larger scalars with --set"),
        (["axpy.pk", "-b", "cpuu"], "; did you mean cpu?"),
        (["axpy.pk", "--inputs", "missing.npz"], "cannot read missing.npz"),
        (["axpy.pk", "--inputs", "axpy.pk"], "is not a .npz file"),
        (["axpy.pk", "--against", "reference", "--save", "x.npz"], "--save keeps the buffers of a run alone"),
        (["axpy.pk", "--save", "missing/x.npz"], "cannot write missing/x.npz"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_refused_in_one_line(portkit: Portkit, arguments: list[str], message: str) -> None:
    called = portkit("run", *arguments)
    assert called.status == 2
    assert message in one_line(called)


def test_a_backend_that_cannot_run_here_exits_with_3(portkit: Portkit) -> None:
    called = portkit("run", "axpy.pk", "-b", "tests.fakes.devices:CANNOT_RUN")
    assert called.status == 3
    assert "no such chip in this machine" in one_line(called)


def test_a_device_that_dies_exits_with_1_in_one_line(portkit: Portkit) -> None:
    Path("crash.pk").write_text(AXPY.replace("kernel axpy", "kernel crash"))
    called = portkit("run", "crash.pk", "-b", WRONG)
    assert called.status == 1
    assert "portkit: error: " in called.error


def test_what_is_saved_can_be_given_as_input(portkit: Portkit) -> None:
    called = portkit("run", "axpy.pk", "--set", "n=6", "--save", "out.npz")
    assert called.out.splitlines()[-1] == "wrote out.npz"
    with np.load("out.npz") as saved:
        x, y = saved["x"], saved["y"]
    portkit("run", "axpy.pk", "--set", "n=6", "--set", "a=2", "--inputs", "out.npz", "--save", "again.npz")
    with np.load("again.npz") as again:
        assert np.array_equal(again["y"], (2 * x + y).astype(np.float32))


def test_json_is_all_that_is_printed_also_when_saving(portkit: Portkit) -> None:
    told = portkit("run", "axpy.pk", "--set", "n=3", "--save", "out.npz", "--json").told
    assert told["scalars"] == {"n": 3, "a": 1.0}
    assert told["saved"] == "out.npz"
    assert told["source"] is None
    assert [float(v) for v in told["outputs"]["x"]] == np.load("out.npz")["x"].tolist()


def test_a_verdict_as_json(portkit: Portkit) -> None:
    called = portkit("run", "wrong.pk", "--against", "reference", "--set", "n=64", "-b", WRONG, "--json")
    assert called.status == 1
    assert (called.told["verdict"], called.told["wrong"]) == ("fail", 1)
    assert called.told["card"]["mismatch"]["buffer"] == "y"


def test_the_seed_fixes_what_is_not_given(portkit: Portkit) -> None:
    first, again, other = (portkit("run", "axpy.pk", "--seed", seed, "--json").told["outputs"] for seed in "112")
    assert first == again
    assert first != other


# --- trial files --------------------------------------------------------------------------------------------------


def test_a_trial_brings_its_scalars_and_inputs(portkit: Portkit) -> None:
    inputs = {"x": np.array([1, 2], np.float32), "y": np.array([10, 20], np.float32)}
    save_trial(Path("a.trial.json"), SavedTrial(Trial(parse(AXPY), {"n": 2, "a": 0.5}, inputs)))
    told = portkit("run", "a.trial.json", "--json").told
    assert told["scalars"] == {"n": 2, "a": 0.5}
    assert told["outputs"]["y"] == ["10.5", "21.0"]
    assert portkit("run", "a.trial.json", "--against", "reference").status == 0


@pytest.mark.parametrize("option", [("--set", "n=3"), ("--inputs", "x.npz")])
def test_a_trial_takes_no_scalars_and_inputs_besides(portkit: Portkit, option: tuple[str, str]) -> None:
    save_trial(Path("a.trial.json"), SavedTrial(trial("sum")))
    called = portkit("run", "a.trial.json", *option)
    assert called.status == 2
    assert "a.trial.json holds its scalars and inputs; leave out --set and --inputs" in one_line(called)


def test_a_trial_that_does_not_fit_is_refused(portkit: Portkit) -> None:
    save_trial(Path("a.trial.json"), SavedTrial(trial("sum")))
    text = Path("a.trial.json").read_text()
    Path("a.trial.json").write_text(text.replace('"extent": 64', '"extent": 63', 1))
    called = portkit("run", "a.trial.json")
    assert called.status == 2
    assert "buffer x: the kernel declares 64 x f32, the file has 63 x f32" in one_line(called)
