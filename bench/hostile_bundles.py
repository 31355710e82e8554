"""Throws mutated bundles and outputs at the judge of bundles: only our errors, no hang, no write outside the target.

    python -m bench.hostile_bundles [--count COUNT] [--seed SEED]

Each attempt starts from a bundle and right outputs of it. Something is changed: bytes of an archive, entries and names,
fields of an index or a manifest, contents of files, with digests that fit again or not. Then the bundle is loaded,
judged, and the report written. What is refused must be refused with an error of portkit's own. Every file that Python
opens for writing, and every folder, link or renaming, is watched. Text of the attempt never becomes HTML of the report.
A change outside of what a kernel may write never passes.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from portkit.conformance import journal as journals
from portkit.conformance.bundle.archive import pack
from portkit.conformance.bundle.browser import browser_capabilities
from portkit.conformance.bundle.judging import Judgement, judge_outputs
from portkit.conformance.bundle.load import load_bundle
from portkit.conformance.bundle.make import Wanted, make_bundle
from portkit.conformance.bundle.model import INDEX, MANIFEST, digest
from portkit.conformance.bundle.outputs import make_outputs, read_outputs
from portkit.conformance.report.build import from_journal
from portkit.conformance.report.write import write_files
from portkit.conformance.verdict import Verdict
from portkit.errors import PortkitError
from portkit.runtime.client import DeviceClient

CASES = (
    "kernels/loops/triangle",
    "kernels/index/tails/64_lanes_63",
    "kernels/math/softmax",
    "ops/mov.bits/f32-to-32-bit",
)
SLOW = 10.0
"""Seconds: an attempt that takes longer counts as a hang."""
MOST_MEMORY = 4 << 20
"""KiB that all attempts together may hold at once."""
MARK = "<b id=hostile>"
"""HTML that no page may contain: what is thrown contains it."""
NAMES = [
    *("../x", "/tmp/x", "..\\x", "C:x", "a/../../x", ".x", "", "a/", "x" * 200, "\0", "a\nb", MARK, "\u202e", "CON"),
    *("bundle.json", "outputs.json", "kernels", "a//b"),
]
VALUES: list[Any] = [
    *(None, True, -1, 0, 1, 2**31, 2**63, 2**64, 10**300, 1e308, -0.5, "", MARK, "../x", "/etc/passwd", "0x00000000"),
    *("\0", "\ud800", "9" * 2000, [], {}, [[]] * 50, {"a": {}}, "pass", "f32", "bool", "write", "silicon", "interval"),
]


@dataclass(frozen=True)
class Attempt:
    """Files of a bundle and of outputs, and the two archives that are given if they are not to be packed from them."""

    bundle: dict[str, bytes]
    outputs: dict[str, bytes]
    packed_bundle: bytes | None = None
    packed_outputs: bytes | None = None
    strays: frozenset[str] = frozenset()
    """Cases of whose outputs a byte was changed where the kernel may not write."""


@dataclass
class Tally:
    """What came of the attempts."""

    attempts: int = 0
    judged: int = 0
    slowest: float = 0.0
    refusals: Counter[str] = field(default_factory=Counter[str])
    faults: list[str] = field(default_factory=list[str])


# --- changes ------------------------------------------------------------------------------------------------------


def spoiled(rng: random.Random, content: bytes) -> bytes:
    """Return bytes with a few of them changed, cut, moved, or numbers among them made extreme."""
    data = bytearray(content or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(data))
        match rng.randrange(6):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                data[at : at + 4] = struct.pack("<I", rng.choice((0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)))
            case 3:
                data = data[:at] or bytearray(b"\0")
            case 4:
                data[at:at] = data[rng.randrange(len(data)) :][: rng.randrange(64)]
            case _:
                data += data[at : at + 64]
    return bytes(data)


def directory_spoiled(rng: random.Random, content: bytes) -> bytes:
    """Return an archive with bytes of its directory changed, where names, sizes and places are."""
    start = content.index(b"PK\1\2")
    return content[:start] + spoiled(rng, content[start:])


def places(value: object) -> Generator[tuple[Any, Any]]:
    """Yield every container of a record with every key of it."""
    if isinstance(value, dict):
        keys: list[Any] = list(cast("dict[str, Any]", value))
    else:
        keys = list(range(len(cast("list[Any]", value)))) if isinstance(value, list) else []
    holder = cast("Any", value)
    for key in keys:
        yield holder, key
        yield from places(holder[key])


def record_spoiled(rng: random.Random, content: bytes) -> bytes:
    """Return a record with a few of its fields replaced, removed, doubled or exchanged."""
    try:
        record = json.loads(content)
    except ValueError:
        return spoiled(rng, content)
    for _ in range(rng.choice((1, 1, 1, 3))):
        everywhere = list(places(record))
        if not everywhere:
            break
        holder, key = rng.choice(everywhere)
        other, there = rng.choice(everywhere)
        match rng.randrange(6):
            case 0:
                del holder[key]
            case 1 | 2:
                holder[key] = rng.choice(VALUES)
            case 3 if isinstance(holder[key], int):
                holder[key] += rng.choice((-1, 1, 4, 256))
            case 4 if isinstance(holder, list):
                cast("list[Any]", holder).append(holder[key])
            case 5 if isinstance(holder, dict):
                holder[rng.choice(NAMES)] = rng.choice(VALUES)
            case _:
                holder[key] = json.loads(json.dumps(other[there]))
    return json.dumps(record).encode()


def resealed(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return files with an index that has their sizes and digests."""
    record = json.loads(files[INDEX])
    for holder, key in places(record):
        if key == "path" and holder[key] in files:
            content = files[holder[key]]
            holder.update(size=len(content), sha256=digest(content))
    return {**files, INDEX: json.dumps(record).encode()}


