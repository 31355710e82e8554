"""`portkit reduce`: shrink a launch that fails to a minimal one that fails in the same way, and save it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from portkit.cli.output import EXIT_FAIL, errors, print_json, say
from portkit.cli.run import read_launch
from portkit.errors import UsageError

if TYPE_CHECKING:
    from portkit.conformance.case import Trial
    from portkit.conformance.reducing.reduction import Reduction
    from portkit.runtime.client import DeviceClient

_SHOWN = 8
_SECONDS = 10.0


def reduce(
    file: Path | None = typer.Argument(None, help="A kernel (.pk or JSON) or a launch (.trial.json)."),
    backend: str = typer.Option("cpu", "--backend", "-b", help="An installed backend, or module:ATTRIBUTE."),
    case: str = typer.Option("", "--case", metavar="ID", help="The launch of this case, in place of a file."),
    out: Path | None = typer.Option(
        None,
        "--out",
        help="Where to save it; by default a .trial.json named by the case, or reduced.trial.json.",
    ),
    budget: float = typer.Option(_SECONDS, "--seconds", min=0.1, help="Seconds after which the smallest so far is it."),
    timeout: float = typer.Option(10.0, "--timeout", min=0.1, help="Time limit of one launch in seconds."),
    set_: list[str] = typer.Option([], "--set", metavar="NAME=VALUE", help="A scalar of a kernel, as for run."),
    inputs: Path | None = typer.Option(None, "--inputs", help="A .npz file with an array for each buffer, as for run."),
    seed: str = typer.Option("0", "--seed", help="Fixes the random contents of buffers that are not given."),
    mutant: str = typer.Option("", "--mutant", hidden=True, help="Plant this seeded fault in the backend."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Shrink a failing launch to a minimal one that fails in the same way.

    What is left is a valid kernel with fewer instructions, loops, lanes, elements and digits. It is printed and saved
    as a file that `portkit run FILE --against reference` replays. Exit codes: 0 nothing fails, 1 something
    does, 2 usage, 3 cannot run here, 130 interrupted.
    """
    from portkit.conformance.worker import open_client

    if (file is None) == (not case):
        raise UsageError("give a file, or a case with --case ID, and not both")
    given = read_launch(file, set_, inputs, seed) if file else None
    if given is None and (set_ or inputs is not None):
        raise UsageError("a case has its scalars and inputs; leave out --set and --inputs")
    with closing(open_client(backend, timeout, mutant)) as client:
        client.require()
        trial, reduction = _reduce(given, case, client, timeout, budget, quiet=json)
    if trial is None or reduction is None:
        _show_pass(case or str(file), backend, json=json)
        return
    place = out or Path(f"{case.replace('/', '-') or 'reduced'}.trial.json")
    _save(place, reduction, case)
    replay = f"portkit run {shlex.quote(str(place))} --backend {shlex.quote(backend)} --against reference"
    replay += f" --mutant {mutant}" if mutant else ""
    record = _record(trial, reduction, backend, place, replay)
    if json:
        print_json(record)
    else:
        _show(trial, reduction, place, replay)
    raise typer.Exit(EXIT_FAIL)


def _reduce(
    given: Trial | None, case: str, client: DeviceClient, timeout: float, budget: float, *, quiet: bool
) -> tuple[Trial | None, Reduction | None]:
    """Return the launch and its reduction; None where it is right."""
    from portkit.conformance.judge import model_of
    from portkit.conformance.reducing.origin import find_case, trial_of
    from portkit.conformance.reducing.reduction import reduce_trial
    from portkit.conformance.replay import require_valid

    model = model_of(client.capabilities)
    found = find_case(case, client.capabilities) if case else None
    trial = trial_of(found, client, model, timeout) if found else given
    if trial is None:
        return None, None
    require_valid(trial, client)
    with _progress(len(trial.kernel.body), quiet=quiet) as step:
        form = found.cells[0].form if found and found.cells else ""
        made = reduce_trial(trial, client, model, seconds=timeout, budget=budget, prefer=form, on_progress=step)
    return trial, made


@contextmanager
def _progress(instructions: int, *, quiet: bool) -> Generator[Callable[[Trial, int], None]]:
    """Show on a terminal how many instructions are left."""
    if quiet or not sys.stderr.isatty():
        yield lambda trial, attempts: None
        return
    with errors.status(f"reducing: {instructions} instructions") as status:
        yield lambda trial, attempts: status.update(
            f"reducing: {len(trial.kernel.body)} instructions left after {attempts} launches"
        )


def _save(place: Path, reduction: Reduction, case: str) -> None:
    from portkit.conformance.trialfile import SavedTrial, save_trial

    found = reduction.finding
    expected = f"{found.verdict.value}: {' '.join(found.reason.split())}"
    save_trial(place, SavedTrial(reduction.trial, case, expected))


def _show_pass(name: str, backend: str, *, json: bool) -> None:
    if json:
        print_json({"backend": backend, "verdict": "pass", "file": None})
    else:
        say(f"pass: {name} does not fail on {backend}; there is nothing to reduce", style="green")


def _record(trial: Trial, made: Reduction, backend: str, place: Path, replay: str) -> dict[str, Any]:
    import msgspec

    from portkit.spec.text import format as format_kernel

    found = made.finding
    return {
        "backend": backend,
        "verdict": found.verdict.value,
        "check": found.check.value if found.check else "",
        "reason": found.reason,
        "mismatch": msgspec.to_builtins(found.mismatch),
        "before": len(trial.kernel.body),
        "instructions": made.instructions,
        "attempts": made.attempts,
        "steps": made.steps,
        "seconds": round(made.seconds, 3),
        "complete": made.complete,
        "kernel": format_kernel(made.trial.kernel),
        "file": str(place),
        "replay": replay,
    }


def _show(trial: Trial, made: Reduction, place: Path, replay: str) -> None:
    from portkit.conformance.card import kernel_text, number

    say(f"{made.finding.verdict.value}: {made.finding.reason}", style="bold red")
    how = "nothing more can be taken away" if made.complete else "the time was up; give more --seconds"
    say(f"reduced   from {len(trial.kernel.body)} to {made.instructions} instructions: {how}")
    say(f"took      {made.seconds:.1f} s, {made.attempts} launches")
    say("kernel\n" + "".join(f"    {line}\n" for line in kernel_text(made.trial.kernel).splitlines()))
    for name, value in made.trial.scalars.items():
        say(f"scalar    {name} = {value!r}")
    for name, array in made.trial.inputs.items():
        more = ", ..." if len(array) > _SHOWN else ""
        say(f"input     {name} = {', '.join(str(number(array, k)) for k in range(min(len(array), _SHOWN)))}{more}")
    wrong = made.finding.mismatch
    if wrong is not None:
        say(f"actual    {wrong.buffer}[{wrong.element}] = {wrong.actual}\naccepted  {wrong.accepted}")
    say(f"wrote     {place}\nreplay    {replay}")
