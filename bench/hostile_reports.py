"""Throws mutated reports, manifests, envelopes, waiver files and lists of keys at whoever reads them.

    python -m bench.hostile_reports --count 10000 --seed 1

Each input starts as a file that portkit wrote and has bytes flipped, parts cut off, or its decoded JSON edited: values
in each other's place, deep nesting, huge numbers, HTML, paths and control characters in every string. A third of the
reports are made consistent again and signed, as a hostile vendor would. Looked for is anything but our errors, a hang,
a changed file that holds under the key of the genuine one, a write outside of the sandbox (by an audit hook of the
interpreter), and HTML that our templates do not have, in reports, badges and the site.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import datetime as dt
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.hostile_edits import TEXTS, edited, mutated_bytes, mutated_toml, spoken
from portkit.cli.main import main as command
from portkit.cli.output import shown
from portkit.conformance import journal as journals
from portkit.conformance.attest.dsse import seal
from portkit.conformance.attest.folder import read_submission
from portkit.conformance.attest.keys import PublicKey, SigningKey, base64_line, load_trust
from portkit.conformance.attest.manifest import (
    ATTESTATION,
    MANIFEST,
    PAGE,
    REPORT,
    digest,
    encode_manifest,
    encode_statement,
    manifest_of,
    statement_of,
)
from portkit.conformance.attest.pages import Inventory, foreign, inventory
from portkit.conformance.attest.verify import Demands, verify
from portkit.conformance.card import Card
from portkit.conformance.cases.cells import cells
from portkit.conformance.journal import Entry, Header, JournalWriter
from portkit.conformance.registry import publish
from portkit.conformance.report import badge, html, junit, terminal
from portkit.conformance.report.build import from_journal
from portkit.conformance.report.model import Report, decode_report
from portkit.conformance.report.write import write_files
from portkit.conformance.site.build import build
from portkit.conformance.verdict import Verdict
from portkit.conformance.waivers import apply, load_waivers
from portkit.contract import Capabilities, DeviceInfo
from portkit.errors import PortkitError
from portkit.spec import forms

SLOW = 5.0
"""Seconds: an input that takes longer counts as a hang."""
CELLS = 16
PARTS = ("elements", "attributes", "addresses", "scripts", "declarations")
TOLD_EVERY = 10
"""Of all submissions, every so many are shown as portkit verify does."""
SITE_EVERY = 20
"""Of the reports that a registry would take, every so many are built into a site."""
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(b"genuine!" * 4))
HOSTILE_KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(b"hostile!" * 4))
TRUSTED = KEY.public
WAIVERS = """[[waiver]]
cases = "ops/add/*"
reason = "erratum 17: TEXT"
link = "https://acme.example/errata/17"
expires = 2099-12-31
verdicts = ["fail", "crash"]
"""

# --- the genuine files --------------------------------------------------------------------------------------------

CHIP = Capabilities(name="chip", version="2.1", vendor="Acme", evidence="silicon")
HEADER = Header(
    journal=journals.JOURNAL_VERSION,
    portkit="0.1",
    spec=forms.VERSION,
    spec_digest=forms.digest(),
    suite="1",
    suite_digest="b" * 64,
    contract="1",
    backend="chip",
    backend_digest="c" * 64,
    capabilities=CHIP,
    info=DeviceInfo("Acme One", driver="acme 5.2", compiler="acmecc 9"),
    profile="core",
    tier="smoke",  # it owes no cell, so that the files are short
    started="2026-03-04T05:06:07+00:00",
)
CARD = Card(suspect="add/f32", replay="portkit conform --backend chip", kernel="kernel add_f32", hint="it flushes")


def passing() -> list[Entry]:
    """Return one passing entry for some of the cells that the chip declares."""
    return [
        Entry(f"ops/{cell}", Verdict.PASS, "ops", elements=100, error_share=0.25, seconds=0.001, cells=(str(cell),))
        for cell in cells(CHIP)[:: len(cells(CHIP)) // CELLS]
    ]


def runs() -> Iterator[tuple[Header, list[Entry]]]:
    """Yield runs that together use every part of a report's page."""
    entries = passing()
    yield HEADER, entries
    reason = "known (https://acme.example/1, until 2099-01-01); out[3] is wrong"
    waived = msgspec.structs.replace(entries[0], verdict=Verdict.WAIVED, waived=Verdict.FAIL, reason=reason)
    strict = msgspec.structs.replace(entries[1], digest="a" * 64, reference_digest="a" * 64)
    yield HEADER, [waived, strict, *entries[2:]]
    odd = [
        Entry(
            f"kernels/{v.value}", v, "kernels", reason="out[3] is wrong", error_share=2.5, card=CARD, cells=("add/f32",)
        )
        for v in Verdict
        if v not in (Verdict.WAIVED, Verdict.PASS, Verdict.UNSUPPORTED)
    ]
    yield HEADER, [*entries, *odd]
    shaken = [msgspec.structs.replace(e, runs=3, orders=("reversed",)) for e in entries]
    varying = msgspec.structs.replace(shaken[0], varying={"reversed": 3}, free=("store.atomic.add",))
    yield msgspec.structs.replace(HEADER, repeat=3), [varying, *shaken[1:]]


