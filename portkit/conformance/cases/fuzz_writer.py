"""Random kernels that are valid by construction.

The writer keeps the registers that are in scope by type and draws the next instruction among those that fit; between
these it writes the *goals* of the kernel, the cells that it must contain (see `fuzz_goals`):

- an address is masked to the extent of its memory, which is a power of two;
- a lane stores to its own places only, and reads those of others in shared memory between two barriers;
- whatever synchronises is written in uniform flow only: outside of loops whose count differs between lanes;
- a result that the spec leaves open is *loose*: it is stored as a float, at most one operation later, and never enters
  the scope, so that no integer, address, count or comparison depends on it; bits of a float are taken only once NaN is
  replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from math import prod

from portkit.conformance.case import Cell
from portkit.conformance.cases import fuzz_forms as forms
from portkit.conformance.cases.fuzz_goals import Goal, goals_of
from portkit.conformance.cases.fuzz_palette import EXTENT, Dice, Palette, Scope
from portkit.conformance.cases.fuzz_results import Results
from portkit.conformance.cases.writing import Writer
from portkit.spec.builder import Mem, Reg, SerialLoop
from portkit.spec.forms import FORMS
from portkit.spec.kernel import Kernel, Numeric
from portkit.spec.types import BOOL, DTYPES, F32, I32, DType, Type

GROUPS = ((1,), (7,), (16,), (32,), (33,), (64,), (4, 8), (16, 2), (2, 3, 4))
"""Work-group sizes, by lane loop."""
GRIDS = ((), (), (1,), (2,), (2, 1))
"""Literal counts of the grid loops around the one that is a scalar."""
PAD_BYTES = 6 * 1024
MAX_DEPTH = 3
_SMALL = 127
_LOOPS = {
    "loop": ("literal",),
    "counted": ("counted",),
    "nested": ("literal", "counted"),
    "divergent": ("lanes",),
    "carried": ("literal",),
}
"""The loops around a goal, by context."""


class KernelWriter:
    """Writes one random kernel."""

    def __init__(self, case_id: str, palette: Palette) -> None:
        self.dice = Dice(case_id)
        self.palette = palette
        self.goals = goals_of(palette, int(case_id.rpartition("/")[2]))
        free = any(forms.needs_fast(goal.cell) for goal in self.goals)
        numeric: Numeric = "strict" if palette.strict and self.dice.chance(50) and not free else "fast"
        self.strict = numeric == "strict"
        self.w = Writer("fuzz", numeric)
        self.scope = Scope()
        self.focus = DTYPES[self.goals[0].cell.dtype]
        self.row = _row(self.goals)
        self.lanes = self.dice.one_of([g for g in GROUPS if prod(g) * self.row * self.focus.bytes <= PAD_BYTES])
        self.size = prod(self.lanes)
        self.uniform: bool = True
        self.gated = False
        self.depth = 0
        self.forced: Reg | None = None
        self.shared: dict[str, Mem] = {}
        self.atomics: dict[str, Mem] = {}
        self.steps = self._steps()

    def write(self) -> Kernel:
        """Return the kernel: header, loads, random steps with the goals between them, stores of what they made."""
        w = self.w
        size, groups, floats = w.scalar("n", "i32"), w.scalar("groups", "i32"), w.scalar("f", "f32")
        chosen = dict.fromkeys((I32, F32, *((self.focus,) if self.focus != BOOL else ())))
        self.sources = {d: w.buffer(f"in_{d}", d.name, EXTENT, "read") for d in chosen}
        self.results = Results(self)
        grids = (*self.dice.one_of(GRIDS), groups)
        self.group = self._linear([w.grid(count) for count in grids], grids)
        self.lane = self._linear([w.lane(count) for count in self.lanes], self.lanes)
        self.item = w.index(self.group, self.size, self.lane)
        self.inside = w.lt(self.item, size)
        self.results.begin()
        for reg in (size, floats, self.group, self.lane, self.item, self.inside):
            self.scope.add(reg)
        for dtype in self.sources:
            self._load_of(dtype)
        for goal in self.goals:
            self.block(self.dice.below(3))
            self._write_goal(goal)
        self.block(4 + self.dice.below(8))
        self.results.digest()
        return w.build()

    def _linear(self, indices: Sequence[Reg], counts: Sequence[int | Reg]) -> Reg:
        """Return the linear number of a nest of loops: the last one counts fastest."""
        linear = indices[0]
        for index, count in zip(indices[1:], counts[1:], strict=True):
            linear = self.w.index(linear, count, index)
        return linear

    # --- goals ----------------------------------------------------------------------------------------------------

    def _write_goal(self, goal: Goal) -> None:
        """Write a cell in its context, as near to it as what synchronises and the depth allow."""
        context = goal.context
        if context == "divergent" and forms.synchronises(goal.cell):
            context = "counted"
        if context == "barrier":
            self.exchange()
        self.gated = context == "gated"
        type_ = forms.operand_type(goal.cell)
        if context == "literal" and type_ is not None:
            self.forced = self.literal(type_)
        loops = _LOOPS.get(context, ())
        if forms.has_result(goal.cell) and not {"counted", "lanes"}.isdisjoint(loops):
            self.results.clear(forms.is_free(goal.cell, self.strict))
        self._within(loops, goal.cell, type_ if context == "carried" else None)
        self.gated, self.forced = False, None

    def _within(self, loops: Sequence[str], cell: Cell, carried: Type | None) -> None:
        if not loops:
            self._write_cell(cell)
            return
        with self.looped(loops[0], [self.value(carried)] if carried else []) as loop:
            self.forced = loop.carries.get("c0")
            self._within(loops[1:], cell, None)
            loop.next(**{name: self.other(reg.type, reg) for name, reg in loop.carries.items()})

    def _write_cell(self, cell: Cell) -> None:
        made = forms.write_cell(self, cell)
        if made is None:
            return
        if forms.is_free(cell, self.strict):
            self.results.loose(made)
        else:
            self.results.keep(made)
            if not (cell.form == "mov.cast" and cell.dtype.startswith("f8")):  # the bits of its NaN are open
                self.keep(made)

    # --- drawing --------------------------------------------------------------------------------------------------

    def _steps(self) -> list[Callable[[], None]]:
        """The kinds of steps, those that matter more several times."""
        steps = [self.arithmetic] * 8 + [self._select] * 3 + [self._convert] * 3 + [self._load] * 2
        steps += [self._constant] * 2 + [self._loop] * 3 + [self._exchange] * 2 + [self._copy, self._ring, self._fence]
        if "vec" in self.palette.extensions:
            steps += [self._vector] * 4
        if "group" in self.palette.extensions:
            steps += [self._group_fold]
        return steps

    def block(self, length: int) -> None:
        """Write random steps."""
        for _ in range(length):
            self.dice.one_of(self.steps)()

    def value(self, type_: Type) -> Reg:
        """Return a visible register of a type, the most recent ones more often; where there is none, make one."""
        if self.forced is not None and self.forced.type == type_:
            forced, self.forced = self.forced, None
            return forced
        found = self.scope.of(type_)
        if not found:
            return self._made(type_)
        return found[-1 - self.dice.below(min(3, len(found)))] if self.dice.chance(60) else self.dice.one_of(found)

    def other(self, type_: Type, than: Reg) -> Reg:
        """Return a register of a type that is another one than the given, if there is one."""
        found = [reg for reg in self.scope.of(type_) if reg != than]
        return self.dice.one_of(found) if found else self._made(type_)

    def _made(self, type_: Type) -> Reg:
        dtype = type_.dtype
        if type_.lanes > 1:
            made = self.w.op("mov.pack", *(self.value(type_.scalar) for _ in range(type_.lanes)))
        elif dtype == BOOL:
            made = self.w.lt(self.value(Type(I32)), self.value(Type(I32)))
        elif dtype in self.sources:
            made = self.w.load(self.sources[dtype], self.index())
        else:
            made = self.w.cast(self.w.band(self.value(Type(I32)), _SMALL), type_)
        self.keep(made)
        return made

    def literal(self, type_: Type) -> Reg:
        """Return a constant of a type: small, at times the least integer."""
        dtype = type_.dtype
        value: int | float = self.dice.below(2)
        if dtype.is_float:
            value = (self.dice.below(64) - 32) / 8
        elif dtype.is_int:
            value = self.dice.below(16) + (dtype.min_int if self.dice.chance(20) else 0)
        return self.w.splat(self.w.const(dtype.name, value), type_.lanes)

    def keep(self, reg: Reg) -> None:
        """Put a register into the scope."""
        self.scope.add(reg)

    def some_type(self, accept: Callable[[Type], bool]) -> Type | None:
        """Return the type of some visible register."""
        types = self.scope.types(accept)
        return self.dice.one_of(types) if types else None

    def without_nan(self, value: Reg) -> Reg:
        """Return the value, or one where it is NaN: the bits of a NaN that arithmetic made are open."""
        dtype = value.type.dtype
        if not dtype.is_float or dtype.name.startswith("f8"):  # of f8 only what is loaded or finite has its bits taken
            return value
        return self.w.eq(value, value, value, self.w.like(value, 1))

    def index(self, lanes: int = 1) -> Reg:
        """Return an index inside every input buffer, from any i32 register."""
        return self.w.band(self.value(Type(I32, lanes)), EXTENT - 1)

    # --- steps ----------------------------------------------------------------------------------------------------

    def _random_type(self, accept: Callable[[Type], bool] = lambda t: True) -> Type | None:
        return self.some_type(lambda t: not t.dtype.name.startswith("f8") and accept(t))

    def _any_type(self) -> Type:
        return self._random_type() or Type(I32)

    def arithmetic(self) -> None:
        """Write one elementwise step, which touches no memory but what is read only."""
        type_ = self._any_type()
        name = self.dice.one_of(self._fitting(type_))
        count = {"mul.add": 3, "mov.trunc": 1}.get(name, 2)
        self.keep(self.w.op(name, *(self.value(type_) for _ in range(count))))

    def _fitting(self, type_: Type) -> list[str]:
        """The elementwise forms that take a type and whose result is determined."""
        dtype = type_.dtype
        names = [n for n in _ELEMENTWISE if dtype in FORMS[n].dtypes("T") and self._allowed(n, dtype)]
        if dtype.is_float and not self.strict:
            names = [n for n in names if n not in ("reduce.max", "reduce.min")]
        return names

    def _allowed(self, name: str, dtype: DType) -> bool:
        extension = FORMS[name].extension
        if name == "mov.trunc":
            return self.palette.truncates(dtype)
        return not extension or extension in self.palette.extensions

    def _select(self) -> None:
        compared = self._any_type()
        chosen = self._random_type(lambda t: t.lanes == compared.lanes) or compared
        a, b, x, y = (self.value(t) for t in (compared, compared, chosen, chosen))
        self.keep(self.w.op(self.dice.one_of(("phi.lt", "phi.eq")), a, b, x, y))
        if self.dice.chance(40):
            self.keep(self.w.lt(a, b))

    def _convert(self) -> None:
        type_ = self._random_type(lambda t: t.dtype != BOOL) or Type(I32)
        target = self.dice.one_of([d for d in self.palette.arithmetic if d != BOOL])
        value = self.value(type_)
        if target.bits == type_.dtype.bits and self.dice.chance(50):
            self.keep(self.w.bits(self.without_nan(value), type_.with_dtype(target)))
        else:
            self.keep(self.w.cast(value, type_.with_dtype(target)))

    def _constant(self) -> None:
        self.keep(self.literal(Type(self.dice.one_of(self.palette.arithmetic))))

    def _load(self) -> None:
        self._load_of(self.dice.one_of(list(self.sources)))

    def _load_of(self, dtype: DType) -> None:
        gate = other = None
        if self.dice.chance(40):
            gate, other = self.value(Type(BOOL)), self.value(Type(dtype))
        self.keep(self.w.load(self.sources[dtype], self.index(), gate=gate, other=other))

    def _fence(self) -> None:
        self.w.op(self.dice.one_of(("fence.group", "fence.device")))

    # --- loops ----------------------------------------------------------------------------------------------------

    def _count(self, kind: str) -> Reg | int:
        if kind == "literal":
            return 1 + self.dice.below(3)
        source = self.group if kind == "counted" else self.value(Type(I32))
        return self.w.plus(self.w.band(source, 3), -self.dice.below(2))

    @contextmanager
    def looped(self, kind: str, inits: Sequence[Reg]) -> Generator[SerialLoop]:
        """Open a serial loop: a literal count, one from the work-group (`counted`), or one per lane (`lanes`)."""
        outer, count = self.uniform, self._count(kind)
        self.uniform, self.depth = outer and kind != "lanes", self.depth + 1
        with self.w.serial(count, **{f"c{k}": reg for k, reg in enumerate(inits)}) as loop:
            self.scope.levels.append({})
            for reg in (loop.index, *loop.carries.values()):
                self.keep(reg)
            yield loop
            self.scope.levels.pop()
        self.uniform, self.depth = outer, self.depth - 1
        for reg in loop.carries.values():
            self.keep(reg)

    def _loop(self) -> None:
        if self.depth >= MAX_DEPTH:
            return
        inits = [self.value(self._any_type()) for _ in range(self.dice.below(4))]
        with self.looped(self.dice.one_of(("literal", "counted", "lanes")), inits) as loop:
            self.block(2 + self.dice.below(5))
            loop.next(**{name: self.value(reg.type) for name, reg in loop.carries.items()})

    # --- cooperation ----------------------------------------------------------------------------------------------

    def _array(self, name: str, dtype: DType, extent: int) -> Mem:
        if name not in self.shared:
            self.shared[name] = self.w.shared(name, dtype.name, extent)
        return self.shared[name]

    def pad(self, dtype: DType) -> tuple[Mem, Reg]:
        """Return a shared array, and where the lane's own part of it begins."""
        row = self.row if dtype == self.focus else forms.ROW
        pad = self._array(f"pad_{dtype}", dtype, self.size * row)
        return pad, self.w.times(self.lane, row)

    def bins(self, form: str, dtype: str) -> Mem:
        """Return the buffer of one atomic form."""
        if form not in self.atomics:
            name = f"bins_{FORMS[form].kind}"
            self.atomics[form] = self.w.buffer(name, dtype, forms.BINS, "readwrite")
        return self.atomics[form]

    def exchange(self) -> Reg:
        """Every lane writes its own place, all meet, each reads another's, all meet again."""
        type_ = self._random_type(lambda t: t.lanes == 1 and t.dtype.bits >= I32.bits and t.dtype != BOOL) or Type(I32)
        w, spread = self.w, 1 + self.dice.below(2)
        stage = self._array(f"stage_{type_.dtype}", type_.dtype, 2 * self.size)
        w.store(stage, w.times(self.lane, spread), self.value(type_))
        w.barrier()
        moved = w.plus(self.lane, self.dice.below(self.size))
        other = w.lt(moved, w.i32(self.size), moved, w.plus(moved, -self.size))
        read = w.load(stage, w.times(other, spread))
        self.keep(read)
        w.barrier()
        return read

    def _exchange(self) -> None:
        if self.uniform:
            self.exchange()

    def _copy(self) -> None:
        if self.uniform:
            self.keep(forms.copied(self, self.dice.one_of([d for d in self.sources if not d.name.startswith("f8")])))

    def _ring(self) -> None:
        if self.uniform and self.depth < MAX_DEPTH:
            self.keep(self.ring())

    def ring(self) -> Reg:
        """Return what a loop gathers that waits for one copy and issues the next, its token carried."""
        w = self.w
        dtype = self.dice.one_of([d for d in self.sources if d.bits >= I32.bits])
        (pad, start), first = self.pad(dtype), self.value(Type(dtype))
        token = w.async_copy(pad, start, self.sources[dtype], self.index(), 1)
        with w.serial(self._count("counted"), t=token, v=first) as ring:
            w.wait(ring["t"])
            total = w.add(w.load(pad, start), ring["v"])
            again = w.async_copy(pad, start, self.sources[dtype], w.band(ring.index, EXTENT - 1), 1)
            ring.next(t=again, v=total)
        w.wait(ring["t"])
        return ring["v"]

    def _group_fold(self) -> None:
        type_ = self._random_type(lambda t: bool(self._folds(t, "reduce.group.")))
        if self.uniform and type_ is not None:
            self.keep(self.w.op(self.dice.one_of(self._folds(type_, "reduce.group.")), self.value(type_)))

    def _folds(self, type_: Type, family: str) -> list[str]:
        """Reductions of a family with one possible result: any for integers, none of the free ones for floats."""
        names = [f.name for f in FORMS.values() if f.name.startswith(family) and type_.dtype in f.dtypes("T")]
        return [] if type_.dtype.is_float and not self.strict else names

    # --- vectors --------------------------------------------------------------------------------------------------

    def _vector(self) -> None:
        form = self.dice.one_of(("mov.splat", "mov.pack", "mov.lane", "load.vec", "load.gather", "reduce.vec."))
        if form == "reduce.vec.":
            self._vector_fold()
            return
        type_ = self._random_type(lambda t: t.dtype in self.sources) or Type(I32)
        lanes = self.dice.one_of(self.palette.lanes[1:])
        made = forms.write_cell(self, Cell(form, type_.dtype.name, lanes))
        assert made is not None
        self.keep(made)

    def _vector_fold(self) -> None:
        type_ = self._random_type(lambda t: t.lanes > 1 and bool(self._folds(t, "reduce.vec.")))
        if type_ is not None:
            self.keep(self.w.op(self.dice.one_of(self._folds(type_, "reduce.vec.")), self.value(type_)))


def _row(goals: Sequence[Goal]) -> int:
    """Return how many elements a lane's own part of a shared array has."""
    stored = [goal.cell.lanes for goal in goals if goal.cell.form in ("store.vec", "store.scatter")]
    return -(-max([forms.ROW, *stored]) // forms.ROW) * forms.ROW


_ELEMENTWISE = (
    *("add", "mul", "mul.hi", "mul.shl", "mul.shr", "mul.add", "mov.trunc"),
    *(f"reduce.{kind}" for kind in ("max", "min", "and", "or", "xor")),
)
