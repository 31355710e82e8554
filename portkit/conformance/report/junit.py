"""`junit.xml`: one test case an id, one suite a level, for continuous integration servers."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from portkit.conformance.report.model import CaseResult, Report
from portkit.conformance.verdict import Verdict

_SKIPPED = {Verdict.UNSUPPORTED, Verdict.BLOCKED, Verdict.WAIVED}
_ERRORS = {Verdict.CRASH, Verdict.TIMEOUT, Verdict.ERROR}
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _child_tag(verdict: Verdict) -> str:
    if verdict in _SKIPPED:
        return "skipped"
    return "error" if verdict in _ERRORS else "failure"


def _add_case(suite: ET.Element, case: CaseResult) -> None:
    folder, _, name = case.id.rpartition("/")
    element = ET.SubElement(suite, "testcase", classname=folder.replace("/", "."), name=name)
    element.set("time", f"{case.seconds:.4f}")
    verdict = Verdict(case.verdict)
    if verdict is not Verdict.PASS:
        detail = ET.SubElement(element, _child_tag(verdict), message=verdict.value)
        detail.text = _NOT_XML.sub("?", case.reason)


def render(report: Report) -> bytes:
    """Return the report as JUnit XML."""
    root = ET.Element("testsuites", name=f"portkit {report.subject.backend}", time=f"{report.seconds:.3f}")
    for level in report.levels:
        cases = [c for c in report.cases if c.level == level]
        tags = [_child_tag(Verdict(c.verdict)) for c in cases if c.verdict != Verdict.PASS.value]
        suite = ET.SubElement(root, "testsuite", name=level, tests=str(len(cases)))
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            suite.set(attribute, str(tags.count(tag)))
        for case in cases:
            _add_case(suite, case)
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)