def entries(rng: random.Random, files: dict[str, bytes]) -> bytes:
    """Return an archive of files, with one entry of another name, kind or compression, or twice."""
    target = io.BytesIO()
    chosen = rng.choice(sorted(files))
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            if name == chosen:
                info.filename = rng.choice((name, name.upper(), *NAMES))
                info.external_attr = rng.choice((0o100644, 0o120777, 0o040755, 0o010644)) << 16
                info.compress_type = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
                archive.writestr(info, content)
            if name != chosen or rng.random() < 0.5:
                archive.writestr(name, content)
    return target.getvalue()


def some_file(rng: random.Random, files: dict[str, bytes]) -> dict[str, bytes]:
    """Return files of which one was changed."""
    name = rng.choice(sorted(files.keys() - {INDEX}))
    return {**files, name: spoiled(rng, files[name])}


def stray(rng: random.Random, start: Attempt) -> Attempt:
    """Return outputs of which a byte was changed where the kernel may not write."""
    case = rng.choice(json.loads(start.bundle[INDEX])["cases"])
    written = [range(b["offset"], b["offset"] + b["size"]) for b in case["buffers"] if b["access"] != "read"]
    at = rng.choice([k for k in range(case["image_bytes"]) if not any(k in each for each in written)])
    name = case["launches"][0]["after"]
    image = bytearray(start.outputs[name])
    image[at] ^= 1 << rng.randrange(8)
    return replace(start, outputs={**start.outputs, name: bytes(image)}, strays=frozenset({case["id"]}))


def extra(rng: random.Random, files: dict[str, bytes]) -> dict[str, bytes]:
    """Return files with one more, one less, or one of them under another name."""
    found = dict(files)
    name = rng.choice(sorted(files))
    content = found.pop(name) if rng.random() < 0.7 else b""
    if rng.random() < 0.7:
        found[rng.choice((*NAMES, *files))] = content
    return found


Change = Callable[[random.Random, Attempt], Attempt]
CHANGES: tuple[Change, ...] = (
    lambda rng, a: replace(a, packed_bundle=spoiled(rng, pack(a.bundle))),
    lambda rng, a: replace(a, packed_bundle=directory_spoiled(rng, pack(a.bundle))),
    lambda rng, a: replace(a, packed_bundle=entries(rng, a.bundle)),
    lambda rng, a: replace(a, bundle={**a.bundle, INDEX: record_spoiled(rng, a.bundle[INDEX])}),
    lambda rng, a: replace(a, bundle={**a.bundle, INDEX: record_spoiled(rng, a.bundle[INDEX])}),
    lambda rng, a: replace(a, bundle={**a.bundle, INDEX: spoiled(rng, a.bundle[INDEX])}),
    lambda rng, a: replace(a, bundle=some_file(rng, a.bundle)),
    lambda rng, a: replace(a, bundle=resealed(some_file(rng, a.bundle))),
    lambda rng, a: replace(a, bundle=resealed(some_file(rng, a.bundle))),
    lambda rng, a: replace(a, packed_bundle=pack_loosely(extra(rng, a.bundle))),
    lambda rng, a: replace(a, packed_outputs=spoiled(rng, pack(a.outputs))),
    lambda rng, a: replace(a, packed_outputs=directory_spoiled(rng, pack(a.outputs))),
    lambda rng, a: replace(a, packed_outputs=entries(rng, a.outputs)),
    lambda rng, a: replace(a, packed_outputs=pack_loosely(extra(rng, a.outputs))),
    lambda rng, a: replace(a, outputs={**a.outputs, MANIFEST: record_spoiled(rng, a.outputs[MANIFEST])}),
    lambda rng, a: replace(a, outputs=some_file(rng, a.outputs)),
    stray,
)


def matched(start: Attempt, changed: Attempt) -> Attempt:
    """Return an attempt whose outputs say that they are of its bundle, where only the bundle was changed."""
    if changed.bundle[INDEX] == start.bundle[INDEX]:
        return changed
    manifest = {**json.loads(start.outputs[MANIFEST]), "bundle": digest(changed.bundle[INDEX])}
    return replace(changed, outputs={**changed.outputs, MANIFEST: json.dumps(manifest).encode()})


