"""What the site generates, and that it fetches nothing.

Generated are the op pages, the report's JSON Schema, the decisions' index, and the compatibility matrix with reports
from `registry/`.

MkDocs calls `on_config`, `on_files` and `on_post_build` by name.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

OPS = "spec/ops"
DECISIONS = "decisions"
MATRIX = "compatibility"
REPORT_SCHEMA = "report.schema.json"
FETCHED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^\"'> ]+")

_pages: dict[str, str] = {}

_MATRIX_PAGE = """# Compatibility

What the newest report of each backend in `registry/` says; each square leads to that report. `make matrix` runs the
suite on every backend that can run on the machine and files the reports there. What a backend ran on stands in the row
*evidence*; [only some kinds of evidence](capabilities.md#evidence) may say "conformant". The same matrix, with the
history of each backend: [all reports]({site}/index.html).

{table}
"""


def op_pages() -> dict[str, str]:
    """Return the Markdown of every generated spec page by file name.

    Raises:
        PluginError: portkit is not installed here, or the spec wrote no page.
    """
    try:
        from portkit.spec.docs import write_pages
    except ImportError as error:
        raise PluginError(f"the operation pages come from portkit itself: {error}; build with `make docs`") from error
    with tempfile.TemporaryDirectory() as folder:
        write_pages(Path(folder))
        pages = {path.name: path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("*.md"))}
    if not pages:
        raise PluginError("portkit.spec.docs.write_pages wrote no page: the site would lack the operations")
    return pages


def decision_records(docs: Path) -> list[tuple[str, str]]:
    """Return (file name, title) of every decision record, newest first; a record starts with `# TITLE`."""
    records: list[tuple[str, str]] = []
    for path in sorted((docs / DECISIONS).glob("[0-9]*.md"), reverse=True):
        title, _, _ = path.read_text(encoding="utf-8").partition("\n")
        if not title.startswith("# "):
            raise PluginError(f"{path.name}: a decision record starts with a line `# TITLE`")
        records.append((path.name, title.removeprefix("# ").strip()))
    return records


def decisions_index(records: list[tuple[str, str]]) -> str:
    """Return the Markdown of the list of decision records."""
    rows = [f"| {name[:4]}-{name[4:6]}-{name[6:8]} | [{title}]({name}) |" for name, title in records]
    return "\n".join(
        [
            "# Decisions",
            "",
            "What was decided, when and why. A record is not edited when a decision changes: a newer one replaces it.",
            "",
            "| date | record |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def chapter(nav: list[Any], title: str) -> list[Any]:
    """Return the list of pages under *title* in the navigation of mkdocs.yml."""
    return next(entry[title] for entry in nav if title in entry)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Generate the pages and put them into the navigation."""
    docs = Path(config.docs_dir)
    records = decision_records(docs)
    ops = op_pages()
    _pages.clear()
    _pages.update({f"{OPS}/{name}": text for name, text in ops.items()})
    _pages[f"{DECISIONS}/index.md"] = decisions_index(records)
    _pages.update(compatibility_pages(docs.parent / "registry"))
    _pages.update(judge_pages())
    nav = cast("list[Any]", config["nav"])
    chapter(nav, "The spec").append({"Operations": [f"{OPS}/{name}" for name in reading_order(ops)]})
    chapter(nav, "Decisions").extend(f"{DECISIONS}/{name}" for name, _ in records)
    return config


def judge_pages() -> dict[str, str]:
    """Return the pages of the causes that a hint can name, and of what finds each seeded fault."""
    from portkit.conformance.hints.causes import page as causes
    from portkit.conformance.mutants.page import page as mutants

    return {"hints.md": causes(), "mutants.md": mutants()}


def reading_order(names: Iterable[str]) -> list[str]:
    """Return page names in the order of the spec: the overview, the operations, then the reference tables."""
    from portkit.spec.forms import Op

    order = {f"{name}.md": place for place, name in enumerate(["index", *(op.value for op in Op)])}
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))


def compatibility_pages(registry: Path) -> dict[str, str]:
    """Return the page with the compatibility matrix of a registry, and the pages of its reports."""
    from portkit.conformance.registry import entries
    from portkit.conformance.site.build import build
    from portkit.conformance.site.columns import column, newest
    from portkit.conformance.site.tables import markdown

    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / MATRIX
        build(registry, site)
        files = [path for path in site.rglob("*") if path.is_file() and path.suffix != ".md"]
        pages = {f"{MATRIX}/{path.relative_to(site)}": path.read_text(encoding="utf-8") for path in files}
    table = markdown(newest([column(entry) for entry in entries(registry)]), f"{MATRIX}/")
    return {f"{MATRIX}.md": _MATRIX_PAGE.format(site=MATRIX, table=table), **pages}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    for uri, text in {**_pages, REPORT_SCHEMA: report_schema()}.items():
        files.append(File.generated(config, uri, content=text))
    return files


def report_schema() -> str:
    """Return the JSON Schema of `report.json`."""
    from portkit.conformance.report.model import json_schema

    return json.dumps(json_schema(), indent=2) + "\n"


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site that would load anything from elsewhere.

    Raises:
        PluginError: a page loads a script, style, font or picture from another host.
    """
    for page in sorted(Path(config.site_dir).rglob("*.html")):
        if found := FETCHED.search(page.read_text(encoding="utf-8")):
            raise PluginError(f"{page.name} would fetch {found.group()}")
