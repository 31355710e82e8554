"""Publishing: what is filed and where, and everything that is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from portkit.conformance.registry import DRAFT_ONLY, entries, publish
from portkit.conformance.report.model import encode_report, load_report
from portkit.conformance.verdict import Verdict
from portkit.contract import DeviceInfo
from portkit.errors import SchemaError, UsageError
from tests.conformance.report.runs import entry, passing, report, run_folder


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return tmp_path / "registry"


def filed(registry: Path, draft: bool = False, **changes: Any) -> Path:
    """Publish a run into the registry and return its folder there."""
    source = registry.parent / f"run{len(list(registry.parent.iterdir()))}"
    return publish(run_folder(source, **changes), registry, draft=draft)


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_report_is_filed_under_its_backend_and_day(registry: Path) -> None:
    folder = filed(registry)
    assert folder.parent == registry / "chip"
    assert folder.name.startswith("2026-03-04-")
    assert sorted(path.name for path in folder.iterdir()) == [
        "badge.svg",
        "manifest.json",
        "report.html",
        "report.json",
    ]


def test_the_manifest_pins_the_report_and_what_judged_it(registry: Path) -> None:
    folder = filed(registry)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert folder.name.endswith(manifest["report_digest"][:12])
    assert manifest["suite_digest"] == "b" * 64
    assert manifest["backend_digest"] == "c" * 64
    assert manifest["statement"] == "conformant: core, standard tier"
    assert manifest["draft"] is False


def test_a_report_that_does_not_pass_may_be_filed(registry: Path) -> None:
    filed(registry, entries=[*passing(), entry("ops/x")])
    assert entries(registry)[0].report.statement == "does not pass core"


@pytest.mark.parametrize("evidence", DRAFT_ONLY)
def test_what_did_not_run_on_a_chip_is_filed_as_a_draft_only(registry: Path, evidence: str) -> None:
    with pytest.raises(UsageError, match="publish it with --draft"):
        filed(registry, evidence=evidence)
    assert not registry.exists()
    filed(registry, draft=True, evidence=evidence)
    assert entries(registry)[0].manifest.draft


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patterns": ("ops/add",)}, "a selection of cases"),
        ({"mutant": "add-is-sub"}, "the fault add-is-sub was planted"),
        ({"cases": 10_000}, "cut off and lacks .* --resume"),
    ],
)
def test_a_run_that_says_nothing_of_the_device_is_refused(
    registry: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        filed(registry, **changes)
    assert not registry.exists()


def test_a_report_is_filed_once(registry: Path, tmp_path: Path) -> None:
    source = run_folder(tmp_path / "run")
    publish(source, registry, draft=False)
    with pytest.raises(UsageError, match="in the registry already"):
        publish(source, registry, draft=True)


EDITS: list[dict[str, Any]] = [
    {"counts": {"pass": 1}},
    {"passed": True},
    {"statement": "conformant: core, standard tier"},
    {"planned": 1},
    {"mutant": "x"},
    {"cases": []},
]


@pytest.mark.parametrize("changes", EDITS, ids=lambda changes: next(iter(changes)))
def test_a_report_whose_parts_do_not_fit_is_refused(registry: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    source = run_folder(tmp_path / "run", [*passing(), entry("ops/x")])
    edit(source / "report.json", **changes)
    with pytest.raises(SchemaError, match="contradicts itself"):
        publish(source, registry, draft=False)


def test_a_report_that_was_edited_consistently_differs_from_its_journal(registry: Path, tmp_path: Path) -> None:
    source = run_folder(tmp_path / "run", [*passing(), entry("ops/x")])
    better = report([*passing(), entry("ops/x", Verdict.PASS)])
    (source / "report.json").write_bytes(encode_report(better))
    with pytest.raises(SchemaError, match="not what the journal beside it gives"):
        publish(source, registry, draft=False)


def test_a_report_without_its_journal_is_refused(registry: Path, tmp_path: Path) -> None:
    source = run_folder(tmp_path / "run")
    (source / "journal.jsonl").unlink()
    with pytest.raises(UsageError, match=r"no journal\.jsonl"):
        publish(source, registry, draft=False)


def test_a_file_or_a_missing_folder_is_a_usage_error(registry: Path, tmp_path: Path) -> None:
    for source in (run_folder(tmp_path / "run") / "report.json", tmp_path / "missing"):
        with pytest.raises(UsageError, match="is not the folder of a run"):
            publish(source, registry, draft=False)


@pytest.mark.parametrize("name", ["../../x", "..", "/etc/x", ".git", "a/b", "-rf", "con\n"])
def test_a_hostile_name_stays_inside_the_registry(registry: Path, tmp_path: Path, name: str) -> None:
    folder = filed(registry, name=name)
    assert folder.parent.parent == registry
    assert {path.name for path in tmp_path.iterdir()} == {"registry", "run0"}
    assert len(entries(registry)) == 1


def test_a_registry_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        publish(run_folder(tmp_path / "run"), tmp_path / "file", draft=False)


def test_a_publication_that_fails_leaves_nothing(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = run_folder(tmp_path / "run")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(UsageError, match="No space left"):
        publish(source, registry, draft=False)
    assert list((registry / "chip").iterdir()) == []


def test_entries_are_by_backend_newest_first(registry: Path) -> None:
    for name, started in (("b", "2026-01-01"), ("a", "2026-01-01"), ("b", "2026-02-01")):
        filed(registry, name=name, started=f"{started}T00:00:00+00:00")
    found = [(e.manifest.backend, e.report.date) for e in entries(registry)]
    assert found == [("a", "2026-01-01"), ("b", "2026-02-01"), ("b", "2026-01-01")]


def test_of_two_reports_of_one_day_the_later_is_the_newer(registry: Path) -> None:
    for hour in ("05", "17", "11"):
        filed(registry, started=f"2026-01-01T{hour}:00:00+00:00")
    assert [e.report.started[11:13] for e in entries(registry)] == ["17", "11", "05"]


@pytest.mark.parametrize("make", [False, True])
def test_a_registry_without_reports_is_a_usage_error(registry: Path, make: bool) -> None:
    if make:
        (registry / "chip" / "x").mkdir(parents=True)
    with pytest.raises(UsageError, match="portkit publish OUT --registry"):
        entries(registry)


def test_other_files_in_a_registry_are_left_alone(registry: Path) -> None:
    filed(registry)
    (registry / "README.md").write_text("ours")
    (registry / ".git" / "x").mkdir(parents=True)
    (registry / ".git" / "x" / "manifest.json").write_text("not ours")
    assert len(entries(registry)) == 1


def spoil_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 10_000)


def change_report(folder: Path) -> None:
    (folder / "report.json").write_text((folder / "report.json").read_text().replace("Acme One", "Acme Two"))


def take_report(folder: Path) -> None:
    (folder / "report.json").unlink()


def hide_draft(folder: Path) -> None:
    edit(folder / "manifest.json", draft=False)


def move(folder: Path) -> None:
    (folder.parent.parent / "other").mkdir()
    folder.rename(folder.parent.parent / "other" / folder.name)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_manifest, "not a manifest"),
        (change_report, "its manifest differs"),
        (take_report, "cannot read"),
        (hide_draft, "publish it with --draft"),
        (move, "this report belongs into chip/"),
    ],
)
def test_a_submission_that_was_changed_by_hand_is_refused_by_name(registry: Path, spoil: Any, message: str) -> None:
    folder = filed(registry, draft=True, evidence="stand-in")
    spoil(folder)
    with pytest.raises((SchemaError, UsageError), match=message) as caught:
        entries(registry)
    assert folder.name in str(caught.value)


def test_a_forged_submission_with_a_fitting_manifest_is_refused(registry: Path) -> None:
    folder = filed(registry, entries=[*passing(), entry("ops/x")])
    forged = encode_report(msgspec.structs.replace(load_report(folder), passed=True))
    (folder / "report.json").write_bytes(forged)
    edit(folder / "manifest.json", report_digest=hashlib.sha256(forged).hexdigest())
    with pytest.raises(SchemaError, match="contradicts itself: its claim"):
        entries(registry)


def test_a_published_page_is_rendered_from_the_report_and_never_taken_from_outside(
    registry: Path, tmp_path: Path
) -> None:
    source = run_folder(tmp_path / "run", info=DeviceInfo("<script>x</script>"))
    (source / "report.html").write_text("<script>evil()</script>")
    page = (publish(source, registry, draft=False) / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;x" in page
