"""`portkit bundle`: export cases as files, to run them where portkit is not, or in a browser."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from portkit.cli.conform import TierName
from portkit.cli.output import errors, print_json, say, shown
from portkit.errors import UsageError

if TYPE_CHECKING:
    from portkit.conformance.bundle.make import Made
    from portkit.contract import Capabilities
    from portkit.runtime.client import DeviceClient

BROWSER_BACKEND = "webgpu"
"""Prints the source of the page."""


def _print_schema(value: bool) -> None:
    if value:
        from portkit.conformance.bundle.model import json_schema

        print_json(json_schema())
        raise typer.Exit


def bundle(
    out: Path = typer.Option(..., "--out", help="The archive to write, or with --browser the folder of the page."),
    backend: str = typer.Option(
        "", "--backend", "-b", help="The backend whose capabilities are taken, and that prints the generated source."
    ),
    capabilities: Path | None = typer.Option(
        None, "--capabilities", help="A capabilities file, in place of what the backend declares."
    ),
    profile: str = typer.Option("core", "--profile", help="The profile that the cases are of."),
    tier: TierName = typer.Option(TierName.SMOKE, "--tier", help="How many cases."),
    case: list[str] = typer.Option([], "--case", metavar="ID", help="Only this id, prefix or glob; may be repeated."),
    source: bool = typer.Option(True, "--source/--no-source", help="Add the source that the backend generates."),
    browser: bool = typer.Option(
        False, "--browser", help="Write a page that runs the cases on the WebGPU device of whoever opens it."
    ),
    schema: bool = typer.Option(
        False, "--schema", callback=_print_schema, is_eager=True, help="Print the JSON Schema of the records and leave."
    ),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Export cases as one archive: kernels, inputs, and what is acceptable.

    Run the launches anywhere (on a simulator, in a lab without a network, in C) and judge the memory images that come
    out of it with portkit judge. Only cases that are launches can be exported; those that talk to a running device are
    listed in the archive as left out.
    """
    from portkit.conformance.bundle.browser import browser_capabilities, require_page_folder, write_browser_page
    from portkit.conformance.bundle.make import Wanted, make_bundle
    from portkit.conformance.case import Tier

    if not (backend or capabilities or browser):
        raise UsageError("say what for: --backend NAME, --capabilities FILE, or both; or --browser")
    if browser:
        require_page_folder(out)
    with ExitStack() as stack:
        client = _client(stack, backend or (BROWSER_BACKEND if browser else ""))
        declared = _declared(client, capabilities, browser_capabilities() if browser else None)
        with _progress(quiet=json) as step:
            wanted = Wanted(declared, profile, Tier(tier.value), tuple(case), step)
            made = make_bundle(wanted, client if source or browser else None)
    place = write_browser_page(out, made) if browser else _write(out, made)
    _show(place, made, browser=browser, json=json)


def _client(stack: ExitStack, backend: str) -> DeviceClient | None:
    if not backend:
        return None
    from portkit.runtime.client import DeviceClient

    client = stack.enter_context(DeviceClient(backend))
    client.require()
    return client


def _declared(client: DeviceClient | None, file: Path | None, default: Capabilities | None) -> Capabilities:
    """Return the capabilities of the file, else of the page, else of the backend."""
    if file is not None:
        from portkit.contract import load_capabilities

        return load_capabilities(file)
    if default is not None:
        return default
    assert client is not None
    return client.capabilities


def _write(out: Path, made: Made) -> Path:
    from portkit.conformance.files import write_atomically, writing

    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        return write_atomically(out, made.pack())


@contextmanager
def _progress(*, quiet: bool) -> Generator[Callable[[str, int, int], None]]:
    """Show on a terminal which case is at work."""
    if quiet or not sys.stderr.isatty():
        yield lambda case_id, done, total: None
        return
    with errors.status("") as status:
        yield lambda case_id, done, total: status.update(f"{done} of {total}  {shown(case_id)}")


def _show(place: Path, made: Made, *, browser: bool, json: bool) -> None:
    found = made.bundle
    record: dict[str, Any] = {
        "written": str(place),
        "cases": len(found.cases),
        "left_out": len(found.left_out),
        "sources": sum(case.source is not None for case in found.cases),
        "files": len(made.files),
        "suite_digest": found.suite_digest,
    }
    if json:
        print_json(record)
        return
    say(f"wrote     {place}: {len(found.cases)} launches, {record['sources']} with generated source")
    if found.left_out:
        say(f"left out  {len(found.left_out)} cases that talk to a running device; bundle.json lists them")
    if browser:
        say("next      open the page in a browser with WebGPU; it works from a folder, and from any web server")
    else:
        say(f"next      portkit judge {place} OUTPUTS")
