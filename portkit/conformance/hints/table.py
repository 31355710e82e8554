"""The table of hypotheses: causes in the order in which they are tried, the likeliest and most specific first."""

from __future__ import annotations

from dataclasses import dataclass

from portkit.conformance.hints import accesses, control, copies, floats, groups, integers, operations, vectors
from portkit.conformance.hints.causes import Cause
from portkit.conformance.hints.control import Change
from portkit.conformance.hints.scenario import Function, Place, Twist
from portkit.spec.types import BF16, F16, F32, F64


@dataclass(frozen=True, slots=True)
class InPlace:
    """A fault of single instructions; `says` goes on after the name of the form."""

    cause: Cause
    says: str
    twists: tuple[Twist, ...]


@dataclass(frozen=True, slots=True)
class OfLaunch:
    """A fault of a kernel or a launch as a whole."""

    cause: Cause
    says: str
    change: Change
    forms: tuple[str, ...] = ()
    """The forms that it is about: in a case of one of them it comes first."""


def among(*forms: str) -> _Among:
    """Return what limits twists to forms, or to families of forms."""
    return _Among(forms)


@dataclass(frozen=True, slots=True)
class _Among:
    forms: tuple[str, ...]

    def __call__(self, *twists: Twist) -> tuple[Twist, ...]:
        return tuple(self._limited(twist) for twist in twists)

    def _limited(self, twist: Twist) -> Twist:
        def limited(place: Place, right: Function) -> Function | None:
            return twist(place, right) if place.instr.name.startswith(self.forms) else None

        return limited


_ARITHMETIC = among("add", "mul", "reduce", "mov.recip", "mov.sqrt", "mov.rsqrt", "mov.exp2", "mov.log2", "mov.sin")
_CAST = among("mov.cast")
_NOT_A_CAST = among("add", "mul", "reduce", "phi", "mov.r", "mov.s", "mov.e", "mov.l", "mov.t")
_C = Cause

