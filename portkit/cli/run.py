"""`portkit run`: one kernel from a file, on a backend, alone or against the reference."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from portkit.cli.output import EXIT_FAIL, EXIT_PASS, console, print_json
from portkit.errors import UsageError

if TYPE_CHECKING:
    from portkit.conformance.journal import Entry
    from portkit.conformance.replay import Ran

_SHOWN = 8


class Judge(StrEnum):
    """What a run can be compared with."""

    REFERENCE = "reference"


def run(
    kernel: Path = typer.Argument(..., help="A kernel: text (.pk) or its JSON form."),
    backend: str = typer.Option("cpu", "--backend", "-b", help="An installed backend, or module:ATTRIBUTE."),
    against: Judge | None = typer.Option(None, "--against", help="Compare every element with the reference."),
    set_: list[str] = typer.Option([], "--set", help="A scalar, as n=1000; others are 256, or 1.0 for f32."),
    inputs: Path | None = typer.Option(None, "--inputs", help="A .npz file with an array for each buffer."),
    save: Path | None = typer.Option(None, "--save", help="Write every buffer after the launch to this .npz file."),
    seed: str = typer.Option("0", "--seed", help="Fixes the random contents of buffers that are not given."),
    source: bool = typer.Option(False, "--source", help="Print the generated source too."),
    timeout: float = typer.Option(30.0, "--timeout", min=0.1, help="Time limit in seconds."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Run a kernel on a backend; with --against reference, judge it as the suite would.

    A kernel run alone gets index checks, so that it cannot access memory outside its buffers.
    """
    from portkit.conformance import replay
    from portkit.runtime.client import DeviceClient

    if against is not None and save is not None:
        raise UsageError("--save keeps the buffers of a run alone; leave out --against")
    found = replay.load_kernel(kernel)
    scalars = replay.complete_scalars(found, dict(_pair(text) for text in set_))
    given = replay.load_inputs(inputs) if inputs else {}
    arrays = replay.make_inputs(found, scalars, given, seed)
    with DeviceClient(backend, timeout=timeout) as client:
        client.require()
        if against is None:
            ran = replay.run_alone(found, scalars, arrays, client)
            _show_outputs(found.name, ran, scalars, source=source, json=json)
            if save is not None:
                _save(save, ran)
            return
        entry = replay.run_against_reference(found, scalars, arrays, client)
    _show_verdict(entry, backend, scalars, source=source, json=json)
    raise typer.Exit(EXIT_PASS if entry.verdict.passes else EXIT_FAIL)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"--set takes NAME=VALUE, got {text!r}")
    return name, value


def _show_outputs(name: str, ran: Ran, scalars: dict[str, int | float], *, source: bool, json: bool) -> None:
    if json:
        print_json(
            {
                "kernel": name,
                "scalars": scalars,
                "launch_seconds": ran.launch_seconds,
                "compile_seconds": ran.compile_seconds,
                "outputs": {n: [repr(x) for x in a[:_SHOWN].tolist()] for n, a in ran.outputs.items()},
            }
        )
        return
    if source:
        console.print(ran.source, markup=False)
    _show_scalars(scalars)
    for buffer, array in ran.outputs.items():
        shown = ", ".join(f"{x:.6g}" if isinstance(x, float) else str(x) for x in array[:_SHOWN].tolist())
        console.print(f"{buffer:<10} {array.size} x {array.dtype}: {shown}{', ...' if array.size > _SHOWN else ''}")
    console.print(f"compiled in {1000 * ran.compile_seconds:.1f} ms, ran in {1000 * ran.launch_seconds:.3f} ms")


def _show_scalars(scalars: dict[str, int | float]) -> None:
    if scalars:
        console.print("scalars    " + ", ".join(f"{n} = {v}" for n, v in scalars.items()), markup=False)


def _show_verdict(entry: Entry, backend: str, scalars: dict[str, int | float], *, source: bool, json: bool) -> None:
    if json:
        print_json(_verdict_record(entry, backend))
        return
    _show_scalars(scalars)
    line = f"{entry.verdict.value}: {backend} against the reference, {entry.elements} elements"
    console.print(line, style="green" if entry.verdict.passes else "bold red")
    if entry.error_share:
        console.print(f"largest error: {entry.error_share:.3f} of its bound")
    if entry.ill_conditioned:
        console.print(f"ill-conditioned: {entry.ill_conditioned} elements, for which nothing is claimed")
    if entry.card is not None:
        import msgspec

        from portkit.conformance.card import render

        card = entry.card if source else msgspec.structs.replace(entry.card, source="")
        console.print(f"{entry.reason}\n{render(card)}", markup=False)


def _verdict_record(entry: Entry, backend: str) -> dict[str, Any]:
    import msgspec

    return {"backend": backend, **msgspec.to_builtins(entry)}


def _save(path: Path, ran: Ran) -> None:
    import io

    import numpy as np

    from portkit.conformance.report.write import write_atomically

    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **ran.outputs)
    write_atomically(path, content.getvalue())
    console.print(f"wrote {path}", markup=False)