def pack_loosely(files: dict[str, bytes]) -> bytes:
    """Return an archive of files whatever their names."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return target.getvalue()


# --- judging ------------------------------------------------------------------------------------------------------


class Watch:
    """Notes what is written anywhere but in a folder, by Python's audit events; it cannot be taken off again."""

    EVENTS = frozenset({"os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.truncate"})

    def __init__(self) -> None:
        self.allowed: Path | None = None
        self.found: list[str] = []
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.allowed is None or (event != "open" and event not in self.EVENTS):
            return
        if event == "open" and not (isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")):
            return
        path = arguments[1] if event == "os.rename" else arguments[0]
        if isinstance(path, str | bytes | Path) and not Path(str(path)).is_relative_to(self.allowed):
            self.found.append(f"{event} {path!r}")

    @contextmanager
    def only(self, folder: Path) -> Generator[None]:
        """Note what is written elsewhere meanwhile."""
        self.allowed = folder
        try:
            yield
        finally:
            self.allowed = None


def judge(folder: Path, attempt: Attempt) -> Judgement:
    """Judge as `portkit judge --as-given --out` does. Raises portkit's errors for what is refused."""
    with load_bundle(folder / "b.zip") as loaded, read_outputs(folder / "o.zip", loaded) as given:
        found = judge_outputs(loaded, given, genuine=False)
    report = from_journal(journals.Journal(found.header, {entry.id: entry for entry in found.entries}))
    write_files(report, folder / "report")
    return found


def faults_of(found: Judgement, attempt: Attempt, folder: Path) -> Iterable[str]:
    """Yield what is wrong with a judgement."""
    passed = {entry.id for entry in found.entries if entry.verdict is Verdict.PASS}
    for case_id in attempt.strays & passed:
        yield f"{case_id} passes, though it wrote where it may not"
    for page in (folder / "report").iterdir():
        if page.suffix in (".html", ".svg") and MARK in page.read_text(errors="replace"):
            yield f"{page.name} contains HTML of the attempt"


def attempt_once(name: str, attempt: Attempt, folder: Path, watch: Watch, tally: Tally) -> None:
    """Judge one attempt and note what came of it."""
    for file, packed, files in (
        ("b.zip", attempt.packed_bundle, attempt.bundle),
        ("o.zip", attempt.packed_outputs, attempt.outputs),
    ):
        (folder / file).write_bytes(pack_loosely(files) if packed is None else packed)
    start = time.perf_counter()
    tally.attempts += 1
    try:
        with watch.only(folder / "report"):
            found = judge(folder, attempt)
        tally.judged += 1
        tally.faults += [f"{name}: {fault}" for fault in faults_of(found, attempt, folder)]
    except PortkitError as error:
        message = str(error).replace(str(folder), "")
        tally.refusals[" ".join(message.split()[1:5])] += 1
        if len(message) > 1000 or not message.replace("\n", "").isprintable():
            tally.faults.append(f"{name}: says {message[:200]!r}")
    except Exception as error:  # noqa: BLE001 (whatever escapes is what is looked for)
        tally.faults.append(f"{name}: {type(error).__name__}: {error}")
    elapsed = time.perf_counter() - start
    tally.slowest = max(tally.slowest, elapsed)
    if elapsed > SLOW:
        tally.faults.append(f"{name}: took {elapsed:.1f} s")
    tally.faults += [f"{name}: wrote elsewhere: {each}" for each in watch.found]
    watch.found.clear()


def beginning() -> Attempt:
    """Return a bundle of small cases, one of them launched twice, and right outputs of it."""
    made = make_bundle(Wanted(browser_capabilities(), patterns=CASES))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "b.zip"
        path.write_bytes(made.pack())
        with load_bundle(path) as loaded, DeviceClient("cpu") as client:
            return Attempt(made.files, make_outputs(loaded, client))


def fuzz(count: int, seed: int, watch: Watch) -> Tally:
    """Judge `count` attempts; the same seed gives the same ones."""
    warnings.filterwarnings("ignore", "Duplicate name", UserWarning)  # of zipfile, where an entry is written twice
    start, tally = beginning(), Tally()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        attempt_once("unchanged", start, folder, watch, tally)
        for number in range(count):
            rng = random.Random(f"{seed}/{number}")
            changed = rng.choice(CHANGES)(rng, start)
            attempt_once(f"attempt {number}", matched(start, changed), folder, watch, tally)
    return tally


def main(arguments: list[str] | None = None) -> int:
    """Print what came of the attempts; 1 where one is a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    tally = fuzz(asked.count, asked.seed, Watch())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if memory > MOST_MEMORY:
        tally.faults.append(f"all attempts together held {memory} KiB")
    print(f"{tally.attempts} attempts: {tally.judged} judged, {sum(tally.refusals.values())} refused in", end=" ")
    print(f"{len(tally.refusals)} ways; the slowest took {tally.slowest:.2f} s; {memory >> 10} MiB")
    for words, times in tally.refusals.most_common(25):
        print(f"  {times:6}  {words}")
    for fault in tally.faults[:50]:
        print(f"FAULT {fault}")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
