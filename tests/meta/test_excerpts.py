"""The code that the porting pages show is the code that runs."""

from __future__ import annotations

import re
import textwrap
from importlib import import_module
from inspect import isfunction
from pathlib import Path
from typing import NamedTuple

import pytest

from portkit.backends.toolkit.c_kernel import GroupDialect, print_c_kernel
from portkit.backends.toolkit.c_lanes import LaneDialect, print_c_lanes
from portkit.backends.toolkit.llvm_lanes import LaneTarget, print_lanes
from portkit.spec.text import parse

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r"<!-- (?P<how>excerpt|printed): (?P<source>\S+) -->\n```\w*\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
KERNEL = re.compile(r"```text\n(?P<text>portkit .*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A code block with a mark: where it stands, how it was made, of what, and its text."""

    page: Path
    how: str
    source: str
    text: str


def blocks() -> list[Block]:
    pages = sorted((ROOT / "docs").rglob("*.md"))
    return [Block(page, **match.groupdict()) for page in pages for match in BLOCK.finditer(page.read_text("utf-8"))]


def contains(whole: str, part: str) -> bool:
    """Whether lines stand one after the other in a text, all indented alike."""
    lines, wanted = whole.splitlines(), part.splitlines()
    return any(
        textwrap.dedent("\n".join(lines[at : at + len(wanted)])) == part.rstrip("\n") for at in range(len(lines))
    )


def printed(block: Block) -> str:
    """Print the page's kernel in the dialect that the block names."""
    kernel = KERNEL.search(block.page.read_text("utf-8"))
    assert kernel is not None, f"{block.page.name} shows no kernel"
    module, _, name = block.source.partition(":")
    dialect = getattr(import_module(module), name)
    if isinstance(dialect, LaneDialect):
        return print_c_lanes(parse(kernel["text"]), dialect)
    if isinstance(dialect, LaneTarget):
        return print_lanes(parse(kernel["text"]), dialect)
    if isfunction(dialect):  # from a kernel to its machine code and listing
        return dialect(parse(kernel["text"])).source
    if isinstance(dialect, type):  # a compiler, whose code is text
        return dialect(90).compile(parse(kernel["text"])).source.replace("\t", " ")
    assert isinstance(dialect, GroupDialect)
    return print_c_kernel(parse(kernel["text"]), dialect).text


def test_there_are_pages_with_marked_code() -> None:
    assert {block.page.name for block in blocks()} >= {"route-c.md"}


@pytest.mark.parametrize("block", blocks(), ids=lambda block: f"{block.page.stem}-{block.source}")
def test_code_on_a_page_is_the_code_that_runs(block: Block) -> None:
    whole = printed(block) if block.how == "printed" else (ROOT / block.source).read_text("utf-8")
    assert contains(whole, block.text), f"{block.source} no longer has, line by line:\n{block.text}"


def test_a_line_that_differs_is_found() -> None:
    whole = "def f():\n    a = 1\n    return a\n"
    assert contains(whole, "a = 1\nreturn a\n")
    assert not contains(whole, "a = 1\n    return a\n")
    assert not contains(whole, "a = 2\n")
