"""The rendered files: what comes from outside is text in them, and they load nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import msgspec
import pytest

from portkit.conformance.report import badge, html, junit
from portkit.conformance.report.build import MAX_CARDS
from portkit.conformance.report.model import Failure, Report
from portkit.conformance.verdict import Verdict
from tests.conformance.report.runs import CARD, entry, passing, report

TRICKS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><svg onload=alert(1)>",
    "</pre></details><h1>conformant</h1>",
    "]]><x/>",
    "&lt;b&gt; &amp; &#60;",
    "{{ 7 * 7 }} {% raw %}",
    "javascript:alert(1)",
    "a | b `c` **d** [e](f)",
]
VOID = {"meta", "br", "link", "img", "input"}
HARMLESS = set(
    re.findall(
        r"\w+",
        "html head meta title style body main header h1 h2 p dl dt dd div table thead tbody tr th td span b br details "
        "summary pre footer a",
    )
)


class Page(HTMLParser):
    """Collects tags, attributes and text, and sees that every tag is closed where it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.stack: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile(trick: str) -> Report:
    """Return a report with a trick wherever free text may stand."""
    made = report([*passing(), entry("ops/x", card=msgspec.structs.replace(CARD, kernel=trick, suspect=trick))])
    return msgspec.structs.replace(
        made,
        subject=msgspec.structs.replace(
            made.subject, version=trick, vendor=trick, device=trick, driver=trick, compiler=trick
        ),
        versions=msgspec.structs.replace(made.versions, portkit=trick, spec=trick, suite=trick, contract=trick),
        statement=trick,
        patterns=(trick,),
        uncovered=(trick,),
        limits={"strict": trick},
        mutant=trick,
        cases=(msgspec.structs.replace(made.cases[-1], reason=trick), *made.cases[:3]),
        failures=(Failure("ops/x", Verdict.FAIL, trick, trick),),
    )


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_is_text_in_the_html_report(trick: str) -> None:
    page = Page(html.render(hostile(trick)))
    assert page.tags <= HARMLESS
    assert not {name for name in page.attributes if name.startswith("on") or name in {"src", "srcdoc"}}
    assert page.text.count(trick) >= 12


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_is_text_in_junit(trick: str) -> None:
    root = ET.fromstring(junit.render(hostile(trick)))
    assert {element.tag for element in root.iter()} <= {"testsuites", "testsuite", "testcase", "failure"}
    assert [element.text for element in root.iter("failure")] == [trick]


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_is_text_in_the_badge(trick: str) -> None:
    root = ET.fromstring(badge.render(hostile(trick)))
    assert {element.tag.partition("}")[2] for element in root.iter()} == {
        "svg",
        "title",
        "clipPath",
        "rect",
        "g",
        "text",
    }
    assert not any(name.startswith("on") for element in root.iter() for name in element.attrib)


@pytest.mark.parametrize("made", [report(), report([]), report([entry()], patterns=("ops",)), report(mutant="x")])
def test_a_page_is_well_formed_html_without_scripts_links_or_pictures(made: Report) -> None:
    page = Page(html.render(made))
    assert page.tags <= HARMLESS - {"a"}
    assert "default-src 'none'" in html.render(made)


def test_a_page_fetches_nothing() -> None:
    assert re.findall(r"\bsrc=|\bhref=|url\(|@import", html.render(report())) == []


def test_the_first_lines_of_a_page_say_what_was_judged_and_what_is_claimed() -> None:
    text = Page(html.render(report([*passing(), entry("ops/x")]))).text
    for said in ("chip 2.1", "does not pass core", "Acme One", "acmecc 9", "silicon: ran on the chip itself"):
        assert said in text[: text.index("Verdicts")]


def test_a_failure_card_is_on_the_page_and_the_first_one_is_open() -> None:
    page = html.render(report([entry("ops/a"), entry("ops/b")]))
    assert page.count("kernel add_f32") == 2
    assert page.count("<details open>") == 1


def test_a_page_says_how_many_failures_have_no_card_on_it() -> None:
    made = report([entry(f"ops/{k}") for k in range(MAX_CARDS + 9)])
    assert "9 more did not pass" in Page(html.render(made)).text


