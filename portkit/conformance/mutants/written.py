"""Mutants that are written one by one: loops, carries, barriers, copies in flight, patterns of instructions.

Where a fault shows on a device model only, its summary states the model.
"""

from __future__ import annotations

from portkit.conformance.hints.causes import Cause
from portkit.conformance.mutants import control as c
from portkit.conformance.mutants import forms, patterns, printer
from portkit.conformance.mutants.accesses import AccessFault, masked_index
from portkit.conformance.mutants.mutant import Mutant
from portkit.spec.types import BOOL, F16, F32, F64, I32, I64, Type

_LOOPS: tuple[Mutant, ...] = (
    Mutant(
        "negative-literal-counts-run",
        "loop.serial",
        c.count_changed(c.same, abs, "Take a negative literal count for positive."),
        "ops/loop.serial/i32/literal_-5",
        cause=Cause.LOOP_COUNT,
    ),
    Mutant(
        "negative-counts-run",
        "loop.serial",
        c.count_changed(c.sign_ignored, lambda n: n, "Take a negative count in a register for positive."),
        "ops/loop.serial/i32/counts",
        cause=Cause.LOOP_COUNT,
    ),
    Mutant(
        "loop-runs-once-more",
        "loop.serial",
        c.count_changed(c.one_more, lambda n: n, "Run a loop whose count is in a register once more."),
        "ops/loop.serial/i32/counts",
        cause=Cause.LOOP_COUNT,
    ),
    Mutant(
        "literal-zero-trips-run-once",
        "loop.serial",
        c.count_changed(c.same, lambda n: max(n, 1), "Test a literal count after the first trip."),
        "ops/loop.serial/i32/literal_0",
        cause=Cause.LOOP_COUNT,
    ),
    Mutant(
        "unrolled-rest-dropped",
        "loop.serial",
        c.count_changed(
            c.same, lambda n: n // 16 * 16 if n > 16 else n, "Leave out the rest of a loop unrolled by 16."
        ),
        "ops/loop.serial/i32/literal_17",
        cause=Cause.LOOP_COUNT,
    ),
    Mutant(
        "unrolled-trips-all-run",
        "loop.serial",
        c.count_changed(c.same, lambda n: -(-n // 2) * 2 if n > 0 else n, "Run both trips of a loop unrolled by 2."),
        "ops/loop.serial/i32/literal_15",
        cause=Cause.LOOP_COUNT,
    ),
    Mutant(
        "counts-have-ten-bits",
        "kernels/loops",
        c.count_changed(c.same, lambda n: n & 1023 if n > 0 else n, "Keep ten bits of a literal count."),
        "kernels/loops/long",
        cause=Cause.LOOP_COUNT,
    ),
    Mutant(
        "loop-index-begins-at-one",
        "loop.serial",
        c.renumbered("loop.serial", c.counted_from_one, "Count serial loops from one."),
        "ops/loop.serial/i32/literal_2",
        cause=Cause.LOOP_COUNT,
    ),
    Mutant(
        "loop-index-has-four-bits",
        "loop.serial",
        c.renumbered("loop.serial", c.index_masked(15), "Keep four bits of the index of a serial loop."),
        "ops/loop.serial/i32/literal_100",
        cause=Cause.INDEX_WIDTH,
    ),
    Mutant("carry-is-stale-by-one", "phi.carry", c.stale_by_one, "ops/phi.carry/i32/special", cause=Cause.CARRY),
    Mutant("carry-begins-at-zero", "phi.carry", c.init_lost, "ops/phi.carry/i32/special", cause=Cause.CARRY),
    Mutant(
        "fifth-carry-is-kept",
        "kernels/loops",
        c.carries_changed(c.fifth_is_kept, "Leave a fifth carry as it is."),
        "kernels/loops/rotate_five_carries",
        cause=Cause.CARRY,
    ),
    Mutant(
        "bool-carries-are-kept",
        "phi.carry/bool",
        c.carries_changed(c.kept_where(lambda t: t == Type(BOOL)), "Leave carries of bool as they are."),
        "ops/phi.carry/bool/special",
        cause=Cause.CARRY,
    ),
    Mutant(
        "carries-of-sixteen-lanes-are-kept",
        "phi.carry",
        c.carries_changed(c.kept_where(lambda t: t.lanes == 16), "Leave carries of 16 lanes as they are."),
        "ops/phi.carry/f32x16/special",
        cause=Cause.CARRY,
    ),
    Mutant(
        "64-bit-carries-are-kept",
        "phi.carry",
        c.carries_changed(c.kept_where(lambda t: t.dtype in (I64, F64)), "Leave carries of i64 and f64 as they are."),
        "ops/phi.carry/f64/special",
        cause=Cause.CARRY,
    ),
    Mutant(
        "carries-of-f16x8-are-kept",
        "phi.carry/f16",
        c.carries_changed(c.kept_where(lambda t: t == Type(F16, 8)), "Leave carries of eight f16 as they are."),
        "ops/phi.carry/f16x8/special",
        cause=Cause.CARRY,
    ),
    Mutant(
        "f32-carries-are-kept-in-bf16",
        "kernels/math",
        c.carries_changed(c.rounded_carry, "Keep f32 carries in bf16 from trip to trip."),
        "kernels/math/dot/100_in_2",
        cause=Cause.NARROW_SUM,
    ),
)

_GROUPS: tuple[Mutant, ...] = (
    Mutant(
        "lane-has-seven-bits",
        "loop.",
        c.renumbered("loop.lane", c.index_masked(127), "Keep seven bits of the number of a lane."),
        "ops/loop.lane/i32/256",
        cause=Cause.INDEX_WIDTH,
    ),
    Mutant(
        "group-has-16-bits",
        "device/launch",
        c.renumbered("loop.grid", c.index_masked(0xFFFF), "Keep 16 bits of the number of a work-group."),
        "device/launch/groups_100000",
        cause=Cause.INDEX_WIDTH,
    ),
    Mutant(
        "partial-warp-is-idle",
        "kernels/index",
        c.idle_lanes(lambda n: n // 32 * 32 if n > 32 else n, "Leave out the lanes that do not fill 32."),
        "kernels/index/tails/100_lanes_100",
        cause=Cause.TAIL,
    ),
    Mutant(
        "last-lane-of-three-is-idle",
        "kernels/index",
        c.idle_lanes(lambda n: 2 if n == 3 else n, "Leave out the last lane of work-groups of 3."),
        "kernels/index/tails/3_lanes_3",
        cause=Cause.TAIL,
    ),
    Mutant(
        "lanes-from-255-are-idle",
        "kernels/index",
        c.idle_lanes(lambda n: min(n, 255), "Leave out the lanes from the 256th on."),
        "kernels/index/tails/256_lanes_256",
        cause=Cause.TAIL,
    ),
    Mutant(
        "single-lane-is-idle",
        "kernels/index",
        c.idle_lanes(lambda n: n - 1 if n == 1 else n, "Leave out the only lane of work-groups of 1."),
        "kernels/index/tails/1_lanes_1",
        cause=Cause.NOTHING,
    ),
    Mutant(
        "group-add-folds-32-lanes",
        "reduce.group.add",
        c.FoldFault("add", lambda lanes: 32),
        "ops/reduce.group.add.64/i32/special",
        cause=Cause.GROUP_FOLD,
    ),
    Mutant(
        "group-max-folds-64-lanes",
        "reduce.group.max",
        c.FoldFault("max", lambda lanes: 64),
        "ops/reduce.group.max.128/f32/deciding",
        cause=Cause.GROUP_FOLD,
    ),
    Mutant(
        "looped-group-add-leaves-out-the-last-lane",
        "kernels/group",
        c.FoldFault("add", lambda lanes: lanes - 1, in_loop=True),
        "kernels/group/loop_reduction/32",
        cause=Cause.GROUP_FOLD,
    ),
    Mutant(
        "barriers-in-loops-dropped",
        "kernels/shared",
        c.without_barrier(c.in_a_loop, "Print no barrier inside of a serial loop."),
        "kernels/shared/rotate_loop/64_lanes_13_trips",
        cause=Cause.BARRIER,
    ),
    Mutant(
        "first-barrier-dropped",
        "kernels/shared",
        c.without_barrier(c.first_of_kernel, "Leave out the first of several barriers."),
        "kernels/shared/tree_sum/i32_256",
        cause=Cause.BARRIER,
    ),
    Mutant(
        "copies-land-after-the-kernel",
        "load.async",
        c.copies_land_after_the_kernel,
        "ops/load.async/f32/own",
        cause=Cause.WAIT,
    ),
    Mutant(
        "carried-copies-land-after-the-kernel",
        "wait.token",
        c.carried_copies_land_after_the_kernel,
        "ops/wait.token/i32/carried_4",
        cause=Cause.WAIT,
    ),
    Mutant(
        "shared-arrays-overlap",
        "kernels/shared",
        c.second_array_is_first,
        "kernels/shared/several_arrays/32",
        cause=Cause.OVERLAP,
    ),
    Mutant(
        "shared-memory-wraps-at-32-kib",
        "kernels/shared",
        c.shared_wraps(1 << 15),
        "kernels/shared/whole_memory/48_kib",
        cause=Cause.INDEX_WIDTH,
    ),
    Mutant(
        "shared-memory-wraps-at-4-kib",
        "kernels/shared",
        c.shared_wraps(1 << 12),
        "kernels/shared/whole_memory/16_kib",
        cause=Cause.INDEX_WIDTH,
    ),
)

_PATTERNS: tuple[Mutant, ...] = (
    Mutant(
        "rotate-turns-the-other-way",
        "kernels/bits",
        patterns.rotate_turns_the_other_way,
        "kernels/bits/threefry/13198a2e",
        cause=Cause.WRONG_OPERATION,
    ),
    Mutant(
        "products-contract-into-carries",
        "kernels/math",
        patterns.contracts_into_carries,
        "kernels/math/dot/5000_in_3",
        cause=Cause.CONTRACTION,
    ),
    Mutant(
        "atomics-of-late-groups-are-lost",
        "kernels/memory",
        patterns.late_groups_lose_atomics,
        "kernels/memory/contention/10000",
        cause=Cause.ATOMIC,
    ),
    Mutant(
        "looped-vectors-repeat-a-lane",
        "kernels/vector",
        patterns.looped_vectors_lag,
        "kernels/vector/gemm/4_lanes_exact",
        cause=Cause.LANE_LOST,
    ),
    Mutant(
        "chained-gates-lose-the-else-value",
        "kernels/index",
        patterns.chained_gates_lose_else,
        "kernels/index/gated_chain/150",
        cause=Cause.GATE,
    ),
    Mutant(
        "index-wraps-at-8-bits",
        "load",
        AccessFault("load", masked_index(0xFF)),
        "ops/load/f32/special",
        cause=Cause.INDEX_WIDTH,
    ),
    Mutant(
        "stores-wrap-at-16-bits",
        "load",
        AccessFault("store", masked_index(0xFFFF)),
        "kernels/index/far/last_element",
        cause=Cause.INDEX_WIDTH,
    ),
    Mutant(
        "narrow-integers-stay-wide",
        "add/u8",
        patterns.unwrapped("add", I32, patterns.narrow_integer, "Keep narrow sums in 32 bits where they are read."),
        "ops/add.then_read/u8/special",
        cause=Cause.NARROW_INTEGERS,
    ),
    Mutant(
        "narrow-products-stay-wide",
        "mul/i16",
        patterns.unwrapped("mul", I32, patterns.narrow_integer, "Keep narrow products in 32 bits where they are read."),
        "ops/mul.then_read/i16/special",
        cause=Cause.NARROW_INTEGERS,
    ),
    Mutant(
        "f16-sums-stay-wide",
        "add/f16",
        patterns.unwrapped("add", F32, patterns.is_f16, "Keep f16 sums in f32 where they are read."),
        "ops/add.then_read/f16/special",
        cause=Cause.TWO_ROUNDINGS,
    ),
)

_CROWDED = Mutant(
    "spilled-selects-swap",
    "kernels/fuzz",
    patterns.spilled_selects_swap,
    "kernels/fuzz/declared/0000",
    cause=Cause.OPERAND_ORDER,
)

_EQUIVALENT: tuple[Mutant, ...] = (
    Mutant(
        "add-operands-are-swapped",
        "add/f32",
        forms.FormFault("add", forms.reordered(1, 0)),
        equivalent="addition commutes, and the payload of a NaN that it makes is free",
    ),
    Mutant(
        "mul-operands-are-swapped",
        "mul/f32",
        forms.FormFault("mul", forms.reordered(1, 0)),
        equivalent="multiplication commutes, and the payload of a NaN that it makes is free",
    ),
    Mutant(
        "device-fence-dropped",
        "fence.device",
        printer.device_fence_dropped,
        equivalent="each lane's accesses happen in order",
    ),
    Mutant(
        "add-f16-is-done-in-f32",
        "add/f16",
        forms.FormFault("add", forms.computed_in("f32"), "f16"),
        equivalent="f32 is more than twice as precise, so that the second rounding changes nothing (Spec: add_c2)",
    ),
)

KERNELS: tuple[Mutant, ...] = (*_LOOPS, *_GROUPS, *_PATTERNS, _CROWDED, *_EQUIVALENT)
