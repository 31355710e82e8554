"""`ci/setup-env` on machines that lack things, shown by stand-ins for python and uv on PATH: nothing is downloaded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("sh", "dirname", "basename", "sed", "grep", "mv", "rm", "mkdir", "cp", "chmod", "cat")

# A python that makes environments out of copies of itself, only notes what pip is asked for, and is real otherwise.
PYTHON = """#!/bin/sh
case "$*" in
    *ensurepip*) exit ${{FAKE_NO_VENV:-0}} ;;
    *"version_info < (3, 11)"*) exit ${{FAKE_TOO_OLD:-0}} ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "venv" >>"$FAKE_LOG" ;;
    "-m pip install "*) echo "pip $*" >>"$FAKE_LOG"; exit ${{FAKE_PIP:-0}} ;;
    "-c import pip") exit ${{FAKE_NO_PIP:-0}} ;;
    *) exec {python} "$@" ;;
esac
"""

UV = """#!/bin/sh
case "$1" in
    venv) echo "uv venv" >>"$FAKE_LOG"; for last; do :; done; mkdir -p "$last/bin" && cp "$4" "$last/bin/python" ;;
    pip) echo "uv pip $*" >>"$FAKE_LOG" ;;
esac
"""


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


@dataclass
class Machine:
    """A checkout in a folder of its own, and a PATH that holds only what the test put there."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.root / "checkout/ci").mkdir(parents=True)
        shutil.copy(ROOT / "ci/setup-env", self.root / "checkout/ci/setup-env")
        (self.root / "checkout/pyproject.toml").write_text("[project]\n", encoding="utf-8")
        (self.root / "bin").mkdir()
        for tool in TOOLS:
            (self.root / "bin" / tool).symlink_to(shutil.which(tool) or f"{tool} is not on PATH")
        self.add_python(self.root / "bin/python3")
        self.environ = {"PATH": str(self.root / "bin"), "FAKE_LOG": str(self.root / "log")}

    def add_python(self, path: Path) -> Path:
        return executable(path, PYTHON.format(python=sys.executable))

    @property
    def env(self) -> Path:
        return self.root / "checkout/.venv"

    @property
    def stamp(self) -> Path:
        return self.env / "portkit-stamp"

    def setup(self, argument: str = "run", **variables: str) -> subprocess.CompletedProcess[str]:
        script = self.root / "checkout/ci/setup-env"
        command = [str(self.root / "bin/sh"), str(script), argument]
        environ = {**self.environ, **variables}
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

    def log(self) -> list[str]:
        """What was asked of venv, pip and uv since the last call."""
        path = self.root / "log"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_bare_machine_gets_a_stamped_environment_from_venv(machine: Machine) -> None:
    assert machine.setup().returncode == 0
    made, installed = machine.log()
    assert made == "venv"
    assert installed.endswith(f"-e {machine.root}/checkout")
    assert "extras run" in machine.stamp.read_text(encoding="utf-8")


def test_a_finished_environment_is_left_alone(machine: Machine) -> None:
    machine.setup()
    machine.log()
    assert machine.setup().returncode == 0
    assert machine.log() == []


def test_the_dev_environment_serves_a_plain_run(machine: Machine) -> None:
    machine.setup("dev")
    assert "[dev]" in machine.log()[-1]
    machine.setup("run")
    assert machine.log() == []


def test_a_plain_environment_is_extended_in_place_for_dev(machine: Machine) -> None:
    machine.setup("run")
    machine.log()
    machine.setup("dev")
    assert [line.split()[0] for line in machine.log()] == ["pip"]


def test_a_changed_pyproject_is_installed_again_in_place(machine: Machine) -> None:
    machine.setup()
    machine.log()
    (machine.root / "checkout/pyproject.toml").write_text("[project]\n# changed\n", encoding="utf-8")
    machine.setup()
    assert [line.split()[0] for line in machine.log()] == ["pip"]


def test_a_failed_installation_leaves_no_stamp_and_says_what_to_do(machine: Machine) -> None:
    done = machine.setup(FAKE_PIP="1")
    assert done.returncode == 1
    assert "run make again" in done.stderr
    assert not machine.stamp.exists()


def test_an_environment_cut_off_half_way_is_rebuilt(machine: Machine) -> None:
    machine.setup(FAKE_PIP="1")
    debris = machine.env / "debris"
    debris.touch()
    machine.log()
    assert machine.setup().returncode == 0
    assert machine.log()[0] == "venv"
    assert not debris.exists()


