"""Keys that are the same each time, and published reports of runs without a device."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from portkit.conformance.attest.keys import PublicKey, SigningKey
from portkit.conformance.attest.verify import Demands, Verified, verify
from portkit.conformance.case import Tier
from portkit.conformance.cases.collect import collect
from portkit.conformance.digest import suite_digest
from portkit.conformance.journal import Entry
from portkit.conformance.registry import publish
from portkit.conformance.select import select
from portkit.conformance.verdict import Verdict
from tests.conformance.report.runs import CHIP, run_folder


def signing_key(number: int = 1) -> SigningKey:
    """Return one of a row of keys."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


ACME = signing_key(1)
OTHER = signing_key(2)


def trusted(key: SigningKey = ACME, name: str = "Acme", backends: tuple[str, ...] = ()) -> PublicKey:
    """Return the public half of a key under a name."""
    return PublicKey(key.public.key, name, backends)


def smoke_entries() -> list[Entry]:
    """Return a passing entry for every case of the suite that the chip owes in tier smoke."""
    return [
        Entry(case.id, Verdict.PASS, case.level.value, elements=10, cells=tuple(str(cell) for cell in case.cells))
        for case in select(collect(CHIP, "core"), Tier.SMOKE, ())
    ]


def published(place: Path, entries: Iterable[Entry] | None = None, *, keys: Any = (ACME,), **changes: Any) -> Path:
    """Publish a run into `place/registry` and return its folder there; by default a signed run that passes."""
    draft = changes.pop("draft", False)
    source = run_folder(place / f"run{len(list(place.iterdir()))}", entries, **changes)
    return publish(source, place / "registry", draft=draft, keys=keys)


def genuine(place: Path, entries: Iterable[Entry] | None = None, **changes: Any) -> Path:
    """Publish a smoke run of this very suite, so that its list of cases can be checked."""
    made = smoke_entries() if entries is None else entries
    return published(place, made, tier="smoke", suite_digest=suite_digest(), **changes)


def verified(path: Path, *keys: PublicKey, **demands: Any) -> Verified:
    """Return what is found of one report."""
    [found] = verify(path, Demands(keys, **demands))
    return found


def outcomes(found: Verified) -> dict[str, str]:
    """Return the outcome of every check by name."""
    return {finding.check: finding.outcome for finding in found.findings}


def refusals(found: Verified) -> dict[str, str]:
    """Return what was refused, and the words."""
    return {finding.check: finding.text for finding in found.findings if finding.outcome == "refused"}


def edit(file: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON file in place as whoever knows its format could."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content, indent=1) + "\n")
