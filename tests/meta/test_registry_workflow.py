"""The workflow of a registry repository: its commands, as they stand there, on submissions made with git."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from typer.main import get_command

from portkit.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "ci" / "workflows" / "registry.yml"
ONLY_NEW = "only new reports"
THERE, NEW = "chip/2026-03-04-0123456789ab", "other/2026-05-06-ba9876543210"


def workflow() -> dict[Any, Any]:
    return cast("dict[Any, Any]", yaml.safe_load(FILE.read_text(encoding="utf-8")))


def steps(job: str) -> list[dict[str, Any]]:
    return workflow()["jobs"][job]["steps"]


def git(repository: Path, *arguments: str) -> None:
    names = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgSign=false")
    subprocess.run(["git", *names, *arguments], cwd=repository, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A registry repository with one report."""
    folder = tmp_path / "repository"
    write(folder / "registry" / THERE / "report.json")
    write(folder / "registry" / "keys.toml")
    write(folder / "requirements.txt")
    git(folder, "init", "--quiet")
    return committed(folder)


def write(path: Path, content: str = "{}\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def committed(repository: Path) -> Path:
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "x")
    return repository


def submitted(repository: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Commit what was changed, and run the step on it as a runner does."""
    [step] = [step for step in steps("submission") if step.get("name") == ONLY_NEW]
    environment = {**os.environ, "RUNNER_TEMP": str(tmp_path)}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(command, cwd=committed(repository), env=environment, capture_output=True, text=True)


def test_the_folder_of_a_new_report_is_taken(repository: Path, tmp_path: Path) -> None:
    for name in ("report.json", "manifest.json", "report.html", "badge.svg", "attestation.json"):
        write(repository / "registry" / NEW / name)
    done = submitted(repository, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


Edit = Callable[[Path], Any]
EDITS: dict[str, tuple[Edit, str]] = {
    "keys": (lambda r: write(r / "registry" / "keys.toml", "mine"), "changes nothing else"),
    "requirements": (lambda r: write(r / "requirements.txt", "mine"), "changes nothing else"),
    "workflow": (lambda r: write(r / ".github" / "workflows" / "registry.yml"), "changes nothing else"),
    "another's report": (lambda r: write(r / "registry" / THERE / "report.json", "[]"), "changes nothing else"),
    "deletion": (lambda r: (r / "registry" / THERE / "report.json").unlink(), "changes nothing else"),
    "renaming": (lambda r: (r / "registry" / "chip").rename(r / "registry" / "mine"), "changes nothing else"),
    "deeper folder": (lambda r: write(r / "registry" / NEW / "a" / "report.json"), "changes nothing else"),
    "line feed": (lambda r: write(r / "registry" / "a\nA" / "report.json"), "changes nothing else"),
    "addition to a report": (lambda r: write(r / "registry" / THERE / "report.html"), "was published already"),
    "program": (lambda r: executable(r / "registry" / NEW / "report.json"), "neither links nor programs"),
    "link": (lambda r: linked(r / "registry" / NEW / "report.json"), "neither links nor programs"),
}


def executable(path: Path) -> None:
    write(path)
    path.chmod(0o755)


def linked(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("name", EDITS)
def test_whatever_else_a_submission_changes_is_refused(repository: Path, tmp_path: Path, name: str) -> None:
    edit, message = EDITS[name]
    write(repository / "registry" / NEW / "manifest.json")
    edit(repository)
    done = submitted(repository, tmp_path)
    assert done.returncode == 1
    assert message in done.stderr


def test_nothing_of_a_submission_is_used_before_it_was_looked_at() -> None:
    found = steps("submission")
    looked_at = next(n for n, step in enumerate(found) if step.get("name") == ONLY_NEW)
    assert [step.get("uses") for step in found[:looked_at]] == ["actions/checkout@v4"]
    assert found[0]["with"]["persist-credentials"] is False


def test_a_submission_gets_a_token_that_reads_only() -> None:
    assert workflow()["permissions"] == {"contents": "read"}
    assert "permissions" not in workflow()["jobs"]["submission"]


def test_no_text_of_a_submission_becomes_part_of_a_command() -> None:
    commands = [step["run"] for job in workflow()["jobs"].values() for step in job["steps"] if "run" in step]
    assert len(commands) > 4
    assert [command for command in commands if "${{" in command] == []


def test_every_command_of_portkit_that_it_runs_exists_and_has_its_options() -> None:
    known = cast("Any", get_command(app)).commands
    found = re.findall(r"portkit (\w+)(.*)", "\n".join(step.get("run", "") for step in steps("site")))
    assert [name for name, _ in found] == ["verify", "matrix"]
    for name, rest in found:
        options = {option for parameter in known[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options
