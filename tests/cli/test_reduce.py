"""`portkit reduce`: what it prints, saves and exits with, for files and for cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from portkit.conformance.trialfile import SavedTrial, load_trial, save_trial
from portkit.spec.text import parse
from tests.cli.calls import Portkit, one_line
from tests.conformance.suite import trial
from tests.conformance.test_replay import AXPY, RACE

FAULTY = "tests.fakes.devices:FAULTY"


@pytest.fixture(autouse=True)
def _kernels() -> None:
    Path("axpy.pk").write_text(AXPY)
    Path("race.pk").write_text(RACE)
    save_trial(Path("wrong.trial.json"), SavedTrial(trial("wrong")))
    save_trial(Path("crash.trial.json"), SavedTrial(trial("crash")))


def test_a_launch_that_fails_is_reduced_saved_and_replayed(portkit: Portkit) -> None:
    called = portkit("reduce", "wrong.trial.json", "-b", FAULTY)
    assert called.status == 1
    lines = called.out.splitlines()
    assert lines[0] == "fail: out[0] is wrong, and with it 1 of 1 elements"
    assert lines[1].startswith("reduced   from 11 to 5 instructions")
    assert lines[-2] == "wrote     reduced.trial.json"
    assert lines[-1] == f"replay    portkit run reduced.trial.json --backend {FAULTY} --against reference"
    again = portkit(*lines[-1].split()[2:])
    assert again.status == 1
    assert "out[0] is wrong, and with it 1 of 1 elements" in again.out


def test_the_kernel_and_the_first_wrong_element_are_printed(portkit: Portkit) -> None:
    out = portkit("reduce", "wrong.trial.json", "-b", FAULTY).out
    assert "\n    kernel wrong\n" in out
    assert "\nactual    out[0] = " in out
    assert "\naccepted  " in out


def test_a_crash_is_reduced(portkit: Portkit) -> None:
    told = portkit("reduce", "crash.trial.json", "-b", FAULTY, "--json", "--seconds", "20").told
    assert (told["verdict"], told["check"]) == ("crash", "crash")
    assert told["instructions"] < told["before"]


def test_a_kernel_that_passes_leaves_nothing_to_reduce(portkit: Portkit) -> None:
    called = portkit("reduce", "axpy.pk", "--set", "n=7")
    assert called.status == 0
    assert called.out == "pass: axpy.pk does not fail on cpu; there is nothing to reduce\n"
    assert not list(Path().glob("*reduced*"))


def test_a_case_is_reduced_into_a_file_of_its_name(portkit: Portkit) -> None:
    called = portkit("reduce", "--case", "ops/add/f32/random", "--mutant", "add-rounds-toward-zero", "--json")
    assert called.status == 1
    assert called.told["file"] == "ops-add-f32-random.trial.json"
    saved = load_trial(Path(called.told["file"]))
    assert saved.case == "ops/add/f32/random"
    assert saved.expected == f"fail: {called.told['reason']}"
    assert saved.trial.kernel == parse(called.told["kernel"])
    assert portkit(*called.told["replay"].split()[1:]).status == 1


def test_a_launch_of_a_graph_is_reduced(portkit: Portkit) -> None:
    called = portkit("reduce", "--case", GRAPH, "--mutant", "add-rounds-toward-zero", "--json", "--out", "g.trial.json")
    assert called.status == 1
    assert called.told["instructions"] <= 8
    assert load_trial(Path("g.trial.json")).case == GRAPH


GRAPH = "tensors/map/add/f32"


def test_a_case_that_passes_exits_with_0(portkit: Portkit) -> None:
    called = portkit("reduce", "--case", "ops/add/f32/random", "--json")
    assert called.status == 0
    assert called.told == {"backend": "cpu", "verdict": "pass", "file": None}


def test_the_file_is_written_where_it_is_asked_for(portkit: Portkit) -> None:
    told = portkit("reduce", "wrong.trial.json", "-b", FAULTY, "--out", "new/a b.trial.json", "--json").told
    assert Path("new/a b.trial.json").is_file()
    assert "'new/a b.trial.json'" in told["replay"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a file, or a case with --case ID, and not both"),
        (["axpy.pk", "--case", "ops/add/f32/random"], "and not both"),
        (["missing.pk"], "cannot read missing.pk"),
        (["race.pk", "--set", "n=4"], "valid_c"),
        (["--case", "ops/add/f32/rondom"], "; did you mean ops/add/f32/random"),
        (["--case", "device/copy/whole"], "calls functions of the device and has no kernel"),
        (["--case", "ops/add/f32/random", "--set", "n=1"], "leave out --set and --inputs"),
        (["wrong.trial.json", "--set", "n=1"], "holds its scalars and inputs"),
        (["wrong.trial.json", "-b", FAULTY, "--out", "/proc/nowhere/a.trial.json"], "cannot write"),
        (["axpy.pk", "--mutant", "nothing"], "unknown mutant 'nothing'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_refused_in_one_line(portkit: Portkit, arguments: list[str], message: str) -> None:
    called = portkit("reduce", *arguments)
    assert called.status == 2
    assert message in one_line(called)
