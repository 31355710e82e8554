"""The pages of the documentation that the spec file writes: one per operation, an index, the rules, the accuracy table.

Nothing here knows a form: what a page says comes from v1.toml, and its examples are made from the signatures.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from portkit.spec.examples import example
from portkit.spec.forms import (
    ACCURACY,
    CLAUSES,
    EXTENSIONS,
    FORMS,
    OPCODES,
    VERSION,
    Form,
    Op,
    Operand,
    Role,
    counts,
    digest,
)
from portkit.spec.text import format as format_kernel

_TEXT: dict[Role, str] = {
    Role.REGISTER: "{name}",
    Role.REGISTERS: "{name} b ...",
    Role.TYPE: "TYPE",
    Role.VALUE: "LITERAL",
    Role.COUNT: "COUNT",
    Role.INTEGER: "LITERAL",
    Role.MEMORY: "{memory}",
    Role.WORD: "{name}",
    Role.GATE: "[if p]",
    Role.GATE_ELSE: "[if p else v]",
    Role.CARRIES: "carry=next ...",
}
_EFFECTS = {
    "pure": "none: the result depends on the operands only",
    "read": "reads memory",
    "write": "writes memory",
    "sync": "orders or waits for other accesses",
    "control": "opens or closes a loop",
}


def write_pages(folder: Path) -> None:
    """Write every page as Markdown into an existing folder."""
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Return the Markdown of every page by file name."""
    written = {f"{op.value}.md": _op_page(op) for op in Op}
    return {"index.md": _index(), **written, "clauses.md": _clauses(), "accuracy.md": _accuracy()}


def syntax(form: Form) -> str:
    """Return the text form of an instruction with its operands named, such as `r = load m i [if p else v]`."""
    words = [_word(operand) for operand in form.operands]
    return " ".join([*(["r ="] if form.result else []), form.name, *words])


def _word(operand: Operand) -> str:
    memory = {"global": "buffer", "shared": "shared"}.get(operand.name, operand.name)
    return _TEXT[operand.role].format(name=operand.name, memory=memory)