def test_an_incomplete_run_says_on_the_page_how_many_cases_are_missing() -> None:
    assert "7 of 12 cases have no verdict" in Page(html.render(report(passing()[:5], cases=12))).text


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_can_be_shown(verdict: Verdict) -> None:
    made = report([entry("ops/a", verdict)])
    assert verdict.value in Page(html.render(made)).text
    assert ET.fromstring(junit.render(made)).find("testsuite") is not None
    assert verdict is Verdict.PASS or verdict.meaning.text in html.render(made)


@pytest.mark.parametrize(
    ("value", "shown"), [(0.25, "0.250"), (12.5, "12.500"), (4e6, "4.0e+06"), (1.7976931348623157e308, "∞")]
)
def test_an_error_is_shown_as_a_share_of_its_bound(value: float, shown: str) -> None:
    assert html.share(value) == shown


def test_the_marks_on_a_page_are_explained_there() -> None:
    text = Page(html.render(report([entry("ops/a", Verdict.PASS), entry("ops/b", cells=("add/i32",))]))).text
    assert "\N{CHECK MARK} pass, \N{MULTIPLICATION X} fail, empty: not declared" in text


def test_a_page_shows_the_largest_errors_only() -> None:
    from portkit.contract import find_backend

    every = find_backend("cpu").capabilities
    text = Page(html.render(report(passing(every), capabilities=every))).text
    assert f"The {html.SHOWN_ERRORS} largest of " in text


def test_an_error_above_its_bound_is_marked_and_its_bar_is_full() -> None:
    [bar] = html.error_bars(report([entry(error_share=7.0)]).cells)
    assert (bar["percent"], bar["over"]) == (100.0, True)


# --- junit --------------------------------------------------------------------------------------------------------


def test_junit_counts_agree_with_its_elements() -> None:
    verdicts = list(Verdict)
    root = ET.fromstring(junit.render(report([entry(f"ops/{v.value}", v) for v in verdicts])))
    [suite] = root.findall("testsuite")
    assert suite.get("tests") == str(len(verdicts))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert suite.get(attribute) == str(len(list(suite.iter(tag))))


def test_junit_has_one_suite_a_level_and_one_case_an_id() -> None:
    root = ET.fromstring(junit.render(report([entry("ops/add/a"), entry("kernels/b", Verdict.PASS)])))
    assert [suite.get("name") for suite in root] == ["ops", "kernels"]
    assert [(c.get("classname"), c.get("name")) for c in root.iter("testcase")] == [("ops.add", "a"), ("kernels", "b")]


def test_junit_carries_the_failure_card() -> None:
    [failure] = ET.fromstring(junit.render(report([entry()]))).iter("failure")
    assert failure.get("message") == "fail: out[3] is wrong"
    assert "kernel add_f32" in (failure.text or "")


@pytest.mark.parametrize("harmful", ["\x00", "\x0b", "\ufffe", "\x1b[0m"])
def test_junit_holds_no_character_that_xml_does_not_admit(harmful: str) -> None:
    made = report([entry(verdict=Verdict.UNSUPPORTED)])
    case = msgspec.structs.replace(made.cases[0], reason=f"a{harmful}b")
    root = ET.fromstring(junit.render(msgspec.structs.replace(made, cases=(case,), failures=())))
    assert (next(root.iter("skipped")).text or "").startswith("a?")


# --- the badge ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (report(), "conformant"),
        (report(tier="smoke"), "passes the smoke tier of core"),
        (report([entry()]), "does not pass core"),
        (report(evidence="stand-in"), "passes on its stand-in"),
        (report(mutant="x"), "says nothing of the device"),
        (report(passing()[:4], cases=9), "incomplete"),
    ],
)
def test_the_badge_says_the_claim_in_short(made: Report, text: str) -> None:
    texts = [element.text for element in ET.fromstring(badge.render(made)).iter() if element.tag.endswith("text")]
    assert texts == ["portkit core", text]


def test_the_badge_is_green_only_for_a_pass() -> None:
    assert "#1a7f37" in badge.render(report())
    assert "#1a7f37" not in badge.render(report([entry()]))
