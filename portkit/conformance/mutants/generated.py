"""Mutants made by tables: form x fault x dtype.

A table says which fault is planted in which form, on which dtypes and on which input set it shows; names, suspects and
witnesses follow from that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import starmap

from portkit.conformance.hints.causes import Cause
from portkit.conformance.mutants import accesses as a
from portkit.conformance.mutants import control as c
from portkit.conformance.mutants import numbers as n
from portkit.conformance.mutants.accesses import AccessFault
from portkit.conformance.mutants.forms import (
    FormFault,
    Wrong,
    computed_in,
    last_lane_is_its_neighbour,
    neighbour,
    reordered,
    rounded_to,
    short_operands,
    viewed_otherwise,
)
from portkit.conformance.mutants.mutant import Mutant
from portkit.conformance.rewriting import Expand
from portkit.spec.types import DTYPES

Row = tuple[str, str, str, Wrong, str, Cause]
"""Form, dtypes apart by blanks, what the mutant's name says, the fault, the input set that shows it, the cause."""

_FLOATS: tuple[Row, ...] = (
    ("add", "f16 bf16", "rounds-toward-zero", n.toward_zero, "random", Cause.TOWARD_ZERO),
    ("mul", "f32 f16 bf16", "rounds-toward-zero", n.toward_zero, "random", Cause.TOWARD_ZERO),
    ("mul.add", "f32 bf16", "rounds-toward-zero", n.toward_zero, "random", Cause.TOWARD_ZERO),
    ("add", "f32 f16", "rounds-ties-away", n.ties_away, "ties", Cause.TIES),
    ("mul", "f32 bf16", "rounds-ties-away", n.ties_away, "ties", Cause.TIES),
    ("mul", "f16", "rounds-upward", n.upward, "random", Cause.TIES),
    ("mul.add", "f16", "rounds-upward", n.upward, "random", Cause.TIES),
    ("add", "f16 f64", "flushes-results", n.flush_result, "special", Cause.FLUSH),
    ("add", "bf16", "flushes-operands", n.flush_operands, "special", Cause.FLUSH),
    ("mul", "f32 f64", "flushes-operands", n.flush_operands, "special", Cause.FLUSH),
    ("mul", "f16", "flushes-results", n.flush_result, "special", Cause.FLUSH),
    ("mul.add", "f32 bf16", "flushes-results", n.flush_result, "special", Cause.FLUSH),
    ("mul.add", "f64", "flushes-operands", n.flush_operands, "special", Cause.FLUSH),
    ("add", "f64", "is-done-in-f32", computed_in("f32"), "random", Cause.NARROW_SUM),
    ("mul", "f64", "is-done-in-f32", computed_in("f32"), "random", Cause.NARROW_SUM),
    ("add", "bf16", "is-done-in-f16", computed_in("f16"), "random", Cause.NARROW_SUM),
    ("add", "f16", "is-kept-in-bf16", rounded_to("bf16"), "random", Cause.NARROW_SUM),
    ("mul", "f32", "is-kept-in-bf16", rounded_to("bf16"), "random", Cause.NARROW_SUM),
    ("mul.add", "f32", "is-kept-in-f16", rounded_to("f16"), "random", Cause.NARROW_SUM),
    ("mul.add", "f32", "takes-short-operands", short_operands(13), "random", Cause.SHORT_OPERANDS),
    ("mul.add", "f64", "takes-short-operands", short_operands(29), "random", Cause.SHORT_OPERANDS),
    ("mul", "f16", "takes-short-operands", short_operands(3), "random", Cause.SHORT_OPERANDS),
    ("mul.add", "f32", "is-done-in-f64", computed_in("f64"), "ties", Cause.TWO_ROUNDINGS),
    ("mul.add", "f16", "is-done-in-f32", computed_in("f32"), "ties", Cause.TWO_ROUNDINGS),
    ("mul.add", "f64 bf16", "rounds-twice", n.two_roundings, "ties", Cause.TWO_ROUNDINGS),
    ("mul.add", "f32", "adds-the-wrong-operand", reordered(2, 1, 0), "random", Cause.OPERAND_ORDER),
    ("add", "f32", "overflows-to-the-largest", n.overflow_is_finite, "special", Cause.OVERFLOW),
    ("mul", "bf16", "overflows-to-the-largest", n.overflow_is_finite, "special", Cause.OVERFLOW),
    ("mul", "f32", "gives-zero-for-nan", n.nan_is_zero, "nonfinite", Cause.NAN_LOST),
    ("add", "f64", "gives-zero-for-nan", n.nan_is_zero, "nonfinite", Cause.NAN_LOST),
    ("mul", "f32", "loses-the-sign-of-zero", n.zero_sign_lost, "special", Cause.ZERO_SIGN),
    ("mul.add", "f16", "loses-the-sign-of-zero", n.zero_sign_lost, "special", Cause.ZERO_SIGN),
    ("mov.recip", "f32", "flushes-operands", n.flush_operands, "special", Cause.FLUSH),
    ("mov.recip", "f32", "is-coarse", n.scaled_by(1 + 2.0**-12), "random", Cause.COARSE),
    ("mov.recip", "f64", "is-done-in-f32", computed_in("f32"), "random", Cause.NARROW_SUM),
    ("mov.sqrt", "f64", "is-coarse", n.scaled_by(1 + 2.0**-40), "random", Cause.COARSE),
    ("mov.sqrt", "f32", "loses-the-sign-of-zero", n.zero_sign_lost, "strict", Cause.ZERO_SIGN),
    ("mov.rsqrt", "f32", "is-coarse", n.scaled_by(1 - 2.0**-11), "random", Cause.COARSE),
    ("mov.rsqrt", "bf16 f64", "flushes-operands", n.flush_operands, "special", Cause.FLUSH),
    ("mov.rsqrt", "f16", "is-coarse", n.scaled_by(1 + 2.0**-7), "random", Cause.COARSE),
    ("mov.exp2", "f32", "overflows-early", n.infinite_from(127.0), "special", Cause.OVERFLOW),
    ("mov.exp2", "f16", "flushes-results", n.flush_result, "random", Cause.FLUSH),
    ("mov.log2", "f32", "flushes-operands", n.flush_operands, "special", Cause.FLUSH),
    ("mov.log2", "bf16", "is-coarse", n.scaled_by(1 + 2.0**-5), "random", Cause.COARSE),
    ("mov.sin", "f32", "does-not-reduce-large-operands", n.lost_beyond(2.0**15), "special", Cause.COARSE),
    ("mov.sin", "f16", "is-coarse", n.scaled_by(1 + 2.0**-7), "random", Cause.COARSE),
    ("mov.trunc", "f32", "goes-through-i32", n.through_integers("i32"), "special", Cause.SATURATION),
    ("mov.trunc", "f64", "goes-through-i32", n.through_integers("i32"), "random", Cause.SATURATION),
    ("mov.trunc", "f16", "rounds-down", n.floors, "random", Cause.TOWARD_ZERO),
)

