"""Whether a page that was rendered elsewhere holds anything that acts, loads or leads elsewhere.

A report's page and badge can be rendered again from `report.json`, and whoever shows a registry does that. The files
that lie in it may come from another version of portkit, whose text and style are others. So a page that differs from
ours may hold what ours does, and what is inert: no script but ours, no address but ours and places in the page itself.
What it says is not compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

from portkit.conformance.report.text import printable
from portkit.errors import SchemaError

_ADDRESSES = frozenset({"href", "src", "srcset", "action", "formaction", "data", "poster", "background", "ping"})
_CODE = frozenset({"script", "style"})
_LOADS = re.compile(r"(url|image|image-set|src|expression)\s*\(|@import|\\|<[a-z/!]", re.IGNORECASE)
"""What a style can load or run by, and what it can hide that behind."""
_INERT_ELEMENTS = frozenset(
    re.findall(
        r"\w+",
        "html head meta title style body main header footer nav section article aside h1 h2 h3 h4 h5 h6 p dl dt "
        "dd div ul ol li table caption thead tbody tfoot tr th td col colgroup span b i em strong small code pre "
        "kbd sub sup br hr wbr abbr time figure figcaption details summary a svg g rect circle ellipse line path "
        "polyline polygon text tspan clippath defs desc",
    )
)
_INERT_ATTRIBUTES = frozenset(
    re.findall(
        r"[\w-]+",
        "class id title lang dir role tabindex scope colspan rowspan headers open hidden datetime charset name "
        "content http-equiv style href xmlns viewbox version x y x1 x2 y1 y2 cx cy r rx ry dx dy width height "
        "points d transform fill stroke stroke-width stroke-dasharray stroke-linecap stroke-linejoin opacity "
        "fill-opacity stroke-opacity font-family font-size font-weight text-anchor textlength lengthadjust "
        "dominant-baseline clip-path preserveaspectratio",
    )
)
_INERT_META = frozenset({"content-security-policy"})
"""It can only forbid. `refresh` would lead elsewhere."""
_END = len("</svg>")
_NESTED = re.compile(r"<[^>]*<")
_CHARSET = '<meta charset="utf-8">'


@dataclass
class Inventory:
    """What a page consists of: elements, attributes, addresses, the code of scripts and styles, and declarations."""

    elements: set[str] = field(default_factory=set[str])
    attributes: set[str] = field(default_factory=set[str])
    addresses: set[str] = field(default_factory=set[str])
    scripts: set[str] = field(default_factory=set[str])
    styles: set[str] = field(default_factory=set[str])
    declarations: set[str] = field(default_factory=set[str])
    end: str = ""
    """The last letters, white space aside: something that is begun and never closed stands behind them."""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found = Inventory()
        self._within = ""
        self._code = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.elements.add(tag)
        for name, value in attrs:
            self.found.attributes.add(f"{name} of {tag}")
            if name in _ADDRESSES or name.endswith(":href"):
                self.found.addresses.add(value or "")
            elif name == "style":
                self.found.styles.add(value or "")
            elif name == "http-equiv":
                self.found.declarations.add(f"meta {(value or '').lower()}")
            elif name == "charset":
                self.found.declarations.add(f"charset {(value or '').lower()}")
        self._within, self._code = tag if tag in _CODE else "", ""

    def handle_data(self, data: str) -> None:
        self._code += data if self._within else ""

    def handle_endtag(self, tag: str) -> None:  # within a script or style there is no other tag than its end
        if self._within:
            (self.found.scripts if self._within == "script" else self.found.styles).add(self._code)
        self._within = ""

    def handle_comment(self, data: str) -> None:
        self.found.declarations.add(f"comment {data}")

    def handle_decl(self, decl: str) -> None:
        self.found.declarations.add(f"declaration {decl.lower()}")

    def unknown_decl(self, data: str) -> None:
        self.found.declarations.add(f"section {data}")

    def handle_pi(self, data: str) -> None:
        self.found.declarations.add(f"instruction {data}")


def inventory(page: str) -> Inventory:
    """Return what a page of HTML or SVG consists of."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    reader.handle_endtag("")  # of a script or style that was never closed
    reader.found.end = page.rstrip()[-_END:]
    return reader.found


def foreign(page: str, ours: Inventory) -> str:
    """Return in words what a page holds that `ours` has not, empty if nothing."""
    theirs = inventory(page)
    return _first(
        ("the element", theirs.elements - ours.elements),
        ("the attribute", theirs.attributes - ours.attributes),
        ("the address", theirs.addresses - ours.addresses),
        ("a script of its own:", theirs.scripts - ours.scripts),
        ("a style of its own:", {s for s in theirs.styles - ours.styles if _LOADS.search(s)}),
        ("the declaration", theirs.declarations - ours.declarations),
        ("another end:", {theirs.end} - {ours.end}),
    )


def active(page: str, ours: Inventory) -> str:
    """Return in words what a page holds that `ours` has not and that is not inert, empty if nothing."""
    theirs = inventory(page)
    metas = {f"meta {name}" for name in _INERT_META}
    return _first(
        ("the element", theirs.elements - ours.elements - _INERT_ELEMENTS),
        ("the attribute", {a for a in theirs.attributes - ours.attributes if not _inert(a.partition(" of ")[0])}),
        ("the address", {a for a in theirs.addresses - ours.addresses if not re.fullmatch(r"#[\w.-]*", a)}),
        ("a script of its own:", theirs.scripts - ours.scripts),
        ("a style that loads something:", {s for s in theirs.styles - ours.styles if _LOADS.search(s)}),
        ("the declaration", theirs.declarations - ours.declarations - metas),
        ("another end:", {theirs.end} - {ours.end}),
    )


def _inert(attribute: str) -> bool:
    return attribute in _INERT_ATTRIBUTES or attribute.startswith(("aria-", "data-"))


def _first(*found: tuple[str, set[str]]) -> str:
    return next((f"{what} {min(surplus)[:60]}".rstrip() for what, surplus in found if surplus), "")


def _ambiguous(page: str, ours: str) -> str:
    """Return in words what a browser may read otherwise than the parser here, empty if there is nothing.

    That is a `<` inside a tag, whose end depends on what surrounds it and which takes long to look for; controls and
    marks; and bytes in another encoding.
    """
    if _NESTED.search(page):
        return "a < inside a tag"
    if printable(page) != page:
        return "a control or a mark that turns text around"
    if _CHARSET in ours and not page.startswith(ours[: ours.index(_CHARSET) + len(_CHARSET)]):
        return "another beginning, so that its encoding is open"
    return ""


def check_page(name: str, content: bytes, ours: str) -> bool:
    """Return whether a page is the one that we render; one by another version must be inert.

    Raises `SchemaError` where it holds something that acts, loads or leads elsewhere.
    """
    if content == ours.encode():
        return True
    try:
        page = content.decode()
        surplus = _ambiguous(page, ours) or active(page, inventory(ours))
    except (ValueError, AssertionError) as error:  # what the parser of the standard library raises for broken markup
        raise SchemaError(f"{name} is not a page that portkit renders: {str(error)[:60]}") from error
    if surplus:
        raise SchemaError(f"{name} is not what portkit renders from the report: it holds {surplus}")
    return False
