"""What the documentation shows is true: its kernels verify, its tables are those of the code, its commands exist."""

from __future__ import annotations

import datetime as dt
import re
import textwrap
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from portkit.compiler.accuracy import BOUNDS, ROUNDED
from portkit.conformance.case import Level, Tier
from portkit.conformance.report.statement import statement
from portkit.conformance.verdict import Verdict
from portkit.conformance.waivers import load_waivers
from portkit.contract import Capabilities, Evidence, load_capabilities
from portkit.spec.forms import EXTENSIONS, FORMS, Op, accuracy
from portkit.spec.text import parse
from portkit.spec.types import DTYPES
from portkit.spec.verify import verify

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md"])
CORRECTLY_ROUNDED = 0.5
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def code_blocks(text: str) -> list[str]:
    """Indented and fenced code of a Markdown page."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    indented = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, re.MULTILINE)
    return [*fenced, *(textwrap.dedent(block) for block in indented)]


def first_column(text: str, heading: str) -> list[str]:
    """The words in code style of the first column of the table whose first heading is *heading*."""
    rows = re.findall(rf"^\| {re.escape(heading)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert len(rows) == 1, f"one table starts with {heading}"
    return [word for row in rows[0].splitlines() for word in re.findall(r"`([^`]+)`", row.split("|")[1])]


KERNELS = [block for path in PAGES for block in code_blocks(path.read_text(encoding="utf-8")) if "\nbegin\n" in block]


def test_the_documentation_shows_kernels() -> None:
    assert len(KERNELS) >= 2


@pytest.mark.parametrize("text", KERNELS, ids=lambda text: re.findall(r"kernel (\w+)", text)[0])
def test_a_kernel_in_the_documentation_verifies(text: str) -> None:
    verify(parse(text))


def test_the_capabilities_file_in_the_documentation_loads(tmp_path: Path) -> None:
    blocks = [block for block in code_blocks(page("capabilities.md")) if block.startswith("name =")]
    (tmp_path / "capabilities.toml").write_text(blocks[0], encoding="utf-8")
    assert load_capabilities(tmp_path / "capabilities.toml").evidence == "stand-in"


def test_the_capabilities_page_explains_every_field() -> None:
    described = {name.split(".")[0] for name in first_column(page("capabilities.md"), "field")}
    identity = {"name", "version", "vendor"}
    assert described == set(Capabilities.__struct_fields__) - identity


def test_the_capabilities_page_lists_every_kind_of_evidence() -> None:
    assert first_column(page("capabilities.md"), "value") == list(get_args(Evidence))


def test_the_capabilities_page_tells_what_a_report_may_say() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| [^|]+ \| ([^|]+) \|$", page("capabilities.md"), re.MULTILINE)
    told = {evidence: claim for evidence, claim in rows if evidence in get_args(Evidence)}
    claims = {e: statement(e, "core", Tier.STANDARD, passed=True, selection=False) for e in get_args(Evidence)}
    assert told == {evidence: claim.partition(":")[0] for evidence, claim in claims.items()}


def test_the_architecture_page_lists_every_environment_variable() -> None:
    named = {
        name
        for path in (ROOT / "portkit").rglob("*.py")
        for name in re.findall(r'"(PORTKIT_[A-Z_]+)"', path.read_text(encoding="utf-8"))
    }
    assert set(first_column(page("architecture.md"), "variable")) == named - {"PORTKIT_LIFELINE"}  # between our own


def test_the_conformance_page_lists_every_verdict() -> None:
    assert set(first_column(page("conformance.md"), "verdict")) == {verdict.value for verdict in Verdict}


def test_the_conformance_page_lists_every_level_and_tier() -> None:
    assert first_column(page("conformance.md"), "level") == [level.value for level in Level]
    assert first_column(page("conformance.md"), "tier") == [tier.value for tier in Tier]


def test_the_spec_page_lists_the_twelve_operations() -> None:
    listed = re.findall(r"^(`add` .*)$", page("spec/index.md"), re.MULTILINE)[0]
    assert re.findall(r"`(\w+)`", listed) == [op.value for op in Op]


def stated_bounds() -> dict[tuple[str, str], float]:
    """The accuracy table of the numerics page: (form, dtype) -> ulp."""
    row = r"^\| ((?:`mov\.\w+`(?:, )?)+) \| ([\d.]+)(?: \(f16: ([\d.]+)\))? \|$"
    stated: dict[tuple[str, str], float] = {}
    for forms, bound, narrow in re.findall(row, page("spec/numerics.md"), re.MULTILINE):
        for form in re.findall(r"`(mov\.\w+)`", forms):
            stated |= {(form, "f32"): float(bound), (form, "f16"): float(narrow or bound)}
    return stated


def test_the_numerics_page_states_every_bound_of_the_spec() -> None:
    forms = [name for name, form in FORMS.items() if form.extension == "math"]
    bounds = {(form, dtype): accuracy(form, DTYPES[dtype]) for form in forms for dtype in ("f32", "f16")}
    assert stated_bounds() == {key: bound for key, bound in bounds.items() if bound > CORRECTLY_ROUNDED}


@pytest.mark.parametrize("name", ["group", "vec", "fma", "math", "atomic"])
def test_an_extension_that_the_documentation_offers_exists(name: str) -> None:
    assert name in EXTENSIONS
    assert name in page("capabilities.md")


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_a_page_names_only_commands_that_exist(path: Path) -> None:
    from portkit.cli.main import app

    known = {command.name for command in app.registered_commands}
    code = [*code_blocks(path.read_text(encoding="utf-8"))]
    inline = re.findall(r"`(portkit [a-z][^`]*)`", path.read_text(encoding="utf-8"))
    used = {match for block in [*code, *inline] for match in re.findall(r"^portkit ([a-z]+)", block, re.MULTILINE)}
    assert used <= known


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_a_page_names_only_make_targets_that_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = path.read_text(encoding="utf-8")
    used = set(re.findall(r"`make ([a-z-]+)`|^ {4}make ([a-z-]+)", text, re.MULTILINE))
    assert {name for pair in used for name in pair if name} <= targets


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_a_page_uses_only_options_that_exist(path: Path) -> None:
    from typer.main import get_command

    from portkit.cli.main import app

    commands = vars(get_command(app))["commands"]
    for line in "\n".join(code_blocks(path.read_text(encoding="utf-8"))).splitlines():
        for part in line.partition("#")[0].split("&&"):
            if found := re.match(r"\s*portkit ([a-z]+) (.*)", part):
                known = {option for parameter in commands[found[1]].params for option in parameter.opts}
                assert set(re.findall(r"(?<!\S)--[a-z-]+", found[2])) <= known, part


def test_the_waiver_in_the_documentation_loads(tmp_path: Path) -> None:
    blocks = [block for block in code_blocks(page("conformance.md")) if block.startswith("[[waiver]]")]
    (tmp_path / "waivers.toml").write_text(blocks[0], encoding="utf-8")
    assert len(load_waivers(tmp_path / "waivers.toml", dt.date(2026, 1, 1))) == 1


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_a_case_that_a_page_names_is_in_the_suite(path: Path) -> None:
    from portkit.conformance.cases.collect import collect
    from portkit.conformance.select import matches
    from portkit.contract import find_backend

    named = set(re.findall(r"(?<![/(])\b(?:device|ops|kernels)/[\w.*]+(?:/[\w.*]+)*", path.read_text(encoding="utf-8")))
    ids = [case.id for case in collect(find_backend("cpu").capabilities, "core")] if named else []
    assert [name for name in named if not any(matches(name, found) for found in ids)] == []


def test_the_porting_guide_tells_of_every_break_that_the_scaffold_check_makes() -> None:
    breaks = tomllib.loads((ROOT / "tests/scaffold/breaks.toml").read_text(encoding="utf-8"))["break"]
    assert len(breaks) >= 3
    assert [entry["title"] for entry in breaks if entry["title"] not in page("porting.md")] == []


def test_the_compiler_page_states_the_bounds_of_derived_functions() -> None:
    row = r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$"
    stated = {name: tuple(map(float, told)) for name, *told in re.findall(row, page("compiler.md"), re.MULTILINE)}
    held = {name: (b.base, b.fused, b.double) for name, b in BOUNDS.items()}
    assert stated == {name: bounds for name, bounds in held.items() if min(bounds) > ROUNDED}


def test_the_compiler_page_names_files_that_exist() -> None:
    named = re.findall(r"`((?:derived/|legal/|bench/|portkit/tensor/)?\w+\*?\.py)`", page("compiler.md"))
    places = (ROOT, ROOT / "portkit" / "compiler")
    assert len(named) > 10
    assert [name for name in named if not any(list(place.glob(name)) for place in places)] == []
