"""`portkit run`: one kernel or launch from a file, on a backend, alone or against the reference."""

from __future__ import annotations

from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from portkit.cli.output import EXIT_FAIL, EXIT_PASS, print_json, say
from portkit.errors import UsageError

if TYPE_CHECKING:
    from portkit.conformance.case import Trial
    from portkit.conformance.journal import Entry
    from portkit.conformance.replay import Ran

_SHOWN = 8


class Judge(StrEnum):
    """What a run can be compared with."""

    REFERENCE = "reference"


def run(
    kernel: Path = typer.Argument(..., help="A kernel: text (.pk) or its JSON form; or a launch (.trial.json)."),
    backend: str = typer.Option("cpu", "--backend", "-b", help="An installed backend, or module:ATTRIBUTE."),
    against: Judge | None = typer.Option(None, "--against", help="Compare every element with the reference."),
    set_: list[str] = typer.Option(
        [], "--set", metavar="NAME=VALUE", help="A scalar, as n=1000; others are 256, or 1.0 for f32."
    ),
    inputs: Path | None = typer.Option(None, "--inputs", help="A .npz file with an array for each buffer."),
    save: Path | None = typer.Option(None, "--save", help="Write every buffer after the launch to this .npz file."),
    seed: str = typer.Option("0", "--seed", help="Fixes the random contents of buffers that are not given."),
    source: bool = typer.Option(False, "--source", help="Print the generated source too."),
    timeout: float = typer.Option(30.0, "--timeout", min=0.1, help="Time limit in seconds."),
    mutant: str = typer.Option("", "--mutant", hidden=True, help="Plant this seeded fault in the backend."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Run a kernel from a file, alone or judged as the suite would.

    A kernel run alone gets index checks, so that it cannot access memory outside its buffers. A launch from a
    .trial.json file brings its own scalars and the contents of its buffers.
    """
    from portkit.conformance import replay
    from portkit.conformance.worker import open_client

    if against is not None and save is not None:
        raise UsageError("--save keeps the buffers of a run alone; leave out --against")
    trial = read_launch(kernel, set_, inputs, seed)
    with closing(open_client(backend, timeout, mutant)) as client:
        client.require()
        if against is None:
            ran = replay.run_alone(trial.kernel, trial.scalars, trial.inputs, client)
            if save is not None:
                replay.save_outputs(save, ran.outputs)
            _show_outputs(trial.kernel.name, ran, dict(trial.scalars), save, source=source, json=json)
            return
        entry = replay.judge_trial(trial, client)
    _show_verdict(entry, backend, dict(trial.scalars), source=source, json=json)
    raise typer.Exit(EXIT_PASS if entry.verdict.passes else EXIT_FAIL)


def read_launch(file: Path, set_: list[str], inputs: Path | None, seed: str) -> Trial:
    """Return the launch that a file and the options mean; a trial file takes no options, it says everything."""
    from portkit.conformance import replay
    from portkit.conformance.case import Trial
    from portkit.spec.kernel import Kernel

    found = replay.load(file)
    if not isinstance(found, Kernel):
        if set_ or inputs is not None:
            raise UsageError(f"{file} holds its scalars and inputs; leave out --set and --inputs")
        return found.trial
    scalars = replay.complete_scalars(found, dict(_pair(text) for text in set_))
    given = replay.load_inputs(inputs) if inputs else {}
    return Trial(found, scalars, replay.make_inputs(found, scalars, given, seed))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"--set takes NAME=VALUE, got {text!r}")
    return name, value


def _show_outputs(
    name: str, ran: Ran, scalars: dict[str, int | float], save: Path | None, *, source: bool, json: bool
) -> None:
    if json:
        print_json(
            {
                "kernel": name,
                "scalars": scalars,
                "launch_seconds": ran.launch_seconds,
                "compile_seconds": ran.compile_seconds,
                "outputs": {n: [repr(x) for x in a[:_SHOWN].tolist()] for n, a in ran.outputs.items()},
                "saved": str(save) if save else None,
                "source": ran.source if source else None,
            }
        )
        return
    if source:
        say(ran.source)
    _show_scalars(scalars)
    for buffer, array in ran.outputs.items():
        numbers = ", ".join(f"{x:.6g}" if isinstance(x, float) else str(x) for x in array[:_SHOWN].tolist())
        say(f"{buffer:<9} {array.size} x {array.dtype}: {numbers}{', ...' if array.size > _SHOWN else ''}")
    say(f"compiled in {1000 * ran.compile_seconds:.1f} ms, ran in {1000 * ran.launch_seconds:.3f} ms")
    if save:
        say(f"wrote {save}")


def _show_scalars(scalars: dict[str, int | float]) -> None:
    if scalars:
        say("scalars   " + ", ".join(f"{n} = {v}" for n, v in scalars.items()))


def _show_verdict(entry: Entry, backend: str, scalars: dict[str, int | float], *, source: bool, json: bool) -> None:
    import msgspec

    if json:
        print_json({"backend": backend, **msgspec.to_builtins(entry)})
        return
    from portkit.conformance.report.brief import card_of
    from portkit.conformance.report.html import share
    from portkit.conformance.report.terminal import wrap_card

    _show_scalars(scalars)
    line = f"{entry.verdict.value}: {backend} against the reference, {entry.elements} elements"
    say(line, style="green" if entry.verdict.passes else "bold red")
    if entry.error_share:
        say(f"largest error: {share(entry.error_share)} of its bound")
    if entry.ill_conditioned:
        say(f"ill-conditioned: {entry.ill_conditioned} elements, for which nothing is claimed")
    if entry.card is not None:
        say(wrap_card(card_of(entry, source=source)))
