"""The scaffold is small, clean and typed, so that a vendor can read it in a quarter of an hour and build on it."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest

from portkit.cli.new import MAX_NAME
from tests.meta.test_layers import imported_modules, layer_of
from tests.scaffold.ports import NAME, PORTKIT, Port, call

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES = 300
ALLOWED = {"contract", "errors", "spec", "backends.toolkit"}
RULES = "A,B,C4,E,F,FURB,I,PERF,PIE,PT,PTH,RET,RUF,SIM,UP,W"
TYPES = {
    "typeCheckingMode": "strict",
    "pythonVersion": "3.11",
    # llvmlite has no types
    **dict.fromkeys(("reportMissingTypeStubs", "reportUnknownMemberType", "reportUnknownVariableType"), False),
    **dict.fromkeys(("reportUnknownArgumentType", "reportUnknownParameterType"), False),
}


def package(port: Port) -> list[Path]:
    return sorted((port.source / f"portkit_{NAME}").iterdir())


def test_a_port_is_short(port: Port) -> None:
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in package(port)}
    assert sum(lines.values()) <= MOST_LINES, lines


def test_a_port_imports_what_a_backend_may(port: Port) -> None:
    modules = [
        module
        for path in package(port)
        if path.suffix == ".py"
        for _, module in imported_modules(ast.parse(path.read_text(encoding="utf-8")))
        if module.startswith("portkit.")
    ]
    assert {layer_of(module) for module in modules} == ALLOWED


@pytest.mark.parametrize("name", ["x", "x" * MAX_NAME], ids=["shortest", "longest"])
def test_a_port_of_any_name_pleases_the_linter(name: str, tmp_path: Path) -> None:
    assert call((*PORTKIT, "new", name, "--into", "port"), tmp_path).status == 0
    for command in (("check", "--select", RULES), ("format", "--check")):
        ended = call((sys.executable, "-m", "ruff", *command, "--no-cache", "port"), tmp_path)
        assert ended.status == 0, ended.out


def test_a_port_is_typed(port: Port) -> None:
    project = port.folder / "pyright.json"
    paths = {"include": [str(port.source)], "extraPaths": [str(ROOT), str(port.source)]}
    project.write_text(json.dumps({**TYPES, **paths}), encoding="utf-8")
    checker = (sys.executable, "-m", "basedpyright", "--project", str(project), "--pythonpath", sys.executable)
    ended = port.run(*checker)
    assert ended.status == 0, ended.out
