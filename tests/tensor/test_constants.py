"""What `jit` compares between calls: everything of the user's that a function can reach, in any container."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from portkit.tensor import Tensor, nn
from portkit.tensor.constants import constants, difference


class Mode(enum.Enum):
    ON = 1
    OFF = 2


@dataclass
class Settings:
    rate: float = 0.5
    mode: Mode = Mode.ON
    names: list[str] = field(default_factory=lambda: ["a"])


class Slotted:
    __slots__ = ("extra", "size")

    def __init__(self) -> None:
        self.size = 1


class Scaled(Slotted):
    factor = 2.0

    def __init__(self) -> None:
        super().__init__()
        self.table = {"x": (1, {2, 3}), 5: None}

    @property
    def never(self) -> int:
        raise AssertionError("properties are not asked")


def changes(change: Callable[[Any], object], make: Callable[[], Any]) -> str:
    """How what a function closes over differs after it was changed; unchanged, it does not."""
    held = make()

    def function() -> Any:
        return held

    before = constants(function)
    assert difference(before, constants(function)) == ""
    change(held)
    return difference(before, constants(function))


@pytest.mark.parametrize(
    ("make", "change", "path"),
    [
        (Settings, lambda s: setattr(s, "rate", 0.25), "held.rate"),
        (Settings, lambda s: setattr(s, "mode", Mode.OFF), "held.mode"),
        (Settings, lambda s: s.names.append("b"), "held.names"),
        (Scaled, lambda s: setattr(s, "size", 2), "held.size"),
        (Scaled, lambda s: setattr(s, "extra", 2), "held.extra"),
        (Scaled, lambda s: setattr(s, "factor", 3.0), "held.factor"),
        (Scaled, lambda s: s.table.update(x=(1, {2, 4})), "held.table['x'][1]"),
        (Scaled, lambda s: s.table.pop(5), "held.table"),
        (lambda: [[1], [2]], lambda v: v[1].append(3), "held[1]"),
        (lambda: [math.nan], lambda v: v.__setitem__(0, 1.0), "held[0]"),
        (lambda: [0.0], lambda v: v.__setitem__(0, -0.0), "held[0]"),
        (lambda: [1], lambda v: v.__setitem__(0, 1.0), "held[0]"),
        (lambda: [1], lambda v: v.__setitem__(0, True), "held[0]"),
        (lambda: np.zeros(3), lambda v: v.__setitem__(1, 5), "held"),
        (lambda: [np.float32(1)], lambda v: v.__setitem__(0, np.float64(1)), "held[0]"),
        (lambda: nn.Dropout(0.5), lambda m: m.eval(), "held."),
        (lambda: [Tensor([1.0])], lambda v: v.__setitem__(0, Tensor([1.0])), "held[0]"),
    ],
)
def test_a_change_is_found_and_named(make: Callable[[], Any], change: Callable[[Any], object], path: str) -> None:
    assert changes(change, make).startswith(path)


def test_values_of_tensors_are_no_constants() -> None:
    assert changes(lambda v: v[0].assign(Tensor([2.0])), lambda: [Tensor([1.0])]) == ""


def test_things_that_hold_each_other_come_to_an_end() -> None:
    def tied() -> list[Any]:
        a: list[Any] = [1]
        a.append({"a": a, "b": (a,)})
        return a

    assert changes(lambda v: None, tied) == ""
    assert changes(lambda v: v.__setitem__(0, 2), tied) == "held[0]"


def test_not_a_number_is_equal_to_itself() -> None:
    assert changes(lambda v: v.__setitem__(0, float("nan")), lambda: [math.nan]) == ""


def test_what_is_kept_alive_gives_its_identity_to_nothing_else() -> None:
    def make() -> Callable[[], Any]:
        held = [object()]
        return lambda: held

    function = make()
    before = constants(function)
    function()[0] = object()
    assert difference(before, constants(function)) == "held[0]"


def test_a_variable_without_a_value_yet_is_none() -> None:
    def function() -> Any:
        return later

    before = constants(function)
    later = 5
    assert difference(before, constants(function)) == "later"
