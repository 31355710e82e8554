"""`junit.xml`: one test case an id, one suite a level, for continuous integration servers."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from portkit.conformance.report.model import CaseResult, Report
from portkit.conformance.report.text import printable
from portkit.conformance.verdict import Verdict

_TAGS = {
    Verdict.UNSUPPORTED: "skipped",
    Verdict.BLOCKED: "skipped",
    Verdict.WAIVED: "skipped",
    Verdict.FLAKY: "failure",
    Verdict.FAIL: "failure",
    Verdict.CRASH: "error",
    Verdict.TIMEOUT: "error",
    Verdict.ERROR: "error",
}


def _add_case(suite: ET.Element, case: CaseResult, cards: dict[str, str]) -> None:
    folder, _, name = case.id.rpartition("/")
    element = ET.SubElement(suite, "testcase", classname=folder.replace("/", "."), name=name)
    element.set("time", f"{case.seconds:.4f}")
    if case.verdict in _TAGS:
        message = printable(f"{case.verdict.value}: {case.reason}" if case.reason else case.verdict.value)
        detail = ET.SubElement(element, _TAGS[case.verdict], message=message, type=case.verdict.value)
        detail.text = printable(cards.get(case.id, case.reason))


def render(report: Report) -> bytes:
    """Return the report as JUnit XML."""
    root = ET.Element("testsuites", name=f"portkit {report.subject.backend}", time=f"{report.seconds:.3f}")
    cards = {failure.id: failure.card for failure in report.failures}
    for level in report.levels:
        cases = [c for c in report.cases if c.level is level]
        tags = [_TAGS[c.verdict] for c in cases if c.verdict in _TAGS]
        suite = ET.SubElement(root, "testsuite", name=level.value, tests=str(len(cases)))
        suite.set("time", f"{sum(c.seconds for c in cases):.3f}")
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            suite.set(attribute, str(tags.count(tag)))
        for case in cases:
            _add_case(suite, case, cards)
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)
