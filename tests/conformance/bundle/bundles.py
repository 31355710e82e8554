"""Bundles for tests: a small one for the cpu backend, its outputs, and ways to change either."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from portkit.conformance.bundle.archive import pack
from portkit.conformance.bundle.load import load_bundle
from portkit.conformance.bundle.make import Made, Wanted, make_bundle
from portkit.conformance.bundle.model import INDEX, digest
from portkit.conformance.bundle.outputs import make_outputs
from portkit.conformance.worker import open_client
from portkit.contract import Capabilities
from portkit.runtime.client import DeviceClient

PATTERNS = ("ops/mul.hi", "ops/mov.sqrt", "ops/reduce.max/f32", "kernels/shared/scan", "kernels/refuse/valid_c3")
UNSIGNED = "mul-hi-is-unsigned"
"""A seeded fault that the case ops/mul.hi/i32/special finds, and no other of these."""
SIGNED_CASE = "ops/mul.hi/i32/special"

Files = dict[str, bytes]
Change = Callable[[dict[str, Any]], object]


@cache
def capabilities() -> Capabilities:
    with DeviceClient("cpu") as client:
        return client.capabilities


@cache
def made() -> Made:
    return make_bundle(Wanted(capabilities(), patterns=PATTERNS))


@cache
def outputs(mutant: str = "") -> Mapping[str, bytes]:
    """Return what the cpu backend gives, with a seeded fault if one is named."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "bundle.zip", made().files)
        with closing(open_client("cpu", 10.0, mutant)) as client, load_bundle(path) as loaded:
            return make_outputs(loaded, client)


def write(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write files as an archive."""
    path.write_bytes(pack(files))
    return path


def bundle_file(folder: Path) -> Path:
    """Write the small bundle into a folder."""
    return write(folder / "bundle.zip", made().files)


def outputs_file(folder: Path, mutant: str = "") -> Path:
    """Write the outputs of the cpu backend into a folder."""
    return write(folder / "outputs.zip", outputs(mutant))


def index() -> dict[str, Any]:
    return json.loads(made().files[INDEX])


def reindexed(change: Change) -> Files:
    """Return the files of the small bundle with its index changed, and nothing else."""
    record = index()
    change(record)
    return {**made().files, INDEX: json.dumps(record).encode()}


def forged(path: str, content: bytes, files: Mapping[str, bytes] | None = None) -> Files:
    """Return the files of a bundle, the small one by default, with one of them another, and an index that says so."""
    original = made().files if files is None else files

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("path") == path:
                return {"path": path, "size": len(content), "sha256": digest(content)}
            return {key: replaced(part) for key, part in value.items()}
        return [replaced(part) for part in value] if isinstance(value, list) else value

    return {**original, path: content, INDEX: json.dumps(replaced(json.loads(original[INDEX]))).encode()}


def case(record: dict[str, Any], case_id: str = SIGNED_CASE) -> dict[str, Any]:
    """Return the record of a case in an index."""
    return next(each for each in record["cases"] if each["id"] == case_id)


def entry(name: str, **fields: Any) -> zipfile.ZipInfo:
    """Return the header of a file in an archive, with fields that `zipfile` would not set."""
    info = zipfile.ZipInfo("placeholder")
    info.filename = name
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def write_entries(path: Path, *entries: tuple[zipfile.ZipInfo, bytes]) -> Path:
    """Write an archive entry by entry, whatever their names."""
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in entries:
            archive.writestr(info, content)
    return path
