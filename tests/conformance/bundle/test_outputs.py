"""Outputs from outside, and outputs made here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from portkit.conformance.bundle.load import Loaded, load_bundle
from portkit.conformance.bundle.model import MANIFEST
from portkit.conformance.bundle.outputs import read_outputs, write_outputs
from portkit.errors import SchemaError, UsageError
from tests.conformance.bundle.bundles import SIGNED_CASE, bundle_file, case, index, outputs, write


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[Loaded]:
    with load_bundle(bundle_file(tmp_path)) as opened:
        yield opened


def output_of(case_id: str) -> str:
    return case(index(), case_id)["launches"][0]["after"]


def manifest(**fields: Any) -> bytes:
    return json.dumps({**json.loads(outputs()[MANIFEST]), **fields}).encode()


def unmade(case_id: str, **fields: Any) -> bytes:
    return manifest(unmade={case_id: {"verdict": "crash", "reason": "it died", **fields}})


# --- writing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["outputs.zip", "folder"])
def test_outputs_are_read_back_as_they_were_written(tmp_path: Path, loaded: Loaded, name: str) -> None:
    written = (
        write_outputs(dict(outputs()), tmp_path / "new" / name)
        if name != "folder"
        else write_outputs(dict(outputs()), tmp_path / name)
    )
    with read_outputs(written, loaded) as given:
        assert all(given.complete(record) for record in loaded.bundle.cases)
        record = loaded.bundle.cases[0]
        assert given.image(record, 0) == outputs()[record.launches[0].after]


def test_the_backend_states_where_its_outputs_come_from() -> None:
    stated = json.loads(outputs()[MANIFEST])
    assert stated["evidence"] == "silicon"
    assert stated["device"]


def test_outputs_of_two_runs_are_not_mixed(tmp_path: Path) -> None:
    write_outputs(dict(outputs()), tmp_path / "o")
    with pytest.raises(UsageError, match="must not mix"):
        write_outputs(dict(outputs()), tmp_path / "o")


# --- reading ------------------------------------------------------------------------------------------------------


def test_outputs_without_a_manifest_count_as_those_of_a_stand_in(tmp_path: Path, loaded: Loaded) -> None:
    images = {name: content for name, content in outputs().items() if name != MANIFEST}
    with read_outputs(write(tmp_path / "o.zip", images), loaded) as given:
        assert (given.record.evidence, given.record.device) == ("stand-in", "")


Hostile = Callable[[], Mapping[str, bytes]]
HOSTILE: dict[str, tuple[Hostile, str]] = {
    "another bundle": (lambda: {MANIFEST: manifest(bundle="0" * 64)}, "are of the bundle 000000000000"),
    "no json": (lambda: {MANIFEST: b"\xff"}, "no record of version 1"),
    "nested without end": (lambda: {MANIFEST: b'{"unmade":' * 100_000}, "outputs.json"),
    "an unknown field": (lambda: {MANIFEST: manifest(verdict="pass")}, "unknown field"),
    "evidence of its own": (lambda: {MANIFEST: manifest(evidence="certain")}, "evidence"),
    "a verdict of its own": (lambda: {MANIFEST: unmade(SIGNED_CASE, verdict="pass")}, "verdict"),
    "a case of its own": (lambda: {MANIFEST: unmade("ops/none")}, "names the case ops/none"),
    "made and not made": (
        lambda: {**outputs(), MANIFEST: unmade(SIGNED_CASE)}, "was not made, and yet its output is there"),
    "an output of its own": (lambda: {"00000.0.bn": b""}, "no output of this bundle"),
    "too short": (lambda: {output_of(SIGNED_CASE): b"1"}, "has 1 bytes, the image of ops/mul.hi/i32/special has"),
    "too long": (lambda: {output_of(SIGNED_CASE): outputs()[output_of(SIGNED_CASE)] + b"1"}, "the image of"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "words"), HOSTILE.values(), ids=HOSTILE)
def test_outputs_that_do_not_fit_their_bundle_are_refused(
    tmp_path: Path, loaded: Loaded, files: Hostile, words: str
) -> None:
    with pytest.raises(SchemaError, match=words) as error:
        read_outputs(write(tmp_path / "o.zip", files()), loaded)
    assert len(str(error.value)) < 400


def test_a_manifest_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path, loaded: Loaded) -> None:
    path = write(tmp_path / "o.zip", {MANIFEST: b" " * (9 << 20)})
    with pytest.raises(SchemaError, match="8388608 are the most"):
        read_outputs(path, loaded)


def test_a_name_near_that_of_an_output_is_suggested(tmp_path: Path, loaded: Loaded) -> None:
    name = output_of(SIGNED_CASE)
    with pytest.raises(SchemaError, match=name):
        read_outputs(write(tmp_path / "o.zip", {name.replace(".bin", ".bim"): b""}), loaded)


def test_an_output_that_grew_after_it_was_measured_is_refused(tmp_path: Path, loaded: Loaded) -> None:
    folder = write_outputs(dict(outputs()), tmp_path / "o")
    record = loaded.bundle.cases[0]
    with read_outputs(folder, loaded) as given:
        with (folder / record.launches[0].after).open("ab") as file:
            file.write(b"more")
        with pytest.raises(SchemaError, match="more than"):
            given.image(record, 0)
