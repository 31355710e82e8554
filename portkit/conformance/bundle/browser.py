"""The page that runs a bundle on the WebGPU device of whoever opens it: static files, and the bundle beside them.

A page from the file system may not fetch files, so the archive stands in a script, in base64. The page unpacks it, runs
every launch, judges it, and saves report, outputs and bundle; `portkit judge` gives the same verdicts of what it saves.
"""

from __future__ import annotations

import base64
from importlib import resources
from pathlib import Path

from portkit.conformance.bundle.make import Made, Wanted, make_bundle
from portkit.conformance.files import write_atomically, writing
from portkit.contract import Capabilities, load_capabilities
from portkit.errors import UsageError
from portkit.runtime.client import DeviceClient

FILES = ("index.html", "page.css", "zip.js", "judge.js", "device.js", "page.js")
DATA = "bundle.js"
_ENTRY = b"@compute"


def browser_capabilities() -> Capabilities:
    """Return what the page asks of a device: what every WebGPU device has."""
    page = resources.files("portkit.conformance.bundle").joinpath("page/capabilities.toml")
    with resources.as_file(page) as path:
        return load_capabilities(path)


def browser_bundle(printer: DeviceClient) -> Made:
    """Return the smoke cases of profile core for a browser, their WGSL printed by a backend that prints WGSL."""
    return make_bundle(Wanted(browser_capabilities()), printer)


def require_page_folder(folder: Path) -> None:
    """Raise `UsageError` for a folder that holds something else than an older page."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / DATA).is_file():
        raise UsageError(f"{folder} exists and is not a page of a bundle; choose another folder with --out")


def write_browser_page(folder: Path, made: Made) -> Path:
    """Write the page and its bundle into a folder and return its index.html.

    Raises `UsageError` where the source of a case is not WGSL, or the folder holds something else or cannot be written.
    """
    require_page_folder(folder)
    for case in made.bundle.cases:
        if case.source is None or _ENTRY not in made.files[case.source.path]:
            raise UsageError(f"case {case.id} has no source in WGSL; the page needs a backend that prints it")
    script = f'"use strict";\nconst PORTKIT_BUNDLE = "{base64.b64encode(made.pack()).decode()}";\n'
    page = resources.files("portkit.conformance.bundle").joinpath("page")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / DATA, script.encode())
        for name in FILES:
            write_atomically(folder / name, page.joinpath(name).read_bytes())
    return folder / "index.html"