_INTEGERS: tuple[Row, ...] = (
    ("add", "i32 i8 u16", "saturates", n.saturates, "special", Cause.SATURATING_INTEGERS),
    ("mul", "u32 i16", "saturates", n.saturates, "special", Cause.SATURATING_INTEGERS),
    ("add", "i64 u64", "loses-the-carry", n.without_carry, "random", Cause.NARROW_INTEGERS),
    ("add", "i64", "is-done-in-i32", computed_in("i32"), "random", Cause.NARROW_INTEGERS),
    ("mul", "u64", "is-done-in-u32", computed_in("u32"), "random", Cause.NARROW_INTEGERS),
    ("mul", "i64", "is-done-in-f64", computed_in("f64"), "random", Cause.NARROW_INTEGERS),
    ("mul", "i32", "is-done-in-f32", computed_in("f32"), "random", Cause.NARROW_INTEGERS),
    ("mul", "u32", "takes-24-bits", short_operands(8), "random", Cause.SHORT_OPERANDS),
    ("add", "u8", "is-xor", neighbour("reduce.xor"), "all", Cause.WRONG_OPERATION),
    ("mul", "u8", "is-wrong-at-255-and-255", n.wrong_at(255, 255), "all", Cause.WRONG_OPERATION),
    ("mul.hi", "i8 i16 i64", "is-unsigned", viewed_otherwise, "special", Cause.SIGNEDNESS),
    ("mul.hi", "u8 u32 u64", "is-signed", viewed_otherwise, "special", Cause.SIGNEDNESS),
    ("mul.hi", "u16", "is-the-lower-half", neighbour("mul"), "special", Cause.WRONG_OPERATION),
    ("mul.shl", "i64 u16 i8", "count-is-not-reduced", n.count_not_reduced, "special", Cause.SHIFT_COUNT),
    ("mul.shr", "u32 i16 u64", "count-is-not-reduced", n.count_not_reduced, "special", Cause.SHIFT_COUNT),
    ("mul.shl", "u8", "count-is-taken-modulo-32", n.count_kept_to(32), "special", Cause.SHIFT_COUNT),
    ("mul.shr", "i64", "count-is-taken-modulo-32", n.count_kept_to(32), "special", Cause.SHIFT_COUNT),
    ("mul.shl", "i32", "operands-are-swapped", reordered(1, 0), "special", Cause.OPERAND_ORDER),
    ("mul.shr", "u16", "shifts-left", neighbour("mul.shl"), "special", Cause.WRONG_OPERATION),
    ("mul.shr", "i8 i64", "shifts-zeros-in", viewed_otherwise, "special", Cause.SHIFT_SIGN),
    ("mul.shr", "u8 u32", "shifts-the-sign-in", viewed_otherwise, "special", Cause.SHIFT_SIGN),
    ("reduce.max", "u32 u8", "is-signed", viewed_otherwise, "special", Cause.SIGNEDNESS),
    ("reduce.min", "i32 i64", "is-unsigned", viewed_otherwise, "special", Cause.SIGNEDNESS),
    ("reduce.max", "i16", "is-min", neighbour("reduce.min"), "special", Cause.WRONG_OPERATION),
    ("reduce.and", "u32 i64", "is-or", neighbour("reduce.or"), "special", Cause.WRONG_OPERATION),
    ("reduce.and", "bool", "is-xor", neighbour("reduce.xor"), "special", Cause.WRONG_OPERATION),
    ("reduce.or", "i32 bool", "is-xor", neighbour("reduce.xor"), "special", Cause.WRONG_OPERATION),
    ("reduce.or", "u64", "is-done-in-u32", computed_in("u32"), "special", Cause.NARROW_INTEGERS),
    ("reduce.xor", "u8", "is-and", neighbour("reduce.and"), "special", Cause.WRONG_OPERATION),
)

