"""`portkit keygen`: make the keys that reports are signed with."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer

from portkit.cli.output import print_json, say


def keygen(
    key: Path = typer.Argument(..., help="The file of the private key; the public one gets .pub after its name."),
    name: str = typer.Option("", "--name", help="Who signs with it, for the lines of a registry's keys.toml."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Make an Ed25519 key pair to sign reports with.

    The private key can be read by its owner alone, and neither file is ever overwritten. Keep it out of the repository.
    """
    from portkit.conformance.attest.keys import base64_line, generate, public_path

    made = generate(key)
    public = public_path(key)
    if json:
        print_json(
            {"keyid": made.keyid, "private": str(key), "public": str(public), "public_base64": base64_line(made)}
        )
        return
    say(f"private   {key}  (keep it secret)")
    say(f"public    {public}  (give it to those who verify)")
    say(f"keyid     {made.keyid}")
    say("\nfor the keys.toml of a registry that is to take its signatures:\n")
    say(f"[[key]]\nname = {_quoted(name or key.stem)}\npublic = {_quoted(base64_line(made))}")
    say(f"\nnext      portkit publish out/mychip --registry ./registry --key {shlex.quote(str(key))}")


def _quoted(text: str) -> str:
    """Return a text as TOML spells it; JSON's strings are among them."""
    import json

    return json.dumps(text, ensure_ascii=False)
