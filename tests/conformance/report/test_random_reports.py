"""Whatever a journal or a report holds: files are well-formed, reports survive, and only our errors come out."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portkit.conformance.card import Card
from portkit.conformance.journal import Entry, Journal
from portkit.conformance.report import badge, html, junit
from portkit.conformance.report.brief import Found
from portkit.conformance.report.build import from_journal
from portkit.conformance.report.consistency import check_consistent
from portkit.conformance.report.diff import regressions
from portkit.conformance.report.folder import report_of
from portkit.conformance.report.model import Report, decode_report, encode_report, json_schema
from portkit.conformance.report.terminal import summary
from portkit.conformance.verdict import Verdict
from portkit.contract import DeviceInfo
from portkit.errors import PortkitError, SchemaError
from tests.conformance.report.runs import entry, header, journal, report, write_journal
from tests.conformance.report.test_pages import HARMLESS, Page

SCHEMA = jsonschema.Draft202012Validator(json_schema())
FEW = settings(max_examples=40, deadline=None)
texts = st.text(max_size=60) | st.sampled_from(
    ["<script>x</script>", "\x1b[2J", "/Users/bob/x", "'\"&", "]]>", "a\r\nb"]
)
counts = st.integers(0, 10**9)
shares = st.floats(0, allow_nan=False, allow_infinity=False)
ids = st.text("abcdefghijklmnopqrstuvwxyz0123456789_./<>+=-", min_size=1, max_size=40)
digests = st.sampled_from(["", "a" * 64, "b" * 64])
cards = st.builds(Card, suspect=texts, replay=texts, kernel=texts, source=texts, detail=texts, hint=texts)


def possible(made: Entry) -> Entry:
    """Return the entry without what the judge never says: a pass beyond its bound, the card of what did not fail."""
    share = min(made.error_share, 1.0) if made.verdict is Verdict.PASS else made.error_share
    card = None if made.verdict in (Verdict.PASS, Verdict.UNSUPPORTED) else made.card
    few = min(made.ill_conditioned, made.elements)
    return msgspec.structs.replace(made, error_share=share, ill_conditioned=few, card=card)


entries = st.builds(
    Entry,
    id=ids,
    verdict=st.sampled_from(Verdict),
    level=st.sampled_from(["device", "ops", "kernels"]),
    reason=texts,
    elements=counts,
    error_share=shares,
    ill_conditioned=counts,
    digest=digests,
    reference_digest=digests,
    seconds=st.floats(0, 1e6),
    cells=st.sampled_from([(), ("add/f32",), ("add/f32", "mul/i32")]),
    card=st.none() | cards,
).map(possible)


@st.composite
def journals(draw: st.DrawFn) -> Journal:
    """Return a journal that a hostile backend could bring about."""
    found = draw(st.lists(entries, max_size=8, unique_by=lambda e: e.id))
    made = header(
        name=draw(texts),
        version=draw(texts),
        vendor=draw(texts),
        evidence=draw(st.sampled_from(["silicon", "stand-in"])),
        info=DeviceInfo(draw(texts), draw(texts), draw(texts), {"x": draw(texts)}),
        tier=draw(st.sampled_from(["smoke", "standard", "full"])),
        patterns=tuple(draw(st.lists(texts, max_size=2))),
        mutant=draw(st.just("") | texts),
        cases=draw(st.integers(0, 12)),
    )
    return Journal(made, {e.id: e for e in found})


reports = journals().map(lambda made: from_journal(made, seconds=1.0))


@FEW
@given(reports)
def test_a_report_survives_json_validates_and_is_consistent(made: Report) -> None:
    content = encode_report(made)
    assert decode_report(content, "x") == made
    SCHEMA.validate(json.loads(content))
    check_consistent(made)


@FEW
@given(reports)
def test_every_file_of_a_report_is_well_formed(made: Report) -> None:
    assert Page(html.render(made)).tags <= HARMLESS
    ET.fromstring(junit.render(made))
    ET.fromstring(badge.render(made))


@FEW
@given(journals())
def test_no_part_of_a_report_holds_source_vendor_text_or_paths(made: Journal) -> None:
    secret = {
        e.id: msgspec.structs.replace(e, card=Card("x", "y", source="S3CRET", detail="S3CRET"))
        for e in made.entries.values()
    }
    found = from_journal(Journal(made.header, secret))
    for content in (
        encode_report(found),
        html.render(found).encode(),
        junit.render(found),
        badge.render(found).encode(),
    ):
        assert b"S3CRET" not in content
        assert b"/Users/bob" not in content


@FEW
@given(journals())
def test_the_terminal_summary_holds_no_long_prose_line(made: Journal) -> None:
    for line in summary(from_journal(made)).splitlines():
        assert len(line) <= 80 or " " not in line[12:].strip() or line.startswith(("    ", "replay"))


@FEW
@given(reports, reports)
def test_a_report_has_no_regression_against_itself_and_a_difference_has_two_ends(a: Report, b: Report) -> None:
    assert regressions(a, a) == []
    for change in regressions(a, b):
        assert change.before or change.after


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_journal_gives_a_report_or_our_error(tmp_path: Path, data: st.DataObject) -> None:
    content = write_journal(tmp_path, journal([entry("ops/a"), entry("kernels/b", Verdict.PASS)]))
    good = (content / "journal.jsonl").read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    piece = data.draw(
        st.binary(max_size=6) | st.sampled_from([b"[" * 5000, b"1e999", b"-1", b"null", b'"', b"9" * 400])
    )
    width = data.draw(st.integers(0, 8))
    (tmp_path / "journal.jsonl").write_bytes(good[:place] + piece + good[place + width :])
    try:
        made, found = report_of(tmp_path)
    except PortkitError:
        return
    check_consistent(made)
    summary(made, Found(found, tmp_path) if found else None)
    Page(html.render(made))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
FIELDS = sorted(Report.__struct_fields__)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FIELDS), VALUES)
def test_a_field_with_any_other_value_gives_a_report_or_our_error(field: str, value: object) -> None:
    content = json.loads(encode_report(report([])))
    content[field] = value
    try:
        made = decode_report(json.dumps(content).encode(errors="replace"), "x")
        check_consistent(made)
    except SchemaError:
        return
    Page(html.render(made))
