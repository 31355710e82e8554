"""`portkit backends`: what is installed, and whether it can run here."""

from __future__ import annotations

from typing import Any

import typer

from portkit.cli.output import console, print_json, print_table
from portkit.errors import PortkitError


def _describe(name: str) -> dict[str, Any]:
    from portkit.contract import find_backend

    try:
        backend = find_backend(name)
        reason = backend.probe()
    except PortkitError as error:
        return {"name": name, "runs": False, "reason": str(error)}
    caps = backend.capabilities
    return {
        "name": name,
        "version": caps.version,
        "evidence": caps.evidence,
        "dtypes": list(caps.dtypes),
        "extensions": list(caps.extensions),
        "runs": reason is None,
        "reason": reason or "",
    }


def backends(json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """List every installed backend with its probe result."""
    from portkit.contract import installed_backends

    found = [_describe(name) for name in installed_backends()]
    if json:
        print_json({"backends": found})
        return
    rows = [
        (f["name"], f.get("version", "-"), f.get("evidence", "-"), "yes" if f["runs"] else "no", f["reason"] or "ready")
        for f in found
    ]
    print_table(("backend", "version", "evidence", "runs here", "reason"), rows)
    console.print("\nTo check one: portkit conform --backend NAME. To start your own: portkit new NAME")
