"""Pages that were rendered elsewhere: other text is fine, other elements are not."""

from __future__ import annotations

import pytest

from portkit.conformance.attest.pages import check_page, foreign, inventory
from portkit.conformance.report import badge, html
from portkit.contract import DeviceInfo
from portkit.errors import SchemaError
from tests.conformance.report.runs import entry, passing, report
from tests.conformance.report.test_pages import TRICKS

PAGE = html.render(report([*passing(), entry()]))
BADGE = badge.render(report())


def test_the_same_page_is_ours() -> None:
    assert check_page("x.html", PAGE.encode(), PAGE)
    assert check_page("x.svg", BADGE.encode(), BADGE)


def test_another_text_is_harmless() -> None:
    assert not check_page("x.html", PAGE.replace("Acme One", "Acme Two").encode(), PAGE)


@pytest.mark.parametrize("trick", TRICKS)
def test_what_a_report_says_adds_nothing_to_its_page(trick: str) -> None:
    spoken = report([*passing(), entry(reason=trick)], info=DeviceInfo(trick, trick, trick), vendor=trick)
    assert foreign(html.render(spoken), inventory(PAGE)) == ""
    assert foreign(badge.render(spoken), inventory(BADGE)) == ""


ADDED: dict[str, tuple[str, str]] = {
    "script": ("<script>x</script></html>", "the element script"),
    "image": ("<img src=x></html>", "the element img"),
    "frame": ("<iframe srcdoc='x'></iframe></html>", "the element iframe"),
    "handler": ("<p onclick='x'>x</p></html>", "the attribute onclick of p"),
    "link": ("<a href='https://x.example'>x</a></html>", "the element a"),
    "style": ("<style>*{display:none}</style></html>", "a script or style of its own: *{display:none}"),
    "address in a style": ("<span class='bar' style='background:url(//x)'></span></html>", "url(//x)"),
    "refresh": ("<meta http-equiv=refresh content='0;url=//x'></html>", "the declaration meta"),
    "comment": ("<!--[if IE]><b>--></html>", "the declaration comment"),
    "section": ("<![CDATA[<b>]]></html>", "the declaration"),
    "instruction": ("<?xml-stylesheet href='//x'?></html>", "the declaration instruction"),
    "form": ("<form action=//x><input></form></html>", "the element form"),
    "upper case": ("<ScRiPt>x</sCrIpT></html>", "the element script"),
    "a script that is never closed": ("<script>x</html>", "the element script"),
    "a style that is never closed": ("<style>*{}</html>", "a script or style of its own:"),
    "a tag that is never closed": ("<img src=x onerror=x ", "another end: rror=x"),
}


@pytest.mark.parametrize(("piece", "what"), ADDED.values(), ids=ADDED.keys())
def test_a_piece_that_ours_has_not_is_found(piece: str, what: str) -> None:
    ours = inventory(PAGE)
    assert "a" not in ours.elements
    assert foreign(f"{PAGE}<p>fine</p></html>", ours) == ""
    assert what in foreign(f"{PAGE}{piece}", ours)


def test_a_page_with_more_is_refused_by_name() -> None:
    with pytest.raises(SchemaError, match=r"x\.html is not what portkit renders from the report: it holds the element"):
        check_page("x.html", PAGE.replace("</main>", "<object></object></main>").encode(), PAGE)
