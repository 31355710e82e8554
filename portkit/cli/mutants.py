"""`portkit mutants`: plant the seeded faults in a backend and see which case finds which."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import typer

from portkit.cli.conform import TierName
from portkit.cli.output import EXIT_FAIL, EXIT_PASS, errors, print_json, print_table, say
from portkit.cli.progress import in_tenths
from portkit.errors import UsageError, near_names

if TYPE_CHECKING:
    from portkit.conformance.mutants.kills import Hunted
    from portkit.conformance.mutants.record import Job, Record


def mutants(
    backend: str = typer.Option("cpu", "--backend", "-b", help="An installed backend, or module:ATTRIBUTE."),
    tier: TierName = typer.Option(TierName.STANDARD, "--tier", help="Whose cases are to find them."),
    mutant: list[str] = typer.Option([], "--mutant", metavar="NAME", help="Only this one, or glob; may be repeated."),
    sample: int | None = typer.Option(None, "--sample", min=1, help="So many mutants only, spread over the table."),
    case: list[str] = typer.Option([], "--case", metavar="ID", help="Only these cases: id, prefix or glob."),
    replay: bool = typer.Option(False, "--replay", help="Run the recorded killers first, and others only if need be."),
    record: bool = typer.Option(False, "--record", help="Keep what was found as the record of this suite."),
    checks: bool = typer.Option(
        False, "--checks", help="Say what is lost without each check, by the record; run nothing."
    ),
    list_mutants: bool = typer.Option(False, "--list", help="List the faults and leave."),
    workers: int | None = typer.Option(None, "--workers", "-n", min=1, help="Worker processes; by default one a core."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Measure the suite: plant each seeded fault in a backend, and see which cases find it.

    The backend must pass without faults. Exit codes: 0 all that can show are found, 1 not, or none can show, 2 usage,
    3 cannot run here, 130 interrupted.
    """
    from portkit.conformance.mutants import record as records

    names = _spread(_chosen(mutant), sample)
    if list_mutants:
        _list(names, json=json)
    elif checks:
        _print_checks(records.load(), json=json)
    else:
        if record and (mutant or sample or case or replay or backend != "cpu" or tier is not TierName.STANDARD):
            raise UsageError("--record keeps a whole run on cpu; leave out the other options")
        found = _hunt(backend, tier, names, case, workers, replay=replay, quiet=json)
        if record:
            records.save(_record_of(found, names, backend))
        _show(backend, names, found, replay=replay, json=json)
        raise typer.Exit(EXIT_PASS if found.tried and not found.survivors() and not found.unfit else EXIT_FAIL)


