"""The scaffold is small, clean and typed, so that a vendor can read it in a quarter of an hour and build on it."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest

from portkit.cli.new import MAX_NAME
from tests.meta.test_layers import imported_modules, layer_of
from tests.scaffold.conftest import PortOf
from tests.scaffold.ports import KINDS, NAME, PORTKIT, Port, call

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES = {"python": 300, "c": 380}
"""Of the package, by the language of its driver."""
OF_A_CHIP = 450
"""Lines more where the stand-in is an emulated chip: the chip, its instructions, and how they are selected."""
ALLOWED = {"contract", "errors", "spec", "backends.drivers", "backends.toolkit"}
RULES = "A,B,C4,E,F,FURB,I,PERF,PIE,PT,PTH,RET,RUF,SIM,UP,W"
TYPES = {
    "typeCheckingMode": "strict",
    "pythonVersion": "3.11",
    # llvmlite has no types, cffi those of what it declares only
    **dict.fromkeys(("reportMissingTypeStubs", "reportUnknownMemberType", "reportUnknownVariableType"), False),
    **dict.fromkeys(("reportUnknownArgumentType", "reportUnknownParameterType"), False),
}


@pytest.fixture(params=KINDS, ids="-".join, name="kind")
def _kind(request: pytest.FixtureRequest, port_of: PortOf) -> Port:
    return port_of(*request.param)


def package(port: Port, *suffixes: str) -> list[Path]:
    return sorted(path for path in (port.source / f"portkit_{NAME}").iterdir() if path.suffix in suffixes)


def test_a_port_is_short(kind: Port) -> None:
    files = package(kind, ".py", ".c", ".toml")
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert sum(lines.values()) <= MOST_LINES[kind.driver] + OF_A_CHIP * (kind.route == "isa"), lines


def test_no_line_of_a_driver_in_c_is_longer_than_those_of_the_header(port_of: PortOf) -> None:
    lines = [
        line
        for route in ("llvm", "isa")
        for path in package(port_of(route, "c"), ".c", ".h")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert max(map(len, lines)) <= 120


def test_a_port_imports_what_a_backend_may(kind: Port) -> None:
    modules = [
        module
        for path in package(kind, ".py")
        for _, module in imported_modules(ast.parse(path.read_text(encoding="utf-8")))
        if module.startswith("portkit.")
    ]
    assert {layer_of(module) for module in modules} == ALLOWED


@pytest.mark.parametrize(("route", "driver"), KINDS)
@pytest.mark.parametrize("name", ["x", "x" * MAX_NAME], ids=["shortest", "longest"])
def test_a_port_of_any_name_pleases_the_linter(name: str, route: str, driver: str, tmp_path: Path) -> None:
    made = call((*PORTKIT, "new", name, "--into", "port", "--route", route, "--driver", driver), tmp_path)
    assert made.status == 0
    for command in (("check", "--select", RULES), ("format", "--check")):
        ended = call((sys.executable, "-m", "ruff", *command, "--no-cache", "port"), tmp_path)
        assert ended.status == 0, ended.out


def test_a_port_is_typed(kind: Port) -> None:
    project = kind.folder / "pyright.json"
    paths = {"include": [str(kind.source)], "extraPaths": [str(ROOT), str(kind.source)]}
    project.write_text(json.dumps({**TYPES, **paths}), encoding="utf-8")
    checker = (sys.executable, "-m", "basedpyright", "--project", str(project), "--pythonpath", sys.executable)
    ended = kind.run(*checker)
    assert ended.status == 0, ended.out
