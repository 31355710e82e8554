"""The table of mutants: a name, the form or device function at fault, and how to plant it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from portkit.conformance.mutants import device, printer
from portkit.errors import UsageError, near_names
from portkit.runtime.client import DeviceClient
from portkit.spec.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Mutant:
    """A seeded fault.

    `suspect` is the prefix that the failure card of its witness must name; `witness` the id of the case that
    distinguishes it, by a valid kernel or a sequence of calls, from a correct device whose copies happen at once and
    whose lanes run one after another between barriers. `equivalent` says why no such case can exist on that model.
    """

    name: str
    suspect: str
    fault: Callable[[Kernel], Kernel] | type[device.Wrapped]
    witness: str = ""
    equivalent: str = ""

    @property
    def summary(self) -> str:
        """What the fault does, in one line."""
        return (self.fault.__doc__ or "").strip().splitlines()[0]

    def plant(self, client: DeviceClient) -> DeviceClient:
        """Return the client with the fault in it; what the fault does not distort is passed on."""
        wrapper = self.fault if isinstance(self.fault, type) else device.rewriting(self.fault)
        return cast("DeviceClient", wrapper(client))


p, d = printer, device
_ROWS: tuple[Mutant, ...] = (
    Mutant("add-rounds-toward-zero", "add/f32", p.add_rounds_toward_zero, "ops/add/f32/random"),
    Mutant("add-accumulates-in-f16", "add/f32", p.add_accumulates_in_f16, "ops/add/f32/random"),
    Mutant("mul-takes-short-inputs", "mul/f32", p.mul_takes_short_inputs, "ops/mul/f32/random"),
    Mutant("mul-flushes-subnormals", "mul/f32", p.mul_flushes_subnormals, "ops/mul/f32/special"),
    Mutant("fma-rounds-twice", "mul.add/f32", p.fma_rounds_twice, "ops/mul.add/f32/ties"),
    Mutant("mul-and-add-contract", "", p.mul_and_add_contract, ""),
    Mutant("exp2-is-coarse", "mov.exp2/f32", p.exp2_is_coarse, "ops/mov.exp2/f32/random"),
    Mutant("cast-to-int-wraps", "mov.cast/i32<-f32", p.cast_to_int_wraps, "ops/mov.cast/i32<-f32/special"),
    Mutant("cast-to-int-rounds", "mov.cast/i32<-f32", p.cast_to_int_rounds, "ops/mov.cast/i32<-f32/random"),
    Mutant("cast-from-unsigned-is-signed", "mov.cast/f32<-u32", p.cast_from_unsigned_is_signed, ""),
    Mutant("cast-to-f16-truncates", "mov.cast/f16<-f32", p.cast_to_f16_truncates, ""),
    Mutant("less-is-true-on-nan", "phi.lt/f32", p.less_is_true_on_nan, "ops/phi.lt/f32/special"),
    Mutant("equal-compares-bits", "phi.eq/f32", p.equal_compares_bits, "ops/phi.eq/f32/special"),
    Mutant("unsigned-less-is-signed", "phi.lt/u32", p.unsigned_less_is_signed, "ops/phi.lt/u32/special"),
    Mutant("max-ignores-nan", "reduce.max/f32", p.max_ignores_nan, "ops/reduce.max/f32/special"),
    Mutant("mul-hi-is-unsigned", "mul.hi/i32", p.mul_hi_is_unsigned, "ops/mul.hi/i32/special"),
    Mutant("shift-count-not-reduced", "mul.shl/u32", p.shift_count_not_reduced, "ops/mul.shl/u32/special"),
    Mutant("shift-right-ignores-sign", "mul.shr/i32", p.shift_right_ignores_sign, "ops/mul.shr/i32/special"),
    Mutant("xor-is-or", "reduce.xor/u32", p.xor_is_or, "ops/reduce.xor/u32/special"),
    Mutant("lanes-swapped", "mov.lane", p.lanes_swapped, ""),
    Mutant("pack-reversed", "mov.pack", p.pack_reversed, ""),
    Mutant("vec-add-drops-last-lane", "reduce.vec.add", p.vec_add_drops_last_lane, ""),
    Mutant("vector-load-rounds-down", "load.vec", p.vector_load_rounds_down, ""),
    Mutant("gated-load-gives-zero", "load", p.gated_load_gives_zero, ""),
    Mutant("index-wraps-at-16-bits", "", p.index_wraps_at_16_bits, ""),
    Mutant("async-copy-is-short", "load.async", p.async_copy_is_short, ""),
    Mutant("atomic-max-adds", "store.atomic.max", p.atomic_max_adds, ""),
    Mutant("group-max-is-min", "reduce.group.max", p.group_max_is_min, ""),
    Mutant("barrier-dropped", "barrier", p.barrier_dropped, ""),
    Mutant("zero-trip-loop-runs-once", "loop.serial", p.zero_trip_loop_runs_once, ""),
    Mutant("loop-stops-one-early", "loop.serial", p.loop_stops_one_early, ""),
    Mutant("carries-assigned-in-turn", "phi.carry", p.carries_assigned_in_turn, ""),
    Mutant("wait-dropped", "wait.token", p.wait_dropped, equivalent="copies are complete when they are issued"),
    Mutant("fence-dropped", "fence.group", p.fence_dropped, equivalent="each lane's accesses happen in order"),
    Mutant("copy-is-short", "device/copy", d.CopyIsShort, "device/copy/whole"),
    Mutant("copy-ignores-source-offset", "device/copy", d.CopyIgnoresSourceOffset, "device/copy/offsets"),
    Mutant("write-ignores-offset", "device/transfer", d.WriteIgnoresOffset, "device/transfer/offsets"),
    Mutant("read-drops-tail", "device/transfer", d.ReadDropsTail, "device/transfer/size_65"),
    Mutant("double-free-accepted", "device/errors", d.DoubleFreeAccepted, "device/errors/double_free"),
    Mutant("out-of-range-read-accepted", "device/errors", d.OutOfRangeReadAccepted, "device/errors/out_of_range"),
    Mutant("free-does-nothing", "device/errors", d.FreeDoesNothing, "device/errors/use_after_free"),
    Mutant("reset-keeps-buffers", "device/reset", d.ResetKeepsBuffers, "device/reset/forgets_buffers"),
    Mutant("arguments-swapped", "", d.ArgumentsSwapped, ""),
    Mutant("scalars-swapped", "", d.ScalarsSwapped, ""),
    Mutant("last-group-dropped", "", d.LastGroupDropped, ""),
    Mutant("grid-transposed", "", d.GridTransposed, ""),
    Mutant("stale-kernel", "device", d.StaleKernel, ""),
    Mutant("writes-past-the-end", "", d.WritesPastTheEnd, ""),
    Mutant("clobbers-input", "", d.ClobbersInput, ""),
    Mutant("launch-skipped", "", d.LaunchSkipped, ""),
    Mutant("last-bit-varies", "", d.LastBitVaries, ""),
)

MUTANTS: dict[str, Mutant] = {mutant.name: mutant for mutant in _ROWS}


def find_mutant(name: str) -> Mutant:
    """Return a mutant by name; raises `UsageError` with the near names."""
    if name not in MUTANTS:
        raise UsageError(f"unknown mutant {name!r}{near_names(name, MUTANTS)}")
    return MUTANTS[name]
