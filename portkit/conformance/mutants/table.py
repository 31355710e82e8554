"""The table of mutants: a name, the form or device function at fault, and how to plant it."""

from __future__ import annotations

from portkit.conformance.digest import suite_digest
from portkit.conformance.hints.causes import Cause
from portkit.conformance.mutants import algebra, device, drivers, generated, particular, printer, written
from portkit.conformance.mutants.mutant import Mutant
from portkit.conformance.mutants.record import Record
from portkit.errors import UsageError, near_names
from portkit.spec import forms

p, d = printer, device
_WRITTEN: tuple[Mutant, ...] = (
    Mutant(
        "add-rounds-toward-zero", "add/f32", p.add_rounds_toward_zero, "ops/add/f32/random", cause=Cause.TOWARD_ZERO
    ),
    Mutant("add-accumulates-in-f16", "add/f32", p.add_accumulates_in_f16, "ops/add/f32/random", cause=Cause.NARROW_SUM),
    Mutant(
        "mul-takes-short-inputs", "mul/f32", p.mul_takes_short_inputs, "ops/mul/f32/random", cause=Cause.SHORT_OPERANDS
    ),
    Mutant("mul-flushes-subnormals", "mul/f32", p.mul_flushes_subnormals, "ops/mul/f32/special", cause=Cause.FLUSH),
    Mutant("fma-rounds-twice", "mul.add/f32", p.fma_rounds_twice, "ops/mul.add/f32/ties", cause=Cause.TWO_ROUNDINGS),
    Mutant(
        "mul-and-add-contract", "mul/f32", p.mul_and_add_contract, "ops/mul.then_add/f32/ties", cause=Cause.CONTRACTION
    ),
    Mutant("exp2-is-coarse", "mov.exp2/f32", p.exp2_is_coarse, "ops/mov.exp2/f32/random", cause=Cause.COARSE),
    Mutant(
        "cast-to-int-wraps",
        "mov.cast/i32<-f32",
        p.cast_to_int_wraps,
        "ops/mov.cast/f32-to-i32/special",
        cause=Cause.SATURATION,
    ),
    Mutant(
        "cast-to-int-rounds",
        "mov.cast/i32<-f32",
        p.cast_to_int_rounds,
        "ops/mov.cast/f32-to-i32/random",
        cause=Cause.CAST_ROUNDING,
    ),
    Mutant(
        "cast-from-unsigned-is-signed",
        "mov.cast/f32<-u32",
        p.cast_from_unsigned_is_signed,
        "ops/mov.cast/u32-to-f32/special",
        cause=Cause.SIGNEDNESS,
    ),
    Mutant(
        "cast-to-f16-truncates",
        "mov.cast/f16<-f32",
        p.cast_to_f16_truncates,
        "ops/mov.cast/f32-to-f16/ties",
        cause=Cause.TOWARD_ZERO,
    ),
    Mutant(
        "less-is-true-on-nan", "phi.lt/f32", p.less_is_true_on_nan, "ops/phi.lt/f32/nonfinite", cause=Cause.NAN_ORDER
    ),
    Mutant("equal-compares-bits", "phi.eq/f32", p.equal_compares_bits, "ops/phi.eq/f32/special", cause=Cause.ZERO_SIGN),
    Mutant(
        "unsigned-less-is-signed",
        "phi.lt/u32",
        p.unsigned_less_is_signed,
        "ops/phi.lt/u32/special",
        cause=Cause.SIGNEDNESS,
    ),
    Mutant(
        "max-ignores-nan", "reduce.max/f32", p.max_ignores_nan, "ops/reduce.max/f32/nonfinite", cause=Cause.NAN_LOST
    ),
    Mutant("mul-hi-is-unsigned", "mul.hi/i32", p.mul_hi_is_unsigned, "ops/mul.hi/i32/special", cause=Cause.SIGNEDNESS),
    Mutant(
        "shift-count-not-reduced",
        "mul.shl/u32",
        p.shift_count_not_reduced,
        "ops/mul.shl/u32/special",
        cause=Cause.SHIFT_COUNT,
    ),
    Mutant(
        "shift-right-ignores-sign",
        "mul.shr/i32",
        p.shift_right_ignores_sign,
        "ops/mul.shr/i32/special",
        cause=Cause.SHIFT_SIGN,
    ),
    Mutant("xor-is-or", "reduce.xor/u32", p.xor_is_or, "ops/reduce.xor/u32/special", cause=Cause.WRONG_OPERATION),
    Mutant("lanes-swapped", "mov.lane", p.lanes_swapped, "ops/mov.lane/f32x4/special", cause=Cause.LANE_ORDER),
    Mutant("pack-reversed", "mov.pack", p.pack_reversed, "ops/mov.pack/f32x4/special", cause=Cause.LANE_ORDER),
    Mutant(
        "vec-add-drops-last-lane",
        "reduce.vec.add",
        p.vec_add_drops_last_lane,
        "ops/reduce.vec.add/i32x4/special",
        cause=Cause.LANE_LOST,
    ),
    Mutant(
        "vector-load-rounds-down",
        "load.vec",
        p.vector_load_rounds_down,
        "ops/load.vec/f32x4/offset",
        cause=Cause.UNALIGNED,
    ),
    Mutant("gated-load-gives-zero", "load", p.gated_load_gives_zero, "ops/load/f32/gate", cause=Cause.GATE),
    Mutant(
        "index-wraps-at-16-bits",
        "load",
        p.index_wraps_at_16_bits,
        "kernels/index/far/last_element",
        cause=Cause.INDEX_WIDTH,
    ),
    Mutant(
        "async-copy-is-short", "load.async", p.async_copy_is_short, "ops/load.async/f32/own", cause=Cause.COPY_LENGTH
    ),
    Mutant(
        "atomic-max-adds",
        "store.atomic.max",
        p.atomic_max_adds,
        "ops/store.atomic.max/i32/contended",
        cause=Cause.WRONG_OPERATION,
    ),
    Mutant(
        "group-max-is-min",
        "reduce.group.max",
        p.group_max_is_min,
        "ops/reduce.group.max/f32/special",
        cause=Cause.WRONG_OPERATION,
    ),
    Mutant("barrier-dropped", "barrier", p.barrier_dropped, "ops/barrier/i32/exchange", cause=Cause.BARRIER),
    Mutant(
        "zero-trip-loop-runs-once",
        "loop.serial",
        p.zero_trip_loop_runs_once,
        "ops/loop.serial/i32/counts",
        cause=Cause.LOOP_COUNT,
    ),
    Mutant(
        "loop-stops-one-early",
        "loop.serial",
        p.loop_stops_one_early,
        "ops/loop.serial/i32/counts",
        cause=Cause.LOOP_COUNT,
    ),
    Mutant(
        "carries-assigned-in-turn",
        "phi.carry",
        p.carries_assigned_in_turn,
        "ops/phi.carry/f32/special",
        cause=Cause.CARRY,
    ),
    Mutant("wait-dropped", "wait.token", p.wait_dropped, equivalent="copies are complete when they are issued"),
    Mutant("fence-dropped", "fence.group", p.fence_dropped, equivalent="each lane's accesses happen in order"),
    Mutant("copy-is-short", "device/copy", d.CopyIsShort, "device/copy/whole", cause=Cause.COPY_LENGTH),
    Mutant(
        "copy-ignores-source-offset",
        "device/copy",
        d.CopyIgnoresSourceOffset,
        "device/copy/offsets",
        cause=Cause.OFFSET,
    ),
    Mutant(
        "write-ignores-offset", "device/transfer", d.WriteIgnoresOffset, "device/transfer/offsets", cause=Cause.OFFSET
    ),
    Mutant("read-drops-tail", "device/transfer", d.ReadDropsTail, "device/transfer/size_65", cause=Cause.COPY_LENGTH),
    Mutant(
        "double-free-accepted",
        "device/errors",
        d.DoubleFreeAccepted,
        "device/errors/double_free",
        cause=Cause.ERROR_SWALLOWED,
    ),
    Mutant(
        "out-of-range-read-accepted",
        "device/errors",
        d.OutOfRangeReadAccepted,
        "device/errors/out_of_range",
        cause=Cause.ERROR_SWALLOWED,
    ),
    Mutant(
        "free-does-nothing",
        "device/errors",
        d.FreeDoesNothing,
        "device/errors/use_after_free",
        cause=Cause.ERROR_SWALLOWED,
    ),
    Mutant(
        "reset-keeps-buffers", "device/reset", d.ResetKeepsBuffers, "device/reset/forgets_buffers", cause=Cause.STATE
    ),
    Mutant(
        "arguments-swapped", "device/launch", d.ArgumentsSwapped, "device/launch/argument_order", cause=Cause.ARGUMENTS
    ),
    Mutant("scalars-swapped", "device/launch", d.ScalarsSwapped, "device/launch/argument_order", cause=Cause.ARGUMENTS),
    Mutant("last-group-dropped", "device/launch", d.LastGroupDropped, "device/launch/groups_2", cause=Cause.GRID),
    Mutant("grid-transposed", "device/launch", d.GridTransposed, "device/launch/grid_2d", cause=Cause.GRID),
    Mutant(
        "stale-kernel", "device/executable", d.StaleKernel, "device/executable/several_alive", cause=Cause.STALE_KERNEL
    ),
    Mutant("writes-past-the-end", "store", d.WritesPastTheEnd, "kernels/loops/triangle", cause=Cause.OUT_OF_BOUNDS),
    Mutant("clobbers-input", "store", d.ClobbersInput, "kernels/loops/triangle", cause=Cause.INPUT_CHANGED),
    Mutant("launch-skipped", "device/launch", d.LaunchSkipped, "device/launch/one_lane", cause=Cause.NOTHING),
    Mutant("last-bit-varies", "launch", d.LastBitVaries, "kernels/loops/triangle", cause=Cause.VARIES),
)

ROWS: tuple[Mutant, ...] = (
    *_WRITTEN,
    *written.KERNELS,
    *algebra.MUTANTS,
    *particular.MUTANTS,
    *drivers.DRIVERS,
    *generated.MUTANTS,
)
MUTANTS: dict[str, Mutant] = {mutant.name: mutant for mutant in ROWS}


def find_mutant(name: str) -> Mutant:
    """Return a mutant by name; raises `UsageError` with the near names."""
    if name not in MUTANTS:
        raise UsageError(f"unknown mutant {name!r}{near_names(name, MUTANTS)}")
    return MUTANTS[name]


def distinguishable() -> list[Mutant]:
    """Return the mutants that some case can find."""
    return [mutant for mutant in MUTANTS.values() if not mutant.equivalent]


def equivalent() -> list[Mutant]:
    """Return the mutants that no case can find on a device of the stated model, each with its reason."""
    return [mutant for mutant in MUTANTS.values() if mutant.equivalent]


def fits(record: Record) -> bool:
    """Whether a record is that of this suite, this spec and these mutants."""
    same = record.suite_digest == suite_digest() and record.spec_digest == forms.digest()
    return same and set(record.mutants) == {mutant.name for mutant in distinguishable()}
