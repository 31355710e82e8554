"""`portkit fuzz`: random kernels on a device, what they covered, and how to replay what fails."""

from __future__ import annotations

from tests.cli.calls import Portkit

BASE = ("--palette", "base", "--workers", 1)


def test_a_run_counts_verdicts_and_coverage(portkit: Portkit) -> None:
    called = portkit("fuzz", "-b", "cpu", *BASE, "--count", 5, "--json")
    assert called.status == 0
    assert called.told["counts"] == {"pass": 5}
    covered, declared = called.told["coverage"]["forms_by_dtype"]
    assert covered == declared > 50


def test_what_was_covered_is_printed_as_a_table(portkit: Portkit) -> None:
    called = portkit("fuzz", "-b", "cpu", *BASE, "--count", 1, "--from", 2_000_000)
    assert called.out.startswith("1 kernels from seed 2000000 in ")
    assert "with lanes and sources" in called.out


def test_few_kernels_that_pass_are_said_to_show_little(portkit: Portkit) -> None:
    called = portkit("fuzz", "-b", "cpu", *BASE, "--count", 1)
    assert "This shows little: " in called.out
    assert "    portkit fuzz --backend cpu --from 1 --palette base --count 1000\n" in called.out


def test_time_that_is_up_ends_the_run_without_fault(portkit: Portkit) -> None:
    called = portkit("fuzz", "-b", "cpu", *BASE, "--seconds", 0.1, "--json")
    assert called.status == 0
    assert sum(called.told["counts"].values()) >= 1


def test_any_seed_is_a_case_that_conform_replays(portkit: Portkit) -> None:
    called = portkit("conform", "-b", "cpu", "--case", "kernels/fuzz/base/1234567", "--json")
    assert called.status == 0
    assert called.told["runs"][0]["counts"] == {"pass": 1}
