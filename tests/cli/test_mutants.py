"""`portkit mutants`: what it finds, lists and refuses."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from portkit.cli import output
from portkit.conformance.mutants.table import distinguishable, equivalent
from tests.cli.calls import Portkit, one_line

FAULT = ("--mutant", "mul-hi-is-unsigned", "--case", "ops/mul.hi/i32")


def test_it_names_the_case_that_finds_a_fault(portkit: Portkit) -> None:
    called = portkit("mutants", *FAULT)
    assert called.status == 0
    assert "ops/mul.hi/i32/random" in called.out
    assert "1 of 1 (100.0 %)" in called.out


def test_a_fault_that_the_chosen_cases_do_not_find_survives(portkit: Portkit) -> None:
    called = portkit("mutants", "--mutant", "copy-is-short", "--case", "device/info")
    assert called.status == 1
    assert "survives: copy-is-short" in called.out


def test_a_fault_that_cannot_show_is_counted_apart(portkit: Portkit) -> None:
    called = portkit("mutants", "--mutant", "xor-is-or", "--case", "ops/mul.hi/i32", "--json")
    found = json.loads(called.out)
    assert found["not_declared"] == ["xor-is-or"]
    assert found["tried"] == 0


def test_a_run_in_which_no_fault_can_show_does_not_pass(portkit: Portkit) -> None:
    assert portkit("mutants", "--mutant", "xor-is-or", "--case", "ops/mul.hi/i32").status == 1


def test_the_json_form_holds_killers_and_survivors(portkit: Portkit) -> None:
    found = json.loads(portkit("mutants", *FAULT, "--json").out)
    assert found["survivors"] == []
    assert "ops/mul.hi/i32/random" in found["killers"]["mul-hi-is-unsigned"]


def test_recorded_killers_are_replayed(portkit: Portkit) -> None:
    called = portkit("mutants", "--replay", "--mutant", "mul-hi-is-unsigned")
    assert called.status == 0
    assert "1 of 1 (100.0 %)" in called.out


def test_a_sample_is_as_large_as_asked_for(portkit: Portkit) -> None:
    listed = json.loads(portkit("mutants", "--list", "--sample", "7", "--json").out)
    assert len(listed["mutants"]) == 7


def test_the_list_has_every_fault_and_why_some_are_equivalent(portkit: Portkit) -> None:
    listed = json.loads(portkit("mutants", "--list", "--json").out)
    assert len(listed["mutants"]) == len(distinguishable())
    assert listed["equivalent"] == {mutant.name: mutant.equivalent for mutant in equivalent()}


def test_the_list_fits_a_terminal_and_loses_no_word(portkit: Portkit, monkeypatch: pytest.MonkeyPatch) -> None:
    piped = portkit("mutants", "--list").out
    monkeypatch.setattr(output, "console", Console(force_terminal=True, color_system=None, width=80))
    shown = portkit("mutants", "--list").out
    assert max(map(len, piped.splitlines())) > max(map(len, shown.splitlines())) == 80
    assert shown.split() == piped.split()


def test_an_equivalent_fault_is_not_planted_and_the_reason_is_said(portkit: Portkit) -> None:
    called = portkit("mutants", "--mutant", "add-operands-are-swapped")
    assert called.status == 2
    assert "cannot be told from a right device: addition commutes" in one_line(called)


def test_what_each_check_is_worth_is_read_off_the_record(portkit: Portkit) -> None:
    lost = json.loads(portkit("mutants", "--checks", "--json").out)
    assert lost["checks"]["values"]
    assert "ops/mul.hi" in lost["families"]


def test_an_unknown_fault_is_refused_with_near_names(portkit: Portkit) -> None:
    called = portkit("mutants", "--mutant", "barrier-droped")
    assert called.status == 2
    assert "barrier-dropped" in one_line(called)


def test_a_part_of_the_matrix_is_not_recorded(portkit: Portkit) -> None:
    called = portkit("mutants", "--record", *FAULT)
    assert called.status == 2
    assert "--record keeps a whole run" in one_line(called)


def test_a_backend_that_is_not_there_is_refused(portkit: Portkit) -> None:
    assert portkit("mutants", "--backend", "nosuch", *FAULT).status == 2