def _prose(text: str) -> str:
    """Return text of the spec as Markdown: outside of code, characters that Markdown reads as markup are escaped."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*_|<])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def _page(lines: Iterable[str]) -> str:
    return "\n".join([*lines, ""])


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    titles = list(head)
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _anchor(name: str) -> str:
    return f"form-{name.replace('.', '-')}"


def _forms(op: Op) -> list[Form]:
    return [form for form in FORMS.values() if form.op is op]


# --- index --------------------------------------------------------------------------------------------------------


def _index() -> str:
    opcodes, base, extension = counts()
    rows = ((f"[`{op.value}`]({op.value}.md)", _names(op, extension=False), _names(op, extension=True)) for op in Op)
    return _page(
        [
            "# Operations",
            "",
            f"Version {VERSION} has **{opcodes} opcodes, {base} base forms and {extension} extension forms**.",
            "Every device has the base forms, declares the extensions that it has, and is tested on what it declares.",
            "",
            *_table(["operation", "base forms", "extension forms"], rows),
            "Every rule has a number: [the rules](clauses.md).",
            "What an approximation may be off by: [accuracy](accuracy.md).",
            "",
            "## Extensions",
            "",
            *_table(["extension", "what it adds", "forms"], _extension_rows()),
            f"The spec file has the SHA-256 `{digest()}`.",
        ]
    )


def _names(op: Op, *, extension: bool) -> str:
    names = [f for f in _forms(op) if bool(f.extension) is extension]
    return " ".join(f"[`{f.name}`]({op.value}.md#{_anchor(f.name)})" for f in names) or " "


def _extension_rows() -> Iterator[tuple[str, str, str]]:
    for name, meaning in EXTENSIONS.items():
        members = [form for form in FORMS.values() if form.extension == name]
        later = " Specified, not in use yet." if all(form.specified_only for form in members) else ""
        yield f"`{name}`", meaning + later, str(len(members))


# --- operations ---------------------------------------------------------------------------------------------------


def _op_page(op: Op) -> str:
    forms = _forms(op)
    rows = (
        (
            f"[`{form.name}`](#{_anchor(form.name)})",
            f"`{syntax(form)}`",
            f"`{form.extension}`" if form.extension else "base",
            _prose(form.summary),
        )
        for form in forms
    )
    lines = [f"# {op.value}", "", OPCODES[op.value], "", "## Forms", ""]
    lines += _table(["form", "text", "part of", "meaning"], rows)
    for form in forms:
        lines += _form_section(form)
    return _page(lines)


def _form_section(form: Form) -> Iterator[str]:
    yield f"## {form.name} {{ #{_anchor(form.name)} }}"
    yield ""
    yield _prose(form.summary)
    yield ""
    yield from _table(["", ""], _facts(form))
    yield "**Rules**"
    yield ""
    for clause in form.clauses:
        yield f"- [{clause}](clauses.md#{clause}): {_prose(CLAUSES[clause])}"
    yield ""
    yield "**Example**"
    yield ""
    yield from (f"    {line}".rstrip() for line in format_kernel(example(form)).splitlines())
    yield ""


def _facts(form: Form) -> Iterator[tuple[str, str]]:
    yield "text", f"`{syntax(form)}`"
    yield "signature", f"`{form.signature}`" if form.signature else "no operands"
    for variable, dtypes in form.types:
        yield f"`{variable}` is one of", " ".join(f"`{name}`" for name in dtypes)
    yield "lanes", _lanes(form)
    yield "effect", _EFFECTS[form.effect]
    yield "part of", _belongs(form)
    if form.name in ACCURACY:
        yield "accuracy", _bounds(form.name)


def _lanes(form: Form) -> str:
    if form.vector:
        return "2 to 64"
    return "1, or 2 to 64 with the extension `vec`" if form.lanes and form.types and not form.has_memory else "1"


def _belongs(form: Form) -> str:
    where = f"the extension `{form.extension}`" if form.extension else "the base: every device has it"
    return f"{where}; specified, not in use yet" if form.specified_only else where


# --- rules and accuracy -------------------------------------------------------------------------------------------


def _clauses() -> str:
    users: defaultdict[str, list[Form]] = defaultdict(list)
    for form in FORMS.values():
        for clause in form.clauses:
            users[clause].append(form)
    lines = ["# Rules", "", "Error messages, cases and tests cite these numbers."]
    chapter = ""
    for clause, text in CLAUSES.items():
        if clause.rpartition("_")[0] != chapter:
            chapter = clause.rpartition("_")[0]
            lines += ["", f"## {chapter}"]
        lines += ["", f"### {clause} {{ #{clause} }}", "", _prose(text)]
        if users[clause]:
            links = " ".join(f"[`{f.name}`]({f.op.value}.md#{_anchor(f.name)})" for f in users[clause])
            lines += ["", f"Forms: {links}"]
    return _page(lines)


def _accuracy() -> str:
    rows = ((f"`{name}`", _bounds(name)) for name in ACCURACY)
    return _page(
        [
            "# Accuracy",
            "",
            "The largest permitted error in units in the last place, after Muller, at the exact result.",
            "Correctly rounded means the exact result rounded once to nearest even. Forms not listed are exact.",
            "",
            *_table(["form", "bound"], rows),
            *(f"- [{c}](clauses.md#{c}): {_prose(text)}" for c, text in CLAUSES.items() if c.startswith("accuracy")),
        ]
    )


def _bounds(name: str) -> str:
    bounds = ACCURACY[name]
    others = ", ".join(f"{_bound(bound)} for `{dtype}`" for dtype, bound in bounds.items() if dtype != "default")
    return f"{_bound(bounds['default'])}{f'; {others}' if others else ''}"


def _bound(bound: float | str) -> str:
    return "correctly rounded" if bound == "exact" else f"{bound} ulp"
