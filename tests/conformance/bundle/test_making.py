"""Making bundles, and telling one that the suite gives from one that only looks like it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest

from portkit.conformance.bundle.genuine import check_genuine, same_suite
from portkit.conformance.bundle.load import load_bundle
from portkit.conformance.bundle.make import Wanted, make_bundle
from portkit.conformance.bundle.model import INDEX, MANIFEST, json_schema
from portkit.errors import SchemaError, UsageError
from portkit.runtime.client import DeviceClient
from portkit.spec.text import parse
from tests.conformance.bundle.bundles import (
    PATTERNS,
    SIGNED_CASE,
    Files,
    bundle_file,
    capabilities,
    case,
    forged,
    index,
    made,
    outputs,
    reindexed,
    write,
)

# --- making -------------------------------------------------------------------------------------------------------


def test_the_same_cases_make_the_same_archive() -> None:
    assert make_bundle(Wanted(capabilities(), patterns=PATTERNS)).pack() == made().pack()


def test_an_archive_holds_what_its_index_names_and_nothing_else() -> None:
    named = {file["path"] for file in _files(index())}
    assert named | {INDEX} == made().files.keys()


def _files(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        own = [value] if "sha256" in value else []
        return own + [file for part in value.values() for file in _files(part)]
    return [file for part in value for file in _files(part)] if isinstance(value, list) else []


def test_one_content_is_kept_once() -> None:
    contents = list(made().files.values())
    assert len(contents) == len(set(contents))


def test_cases_that_talk_to_a_running_device_are_listed_as_left_out() -> None:
    assert made().bundle.left_out
    assert all(case_id.startswith("kernels/refuse/valid_c3") for case_id in made().bundle.left_out)


def test_a_kernel_stands_in_the_archive_as_text() -> None:
    record = case(index())
    kernel = parse(made().files[record["kernel"]["path"]].decode())
    assert (kernel.lanes, [b.name for b in kernel.buffers]) == (record["lanes"], [b["name"] for b in record["buffers"]])


def test_a_few_lines_judge_a_result_by_the_files_alone() -> None:
    record = case(index())
    launch, out = record["launches"][0], record["buffers"][-1]
    after = np.frombuffer(outputs()[launch["after"]], "<i4", out["extent"], out["offset"])
    values = [np.frombuffer(made().files[file["path"]], "<i4") for file in launch["expected"][0]["values"]]
    assert np.logical_or.reduce([after == value for value in values]).all()


def test_cases_without_a_launch_of_their_own_make_no_bundle() -> None:
    with pytest.raises(UsageError, match="has a launch of its own"):
        make_bundle(Wanted(capabilities(), patterns=("kernels/refuse",)))


def test_the_source_that_a_backend_generates_goes_into_the_archive() -> None:
    with DeviceClient("c") as printer:
        bundled = make_bundle(Wanted(printer.capabilities, patterns=("ops/mul.hi/u32",)), printer)
    source = bundled.bundle.cases[0].source
    assert source is not None
    assert b"void" in bundled.files[source.path]
    assert bundled.bundle.printed is not None
    assert bundled.bundle.printed.backend == "c"


@pytest.mark.parametrize(
    ("name", "content"), [("Bundle", lambda: made().files[INDEX]), ("Outputs", lambda: outputs()[MANIFEST])]
)
def test_the_published_schema_describes_what_is_written(name: str, content: Callable[[], bytes]) -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator({**schema, "$ref": f"#/$defs/{name}"}).validate(json.loads(content()))


# --- telling ------------------------------------------------------------------------------------------------------


def check(folder: Path, files: Files) -> None:
    with load_bundle(write(folder / "b.zip", files)) as loaded:
        check_genuine(loaded)


def test_a_bundle_of_this_suite_is_what_the_suite_gives(tmp_path: Path) -> None:
    with load_bundle(bundle_file(tmp_path)) as loaded:
        assert same_suite(loaded)
        check_genuine(loaded)


def test_a_bundle_of_another_suite_says_so(tmp_path: Path) -> None:
    with load_bundle(write(tmp_path / "b.zip", reindexed(lambda r: r.update(suite_digest="0" * 64)))) as loaded:
        assert not same_suite(loaded)


def sqrt() -> dict[str, Any]:
    return case(index(), "ops/mov.sqrt/f32/special")["launches"][0]


def widest(content: bytes) -> bytes:
    """Return the lower ends of sets that admit everything."""
    return np.full(len(content) // 4, -np.inf, np.float32).tobytes()


def flagged(content: bytes) -> bytes:
    return b"\2" * len(content)


FORGERIES: dict[str, tuple[Callable[[], Files], str]] = {
    "an acceptance set is wider": (
        lambda: _forged(sqrt()["expected"][0]["values"][0]["path"], widest), "inputs or acceptance sets"),
    "nothing is claimed": (
        lambda: _forged(sqrt()["expected"][0]["flags"]["path"], flagged), "inputs or acceptance sets"),
    "the inputs are others": (lambda: _forged(sqrt()["before"]["path"], _other_input), "inputs or acceptance sets"),
    "the kernel is another": (
        lambda: _forged(case(index())["kernel"]["path"], lambda text: text.replace(b"mul.hi", b"mul")),
        "instructions of the kernel"),
    "a case counts for another tier": (lambda: reindexed(lambda r: case(r).update(tier="full")), "tier"),
    "a case covers other cells": (lambda: reindexed(lambda r: case(r).update(cells=["add/f32"])), "cells"),
    "a case of its own": (lambda: reindexed(lambda r: case(r).update(id="ops/own")), f"lacks the case {SIGNED_CASE}"),
    "a case is gone with its files": (lambda: _without(SIGNED_CASE), f"lacks the case {SIGNED_CASE}"),
    "what was left out is not told": (lambda: reindexed(lambda r: r.update(left_out=[])), "does not list"),
    "another profile": (lambda: reindexed(lambda r: r.update(patterns=["ops/mul.hi"])), "none of its profile"),
}  # fmt: skip


def _forged(path: str, change: Callable[[bytes], bytes]) -> Files:
    return forged(path, change(made().files[path]))


def _other_input(image: bytes) -> bytes:
    at = case(index(), "ops/mov.sqrt/f32/special")["buffers"][0]["offset"]
    return image[:at] + bytes([image[at] ^ 1]) + image[at + 1 :]


def _without(case_id: str) -> Files:
    record = index()
    record["cases"] = [each for each in record["cases"] if each["id"] != case_id]
    named = {file["path"] for file in _files(record)}
    files = {name: content for name, content in made().files.items() if name in named}
    return {**files, INDEX: msgspec.json.encode(record)}


@pytest.mark.parametrize(("files", "words"), FORGERIES.values(), ids=FORGERIES)
def test_a_bundle_that_was_changed_with_its_digests_is_found(
    tmp_path: Path, files: Callable[[], Files], words: str
) -> None:
    with pytest.raises(SchemaError, match=words):
        check(tmp_path, files())