IN_PLACE: tuple[InPlace, ...] = (
    # floats
    InPlace(
        _C.FLUSH,
        "makes zeros of subnormal results",
        (floats.flush_results, floats.flush_results_to_plus),
    ),
    InPlace(_C.FLUSH, "takes subnormal operands for zeros", (floats.flush_operands, floats.flush_operands_to_plus)),
    InPlace(_C.FLUSH, "takes subnormals for zeros", (floats.flush_all, floats.flush_all_to_plus)),
    InPlace(_C.FLUSH, "makes zeros of subnormals that it only moves", accesses.FLUSHED_MOVES),
    InPlace(
        _C.TOWARD_ZERO, "rounds toward zero", (*_NOT_A_CAST(floats.toward_zero, floats.toward_zero_of_f64),)
    ),
    InPlace(_C.OVERFLOW, "mistakes infinity, or gives another value on overflow", _CAST(*floats.OVERFLOWS)),
    InPlace(_C.TOWARD_ZERO, "drops bits where it must round", (*_CAST(floats.toward_zero), floats.cast_of_cut)),
    InPlace(_C.TIES, "rounds ties away from zero, not to even", _NOT_A_CAST(floats.ties_away)),
    InPlace(_C.TIES, "rounds ties toward zero, not to even", _NOT_A_CAST(floats.ties_to_zero)),
    InPlace(_C.TIES, "rounds ties otherwise than to even", _CAST(floats.ties_away, floats.ties_to_zero)),
    InPlace(
        _C.TOWARD_ZERO,
        "rounds in a fixed direction, not to nearest",
        _NOT_A_CAST(floats.downward, floats.upward, floats.away),
    ),
    InPlace(
        _C.CAST_ROUNDING,
        "rounds in a fixed direction, not to nearest",
        _CAST(floats.downward, floats.upward, floats.away),
    ),
    InPlace(_C.TWO_ROUNDINGS, "rounds the product before the sum", (floats.fma_in_two_roundings,)),
    InPlace(_C.TWO_ROUNDINGS, "rounds in f64 first", (floats.fma_through_f64,)),
    InPlace(_C.TWO_ROUNDINGS, "rounds in f32 first", (floats.half_through_f32,)),
    InPlace(
        _C.CAST_ROUNDING,
        "rounds twice, by way of another format",
        tuple(map(floats.cast_through, (F32, F64, F16, BF16))),
    ),
    InPlace(_C.NARROW_SUM, "keeps its results in fewer bits", _NOT_A_CAST(*floats.NARROW_RESULTS)),
    InPlace(_C.SHORT_OPERANDS, "takes its operands with fewer bits", _NOT_A_CAST(*floats.SHORT_OPERANDS)),
    InPlace(_C.NARROW_SUM, "computes in another format", _NOT_A_CAST(*floats.COMPUTED_ELSEWHERE)),
    InPlace(
        _C.NARROW_SUM,
        "rounds its sum after each step",
        (
            groups.fold_rounding_each,
            vectors.fold_rounding_each,
        ),
    ),
    InPlace(
        _C.REASSOCIATION,
        "folds in another order",
        (groups.fold_in_order(rounding_each=False), vectors.fold_in_order(rounding_each=False)),
    ),
    InPlace(
        _C.NARROW_SUM,
        "rounds its sum after each step, one lane after the other",
        (groups.fold_in_order(rounding_each=True), vectors.fold_in_order(rounding_each=True)),
    ),
    InPlace(_C.ZERO_SIGN, "gives zeros of the wrong sign", (*operations.EXTREMES_OF_ZEROS, *floats.ZERO_SIGNS)),
    InPlace(_C.ZERO_SIGN, "tells zeros apart by their sign", operations.COMPARISONS_OF_ZEROS),
    InPlace(_C.LITERAL, "is misread", operations.LITERALS),
    InPlace(_C.FLUSH, "makes zeros of subnormal results, and loses their sign", (floats.flush_results_with_zeros,)),
    InPlace(_C.NAN_LOST, "gives the number where one operand is NaN", operations.EXTREMES_OF_NAN),
    InPlace(_C.NAN_ORDER, "takes NaN for equal, less, or a number in order", operations.COMPARISONS_OF_NAN),
    InPlace(_C.NAN_LOST, "takes NaN for zero", floats.NAN_IS_ZERO),
    InPlace(_C.NAN_LOST, "changes the bits of a NaN that it only moves", accesses.NAN_MOVES),
    InPlace(_C.OVERFLOW, "mistakes infinity, or gives another value on overflow", _NOT_A_CAST(*floats.OVERFLOWS)),
    # integers and conversions
    InPlace(_C.SATURATION, "does not saturate", integers.WRAPPING_CASTS),
    InPlace(_C.SATURATION, "goes by way of integers", integers.TRUNC_THROUGH),
    InPlace(_C.CAST_ROUNDING, "rounds where it must truncate", integers.TRUNC_ROUNDS),
    InPlace(_C.CAST_ROUNDING, "rounds where it must truncate", integers.ROUNDING_CASTS),
    InPlace(_C.NAN_LOST, "gives another integer than 0 for NaN", integers.NAN_CASTS),
    InPlace(_C.SHIFT_COUNT, "does not take its count modulo the width", integers.SHIFT_COUNTS),
    InPlace(_C.SHIFT_SIGN, "shifts in the wrong sign", (integers.other_sign("mul.shr"),)),
    InPlace(
        _C.SIGNEDNESS,
        "takes its operands with the wrong signedness",
        (
            integers.other_sign("mul.hi", "phi.lt", "reduce.max", "reduce.min", "mov.cast"),
            integers.other_sign("reduce.vec.max", "reduce.vec.min"),
            integers.group_of_other_sign,
            copies.atomic_of_other_sign,
            integers.mul_hi_of_mixed_signs,
            integers.result_as_other_sign,
        ),
    ),
    InPlace(_C.SATURATING_INTEGERS, "saturates where it must wrap", (integers.saturating,)),
    InPlace(_C.NARROW_INTEGERS, "loses the upper bits", (*integers.FEWER_BITS, *integers.FEWER_OPERAND_BITS)),
    InPlace(_C.SHORT_OPERANDS, "takes some bits of its factors only", integers.SHORT_FACTORS),
    InPlace(_C.NARROW_INTEGERS, "compares some of the bits only", integers.SHORT_COMPARISONS),
    InPlace(_C.NARROW_INTEGERS, "computes integers in floats", tuple(map(integers.through_float, (F32, F64, F16)))),
    InPlace(_C.WRONG_OPERATION, "loses a carry between its halves", (integers.low_half_of_product,)),
    # vectors and memory
    InPlace(_C.GATE, "gives a lane the gate of another", vectors.VECTOR_GATES),
    InPlace(_C.LANE_ORDER, "takes vector lanes in the wrong order", (*vectors.LANE_ORDERS, *vectors.VALUE_ORDERS)),
    InPlace(_C.LANE_LOST, "loses a vector lane", vectors.LOST_LANES),
    InPlace(_C.UNALIGNED, "aligns the index to the vector", vectors.ALIGNED),
    InPlace(
        _C.GATE,
        "ignores its gate",
        (accesses.load_gate_ignored, accesses.store_gate_ignored, accesses.clamped_where_closed),
    ),
    InPlace(_C.OUT_OF_BOUNDS, "writes more than its element", accesses.WIDE_STORES),
    InPlace(_C.LANE_LOST, "uses an index twice", accesses.REPEATED_INDEX),
    InPlace(_C.GATE, "loses what it must give where its gate is false", tuple(map(accesses.gate_else_is, (0, 1, -1)))),
    InPlace(
        _C.GATE,
        "reads its gate amiss",
        (accesses.load_gate_turned, accesses.store_gate_turned, accesses.gate_of_first_lane),
    ),
    InPlace(_C.INDEX_WIDTH, "keeps too few bits of the index", accesses.INDEX_WIDTHS),
    InPlace(
        _C.LANE_ORDER, "takes one index for all lanes", (accesses.index_of_first_lane, accesses.same_index)
    ),
    InPlace(_C.WAIT, "is read before it lands", (copies.copy_never_lands, *map(copies.copy_lands_late, (1, 2)))),
    InPlace(
        _C.COPY_LENGTH,
        "copies the wrong number of elements",
        copies.COPY_LENGTHS,
    ),
    InPlace(_C.UNALIGNED, "aligns where it copies from or to", copies.ALIGNED_COPIES),
    InPlace(
        _C.OFFSET, "ignores an offset", (copies.copy_from_the_beginning, copies.copy_to_the_beginning)
    ),
    InPlace(_C.MISSING, "is done by one lane only", (copies.copy_of_first_lane,)),
    InPlace(
        _C.ATOMIC,
        "loses updates of other lanes",
        (
            copies.atomic_loses_updates,
            copies.atomic_is_a_store,
            *map(copies.atomic_of_one_lane, (0, -1)),
        ),
    ),
    InPlace(_C.GROUP_FOLD, "folds some of the group's lanes only", groups.GROUP_FOLDS),
    # operations
    InPlace(
        _C.OPERAND_ORDER,
        "takes its operands in the wrong order",
        (
            operations.permuted((1, 0), "mul.shl", "mul.shr"),
            operations.values_exchanged,
            operations.comparands_exchanged,
            *(operations.permuted(order, "mul.add") for order in ((0, 2, 1), (2, 1, 0), (1, 2, 0))),
        ),
    ),
    InPlace(_C.WRONG_OPERATION, "does a neighbouring operation", operations.OTHER_OPERATIONS),
    InPlace(_C.WRONG_OPERATION, "compares another way", operations.OTHER_COMPARISONS),
    InPlace(_C.WRONG_OPERATION, "gives back an operand", tuple(map(operations.only, range(4)))),
    InPlace(
        _C.WRONG_OPERATION,
        "takes an operand with the wrong sign",
        (operations.product_subtracted,),
    ),
    InPlace(_C.MISSING, "leaves out an operand", (operations.without_last_operand,)),
    # loops
    InPlace(_C.LOOP_COUNT, "runs another number of times", control.LOOP_COUNTS),
    InPlace(_C.OFFSET, "accesses the neighbouring element", accesses.NEIGHBOURING_INDICES),
)  # fmt: skip