_FOLDS: tuple[Row, ...] = (
    ("reduce.max", "f16 f64", "ignores-nan", n.nan_ignored, "nonfinite", Cause.NAN_LOST),
    ("reduce.max", "bf16", "ignores-nan-on-the-left", n.left_nan_ignored, "nonfinite", Cause.NAN_LOST),
    ("reduce.min", "f32 bf16", "ignores-nan", n.nan_ignored, "nonfinite", Cause.NAN_LOST),
    ("reduce.max", "f32", "orders-zeros-by-position", n.zeros_by_order, "strict", Cause.ZERO_SIGN),
    ("reduce.min", "f16", "orders-zeros-by-position", n.zeros_by_order, "strict", Cause.ZERO_SIGN),
    ("reduce.max", "f64", "is-done-in-f32", computed_in("f32"), "special", Cause.NARROW_SUM),
)

_COMPARISONS: tuple[Row, ...] = (
    ("phi.lt", "f16 f64", "is-true-on-nan", n.true_on_nan, "nonfinite", Cause.NAN_ORDER),
    ("phi.eq", "f32", "is-true-on-nan", n.true_on_nan, "nonfinite", Cause.NAN_ORDER),
    ("phi.lt", "f32 i32", "is-less-or-equal", n.also_equal, "special", Cause.WRONG_OPERATION),
    ("phi.lt", "f32", "operands-are-swapped", reordered(1, 0, 2, 3), "special", Cause.OPERAND_ORDER),
    ("phi.eq", "u32", "values-are-swapped", reordered(0, 1, 3, 2), "special", Cause.OPERAND_ORDER),
    ("phi.eq", "f16 f64", "compares-bits", n.compares_bits, "special", Cause.ZERO_SIGN),
    ("phi.lt", "f64", "compares-in-f32", n.compares_in("f32"), "special", Cause.NARROW_SUM),
    ("phi.lt", "i64", "compares-upper-halves", n.upper_half_only, "special", Cause.NARROW_INTEGERS),
    ("phi.eq", "u64", "compares-in-u32", n.compares_in("u32"), "special", Cause.NARROW_INTEGERS),
    ("phi.lt", "i32", "compares-in-f32", n.compares_in("f32"), "special", Cause.NARROW_INTEGERS),
    ("phi.lt", "u8 u64", "is-signed", n.compares_with_other_sign, "special", Cause.SIGNEDNESS),
    ("phi.lt", "i16", "is-unsigned", n.compares_with_other_sign, "special", Cause.SIGNEDNESS),
    ("phi.eq", "bool", "is-less", neighbour("phi.lt"), "special", Cause.WRONG_OPERATION),
    ("phi.eq", "bf16", "makes-nan-quiet", n.quieted, "nonfinite", Cause.NAN_LOST),
)

