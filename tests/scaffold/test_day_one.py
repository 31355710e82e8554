"""What a vendor types on the first day, in this order."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from portkit.conformance.journal import read
from tests.scaffold.ports import NAME, PORTKIT, SECONDS, Ended, Port, call


@pytest.fixture(scope="module")
def conformed(port: Port) -> Ended:
    return port.portkit("conform", "--backend", NAME)


def test_a_new_port_is_listed_as_able_to_run_here(port: Port) -> None:
    line = next(line for line in port.portkit("backends").out.splitlines() if line.startswith(NAME))
    assert line.split()[:4] == [NAME, "0.1.0", "stand-in", "yes"]


@pytest.mark.timeout(SECONDS)
def test_a_new_port_passes_and_claims_no_more_than_its_evidence(conformed: Ended) -> None:
    assert (conformed.status, conformed.error) == (0, "")
    assert f"{NAME} 0.1.0: passes on its stand-in: core, standard tier" in conformed.out
    assert f"portkit publish out/{NAME} --registry ./registry --draft" in conformed.out


@pytest.mark.timeout(SECONDS)
@pytest.mark.usefixtures("conformed")
def test_a_new_port_is_judged_at_every_level(port: Port) -> None:
    entries = read(port.folder / f"out/{NAME}/journal.jsonl").entries.values()
    assert {entry.level for entry in entries} == {"device", "ops", "kernels"}


@pytest.mark.timeout(SECONDS)
def test_tensors_compute_on_a_new_port(port: Port) -> None:
    ended = port.portkit(
        "conform", "--backend", NAME, "--profile", "compute", "--case", "tensors", "--out", "out/tensors"
    )
    assert (ended.status, ended.error) == (0, "")


def test_the_kernel_of_a_new_port_runs_against_the_reference(port: Port) -> None:
    ended = port.portkit("run", f"portkit-{NAME}/axpy.pk", "-b", NAME, "--against", "reference", "--set", "n=1000")
    assert ended.status == 0, ended.error
    assert f"pass: {NAME} against the reference" in ended.out


def test_a_new_port_shows_the_code_of_a_kernel(port: Port) -> None:
    ended = port.run(sys.executable, "-m", f"portkit_{NAME}.codegen", f"portkit-{NAME}/axpy.pk")
    assert "\nkernel:" in ended.out, ended.error


@pytest.mark.timeout(SECONDS)
@pytest.mark.usefixtures("conformed")
def test_a_draft_is_published_and_shown_in_the_matrix(port: Port) -> None:
    published = port.portkit("publish", f"out/{NAME}", "--registry", "./registry", "--draft")
    assert published.status == 0, published.error
    assert port.portkit("matrix", "./registry", "--out", "site").status == 0
    assert NAME in (port.folder / "site/index.html").read_text(encoding="utf-8")


@pytest.mark.timeout(SECONDS)
@pytest.mark.usefixtures("conformed")
def test_a_stand_in_is_published_as_a_draft_only(port: Port) -> None:
    refused = port.portkit("publish", f"out/{NAME}", "--registry", "./elsewhere")
    assert refused.status == 2
    assert "--draft" in refused.error
    assert not (port.folder / "elsewhere").exists()


def test_the_tests_of_a_new_port_pass(port: Port) -> None:
    quick = ("-q", "-p", "no:cacheprovider", "-k", "not smoke", "--rootdir", str(port.source))
    ended = port.run(sys.executable, "-m", "pytest", *quick, str(port.source / "tests"))
    assert "3 passed, 1 deselected" in ended.out, ended.out


def test_a_port_can_be_made_by_an_installed_wheel(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    built = call((sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)), root)
    assert built.status == 0, built.error
    wheel = str(next(tmp_path.glob("*.whl")))
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index")
    call((sys.executable, "-m", "pip", "install", *quiet, "--target", str(tmp_path / "installed"), wheel), tmp_path)
    variables = {"PYTHONPATH": str(tmp_path / "installed")}
    found = call((sys.executable, "-c", "import portkit; print(portkit.__file__)"), tmp_path, variables)
    assert found.out.startswith(str(tmp_path / "installed"))
    assert call((*PORTKIT, "new", NAME, "--driver", "c"), tmp_path, variables).status == 0
    assert (tmp_path / f"portkit-{NAME}/portkit_{NAME}/standin.c").is_file()
    assert (tmp_path / f"portkit-{NAME}/portkit_{NAME}/portkit_device.h").is_file()