_CARRY = ("phi.carry",)
OF_LAUNCH: tuple[OfLaunch, ...] = (
    OfLaunch(_C.NOTHING, "every buffer is as it was before the launch", control.nothing_launched),
    OfLaunch(
        _C.CONTRACTION,
        "a multiplication and an addition are fused into one rounding",
        control.contracted,
        ("add", "mul"),
    ),
    OfLaunch(_C.CARRY, "the carries of a loop are assigned one after the other", control.carries_in_turn, _CARRY),
    OfLaunch(_C.CARRY, "a carry lags one trip behind", control.carries_stale, _CARRY),
    OfLaunch(_C.CARRY, "a carry keeps its first value", control.carries_kept, _CARRY),
    OfLaunch(_C.CARRY, "carries begin at zero", control.carries_from_zero, _CARRY),
    OfLaunch(_C.CARRY, "two carries are exchanged", control.carries_exchanged, _CARRY),
    OfLaunch(_C.LOOP_COUNT, "the index of a loop counts otherwise", control.index_from_one),
    OfLaunch(_C.BARRIER, "lanes do not wait for each other", control.barriers_missing, ("barrier",)),
    OfLaunch(_C.SHARED, "all groups use the same shared memory", control.shared_by_groups),
    OfLaunch(
        _C.REASSOCIATION, "terms are added, or multiplied, in another order", control.reassociated, ("add", "mul")
    ),
    OfLaunch(
        _C.REASSOCIATION, "an operation and the one that undoes it are dropped", control.cancelled, ("add", "mul")
    ),
    OfLaunch(_C.STATE, "the kernel runs twice", control.launched_twice),
    OfLaunch(_C.GRID, "the grid loops are taken in the wrong order", control.grid_turned),
    OfLaunch(_C.GRID, "lane loops are taken in the wrong order", control.lanes_turned),
    OfLaunch(_C.GRID, "groups have the wrong numbers", control.groups_numbered_alike),
    OfLaunch(_C.TAIL, "the last groups do not run", control.groups_missing),
    OfLaunch(_C.TAIL, "the last lanes do not run", control.lanes_missing),
    OfLaunch(_C.ARGUMENTS, "two scalars are exchanged", control.scalars_exchanged),
    OfLaunch(_C.ARGUMENTS, "two buffers are exchanged", control.buffers_exchanged),
    OfLaunch(_C.ARGUMENTS, "a scalar arrives as another value", control.scalars_misread),
)
