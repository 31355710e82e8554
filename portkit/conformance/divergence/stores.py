"""Which store is at fault where every register is right and an output is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portkit.conformance.card import Divergence, number
from portkit.conformance.divergence.probes import Path, Probe, path_of
from portkit.conformance.divergence.sight import Cells, Sight
from portkit.conformance.divergence.words import Words
from portkit.spec.forms import Op
from portkit.spec.kernel import Instr

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Hit:
    """An execution of a store that reaches an element: `rank` is higher where it does so with an open gate."""

    rank: int
    moment: tuple[int, ...]
    position: int
    at: tuple[int, ...]


_NOTES = {
    2: "every register is right, and {place} is not: this store is the last that should write it",
    1: "every register is right, and {place} is not: this store reaches it, but its gate is false",
    0: "every register is right, and {place} is not: no store should write it",
}


@np.errstate(all="ignore")  # a NaN may be a signalling one
def wrong_store(words: Words, sight: Sight) -> Divergence | None:
    """Return the record of the store that leaves an output wrong, None if no output is."""
    for name, (actual, accepted) in sight.outputs.items():
        wrong = np.flatnonzero(~accepted.accepts(actual))
        if not len(wrong):
            continue
        element = int(wrong[0])
        hit = max(_hits(words, name, element), key=lambda h: (h.rank, h.moment), default=None)
        if hit is None:
            return None
        instr = words.kernel.body[hit.position]
        probe = Probe(hit.position, "", path_of(words.kernel, hit.position), hit.position)
        inputs = words.inputs(instr, probe, hit.at)
        note = _NOTES[hit.rank].format(place=f"{name}[{element}]")
        return words.record(hit.position, hit.at, inputs, number(actual, element), accepted.describe(element), note)
    return None


def _hits(words: Words, name: str, element: int) -> Iterator[_Hit]:
    for position, instr in enumerate(words.kernel.body):
        if instr.form.op is not Op.STORE or instr.mems[0] != name:
            continue
        path = path_of(words.kernel, position)
        probe = Probe(position, "", path, position)
        yield _Hit(0, (-position,), position, (0,) * (len(path) + 2))
        reached = _reached(words, instr, path, element)
        gate = _register(words, instr.gate, path) if instr.gate else None
        for rank, where in ((1, reached), (2, _open(reached, gate))):
            if where is not None and where.any():
                at = tuple(int(n) for n in np.argwhere(where)[-1])
                yield _Hit(rank, probe.moment(at[:-2]), position, at)


def _open(reached: Bools | None, gate: NDArray[Any] | None) -> Bools | None:
    """Return where an access is made: its gate is true in some lane of a vector."""
    return reached if reached is None or gate is None else reached & (gate != 0).any(axis=-1)


def _reached(words: Words, instr: Instr, path: Path, element: int) -> Bools | None:
    """Return where, by iteration, group and lane, a store has the address of an element."""
    index, ran = _register(words, instr.args[0], path), _ran(words, path)
    if index is None or ran is None:
        return None
    lanes = words.kernel.types[instr.args[0]].lanes
    span = words.kernel.types[instr.args[1]].lanes if instr.name == "store.vec" else 1
    first = index[..., :lanes].astype(np.int64)
    return ran & ((first <= element) & (element < first + span)).any(axis=-1)


def _ran(words: Words, path: Path) -> Bools | None:
    """Return where a block is executed: where its loop, or the lane, has an index."""
    head = words.kernel.body[path[-1] if path else words.kernel.nest.lanes[-1]]
    cells = words.visible(head.result, path)
    return None if cells is None else (cells.expected != cells.poison)[..., 0]


def _register(words: Words, name: str, path: Path) -> NDArray[Any] | None:
    """Return what a register should be in a block, with the axes of the block: scalars and all."""
    if name in words.trial.scalars:
        return np.asarray(words.trial.scalars[name]).reshape((1,) * (len(path) + 3))
    cells = words.visible(name, path)
    return None if cells is None else _spread(cells, path)


def _spread(cells: Cells, path: Path) -> NDArray[Any]:
    turns, rest = cells.expected.shape[:-3], cells.expected.shape[-3:]
    return cells.expected.reshape(*turns, *(1,) * (len(path) - len(turns)), *rest)
