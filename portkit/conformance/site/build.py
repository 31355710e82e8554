"""Writing the site of a registry: an index with every view, a page for each report, and Markdown and CSV."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import resources
from multiprocessing import get_context
from pathlib import Path

import jinja2

from portkit.conformance.attest.verify import keys_of, published
from portkit.conformance.files import writing
from portkit.conformance.registry import read_entry
from portkit.conformance.report import badge, html
from portkit.conformance.report.model import Report, read_file
from portkit.conformance.report.statement import EVIDENCE_MEANING
from portkit.conformance.site.columns import Column, column, newest
from portkit.conformance.site.data import data_script, details_script
from portkit.conformance.site.history import history
from portkit.conformance.site.plots import plot
from portkit.conformance.site.tables import comma_separated, markdown, signature
from portkit.conformance.verdict import Verdict
from portkit.errors import UsageError

SCRIPTS = ("theme.js", "state.js", "matrix.js", "details.js", "compare.js", "site.js")
STYLE = "site.css"
DATA = "data.js"
MARKDOWN, CSV = "matrix.md", "matrix.csv"
BROWSER = "browser"
"""The folder of the page that runs cases on the device of whoever looks at the site, if it has one."""
_PARTS = {"index.html", MARKDOWN, CSV, DATA, STYLE, "reports", BROWSER, *SCRIPTS}
_MARK = '<meta name="generator" content="portkit matrix">'
"""By this line of its index an older site is known."""
_MANY = 24
"""From so many reports on, other processes pay for their start."""
_MOST_PROCESSES = 8

Step = Callable[[int, int], None]


def build(registry: Path, site: Path, *, step: Step | None = None, page: Path | None = None) -> Path:
    """Write the site and return its index; `step` is told how many reports are done, and of how many.

    `page` is the folder of a page by `portkit bundle --browser`, which the site then carries; a site that has one
    already keeps it. The site is built beside its place and renamed over an older one. Raises as `registry.entries`
    does, and `UsageError` where something else is in its place, it cannot be written, or `page` is not such a page.
    """
    folders = published(registry)
    _require_free(site, registry)
    older = site / BROWSER
    carried = page_files(page or older) if page or older.is_dir() else {}
    with writing(site):
        site.absolute().parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".matrix-", dir=site.absolute().parent))
        try:
            _write_site(scratch / "new", _Job(registry, scratch / "new", bool(carried)), folders, step or _nothing)
            _write_page(scratch / "new" / BROWSER, carried)
            if site.exists():
                site.rename(scratch / "old")
            (scratch / "new").rename(site)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return site / "index.html"


def page_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a page by `portkit bundle --browser`; raises `UsageError` where one is missing."""
    from portkit.conformance.bundle.browser import DATA as BUNDLE
    from portkit.conformance.bundle.browser import FILES

    names = (*FILES, BUNDLE)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UsageError(f"{folder} has no {missing[0]}; make the page with portkit bundle --browser --out {folder}")
    return {name: read_file(folder / name) for name in names}


def _write_page(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def _nothing(done: int, of: int) -> None:
    del done, of


def _require_free(site: Path, registry: Path) -> None:
    """Raise `UsageError` where writing the site would remove anything but an older site."""
    if registry.resolve().is_relative_to(site.resolve()):
        raise UsageError(f"{site} holds the registry itself; choose another folder with --out")
    if not (site.exists() or site.is_symlink()):
        return
    free = site.is_dir() and not site.is_symlink() and (not any(site.iterdir()) or _is_site(site))
    if not free:
        raise UsageError(f"{site} exists and is not a matrix site; choose another folder with --out")


def _is_site(folder: Path) -> bool:
    index = folder / "index.html"
    if {path.name for path in folder.iterdir()} - _PARTS or not index.is_file():
        return False
    with index.open(encoding="utf-8", errors="replace") as file:
        return _MARK in file.read(4096)


# --- the pages ----------------------------------------------------------------------------------------------------


@cache
def pages() -> jinja2.Environment:
    """Return the templates of the site over those of the report; autoescape is on for every one."""
    own = jinja2.PackageLoader("portkit.conformance.site", "pages")
    reports = html.pages()
    assert reports.loader is not None
    environment = reports.overlay(loader=jinja2.ChoiceLoader([own, reports.loader]))
    environment.filters["signature"] = signature
    return environment


def _own(name: str) -> str:
    return resources.files("portkit.conformance.site").joinpath(f"pages/{name}").read_text(encoding="utf-8")


def _write_site(folder: Path, job: _Job, folders: Sequence[Path], step: Step) -> None:
    folder.mkdir()
    columns = read_columns(job, folders, step)
    shown = newest(columns)
    texts = {
        "index.html": index_page(columns, browser=job.browser),
        STYLE: html.style() + _own(STYLE),
        DATA: data_script(columns),
        MARKDOWN: markdown(shown),
        CSV: comma_separated(shown),
        **{name: _own(name) for name in SCRIPTS},
    }
    for name, text in texts.items():
        _write(folder / name, text)


def index_page(columns: Sequence[Column], *, browser: bool) -> str:
    """Return `index.html`, of columns by backend and newest first; `browser` links the page that the site carries."""
    shown = newest(columns)
    return (
        pages()
        .get_template("index.html.j2")
        .render(
            mark=_MARK,
            browser=browser,
            scripts=SCRIPTS,
            newest=[(columns.index(c), c) for c in shown],
            history=history(columns),
            reports=len(columns),
            meaning=EVIDENCE_MEANING,
            best=Verdict.PASS,
        )
    )


def report_page(report: Report, shown: Column, *, browser: bool) -> str:
    """Return the page of a report within the site; what passed is counted there, not listed."""
    return html.render(
        report,
        pages().get_template("site_report.html.j2"),
        column=shown,
        browser=browser,
        home="../" * (shown.folder.count("/") + 2),
        plot=plot(shown.squares),
        odd_cases=[c for c in report.cases if not c.verdict.passes or c.reason],
    )


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "replace"))


# --- the reports --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Job:
    """Reads one report, writes its page, and returns its column; runs in another process where there are many."""

    registry: Path
    site: Path
    browser: bool

    def __call__(self, folder: Path) -> Column:
        # the keys are read here because they cannot be sent to another process
        entry = read_entry(self.registry, folder, keys_of(self.registry))
        shown = column(entry)
        target = self.site / "reports" / entry.folder
        target.mkdir(parents=True)
        _write(target / "index.html", report_page(entry.report, shown, browser=self.browser))
        _write(target / "badge.svg", badge.render(entry.report))
        _write(target / "details.js", details_script(shown))
        return shown


def read_columns(job: _Job, folders: Sequence[Path], step: Step) -> list[Column]:
    """Read every report, write its page, and return the columns by backend, newest first."""
    found: list[Column] = []
    for shown in _mapped(job, folders):
        found.append(shown)
        step(len(found), len(folders))
    found.sort(key=lambda c: (c.started, c.folder), reverse=True)
    return sorted(found, key=lambda c: c.backend)


def _mapped(job: _Job, folders: Sequence[Path]) -> Iterator[Column]:
    processes = min(os.cpu_count() or 1, _MOST_PROCESSES)
    if len(folders) < _MANY or processes == 1:
        yield from map(job, folders)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(job, folders, chunksize=4)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
