"""Functions of one f32 over all of its numbers: every 2^16th of them in `standard`, all 2^32 in pieces in `full`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from portkit.conformance.case import Case, Cell, GraphTrial, Tier
from portkit.conformance.cases.draws import Draws, Patterns
from portkit.conformance.cases.exhaustive import PIECE, PIECES
from portkit.conformance.cases.tensorcase import elements, tensor_case, trial_of
from portkit.contract import Capabilities
from portkit.spec.types import F32, infinity_bits

SAMPLES = 1 << 15
"""Numbers in a sample: one of each 2^17 neighbours."""


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the sample and the pieces of every function that computes a float of a float."""
    from portkit.compiler.accuracy import BOUNDS
    from portkit.compiler.functions import FUNCTIONS

    for name in BOUNDS:
        if FUNCTIONS[name].arity == 1:
            cell = (Cell(f"tensor.map.{name}", "f32"),)
            path = f"tensors/map/{name}/f32"
            yield tensor_case(f"{path}/sample", partial(_trial, name, f"{path}/sample", None), cell)
            for piece in _pieces(capabilities):
                case_id = f"{path}/all_{piece:02x}"
                yield tensor_case(case_id, partial(_trial, name, case_id, piece), cell, Tier.FULL)


def _pieces(capabilities: Capabilities) -> Iterator[int]:
    """Yield the pieces without infinities and NaN where the device does not know these."""
    half = PIECES // 2
    return (p for p in range(PIECES) if capabilities.numeric.nonfinite or p % half != half - 1)


def _trial(name: str, case_id: str, piece: int | None, capabilities: Capabilities) -> GraphTrial:
    from portkit.compiler.graph import map_
    from portkit.tensor.base import source_of

    patterns = _sample(case_id, capabilities) if piece is None else _piece(piece)
    result = map_(name, source_of(elements(F32, patterns), "x"))
    return trial_of([result], capabilities, results_only=True)


def _piece(number: int) -> Patterns:
    return np.arange(number * PIECE, (number + 1) * PIECE, dtype=np.uint64)


def _sample(case_id: str, capabilities: Capabilities) -> Patterns:
    """Return one random number of each run of neighbours, in order."""
    run = (1 << F32.bits) // SAMPLES
    patterns = np.arange(SAMPLES, dtype=np.uint64) * np.uint64(run) + Draws(case_id).words(SAMPLES) % np.uint64(run)
    magnitudes = patterns & np.uint64((1 << (F32.bits - 1)) - 1)
    return patterns if capabilities.numeric.nonfinite else patterns[magnitudes < np.uint64(infinity_bits(F32))]
