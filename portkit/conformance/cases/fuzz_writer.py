"""Random kernels that are valid by construction.

The writer keeps the registers that are in scope by type and draws the next instruction among those that fit:

- an address is masked to the extent of its memory, which is a power of two;
- a lane stores to its own places only, and reads those of others in shared memory between two barriers;
- whatever synchronises is written in uniform flow only: outside of loops whose count differs between lanes;
- nothing is drawn whose result the spec leaves open, so that every output is determined: under `fast` no float max or
  min (the sign of zero), no float reduction by add or mul, no native math; bits of a float only once NaN is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from portkit.conformance.cases.draws import Draws
from portkit.conformance.cases.writing import Writer
from portkit.contract import Capabilities
from portkit.spec.builder import Mem, Reg
from portkit.spec.forms import FORMS
from portkit.spec.kernel import Kernel, Numeric
from portkit.spec.types import BOOL, DTYPES, I32, DType, Type

T = TypeVar("T")
EXTENT = 64
"""Elements of every input buffer; a power of two, so that a mask keeps an index inside."""
GROUP_SIZES = (1, 7, 16, 32, 33, 64)
MAX_DEPTH = 3
OUTPUTS = 2
"""Results that are stored as they are; with the digest and the inputs at most eight buffers (Spec: limit_c1)."""
DIGESTED = 24
_WORDS_PER_REFILL = 256


class Dice:
    """Small decisions from the stream of a case."""

    def __init__(self, case_id: str) -> None:
        self._draws = Draws(case_id)
        self._left: list[int] = []

    def below(self, count: int) -> int:
        """Return a number from 0 to count - 1."""
        if not self._left:
            self._left = [int(word) for word in self._draws.words(_WORDS_PER_REFILL)]
        return self._left.pop() % count

    def one_of(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def chance(self, percent: int) -> bool:
        return self.below(100) < percent


@dataclass(frozen=True, slots=True)
class Palette:
    """What the kernels of one device may use: dtypes, lane counts, forms by extension, natives by dtype."""

    dtypes: tuple[DType, ...]
    lanes: tuple[int, ...]
    extensions: frozenset[str]
    strict: bool
    atomics: tuple[str, ...] = ()
    """Kinds of atomics on i32."""

    @classmethod
    def base(cls) -> Palette:
        """What every device has."""
        return cls(tuple(d for d in DTYPES.values() if d.base), (1,), frozenset(), strict=False)

    @classmethod
    def declared(cls, capabilities: Capabilities) -> Palette:
        """What one device declares; f8 has no arithmetic and is left out, and of math only trunc is exact."""
        dtypes = tuple(d for n, d in DTYPES.items() if n in capabilities.dtypes and not n.startswith("f8"))
        atomics = tuple(k for k in ("add", "max", "min") if "i32" in capabilities.atomic.get(k, ()))
        rounds = all(d.name in capabilities.math.get("trunc", ()) for d in dtypes if d.is_float)
        extensions = frozenset(e for e in capabilities.extensions if e != "math" or rounds)
        kinds = atomics if "atomic" in extensions else ()
        return cls(dtypes, capabilities.lane_counts(), extensions, capabilities.numeric.strict, kinds)


@dataclass(slots=True)
class Scope:
    """The registers that are visible, by type, innermost last."""

    levels: list[dict[Type, list[Reg]]] = field(default_factory=lambda: [{}])

    def add(self, reg: Reg) -> None:
        self.levels[-1].setdefault(reg.type, []).append(reg)

    def of(self, type_: Type) -> list[Reg]:
        return [reg for level in self.levels for reg in level.get(type_, ())]

    def types(self, accept: Callable[[Type], bool]) -> list[Type]:
        """The types of visible registers, in the order in which they first appeared."""
        return [t for t in dict.fromkeys(t for level in self.levels for t in level) if accept(t)]


class KernelWriter:
    """Writes one random kernel."""

    def __init__(self, case_id: str, palette: Palette) -> None:
        self.dice = Dice(case_id)
        self.palette = palette
        numeric: Numeric = "strict" if palette.strict and self.dice.chance(60) else "fast"
        self.strict = numeric == "strict"
        self.w = Writer("fuzz", numeric)
        self.scope = Scope()
        self.lanes = self.dice.one_of(GROUP_SIZES)
        self.uniform: bool = True
        self.depth = 0
        self.stages: dict[DType, Mem] = {}
        self.steps = self._steps()

    def write(self) -> Kernel:
        """Return the kernel: header, loads, a random body, stores of what was computed last."""
        w = self.w
        size, groups = w.scalar("n", "i32"), w.scalar("groups", "i32")
        floats = w.scalar("f", "f32")
        self.sources = {d: w.buffer(f"in_{d}", d.name, EXTENT, "read") for d in self._sample_dtypes()}
        self.bins = w.buffer("bins", "i32", 16, "readwrite") if self.palette.atomics else None
        self.atomic = self.dice.one_of(self.palette.atomics) if self.bins else ""
        self.group = w.grid(groups)
        self.lane = w.lane(self.lanes)
        self.item = w.index(self.group, self.lanes, self.lane)
        self.inside = w.lt(self.item, size)
        for reg in (size, floats, self.group, self.lane, self.item, self.inside):
            self.scope.add(reg)
        for dtype in self.sources:
            self._load_of(dtype)
        self._block(8 + self.dice.below(16))
        self._store_results()
        return w.build()

    def _sample_dtypes(self) -> list[DType]:
        """i32, f32 and up to three others; a launch has at most eight buffers in the base."""
        others = [d for d in self.palette.dtypes if d.name not in ("bool", "i32", "f32")]
        chosen = {DTYPES["i32"]: None, DTYPES["f32"]: None}
        while others and len(chosen) < 2 + min(2, len(others)):
            chosen[self.dice.one_of(others)] = None
        return list(chosen)

    # --- drawing --------------------------------------------------------------------------------------------------

    def _steps(self) -> list[Callable[[], None]]:
        """The kinds of steps, those that matter more several times."""
        steps = [self._arithmetic] * 8 + [self._select] * 3 + [self._convert] * 3 + [self._load] * 2
        steps += [self._constant] * 2 + [self._loop] * 3 + [self._exchange] * 2 + [self._async]
        if "vec" in self.palette.extensions:
            steps += [self._vector] * 4
        if "group" in self.palette.extensions:
            steps += [self._group_fold]
        if self.palette.atomics:
            steps += [self._atomic_store]
        return steps

    def _block(self, length: int) -> None:
        for _ in range(length):
            self.dice.one_of(self.steps)()

    def _pick(self, type_: Type) -> Reg:
        """A visible register of a type; the most recent ones more often."""
        found = self.scope.of(type_)
        if not found:
            return self.w.splat(self.w.const(type_.dtype.name, self.dice.below(2)), type_.lanes)
        return found[-1 - self.dice.below(min(3, len(found)))] if self.dice.chance(60) else self.dice.one_of(found)

    def _keep(self, reg: Reg) -> None:
        self.scope.add(reg)

    def _some_type(self, accept: Callable[[Type], bool]) -> Type | None:
        types = self.scope.types(accept)
        return self.dice.one_of(types) if types else None

    # --- steps ----------------------------------------------------------------------------------------------------

    def _arithmetic(self) -> None:
        type_ = self._some_type(lambda t: True)
        assert type_ is not None
        names = self._fitting(type_)
        name = self.dice.one_of(names)
        count = {"mul.add": 3, "mov.trunc": 1}.get(name, 2)
        self._keep(self.w.op(name, *(self._pick(type_) for _ in range(count))))

    def _fitting(self, type_: Type) -> list[str]:
        """The elementwise forms that take a type and whose result is determined."""
        dtype = type_.dtype
        names = [n for n in _ELEMENTWISE if dtype in FORMS[n].dtypes("T") and self._allowed(n)]
        if dtype.is_float and not self.strict:
            names = [n for n in names if n not in ("reduce.max", "reduce.min")]
        return names

    def _allowed(self, name: str) -> bool:
        extension = FORMS[name].extension
        return not extension or extension in self.palette.extensions

    def _select(self) -> None:
        compared = self._some_type(lambda t: True)
        assert compared is not None
        chosen = self._some_type(lambda t: t.lanes == compared.lanes)
        assert chosen is not None
        name = self.dice.one_of(("phi.lt", "phi.eq"))
        a, b, x, y = self._pick(compared), self._pick(compared), self._pick(chosen), self._pick(chosen)
        self._keep(self.w.op(name, a, b, x, y))
        if self.dice.chance(40):
            self._keep(self.w.lt(a, b))

    def _convert(self) -> None:
        type_ = self._some_type(lambda t: t.dtype != BOOL)
        assert type_ is not None
        target = self.dice.one_of([d for d in self.palette.dtypes if d != BOOL])
        value = self._pick(type_)
        if target.bits == type_.dtype.bits and self.dice.chance(50):
            self._keep(self.w.bits(self._without_nan(value), type_.with_dtype(target)))
        else:
            self._keep(self.w.cast(value, type_.with_dtype(target)))

    def _without_nan(self, value: Reg) -> Reg:
        """The value, or one where it is NaN: the bits of a NaN that arithmetic made are open."""
        return self.w.eq(value, value, value, self.w.like(value, 1)) if value.type.dtype.is_float else value

    def _constant(self) -> None:
        dtype = self.dice.one_of(self.palette.dtypes)
        value: int | float = self.dice.below(2)
        if dtype.is_float:
            value = (self.dice.below(64) - 32) / 8
        elif dtype.is_int:
            value = self.dice.below(16) + (dtype.min_int if self.dice.chance(20) else 0)
        self._keep(self.w.const(dtype.name, value))

    def _index(self, lanes: int = 1) -> Reg:
        """An index inside every input buffer, from any i32 register."""
        return self.w.band(self._pick(Type(I32, lanes)), EXTENT - 1)

    def _load(self) -> None:
        self._load_of(self.dice.one_of(list(self.sources)))

    def _load_of(self, dtype: DType) -> None:
        gate = other = None
        if self.dice.chance(40):
            gate, other = self._pick(Type(BOOL)), self._pick(Type(dtype))
        self._keep(self.w.load(self.sources[dtype], self._index(), gate=gate, other=other))

    def _loop(self) -> None:
        """A serial loop with carries: a literal count, one from the work-group, or one that differs between lanes."""
        if self.depth >= MAX_DEPTH:
            return
        kind = self.dice.below(3)
        count: Reg | int = self.dice.below(4)
        if kind:
            count = self.w.plus(self.w.band(self.group if kind == 1 else self._pick(Type(I32)), 3), -self.dice.below(2))
        types = [self._some_type(lambda t: True) for _ in range(self.dice.below(4))]
        carried = {f"c{k}": self._pick(t) for k, t in enumerate(types) if t is not None}
        outer = self.uniform
        self.uniform, self.depth = outer and kind != 2, self.depth + 1
        with self.w.serial(count, **carried) as loop:
            self.scope.levels.append({})
            for reg in (loop.index, *loop.carries.values()):
                self._keep(reg)
            self._block(2 + self.dice.below(6))
            loop.next(**{name: self._pick(reg.type) for name, reg in loop.carries.items()})
            self.scope.levels.pop()
        self.uniform, self.depth = outer, self.depth - 1
        for reg in loop.carries.values():
            self._keep(reg)

    # --- cooperation ----------------------------------------------------------------------------------------------

    def _stage(self, dtype: DType) -> Mem:
        if dtype not in self.stages:
            self.stages[dtype] = self.w.shared(f"stage_{dtype}", dtype.name, self.lanes)
        return self.stages[dtype]

    def _exchange(self) -> None:
        """Every lane writes its own place, all meet, each reads another's, all meet again."""
        type_ = self._some_type(lambda t: t.lanes == 1 and t.dtype in _STORED)
        if not self.uniform or type_ is None:
            return
        w, stage = self.w, self._stage(type_.dtype)
        w.store(stage, self.lane, self._pick(type_))
        w.barrier()
        moved = w.plus(self.lane, self.dice.below(self.lanes))
        place = w.lt(moved, w.i32(self.lanes), moved, w.plus(moved, -self.lanes))
        self._keep(w.load(stage, place))
        w.barrier()

    def _async(self) -> None:
        """An asynchronous copy of one element to the lane's own place, other work, then the wait."""
        if not self.uniform:
            return
        dtype = self.dice.one_of([d for d in self.sources if d in _STORED])
        stage = self._stage(dtype)
        token = self.w.async_copy(stage, self.lane, self.sources[dtype], self._index(), 1)
        for _ in range(self.dice.below(3)):
            self._arithmetic()
        self.w.wait(token)
        self._keep(self.w.load(stage, self.lane))

    def _group_fold(self) -> None:
        type_ = self._some_type(lambda t: bool(self._folds(t, "reduce.group.")))
        if self.uniform and type_ is not None:
            self._keep(self.w.op(self.dice.one_of(self._folds(type_, "reduce.group.")), self._pick(type_)))

    def _folds(self, type_: Type, family: str) -> list[str]:
        """Reductions of a family with one possible result: any for integers, none of the free ones for floats."""
        names = [f.name for f in FORMS.values() if f.name.startswith(family) and type_.dtype in f.dtypes("T")]
        return [] if type_.dtype.is_float and not self.strict else names

    def _atomic_store(self) -> None:
        assert self.bins is not None
        place = self.w.band(self._pick(Type(I32)), 15)
        gate = self.w.both(self.inside, self._pick(Type(BOOL)))
        self.w.op(f"store.atomic.{self.atomic}", place, self._pick(Type(I32)), mems=(self.bins,), gate=gate)

    # --- vectors --------------------------------------------------------------------------------------------------

    def _vector(self) -> None:
        self.dice.one_of(
            (self._splat, self._pack, self._take_lane, self._vector_fold, self._vector_load, self._gather)
        )()

    def _width(self) -> int:
        return self.dice.one_of(self.palette.lanes[1:])

    def _splat(self) -> None:
        type_ = self._some_type(lambda t: t.lanes == 1)
        assert type_ is not None
        self._keep(self.w.splat(self._pick(type_), self._width()))

    def _pack(self) -> None:
        type_ = self._some_type(lambda t: t.lanes == 1)
        assert type_ is not None
        self._keep(self.w.op("mov.pack", *(self._pick(type_) for _ in range(self._width()))))

    def _take_lane(self) -> None:
        type_ = self._some_type(lambda t: t.lanes > 1)
        if type_ is not None:
            self._keep(self.w.op("mov.lane", self._pick(type_), imms=(self.dice.below(type_.lanes),)))

    def _vector_fold(self) -> None:
        type_ = self._some_type(lambda t: t.lanes > 1 and bool(self._folds(t, "reduce.vec.")))
        if type_ is not None:
            self._keep(self.w.op(self.dice.one_of(self._folds(type_, "reduce.vec.")), self._pick(type_)))

    def _vector_load(self) -> None:
        """Contiguous elements; the mask leaves room for the vector at the end."""
        dtype, lanes = self.dice.one_of(list(self.sources)), self._width()
        start = self.w.minimum(self._index(), EXTENT - lanes)
        self._keep(self.w.load_vec(self.sources[dtype], start, lanes))

    def _gather(self) -> None:
        dtype, lanes = self.dice.one_of(list(self.sources)), self._width()
        self._keep(self.w.load(self.sources[dtype], self._index(lanes)))

    # --- results --------------------------------------------------------------------------------------------------

    def _store_results(self) -> None:
        """Store the youngest registers, each to a buffer of its own, as something of at least 32 bits."""
        found = [reg for level in self.scope.levels for regs in level.values() for reg in regs[-2:]]
        chosen = dict.fromkeys(self.dice.one_of(found) for _ in range(OUTPUTS))
        for number, reg in enumerate(chosen):
            value = self._storable(reg)
            out = self.w.buffer(f"out{number}", value.type.dtype.name, "n", "write")
            self.w.store(out, self.item, value, gate=self.inside)
        out = self.w.buffer("digest", "i32", "n", "write")
        self.w.store(out, self.item, self._digest(), gate=self.inside)

    def _digest(self) -> Reg:
        """The visible 32-bit registers folded into one number, so that little of the kernel is dead."""
        words = [
            reg for t in self.scope.types(lambda t: t.lanes == 1 and t.bits == I32.bits) for reg in self.scope.of(t)
        ]
        total = self.w.i32(1)
        for reg in words[-DIGESTED:]:
            total = self.w.add(self.w.times(total, 31), self.w.bits(self._without_nan(reg), "i32"))
        return total

    def _storable(self, reg: Reg) -> Reg:
        if reg.type.lanes > 1:
            reg = self.w.op("mov.lane", reg, imms=(self.dice.below(reg.type.lanes),))
        dtype = reg.type.dtype
        if dtype == BOOL:
            return self.w.count_if(reg)
        if dtype in _STORED:
            return reg
        return self.w.cast(reg, "f32" if dtype.is_float else "i32")


_STORED = frozenset(d for d in DTYPES.values() if d.bits >= I32.bits)
"""Dtypes that fill whole words, so that a lane owns what it stores."""
_ELEMENTWISE = (
    *("add", "mul", "mul.hi", "mul.shl", "mul.shr", "mul.add", "mov.trunc"),
    *(f"reduce.{kind}" for kind in ("max", "min", "and", "or", "xor")),
)