_LITERALS: tuple[Row, ...] = (
    ("mov.const", "f32 f64", "is-printed-with-six-digits", n.literal(n.six_digits), "special", Cause.LITERAL),
    ("mov.const", "f16", "loses-the-sign-of-zero", n.literal(n.positive_zero), "special", Cause.LITERAL),
    ("mov.const", "i64", "keeps-the-low-half", n.literal(n.low_half), "special", Cause.LITERAL),
    ("mov.const", "bf16", "loses-subnormals", n.literal(n.no_subnormal), "special", Cause.LITERAL),
    ("mov.const", "f32", "loses-the-payload-of-nan", n.literal(n.canonical_nan), "special", Cause.LITERAL),
    ("mov.const", "i32 i8", "misreads-the-least-integer", n.literal(n.least_is_greatest), "special", Cause.LITERAL),
    ("mov.const", "bool", "is-false", n.literal(n.always_false), "special", Cause.LITERAL),
)

_CASTS: tuple[tuple[str, str, Wrong, str, Cause], ...] = (
    ("i8-i32", "extends-with-zeros", n.extended_otherwise, "special", Cause.SIGNEDNESS),
    ("u8-i32", "extends-the-sign", n.extended_otherwise, "special", Cause.SIGNEDNESS),
    ("u16-i64", "extends-the-sign", n.extended_otherwise, "special", Cause.SIGNEDNESS),
    ("i32-i64", "extends-with-zeros", n.extended_otherwise, "special", Cause.SIGNEDNESS),
    ("u32-u64", "extends-the-sign", n.extended_otherwise, "special", Cause.SIGNEDNESS),
    ("u32-f64", "is-signed", n.extended_otherwise, "special", Cause.SIGNEDNESS),
    ("u64-f32", "is-signed", n.extended_otherwise, "special", Cause.SIGNEDNESS),
    ("i32-i8", "saturates", n.clamped_first, "special", Cause.SATURATING_INTEGERS),
    ("i64-i32", "saturates", n.clamped_first, "special", Cause.SATURATING_INTEGERS),
    ("f32-u8", "wraps", n.wraps, "special", Cause.SATURATION),
    ("f32-u32", "wraps", n.wraps, "special", Cause.SATURATION),
    ("f64-i16", "wraps", n.wraps, "special", Cause.SATURATION),
    ("f16-i32", "rounds-half-up", n.rounds_half_up, "random", Cause.CAST_ROUNDING),
    ("f64-i64", "rounds-half-up", n.rounds_half_up, "random", Cause.CAST_ROUNDING),
    ("f32-i32", "gives-the-least-integer-for-nan", n.nan_gives_least, "nonfinite", Cause.NAN_LOST),
    ("f64-i32", "gives-the-least-integer-for-nan", n.nan_gives_least, "nonfinite", Cause.NAN_LOST),
    ("i32-f32", "rounds-toward-zero", n.toward_zero, "ties", Cause.TOWARD_ZERO),
    ("u32-f32", "rounds-ties-away", n.ties_away, "ties", Cause.TIES),
    ("i64-f64", "goes-through-f32", n.by_way_of("f32"), "random", Cause.CAST_ROUNDING),
    ("i64-f32", "goes-through-f64", n.by_way_of("f64"), "ties", Cause.CAST_ROUNDING),
    ("f64-f16", "goes-through-f32", n.by_way_of("f32"), "ties", Cause.TWO_ROUNDINGS),
    ("f32-f16", "rounds-ties-away", n.ties_away, "ties", Cause.TIES),
    ("f32-bf16", "truncates", n.toward_zero, "ties", Cause.TOWARD_ZERO),
    ("f64-f32", "flushes-results", n.flush_result, "ties", Cause.FLUSH),
    ("f16-f32", "flushes-operands", n.flush_operands, "special", Cause.FLUSH),
    ("f32-f16", "overflows-to-the-largest", n.overflow_is_finite, "special", Cause.OVERFLOW),
    ("f32-f64", "gives-zero-for-nan", n.nan_is_zero, "nonfinite", Cause.NAN_LOST),
)
"""As `Row`, with the dtypes before and after the cast in place of form and dtypes."""

