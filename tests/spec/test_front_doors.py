"""Random and mutated input to both readers, in small; bench/fuzz_front_doors.py runs 100,000."""

from __future__ import annotations

from bench.fuzz_front_doors import Tally, fuzz, judge
from portkit.spec.kernel import Kernel
from portkit.spec.text import parse
from tests.spec.kernels import DOT


def test_nothing_but_our_errors_comes_out() -> None:
    tally = fuzz(6_000, seed=7)
    assert tally.faults == []
    assert tally.inputs == 6_000


def test_the_fuzzer_reaches_readers_and_verifier() -> None:
    tally = fuzz(6_000, seed=7)
    assert tally.accepted > tally.valid > 100
    assert {"text_c1", "form_c1", "name_c1", "type_c3", "endloop_c1", "ext_c2"} <= tally.clauses.keys()


def test_the_same_seed_gives_the_same_inputs() -> None:
    assert fuzz(300, seed=3).clauses == fuzz(300, seed=3).clauses != fuzz(300, seed=4).clauses


def crash() -> Kernel:
    raise KeyError("lost")


def test_a_crash_is_reported() -> None:
    tally = Tally()
    judge(crash, "input 1", tally)
    judge(lambda: parse(DOT), "input 2", tally)
    assert tally.faults == ["input 1: KeyError: 'lost'"]
    assert tally.valid == 1
