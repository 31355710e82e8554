"""`portkit spec`: the language, from the same table that the verifier uses."""

from __future__ import annotations

from typing import Any

import typer

from portkit.cli.output import fill, print_json, print_table, say
from portkit.errors import UsageError, near_names


def _form_record(name: str) -> dict[str, Any]:
    from portkit.spec.forms import CLAUSES, FORMS

    form = FORMS[name]
    return {
        "form": name,
        "op": form.op.value,
        "extension": form.extension,
        "signature": form.signature,
        "types": {variable: list(dtypes) for variable, dtypes in form.types},
        "effect": form.effect,
        "summary": form.summary,
        "clauses": {clause: CLAUSES[clause] for clause in form.clauses},
    }


def _selected(topic: str) -> list[str]:
    from portkit.spec.forms import CLAUSES, FORMS

    if not topic:
        return list(FORMS)
    chosen = [name for name, form in FORMS.items() if topic in (name, form.op.value, form.extension)]
    if not chosen:
        known = {*FORMS, *CLAUSES, *(f.op.value for f in FORMS.values()), *(f.extension for f in FORMS.values())}
        raise UsageError(f"unknown op, form, extension or clause {topic!r}{near_names(topic, known - {''})}")
    return chosen


def spec(
    topic: str = typer.Argument("", help="An op, form, extension or clause; without one, the whole table."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show the twelve ops, one op, one form or one clause of the spec."""
    from portkit.spec.forms import CLAUSES, VERSION, counts, digest

    if topic in CLAUSES:
        if json:
            print_json({"clause": topic, "text": CLAUSES[topic]})
        else:
            say(_clause(topic, CLAUSES[topic]))
        return
    records = [_form_record(name) for name in _selected(topic)]
    opcodes, base, extension = counts()
    if json:
        print_json({"version": VERSION, "digest": digest(), "opcodes": opcodes, "forms": records})
        return
    if not topic:
        say(f"portkit spec {VERSION}: {opcodes} opcodes, {base} base forms, {extension} extension forms")
        say(f"sha256 {digest()}\n")
    print_table(
        ("form", "extension", "signature"), [(r["form"], r["extension"] or "base", r["signature"]) for r in records]
    )
    if topic:
        _print_details(records)


def _clause(name: str, text: str) -> str:
    return fill(f"{name}: {text}", rest=4)


def _print_details(records: list[dict[str, Any]]) -> None:
    """Print what each form does and on which dtypes, then every clause that holds for any of them, once."""
    for record in records:
        say(f"\n{record['form']}")
        types = [f"{variable}: {' '.join(dtypes)}" for variable, dtypes in record["types"].items()]
        for line in (record["summary"], *types):
            say(fill(line, "    ", 7))
    clauses: dict[str, str] = {}
    for record in records:
        clauses.update(record["clauses"])
    if clauses:
        say("\n" + "\n".join(_clause(name, text) for name, text in clauses.items()))
