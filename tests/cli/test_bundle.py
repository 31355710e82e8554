"""`portkit bundle`: what it writes, lists and refuses."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from portkit.conformance.bundle.load import load_bundle
from tests.cli.calls import Portkit, one_line

CASE = ("--case", "ops/mul.hi/i32", "--case", "kernels/refuse/valid_c3")


def test_it_writes_an_archive_and_says_what_is_next(portkit: Portkit) -> None:
    called = portkit("bundle", "--backend", "cpu", *CASE, "--out", "new/b.zip")
    assert called.status == 0
    assert "1 launches, 1 with generated source" in called.out
    assert "left out" in called.out
    assert "portkit judge new/b.zip OUTPUTS" in called.out
    with load_bundle(Path("new/b.zip")) as loaded:
        assert [case.id for case in loaded.bundle.cases] == ["ops/mul.hi/i32/special"]


def test_the_same_call_writes_the_same_archive(portkit: Portkit) -> None:
    for name in ("a.zip", "b.zip"):
        portkit("bundle", "--backend", "cpu", "--no-source", *CASE, "--out", name)
    assert Path("a.zip").read_bytes() == Path("b.zip").read_bytes()


def test_the_json_form_counts_what_was_written(portkit: Portkit) -> None:
    told = portkit("bundle", "--backend", "cpu", "--no-source", *CASE, "--out", "b.zip", "--json").told
    assert (told["written"], told["cases"], told["sources"]) == ("b.zip", 1, 0)
    assert told["left_out"] > 0


def test_a_capabilities_file_takes_the_place_of_a_backend(portkit: Portkit) -> None:
    Path("chip.toml").write_text('name = "chip"\nversion = "1"\nvendor = "Acme"\nevidence = "vendor-simulator"\n')
    called = portkit("bundle", "--capabilities", "chip.toml", *CASE, "--out", "b.zip")
    assert "0 with generated source" in called.out
    with load_bundle(Path("b.zip")) as loaded:
        assert loaded.bundle.capabilities.name == "chip"
        assert loaded.bundle.printed is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say what for"),
        (("--backend", "cup"), "cpu"),
        (("--backend", "cpu", "--case", "kernels/refuse"), "has a launch of its own"),
        (("--backend", "cpu", "--case", "ops/none"), "ops/none"),
        (("--backend", "cpu", "--profile", "cor"), "core"),
        (("--capabilities", "none.toml"), "none.toml"),
        (("--browser", "--backend", "c", *CASE), "is not WGSL|no source in WGSL"),
    ],
)
def test_a_call_that_makes_no_bundle_is_refused(portkit: Portkit, arguments: tuple[str, ...], words: str) -> None:
    called = portkit("bundle", *arguments, "--out", "b.zip")
    assert called.status == 2
    assert any(word in one_line(called) for word in words.split("|"))
    assert not Path("b.zip").exists()


def test_a_place_that_cannot_be_written_is_named(portkit: Portkit) -> None:
    Path("file").touch()
    called = portkit("bundle", "--backend", "cpu", "--no-source", *CASE, "--out", "file/b.zip")
    assert called.status == 2
    assert "file" in one_line(called)


def test_a_page_is_not_written_among_other_files(portkit: Portkit) -> None:
    Path("registry").mkdir()
    Path("registry/keys.toml").touch()
    called = portkit("bundle", "--browser", "--out", "registry")
    assert called.status == 2
    assert "registry exists and is not a page of a bundle" in one_line(called)
    assert len(list(Path("registry").iterdir())) == 1


def test_the_schema_of_its_records_is_printed(portkit: Portkit) -> None:
    schema = portkit("bundle", "--schema").told
    jsonschema.Draft202012Validator.check_schema(schema)
    assert {"Bundle", "Outputs"} <= schema["$defs"].keys()