_BITS = (("u32x4", "f64x2"), ("i8x4", "u32"), ("f64", "u32x2"), ("f16x8", "u8x16"))
"""Types before and after a reinterpretation of bits that numbers its lanes from the other end."""

_BOUND: tuple[tuple[str, str, str, str, Wrong, Cause], ...] = (
    ("mov.lane", "f64x2", "special", "is-the-other-one", n.lane_of_pair, Cause.LANE_ORDER),
    ("mov.lane", "i8x16", "special", "is-the-other-one", n.lane_of_pair, Cause.LANE_ORDER),
    ("mov.pack", "f16x8", "special", "swaps-the-last-two", n.last_two_swapped, Cause.LANE_ORDER),
    ("mov.pack", "boolx4", "special", "swaps-the-last-two", n.last_two_swapped, Cause.LANE_ORDER),
    ("mov.splat", "i32x4", "special", "leaves-the-last-lane-empty", n.last_lane_empty, Cause.LANE_LOST),
    ("mov.splat", "boolx16", "special", "leaves-the-last-lane-empty", n.last_lane_empty, Cause.LANE_LOST),
    ("mov.splat", "u64x8", "special", "leaves-the-last-lane-empty", n.last_lane_empty, Cause.LANE_LOST),
    ("mov.splat", "i16x16", "special", "leaves-the-last-lane-empty", n.last_lane_empty, Cause.LANE_LOST),
    ("add", "f32x16", "special", "repeats-a-lane", last_lane_is_its_neighbour, Cause.LANE_LOST),
    ("add", "i64x2", "special", "repeats-a-lane", last_lane_is_its_neighbour, Cause.LANE_LOST),
    ("mul", "f16x8", "special", "repeats-a-lane", last_lane_is_its_neighbour, Cause.LANE_LOST),
    ("mul.add", "f32x4", "special", "repeats-a-lane", last_lane_is_its_neighbour, Cause.LANE_LOST),
    ("mul.hi", "u32x8", "special", "repeats-a-lane", last_lane_is_its_neighbour, Cause.LANE_LOST),
    ("mul.shl", "i16x16", "special", "repeats-a-lane", last_lane_is_its_neighbour, Cause.LANE_LOST),
    ("mul.shr", "i32x2", "special", "repeats-a-lane", last_lane_is_its_neighbour, Cause.LANE_LOST),
    ("phi.lt", "f64x4", "special", "repeats-a-lane", last_lane_is_its_neighbour, Cause.LANE_LOST),
    ("phi.eq", "u8x16", "special", "repeats-a-lane", last_lane_is_its_neighbour, Cause.LANE_LOST),
    ("reduce.and", "u8x16", "special", "repeats-a-lane", last_lane_is_its_neighbour, Cause.LANE_LOST),
    ("reduce.or", "i16x8", "special", "repeats-a-lane", last_lane_is_its_neighbour, Cause.LANE_LOST),
    ("reduce.max", "bf16x8", "special", "repeats-a-lane", last_lane_is_its_neighbour, Cause.LANE_LOST),
    ("reduce.xor", "u64x4", "special", "repeats-a-lane", last_lane_is_its_neighbour, Cause.LANE_LOST),
    ("mov.sqrt", "f32x8", "special", "repeats-a-lane", last_lane_is_its_neighbour, Cause.LANE_LOST),
    ("mov.exp2", "f32x16", "special", "repeats-a-lane", last_lane_is_its_neighbour, Cause.LANE_LOST),
    ("reduce.vec.add", "f32x8", "small", "drops-the-last-lane", n.last_lane_lost, Cause.LANE_LOST),
    ("reduce.vec.mul", "i32x4", "special", "drops-the-last-lane", n.last_lane_lost, Cause.LANE_LOST),
    ("reduce.vec.max", "f64x2", "special", "drops-the-last-lane", n.last_lane_lost, Cause.LANE_LOST),
    ("reduce.vec.min", "u8x16", "special", "drops-the-last-lane", n.last_lane_lost, Cause.LANE_LOST),
    ("reduce.vec.and", "u32x8", "special", "drops-the-last-lane", n.last_lane_lost, Cause.LANE_LOST),
    ("reduce.vec.or", "boolx4", "special", "drops-the-last-lane", n.last_lane_lost, Cause.LANE_LOST),
    ("reduce.vec.xor", "i64x2", "special", "drops-the-last-lane", n.last_lane_lost, Cause.LANE_LOST),
    ("reduce.vec.xor", "u16x16", "special", "drops-the-last-lane", n.last_lane_lost, Cause.LANE_LOST),
    ("reduce.vec.and", "u8x16", "deciding", "drops-the-last-lane", n.last_lane_lost, Cause.LANE_LOST),
    ("reduce.vec.or", "boolx16", "deciding", "drops-the-last-lane", n.last_lane_lost, Cause.LANE_LOST),
    ("reduce.vec.mul", "i8x16", "odd", "drops-the-last-lane", n.last_lane_lost, Cause.LANE_LOST),
    ("reduce.vec.max", "u16x8", "special", "is-signed", viewed_otherwise, Cause.SIGNEDNESS),
    ("reduce.vec.min", "f32x4", "special", "is-max", neighbour("reduce.vec.max"), Cause.WRONG_OPERATION),
    ("reduce.vec.add", "f16x16", "strict", "accumulates-in-f16", n.by_halves, Cause.NARROW_SUM),
    ("reduce.vec.add", "f32x16", "strict", "adds-in-turn", n.in_turn, Cause.REASSOCIATION),
    ("reduce.max", "i32", "of5/many", "folds-four-of-five", n.first_four, Cause.MISSING),
    ("reduce.min", "f32", "of5/many", "folds-four-of-five", n.first_four, Cause.MISSING),
    ("reduce.and", "u32", "of5/many", "folds-four-of-five", n.first_four, Cause.MISSING),
    ("reduce.or", "u8", "of5/many", "folds-four-of-five", n.first_four, Cause.MISSING),
    ("reduce.xor", "i64", "of5/many", "folds-four-of-five", n.first_four, Cause.MISSING),
)
"""Form, type, input set, name, fault, cause: faults at one lane count or number of operands."""