@dataclass(frozen=True)
class Genuine:
    """Files that portkit wrote: those of published reports, and what a page of ours consists of."""

    reports: list[dict[str, bytes]]
    page: Inventory
    badge: Inventory
    site: Inventory


def genuine(place: Path) -> Genuine:
    """Publish a few runs below `place` and build their site."""
    registry = place / "genuine"
    pages, badges = Inventory(), Inventory()
    reports: list[dict[str, bytes]] = []
    for number, (start, entries) in enumerate(runs()):
        header = msgspec.structs.replace(start, cases=len(entries))
        source = place / f"run{number}"
        journals.create(source / "journal.jsonl", header)
        writer = JournalWriter(source / "journal.jsonl")
        for entry in entries:
            writer.append(entry)
        writer.close()
        report = from_journal(journals.read(source / "journal.jsonl"), seconds=1.5)
        write_files(report, source)
        folder = publish(source, registry, draft=False, keys=[KEY])
        reports.append(dict(read_submission(folder).files))
        add(pages, inventory(html.render(report)))
        add(badges, inventory(badge.render(report)))
    build(registry, place / "site")
    return Genuine(reports, pages, badges, site_inventory(place / "site"))


def add(whole: Inventory, part: Inventory) -> None:
    """Put what one page consists of to that of others."""
    for name in (*PARTS, "styles"):
        getattr(whole, name).update(getattr(part, name))
    whole.end = part.end


def site_inventory(site: Path) -> Inventory:
    """Return what the pages of a site consist of; addresses inside of it are all alike."""
    found = Inventory()
    for page in sorted(site.rglob("*.html")):
        one = inventory(page.read_text(encoding="utf-8"))
        one.addresses = {a for a in one.addresses if ":" in a.partition("/")[0] or a.startswith("/") or ".." in a}
        add(found, one)
    return found


# --- what is looked for -------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What came of the inputs."""

    inputs: int = 0
    slowest: float = 0.0
    came: Counter[str] = field(default_factory=Counter[str])
    faults: list[str] = field(default_factory=list[str])


