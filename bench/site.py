"""The site of a registry with 200 reports: how long it takes to build, and how much its first page loads.

The registry is made of the reports in `registry/`: other names, versions, days and device texts, and in some of them
failures. Each is one that the registry's reader takes; half of them are signed. `python -m bench.site` exits 1 where a
limit is not met; `--keep FOLDER` leaves registry and site there to look at.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from portkit.conformance.attest import dsse
from portkit.conformance.attest.checks import DRAFT_ONLY, folder_of
from portkit.conformance.attest.keys import SigningKey, base64_line
from portkit.conformance.attest.manifest import (
    ATTESTATION,
    MANIFEST,
    REPORT,
    encode_manifest,
    encode_statement,
    manifest_of,
    statement_of,
)
from portkit.conformance.report.build import count, count_levels
from portkit.conformance.report.model import CaseResult, CellResult, Failure, Report, encode_report, load_report
from portkit.conformance.report.statement import statement
from portkit.conformance.verdict import Verdict

REGISTRY = Path(__file__).resolve().parents[1] / "registry"
REPORTS = 200
VERSIONS = 8
"""Reports of one backend."""
MOST_SECONDS = 20.0
MOST_FIRST_BYTES = 1_000_000
FIRST_DAY = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(b"a key for benchmarks, not secret"))
LOADED = re.compile(r'<(?:script|link)\b[^>]*?\b(?:src|href)="([^"#:]+)"')
CARD = "suspect    {suspect}\nexpected   0x1.000002p+0\nfound      0x1p+0\nreplay     portkit conform --case {id}\n"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one build took; `first_bytes` are those of index.html and of what it loads.

    `processor_seconds` are of all its processes: much less than `seconds` means that the machine was busy elsewhere.
    """

    seconds: float
    processor_seconds: float
    first_bytes: int
    all_bytes: int


# --- the registry -------------------------------------------------------------------------------------------------


def variants(sources: Sequence[Report], how_many: int, seed: int) -> Iterator[Report]:
    """Yield reports made from others, several versions of each backend, each consistent in itself."""
    random_ = random.Random(seed)
    for number in range(how_many):
        backend, version = divmod(number, VERSIONS)
        named = _renamed(sources[backend % len(sources)], number, version)
        yield _failing(named, random_) if random_.random() < 0.4 else named