_ACCESSES: tuple[tuple[str, str, str, str, Expand, Cause], ...] = (
    ("load", "u8", "gate", "gives-zero-where-closed", a.else_is_zero, Cause.GATE),
    ("load", "f64", "gate", "gives-zero-where-closed", a.else_is_zero, Cause.GATE),
    ("load", "i32", "gate", "clamps-where-closed", a.clamps, Cause.GATE),
    ("load.vec", "f32x8", "gate", "gives-zero-where-closed", a.else_is_zero, Cause.GATE),
    ("load.vec", "i32x4", "gate", "closes-with-the-first-lane", a.closed_with_first_lane, Cause.GATE),
    ("load.vec", "f64x2", "offset", "rounds-the-index-down", a.rounded_down, Cause.UNALIGNED),
    ("load.vec", "u8x16", "offset", "rounds-the-index-down", a.rounded_down, Cause.UNALIGNED),
    ("load.gather", "f32x4", "special", "repeats-an-index", a.last_index_repeated, Cause.LANE_LOST),
    ("load.gather", "i8x16", "special", "repeats-an-index", a.last_index_repeated, Cause.LANE_LOST),
    ("load.gather", "u32x8", "gate", "closes-with-the-first-lane", a.closed_with_first_lane, Cause.GATE),
    ("load.gather", "bf16x2", "gate", "gives-zero-where-closed", a.else_is_zero, Cause.GATE),
    ("store", "f32", "gate", "clamps-where-closed", a.clamps, Cause.GATE),
    ("store", "i64", "gate", "clamps-where-closed", a.clamps, Cause.GATE),
    ("store", "u16", "gate", "writes-whole-words", a.neighbour_too, Cause.OUT_OF_BOUNDS),
    ("store.vec", "f32x4", "gate", "closes-with-the-first-lane", a.closed_with_first_lane, Cause.GATE),
    ("store.vec", "u32x2", "gate", "closes-with-the-lane-before", a.closed_with_lane_before, Cause.GATE),
    ("store.scatter", "f32x4", "special", "repeats-an-index", a.last_index_repeated, Cause.LANE_LOST),
    ("store.scatter", "i64x2", "gate", "closes-with-the-first-lane", a.closed_with_first_lane, Cause.GATE),
    ("load.async", "i64", "own", "is-short", a.copies_one_less, Cause.COPY_LENGTH),
    ("load.async", "f32", "chunk_3", "needs-an-even-source", a.copies_whole_words, Cause.UNALIGNED),
    ("load.async", "i32", "chunk_17", "copies-at-most-16", a.copies_at_most(16), Cause.COPY_LENGTH),
    ("store.atomic.add", "i32", "contended", "is-a-store", a.becomes("store"), Cause.ATOMIC),
    ("store.atomic.add", "u64", "contended", "is-a-store", a.becomes("store"), Cause.ATOMIC),
    ("store.atomic.add", "i8", "special", "drops-the-least-integer", a.drops_the_sign_alone, Cause.ATOMIC),
    ("store.atomic.add", "i64", "special", "drops-the-least-integer", a.drops_the_sign_alone, Cause.ATOMIC),
    ("store.atomic.max", "bf16", "nonfinite", "drops-nan", a.drops_nan, Cause.NAN_LOST),
    ("store.atomic.min", "f32", "nonfinite", "drops-nan", a.drops_nan, Cause.NAN_LOST),
    ("store.atomic.max", "f32", "contended", "is-min", a.becomes("store.atomic.min"), Cause.WRONG_OPERATION),
    ("store.atomic.min", "u8", "contended", "is-a-store", a.becomes("store"), Cause.ATOMIC),
    ("store.atomic.min", "i16", "contended", "is-max", a.becomes("store.atomic.max"), Cause.WRONG_OPERATION),
)

