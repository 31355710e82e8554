"""Pages that were rendered elsewhere: other text is fine, other elements are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from portkit.conformance.attest.pages import active, check_page, foreign, inventory
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


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda page: page.replace("<h1", '<p title="</p><script>x</script>">', 1), "a < inside a tag"),
        (lambda page: page.replace("</h1>", "\x1b$B</h1>", 1), "a control or a mark"),
        (lambda page: page.replace("utf-8", "iso-2022-jp", 1), "another beginning, so that its encoding is open"),
        (lambda page: page.replace("</h1>", "&#" + "9" * 5000 + ";</h1>", 1), "not a page that portkit renders"),
        (lambda page: page.replace("</h1>", "<a " * 20_000 + "</h1>", 1), "a < inside a tag"),
        (lambda page: page.replace("</h1>", "<![foo[></h1>", 1), "is not "),
    ],
    ids=["attribute", "escape", "charset", "number", "many", "section"],
)
def test_what_a_browser_may_read_otherwise_is_refused(edit: Callable[[str], str], words: str) -> None:
    with pytest.raises(SchemaError, match=words):
        check_page("x.html", edit(PAGE).encode(), PAGE)


def test_bytes_that_are_no_utf_8_are_refused() -> None:
    with pytest.raises(SchemaError, match="not a page that portkit renders"):
        check_page("x.html", PAGE.encode() + b"\xff", PAGE)


def test_another_text_is_harmless() -> None:
    assert not check_page("x.html", PAGE.replace("Acme One", "Acme Two").encode(), PAGE)


@pytest.mark.parametrize("trick", TRICKS)
def test_what_a_report_says_adds_nothing_to_its_page(trick: str) -> None:
    spoken = report([*passing(), entry(reason=trick)], info=DeviceInfo(trick, trick, trick), vendor=trick)
    assert foreign(html.render(spoken), inventory(PAGE)) == ""
    assert foreign(badge.render(spoken), inventory(BADGE)) == ""


ACTIVE: dict[str, tuple[str, str]] = {
    "script": ("<script>x</script></html>", "the element script"),
    "image": ("<img src=x></html>", "the element img"),
    "frame": ("<iframe srcdoc='x'></iframe></html>", "the element iframe"),
    "handler": ("<p onclick='x'>x</p></html>", "the attribute onclick of p"),
    "link": ("<a href='https://x.example'>x</a></html>", "the address https://x.example"),
    "script in a link": ("<a href=' java\nscript:x'>x</a></html>", "the address"),
    "link to a file": ("<a href='../x'>x</a></html>", "the address ../x"),
    "style that imports": ("<style>@import '//x'</style></html>", "a style that loads something: @import"),
    "style behind an escape": ("<style>*{a:u\\72l(x)}</style></html>", "a style that loads something: *{a:u"),
    "address in a style": ("<span class='bar' style='background:url(//x)'></span></html>", "a style that loads"),
    "refresh": ("<meta http-equiv=Refresh content='0;url=//x'></html>", "the declaration meta refresh"),
    "base": ("<base href=//x></html>", "the element base"),
    "comment": ("<!--[if IE]><b>--></html>", "the declaration comment"),
    "section": ("<![CDATA[<b>]]></html>", "the declaration"),
    "instruction": ("<?xml-stylesheet href='//x'?></html>", "the declaration instruction"),
    "form": ("<form action=//x><input></form></html>", "the element form"),
    "animation": ("<svg><a><animate attributeName=href values=x /></a></svg></html>", "the element animate"),
    "foreign object": ("<svg><foreignObject></foreignObject></svg></html>", "the element foreignobject"),
    "upper case": ("<ScRiPt>x</sCrIpT></html>", "the element script"),
    "a script that is never closed": ("<script>x</html>", "the element script"),
    "a tag that is never closed": ("<img src=x onerror=x ", "another end: rror=x"),
}
INERT = {
    "text": "<p>fine</p></html>",
    "a table": "<table><caption>x</caption><tr><td colspan=2 aria-label=x data-x=y>x</td></tr></table></html>",
    "a place": "<a href='#levels'>x</a></html>",
    "a picture": "<svg viewBox='0 0 1 1'><path d='M0 0' fill='#fff' stroke='red'/></svg></html>",
    "a policy": "<meta http-equiv='Content-Security-Policy' content=\"default-src 'self'\"></html>",
    "a style": "<style>p{color:red!important;scroll-behavior:auto}</style><p style='width:3%'>x</p></html>",
}


@pytest.mark.parametrize(("piece", "what"), ACTIVE.values(), ids=ACTIVE.keys())
def test_a_piece_that_acts_is_found(piece: str, what: str) -> None:
    assert what in active(f"{PAGE}{piece}", inventory(PAGE))
    assert foreign(f"{PAGE}{piece}", inventory(PAGE))


@pytest.mark.parametrize("piece", INERT.values(), ids=INERT.keys())
def test_what_another_version_may_render_is_not_refused(piece: str) -> None:
    assert not check_page("x.html", f"{PAGE}{piece}".encode(), PAGE)


def test_what_our_templates_hold_is_never_taken_for_foreign() -> None:
    assert active(PAGE, inventory(PAGE)) == foreign(PAGE, inventory(PAGE)) == ""
    assert active(BADGE, inventory(BADGE)) == foreign(BADGE, inventory(BADGE)) == ""


def test_an_older_page_with_another_style_sheet_is_not_refused() -> None:
    style = PAGE[PAGE.index("<style>") : PAGE.index("</style>")]
    assert not check_page("x.html", PAGE.replace(style, "<style>body{margin:0}").encode(), PAGE)


def test_a_page_with_more_is_refused_by_name() -> None:
    with pytest.raises(SchemaError, match=r"x\.html is not what portkit renders from the report: it holds the element"):
        check_page("x.html", PAGE.replace("</main>", "<object></object></main>").encode(), PAGE)
