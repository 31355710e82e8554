"""Bundles from outside: an index that contradicts its archive, its kernels or itself is refused, with its own words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portkit.conformance.bundle.load import Loaded, load_bundle, load_case
from portkit.conformance.bundle.model import INDEX, digest
from portkit.errors import PortkitError, SchemaError, UsageError
from tests.conformance.bundle.bundles import (
    Change,
    Files,
    bundle_file,
    case,
    forged,
    index,
    made,
    reindexed,
    write,
)


def read(folder: Path, files: Files) -> None:
    """Read a bundle with every case of it."""
    with load_bundle(write(folder / "b.zip", files)) as loaded:
        for record in loaded.bundle.cases:
            load_case(loaded, record)


def refusal(folder: Path, files: Files, kind: type[PortkitError] = SchemaError) -> str:
    """Return the words with which a bundle is refused."""
    with pytest.raises(kind) as error:
        read(folder, files)
    return str(error.value)


@pytest.fixture
def loaded(tmp_path: Path) -> Any:
    with load_bundle(bundle_file(tmp_path)) as opened:
        yield opened


def test_a_bundle_is_read_as_it_was_made(loaded: Loaded) -> None:
    assert loaded.bundle == made().bundle
    assert loaded.digest == digest(made().files[INDEX])
    assert [load_case(loaded, record).trial.kernel.name for record in loaded.bundle.cases]


def test_a_folder_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        load_bundle(tmp_path)


def test_an_archive_without_an_index_is_no_bundle(tmp_path: Path) -> None:
    assert "holds no bundle.json" in refusal(tmp_path, {"other.json": b"{}"})


# --- the index as JSON --------------------------------------------------------------------------------------------

MALFORMED = {
    "no json": b"\xff\xfe",
    "nested without end": b"[" * 200_000,
    "nested in a field": b'{"format":' * 50_000,
    "another record": b"{}",
    "a list": b"[]",
    "a number that is too large": json.dumps({**index(), "version": 10**400}).encode(),
    "another version": json.dumps({**index(), "version": 2}).encode(),
    "an unknown field": json.dumps({**index(), "surprise": 1}).encode(),
    "too many patterns": json.dumps({**index(), "patterns": ["a"] * 1001}).encode(),
    "too many cases": json.dumps({**index(), "left_out": ["a"] * 30_001}).encode(),
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_an_index_that_is_no_record_of_this_version_is_refused(tmp_path: Path, content: bytes) -> None:
    words = refusal(tmp_path, {**made().files, INDEX: content})
    assert "bundle.json" in words
    assert len(words) < 400


def test_an_index_that_is_too_large_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portkit.conformance.bundle.load.MAX_INDEX_BYTES", 1000)
    assert "1000 are the most" in refusal(tmp_path, dict(made().files))


# --- the index against the archive and itself ---------------------------------------------------------------------


def first(record: dict[str, Any]) -> dict[str, Any]:
    return record["cases"][0]["launches"][0]


CHANGES: dict[str, tuple[Change, str]] = {
    "path upwards": (lambda r: case(r)["kernel"].update(path="../k.pk"), "path"),
    "absolute path": (lambda r: case(r)["kernel"].update(path="/etc/passwd"), "path"),
    "file that is not there": (lambda r: case(r)["kernel"].update(path="kernels/none.pk"), "lacks kernels/none.pk"),
    "size of a file": (lambda r: case(r)["kernel"].update(size=7), "two ways|has .* bytes, bundle.json says 7"),
    "size beyond the limit": (lambda r: case(r)["kernel"].update(size=1 << 40), "268435456"),
    "size below zero": (lambda r: case(r)["kernel"].update(size=-1), ">= 0"),
    "digest of a file": (lambda r: first(r)["before"].update(sha256="0" * 64), "was changed"),
    "digest that is none": (lambda r: first(r)["before"].update(sha256="0" * 63), "sha256"),
    "a case twice": (lambda r: r["cases"].append(r["cases"][0]), "names the case .* 2 times"),
    "a case less": (lambda r: r["cases"].pop(), "does not name"),
    "an output twice": (
        lambda r: first(r).update(after=r["cases"][1]["launches"][0]["after"]), "names the output .* 2 times"),
    "an output upwards": (lambda r: first(r).update(after="../o.bin"), "after"),
    "an output in a folder": (lambda r: first(r).update(after="a/o.bin"), "no name for an output"),
    "an output in place of the manifest": (lambda r: first(r).update(after="outputs.json"), "no name for an output"),
    "poison": (lambda r: first(r).update(poison=1), "poison and guard"),
    "guard": (lambda r: first(r).update(guard=0), "poison and guard"),
    "no launch": (lambda r: case(r).update(launches=[]), "length >= 1"),
    "size of the image": (lambda r: case(r).update(image_bytes=512), "not laid out"),
    "place of a buffer": (lambda r: case(r)["buffers"][0].update(offset=0), "not laid out"),
    "size of a buffer": (lambda r: case(r)["buffers"][0].update(size=4), "has not the size"),
    "extent of a buffer": (lambda r: case(r)["buffers"][0].update(extent=1), "has not the size"),
    "dtype of a buffer": (lambda r: case(r)["buffers"][0].update(dtype="f33"), "has not the size"),
    "name of a buffer": (lambda r: case(r)["buffers"][0].update(name="a b"), "name"),
    "another buffer": (lambda r: case(r)["buffers"][0].update(name="other"), "its buffers .* not those of the kernel"),
    "an access": (lambda r: case(r)["buffers"][0].update(access="write"), "not of the written buffers"),
    "a scalar": (lambda r: case(r)["scalars"][0].update(name="other"), "its scalars .* not those of the kernel"),
    "the value of a scalar": (
        lambda r: case(r)["scalars"][0].update(bits="0x00000001"), "its buffers .* not those of the kernel"),
    "a scalar that is no pattern": (lambda r: case(r)["scalars"][0].update(bits="1"), "bits"),
    "the grid": (lambda r: case(r).update(grid=[1]), "its grid extents .* not those of the kernel"),
    "a grid without end": (lambda r: case(r).update(grid=[2**31]), "grid"),
    "lanes": (lambda r: case(r).update(lanes=1), "its lanes .* not those of the kernel"),
    "nothing expected": (lambda r: first(r).update(expected=[]), "does not name"),
    "a buffer expected twice": (
        lambda r: first(r).update(expected=first(r)["expected"] * 2), "not of the written buffers"),
    "the rule": (lambda r: case(r)["launches"][0]["expected"][0].update(rule="interval"), "by the rule choice"),
    "judged in no way": (lambda r: case(r).update(device_check_only=True), "not of the written buffers"),
    "capabilities that contradict themselves": (
        lambda r: r["capabilities"].update(extensions=["dtype_f17"]), "capabilities"),
    "capabilities with a name without end": (
        lambda r: r["capabilities"]["math"].update({"9" * 2000: ["f32"]}), "capabilities"),
    "capabilities that lack what is needed": (
        lambda r: r["capabilities"]["math"].pop("sqrt"), "capabilities lack"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES)
def test_an_index_that_was_changed_is_refused(tmp_path: Path, change: Change, words: str) -> None:
    with pytest.raises(PortkitError, match=words) as error:
        read(tmp_path, reindexed(change))
    assert len(str(error.value)) < 400


def test_a_bundle_for_another_spec_names_the_portkit_to_use(tmp_path: Path) -> None:
    files = reindexed(lambda r: r.update(spec_digest="0" * 64, portkit="9.9"))
    assert "use portkit 9.9" in refusal(tmp_path, files, UsageError)


def test_a_file_that_no_case_names_is_refused(tmp_path: Path) -> None:
    assert "holds surplus.bin" in refusal(tmp_path, {**made().files, "surplus.bin": b""})


def test_outputs_of_more_bytes_than_anybody_keeps_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portkit.conformance.bundle.load.MAX_TOTAL_BYTES", 1000)
    assert "the outputs would take" in refusal(tmp_path, dict(made().files))


# --- files that fit an index and not each other -------------------------------------------------------------------


def kernel_path() -> str:
    return case(index())["kernel"]["path"]


def image_path() -> str:
    return case(index())["launches"][0]["before"]["path"]


def other_guard(image: bytes) -> bytes:
    return b"\0" + image[1:]


FORGERIES: dict[str, tuple[Callable[[], str], Callable[[bytes], bytes], str]] = {
    "another guard": (image_path, other_guard, "guard and the poison"),
    "no kernel": (kernel_path, lambda _: b"kernel", "is not valid"),
    "no text": (kernel_path, lambda _: b"\xff", "is not valid"),
    "an invalid kernel": (kernel_path, lambda text: text.replace(b"mul.hi", b"mul.no"), "is not valid"),
    "deeply nested": (kernel_path, lambda text: text + b"(" * 100_000, "is not valid"),
}


@pytest.mark.parametrize(("path", "change", "words"), FORGERIES.values(), ids=FORGERIES)
def test_files_that_do_not_belong_together_are_refused_though_their_digests_fit(
    tmp_path: Path, path: Callable[[], str], change: Callable[[bytes], bytes], words: str
) -> None:
    assert words in refusal(tmp_path, forged(path(), change(made().files[path()])))


def test_a_kernel_beyond_its_limit_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portkit.conformance.bundle.load.MAX_KERNEL_BYTES", 10)
    assert "10 are the most" in refusal(tmp_path, dict(made().files))


def test_a_file_whose_bytes_were_changed_is_refused(tmp_path: Path) -> None:
    path = case(index())["launches"][0]["expected"][0]["values"][0]["path"]
    content = made().files[path]
    words = refusal(tmp_path, {**made().files, path: bytes([content[0] ^ 1]) + content[1:]})
    assert f"{path} was changed" in words
