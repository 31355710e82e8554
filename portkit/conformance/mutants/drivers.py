"""Mutants of a device's functions: memory, copies, launches, errors, and what is left from one call to the next."""

from __future__ import annotations

from portkit.conformance.hints.causes import Cause
from portkit.conformance.mutants import launches as u
from portkit.conformance.mutants import memory as m
from portkit.conformance.mutants.device import Wrapped
from portkit.conformance.mutants.mutant import Mutant

_ROWS: tuple[tuple[str, type[Wrapped], str, Cause], ...] = (
    ("handles-wrap-at-256", m.HandlesWrap, "device/allocate/five_hundred", Cause.OVERLAP),
    ("tiny-buffers-overlap", m.TinyBuffersOverlap, "device/allocate/live_buffers_do_not_overlap", Cause.OVERLAP),
    ("empty-buffer-refused", m.EmptyBufferRefused, "device/allocate/zero_bytes", Cause.REFUSED),
    ("freed-bytes-stay", m.FreedBytesStay, "device/allocate/memory_is_given_back", Cause.LEAK),
    ("records-of-buffers-stay", m.RecordsStay, "device/allocate/free_many_times", Cause.LEAK),
    ("huge-allocation-shrinks", m.HugeAllocationShrinks, "device/errors/out_of_memory", Cause.ERROR_SWALLOWED),
    ("negative-size-accepted", m.NegativeSizeAccepted, "device/errors/negative_size", Cause.ERROR_SWALLOWED),
    ("offsets-wrap-at-16-mib", m.OffsetsWrapAt16MiB, "device/allocate/big", Cause.OFFSET),
    ("writes-whole-words", m.WritesWholeWords, "device/transfer/size_63", Cause.COPY_LENGTH),
    ("transfers-stop-at-64-kib", m.TransfersStopAt64KiB, "device/transfer/size_1000003", Cause.COPY_LENGTH),
    ("views-start-at-zero", m.ViewsStartAtZero, "device/transfer/memoryview", Cause.OFFSET),
    ("write-queue-overflows", m.WriteQueueOverflows, "device/transfer/last_write_wins", Cause.STATE),
    ("read-ignores-offset", m.ReadIgnoresOffset, "device/transfer/offsets", Cause.OFFSET),
    ("copies-are-late", m.CopiesAreLate, "device/copy/whole", Cause.WAIT),
    ("copies-race-with-launches", m.CopiesRaceWithLaunches, "device/copy/between_launches", Cause.WAIT),
    ("copy-within-a-buffer-ignored", m.CopyWithinIgnored, "device/copy/within_one_buffer", Cause.NOTHING),
    ("copy-outside-accepted", m.CopyClipped, "device/errors/out_of_range", Cause.ERROR_SWALLOWED),
    ("write-outside-accepted", m.OutOfRangeWriteAccepted, "device/errors/out_of_range", Cause.ERROR_SWALLOWED),
    ("unknown-handle-freed", m.UnknownHandleFreed, "device/errors/foreign_handle", Cause.ERROR_SWALLOWED),
    ("write-after-free-accepted", m.WriteAfterFreeAccepted, "device/errors/use_after_free", Cause.ERROR_SWALLOWED),
    ("nameless", m.Nameless, "device/info/name", Cause.MISSING),
    ("idle-synchronise-fails", m.IdleSynchroniseFails, "device/synchronise/idle", Cause.REFUSED),
    ("close-fails", m.CloseFails, "device/close/opens_again", Cause.CRASH),
    ("no-memory-after-reset", m.NoMemoryAfterReset, "device/reset/allows_a_new_start", Cause.STATE),
    ("release-frees-all", u.ReleaseFreesAll, "device/executable/release", Cause.STATE),
    ("compiled-once", u.CompiledOnce, "device/executable/compiled_twice", Cause.STALE_KERNEL),
    ("compile-error-swallowed", u.CompileErrorSwallowed, "device/errors/compile", Cause.ERROR_SWALLOWED),
    ("reset-keeps-executables", u.ResetKeepsExecutables, "device/reset/forgets_executables", Cause.STATE),
    (
        "freed-argument-accepted",
        u.FreedArgumentAccepted,
        "device/errors/launch_with_freed_buffer",
        Cause.ERROR_SWALLOWED,
    ),
    ("empty-grid-runs-once", u.EmptyGridRunsOnce, "device/launch/grid_0", Cause.GRID),
    ("grid-stops-at-65535", u.GridStopsAt65535, "device/launch/groups_100000", Cause.GRID),
    ("second-dimension-stops-at-65535", u.SecondDimensionStopsAt65535, "device/launch/grid_2x70000", Cause.GRID),
    ("fourth-dimension-ignored", u.FourthDimensionIgnored, "device/launch/grid_4d", Cause.GRID),
    ("scalars-forget-their-dtype", u.ScalarsForgetDtype, "device/launch/argument_order", Cause.ARGUMENTS),
    ("scalars-flushed", u.ScalarsFlushed, "device/launch/scalar_extremes", Cause.FLUSH),
    ("scalars-lose-the-sign-of-zero", u.ScalarsLoseSignOfZero, "device/launch/scalar_extremes", Cause.ZERO_SIGN),
    ("scalars-kept", u.ScalarsKept, "device/launch/scalar_extremes", Cause.STATE),
    ("eighth-buffer-is-the-seventh", u.EighthBufferIsSeventh, "device/launch/eight_buffers", Cause.ARGUMENTS),
    ("buffer-given-twice-refused", u.BufferGivenTwiceRefused, "device/launch/one_buffer_twice", Cause.REFUSED),
    ("launches-are-lost", u.LaunchesAreLost, "device/launch/many_times", Cause.NOTHING),
    ("launches-swapped", u.LaunchesSwapped, "device/launch/in_order", Cause.STATE),
    ("leaks-per-launch", u.LeaksPerLaunch, "device/launch/many_times", Cause.LEAK),
)
"""Name, wrapper, witness, cause; the suspect is the witness's own function."""

