"""Cases of literals, literal counts and uniform carries find what a compiler or printer may get wrong there.

Each fault is planted in a correct device in this process: it rewrites the kernels that the device gets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import cast

import pytest

from portkit.conformance.cases.collect import collect
from portkit.conformance.judge import judge_case
from portkit.conformance.mutants.device import rewriting
from portkit.conformance.mutants.model import ModelDevice
from portkit.conformance.mutants.printer import Rewrite, mul_and_add_contract
from portkit.conformance.mutants.simplifying import (
    MINUS_ZERO,
    ZERO,
    becomes_literal,
    becomes_operand,
    factor_taken_out,
    first_cancelled,
    folded,
    literal_is_an_integer,
    multiples_collected,
    negated_by_zero,
    not_powers_of_two,
    one_sign,
    opposites_cancelled,
    powers_of_two,
    round_trip_cancelled,
    sign_of_literal_lost,
    simplifying,
)
from portkit.conformance.rewriting import Emitter, rewrite
from portkit.conformance.verdict import Verdict
from portkit.contract import find_backend
from portkit.runtime.client import DeviceClient
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import F32, I32, Type, encode

CAPABILITIES = find_backend("cpu").capabilities
CASES = {case.id: case for case in collect(CAPABILITIES)}


def verdict(case_id: str, fault: Rewrite) -> Verdict:
    """Judge a case on the model device with a fault in it."""
    client = rewriting(fault)(ModelDevice(CAPABILITIES).as_client())
    return judge_case(CASES[case_id], cast("DeviceClient", client)).verdict


# --- float algebra ------------------------------------------------------------------------------------------------


ALGEBRA = [
    ("add.literal_zero", "special", simplifying("add", becomes_operand(ZERO))),
    ("add.literal_minus_zero", "special", simplifying("add", sign_of_literal_lost)),
    ("add.literal_one", "special", simplifying("add", literal_is_an_integer("add"))),
    ("add.literal_minus_one", "special", simplifying("add", sign_of_literal_lost)),
    ("add.literal_infinity", "nonfinite", simplifying("add", becomes_literal(inf, inf))),
    ("mul.literal_zero", "special", simplifying("mul", becomes_literal(0.0, 0.0))),
    ("mul.literal_minus_zero", "special", simplifying("mul", becomes_literal(-0.0, 0.0))),
    ("mul.literal_one", "special", simplifying("mul", literal_is_an_integer("mul"))),
    ("mul.literal_minus_one", "special", simplifying("mul", negated_by_zero)),
    ("mul.literal_infinity", "special", simplifying("mul", becomes_literal(inf, inf))),
    ("add.then_subtract", "random", simplifying("add", round_trip_cancelled)),
    ("add.then_add", "random", simplifying("add", folded("add", lambda c, d: c + d, one_sign))),
    ("add.opposite", "nonfinite", simplifying("add", opposites_cancelled)),
    ("add.then_less_first", "random", simplifying("add", first_cancelled)),
    ("mul.there_and_back", "special", simplifying("mul", folded("mul", lambda c, d: c * d, powers_of_two))),
    ("mul.then_mul", "random", simplifying("mul", folded("mul", lambda c, d: c * d, not_powers_of_two))),
    ("mul.multiples", "random", simplifying("add", multiples_collected)),
    ("mul.multiples", "random", mul_and_add_contract),
    ("mul.common_factor", "random", simplifying("add", factor_taken_out)),
    ("mul.common_factor", "random", mul_and_add_contract),
]


@pytest.mark.parametrize("strict", [False, True], ids=["fast", "strict"])
@pytest.mark.parametrize(("path", "found_by", "fault"), ALGEBRA)
def test_a_wrong_simplification_is_found(path: str, found_by: str, fault: Rewrite, strict: bool) -> None:
    assert verdict(f"ops/{path}/f32/{'strict' if strict else found_by}", fault) is Verdict.FAIL


@pytest.mark.parametrize("path", sorted({path for path, _, _ in ALGEBRA}))
def test_a_right_simplification_passes(path: str) -> None:
    """x - 0 is x and x * 1 is x, whatever x is."""
    for form, bits in (("add", MINUS_ZERO), ("mul", encode(F32, 1.0))):
        assert verdict(f"ops/{path}/f32/strict", simplifying(form, becomes_operand(bits))) is Verdict.PASS


# --- literal counts -----------------------------------------------------------------------------------------------


def counting(wrongly: Callable[[int], int]) -> Rewrite:
    """Make a rewriting that changes the literal counts of serial loops."""

    def expand(i: Instr, e: Emitter) -> bool:
        if i.name != "loop.serial" or not i.imms:
            return False
        e.out.append(replace(i, imms=(wrongly(i.imms[0]),)))
        return True

    return lambda kernel: rewrite(kernel, expand)


COUNTS: dict[str, tuple[Callable[[int], int], tuple[int, ...]]] = {
    "sign ignored": (abs, (-5, -1)),
    "low bits of an unsigned count": (lambda n: n & 0x1F, (-5, -1, 100)),
    "rest of the unrolled turns left out": (lambda n: n // 16 * 16, (1, 2, 15, 17, 100)),
    "all unrolled turns run": (lambda n: -(-n // 16) * 16, (1, 2, 15, 17, 100)),
    "tested after the turn": (lambda n: max(n, 1), (-5, -1, 0)),
    "one turn left out": (lambda n: max(n - 1, 0), (1, 2, 15, 16, 17, 100)),
}


@pytest.mark.parametrize("loop", ["literal", "meeting"])
@pytest.mark.parametrize("fault", COUNTS)
def test_a_wrong_literal_count_is_found(loop: str, fault: str) -> None:
    wrongly, found_by = COUNTS[fault]
    cases = {n: f"ops/loop.serial/i32/{loop}_{n}" for n in (-5, -1, 0, 1, 2, 15, 16, 17, 100)}
    found = {n for n, case_id in cases.items() if verdict(case_id, counting(wrongly)) is Verdict.FAIL}
    assert found == set(found_by)


# --- uniform carries ----------------------------------------------------------------------------------------------

STRIP = 64
"""Lanes that run together; those behind them come later."""


def later_strips_start_from_the_next_value(kernel: Kernel) -> Kernel:
    """Run the serial loop between barriers from the carry's next value in all lanes but those of the first strip.

    So does a port that keeps the carry in lane 0's slot, which the first strip has then written anew.
    """
    body = list(kernel.body)
    start = [k for k, i in enumerate(body) if i.name == "loop.serial"][1]
    end = next(k for k in range(start, len(body)) if body[k].name == "endloop")
    carry = body[start + 1]
    lane = next(i.result for i in body if i.name == "loop.lane")
    e = Emitter(kernel)
    names = {i.result: f"{i.result}_again" for i in body[start:end] if i.result}
    again = [_renamed(i, names) for i in body[start : end + 1]]
    e.types[names[carry.result]] = Type(I32)
    first = e.op("phi.lt", lane, e.const(Type(I32), STRIP), carry.args[0], names[carry.result])
    body[start + 1] = replace(carry, args=(first,))
    return replace(kernel, body=(*body[:start], *again, *e.out, *body[start:]))


def _renamed(i: Instr, names: dict[str, str]) -> Instr:
    carries = tuple((names[carry], names[value]) for carry, value in i.carries)
    return replace(
        i, result=names.get(i.result, i.result), args=tuple(names.get(a, a) for a in i.args), carries=carries
    )


@pytest.mark.parametrize("meetings", [1, 2])
@pytest.mark.parametrize("lanes", [96, 256])
def test_a_uniform_carry_that_the_first_strip_rewrote_is_found(lanes: int, meetings: int) -> None:
    case_id = f"kernels/shared/uniform_carry/{lanes}_lanes_{meetings}_meetings"
    assert verdict(case_id, later_strips_start_from_the_next_value) is Verdict.FAIL
    assert verdict(case_id, lambda kernel: kernel) is Verdict.PASS
