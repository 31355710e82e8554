"""A port with a documented fault: exactly the right cases fail or are blocked, and the card names what is at fault."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from portkit.conformance.select import matches
from tests.scaffold.conftest import PortOf
from tests.scaffold.ports import Port


@dataclass(frozen=True, slots=True)
class Break:
    """One documented fault: in *file* of a port, *old* becomes *new*; the fields of breaks.toml."""

    title: str
    file: str
    old: str
    new: str
    cases: list[str]
    fails: list[str]
    blocked: list[str]
    shows: list[str]
    route: str = "llvm"
    driver: str = "python"

    def verdict(self, case_id: str) -> str:
        named = {"fail": self.fails, "blocked": self.blocked}
        found = [verdict for verdict, patterns in named.items() if any(matches(p, case_id) for p in patterns)]
        return found[0] if found else "pass"


BREAKS = [Break(**entry) for entry in tomllib.loads(Path(__file__).with_name("breaks.toml").read_text())["break"]]


@pytest.mark.parametrize("fault", BREAKS, ids=lambda fault: fault.title.replace(" ", "_"))
def test_a_documented_fault_is_found_and_named(fault: Break, port_of: PortOf) -> None:
    port = port_of(fault.route, fault.driver)
    with port.changed(fault.file, fault.old, fault.new):
        ended, verdicts = port.conform(fault.cases, f"out/{BREAKS.index(fault)}")
    assert ended.status == 1
    assert verdicts == {case_id: fault.verdict(case_id) for case_id in verdicts}
    assert [p for p in (*fault.fails, *fault.blocked) if not any(matches(p, case_id) for case_id in verdicts)] == []
    assert [text for text in fault.shows if text not in ended.out] == []


def test_a_port_that_declares_less_passes_with_less(port: Port) -> None:
    kept = next(fault for fault in BREAKS if "promise" in fault.title)
    less = port.changed("portkit_mychip/capabilities.toml", '["vec", "group", "fma"]', '["vec", "group"]')
    with port.changed(kept.file, kept.old, kept.new), less:
        ended, verdicts = port.conform(kept.cases, "out/less")
    assert ended.status == 0
    assert set(verdicts.values()) == {"pass"}
    assert [case_id for case_id in verdicts if matches("ops/mul.add", case_id)] == []