_GROUPS: dict[str, tuple[str, str, str]] = {
    "add": ("f32", "small", "f16"),
    "mul": ("i32", "odd", "f64"),
    "max": ("f32", "deciding", "i8"),
    "min": ("u32", "deciding", "bf16"),
    "and": ("i32", "deciding", "u16"),
    "or": ("u32", "deciding", "bool"),
    "xor": ("i32", "special", "u64"),
}
"""By kind: the dtype and the input set of the cases of each work-group size, and the dtype of one at `USUAL_SIZE`."""

_SIZES = (1, 2, 3, 7, 31, 33, 64, 100, 128, 255, 256)
"""Work-group sizes of which the last lane is left out of a reduction."""

_SIZED = (
    ("add", 33, "i32", "special"),
    ("add", 64, "u32", "special"),
    ("max", 1, "u32", "deciding"),
    ("max", 2, "u32", "deciding"),
    ("max", 31, "u32", "deciding"),
    ("or", 7, "i32", "deciding"),
)
"""Sizes that whole kernels use too, with a dtype that they do not, and the input set of its case."""
USUAL_SIZE = 32


def generated() -> Iterator[Mutant]:
    """Yield the mutants of every table."""
    for row in (*_FLOATS, *_INTEGERS, *_FOLDS, *_COMPARISONS, *_LITERALS):
        yield from _by_form(row)
    yield from map(_cast, _CASTS)
    yield from map(_bits, _BITS)
    yield from map(_bound, _BOUND)
    yield from map(_access, _ACCESSES)
    for kind, (dtype, shown_by, other) in _GROUPS.items():
        for size in _SIZES:
            yield _group(kind, size, dtype, shown_by)
        yield _group(kind, USUAL_SIZE, other, _USUAL_SETS.get(kind, "deciding"))
    yield from starmap(_group, _SIZED)


