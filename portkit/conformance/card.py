"""The failure card: what an engineer needs to see of a case that did not pass, and the line that replays it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from portkit.conformance.case import Case, Level
from portkit.spec.kernel import Kernel
from portkit.spec.text import format as format_kernel

if TYPE_CHECKING:
    from portkit.reference.acceptance import Acceptance

Array = np.ndarray[Any, Any]
FILE_CASE = "run/"
"""What the id of a launch from a file begins with."""
MAX_TEXT = 20_000
"""Characters of kernel text and of generated source that a card keeps."""


class Number(msgspec.Struct, frozen=True):
    """One value, in decimal and as its bit pattern in hexadecimal."""

    decimal: str
    hex: str

    def __str__(self) -> str:
        return f"{self.decimal} ({self.hex})"


class Mismatch(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first wrong element of a buffer.

    `accepted` is the acceptance set in words, `ulp` the distance of `actual` from it, in units in the last place;
    `inputs` are the elements of the other buffers at the same index, where they have one.
    """

    buffer: str
    element: int
    actual: Number
    accepted: str
    ulp: float = 0.0
    inputs: dict[str, Number] = {}
    unwritten: bool = False
    """The element still holds the poison that the judge put there."""


class Divergence(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first instruction of a kernel whose value leaves its acceptance set.

    `instruction` is its number in the kernel's body and `text` its text form; `group` and `lane` are linear numbers,
    `iteration` those of the serial loops around it, outermost first. `inputs` are the operands as the device had them.
    """

    instruction: int
    text: str
    group: int
    lane: int
    iteration: tuple[int, ...] = ()
    inputs: dict[str, Number] = {}
    actual: Number | None = None
    accepted: str = ""
    note: str = ""
    """What there is to say beyond the values: that it was not executed, say, or that watching it hides the fault."""


class Reduced(msgspec.Struct, frozen=True, omit_defaults=True):
    """The smallest kernel that was found to fail in the same way; `file` is below the folder of the report."""

    kernel: str
    instructions: int
    file: str = ""
    replay: str = ""


class Card(msgspec.Struct, frozen=True, omit_defaults=True):
    """A failure card; text fields are empty where they do not apply."""

    suspect: str
    """The form under test, or the function of the device."""
    replay: str
    kernel: str = ""
    scalars: dict[str, str] = {}
    mismatch: Mismatch | None = None
    wrong: int = 0
    elements: int = 0
    source: str = ""
    hint: str = ""
    """What the failure looks like, where that is known."""
    cause: str = ""
    """The key of the cause that the hint names; see `portkit.conformance.hints.causes`."""
    perhaps: tuple[str, ...] = ()
    """Other causes that fit, less likely."""
    divergence: Divergence | None = None
    reduced: Reduced | None = None
    detail: str = ""
    """The vendor's own text: an exception, or the last that the device process printed."""


def number(array: Array, index: int) -> Number:
    """Return one element of an array for people."""
    bits = array[index : index + 1].tobytes()
    return Number(repr(array[index].item()), f"0x{int.from_bytes(bits, 'little'):0{2 * len(bits)}x}")


def suspect(case: Case) -> str:
    """Return what a case accuses: its first cell's form, or the part of the device named in its id."""
    return str(case.cells[0]) if case.cells else case.id


def replay_line(backend: str, case: Case) -> str:
    """Return the command that runs one case again; none for a launch from a file, which whoever runs it has."""
    if case.id.startswith(FILE_CASE):
        return ""
    profile = " --profile compute" if case.level is Level.TENSORS else ""
    return f"portkit conform --backend {shlex.quote(backend)}{profile} --case '{case.id}'"


def clip(text: str) -> str:
    """Return a text of at most `MAX_TEXT` characters, and say what was left out."""
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}\n... {len(text) - MAX_TEXT} characters more"


def kernel_text(kernel: Kernel) -> str:
    """Return the text form of a kernel, clipped."""
    return clip(format_kernel(kernel))


def mismatch(
    name: str, index: int, actual: Array, accepted: Acceptance, inputs: Mapping[str, Array], *, unwritten: bool
) -> Mismatch:
    """Return the record of one wrong element."""
    beside = {n: number(a, index) for n, a in inputs.items() if n != name and index < len(a)}
    return Mismatch(
        buffer=name,
        element=index,
        actual=number(actual, index),
        accepted=accepted.describe(index),
        ulp=finite(accepted.distance_ulp(actual)[index]),
        inputs=beside,
        unwritten=unwritten,
    )


def finite(value: float) -> float:
    """Return the value, the largest float in place of infinity or NaN: JSON has neither."""
    return float(value) if np.isfinite(value) else float(np.finfo(np.float64).max)


def render(card: Card) -> str:
    """Return the card as text for a terminal."""
    hint = [f"hint      {card.hint}"] if card.hint else []
    hint += [f"perhaps   {text}" for text in card.perhaps]
    given = ", ".join(f"{name} = {value}" for name, value in card.scalars.items())
    scalars = [f"scalars   {given}"] if given else []
    head = [f"suspect   {card.suspect}", *hint, *_mismatch_lines(card), *scalars]
    closer = [*_divergence_lines(card), *_reduced_lines(card)]
    replay = [f"replay    {card.replay}"] if card.replay else []
    return "\n".join([*head, *closer, *_blocks(card), *replay])


def _mismatch_lines(card: Card) -> Sequence[str]:
    found = card.mismatch
    if found is None:
        return ()
    return (
        f"element   {found.buffer}[{found.element}], the first of {card.wrong} wrong among {card.elements}",
        *(f"input     {name}[{found.element}] = {value}" for name, value in found.inputs.items()),
        f"actual    {found.actual}" + ("  (never written)" if found.unwritten else ""),
        f"accepted  {found.accepted}",
        *([f"distance  {found.ulp:g} ulp outside"] if _has_distance(found) else ()),
    )


def _has_distance(found: Mismatch) -> bool:
    """Whether a distance in ulp says something: of a float that was written, from finite to finite."""
    is_float = not found.actual.decimal.lstrip("-").isdigit() and found.actual.decimal not in ("True", "False")
    return is_float and not found.unwritten and 0 < found.ulp < finite(np.inf)


def _divergence_lines(card: Card) -> Sequence[str]:
    found = card.divergence
    if found is None:
        return ()
    turns = f", iteration {'.'.join(map(str, found.iteration))}" if found.iteration else ""
    place = f"group {found.group}, lane {found.lane}{turns}"
    return (
        f"diverges  instruction {found.instruction} `{found.text}`, {place}",
        *(f"          {name} = {value}" for name, value in found.inputs.items()),
        *([f"          gives {found.actual}"] if found.actual else ()),
        *([f"          accepted {found.accepted}"] if found.accepted else ()),
        *([f"          {found.note}"] if found.note else ()),
    )


def _reduced_lines(card: Card) -> Sequence[str]:
    found = card.reduced
    if found is None:
        return ()
    where = f"replay    {found.replay}" if found.replay else ""
    lines = [f"reduced   to {found.instructions} instructions", _indent(found.kernel), where]
    return [line for line in lines if line]


def _blocks(card: Card) -> Sequence[str]:
    blocks = (("detail", card.detail), ("kernel", card.kernel), ("source", card.source))
    return [f"{title}\n{_indent(text)}" for title, text in blocks if text]


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines())
