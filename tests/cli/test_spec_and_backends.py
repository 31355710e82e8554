"""`portkit spec` and `portkit backends`."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from portkit.spec.forms import CLAUSES, EXTENSIONS, FORMS
from tests.cli.calls import Portkit, one_line


def test_the_table_lists_every_form_within_80_columns(portkit: Portkit) -> None:
    lines = portkit("spec").out.splitlines()
    assert {line.split()[0] for line in lines[4:]} == set(FORMS)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("topic", ["add", "mul.shr", "phi", "vec", "load.async", "loop", "mov"])
def test_a_topic_shows_forms_dtypes_and_clauses_within_80_columns(portkit: Portkit, topic: str) -> None:
    called = portkit("spec", topic)
    assert called.status == 0
    forms = [name for name, form in FORMS.items() if topic in (name, form.op.value, form.extension)]
    for clause in {clause for name in forms for clause in FORMS[name].clauses}:
        assert called.out.count(f"\n{clause}: ") == 1
    assert all(FORMS[name].summary in " ".join(called.out.split()) for name in forms)
    assert max(map(len, called.out.splitlines())) <= 80


def test_a_clause_is_shown_alone(portkit: Portkit) -> None:
    name = next(iter(CLAUSES))
    assert " ".join(portkit("spec", name).out.split()) == f"{name}: {CLAUSES[name]}"


@pytest.mark.parametrize(
    ("topic", "near"), [("ad", "add"), ("mul.sh", "mul.shr"), ("atomics", "atomic"), ("add_c9", "add_c1")]
)
def test_an_unknown_topic_is_refused_with_the_near_names(portkit: Portkit, topic: str, near: str) -> None:
    called = portkit("spec", topic)
    assert called.status == 2
    assert near in one_line(called).partition("did you mean")[2]


def test_the_spec_as_json_has_every_form(portkit: Portkit) -> None:
    told = portkit("spec", "--json").told
    assert [record["form"] for record in told["forms"]] == list(FORMS)
    assert told["opcodes"] == 12


def test_a_clause_as_json(portkit: Portkit) -> None:
    name = next(iter(CLAUSES))
    assert portkit("spec", name, "--json").told == {"clause": name, "text": CLAUSES[name]}


def test_an_extension_as_json_has_its_forms_alone(portkit: Portkit) -> None:
    name = next(name for name in EXTENSIONS if name == "group")
    assert {record["extension"] for record in portkit("spec", name, "--json").told["forms"]} == {name}


# --- backends -----------------------------------------------------------------------------------------------------


def installed(monkeypatch: pytest.MonkeyPatch, **references: str) -> None:
    """Let these backends be installed, for the device processes too: they are asked for by their reference."""
    points = {name: EntryPoint(name, reference, "portkit.backends") for name, reference in references.items()}
    monkeypatch.setattr("portkit.contract.installed_backends", lambda: {p.value: p for p in points.values()})


def test_an_installed_backend_is_listed_with_its_probe(portkit: Portkit) -> None:
    called = portkit("backends")
    assert called.status == 0
    assert ["cpu", "1.0", "silicon", "yes", "ready"] in [line.split() for line in called.out.splitlines()]


def test_backends_as_json(portkit: Portkit) -> None:
    [cpu] = [entry for entry in portkit("backends", "--json").told["backends"] if entry["name"] == "cpu"]
    assert (cpu["runs"], cpu["reason"], cpu["evidence"]) == (True, "", "silicon")
    assert "f32" in cpu["dtypes"]


def test_a_backend_that_cannot_run_here_says_why(portkit: Portkit, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, chip="tests.fakes.devices:CANNOT_RUN")
    assert "no   " in (out := portkit("backends").out)
    assert "no such chip in this machine" in out


def test_a_backend_that_is_broken_does_not_hide_the_others(portkit: Portkit, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, a="tests.fakes.devices:NO_SUCH_THING", b="tests.fakes.devices:GOOD")
    broken, good = portkit("backends", "--json").told["backends"]
    assert not broken["runs"]
    assert "cannot be imported" in broken["reason"]
    assert good["runs"]


def test_without_backends_there_is_still_a_next_step(portkit: Portkit, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    assert "portkit new NAME" in portkit("backends").out
    assert portkit("backends", "--json").told == {"backends": []}
