"""The greater and the lesser of two floats where the language has no such function, on devices that flush or do not."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from portkit.backends.toolkit.code import Code, Number, Value, extreme
from portkit.reference.ulp import ordinal

Array = np.ndarray[Any, Any]
BITS = {"float": np.uint32, "double": np.uint64, "i32": np.uint32, "i64": np.uint64}
FLOATS = {"float": np.float32, "double": np.float64}
OPERATIONS: dict[str, Callable[[Array, Array], Array]] = {"and": operator.and_, "or": operator.or_}
COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "fcmp oeq": operator.eq,
    "fcmp ogt": operator.gt,
    "fcmp olt": operator.lt,
}


class Machine:
    """Executes instructions as they are written, each on an array of bit patterns, in place of printing them."""

    def __init__(self, *, flushes: bool) -> None:
        self.flushes = flushes
        self.registers: dict[str, Array] = {}

    def put(self, element: str, bits: Array) -> Value:
        name = f"r{len(self.registers)}"
        self.registers[name] = bits.astype(BITS[element]) if element in BITS else bits
        return Value(name, element)

    def get(self, x: Value) -> Array:
        return self.registers[x.text]

    def number(self, x: Value) -> Array:
        bits = self.get(x)
        if self.flushes:
            bits = np.where(subnormal(bits, x.element), bits & sign(bits), bits)
        return bits.view(FLOATS[x.element])

    def op(self, name: str, a: Value, b: Value | Number) -> Value:
        if name == "fadd":
            assert isinstance(b, Value)
            total = self.number(a) + self.number(b)
            return self.put(a.element, total.view(BITS[a.element]))
        kind = BITS[a.element]
        other = self.get(b) if isinstance(b, Value) else kind(int(b) % (1 << np.dtype(kind).itemsize * 8))
        return self.put(a.element, OPERATIONS[name](self.get(a), cast("Array", other)))

    def compare(self, name: str, a: Value, b: Value) -> Value:
        return self.put("i1", COMPARISONS[name](self.number(a), self.number(b)))

    def select(self, condition: Value, x: Value, y: Value) -> Value:
        return self.put(x.element, np.where(self.get(condition), self.get(x), self.get(y)))

    def convert(self, name: str, x: Value, element: str) -> Value:
        assert name == "bitcast"
        return self.put(element, self.get(x))


def sign(bits: Array) -> Array:
    return np.array(1 << (bits.itemsize * 8 - 1), bits.dtype)


def subnormal(bits: Array, element: str) -> Array:
    smallest = np.array(np.finfo(FLOATS[element]).smallest_normal).view(BITS[element])
    return (bits & ~sign(bits)) < smallest


def pairs(element: str) -> tuple[Array, Array]:
    """Return the bits of every pair of zeros, subnormals, normal numbers, infinities and NaN, of either sign."""
    info = np.finfo(FLOATS[element])
    normal = np.array([info.smallest_normal, 1, 1.5, info.max, np.inf, np.nan], FLOATS[element]).view(BITS[element])
    small = np.array([0, 1, 2, 3, 5, 0x2AAAAA, 0x555555, 0x7FFFFE, 0x7FFFFF], BITS[element])
    positive = np.concatenate([small, normal])
    each = np.concatenate([positive, positive | sign(positive)])
    first, second = np.meshgrid(each, each)
    return first.ravel(), second.ravel()


def computed(name: str, element: str, a: Array, b: Array, *, flushes: bool) -> Array:
    machine = Machine(flushes=flushes)
    with np.errstate(all="ignore"):
        made = extreme(cast("Code", machine), name, machine.put(element, a), machine.put(element, b))
    return machine.get(made).view(FLOATS[element])


def exact(name: str, a: Array, b: Array) -> Array:
    """Return the extreme by the order that puts -0.0 before 0.0; NaN for NaN."""
    least = np.where((a < b) | ((a == b) & np.signbit(a)), a, b)
    greatest = np.where((a > b) | ((a == b) & np.signbit(b)), a, b)
    chosen = greatest if name == "maximum" else least
    return np.where(np.isnan(a) | np.isnan(b), np.array(np.nan, a.dtype), chosen)


@pytest.mark.parametrize("element", ["float", "double"])
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_a_device_that_keeps_subnormals_gets_the_extreme_itself(name: str, element: str) -> None:
    a, b = pairs(element)
    found = computed(name, element, a, b, flushes=False)
    wanted = exact(name, a.view(FLOATS[element]), b.view(FLOATS[element]))
    nan = np.isnan(wanted)
    assert np.array_equal(np.isnan(found), nan)
    assert np.array_equal(found[~nan].view(a.dtype), wanted[~nan].view(a.dtype))


@pytest.mark.parametrize("element", ["float", "double"])
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_a_device_that_flushes_gets_what_the_extreme_is_with_or_without_its_flushes(name: str, element: str) -> None:
    a, b = pairs(element)
    found = computed(name, element, a, b, flushes=True)
    wanted = [exact(name, x, y) for x in flushed(a, element) for y in flushed(b, element)]
    nan = np.isnan(wanted[0])
    places = [ordinal(w[~nan]) for w in wanted]
    assert np.array_equal(np.isnan(found), nan)
    assert (np.minimum.reduce(places) <= ordinal(found[~nan])).all()
    assert (ordinal(found[~nan]) <= np.maximum.reduce(places)).all()


def flushed(bits: Array, element: str) -> list[Array]:
    """Return numbers as they are, and with a zero of the same sign in place of each subnormal."""
    zeros = np.where(subnormal(bits, element), bits & sign(bits), bits)
    return [bits.view(FLOATS[element]), zeros.view(FLOATS[element])]
