"""The compatibility matrix: what it shows, what it replaces, and what it never touches."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from portkit.conformance.bundle.browser import FILES
from portkit.conformance.registry import Entry, Manifest, entries
from portkit.conformance.site.build import SCRIPTS, build
from portkit.conformance.site.columns import Column, column, newest
from portkit.conformance.site.tables import markdown, tables
from portkit.conformance.verdict import Verdict
from portkit.contract import DeviceInfo
from portkit.errors import UsageError
from tests.conformance.report.runs import CHIP, entry, passing, report
from tests.conformance.report.test_pages import HARMLESS, TRICKS, Page
from tests.conformance.report.test_registry import filed

OURS = HARMLESS | set(
    re.findall(
        r"\w+",
        "h3 article section nav form label input select option button dialog ul li noscript script link svg rect",
    )
)
"""The elements of the site's templates."""


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    folder = tmp_path / "registry"
    filed(folder)
    filed(folder, started="2026-05-01T00:00:00+00:00", entries=[*passing(), entry("ops/x")])
    filed(folder, name="other", draft=True, evidence="stand-in")
    return folder


def columns(registry: Path) -> list[Column]:
    return [column(entry) for entry in entries(registry)]


def page(registry: Path, site: Path) -> str:
    return build(registry, site).read_text(encoding="utf-8")


def test_the_newest_report_of_each_backend_is_shown(registry: Path) -> None:
    shown = newest(columns(registry))
    assert [(c.backend, c.date) for c in shown] == [("chip", "2026-05-01"), ("other", "2026-03-04")]


def test_the_site_is_well_formed_and_fetches_nothing(registry: Path, tmp_path: Path) -> None:
    text = page(registry, tmp_path / "site")
    assert Page(text).tags <= OURS
    assert set(re.findall(r'\bsrc="([^"]*)"', text)) == {"data.js", *SCRIPTS}
    assert re.findall(r"url\(|@import|https?://|<script>|\bon\w+=|style=", text) == []


def test_every_link_of_the_site_leads_to_a_page(registry: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    links = {tuple(link.partition("#")[::2]) for link in re.findall(r'href="([^"]+)"', page(registry, site))}
    assert len([path for path, _ in links if path.startswith("reports/")]) == 3
    links = {(path or "index.html", "" if place.startswith("view=") else place) for path, place in links}
    assert [link for link in links if not has_place(site / link[0], link[1])] == []


def has_place(path: Path, anchor: str) -> bool:
    """Whether a page exists, and has the place in it that a link leads to."""
    return path.is_file() and (not anchor or f'id="{anchor}"' in path.read_text(encoding="utf-8"))


def test_every_square_of_the_markdown_leads_to_its_place_in_the_report(registry: Path, tmp_path: Path) -> None:
    build(registry, tmp_path / "site")
    lines = (tmp_path / "site" / "matrix.md").read_text(encoding="utf-8").splitlines()
    squares = [square for line in lines if line.startswith("| `") for square in line.split(" | ")[1:]]
    assert squares
    for square in squares:
        [(path, anchor)] = re.findall(r"\(([^()#]+)#([^()]+)\)", square)
        assert has_place(tmp_path / "site" / path, anchor)


def test_the_outputs_that_the_spec_fixes_are_counted_against_the_reference(tmp_path: Path) -> None:
    equal, other = ({"digest": "a" * 64, "reference_digest": letter * 64} for letter in "ab")
    cases = [entry("ops/x", Verdict.PASS, **equal), entry("ops/y", Verdict.PASS, **other)]
    filed(tmp_path / "r", entries=[*passing(), *cases])
    filed(tmp_path / "r", name="loose")
    [row] = tables(newest(columns(tmp_path / "r")))["strict"]
    strict, loose = row["cells"]
    assert (strict["passed"], strict["cases"], strict["verdict"]) == (1, 2, "fail")
    assert loose is None


def test_the_site_tells_drafts_and_claims_apart(registry: Path, tmp_path: Path) -> None:
    text = Page(page(registry, tmp_path / "site")).text
    assert "draft" in text
    assert "does not pass core" in text
    assert "passes on its stand-in" in text


def test_a_square_has_the_worst_verdict_the_dtypes_and_the_number_of_cases(registry: Path) -> None:
    rows = {row["name"]: row["cells"] for row in tables(newest(columns(registry)))["forms"]}
    assert {key: rows["add"][0][key] for key in ("verdict", "dtypes", "cases")} == {
        "verdict": "fail",
        "dtypes": "i32 u32 f32",
        "cases": 4,
    }
    assert rows["add"][1]["verdict"] == "pass"


def test_a_level_shows_how_many_of_its_cases_pass(registry: Path) -> None:
    [row] = tables(newest(columns(registry)))["levels"]
    assert row["name"] == "ops"
    assert row["cells"][0]["passed"] == row["cells"][0]["cases"] - 1


def test_an_extension_is_listed_where_a_backend_declares_it(tmp_path: Path) -> None:
    fused = msgspec.structs.replace(CHIP, extensions=("fma",))
    filed(tmp_path / "r", capabilities=fused, name="fused", entries=passing(fused))
    filed(tmp_path / "r")
    [row] = tables(newest(columns(tmp_path / "r")))["extensions"]
    assert (row["name"], row["cells"][0], row["cells"][1]["verdict"]) == ("fma", None, "pass")


def test_the_markdown_is_a_table_with_as_many_squares_in_every_line(registry: Path, tmp_path: Path) -> None:
    build(registry, tmp_path / "site")
    lines = (tmp_path / "site" / "matrix.md").read_text(encoding="utf-8").splitlines()
    assert {line.count("|") for line in lines} == {4}
    [add] = [line for line in lines if line.startswith("| `add` |")]
    assert re.sub(r"\(reports/[^)]*\)", "", add) == "| `add` | [fail (4)] | [pass (3)] |"
    assert lines[0] == "| form | chip | other (draft) |"


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_is_text_in_the_matrix(tmp_path: Path, trick: str) -> None:
    filed(tmp_path / "r", info=DeviceInfo(trick), version=trick, vendor=trick)
    site = tmp_path / "site"
    assert Page(page(tmp_path / "r", site)).tags <= OURS
    [shown] = site.glob("reports/*/*/index.html")
    assert Page(shown.read_text(encoding="utf-8")).tags <= OURS | {"circle", "line", "text"}


@pytest.mark.parametrize("trick", [*TRICKS, "a\nb", "~~x~~ @all https://x.example"])
def test_a_trick_stays_in_its_square_of_the_markdown(trick: str) -> None:
    made = report(info=DeviceInfo(trick))
    manifest = Manifest("1", "chip", False, "", "", "", "", "x")
    text = markdown([column(Entry("chip/x", manifest, made))])
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines()} == {3}
    assert not re.search(r"<(?!/?$)", text)
    assert not re.search(r"(?<!\\)(?:\]\((?!reports/chip/x/index\.html)|\*\*\w|https:)", text)


