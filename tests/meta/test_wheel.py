"""What `pip install portkit` brings: the wheel is built as a user would build it, and looked into."""

from __future__ import annotations

import email
import email.message
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def info(wheel: zipfile.ZipFile, name: str) -> str:
    inside = next(path for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))
    return wheel.read(inside).decode("utf-8")


def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    return email.message_from_string(info(wheel, "METADATA"))


@pytest.mark.parametrize("folder", ["portkit", "templates"])
def test_the_wheel_holds_every_file_of(wheel: zipfile.ZipFile, folder: str) -> None:
    files = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    prefix = "portkit/templates" if folder == "templates" else "portkit"
    expected = {f"{prefix}/{path.relative_to(ROOT / folder).as_posix()}" for path in files}
    assert expected, f"{folder}/ is empty"
    assert expected - set(wheel.namelist()) == set()


def test_the_wheel_holds_nothing_but_the_package(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"portkit"}


def test_the_package_is_marked_as_typed(wheel: zipfile.ZipFile) -> None:
    assert "portkit/py.typed" in wheel.namelist()
    assert "Typing :: Typed" in metadata(wheel).get_all("Classifier", [])


def test_the_licence_is_named_and_included(wheel: zipfile.ZipFile) -> None:
    assert metadata(wheel)["License-Expression"] == "Apache-2.0"
    assert "Apache License" in info(wheel, "licenses/LICENSE")


def test_the_command_and_every_backend_are_entry_points(wheel: zipfile.ZipFile) -> None:
    lines = info(wheel, "entry_points.txt").splitlines()
    assert "portkit = portkit.__main__:main" in lines
    folders = (path.parent.name for path in (ROOT / "portkit" / "backends").glob("*/capabilities.toml"))
    assert {line for line in lines if "BACKEND" in line} == {f"{n} = portkit.backends.{n}:BACKEND" for n in folders}
    assert "[pytest11]" not in lines, "a judge that loads itself into every pytest run changes other people's runs"


def test_dependencies_have_lower_bounds_only() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = [entry for entries in project["optional-dependencies"].values() for entry in entries]
    for requirement in [*project["dependencies"], *optional]:
        entry, _, _ = requirement.partition(";")
        if entry.startswith(f"{project['name']}["):
            continue  # extras of this very version
        name, bound, version = entry.partition(">=")
        assert bound, f"{entry} has no lower bound"
        assert name.strip()
        assert not set(version) & set("<>=!~,*"), f"{entry} has more than a lower bound"


def test_the_version_is_the_one_the_package_reports(wheel: zipfile.ZipFile) -> None:
    import portkit

    assert metadata(wheel)["Version"] == portkit.__version__
