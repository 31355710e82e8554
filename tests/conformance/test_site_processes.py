"""A site of many reports is made by several processes, and is the same as one that a single process makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from portkit.conformance.attest.keys import base64_line, generate, load_signing_key
from portkit.conformance.registry import publish
from portkit.conformance.site import build as site
from portkit.errors import SchemaError
from tests.conformance.report.runs import run_folder


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A registry that lists a key, with a report signed by it and one that is not signed."""
    public = generate(tmp_path / "key.pem")
    folder = tmp_path / "registry"
    signer = load_signing_key(tmp_path / "key.pem")
    publish(run_folder(tmp_path / "a"), folder, draft=False, keys=[signer])
    publish(run_folder(tmp_path / "b", name="other"), folder, draft=False)
    (folder / "keys.toml").write_text(f'[[key]]\nname = "Lab"\npublic = "{base64_line(public)}"\n')
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two reports count as many, on a machine with two cores."""
    monkeypatch.setattr(site, "_MANY", 2)
    monkeypatch.setattr("os.cpu_count", lambda: 2)


def test_processes_make_the_site_that_one_makes_of_signed_reports(
    registry: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    site.build(registry, tmp_path / "one")
    request.getfixturevalue("several")
    site.build(registry, tmp_path / "many")
    assert files(tmp_path / "many") == files(tmp_path / "one")
    assert '"signature": "signed"' in (tmp_path / "one" / "data.js").read_text().replace('":"', '": "')


@pytest.mark.usefixtures("several")
def test_what_a_process_refuses_is_told_as_it_is_and_leaves_nothing(registry: Path, tmp_path: Path) -> None:
    [report] = registry.glob("other/*/report.json")
    report.write_bytes(report.read_bytes() + b" ")
    with pytest.raises(SchemaError, match="is not the one that was published"):
        site.build(registry, tmp_path / "site")
    assert not (tmp_path / "site").exists()
    assert list(tmp_path.glob(".matrix-*")) == []
