"""Reductions over the work-group, through shared memory, for devices without the extension `group`.

    r = reduce.group.add x       ->     store tile lane x if upper               # of 4 lanes: 2 and 3
                                        barrier
                                        y = load tile lane2 if folds else zero   # lane2 = lane + 2
                                        s = add x y
                                        ...                                      # again for 2 lanes
                                        store tile lane t if first
                                        barrier
                                        r = load tile izero

Lanes fold halves over the linear lane number, as `numeric strict` asks (Spec: numeric_c5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from portkit.compiler.legal.folds import neutral, step
from portkit.compiler.legal.needs import expands_group
from portkit.compiler.legal.rewrite import Parts, Rewrite
from portkit.contract import Capabilities
from portkit.spec.builder import Mem, Reg
from portkit.spec.kernel import Instr, Kernel, Shared
from portkit.spec.types import BF16, BOOL, F16, F32, I32, U32, DType, Type


def expand_groups(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """Return the kernel without the reductions over the work-group that a device cannot do; their operands are scalars.

    One barrier a round: the elements that a round reads are not written before the next barrier. Every array is used
    again by the next reduction of its dtype.
    """
    rewrite = _Groups(kernel, capabilities)
    return rewrite.run() if any(map(rewrite.rule, kernel.body)) else kernel


@dataclass(frozen=True, slots=True)
class _Round:
    """A halving of n values: each lane of the lower half folds in the value of the lane n/2 above, if there is one."""

    stores: Reg
    """Whether this lane stores its value; those that are read do."""
    above: Reg
    """The lane that this lane folds in."""
    folds: Reg
    """Whether this lane folds: it is in the lower half, and the lane above exists."""


class _Groups(Rewrite):
    def __init__(self, kernel: Kernel, capabilities: Capabilities) -> None:
        super().__init__(kernel, capabilities)
        self._innermost = kernel.body[kernel.nest.lanes[-1]]
        self._tiles: dict[DType, Mem] = {}
        self._rounds: list[_Round] = []

    def rule(self, instr: Instr) -> Callable[[Instr], Parts] | None:
        return self._group if expands_group(instr, self.types, self.capabilities) else None

    def run(self) -> Kernel:
        at = self.kernel.nest.lanes[-1] + 1
        self.walk(self.kernel.body[:at])
        self._lane = self._linear_lane()
        self._plan()
        self.walk(self.kernel.body[at:])
        return self.b.finish()

    def _linear_lane(self) -> Reg:
        """Return the linear lane number: the last lane loop counts fastest (Spec: nest_c5)."""
        first, *rest = (self.kernel.body[at].result for at in self.kernel.nest.lanes)
        lane = self.one(first)
        for index, count in zip(rest, self.kernel.lane_counts[1:], strict=True):
            lane = self.b.plus(self.b.times(lane, count), self.one(index))
        return lane

    def _plan(self) -> None:
        """Write what each lane does in each round, the same for every reduction.

        In the first round the lower half does not store: the other lanes may still be reading element 0, the result of
        the reduction before.
        """
        b, lanes = self.b, self.kernel.lanes
        half = 1 << (lanes - 1).bit_length() - 1 if lanes > 1 else 0
        while half:
            folds = b.less(self._lane, min(half, lanes - half))
            stores = (
                b.less(self._lane, lanes) if self._rounds else b.less(b.number(half - 1, self._lane.type), self._lane)
            )
            self._rounds.append(_Round(stores, b.plus(self._lane, half), folds))
            lanes, half = half, half // 2

    # --- one reduction ------------------------------------------------------------------------------------------------

    def _group(self, instr: Instr) -> Parts:
        """Carry bool as 0 or 1, and sums of f16 and bf16 in f32 (Spec: group_c2)."""
        b, kind, x = self.b, instr.form.kind, self.one(instr.args[0])
        dtype = x.type.dtype
        if dtype == BOOL:
            return (b.equal(self._fold(kind, b.where(x, b.number(1, Type(U32)), 0)), 1),)
        if kind == "add" and dtype in (F16, BF16):
            return (b.to(self._fold(kind, b.to(x, F32)), dtype),)
        return (self._fold(kind, x),)

    def _fold(self, kind: str, x: Reg) -> Reg:
        if not self._rounds:
            return x
        b, tile = self.b, self._tile(x.type.dtype)
        for part in self._rounds:
            b.store(tile, self._lane, x, gate=part.stores)
            b.barrier()
            x = step(b, kind, x, b.load(tile, part.above, gate=part.folds, other=neutral(b, kind, x)))
        b.store(tile, self._lane, x, gate=b.equal(self._lane, 0))
        b.barrier()
        return b.load(tile, b.number(0, Type(I32)))

    def _tile(self, dtype: DType) -> Mem:
        if dtype not in self._tiles:
            self._tiles[dtype] = self.b.declare(Shared(self.b.fresh("group_"), dtype, self.kernel.lanes))
        return self._tiles[dtype]
