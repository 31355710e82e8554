"""The recorded kill matrix: the mutation score of the suite, its killers, and what each check and family is worth.

`killers.json` beside this file is written by `portkit mutants --record` and replayed by CI. It is that of one suite,
which it names by digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import msgspec

from portkit.conformance.case import Tier
from portkit.conformance.digest import suite_digest
from portkit.conformance.files import write_atomically, writing
from portkit.conformance.finding import Check
from portkit.errors import SchemaError
from portkit.spec import forms

NAME = "killers.json"
VERSION = 1
KILLS_PER_FAMILY = 2
"""How many cases of a family are to kill a mutant before the others of the family are left out."""
KILLERS = 3
"""How many killers of a mutant are kept."""
_TIERS = list(Tier)

Text = Annotated[str, msgspec.Meta(max_length=200)]


class Kill(msgspec.Struct, frozen=True):
    """A case that a mutant does not pass, and the checks that found it."""

    mutant: str
    case: str
    tier: str
    checks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """Cases of one family, and the mutants that are tried on them; `most` kills of each are enough."""

    cases: tuple[str, ...]
    mutants: tuple[str, ...]
    most: int = KILLS_PER_FAMILY


def family(case_id: str) -> str:
    """Return the family of a case: the first two parts of its id."""
    return "/".join(case_id.split("/")[:2])


def by_mutant(kills: Iterable[Kill]) -> Mapping[str, list[Kill]]:
    """Return the kills of each mutant."""
    grouped: dict[str, list[Kill]] = {}
    for kill in kills:
        grouped.setdefault(kill.mutant, []).append(kill)
    return grouped


class Killer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A case that finds a mutant, its tier, and the checks that do."""

    case: Text
    tier: Tier
    checks: tuple[Check, ...]


class Found(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What finds a mutant.

    `families` are all families of cases that have a killer; `checks` are the different sets of checks by which a case
    found it. Both are empty for one that nothing finds.
    """

    killers: tuple[Killer, ...] = ()
    families: tuple[Text, ...] = ()
    checks: tuple[tuple[Check, ...], ...] = ()


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The kill matrix of one suite on one backend."""

    version: int
    spec_digest: Text
    suite_digest: Text
    backend: Text
    families: tuple[Text, ...]
    """All families of cases that were tried."""
    mutants: dict[Text, Found]


def path() -> Path:
    """Return where the record lies."""
    return Path(str(files("portkit.conformance.mutants").joinpath(NAME)))


def make(kills: Iterable[Kill], names: Iterable[str], families: Iterable[str], backend: str) -> Record:
    """Return the record of a whole hunt."""
    found = by_mutant(kills)
    mutants = {name: _found(found.get(name, ())) for name in sorted(names)}
    return Record(VERSION, forms.digest(), suite_digest(), backend, tuple(sorted(set(families))), mutants)


def _found(kills: Sequence[Kill]) -> Found:
    ordered = sorted(kills, key=lambda kill: (_TIERS.index(Tier(kill.tier)), len(kill.case), kill.case))
    killers = tuple(Killer(k.case, Tier(k.tier), _checks(k)) for k in _spread(ordered)[:KILLERS])
    families = tuple(sorted({family(kill.case) for kill in kills}))
    return Found(killers, families, tuple(sorted({_checks(kill) for kill in kills}, key=str)))


def _spread(kills: Sequence[Kill]) -> list[Kill]:
    """Return the kills, one of each family first."""
    seen: set[str] = set()
    firsts = [kill for kill in kills if family(kill.case) not in seen and not seen.add(family(kill.case))]
    return [*firsts, *(kill for kill in kills if kill not in firsts)]


def _checks(kill: Kill) -> tuple[Check, ...]:
    return tuple(Check(name) for name in kill.checks)


def save(record: Record, target: Path | None = None) -> Path:
    """Write the record, whole or not at all. Raises `UsageError` where it cannot be written."""
    place = target or path()
    with writing(place):
        return write_atomically(place, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")


def load(source: Path | None = None) -> Record:
    """Read the record. Raises `SchemaError` where it is missing, or no record of this version."""
    place = source or path()
    try:
        record = msgspec.json.decode(place.read_bytes(), type=Record)
    except OSError as error:
        raise SchemaError(
            f"{place.name}: cannot be read ({error.strerror}); portkit mutants --record makes it"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError(f"{place.name}: not a record of killed mutants: {error}") from error
    if record.version != VERSION:
        raise SchemaError(f"{place.name}: a record of version {record.version}, this portkit reads {VERSION}")
    return record


def replay_jobs(record: Record, names: Iterable[str]) -> list[Job]:
    """Return the jobs that run the recorded killers of each mutant until one kills it."""
    together: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        cases = tuple(killer.case for killer in record.mutants.get(name, Found()).killers)
        if cases:
            together.setdefault(cases, []).append(name)
    return [Job(cases, tuple(mutants), most=1) for cases, mutants in together.items()]


# --- scores -------------------------------------------------------------------------------------------------------


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many mutants are killed, of how many."""

    killed: int
    mutants: int

    @property
    def share(self) -> float:
        """The killed ones as a share of all."""
        return self.killed / self.mutants if self.mutants else 0.0

    def __str__(self) -> str:
        return f"{self.killed} of {self.mutants} ({100 * self.share:.1f} %)"


def score(record: Record, tier: Tier = Tier.STANDARD) -> Score:
    """Return the mutation score of a tier, the smaller ones included."""
    within = _TIERS[: _TIERS.index(tier) + 1]
    killed = sum(any(killer.tier in within for killer in found.killers) for found in record.mutants.values())
    return Score(killed, len(record.mutants))


def survivors(record: Record) -> list[str]:
    """Return the mutants that nothing found."""
    return [name for name, found in record.mutants.items() if not found.killers]


def only_by_family(record: Record) -> dict[str, list[str]]:
    """Return for each family of cases the mutants that it alone kills."""
    alone: dict[str, list[str]] = {name: [] for name in record.families}
    for name, found in record.mutants.items():
        if len(found.families) == 1:
            alone[found.families[0]].append(name)
    return alone


def only_by_check(record: Record) -> dict[Check, list[str]]:
    """Return for each check of the judge the mutants that survive without it: no case finds them by another one."""
    return {
        check: [
            name
            for name, found in record.mutants.items()
            if found.checks and all(set(checks) == {check} for checks in found.checks)
        ]
        for check in Check
    }
