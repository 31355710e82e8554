"""Mutants that one family of cases alone finds: a fault in one size, one dtype or one shape of kernel."""

from __future__ import annotations

from portkit.conformance.hints.causes import Cause
from portkit.conformance.mutants import control as c
from portkit.conformance.mutants import launches, patterns, shapes
from portkit.conformance.mutants.mutant import Mutant
from portkit.spec.types import BF16, DTYPES, F64, I32

_BARRIERS: tuple[Mutant, ...] = (
    Mutant(
        "barriers-order-shared-memory-only",
        "barrier",
        c.without_barrier(shapes.without_shared_memory, "Print no barrier where there is no shared memory."),
        "ops/barrier/i32/global",
        cause=Cause.BARRIER,
    ),
    *(
        Mutant(
            f"{form.replace('.', '-')}-stands-for-a-barrier",
            form,
            c.without_barrier(shapes.behind(form), f"Print no barrier behind {form}, as if the fence were one."),
            f"ops/{form}/i32/exchange",
            cause=Cause.BARRIER,
        )
        for form in ("fence.group", "fence.device")
    ),
    Mutant(
        "ninth-copy-lands-late",
        "wait.token",
        shapes.ninth_copy_lands_late,
        "ops/wait.token/i32/carried_9",
        cause=Cause.WAIT,
    ),
)

_KERNELS: tuple[Mutant, ...] = (
    Mutant(
        "fourth-lane-loop-reads-zero",
        "loop.",
        shapes.fourth_lane_loop_reads_zero,
        "ops/loop.lane/i32/2x2x2x2",
        cause=Cause.GRID,
    ),
    Mutant(
        "computed-grid-has-four-bits",
        "loop.grid",
        launches.ComputedGridHasFourBits,
        "ops/loop.grid/i32/count_1000",
        cause=Cause.GRID,
    ),
    Mutant(
        "inner-tiles-are-short",
        "kernels/math",
        shapes.inner_tiles_are_short,
        "kernels/math/gemm/f32_9x7x17",
        cause=Cause.LOOP_COUNT,
    ),
    Mutant(
        "lanes-that-left-still-store",
        "kernels/divergent",
        shapes.lanes_that_left_still_store,
        "kernels/divergent/store/2_deep",
        cause=Cause.LOOP_COUNT,
    ),
    Mutant(
        "buffers-have-four-bits",
        "kernels/buffers",
        shapes.buffers_have_four_bits,
        "kernels/buffers/count_24",
        cause=Cause.ARGUMENTS,
    ),
    Mutant(
        "sums-of-bf16-are-bf16",
        "kernels/math",
        shapes.sums_take_the_inputs_dtype(BF16),
        "kernels/math/gemm/bf16_exact",
        cause=Cause.NARROW_SUM,
    ),
    Mutant(
        "counts-are-read-from-the-first-lane",
        "kernels/group",
        c.FoldFault("max", lambda lanes: 1, counting=True),
        "kernels/group/uniform_count/32",
        cause=Cause.GROUP_FOLD,
    ),
    Mutant(
        "one-helper-per-dtype",
        "kernels/group",
        shapes.one_helper_per_dtype,
        "kernels/group/softmax/9x64",
        cause=Cause.WRONG_OPERATION,
    ),
    Mutant(
        "known-gates-are-closed",
        "store.vec",
        shapes.known_gates_are_closed,
        "kernels/vector/tail/u8x4",
        cause=Cause.NOTHING,
    ),
    Mutant(
        "carried-counts-are-lost",
        "mul.shr/u8",
        shapes.carried_counts_are_lost,
        "kernels/vector/shift/mul.shr/u8x8",
        cause=Cause.SHIFT_COUNT,
    ),
    Mutant(
        "loads-overtake-stores",
        "store",
        shapes.loads_overtake_stores,
        "ops/store/f32/overwrite",
        cause=Cause.STATE,
    ),
    Mutant(
        "loaded-is-incremented",
        "add/f32",
        shapes.loaded_is_incremented,
        "ops/add.literal_one/f32/special",
        cause=Cause.LITERAL,
    ),
    Mutant(
        "staging-knows-its-pattern",
        "store/u8",
        launches.StagingKnowsItsPattern,
        "ops/store/u8/special",
        cause=Cause.MISSING,
    ),
    Mutant(
        "f64-products-contract",
        "mul/f64",
        patterns.contracts_in(F64),
        "ops/mul.then_add/f64/ties",
        cause=Cause.CONTRACTION,
    ),
    Mutant(
        "add-u8-stays-wide",
        "add/u8",
        patterns.unwrapped("add", I32, lambda d: d is DTYPES["u8"], "Keep u8 sums in 32 bits where they are read."),
        "ops/add.then_read/u8/special",
        cause=Cause.NARROW_INTEGERS,
    ),
)


def _wide(dtype: str, reader: str) -> Mutant:
    summary = f"Keep {dtype} products in 32 bits where {reader} reads them."
    fault = patterns.unwrapped("mul", I32, lambda d: d is DTYPES[dtype], summary, (reader,))
    name = f"mul-{dtype}-stays-wide-{reader}"
    return Mutant(name, f"mul/{dtype}", fault, f"ops/mul.then_read/{dtype}/special", cause=Cause.NARROW_INTEGERS)


_WIDE = tuple(_wide(d, r) for d in ("i8", "u8", "i16", "u16") for r in ("mov.cast", "phi.lt"))

MUTANTS: tuple[Mutant, ...] = (*_BARRIERS, *_KERNELS, *_WIDE)
"""All of them."""
