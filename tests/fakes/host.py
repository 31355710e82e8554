"""Fake backends that run every kernel, on the cpu backend's device: with base capabilities, or with one fault each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from portkit.contract import Capabilities, Executable, find_backend
from portkit.spec.kernel import Instr, Kernel
from tests.fakes.evaluator import FakeBackend

CPU = find_backend("cpu")
BASE = Capabilities(name="base", version="1", vendor="portkit's tests", evidence="stand-in")
"""A device with base forms only: no vectors, group reductions, fused multiply-add, math, nothing but 32 bits."""

Change = Callable[[Instr, Kernel], Instr]


class ChangesKernels:
    """The cpu backend's device, each instruction changed on its way to it."""

    thread_safe = False

    def __init__(self, change: Change) -> None:
        self._device: Any = CPU.open()
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def compile(self, kernel: Kernel) -> Executable:
        body = tuple(self._change(instr, kernel) for instr in kernel.body)
        return self._device.compile(dataclasses.replace(kernel, body=body))


def unchanged(instr: Instr, kernel: Kernel) -> Instr:
    """Leave an instruction as it is."""
    del kernel
    return instr


def forgets_the_second_factor(instr: Instr, kernel: Kernel) -> Instr:
    """Square the first factor of a float product."""
    if instr.name != "mul" or not kernel.types[instr.result].dtype.is_float:
        return instr
    return dataclasses.replace(instr, args=(instr.args[0], instr.args[0]))


BASE_ONLY = FakeBackend(partial(ChangesKernels, unchanged), BASE)
SQUARES = FakeBackend(partial(ChangesKernels, forgets_the_second_factor), BASE)