class Guard:
    """Notes every file that this process writes, makes or removes outside of one folder."""

    _WRITING = frozenset(
        {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate"}
    )

    def __init__(self, inside: Path) -> None:
        self.inside = f"{inside.resolve()}{os.sep}"
        self.outside: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            self._note(path if writes or (isinstance(mode, str) and set(mode) & set("wax+")) else None)
        elif event in self._WRITING:
            for path in arguments[: 2 if event in ("os.rename", "os.link") else 1]:
                self._note(path)
        elif event in ("subprocess.Popen", "os.system", "socket.connect", "os.exec"):
            self.outside.append(f"{event} {arguments[0]!r}")

    def _note(self, path: object) -> None:
        if not isinstance(path, str | bytes | Path):
            return  # a descriptor: it was noted when it was opened
        name = os.path.normpath(str(path.decode() if isinstance(path, bytes) else path))
        if name.startswith(os.sep) and not f"{name}{os.sep}".startswith(self.inside):
            self.outside.append(name)


class Attack:
    """One sandbox: a registry with one published report, which is replaced for every input."""

    def __init__(self, place: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.known = genuine(place)
        self.registry = place / "registry"
        self.site = place / "out"
        self.file = place / "file.toml"
        self.tally = Tally()
        self.taken = 0

    def one(self, number: int) -> None:
        """Make one input and note what came of it."""
        kinds: tuple[tuple[str, Callable[[], str]], ...] = (
            ("bytes", self.bytes_of_a_file),
            ("structure", self.structure_of_a_file),
            ("consistent", self.consistent_report),
            ("spoken", self.spoken_report),
            ("statement", self.statement),
            ("page", self.page),
            ("waivers", self.waivers),
            ("keys", self.keys),
        )
        name, attack = self.rng.choices(kinds, weights=(4, 6, 4, 2, 3, 1, 2, 1))[0]
        started = time.perf_counter()
        self.tally.inputs += 1
        try:
            outcome = attack()
        except PortkitError as error:
            outcome = "refused"
            str(error).encode("utf-8", "surrogatepass")
        except Exception as error:  # noqa: BLE001 (whatever escapes is what is looked for)
            outcome = "fault"
            self.fault(f"{type(error).__name__}: {error}")
        elapsed = time.perf_counter() - started
        self.tally.came[f"{name} {outcome}"] += 1
        self.tally.slowest = max(self.tally.slowest, elapsed)
        if elapsed > SLOW:
            self.fault(f"took {elapsed:.1f} s")

    def fault(self, what: str) -> None:
        """Note what should not have come out."""
        self.tally.faults.append(f"input {self.tally.inputs}: {what[:300]}")

    # --- inputs

    def bytes_of_a_file(self) -> str:
        files = dict(self.rng.choice(self.known.reports))
        name = self.rng.choice((REPORT, MANIFEST, ATTESTATION))
        files[name] = mutated_bytes(self.rng, files[name])
        return self.judged(files)

    def structure_of_a_file(self) -> str:
        files = dict(self.rng.choice(self.known.reports))
        name = self.rng.choice((REPORT, REPORT, MANIFEST, ATTESTATION))
        files[name] = edited(self.rng, files[name])
        return self.judged(files)

    def consistent_report(self) -> str:
        files = dict(self.rng.choice(self.known.reports))
        files[REPORT] = edited(self.rng, files[REPORT])
        return self.judged(self.repinned(files))

    def spoken_report(self) -> str:
        files = dict(self.rng.choice(self.known.reports))
        files[REPORT] = spoken(self.rng, files[REPORT])
        return self.judged(self.repinned(files))

    def statement(self) -> str:
        files = dict(self.rng.choice(self.known.reports))
        payload = base64.b64decode(json.loads(files[ATTESTATION])["payload"])
        change = self.rng.choice((edited, mutated_bytes))
        files[ATTESTATION] = seal(change(self.rng, payload), [self.rng.choice((KEY, HOSTILE_KEY))])
        return self.judged(files, signed_by_us=True)

    def page(self) -> str:
        files = dict(self.rng.choice(self.known.reports))
        piece = self.rng.choice(TEXTS).encode("utf-8", "surrogatepass")
        at = self.rng.randrange(len(files[PAGE]))
        files[PAGE] = files[PAGE][:at] + piece + files[PAGE][at:] if piece else mutated_bytes(self.rng, files[PAGE])
        return self.judged(files)

    def waivers(self) -> str:
        self.file.write_bytes(mutated_toml(self.rng, WAIVERS))
        loaded = load_waivers(self.file, dt.date(2026, 3, 4))
        entry = Entry("ops/add/f32", Verdict.FAIL, "ops", reason="wrong", cells=("add/f32",))
        waived = apply(loaded, entry)
        report = from_journal(journals.Journal(HEADER, {entry.id: waived}))
        self.look(report)
        return waived.verdict.value

    def keys(self) -> str:
        text = f'[[key]]\nname = "Acme TEXT"\npublic = "{base64_line(TRUSTED)}"\nbackends = ["acme-*"]\n'
        self.file.write_bytes(mutated_toml(self.rng, text))
        return f"{len(load_trust(self.file))} keys"

    # --- judging

    def repinned(self, files: dict[str, bytes]) -> dict[str, bytes]:
        """Return files that fit together again, signed by a hostile vendor. Raises where there is no report left."""
        report = decode_report(files[REPORT], "forged")
        manifest = manifest_of(report, files[REPORT], draft=self.rng.random() < 0.5, journal="d" * 64)
        files[MANIFEST] = encode_manifest(manifest)
        del files[PAGE]
        files[ATTESTATION] = seal(encode_statement(statement_of(report, manifest, files)), [HOSTILE_KEY])
        return files

    def judged(self, files: dict[str, bytes], *, signed_by_us: bool = False) -> str:
        """Verify a submission with these files, and show it where a registry would take it."""
        shutil.rmtree(self.registry, ignore_errors=True)
        folder = self.registry / "chip" / f"2026-03-04-{digest(files[REPORT])[:12]}"
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        hostile = PublicKey(HOSTILE_KEY.public.key, "hostile")
        [taken] = verify(self.registry, Demands((TRUSTED, hostile), signed_only=True))
        genuine_key = taken.holds and TRUSTED.label in taken.signed.keys
        if genuine_key and not signed_by_us and not self.is_genuine(files):
            self.fault("a changed submission holds under the genuine key")
        if self.tally.inputs % TOLD_EVERY == 0:
            self.tell()
        if taken.report is not None and files[REPORT] not in [known[REPORT] for known in self.known.reports]:
            self.look(taken.report)
        if taken.holds:
            self.taken += 1
            if self.taken % SITE_EVERY == 0:
                self.show()
        return "holds" if genuine_key else "taken" if taken.holds else "refused"

    def is_genuine(self, files: dict[str, bytes]) -> bool:
        """Whether files say the same as some that were published; the envelope may be spelt differently."""
        signed = [{name: c for name, c in known.items() if name != ATTESTATION} for known in self.known.reports]
        return {name: c for name, c in files.items() if name != ATTESTATION} in signed

    def look(self, report: Report) -> None:
        """Render a report in every form and look for HTML that is not ours."""
        for name, page, ours in (
            ("page", html.render(report), self.known.page),
            ("badge", badge.render(report), self.known.badge),
        ):
            if surplus := foreign(page, ours):
                self.fault(f"{name} of a report holds {surplus!r}")
        junit.render(report)
        terminal.summary(report)

    def tell(self) -> None:
        """Print what the command says of the registry, and look for what a terminal would obey."""
        told, wrong = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(wrong), contextlib.suppress(SystemExit):
            command(["verify", str(self.registry)])
        text = told.getvalue() + wrong.getvalue()
        self.tally.came["told"] += 1
        if shown(text) != text or "Traceback" in text:
            self.fault(f"printed {text!r}")

    def show(self) -> None:
        """Build the site and look at all of its pages."""
        shutil.rmtree(self.site, ignore_errors=True)
        build(self.registry, self.site)
        self.tally.came["sites"] += 1
        found, ours = site_inventory(self.site), self.known.site
        for name in PARTS:
            if surplus := getattr(found, name) - getattr(ours, name):
                self.fault(f"the site has {name} of its own: {min(surplus)[:80]!r}")


def fuzz(count: int, seed: int, place: Path) -> Tally:
    """Make so many inputs below `place`; the same seed gives the same ones."""
    attack = Attack(place, seed)
    guard = Guard(place)
    for number in range(count):
        attack.one(number)
        if guard.outside:
            attack.fault(f"wrote outside: {guard.outside[0]}")
            guard.outside.clear()
    return attack.tally


def main() -> int:
    """Run, report, and return 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="portkit-hostile-") as folder:
        tempfile.tempdir = folder
        tally = fuzz(options.count, options.seed, Path(folder))
        tempfile.tempdir = None
    elapsed = time.perf_counter() - started
    print(f"{tally.inputs} inputs in {elapsed:.1f} s, slowest {tally.slowest * 1e3:.0f} ms")
    for name, number in sorted(tally.came.items()):
        print(f"  {number:6} {name}")
    print(f"faults: {len(tally.faults)}", *tally.faults[:20], sep="\n  ")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
