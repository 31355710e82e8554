"""The steps of the scaffold's README: after each, the commands under it pass, and before it they do not.

The chip here is a driver with memory of its own, at addresses that mean nothing to the host.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from portkit.conformance.case import Cell, Tier
from portkit.conformance.cases.collect import collect
from portkit.conformance.select import matches, select
from portkit.contract import Capabilities, load_capabilities
from portkit.spec.forms import FORMS
from tests.scaffold.conftest import PortOf
from tests.scaffold.ports import KINDS, NAME, Port

FAR_MEMORY = '''

class FarMemory:
    """Buffers far from the host's addresses."""

    def __init__(self):
        super().__init__()
        self.blocks, self.end = {}, 1 << 52

    def place(self, address):
        start = max(start for start in self.blocks if start <= address)
        return self.blocks[start], address - start
'''
STEPS = {
    2: """
    def allocate(self, size, align):
        start = -(-self.end // align) * align
        self.end = start + size + 1
        self.blocks[start] = bytearray(size)
        return start

    def free(self, address):
        del self.blocks[address]
""",
    3: """
    def write(self, address, data):
        block, at = self.place(address)
        block[at : at + len(data)] = data

    def read(self, address, size):
        block, at = self.place(address)
        return bytes(block[at : at + size])

    def copy(self, target, source, size):
        self.write(target, self.read(source, size))
""",
}
NEW_CHIP = "\n\nStandIn = Chip\n\n\nclass Chip(FarMemory, StandIn):\n    pass\n"


def step_text(readme: str, number: int) -> str:
    return re.split(r"^### \d\. ", readme, flags=re.MULTILINE)[number + 1]


def patterns(command: str) -> tuple[str, ...]:
    words = shlex.split(command)
    return tuple(words[at + 1] for at, word in enumerate(words) if word == "--case")


def conform_commands(text: str) -> list[str]:
    return re.findall(rf"portkit conform --backend {NAME}[^`\n]*", text)


@pytest.fixture(scope="module")
def readme(port: Port) -> str:
    return (port.source / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def capabilities(port: Port) -> Capabilities:
    return load_capabilities(port.source / f"portkit_{NAME}/capabilities.toml")


def with_steps(port: Port, upto: int) -> str:
    """Return the text of a driver in which the steps of memory up to a number are done."""
    whole = (port.installed / f"portkit_{NAME}/standin.py").read_text(encoding="utf-8")
    return whole + FAR_MEMORY + "".join(text for number, text in STEPS.items() if number <= upto) + NEW_CHIP


@pytest.mark.parametrize(("route", "driver"), KINDS)
def test_a_readme_names_files_and_functions_that_the_port_has(route: str, driver: str, port_of: PortOf) -> None:
    source = port_of(route, driver).source
    named = set(
        re.findall(r"`((?:[\w./]+\.(?:py|c|h|toml|pk)|Makefile)|chip_\w+|Chip\.\w+|[A-Z]{4,})`", whole_text(source))
    )
    package = source / f"portkit_{NAME}"
    texts = "".join(path.read_text(encoding="utf-8") for path in package.iterdir() if path.suffix in (".py", ".c"))
    places = {path.name for path in source.rglob("*")}
    assert {"capabilities.toml", "codegen.py"} <= {name.rpartition("/")[2] for name in named}
    assert [n for n in named if n.rpartition("/")[2] not in places and n.removeprefix("Chip.") not in texts] == []


def whole_text(source: Path) -> str:
    return (source / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("number", STEPS)
def test_a_step_of_memory_passes_its_own_cases(number: int, port: Port, readme: str) -> None:
    whole = with_steps(port, 0).partition(FAR_MEMORY)[0]
    (command,) = conform_commands(step_text(readme, number))
    with port.changed(f"portkit_{NAME}/standin.py", whole, with_steps(port, number)):
        ended, verdicts = port.conform(patterns(command), f"out/step{number}")
    assert ended.status == 0, ended.out
    assert set(verdicts.values()) == {"pass"}


def test_a_step_that_is_not_done_shows_as_a_crash_and_what_needs_it_is_blocked(port: Port) -> None:
    whole = with_steps(port, 0).partition(FAR_MEMORY)[0]
    needed, needs_it = "device/transfer/size_64", "device/copy/whole"
    with port.changed(f"portkit_{NAME}/standin.py", whole, with_steps(port, 2)):
        ended, verdicts = port.conform([needed, needs_it], "out/undone")
    assert ended.status == 1
    assert verdicts == {needed: "crash", needs_it: "blocked"}


def test_a_port_that_declares_the_base_only_passes(port: Port) -> None:
    declared = f"portkit_{NAME}/capabilities.toml"
    with (
        port.changed(declared, '"f32", "f16"]', '"f32"]'),
        port.changed(declared, '["vec", "group", "fma"]', "[]"),
        port.changed(declared, "lanes = [4]", "lanes = []"),
        port.changed(declared, "strict = true", "strict = false"),
    ):
        ended, verdicts = port.conform(["ops", "kernels/math"], "out/base")
    assert ended.status == 0
    assert set(verdicts.values()) == {"pass"}


def test_the_compiler_half_can_be_pointed_at_another_target(port: Port) -> None:
    text = (port.installed / f"portkit_{NAME}/codegen.py").read_text(encoding="utf-8")
    recipe = re.findall(r"`(llvm\.[^`]*)`", text)
    body = "\n    ".join(["import llvmlite.binding as llvm", *recipe[:-1], f"return {recipe[-1]}"])
    with port.changed(f"portkit_{NAME}/codegen.py", "return host_machine()", body):
        shown = port.run(sys.executable, "-m", f"portkit_{NAME}.codegen", f"portkit-{NAME}/axpy.pk")
    assert "fmul.s" in shown.out, shown.error


@pytest.mark.parametrize(("route", "driver"), KINDS)
def test_every_conform_command_of_a_readme_selects_cases(
    route: str, driver: str, port_of: PortOf, capabilities: Capabilities
) -> None:
    commands = conform_commands((port_of(route, driver).source / "README.md").read_text(encoding="utf-8"))
    assert len(commands) > len(STEPS)
    cases = collect(capabilities, "compute")
    assert [command for command in commands if not select(cases, Tier.STANDARD, patterns(command))] == []


BELONGS: dict[str, Callable[[Cell], bool]] = {
    "f16": lambda cell: cell.dtype == "f16",
    "vec": lambda cell: cell.lanes > 1,
    "group": lambda cell: FORMS[cell.form].extension == "group",
    "fma": lambda cell: FORMS[cell.form].extension == "fma",
}
"""By what a row of step 6 declares, whether a cell is there because of it."""


@pytest.mark.parametrize("declared", BELONGS)
def test_the_command_of_a_declaration_runs_every_case_of_it(
    declared: str, readme: str, capabilities: Capabilities
) -> None:
    row = next(row for row in step_text(readme, 6).splitlines() if row.startswith("| ") and declared in row)
    (command,) = conform_commands(row)
    belongs = BELONGS[declared]
    cases = [case for case in collect(capabilities) if any(map(belongs, case.cells))]
    assert cases
    missed = [case.id for case in cases if not any(matches(pattern, case.id) for pattern in patterns(command))]
    assert missed == []
