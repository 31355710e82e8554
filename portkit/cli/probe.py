"""`portkit probe`: measure a device, and compare what is found with what its backend declares."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from portkit.cli.output import EXIT_FAIL, EXIT_PASS, errors, fill, print_json, print_table, say, shown
from portkit.cli.progress import NARROW
from portkit.errors import UsageError

if TYPE_CHECKING:
    from portkit.conformance.probing import Probed, Row
    from portkit.conformance.probing.facts import Speed

_WIDTH = 80
_COLUMNS = ("what", "declared", "measured", "")


class PartName(StrEnum):
    """The parts by name; the enum of the probe is imported only when it runs."""

    FLOATS = "floats"
    LISTS = "lists"
    LIMITS = "limits"
    SPEED = "speed"


def probe(
    backend: str = typer.Option(..., "--backend", "-b", help="An installed backend, or module:ATTRIBUTE."),
    check: bool = typer.Option(False, "--check", help="Show only what is declared wrongly."),
    only: list[PartName] = typer.Option([], "--only", help="Measure only this; may be repeated."),
    write: Path | None = typer.Option(None, "--write", help="Draft a capabilities file from what was measured."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
    timeout: float = typer.Option(10.0, "--timeout", min=0.1, help="Seconds for one kernel."),
) -> None:
    """Measure a device and compare it with what its backend declares.

    Exit codes: 0 they agree, 1 not, 2 usage, 3 cannot run here.
    """
    from portkit.conformance.probing import Part, draft_text
    from portkit.conformance.probing import probe as measure
    from portkit.runtime.client import DeviceClient

    if write is not None and write.exists():
        raise UsageError(f"{write} exists; give a new name, or remove it first")
    parts = [Part(name.value) for name in only] or tuple(Part)
    with DeviceClient(backend, timeout=timeout) as client, _progress(quiet=json) as show:
        found = measure(client, parts=parts, seconds=timeout, show=show)
    if write is not None:
        _write(write, draft_text(found.drafted))
    if json:
        print_json(_record(found))
    else:
        _show(found, backend, write, check=check)
    raise typer.Exit(EXIT_FAIL if found.wrong else EXIT_PASS)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _show(found: Probed, backend: str, written: Path | None, *, check: bool) -> None:
    rows = found.wrong if check else found.rows
    if rows:
        print_table(_COLUMNS, [_cells(row) for row in rows])
        say()
    for row in found.wrong:
        for line in row.advice.splitlines():
            say(fill(line, rest=4))
    if found.speed is not None and not check:
        say(_speed(found.speed))
    if written is not None:
        say(f"wrote {written}")
    say(_verdict(found, backend), style="bold red" if found.wrong else "green")


def _cells(row: Row) -> tuple[str, ...]:
    return (row.what, _short(row.declared), _short(row.measured), row.state.value)


def _short(text: str) -> str:
    """Return a list that would not fit in its column as how many entries it has; the advice below names them."""
    words = text.split()
    return text if len(text) <= _CELL else f"{len(words)} entries" if ":" not in text else f"{text[: _CELL - 3]}..."


_CELL = 22


def _speed(speed: Speed) -> str:
    size, launch = speed.copy_bytes >> 20, 1e6 * speed.launch_seconds
    return fill(
        f"copy of {size} MiB on the device: {speed.gigabytes_per_second:.1f} GB/s, read and written; "
        f"launch of an empty kernel and the wait for it: {launch:.1f} us",
        rest=4,
    )


def _verdict(found: Probed, backend: str) -> str:
    if found.wrong:
        wrong = f"{len(found.wrong)} of {len(found.rows)} measurements do not agree with what {backend} declares"
        return fill(wrong, rest=4)
    return fill(f"what {backend} declares agrees with what was measured", rest=4)


def _record(found: Probed) -> dict[str, Any]:
    import msgspec

    record: dict[str, Any] = msgspec.to_builtins(found)
    return {"agrees": not found.wrong, **record}


@contextmanager
def _progress(*, quiet: bool) -> Generator[Callable[[str, int, int], None]]:
    """Give what is to be called before each measurement; it shows a bar on a terminal."""
    if quiet or not sys.stderr.isatty() or errors.width < NARROW:
        yield lambda what, done, total: None
        return
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(BarColumn(), TextColumn("{task.description}", markup=False), console=errors, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(
            task, description=shown(what)[: NARROW - 24], completed=done, total=total
        )