def test_a_folder_without_an_interpreter_is_rebuilt(machine: Machine) -> None:
    (machine.env / "bin").mkdir(parents=True)
    assert machine.setup().returncode == 0
    assert machine.log()[0] == "venv"


def test_an_environment_that_a_person_put_there_is_filled_not_deleted(machine: Machine) -> None:
    machine.add_python(machine.env / "bin/python")
    treasure = machine.env / "treasure"
    treasure.touch()
    assert machine.setup().returncode == 0
    assert [line.split()[0] for line in machine.log()] == ["pip"]
    assert treasure.exists()


def test_an_environment_of_a_checkout_that_moved_is_rebuilt(machine: Machine) -> None:
    machine.setup()
    (machine.root / "checkout").rename(machine.root / "elsewhere")
    (machine.root / "checkout").symlink_to(machine.root / "elsewhere")
    machine.log()
    script = machine.root / "elsewhere/ci/setup-env"
    subprocess.run([str(machine.root / "bin/sh"), str(script)], env=machine.environ, check=True, capture_output=True)
    assert machine.log()[0] == "venv"


@pytest.mark.parametrize(("name", "package"), [("python3", "python3-venv"), ("python3.11", "python3.11-venv")])
def test_a_python_without_venv_says_which_package_to_install(machine: Machine, name: str, package: str) -> None:
    (machine.root / "bin/python3").rename(machine.root / "bin" / name)
    done = machine.setup(FAKE_NO_VENV="1")
    assert done.returncode == 1
    assert f"apt install {package}\n" in done.stderr
    assert not machine.env.exists()


def test_a_python_that_is_too_old_says_what_is_needed(machine: Machine) -> None:
    done = machine.setup(FAKE_TOO_OLD="1")
    assert done.returncode == 1
    assert "no Python 3.11 or later on PATH" in done.stderr


def test_uv_makes_and_fills_the_environment_where_there_is_one(machine: Machine) -> None:
    executable(machine.root / "bin/uv", UV)
    assert machine.setup(FAKE_NO_VENV="1", FAKE_NO_PIP="1").returncode == 0
    assert [line.split()[:2] for line in machine.log()] == [["uv", "venv"], ["uv", "pip"]]


def test_a_uv_that_fails_gives_way_to_venv(machine: Machine) -> None:
    executable(machine.root / "bin/uv", "#!/bin/sh\nexit 2\n")
    assert machine.setup().returncode == 0
    assert machine.log()[0] == "venv"


def test_an_active_virtual_environment_is_used_and_no_other_made(machine: Machine) -> None:
    active = machine.root / "mine"
    machine.add_python(active / "bin/python")
    assert machine.setup(VIRTUAL_ENV=str(active)).returncode == 0
    assert [line.split()[0] for line in machine.log()] == ["pip"]
    assert (active / "portkit-stamp").exists()
    assert not machine.env.exists()


def test_an_active_environment_without_pip_says_how_to_get_it(machine: Machine) -> None:
    active = machine.root / "mine"
    machine.add_python(active / "bin/python")
    done = machine.setup(VIRTUAL_ENV=str(active), FAKE_NO_PIP="1")
    assert done.returncode == 1
    assert f"{active}/bin/python -m ensurepip" in done.stderr


@pytest.mark.parametrize(("name", "expected"), [("work", "conda"), ("base", ".venv")])
def test_an_active_conda_environment_is_used_unless_it_is_the_base(machine: Machine, name: str, expected: str) -> None:
    conda = machine.root / "conda"
    machine.add_python(conda / "bin/python")
    done = machine.setup("--where", CONDA_PREFIX=str(conda), CONDA_DEFAULT_ENV=name)
    assert done.stdout.strip().endswith(expected)


def test_an_active_environment_that_is_gone_is_ignored(machine: Machine) -> None:
    assert machine.setup("--where", VIRTUAL_ENV=str(machine.root / "gone")).stdout == ".venv\n"


def test_an_unknown_argument_is_refused(machine: Machine) -> None:
    done = machine.setup("everything")
    assert done.returncode == 1
    assert "usage" in done.stderr


def test_no_line_of_the_script_calls_a_system_package_manager() -> None:
    script = (ROOT / "ci/setup-env").read_text(encoding="utf-8").splitlines()
    calls = [
        line for line in script if line.split()[:1] and line.split()[0] in {"apt", "apt-get", "dnf", "brew", "sudo"}
    ]
    assert calls == []
    assert os.access(ROOT / "ci/setup-env", os.X_OK)