def test_an_older_site_is_replaced(registry: Path, tmp_path: Path) -> None:
    build(registry, tmp_path / "site")
    (tmp_path / "site" / "reports" / "stale").mkdir()
    build(registry, tmp_path / "site")
    assert not (tmp_path / "site" / "reports" / "stale").exists()
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_an_empty_folder_is_used(registry: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    assert build(registry, tmp_path / "site").is_file()


@pytest.mark.parametrize("names", [("index.html",), ("matrix.md",), ("index.html", "matrix.md", "mine.txt")])
def test_a_folder_that_is_not_a_site_is_refused_and_left_alone(
    registry: Path, tmp_path: Path, names: tuple[str]
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    for name in names:
        (site / name).write_text("mine")
    with pytest.raises(UsageError, match="is not a matrix site"):
        build(registry, site)
    assert {path.name: path.read_text() for path in site.iterdir()} == dict.fromkeys(names, "mine")


def test_a_site_to_which_something_was_added_is_refused(registry: Path, tmp_path: Path) -> None:
    build(registry, tmp_path / "site")
    (tmp_path / "site" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not a matrix site"):
        build(registry, tmp_path / "site")


def test_a_file_or_a_link_in_the_sites_place_is_refused(registry: Path, tmp_path: Path) -> None:
    build(registry, tmp_path / "site")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "site")
    for place in ("file", "link"):
        with pytest.raises(UsageError, match="is not a matrix site"):
            build(registry, tmp_path / place)


@pytest.mark.parametrize("place", [".", "registry", "registry/../registry"])
def test_a_site_never_takes_the_place_of_its_registry(registry: Path, tmp_path: Path, place: str) -> None:
    before = sorted(registry.rglob("*"))
    with pytest.raises(UsageError, match="holds the registry itself"):
        build(registry, tmp_path / place)
    assert sorted(registry.rglob("*")) == before


def test_a_place_that_cannot_be_written_is_a_usage_error(registry: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        build(registry, tmp_path / "file" / "site")


def test_a_build_that_fails_leaves_the_older_site(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = page(registry, tmp_path / "site")

    def refuse(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("portkit.conformance.site.build.markdown", refuse)
    with pytest.raises(UsageError, match="No space left"):
        build(registry, tmp_path / "site")
    assert (tmp_path / "site" / "index.html").read_text(encoding="utf-8") == before


def test_a_verdict_of_a_form_is_the_worst_of_its_cells() -> None:
    made = report([entry("ops/a", Verdict.PASS), entry("ops/b", Verdict.FLAKY, cells=("add/i32",))])
    rows = tables([column(Entry("x", Manifest("1", "chip", False, "", "", "", "", "x"), made))])["forms"]
    assert rows[0]["cells"][0]["verdict"] == "flaky"


def test_a_build_says_after_each_report_how_many_are_done(registry: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    build(registry, tmp_path / "site", step=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.fixture
def browser_page(tmp_path: Path) -> Path:
    """A folder with the names of a page of portkit bundle --browser."""
    folder = tmp_path / "page"
    folder.mkdir()
    for name in (*FILES, "bundle.js", "notes.txt"):
        (folder / name).write_text(f"this is {name}")
    return folder


def test_a_site_carries_a_page_for_the_browser_and_keeps_it(registry: Path, tmp_path: Path, browser_page: Path) -> None:
    site = tmp_path / "site"
    build(registry, site, page=browser_page)
    build(registry, site)
    assert {path.name for path in (site / "browser").iterdir()} == {*FILES, "bundle.js"}
    assert (site / "browser" / "bundle.js").read_text() == "this is bundle.js"
    assert 'href="browser/index.html"' in (site / "index.html").read_text(encoding="utf-8")
    [shown, *_] = site.glob("reports/*/*/index.html")
    assert 'href="../../../browser/index.html"' in shown.read_text(encoding="utf-8")


def test_a_site_without_such_a_page_does_not_link_it(registry: Path, tmp_path: Path) -> None:
    assert "browser/" not in page(registry, tmp_path / "site")


def test_what_is_no_page_for_the_browser_is_refused(registry: Path, tmp_path: Path, browser_page: Path) -> None:
    (browser_page / "bundle.js").unlink()
    with pytest.raises(UsageError, match=r"page has no bundle\.js; make the page with portkit bundle --browser"):
        build(registry, tmp_path / "site", page=browser_page)
    assert not (tmp_path / "site").exists()