_ON_KERNELS: tuple[Mutant, ...] = (
    Mutant(
        "computed-grid-is-short", "loop.grid", u.ComputedGridIsShort, "ops/loop.grid/i32/count_1000", cause=Cause.GRID
    ),
    *(
        Mutant(
            f"crashes-on-{form.replace('.', '-')}",
            form,
            u.crashing_on(form),
            f"ops/{form}/i32/exchange",
            cause=Cause.CRASH,
        )
        for form in ("fence.group", "fence.device")
    ),
    Mutant(
        "groups-share-memory",
        "kernels/shared",
        u.GroupsShareMemory,
        "kernels/shared/tree_sum/i32_100",
        cause=Cause.SHARED,
    ),
    Mutant("runs-twice", "store", u.RunsTwice, "ops/store.atomic.add/i32/contended", cause=Cause.STATE),
    Mutant(
        "writes-before-the-start", "store", u.WritesBeforeTheStart, "ops/store/f32/special", cause=Cause.OUT_OF_BOUNDS
    ),
    Mutant("crashes-on-rsqrt", "mov.rsqrt/f64", u.CrashesOnRsqrt, "ops/mov.rsqrt/f64/random", cause=Cause.CRASH),
    Mutant(
        "hangs-on-group-xor", "reduce.group.xor", u.HangsOnXor, "ops/reduce.group.xor/i32/special", cause=Cause.HANG
    ),
    Mutant(
        "refuses-vectors-of-bool",
        "mov.lane",
        u.RefusesVectorsOfBool,
        "ops/mov.lane/boolx16/special",
        cause=Cause.REFUSED,
    ),
    Mutant("group-sum-varies", "launch", u.SumVaries, "ops/reduce.group.add/f32/small", cause=Cause.VARIES),
)


def _row(row: tuple[str, type[Wrapped], str, Cause]) -> Mutant:
    name, fault, witness, cause = row
    return Mutant(name, witness.rpartition("/")[0], fault, witness, cause=cause)


DRIVERS: tuple[Mutant, ...] = (*map(_row, _ROWS), *_ON_KERNELS)