def _spoken(form: str) -> str:
    return form.replace("mov.", "").replace("phi.", "").replace("reduce.", "").replace(".", "-")


def _split(type_: str) -> tuple[str, int]:
    dtype, _, lanes = type_.partition("x")
    return dtype, int(lanes or 0)


def _by_form(row: Row) -> Iterator[Mutant]:
    form, dtypes, what, wrong, shown_by, cause = row
    for dtype in dtypes.split():
        yield Mutant(
            f"{_spoken(form)}-{dtype}-{what}",
            f"{form}/{dtype}",
            FormFault(form, wrong, dtype),
            f"ops/{form}/{dtype}/{shown_by}",
            cause=cause,
        )


def _cast(row: tuple[str, str, Wrong, str, Cause]) -> Mutant:
    pair, what, wrong, shown_by, cause = row
    source, target = pair.split("-")
    fault = FormFault("mov.cast", wrong, target, source=source)
    witness = f"ops/mov.cast/{source}-to-{target}/{shown_by}"
    return Mutant(f"cast-{source}-to-{target}-{what}", f"mov.cast/{target}<-{source}", fault, witness, cause=cause)


def _bits(pair: tuple[str, str]) -> Mutant:
    source, target = pair
    (dtype, lanes), (before, _) = _split(target), _split(source)
    fault = FormFault("mov.bits", n.halves_swapped, dtype, lanes, before)
    witness = f"ops/mov.bits/{source}-to-{DTYPES[dtype].bits}-bit/special"
    name = f"bits-of-{source}-reverse-lanes-of-{target}"
    return Mutant(name, "mov.bits", fault, witness, cause=Cause.LANE_ORDER)


def _bound(row: tuple[str, str, str, str, Wrong, Cause]) -> Mutant:
    form, type_, shown_by, what, wrong, cause = row
    dtype, lanes = _split(type_)
    suffix, _, shown = shown_by.rpartition("/")
    path = f"{form}.{suffix}/{type_}" if suffix else f"{form}/{type_}"
    fault = FormFault(form, wrong, dtype, lanes)
    name, witness = f"{_spoken(form)}-{type_}-{what}", f"ops/{path}/{shown}"
    return Mutant(name, f"{form}/{dtype}", fault, witness, cause=cause)


def _access(row: tuple[str, str, str, str, Expand, Cause]) -> Mutant:
    form, type_, shown_by, what, wrong, cause = row
    dtype, lanes = _split(type_)
    fault = AccessFault(form, wrong, dtype, lanes)
    name, witness = f"{_spoken(form)}-{type_}-{what}", f"ops/{form}/{type_}/{shown_by}"
    return Mutant(name, f"{form}/{dtype}", fault, witness, cause=cause)


_USUAL_SETS = {"add": "small", "mul": "small", "xor": "special"}


def _group(kind: str, size: int, dtype: str, shown_by: str) -> Mutant:
    fault = c.FoldFault(kind, lambda lanes: lanes - 1, size, dtype)
    name = f"group-{kind}-{dtype}-leaves-out-lane-{size - 1}"
    suspect = f"reduce.group.{kind}/{dtype}"
    family = f"ops/reduce.group.{kind}" + (f".{size}" if size != USUAL_SIZE else "")
    return Mutant(name, suspect, fault, f"{family}/{dtype}/{shown_by}", cause=Cause.GROUP_FOLD)


MUTANTS: Sequence[Mutant] = tuple(generated())
