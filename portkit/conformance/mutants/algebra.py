"""Mutants of a compiler that simplifies f32 arithmetic as that of real numbers, or misprints its literals."""

from __future__ import annotations

from math import inf

from portkit.conformance.hints.causes import Cause
from portkit.conformance.mutants import simplifying as s
from portkit.conformance.mutants.mutant import Mutant

_ROWS: tuple[tuple[str, str, str, s.Rule, str, Cause], ...] = (
    ("plus-zero-is-dropped", "add.literal_zero", "add", s.becomes_operand(s.ZERO), "special", Cause.ZERO_SIGN),
    ("sign-of-literal-is-lost", "add.literal_minus_one", "add", s.sign_of_literal_lost, "special", Cause.LITERAL),
    ("sign-of-zero-literal-is-lost", "add.literal_minus_zero", "add", s.sign_of_literal_lost, "special", Cause.LITERAL),
    ("one-is-an-integer", "add.literal_one", "add", s.literal_is_an_integer("add"), "special", Cause.LITERAL),
    ("factor-one-is-an-integer", "mul.literal_one", "mul", s.literal_is_an_integer("mul"), "special", Cause.LITERAL),
    ("plus-infinity", "add.literal_infinity", "add", s.becomes_literal(inf, inf), "nonfinite", Cause.NAN_LOST),
    ("times-zero-is-zero", "mul.literal_zero", "mul", s.becomes_literal(0.0, 0.0), "special", Cause.ZERO_SIGN),
    (
        "times-minus-zero-is-zero",
        "mul.literal_minus_zero",
        "mul",
        s.becomes_literal(-0.0, 0.0),
        "special",
        Cause.ZERO_SIGN,
    ),
    ("negation-from-zero", "mul.literal_minus_one", "mul", s.negated_by_zero, "special", Cause.ZERO_SIGN),
    ("times-infinity", "mul.literal_infinity", "mul", s.becomes_literal(inf, inf), "special", Cause.OVERFLOW),
    (
        "literals-are-added-first",
        "add.then_add",
        "add",
        s.folded("add", lambda c, d: c + d, s.one_sign),
        "random",
        Cause.REASSOCIATION,
    ),
    (
        "rounding-is-dropped",
        "add.then_subtract",
        "add",
        s.round_trip_cancelled,
        "random",
        Cause.REASSOCIATION,
    ),
    ("opposites-cancel", "add.opposite", "add", s.opposites_cancelled, "nonfinite", Cause.NAN_LOST),
    ("first-term-cancels", "add.then_less_first", "add", s.first_cancelled, "random", Cause.REASSOCIATION),
    (
        "there-and-back-cancels",
        "mul.there_and_back",
        "mul",
        s.folded("mul", lambda c, d: c * d, s.powers_of_two),
        "special",
        Cause.REASSOCIATION,
    ),
    (
        "literals-are-multiplied-first",
        "mul.then_mul",
        "mul",
        s.folded("mul", lambda c, d: c * d, s.not_powers_of_two),
        "random",
        Cause.REASSOCIATION,
    ),
    ("multiples-are-collected", "mul.multiples", "add", s.multiples_collected, "random", Cause.REASSOCIATION),
    ("common-factor-is-taken-out", "mul.common_factor", "add", s.factor_taken_out, "random", Cause.REASSOCIATION),
    ("minus-one-is-one", "add.literal_minus_one", "add", s.literal_changed(-1.0, 1.0), "special", Cause.LITERAL),
    ("minus-zero-is-zero", "add.literal_minus_zero", "add", s.literal_changed(-0.0, 0.0), "special", Cause.ZERO_SIGN),
    (
        "plus-bits-of-zero-is-dropped",
        "add.bits_of_zero",
        "add",
        s.seen_through_becomes("add", s.ZERO, None),
        "special",
        Cause.ZERO_SIGN,
    ),
    (
        "times-bits-of-zero-is-zero",
        "mul.bits_of_zero",
        "mul",
        s.seen_through_becomes("mul", s.ZERO, 0.0),
        "special",
        Cause.ZERO_SIGN,
    ),
    (
        "times-bits-of-minus-zero-is-zero",
        "mul.bits_of_minus_zero",
        "mul",
        s.seen_through_becomes("mul", s.MINUS_ZERO, 0.0),
        "special",
        Cause.ZERO_SIGN,
    ),
)
"""Name, case path, form that is simplified, rule, input set, cause."""


def _simplification(row: tuple[str, str, str, s.Rule, str, Cause]) -> Mutant:
    name, path, form, rule, shown_by, cause = row
    suspect = "mul/f32" if path.startswith("mul.literal") else "add/f32"
    return Mutant(name, suspect, s.simplifying(form, rule), f"ops/{path}/f32/{shown_by}", cause=cause)


MUTANTS: tuple[Mutant, ...] = tuple(map(_simplification, _ROWS))
