"""The generated pages: complete, of one shape, and with examples that hold."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from portkit.reference.checks import check
from portkit.spec.docs import pages, syntax, write_pages
from portkit.spec.examples import example
from portkit.spec.forms import CLAUSES, EXTENSIONS, FORMS, Form, Op, counts
from portkit.spec.kernel import Kernel
from portkit.spec.text import parse
from portkit.spec.verify import verify

PAGES = pages()
IN_USE = [form for form in FORMS.values() if not form.specified_only]
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())


def section(form: Form) -> str:
    """Return what the page of its op says about a form."""
    return PAGES[f"{form.op.value}.md"].split(f"\n## {form.name} {{")[1].split("\n## ")[0]


def plain(markdown: str) -> str:
    return re.sub(r"\\([*_|<])", r"\1", markdown)


def test_what_markdown_would_read_as_markup_is_escaped() -> None:
    assert r"1-k\*u" in PAGES["clauses.md"]
    assert "`[A-Za-z_][A-Za-z0-9_]*`" in PAGES["clauses.md"]


def shown_example(form: Form) -> Kernel:
    lines = section(form).split("**Example**")[1].splitlines()
    return parse("\n".join(line.removeprefix("    ") for line in lines))


def inputs(kernel: Kernel) -> tuple[dict[str, int | float], dict[str, np.ndarray]]:
    """Return launch scalars, and buffers filled with small numbers."""
    scalars: dict[str, int | float] = {s.name: 1 for s in kernel.scalars}
    readable = [b for b in kernel.buffers if b.access != "write"]
    return scalars, {b.name: np.ones(b.extent.evaluate(scalars), b.dtype.numpy) for b in readable}


def test_there_is_a_page_for_each_op_an_index_the_rules_and_the_accuracy() -> None:
    assert set(PAGES) == {*(f"{op.value}.md" for op in Op), "index.md", "clauses.md", "accuracy.md"}


def test_pages_are_written_as_they_are_made(tmp_path: Path) -> None:
    write_pages(tmp_path)
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == PAGES


def test_the_index_publishes_all_three_counts() -> None:
    opcodes, base, extension = counts()
    assert f"**{opcodes} opcodes, {base} base forms and {extension} extension forms**" in PAGES["index.md"]


@pytest.mark.parametrize("name", EXTENSIONS)
def test_the_index_names_every_extension(name: str) -> None:
    assert f"| `{name}` |" in PAGES["index.md"]


@every_form
def test_the_section_of_a_form_has_text_rules_and_an_example(form: Form) -> None:
    text = section(form)
    assert f"| text | `{syntax(form)}` |" in text
    assert text.index("| effect |") < text.index("| part of |") < text.index("**Rules**") < text.index("**Example**")
    for clause in form.clauses:
        assert f"- [{clause}](clauses.md#{clause}): {CLAUSES[clause]}" in plain(text)


@every_form
def test_the_example_of_a_form_is_read_from_its_page_and_uses_it(form: Form) -> None:
    kernel = shown_example(form)
    assert kernel == example(form)
    assert form.name in {instr.name for instr in kernel.body}


@pytest.mark.parametrize("form", IN_USE, ids=lambda form: form.name)
def test_the_example_of_a_form_verifies_and_is_valid(form: Form) -> None:
    kernel = shown_example(form)
    verify(kernel)
    check(kernel, *inputs(kernel))


@pytest.mark.parametrize("clause", CLAUSES)
def test_every_rule_has_an_anchor_and_its_text(clause: str) -> None:
    assert f"### {clause} {{ #{clause} }}\n\n{CLAUSES[clause]}\n" in plain(PAGES["clauses.md"])


def test_every_link_between_pages_leads_to_an_anchor() -> None:
    anchors = {name: set(re.findall(r"\{ #([\w-]+) \}", text)) for name, text in PAGES.items()}
    for name, text in PAGES.items():
        for page, anchor in re.findall(r"\]\(([\w.]*)#([\w-]+)\)", text):
            assert anchor in anchors[page or name], f"{name}: {page}#{anchor}"


def test_the_text_of_a_form_names_its_operands() -> None:
    assert syntax(FORMS["load"]) == "r = load m i [if p else v]"
    assert syntax(FORMS["load.async"]) == "r = load.async shared di <- buffer si LITERAL"
    assert syntax(FORMS["endloop"]) == "endloop k carry=next ..."
