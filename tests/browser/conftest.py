"""Pages in a browser without a window: Debian's chromium, driven by Playwright, with a WebGPU adapter in software."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WEBGPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
Start: TypeAlias = "Callable[..., Browser]"
Open: TypeAlias = "Callable[..., Page]"
Serve: TypeAlias = Callable[[Path], str]


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    """Start browsers with flags; skips where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: it is part of portkit[dev]")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"there is no browser: none of {', '.join(NAMES)} is on the path; apt install chromium")
    with api.sync_playwright() as playwright:
        yield lambda *flags: playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *flags])


@pytest.fixture(scope="session")
def browser(start: Start) -> Iterator[Browser]:
    with start(*WEBGPU) as started:
        yield started


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve folders on this machine, each on a port of its own."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(folder: Path) -> str:
        handler = functools.partial(Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and keeps no log."""

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open pages that may not fail: what one logs as an error, throws, or asks of another place fails the test."""
    contexts: list[Any] = []
    faults: list[str] = []

    def open_(url: str, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(100_000)
        page.on("pageerror", lambda error: faults.append(f"threw {error}"))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        origin = url.rsplit("/", 1)[0]
        page.on("request", lambda request: check_place(request.url, origin, faults))
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert faults == []


def check_place(url: str, origin: str, faults: list[str]) -> None:
    """Note a request to anywhere but the folder of the page."""
    if not url.startswith((origin, "blob:", "data:")):
        faults.append(f"asked for {url}")
