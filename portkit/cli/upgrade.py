"""`portkit upgrade`: bring what `portkit new` wrote into a port up to this version's template."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import typer

from portkit.cli.output import EXIT_FAIL, print_json, print_table, say
from portkit.cli.scaffold import RECORD, Scaffold, digest, files_of, read_record, rendered
from portkit.errors import SchemaError, UsageError

BESIDE = ".new"
"""What the name of a file ends with that lies beside an edited one."""


class Change(StrEnum):
    """What becomes of a file."""

    ADDED = "added"
    UPDATED = "updated"
    MERGE = "to be merged"
    KEPT = "kept, yours"
    REMOVED = "removed by you"
    DROPPED = "no longer used"
    SAME = "same"


_MEANING = {
    Change.ADDED: "new in the template",
    Change.UPDATED: "you had not changed it",
    Change.MERGE: f"both changed it: the template's is beside it, {BESIDE}",
    Change.KEPT: "the template has not changed it",
    Change.REMOVED: "not written again",
    Change.DROPPED: "the template has it no more; delete it if you do not need it",
}


def upgrade(
    folder: Path = typer.Argument(Path(), help="The port's folder; by default this one."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be done, and do nothing."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Update a port that `portkit new` made to the template of this portkit.

    Files that you have not touched are replaced. Of those that you and the template have both changed, the new one is
    put beside yours, to be merged by hand; nothing of yours is overwritten.
    Exit codes: 0 done, 1 something to merge by hand, 2 usage.
    """
    before = read_record(folder)
    _check_known(before, folder)
    answers = {"name": before.name, "route": before.route, "driver": before.driver}
    try:
        with rendered(answers, folder) as made:
            changes = dict(_changes(before, files_of(made), folder))
            if not dry_run:
                _apply(changes, made, folder)
            after = read_record(made)
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror or error}") from error
    if json:
        print_json({"from": before.portkit, "to": after.portkit, "dry_run": dry_run, "files": changes})
    else:
        _show(changes, before, after, dry_run=dry_run)
    if Change.MERGE in changes.values():
        raise typer.Exit(EXIT_FAIL)


def _check_known(record: Scaffold, folder: Path) -> None:
    from portkit.cli.new import Driver, Route

    for field, value, known in (("route", record.route, Route), ("driver", record.driver, Driver)):
        if value not in list(known):
            raise SchemaError(f"{folder / RECORD}: no {field} is called {value!r}; there are {', '.join(known)}")


def _changes(before: Scaffold, made: dict[str, Path], folder: Path) -> Iterator[tuple[str, Change]]:
    """Yield what becomes of each file of the new template and of the old one."""
    for name, path in made.items():
        change = _change(before.files.get(name, ""), digest(path), _there(folder, name))
        if change is Change.MERGE and _there(folder, f"{name}{BESIDE}") not in (None, digest(path)):
            raise UsageError(
                f"{folder / name}{BESIDE} is from an earlier upgrade: merge it, delete it, then upgrade again"
            )
        yield name, change
    for name in before.files.keys() - made.keys():
        if _there(folder, name) is not None:
            yield name, Change.DROPPED


def _change(old: str, new: str, there: str | None) -> Change:
    """Return what becomes of a file, by its digest in the old template, in the new one, and in the port."""
    if there is None:
        return Change.REMOVED if old else Change.ADDED
    if there == new:
        return Change.SAME
    if there == old:
        return Change.UPDATED
    return Change.KEPT if old == new else Change.MERGE


def _there(folder: Path, name: str) -> str | None:
    """Return the digest of a file in the port, None where it is missing.

    Raises `UsageError` for one that does not lie in the folder: what is written there would land elsewhere.
    """
    path = folder / name
    if path.is_symlink() or not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{path} is a link, or leads out of {folder}: put a file in its place, then upgrade again")
    return digest(path) if path.is_file() else None


def _apply(changes: dict[str, Change], made: Path, folder: Path) -> None:
    """Put each new file in its place by a rename, the record last: what is cut off is done again next time."""
    for name, change in changes.items():
        if change in (Change.ADDED, Change.UPDATED):
            _put(made / name, folder / name)
        elif change is Change.MERGE:
            _put(made / name, folder / f"{name}{BESIDE}")
    _put(made / RECORD, folder / RECORD)


def _put(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.portkit")
    shutil.copyfile(source, scratch)
    shutil.copymode(source, scratch)
    scratch.replace(target)


def _show(changes: dict[str, Change], before: Scaffold, after: Scaffold, *, dry_run: bool) -> None:
    rows = [(change.value, name) for name, change in sorted(changes.items()) if change is not Change.SAME]
    if not rows:
        say(f"nothing to do: every file is as the template of portkit {after.portkit} has it")
        return
    say(f"{before.name}: from portkit {before.portkit} to {after.portkit}{', nothing written' if dry_run else ''}\n")
    print_table(("file", ""), [(name, change) for change, name in rows])
    say("")
    for change in dict.fromkeys(changes[name] for _, name in rows):
        say(f"{change.value}: {_MEANING[change]}")
