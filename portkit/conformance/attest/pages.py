"""Whether a page that was rendered elsewhere holds anything that ours would not.

A report's page and badge can be rendered again from `report.json`, and whoever shows a registry does that. The files
that lie in it may come from another version of portkit. So one that differs from ours may have other text, but no
element, attribute, address, script or style that ours has not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

from portkit.errors import SchemaError

_ADDRESSES = frozenset({"href", "src", "srcset", "action", "formaction", "data", "poster", "background", "ping"})
_CODE = frozenset({"script", "style"})
_END = len("</svg>")


@dataclass
class Inventory:
    """What a page consists of: its elements, attributes, addresses, and the code of its scripts and styles."""

    elements: set[str] = field(default_factory=set[str])
    attributes: set[str] = field(default_factory=set[str])
    addresses: set[str] = field(default_factory=set[str])
    code: set[str] = field(default_factory=set[str])
    declarations: set[str] = field(default_factory=set[str])
    end: str = ""
    """The last letters, white space aside: something that is begun and never closed stands behind them."""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found = Inventory()
        self._code: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.elements.add(tag)
        for name, value in attrs:
            self.found.attributes.add(f"{name} of {tag}")
            if name in _ADDRESSES or name.endswith(":href"):
                self.found.addresses.add(value or "")
            elif name in ("style", "http-equiv", "content"):
                self._note_value(tag, name, value or "")
        self._code = "" if tag in _CODE else None

    def _note_value(self, tag: str, name: str, value: str) -> None:
        if name == "style":
            if re.search(r"url|expression|import|[\\@]", value, re.IGNORECASE):
                self.found.addresses.add(value)
        else:
            self.found.declarations.add(f"{tag} {name} {value}")

    def handle_data(self, data: str) -> None:
        if self._code is not None:
            self._code += data

    def handle_endtag(self, tag: str) -> None:  # within a script or style there is no other tag than its end
        if self._code is not None:
            self.found.code.add(self._code)
        self._code = None

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
    """Return in words what a page holds that is not in `ours`, empty if nothing. Addresses inside of it are fine."""
    theirs = inventory(page)
    addresses = {a for a in theirs.addresses - ours.addresses if not re.fullmatch(r"#[\w.-]*", a)}
    for what, surplus in (
        ("the element", theirs.elements - ours.elements),
        ("the attribute", theirs.attributes - ours.attributes),
        ("the address", addresses),
        ("a script or style of its own:", theirs.code - ours.code),
        ("the declaration", theirs.declarations - ours.declarations),
        ("another end:", {theirs.end} - {ours.end}),
    ):
        if surplus:
            return f"{what} {min(surplus)[:60]}"
    return ""


def check_page(name: str, content: bytes, ours: str) -> bool:
    """Return whether a page is the one that we render; one by another version must be harmless.

    Raises `SchemaError` where it holds what ours does not.
    """
    if content == ours.encode():
        return True
    surplus = foreign(content.decode("utf-8", errors="replace"), inventory(ours))
    if surplus:
        raise SchemaError(f"{name} is not what portkit renders from the report: it holds {surplus}")
    return False
