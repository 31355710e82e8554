"""Register tiles: sums of products that stay in registers over the steps of a loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from portkit.compiler.emit import Emitter
from portkit.compiler.index import Index
from portkit.spec.builder import Mem, Reg


@dataclass(frozen=True, slots=True)
class Operand:
    """Where a tile finds a factor: element `bases[i] + k * step` for its row or vector i, within `masks[i]`."""

    mem: Mem
    bases: list[Reg]
    step: int
    align: int = 0
    masks: tuple[Reg | None, ...] = ()


class Products:
    """Adds products to tiles of rows x vectors of `lanes`, the loop over steps unrolled."""

    def __init__(self, e: Emitter, lanes: int, unroll: int, whole: bool) -> None:
        """Emit with `e`; `whole` says that every number of steps is a multiple of `unroll`."""
        self.e, self.b, self.lanes, self.unroll, self.whole = e, e.b, lanes, unroll, whole

    def tile(self, left: Operand, right: Operand, steps: Index, totals: list[Reg]) -> list[Reg]:
        """Return a tile with the products of all steps added: of whole turns of the loop, then of what is left over."""
        unroll = self.unroll
        rounds = steps // unroll
        rest = 0 if self.whole else steps - rounds * unroll
        totals = self.carried(rounds, totals, lambda k, t: self._unrolled(left, right, k, t))
        return self.carried(
            rest, totals, lambda k, t: self._rank_one(left, right, self.b.add(self.e.index(rounds * unroll), k), t)
        )

    def carried(self, count: Index, totals: list[Reg], body: Callable[[Reg, list[Reg]], list[Reg]]) -> list[Reg]:
        """Return a tile after a loop of `count` turns that each add to it."""
        if count == 0:
            return totals
        names = [f"s{i}" for i in range(len(totals))]
        trips = self.e.count(count)
        with self.b.serial(trips, **dict(zip(names, totals, strict=True))) as loop, self.e.scope():
            after = body(loop.index, [loop[n] for n in names])
            loop.next(**dict(zip(names, after, strict=True)))
        return [loop[n] for n in names]

    def _unrolled(self, left: Operand, right: Operand, turn: Reg, totals: list[Reg]) -> list[Reg]:
        first = self.b.mul(turn, self.e.i32(self.unroll))
        for u in range(self.unroll):
            totals = self._rank_one(left, right, self.b.add(first, self.e.i32(u)) if u else first, totals)
        return totals

    def _rank_one(self, left: Operand, right: Operand, k: Reg, totals: list[Reg]) -> list[Reg]:
        """Return the tile with the product of one column of the left and one row of the right factor added."""
        b, lanes = self.b, self.lanes
        at = self._scaled(k, right.step)
        columns = [self._vector(right, i, at) for i in range(len(right.bases))]
        at = self._scaled(k, left.step)
        result: list[Reg] = []
        for base in left.bases:  # one row in a register at a time: all of them beside the tile would not fit
            x = b.splat(b.load(left.mem, b.add(base, at)), lanes)
            result += [self._multiply_add(x, y, totals[len(result) + v]) for v, y in enumerate(columns)]
        return result

    def _vector(self, right: Operand, number: int, at: Reg) -> Reg:
        """Return a vector of the right factor, zeros outside its mask."""
        b, mask = self.b, right.masks[number]
        other = None if mask is None else b.splat(b.bits_const(right.mem.dtype.name, 0), self.lanes)
        place = b.add(at, right.bases[number])
        return b.load_vec(right.mem, place, self.lanes, align=right.align, gate=mask, other=other)

    def _scaled(self, k: Reg, step: int) -> Reg:
        return k if step == 1 else self.b.mul(k, self.e.i32(step))

    def _multiply_add(self, x: Reg, y: Reg, total: Reg) -> Reg:
        if total.type.dtype.name in self.e.features.fma:
            return self.b.fma(x, y, total)
        return self.b.add(self.b.mul(x, y), total)
