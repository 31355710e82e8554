"""Random valid kernels of loops, barriers, carries and reductions, to stretch the lane serialiser.

Each lane owns one slot of a shared array; it reads a neighbour's only between two barriers. Loops that contain a
barrier have uniform counts, others may differ per lane. All arithmetic is on integers, so that every bit is determined.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from portkit.reference.generator import Stream, stream
from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.kernel import Kernel

GROUPS = 3
_OPS = ("add", "mul", "reduce.max", "reduce.xor", "mul.hi", "mul.shr")
_REDUCTIONS = ("add", "max", "xor", "mul")


@dataclass
class _Scope:
    """Registers in scope: those that are the same in all lanes, and all."""

    uniform: list[Reg]
    all: list[Reg] = field(default_factory=list[Reg])

    def copy(self) -> _Scope:
        return _Scope(list(self.uniform), list(self.all))


class _Writer:
    def __init__(self, seed: int) -> None:
        self.draw: Stream = stream(f"structured/{seed}")
        self.b = Builder("structured", "strict")
        self.shapes = [(5,), (8,), (3, 4), (1,), (33,), (2, 3, 2)][seed % 6]
        self.lanes = 1
        for count in self.shapes:
            self.lanes *= count
        cells = GROUPS * self.lanes
        self.source: Mem = self.b.buffer("source", "i32", cells, "read")
        self.out: Mem = self.b.buffer("out", "i32", 64 * cells, "write")
        self.cells: Mem = self.b.shared("cells", "i32", self.lanes)
        self.stored = 0

    def pick(self, count: int) -> int:
        return int(self.draw.bits(1)[0]) % count

    def const(self, value: int) -> Reg:
        return self.b.const("i32", value)

    def kernel(self) -> Kernel:
        b = self.b
        group = b.grid(GROUPS)
        self.number = self.const(0)
        for count in self.shapes:
            self.number = b.add(b.mul(self.number, self.const(count)), b.lane(count))
        self.item = b.add(b.mul(group, self.const(self.lanes)), self.number)
        first = b.load(self.source, self.item)
        b.store(self.cells, self.number, first)
        scope = _Scope([group, self.const(7)], [group, self.number, first])
        self.block(scope, depth=0, may_meet=True)
        for value in scope.all[-4:]:
            self.keep(value)
        return b.build()

    def block(self, scope: _Scope, depth: int, *, may_meet: bool) -> None:
        for _ in range(2 + self.pick(4)):
            choices = [self.arithmetic, self.arithmetic, self.uniform_arithmetic]
            choices += [self.meet, self.reduce] if may_meet else []
            choices += [self.loop_of_lanes] if depth < 3 else []
            choices += [self.loop_of_group, self.loop_of_group] if may_meet and depth < 3 else []
            choices[self.pick(len(choices))](scope, depth)

    def arithmetic(self, scope: _Scope, depth: int) -> None:
        a, c = (scope.all[self.pick(len(scope.all))] for _ in range(2))
        scope.all.append(self.b.op(_OPS[self.pick(len(_OPS))], a, c))

    def uniform_arithmetic(self, scope: _Scope, depth: int) -> None:
        a, c = (scope.uniform[self.pick(len(scope.uniform))] for _ in range(2))
        made = self.b.op(_OPS[self.pick(len(_OPS))], a, c)
        scope.uniform.append(made)
        scope.all.append(made)

    def reduce(self, scope: _Scope, depth: int) -> None:
        kind = _REDUCTIONS[self.pick(len(_REDUCTIONS))]
        made = self.b.op(f"reduce.group.{kind}", scope.all[self.pick(len(scope.all))])
        scope.uniform.append(made)
        scope.all.append(made)

    def meet(self, scope: _Scope, depth: int) -> None:
        """Publish a value, meet, read the neighbour's, meet."""
        b = self.b
        b.store(self.cells, self.number, scope.all[self.pick(len(scope.all))])
        b.barrier()
        after = b.add(self.number, self.const(1))
        around = b.eq(after, self.const(self.lanes), self.const(0), after)
        scope.all.append(b.load(self.cells, around))
        b.barrier()

    def loop_of_group(self, scope: _Scope, depth: int) -> None:
        self.loop(scope, depth, self.small(scope.uniform), meets=True)

    def loop_of_lanes(self, scope: _Scope, depth: int) -> None:
        self.loop(scope, depth, self.small(scope.all), meets=False)

    def small(self, registers: list[Reg]) -> Reg:
        """A count from 0 to 3 made of a register."""
        return self.b.op("reduce.and", registers[self.pick(len(registers))], self.const(3))

    def loop(self, scope: _Scope, depth: int, count: Reg, *, meets: bool) -> None:
        b = self.b
        some = scope.all[self.pick(len(scope.all))]
        same = scope.uniform[self.pick(len(scope.uniform))]
        names = [f"p{len(b._names)}", f"q{len(b._names)}", f"r{len(b._names)}"]
        with b.serial(count, **{names[0]: some, names[1]: same, names[2]: self.number}) as loop:
            inner = scope.copy()
            inner.all += [loop.index, *loop.carries.values()]
            if meets:
                inner.uniform += [loop.index, loop[names[1]]]
            self.block(inner, depth + 1, may_meet=meets)
            uniform = inner.uniform[self.pick(len(inner.uniform))]
            loop.next(**{names[0]: inner.all[self.pick(len(inner.all))], names[1]: uniform, names[2]: loop[names[0]]})
        scope.all += loop.carries.values()
        if meets:
            scope.uniform.append(loop[names[1]])

    def keep(self, value: Reg) -> None:
        at = self.b.add(self.item, self.const(self.stored * GROUPS * self.lanes))
        self.b.store(self.out, at, value)
        self.stored += 1


def structured_kernel(seed: int) -> Kernel:
    """A kernel with buffers `source` and `out`."""
    return _Writer(seed).kernel()
