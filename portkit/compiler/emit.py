"""Emitting values of a nest as instructions: each once in the scope where it is first needed.

Axes are bound to registers; one axis at a time may be the *vector axis*, whose register holds the index of the first
lane. A value that does not depend on it is a scalar, and is splat only where it meets a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from portkit.compiler.decompose import Features, divide, emit
from portkit.compiler.graph import Node
from portkit.compiler.index import Axis, Expr, Index, Maximum, Minimum, Product, Quotient, Variable, linear
from portkit.compiler.index import Value as IndexValue
from portkit.compiler.nest import Guards, Store, Value, axes_of, indices, operands, subvalues
from portkit.compiler.push import limits
from portkit.errors import HarnessError
from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.types import BOOL, I32, U8, DType, encode, infinity_bits


@dataclass(slots=True)
class Emitter:
    """The kernel under construction, the memory of each stored node, and what is bound and known at this point."""

    b: Builder
    features: Features
    memories: dict[Node, Mem]
    scalars: dict[Expr, Reg] = field(default_factory=dict[Expr, Reg])
    bound: dict[Axis, Reg] = field(default_factory=dict[Axis, Reg])
    depth: dict[Axis, int] = field(default_factory=dict[Axis, int])
    scopes: list[dict[Any, Reg]] = field(default_factory=lambda: [{}])
    vector: Axis | None = None
    lanes: int = 1
    mask: Reg | None = None
    """Which lanes of a ragged vector take part."""

    # --- scopes -----------------------------------------------------------------------------------------------------

    @contextmanager
    def scope(self, **bindings: Any) -> Generator[None]:
        """Forget on exit what was emitted inside; needed around every loop body."""
        self.scopes.append({})
        yield
        self.scopes.pop()

    def bind(self, axis: Axis, register: Reg) -> None:
        """Give an axis its register, for the current scope and those inside."""
        self.bound[axis] = register
        self.depth[axis] = len(self.scopes)

    @contextmanager
    def vectorised(self, axis: Axis | None, lanes: int, mask: Reg | None = None) -> Generator[None]:
        """Make `axis` the vector axis."""
        before = self.vector, self.lanes, self.mask
        self.vector, self.lanes, self.mask = (axis, lanes, mask) if lanes > 1 else (None, 1, mask)
        yield
        self.vector, self.lanes, self.mask = before

    def _known(self, key: Any) -> Reg | None:
        for scope in reversed(self.scopes):
            if key in scope:
                return scope[key]
        return None

    def _once(self, key: Any, make: Callable[[], Reg]) -> Reg:
        found = self._known(key)
        if found is None:
            found = self.scopes[-1][key] = make()
        return found

    def set(self, value: Value, register: Reg) -> None:
        """Record that `value` is in `register` from here on."""
        self.scopes[-1][value] = register

    # --- index expressions --------------------------------------------------------------------------------------------

    def i32(self, number: int) -> Reg:
        return self.b.const("i32", number)

    def index(self, expression: Index) -> Reg:
        """Return an index expression as a scalar; of the first lane where it depends on the vector axis."""
        if not isinstance(expression, Expr):
            return self.i32(expression)
        return self._sum(expression, None)

    def count(self, extent: Index) -> int | Reg:
        """Return an extent as the count of a loop: a literal where it is known."""
        return extent if isinstance(extent, int) else self.index(extent)

    def combine(self, kind: str, a: Reg, b: Reg) -> Reg:
        """Return one step of a fold."""
        return self.b.op(kind if kind in ("add", "mul") else f"reduce.{kind}", a, b)

    def indices(self, expression: Index) -> Reg:
        """Return an index expression as a vector, one for each lane."""
        if self.vector is None or self.vector not in axes_of(expression):
            return self.b.splat(self.index(expression), self.lanes)
        assert isinstance(expression, Expr)
        step = self.step(expression)
        if step is None:
            return self._once((expression, "lanes"), lambda: self._vector_sum(expression))
        return self._once((expression, "lanes"), lambda: self._ramp(self.index(expression), step))

    def step(self, expression: Index) -> int | None:
        """Return by how much an index grows from lane to lane, None where that varies."""
        if self.vector is None or self.vector not in axes_of(expression):
            return 0
        assert isinstance(expression, Expr)
        terms, _ = linear(expression)
        if any(atom is not self.vector and self.vector in axes_of(atom) for atom in terms):
            return None
        return terms.get(self.vector, 0)

    def _ramp(self, start: Reg, step: int) -> Reg:
        ramp = self._once(
            ("ramp", step, self.lanes),
            lambda: self.b.op("mov.pack", *(self.i32(step * lane) for lane in range(self.lanes))),
        )
        return self.b.add(self.b.splat(start, self.lanes), ramp)

    def _terms(self, expression: Expr) -> list[tuple[Expr, int]]:
        terms, _ = linear(expression)
        return sorted(terms.items(), key=lambda t: self._depth_of(t[0]))

    def _depth_of(self, atom: Expr) -> int:
        return max((self.depth.get(a, 0) for a in axes_of(atom)), default=0)

    def _sum(self, expression: Expr, without: frozenset[Axis] | None) -> Reg:
        """Return the sum of the terms, outermost first, each partial sum known; no terms of axes in `without`."""
        total: Reg | None = None
        prefix: tuple[tuple[Expr, int], ...] = ()
        for atom, factor in self._terms(expression):
            if without is not None and axes_of(atom) & without:
                break
            prefix = (*prefix, (atom, factor))
            total = self._once(("sum", prefix), lambda t=total, a=atom, f=factor: self._plus(t, a, f))
        _, constant = linear(expression)
        if without is not None or (constant == 0 and total is not None):
            return total or self.i32(0)
        if total is None:
            return self.i32(constant)
        return self._once((expression, "index"), lambda: self.b.add(total, self.i32(constant)))

    def _plus(self, total: Reg | None, atom: Expr, factor: int) -> Reg:
        term = self._atom(atom)
        if factor != 1:
            term = self._once((atom, factor), lambda: self.b.mul(term, self.i32(factor)))
        return term if total is None else self.b.add(total, term)

    def _atom(self, atom: Expr) -> Reg:
        if isinstance(atom, Axis):
            return self.bound[atom]
        if isinstance(atom, Variable):
            return self.scalars[atom]
        if isinstance(atom, IndexValue):
            return self.value(atom.tag.value)
        return self._once(atom, lambda: self._operation(atom, self.index))

    def _operation(self, atom: Expr, read: Callable[[Index], Reg]) -> Reg:
        """Emit a product, quotient, remainder, minimum or maximum whose operands `read` gives."""
        if isinstance(atom, Product):
            return reduce(self.b.mul, map(read, atom.args))
        if isinstance(atom, Minimum | Maximum):
            kind = "min" if isinstance(atom, Minimum) else "max"
            return self.b.op(f"reduce.{kind}", *map(read, atom.args))
        a, c = atom.args
        x = read(a)
        if isinstance(c, Expr):
            quotient, size = emit(self.b, "idiv", [x, read(c)], I32, self.features), read(c)
        else:
            quotient, size = self._quotient(a, c, x), self._spread(self.i32(c), x)
        if isinstance(atom, Quotient):
            return quotient
        return self.b.add(x, self.b.mul(self.b.mul(quotient, size), self._spread(self.i32(-1), x)))

    def _quotient(self, a: Index, c: int, x: Reg) -> Reg:
        return self._once(("quotient", x.name, c), lambda: divide(self.b, x, c, *limits(a)))

    def _spread(self, x: Reg, like: Reg) -> Reg:
        return self.splat(x) if like.type.lanes > x.type.lanes else x

    def _vector_sum(self, expression: Expr) -> Reg:
        terms, constant = linear(expression)
        total = self.b.splat(self.i32(constant), self.lanes)
        for atom, factor in terms.items():
            term = self._vector_atom(atom)
            scaled = term if factor == 1 else self.b.mul(term, self.splat(self.i32(factor)))
            total = self.b.add(total, scaled)
        return total

    def _vector_atom(self, atom: Expr) -> Reg:
        if self.vector not in axes_of(atom):
            return self.splat(self._atom(atom))
        if isinstance(atom, Axis):
            return self.indices(atom)
        if isinstance(atom, IndexValue):
            return self.splat(self.value(atom.tag.value))
        return self._once((atom, "lanes"), lambda: self._operation(atom, self.indices))

    # --- values -----------------------------------------------------------------------------------------------------

    def splat(self, x: Reg) -> Reg:
        """Return a scalar in all lanes of the vector axis; a vector as it is."""
        if x.type.lanes == self.lanes:
            return x
        return self._once(("splat", x.name, self.lanes), lambda: self.b.splat(x, self.lanes))

    def value(self, root: Value) -> Reg:
        """Return the register of a value, a vector where it depends on the vector axis."""
        stack = [root]
        while stack:
            value = stack[-1]
            if self._known(value) is not None:
                stack.pop()
                continue
            missing = [v for v in operands(value) if self._known(v) is None]
            if missing:
                stack.extend(reversed(missing))
                continue
            self.scopes[-1][value] = self._emit(value)
            stack.pop()
        found = self._known(root)
        assert found is not None
        return found

    def _emit(self, value: Value) -> Reg:
        match value.op:
            case "lit":
                return self.b.bits_const(value.dtype.name, value.attr)
            case "index":
                return self.indices(value.attr) if self._varies(value) else self.index(value.attr)
            case "load":
                return self._load(value)
            case "map":
                return self._map(value)
            case "select":
                return self._select(value)
            case _:
                pass
        raise HarnessError(f"a {value.op} was not computed before its use")

    def _varies(self, value: Value) -> bool:
        return self.vector is not None and self.vector in value.axes

    def _map(self, value: Value) -> Reg:
        arguments = [self.value(a) for a in value.args]
        if any(a.type.lanes > 1 for a in arguments):
            arguments = [self.splat(a) for a in arguments]
        return emit(self.b, value.attr, arguments, value.dtype, self.features)

    def _select(self, value: Value) -> Reg:
        body, other = (self.value(a) for a in value.args)
        wide = self._varies(value)
        holds = self.gate(value.attr, wide)
        if holds is None:
            return body
        if wide:
            body, other, holds = self.splat(body), self.splat(other), self.splat(holds)
        return self.b.eq(holds, self._truth(True, holds), body, other)

    def _truth(self, value: bool, like: Reg) -> Reg:
        truth = self.b.const("bool", value)
        return truth if like.type.lanes == 1 else self.splat(truth)

    def gate(self, guards: Guards, wide: bool) -> Reg | None:
        """Return whether all guards hold, None if they always do; with lanes where `wide` and they vary."""
        total: Reg | None = None
        for expression, low, high in guards:
            vary = wide and (self.vector in axes_of(expression) or self.vector in axes_of(high))
            read = self.indices if vary else self.index
            (smallest, largest), (high_smallest, _) = limits(expression), limits(high)
            if smallest < low:
                total = self._both(total, self._less(read(low - 1), read(expression)))
            if largest > high_smallest:
                total = self._both(total, self._less(read(expression), read(high + 1)))
        return total

    def _less(self, a: Reg, b: Reg) -> Reg:
        return self._once(("less", a.name, b.name), lambda: self.b.lt(a, b))

    def _both(self, a: Reg | None, b: Reg | None) -> Reg | None:
        if a is None or b is None:
            return a or b
        if a.type.lanes != b.type.lanes:
            a, b = self.splat(a), self.splat(b)
        return self._once(("both", a.name, b.name), lambda: self.b.op("reduce.and", a, b))

    # --- memory -----------------------------------------------------------------------------------------------------

    def _load(self, value: Value) -> Reg:
        memory, at, guards, fill = value.attr
        wide = self._varies(value)
        gate = self.gate(guards, wide)
        if wide:
            gate = self._both(gate, self.mask)
        other: Reg | None = None
        if gate is not None:
            dtype = stored_dtype(value.dtype)
            other = self.b.bits_const(dtype.name, fill)
            if wide:
                gate, other = self.splat(gate), self.splat(other)
        return self._from_memory(self.read(self.memories[memory], at, gate, other, wide), value.dtype)

    def read(self, mem: Mem, at: Index, gate: Reg | None, other: Reg | None, wide: bool) -> Reg:
        """Load an element, or one for each lane: contiguous where the index grows by one, else gathered."""
        if not wide:
            return self.b.load(mem, self.index(at), gate, other)
        step = self.step(at)
        if step == 1:
            return self.b.load_vec(mem, self.index(at), self.lanes, gate=gate, other=other)
        if step == 0 and gate is None:
            return self.splat(self.b.load(mem, self.index(at)))
        return self.b.load(mem, self.indices(at), gate, other)

    def _from_memory(self, x: Reg, dtype: DType) -> Reg:
        if dtype is not BOOL:
            return x
        zero = self.b.const(x.type.dtype.name, 0)
        zero = zero if x.type.lanes == 1 else self.splat(zero)
        return self.b.lt(zero, x)

    def store(self, store: Store, value: Reg | None = None, gate: Reg | None = None) -> None:
        """Store the value of `store` at its index."""
        x = self.value(store.value) if value is None else value
        mem = self.memories[store.node]
        if store.value.dtype is BOOL:
            x = self._bool_to_memory(x, mem)
        self.write(mem, store.index, x, gate)

    def _bool_to_memory(self, x: Reg, mem: Mem) -> Reg:
        one, zero = (self.b.const(mem.dtype.name, n) for n in (1, 0))
        if x.type.lanes > 1:
            one, zero = self.splat(one), self.splat(zero)
        return self.b.eq(x, self._truth(True, x), one, zero)

    def write(self, mem: Mem, at: Index, x: Reg, gate: Reg | None = None) -> None:
        """Store an element, or one for each lane."""
        if self.vector is None or self.vector not in axes_of(at):
            self.b.store(mem, self.index(at), x, gate)
            return
        x, gate = self.splat(x), self._both(gate, self.mask)
        gate = None if gate is None else self.splat(gate)
        if self.step(at) == 1:
            self.b.store_vec(mem, self.index(at), x, gate=gate)
        else:
            self.b.store(mem, self.indices(at), x, gate)

    # --- ahead of loops -----------------------------------------------------------------------------------------------

    def hoist(self, roots: Iterable[Value], inner: frozenset[Axis], at: Sequence[Index] = ()) -> None:
        """Emit what `roots` and the indices `at` need and what no axis in `inner` changes, before their loops open."""
        waiting: set[Value] = set()
        for value in subvalues(roots, lambda v: self._known(v) is not None):
            if value.op == "fold" or not waiting.isdisjoint(operands(value)):
                waiting.add(value)  # a fold that is yet to be computed, and what needs it
            elif not value.axes & inner:
                if value.op != "lit":
                    self.value(value)
            else:
                for expression in indices(value):
                    self._hoist_index(expression, inner)
        for expression in at:
            self._hoist_index(expression, inner)

    def _hoist_index(self, expression: Index, inner: frozenset[Axis]) -> None:
        if isinstance(expression, Expr) and axes_of(expression) & inner:
            self._sum(expression, inner)


def stored_dtype(dtype: DType) -> DType:
    """Return the dtype of a node's elements in memory: a bool is stored as a u8 of 0 or 1."""
    return U8 if dtype is BOOL else dtype


def identity_bits(kind: str, dtype: DType) -> int:
    """Return the bit pattern of the value that changes nothing in a fold; -0.0 for float sums."""
    if kind in ("and", "or"):
        return (1 if dtype is BOOL else (1 << dtype.bits) - 1) if kind == "and" else 0
    if kind == "mul":
        return encode(dtype, 1)
    if kind == "add":
        return 1 << (dtype.bits - 1) if dtype.is_float else 0
    if dtype.is_float:
        sign = 1 << (dtype.bits - 1)
        return infinity_bits(dtype) | (sign if kind == "max" else 0)
    return encode(dtype, dtype.min_int if kind == "max" else dtype.max_int)
