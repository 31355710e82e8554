"""Which registers are uniform over the lanes of a work-group (Spec: uniform_c1)."""

from __future__ import annotations

import pytest

from portkit.spec.text import parse
from portkit.spec.uniform import uniform_registers

HEAD = """\
portkit 1.0-draft
kernel k
buffer x i32[1024] read
buffer w i32[1024] readwrite
scalar n i32
shared tile i32[64]
begin
zero = mov.const i32 0
true = mov.const bool true
g = loop.grid 4
l = loop.lane 64
"""
TAIL = "endloop l\nendloop g\n"

# body, what is uniform of it, what is not
CASES: dict[str, tuple[str, str, str]] = {
    "constants, scalars and grid indices are, lane indices are not": ("", "zero true n g", "l"),
    "a pure function is if its operands are": ("a = add g n\nb = add g l", "a", "b"),
    "a select is if its condition and operands are": ("p = phi.lt g n zero n\nq = phi.lt l n zero n", "p", "q"),
    "a literal loop's index is": ("k = loop.serial 3\na = add k n\nendloop k", "k a", ""),
    "a loop's index is not if the count is not": ("k = loop.serial l\na = add k n\nendloop k", "", "k a"),
    "a load of read-only memory at a uniform address is": ("a = load x g", "a", ""),
    "a load of memory that is written is not": ("a = load w g\nb = load tile zero", "", "a b"),
    "a load at a differing address is not": ("a = load x l", "", "a"),
    "a load behind a differing gate is not": (
        "p = phi.lt l n true true\na = load x g if p else zero\nb = load x g if true else l",
        "",
        "p a b",
    ),
    "a load in a loop of differing counts is not": ("k = loop.serial l\na = load x g\nendloop k", "", "k a"),
    "nor in a loop inside one": (
        "k = loop.serial l\nj = loop.serial 2\na = load x g\nb = add n n\nendloop j\nendloop k",
        "j b",
        "k a",
    ),
    "a reduction over the group is": ("a = reduce.group.add l", "a", ""),
    "a carry is if init, next value and count are": (
        "k = loop.serial n\nc = phi.carry zero\na = add c g\nendloop k c=a\nb = add c c",
        "c a b",
        "",
    ),
    "a carry is not if its init is not": ("k = loop.serial n\nc = phi.carry l\nendloop k c=zero", "", "c"),
    "a carry is not if its next value is not": ("k = loop.serial n\nc = phi.carry zero\nendloop k c=l", "", "c"),
    "a carry is not if the count is not": ("k = loop.serial l\nc = phi.carry zero\nendloop k c=zero", "", "c"),
    "difference goes round a ring of carries": (
        "k = loop.serial n\na = phi.carry zero\nb = phi.carry zero\nc = phi.carry zero\nendloop k a=b b=c c=l",
        "k",
        "a b c",
    ),
    "a count that a loop computes spreads to what it counts": (
        "k = loop.serial n\nc = phi.carry zero\nj = loop.serial c\nd = phi.carry zero\nendloop j d=n\nendloop k c=l",
        "k",
        "c j d",
    ),
}


@pytest.mark.parametrize(("body", "uniform", "other"), CASES.values(), ids=CASES.keys())
def test_uniformity(body: str, uniform: str, other: str) -> None:
    found = uniform_registers(parse(f"{HEAD}{body}\n{TAIL}"))
    assert set(uniform.split()) <= found
    assert not set(other.split()) & found
