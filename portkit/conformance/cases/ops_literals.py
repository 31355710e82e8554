"""Float forms on literal constants, and chains of them: what a compiler must not simplify.

In real numbers x + 0 and x * 1 are x, (x + y) - x is y and x y + x z is x (y + z); in floats signed zeros, infinities,
NaNs and roundings tell them apart, and neither `fast` nor `strict` lets a device take one for the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from math import inf, isfinite

from portkit.conformance.case import Case, Cell, Tier
from portkit.conformance.cases import inputs
from portkit.conformance.cases.mapping import Emit
from portkit.conformance.cases.plan import Plan, plan_cases
from portkit.contract import Capabilities
from portkit.spec.builder import Builder, Reg
from portkit.spec.types import DTYPES, Type

DTYPE = "f32"
LITERALS = {"zero": 0.0, "minus_zero": -0.0, "one": 1.0, "minus_one": -1.0, "infinity": inf}
_ROUNDING = 12582912.0
"""1.5 * 2^23: adding and subtracting it rounds an f32 to an integer."""


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the cases of f32 with a literal operand, and those of chains."""
    for plan in _plans(nonfinite=capabilities.numeric.nonfinite):
        for case in plan_cases(plan, capabilities):
            yield replace(case, tier=Tier.STANDARD)


def _plans(*, nonfinite: bool) -> Iterator[Plan]:
    for form in ("add", "mul"):
        for name, value in LITERALS.items():
            if nonfinite or isfinite(value):
                yield _plan(f"{form}.literal_{name}", (form,), 1, 2, partial(_both_sides, form, value))
    for path, (operands, emit) in _CHAINS.items():
        yield _plan(path, ("add", "mul"), operands, 1, emit)


def _plan(path: str, forms: tuple[str, ...], operands: int, results: int, emit: Emit) -> Plan:
    sets = {"special": inputs.special, "nonfinite": inputs.nonfinite, "random": inputs.random}
    if path not in _CHAINS:
        del sets["random"]  # what a literal does to the special values it does to all
    cells = tuple(Cell(form, DTYPE) for form in forms)
    return Plan(f"ops/{path}/{DTYPE}", (DTYPE,) * operands, (DTYPE,) * results, emit, sets, cells, tuple(sets))


def _both_sides(form: str, value: float, b: Builder, x: Reg) -> list[Reg]:
    """Return the literal as the right operand, and as the left one."""
    literal = b.const(DTYPE, value)
    return [b.op(form, x, literal), b.op(form, literal, x)]


# --- chains -------------------------------------------------------------------------------------------------------


def _added(first: float, second: float, b: Builder, x: Reg) -> Reg:
    """(x + c) + d."""
    return b.add(b.add(x, b.const(DTYPE, first)), b.const(DTYPE, second))


def _scaled(first: float, second: float, b: Builder, x: Reg) -> Reg:
    """(x c) d."""
    return b.mul(b.mul(x, b.const(DTYPE, first)), b.const(DTYPE, second))


def _multiples(first: float, second: float, b: Builder, x: Reg) -> Reg:
    """Sum x c and x d, which is not x (c + d)."""
    return b.add(b.mul(x, b.const(DTYPE, first)), b.mul(x, b.const(DTYPE, second)))


def _opposite(b: Builder, x: Reg) -> Reg:
    """Sum x and -x, which is not 0 where x is infinite or NaN."""
    return b.add(x, b.mul(x, b.const(DTYPE, -1.0)))


def _taken_away(b: Builder, x: Reg, y: Reg) -> Reg:
    """(x + y) - x, which is not y."""
    return b.add(b.add(x, y), b.mul(x, b.const(DTYPE, -1.0)))


def _products(b: Builder, x: Reg, y: Reg, z: Reg) -> Reg:
    """Sum x y and x z, which is not x (y + z)."""
    return b.add(b.mul(x, y), b.mul(x, z))


def _of_bits(form: str, bits: int, b: Builder, x: Reg) -> Reg:
    """A form on a float that is given as the bits of an integer, which a compiler sees through."""
    return b.op(form, x, b.op("mov.bits", b.const("u32", bits), type=Type(DTYPES[DTYPE])))


_CHAINS: dict[str, tuple[int, Emit]] = {
    "add.then_subtract": (1, partial(_added, _ROUNDING, -_ROUNDING)),
    "add.then_add": (1, partial(_added, 1.0, 2.0**-24)),
    "add.opposite": (1, _opposite),
    "add.then_less_first": (2, _taken_away),
    "mul.there_and_back": (1, partial(_scaled, 2.0**100, 2.0**-100)),
    "mul.then_mul": (1, partial(_scaled, 0.1, 10.0)),
    "mul.multiples": (1, partial(_multiples, 3.0, 5.0)),
    "mul.common_factor": (3, _products),
    "mul.bits_of_zero": (1, partial(_of_bits, "mul", 0)),
    "mul.bits_of_minus_zero": (1, partial(_of_bits, "mul", 1 << 31)),
    "add.bits_of_zero": (1, partial(_of_bits, "add", 0)),
}
"""By path, how many operands a chain has, and the chain."""