def _chosen(patterns: Sequence[str]) -> list[str]:
    from portkit.conformance.mutants.table import distinguishable, equivalent

    known = [mutant.name for mutant in distinguishable()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            for same in equivalent():
                if same.name == pattern:
                    raise UsageError(f"{pattern} cannot be told from a right device: {same.equivalent}")
            raise UsageError(f"no mutant {pattern!r}{near_names(pattern, known)}; portkit mutants --list names them")
    return [name for name in known if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]


def _spread(names: list[str], sample: int | None) -> list[str]:
    """Return so many of the names, evenly spread; all of them if none is asked for or there are no more."""
    if sample is None or sample >= len(names):
        return names
    return [names[k * len(names) // sample] for k in range(sample)]


# --- running ------------------------------------------------------------------------------------------------------


def _hunt(
    backend: str,
    tier: TierName,
    names: list[str],
    patterns: list[str],
    workers: int | None,
    *,
    replay: bool,
    quiet: bool,
) -> Hunted:
    """Return what was found; recorded killers that do not kill here make way for all cases."""
    from portkit.conformance.case import Case, Tier
    from portkit.conformance.cases.collect import collect
    from portkit.conformance.mutants import record as records
    from portkit.conformance.mutants.kills import hunt, jobs
    from portkit.conformance.mutants.table import MUTANTS
    from portkit.conformance.run import processors
    from portkit.conformance.select import select
    from portkit.runtime.client import DeviceClient

    with DeviceClient(backend) as client:
        client.require()
        cases: list[Case] = select(collect(client.capabilities), Tier(tier.value), patterns)
        names = [name for name in names if not MUTANTS[name].admitted(client.capabilities)]
        count = max(1, min(workers or processors(), client.capabilities.limits.max_processes))

    def run(work: list[Job]) -> Hunted:
        with _progress(len(work), quiet=quiet) as step:
            return hunt(backend, work, count, step)

    if not replay:
        return run(jobs(cases, names))
    found = run(records.replay_jobs(records.load(), names))
    killed = {kill.mutant for kill in found.kills}
    left = [name for name in names if name not in killed]
    return found + run(jobs(cases, left, most=1)) if left else found


@contextmanager
def _progress(total: int, *, quiet: bool) -> Generator[Callable[[int], None]]:
    if quiet:
        yield lambda done: None
        return
    if not sys.stderr.isatty():
        yield in_tenths(total, "families of cases")
        return
    with errors.status("starting") as status:
        yield lambda done: status.update(f"{done} of {total} families of cases")


def _record_of(found: Hunted, names: list[str], backend: str) -> Record:
    from portkit.conformance.case import Tier
    from portkit.conformance.cases.collect import collect
    from portkit.conformance.mutants import record as records
    from portkit.conformance.mutants.record import family
    from portkit.contract import find_backend

    cases = collect(find_backend(backend).capabilities)
    families = {family(case.id) for case in cases if case.tier is not Tier.FULL}
    return records.make(found.kills, names, families, backend)


# --- showing ------------------------------------------------------------------------------------------------------


def _list(names: list[str], *, json: bool) -> None:
    from portkit.conformance.mutants.table import MUTANTS, equivalent

    chosen = [MUTANTS[name] for name in names]
    if json:
        rows = [{"name": m.name, "suspect": m.suspect, "level": m.level, "fault": m.summary} for m in chosen]
        print_json({"mutants": rows, "equivalent": {m.name: m.equivalent for m in equivalent()}})
        return
    print_table(("mutant", "accuses", "fault"), [(m.name, m.suspect, m.summary) for m in chosen])
    _print_equivalent()


def _print_equivalent() -> None:
    from portkit.conformance.mutants.table import equivalent

    say("\nequivalent: no case can tell them from a right device that copies at once and runs its lanes in order")
    print_table(("mutant", "reason"), [(m.name, m.equivalent) for m in equivalent()])


def _show(backend: str, names: list[str], found: Hunted, *, replay: bool, json: bool) -> None:
    from portkit.conformance.mutants.record import by_mutant

    killed = by_mutant(found.kills)
    absent = [name for name in names if name not in found.tried]
    if json:
        print_json(_as_json(backend, names, found, absent))
        return
    rows = [(name, killed[name][0].case, _more(len(killed[name]))) for name in names if name in killed]
    print_table(("mutant", "killed by", ""), rows)
    if not replay:
        _print_equivalent()
    say(f"\nkilled on {backend}", style="bold")
    for tier, count in _by_tier(found).items():
        say(f"  {tier:<9} {count} of {len(found.tried)} ({100 * count / max(1, len(found.tried)):.1f} %)")
    if absent:
        say(f"not declared by {backend}, and so not counted: {len(absent)}")
    for name in found.survivors():
        say(f"survives: {name}", style="bold red")
    for case in found.unfit:
        say(f"does not pass without a fault: {case}", style="bold red")


def _more(count: int) -> str:
    return f"and {count - 1} more" if count > 1 else ""


def _by_tier(found: Hunted) -> dict[str, int]:
    """Return how many mutants each tier kills, the smaller tiers included."""
    from portkit.conformance.case import Tier

    tiers = [tier.value for tier in Tier]
    least = {k.mutant: min(tiers.index(o.tier) for o in found.kills if o.mutant == k.mutant) for k in found.kills}
    reached = sorted(set(least.values()))
    return {tiers[at]: sum(place <= at for place in least.values()) for at in reached}


def _as_json(backend: str, names: list[str], found: Hunted, absent: list[str]) -> dict[str, Any]:
    from portkit.conformance.mutants.record import by_mutant

    killed = by_mutant(found.kills)
    return {
        "backend": backend,
        "mutants": len(names),
        "tried": len(found.tried),
        "killed": _by_tier(found),
        "killers": {name: [kill.case for kill in killed.get(name, ())] for name in names},
        "survivors": found.survivors(),
        "not_declared": absent,
        "unfit": list(found.unfit),
    }


def _print_checks(record: Record, *, json: bool) -> None:
    """Print what the suite loses without each check of the judge, and without each family of cases."""
    from portkit.conformance.mutants.record import only_by_check, only_by_family
    from portkit.conformance.mutants.table import fits

    by_check = {check.value: lost for check, lost in only_by_check(record).items()}
    by_family = only_by_family(record)
    if json:
        print_json({"fits": fits(record), "checks": by_check, "families": by_family})
        return
    if not fits(record):
        say("the record is of another suite; portkit mutants --record makes it anew", style="red")
    for title, lost in (("check of the judge", by_check), ("family of cases", by_family)):
        rows = [(name, str(len(found)), ", ".join(found[:2])) for name, found in lost.items()]
        print_table((title, "lost without it", "such as"), rows)
        say()
