"""Patterns, the ladder and waivers."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path

import pytest

from portkit.conformance.case import Case, Level, Tier
from portkit.conformance.journal import Entry
from portkit.conformance.ladder import Ladder
from portkit.conformance.select import matches, select
from portkit.conformance.verdict import Verdict
from portkit.conformance.waivers import apply, check_meant, load_waivers, stale
from portkit.errors import HarnessError, SchemaError, UsageError

TODAY = dt.date(2026, 11, 22)


def case(case_id: str, *needs: str, tier: Tier = Tier.SMOKE) -> Case:
    return Case(case_id, Level.OPS, tier, needs=needs)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("ops/add", "ops/add/f32/special", "ops/addx/f32"),
        ("ops/add/", "ops/add/f32/special", "ops/mul/f32"),
        ("ops/add/f32", "ops/add/f32", "ops/add/f32x4"),
        ("ops/*/f32/*", "ops/mul/f32/random", "ops/mul/f32x2/random"),
        ("*/special", "ops/mul.hi/u32/special", "ops/mul.hi/u32/special2"),
        ("ops/m?l", "ops/mul", "ops/mul/f32"),
    ],
)
def test_a_pattern_is_an_id_a_prefix_of_whole_parts_or_a_glob(pattern: str, yes: str, no: str) -> None:
    assert matches(pattern, yes)
    assert not matches(pattern, no)


CASES = [case("a/one"), case("a/two", tier=Tier.STANDARD), case("b/three", tier=Tier.FULL)]


def ids(cases: list[Case]) -> list[str]:
    return [c.id for c in cases]


def test_a_tier_includes_the_smaller_ones() -> None:
    assert ids(select(CASES, Tier.SMOKE, ())) == ["a/one"]
    assert ids(select(CASES, Tier.STANDARD, ())) == ["a/one", "a/two"]
    assert ids(select(CASES, Tier.FULL, ())) == ["a/one", "a/two", "b/three"]


def test_an_exact_id_is_selected_from_any_tier() -> None:
    assert ids(select(CASES, Tier.SMOKE, ("b/three",))) == ["b/three"]
    assert ids(select(CASES, Tier.SMOKE, ("a",))) == ["a/one"]


def test_a_pattern_that_means_no_case_is_a_usage_error_with_near_ids() -> None:
    with pytest.raises(UsageError, match="did you mean a/one"):
        select(CASES, Tier.FULL, ("a/on",))


def test_a_pattern_that_means_only_larger_tiers_selects_nothing() -> None:
    assert select(CASES, Tier.SMOKE, ("b",)) == []


# --- the ladder ---------------------------------------------------------------------------------------------------


def entries(**verdicts: Verdict) -> dict[str, Entry]:
    return {name: Entry(name, verdict, "ops") for name, verdict in verdicts.items()}


def test_rungs_stand_above_what_they_need() -> None:
    ladder = Ladder([case("top", "mid"), case("mid", "low"), case("low"), case("free")])
    assert ids(ladder.rungs) == ["low", "mid"]


def test_a_case_is_blocked_by_a_rung_that_did_not_pass() -> None:
    ladder = Ladder([case("top", "mid"), case("mid")])
    blocked = ladder.blocked(case("top", "mid"), entries(mid=Verdict.CRASH))
    assert blocked is not None
    assert (blocked.verdict, blocked.reason) == (Verdict.BLOCKED, "needs mid, whose verdict is crash")


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.WAIVED, Verdict.UNSUPPORTED])
def test_a_rung_that_holds_blocks_nobody(verdict: Verdict) -> None:
    ladder = Ladder([case("top", "mid"), case("mid")])
    assert ladder.blocked(case("top", "mid"), entries(mid=verdict)) is None


def test_what_is_not_part_of_the_run_is_not_asked_for() -> None:
    assert Ladder([case("top", "mid")]).blocked(case("top", "mid"), {}) is None


def test_cases_that_need_each_other_are_our_error() -> None:
    with pytest.raises(HarnessError, match="circle"):
        Ladder([case("a", "b"), case("b", "a")])


INDEX, GROUPS = "device/launch/index", "device/launch/groups_64"


def test_what_a_rung_stands_for_blocks_as_it_does() -> None:
    ladder = Ladder([case(INDEX), case(GROUPS, INDEX), case("ops/add", INDEX)])
    assert ids(ladder.rungs) == [INDEX, GROUPS]
    found = {INDEX: Entry(INDEX, Verdict.PASS, "device"), GROUPS: Entry(GROUPS, Verdict.TIMEOUT, "device")}
    blocked = ladder.blocked(case("ops/add", INDEX), found)
    assert blocked is not None
    assert blocked.reason == f"needs {GROUPS}, whose verdict is timeout"


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.WAIVED, Verdict.UNSUPPORTED, Verdict.FLAKY])
def test_what_a_rung_stands_for_blocks_only_where_it_is_broken(verdict: Verdict) -> None:
    ladder = Ladder([case(INDEX), case(GROUPS, INDEX), case("ops/add", INDEX)])
    assert ladder.blocked(case("ops/add", INDEX), {GROUPS: Entry(GROUPS, verdict, "device")}) is None


def test_parts_of_a_series_do_not_block_each_other() -> None:
    ladder = Ladder([case(INDEX), case(GROUPS, INDEX), case("device/launch/groups_2", INDEX)])
    failed = {GROUPS: Entry(GROUPS, Verdict.FAIL, "device")}
    assert ladder.blocked(case("device/launch/groups_2", INDEX), failed) is None


# --- waivers ------------------------------------------------------------------------------------------------------

WAIVER = """
[[waiver]]
cases = "ops/mul"
reason = "erratum 17"
link = "https://example.com/17"
expires = {expires}
"""


def waiver_file(folder: Path, text: str) -> Path:
    path = folder / "waivers.toml"
    path.write_text(text)
    return path


def test_a_waiver_covers_what_did_not_pass_and_keeps_what_it_was(tmp_path: Path) -> None:
    waivers = load_waivers(waiver_file(tmp_path, WAIVER.format(expires="2026-11-22")), TODAY)
    waived = apply(waivers, Entry("ops/mul/f32", Verdict.FAIL, "ops", reason="wrong"))
    assert (waived.verdict, waived.waived) == (Verdict.WAIVED, Verdict.FAIL)
    assert "erratum 17" in waived.reason


OTHERS = [v for v in Verdict if v is not Verdict.FAIL]


@pytest.mark.parametrize("verdict", OTHERS)
def test_a_waiver_covers_nothing_but_wrong_results_if_it_does_not_say_so(tmp_path: Path, verdict: Verdict) -> None:
    waivers = load_waivers(waiver_file(tmp_path, WAIVER.format(expires="2026-11-22")), TODAY)
    assert apply(waivers, Entry("ops/mul/f32", verdict, "ops")).verdict is verdict
    assert apply(waivers, Entry("ops/add/f32", Verdict.FAIL, "ops")).verdict is Verdict.FAIL


@pytest.mark.parametrize("verdict", [Verdict.CRASH, Verdict.TIMEOUT, Verdict.FLAKY, Verdict.BLOCKED])
def test_a_waiver_covers_the_verdicts_that_it_names_and_no_others(tmp_path: Path, verdict: Verdict) -> None:
    text = WAIVER.format(expires="2026-11-22") + f'verdicts = ["{verdict.value}"]'
    waivers = load_waivers(waiver_file(tmp_path, text), TODAY)
    assert apply(waivers, Entry("ops/mul/f32", verdict, "ops")).waived is verdict
    assert apply(waivers, Entry("ops/mul/f32", Verdict.FAIL, "ops")).waived is None


def test_of_several_waivers_the_first_that_admits_what_was_found_says_why(tmp_path: Path) -> None:
    crashes = WAIVER.format(expires="2027-01-01").replace("erratum 17", "erratum 18") + 'verdicts = ["crash"]\n'
    waivers = load_waivers(waiver_file(tmp_path, crashes + WAIVER.format(expires="2027-01-01")), TODAY)
    assert "erratum 17" in apply(waivers, Entry("ops/mul/f32", Verdict.FAIL, "ops")).reason
    assert "erratum 18" in apply(waivers, Entry("ops/mul/f32", Verdict.CRASH, "ops")).reason


def found(**verdicts: Verdict) -> list[Entry]:
    return [Entry(f"ops/mul/{name}", verdict, "ops") for name, verdict in verdicts.items()]


@pytest.mark.parametrize(
    ("entries", "needed"),
    [
        (found(a=Verdict.PASS, b=Verdict.PASS), False),
        (found(a=Verdict.PASS, b=Verdict.UNSUPPORTED), False),
        (found(a=Verdict.PASS, b=Verdict.WAIVED), True),
        (found(a=Verdict.PASS, b=Verdict.ERROR), True),
        (found(a=Verdict.UNSUPPORTED, b=Verdict.UNSUPPORTED), True),
        (found(a=Verdict.PASS), True),  # the other case was not run
        ([], True),
    ],
)
def test_a_waiver_whose_cases_all_pass_is_stale(tmp_path: Path, entries: list[Entry], needed: bool) -> None:
    waivers = load_waivers(waiver_file(tmp_path, WAIVER.format(expires="2027-01-01")), TODAY)
    assert stale(waivers, entries, ["ops/mul/a", "ops/mul/b", "ops/add/c"]) == ([] if needed else list(waivers))


def test_a_waiver_of_flaky_cases_is_not_stale_when_they_happen_to_pass(tmp_path: Path) -> None:
    text = WAIVER.format(expires="2027-01-01") + 'verdicts = ["flaky", "fail"]'
    waivers = load_waivers(waiver_file(tmp_path, text), TODAY)
    assert stale(waivers, found(a=Verdict.PASS), ["ops/mul/a"]) == []


def test_a_waiver_that_means_no_case_is_an_error_with_the_near_ids(tmp_path: Path) -> None:
    waivers = load_waivers(waiver_file(tmp_path, WAIVER.format(expires="2027-01-01")), TODAY)
    check_meant(waivers, ["ops/mul/f32"], "known.toml")
    with pytest.raises(SchemaError, match="the waiver of ops/mul means no case of the suite; did you mean ops/mult"):
        check_meant(waivers, ["ops/mult"], "known.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WAIVER.format(expires="2026-11-21"), "ended on 2026-11-21; renew it"),
        (WAIVER.format(expires='"soon"'), "expires"),
        (WAIVER.format(expires="2027-01-01").replace("erratum 17", ""), "reason"),
        (WAIVER.format(expires="2027-01-01").replace("https", "see"), "link"),
        (WAIVER.format(expires="2027-01-01").replace("https://example.com/17", "https://"), "link"),
        (WAIVER.format(expires="2027-01-01").replace("https://example.com/17", "https://a b"), "link"),
        (WAIVER.format(expires="2027-01-01").replace("https", "javascript"), "link"),
        (WAIVER.format(expires="2027-01-01").replace("erratum 17", "  "), "reason"),
        (WAIVER.format(expires="2027-01-01").replace("ops/mul", ""), "cases"),
        (WAIVER.format(expires="2027-01-01T10:00:00"), "expires"),
        (WAIVER.format(expires="2027-01-01") + 'verdicts = ["pass"]', "verdicts"),
        (WAIVER.format(expires="2027-01-01") + "verdicts = []", "verdicts"),
        (WAIVER.format(expires="2027-01-01") * 1001, "waiver"),
        ("x = " + "[" * 50_000, "waivers.toml"),
        ("x = " + "9" * 10_000, "waivers.toml"),
        ("#" * (1 << 20) + "\n", "larger than"),
        (WAIVER.format(expires="2027-01-01") + "scope = 3", "scope"),
        ("[[waiver]]\ncases = 'x'", "reason"),
        ("not toml", "waivers.toml"),
    ],
)
def test_a_waiver_file_that_does_not_fit_is_refused_by_field(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        load_waivers(waiver_file(tmp_path, text), TODAY)


def test_a_waiver_file_that_is_missing_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="cannot be read"):
        load_waivers(tmp_path / "none.toml", TODAY)


FULL = WAIVER.format(expires="2027-01-01") + 'verdicts = ["fail", "crash"]\n'
HOSTILE = (
    *(b"\x00", b"\xff\xfe", b"\xe2\x80\xae", b"\r", b"[", b"]]", b"{", b"= ", b'"""'),
    *(b"9" * 5000, b"1e999", b"[[waiver]]", b"[" * 3000),
)


def damaged(numbers: random.Random) -> bytes:
    """Return a waiver file with a few bytes left out, replaced or added."""
    content = bytearray(FULL.encode())
    for _ in range(numbers.randint(1, 3)):
        at = numbers.randrange(len(content) + 1)
        piece = numbers.choice([*HOSTILE, bytes([numbers.randrange(256)]), b"", b"x"])
        content[at : at + numbers.choice([0, 1, 7])] = piece
    return bytes(content)


def is_refused(path: Path) -> bool:
    try:
        load_waivers(path, TODAY)
    except SchemaError:
        return True
    return False


@pytest.mark.parametrize("seed", range(4))
def test_of_two_thousand_damaged_files_each_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    numbers, refused = random.Random(seed), 0
    for _ in range(500):
        path = tmp_path / "waivers.toml"
        path.write_bytes(damaged(numbers))
        refused += is_refused(path)
    assert 250 < refused < 500


def test_a_folder_in_place_of_a_waiver_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="cannot be read"):
        load_waivers(tmp_path, TODAY)
