"""Passes over the numbers in buffers and scalars: zeros and ones in place of most, few significant bits elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from portkit.conformance.case import Trial
from portkit.conformance.finding import Finding
from portkit.conformance.reducing.edit import Array
from portkit.conformance.reducing.session import Steps, complexity

_MOST_SINGLE = 64
"""Elements of a buffer that are simplified one by one."""


def runs_of_zeros(trial: Trial, found: Finding) -> Steps:
    """Whole buffers of zeros or ones, then runs of zeros in them, long ones first (delta debugging)."""
    for name in trial.inputs:
        size = len(trial.inputs[name])
        while size >= 1 and len(trial.inputs[name]) // size <= _MOST_SINGLE:
            for start in range(0, len(trial.inputs[name]), size):
                for value in (0, 1):
                    done = yield _with_run(trial, name, slice(start, start + size), value)
                    if done is not None:
                        trial = done
                        break
            size //= 2


def _with_run(trial: Trial, name: str, where: slice, value: int) -> Trial | None:
    array = trial.inputs[name].copy()
    array[where] = value
    return _with_input(trial, name, array)


def _with_input(trial: Trial, name: str, array: Array) -> Trial:
    return replace(trial, inputs={**trial.inputs, name: array})


def simpler_numbers(trial: Trial, found: Finding) -> Steps:
    """Single elements with fewer significant bits."""
    for name in trial.inputs:
        if len(trial.inputs[name]) > _MOST_SINGLE:
            continue
        for at in range(len(trial.inputs[name])):
            for number in _simpler(trial.inputs[name][at : at + 1]):
                array = trial.inputs[name].copy()
                array[at : at + 1] = number
                done = yield _with_input(trial, name, array)
                if done is not None:
                    trial = done
                    break


def _simpler(number: Array) -> Iterator[Array]:
    """Give simpler numbers than one, simplest first: small ones, its leading bits alone, its fraction alone."""
    if not complexity(number)[0]:
        return
    bits = number.view(f"u{number.itemsize}")
    width = 8 * number.itemsize
    with np.errstate(all="ignore"):  # numbers that the dtype does not have become others
        yield from (np.array([k]).astype(number.dtype) for k in (0, 1, 2, -1))
    if number.dtype.kind == "b":
        return
    for kept in (width // 8, width // 4, width // 2, 3 * width // 4, width - 4, width - 2, width - 1):
        yield (bits >> (width - kept) << (width - kept)).astype(bits.dtype).view(number.dtype)
    if number.dtype.kind in "iu":
        yield from (number >> k for k in (width // 2, width // 4, 1))
        return
    one = np.ones(1, number.dtype).view(bits.dtype)
    fraction = (one & (~one + np.ones(1, bits.dtype))) - np.ones(1, bits.dtype)
    yield (one | (bits & fraction)).view(number.dtype)