def _renamed(report: Report, number: int, version: int) -> Report:
    names = {"version": f"{1 + version // 4}.{version % 4}", "vendor": f"Vendor {number // VERSIONS:02}"}
    name = f"{report.subject.backend}-{number // VERSIONS:02}"
    started = FIRST_DAY + timedelta(days=20 * version + number // VERSIONS)
    return msgspec.structs.replace(
        report,
        subject=msgspec.structs.replace(report.subject, backend=name, device=f"Chip {number // VERSIONS:02}", **names),
        capabilities=msgspec.structs.replace(report.capabilities, name=name, **names),
        started=started.isoformat(),
    )


def _failing(report: Report, random_: random.Random) -> Report:
    """Return the report with a few wrong cells, and in each a few wrong cases that have cards."""
    cells = {id(cell) for cell in random_.sample(report.cells, random_.randint(1, 24))}
    cases = {c.id for c in random_.sample(report.cases, random_.randint(1, 40))}
    wrong = [_wrong_case(c) if c.id in cases else c for c in report.cases]
    return _concluded(report, wrong, [_wrong_cell(c) if id(c) in cells else c for c in report.cells])


def _wrong_case(case: CaseResult) -> CaseResult:
    return msgspec.structs.replace(case, verdict=Verdict.FAIL, reason="out[3] is wrong", error_share=2.5)


def _wrong_cell(cell: CellResult) -> CellResult:
    return msgspec.structs.replace(cell, verdict=Verdict.FAIL, error_share=2.5)


def _concluded(report: Report, cases: list[CaseResult], cells: list[CellResult]) -> Report:
    """Return the report of other cases, with everything that follows from them."""
    wrong = [c for c in cases if not c.verdict.passes]
    return msgspec.structs.replace(
        report,
        cases=tuple(cases),
        cells=tuple(cells),
        counts=count(cases),
        levels=count_levels(cases),
        passed=False,
        statement=statement(report.subject.evidence, report.profile, report.tier, passed=False),
        determinism=None,
        failures=tuple(Failure(c.id, c.verdict, _suspect(c.id), _card(c.id)) for c in wrong),
    )


def _suspect(id: str) -> str:
    return "/".join(id.split("/")[1:3])


def _card(id: str) -> str:
    return CARD.format(suspect=_suspect(id), id=id)


def write_registry(folder: Path, reports: Iterator[Report]) -> None:
    """File reports as `portkit publish` does, every second one signed with a key that the registry lists."""
    for number, report in enumerate(reports):
        _file(folder, report, signed=number % 2 == 0)
    (folder / "keys.toml").write_text(f'[[key]]\nname = "Bench lab"\npublic = "{base64_line(KEY.public)}"\n')


def _file(registry: Path, report: Report, *, signed: bool) -> None:
    content = encode_report(report)
    manifest = manifest_of(report, content, draft=report.subject.evidence in DRAFT_ONLY, journal="0" * 64)
    files = {REPORT: content, MANIFEST: encode_manifest(manifest)}
    if signed:
        files[ATTESTATION] = dsse.seal(encode_statement(statement_of(report, manifest, files)), [KEY])
    target = registry / folder_of(report, manifest.report_digest)
    target.mkdir(parents=True)
    for name, written in files.items():
        (target / name).write_bytes(written)


# --- the site -----------------------------------------------------------------------------------------------------


def measure(registry: Path, site: Path) -> Measured:
    """Build the site with the command, start of Python included.

    Raises:
        subprocess.CalledProcessError: it was not built.
    """
    command = [sys.executable, "-c", "from portkit.cli.main import main; main()", "matrix", str(registry)]
    begin, before = time.perf_counter(), _processor_seconds()
    subprocess.run([*command, "--out", str(site)], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - begin
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    return Measured(seconds, _processor_seconds() - before, first_bytes(site), size)


def _processor_seconds() -> float:
    """Return what all child processes that ended have used."""
    used = os.times()
    return used.children_user + used.children_system


def first_bytes(site: Path) -> int:
    """Return the size of the index and of every script and style that it loads, before compression."""
    index = site / "index.html"
    loaded = set(LOADED.findall(index.read_text(encoding="utf-8")))
    return index.stat().st_size + sum((site / name).stat().st_size for name in loaded)


def main() -> int:
    """Make the registry, build its site, print a table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=int, default=REPORTS, help="how many reports (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of names and failures (default: %(default)s)")
    parser.add_argument("--keep", type=Path, help="an empty folder for registry and site; else they are removed")
    chosen = parser.parse_args()
    sources = [load_report(path) for path in sorted(REGISTRY.glob("*/*/report.json"))]
    with tempfile.TemporaryDirectory(prefix="portkit-site-") as scratch:
        place = chosen.keep or Path(scratch)
        write_registry(place / "registry", variants(sources, chosen.reports, chosen.seed))
        found = measure(place / "registry", place / "site")
    print(f"{chosen.reports} reports of {len(sources)} sources")
    print(
        f"built      {found.seconds:8.1f} s   limit {MOST_SECONDS:.0f} s; {found.processor_seconds:.1f} s of processor"
    )
    print(f"first page {found.first_bytes / 1e6:8.3f} MB  limit {MOST_FIRST_BYTES / 1e6:.0f} MB")
    print(f"all        {found.all_bytes / 1e6:8.1f} MB")
    return int(found.seconds > MOST_SECONDS or found.first_bytes > MOST_FIRST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
