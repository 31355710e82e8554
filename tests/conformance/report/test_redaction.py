"""Redacting a report: nothing of the chip's names is left, everything that was judged is."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from portkit.conformance.redaction import HIDDEN, is_redacted, redacted
from portkit.conformance.report.consistency import check_consistent
from portkit.conformance.report.model import decode_report, encode_report
from portkit.conformance.verdict import Verdict
from portkit.contract import DeviceInfo, Tuning
from portkit.errors import UsageError
from tests.conformance.report.runs import CARD, CHIP, entry, report

NAMES = (b"chip", b"acme", b"5.2", b"2.1", b"vendor text", b"c" * 64)


def test_no_name_is_left_in_any_string() -> None:
    told = entry(reason="the ACME One driver died in chip.so")
    content = encode_report(redacted(report([told]), "heron")).lower()
    assert [name for name in NAMES if name in content] == []


def test_what_was_judged_stays() -> None:
    before = report([entry(), entry("ops/mul/f32")])
    after = redacted(before, "heron")
    assert [(c.id, c.verdict, c.digest) for c in after.cases] == [(c.id, c.verdict, c.digest) for c in before.cases]
    assert (after.counts, after.cells, after.statement) == (before.counts, before.cells, before.statement)


@pytest.mark.parametrize("fails", [False, True])
def test_a_redacted_report_is_consistent_and_can_be_read(fails: bool) -> None:
    made = redacted(report([entry()] if fails else None), "heron")
    check_consistent(decode_report(encode_report(made), "made"))


def test_a_redacted_report_is_marked() -> None:
    assert not is_redacted(report())
    assert is_redacted(redacted(report(), "heron"))


def test_two_chips_that_differ_in_names_alone_give_the_same_report() -> None:
    one, other = report(), report(vendor="Other", version="7", backend_digest="d" * 64)
    assert redacted(one, "heron") == redacted(other, "heron")


def test_a_suspect_stays_but_where_it_names_the_chip() -> None:
    cards = {"ops/add/f32": "add/f32", "ops/mul/f32": "the Acme driver"}
    made = report([entry(id, card=replace(CARD, suspect=suspect)) for id, suspect in cards.items()])
    assert {f.suspect for f in redacted(made, "heron").failures} == {"add/f32", HIDDEN}


def test_sizes_that_only_tune_are_not_told() -> None:
    tuned = replace(CHIP, tuning=Tuning(workers=7, cache_bytes=(49152,)))
    assert redacted(report(capabilities=tuned), "heron").capabilities.tuning == Tuning()


@pytest.mark.parametrize("name", ["X9", "falcon-x9"])
def test_a_short_model_number_is_a_name_too(name: str) -> None:
    made = report(version="9.41-zebra", info=DeviceInfo(name))
    for codename in ("x9", "zebra"):
        with pytest.raises(UsageError, match="has a word of the names"):
            redacted(made, codename)
    assert redacted(made, "fox90").subject.device == "fox90"


@pytest.mark.parametrize(("device", "codename"), [("Gaudi3", "gaudi"), ("ZephyrNPU", "zephyr")])
def test_a_part_of_a_name_is_no_codename(device: str, codename: str) -> None:
    with pytest.raises(UsageError, match="has a word of the names"):
        redacted(report(info=DeviceInfo(device)), codename)


@pytest.mark.parametrize(("vendor", "codename"), [("LG", "lg"), ("ＺＥＰＨＹＲ", "zephyr"), ("\ufb01ber", "fiber")])
def test_a_vendor_of_two_letters_or_of_wide_ones_is_a_name_too(vendor: str, codename: str) -> None:
    with pytest.raises(UsageError, match="has a word of the names"):
        redacted(report(vendor=vendor), codename)
    assert redacted(report(vendor=vendor), "elgin").subject.vendor == HIDDEN


def test_the_name_of_another_backend_is_no_codename() -> None:
    with pytest.raises(UsageError, match="'cpu' is the name of another backend"):
        redacted(report(), "cpu")


@pytest.mark.parametrize("codename", ["", "../x", "<b>", "x" * 41, "a b", "heron\n"])
def test_what_is_no_codename_is_refused(codename: str) -> None:
    with pytest.raises(UsageError, match="is not a codename"):
        redacted(report(), codename)


def test_a_codename_that_gives_the_name_away_is_refused() -> None:
    with pytest.raises(UsageError, match="has a word of the names"):
        redacted(report(), "AcmeNext")


def test_a_waiver_stays_readable() -> None:
    waiver = "erratum 7 (https://example.org/7, until 2027-01-01); "
    waived = entry(verdict=Verdict.WAIVED, reason=f"{waiver}chip X9 says: unit B0 failed")
    assert redacted(report([waived]), "heron").cases[0].reason == f"{waiver}redacted"


def test_a_waiver_that_names_the_chip_is_refused() -> None:
    waived = entry(verdict=Verdict.WAIVED, reason="erratum 7 (https://acme.example/7, until 2027-01-01); wrong")
    with pytest.raises(UsageError, match="names the chip"):
        redacted(report([waived]), "heron")
