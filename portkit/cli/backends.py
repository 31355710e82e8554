"""`portkit backends`: what is installed, and whether it can run here."""

from __future__ import annotations

import contextlib
from typing import Any

import typer

from portkit.cli.output import print_json, print_table, say
from portkit.errors import PortkitError

_SECONDS = 20.0


def _describe(name: str) -> dict[str, Any]:
    """Return what a backend says of itself, asked in a process of its own: it may be broken, or hang."""
    from portkit.runtime.client import DeviceClient

    client = DeviceClient(name, timeout=_SECONDS, start_timeout=_SECONDS)
    try:
        caps = client.capabilities
        reason = client.probe()
    except PortkitError as error:
        return {"name": name, "runs": False, "reason": str(error)}
    finally:
        with contextlib.suppress(PortkitError):
            client.leave()
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
    say("\nTo check one: portkit conform --backend NAME. To start one: portkit new NAME")
