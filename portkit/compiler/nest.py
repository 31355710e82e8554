"""The nest language: the meaning of one kernel, as values at points of an iteration space.

A `Value` is an expression over iteration axes. A `Nest` says over which axes rows run, which folds each row needs, in
order, and what is stored for the row and for each point inside it.

op       args             attr                            value
load     -                (memory, index, guards, fill)   the element of a stored node, `fill` bits where a guard fails
lit      -                bit pattern                     a constant
index    -                index expression                i32
map      operands         function name                   elementwise
fold     body             (kind, axes)                    body folded over axes; `attend` has two (`graph.attend`)
select   body, other      guards                          body where all guards hold, else other

A guard (e, low, high) holds where low <= e <= high. Values are hash-consed, as nodes of the graph are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

from portkit.compiler.graph import Node
from portkit.compiler.index import Axis, Expr, Index, leaves
from portkit.compiler.index import Value as IndexValue
from portkit.spec.types import I32, DType

Guard: TypeAlias = tuple[Index, int, Index]
Guards: TypeAlias = tuple[Guard, ...]


@dataclass(eq=False, slots=True, weakref_slot=True)
class Late:
    """A value that an index expression mentions before it is built: the index of a gather."""

    axes: frozenset[Axis]
    value: Value | None = None


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Value:
    """One expression of a nest; `axes` are those that it depends on. Compare with `is`."""

    op: str
    dtype: DType
    args: tuple[Value, ...] = ()
    attr: Any = None
    axes: frozenset[Axis] = frozenset()

    def __repr__(self) -> str:
        return f"<{self.op} {self.attr} {self.dtype}>"


_values: WeakValueDictionary[tuple[Any, ...], Value] = WeakValueDictionary()


def _value(op: str, dtype: DType, args: tuple[Value, ...], attr: Any, axes: Iterable[Axis]) -> Value:
    key = (op, dtype, tuple(map(id, args)), attr)
    found = _values.get(key)
    if found is None:
        found = Value(op, dtype, args, attr, frozenset(axes))
        _values[key] = found
    return found


def axes_of(index: Index) -> frozenset[Axis]:
    """Return the axes that an index expression depends on, those of gathered indices included."""
    if not isinstance(index, Expr):
        return frozenset()
    found: set[Axis] = set()
    for leaf in leaves(index):
        if isinstance(leaf, Axis):
            found.add(leaf)
        elif isinstance(leaf, IndexValue):
            found |= leaf.tag.axes
    return frozenset(found)


def guard_axes(guards: Guards) -> frozenset[Axis]:
    """Return the axes that guards depend on."""
    return union(axes_of(e) | axes_of(high) for e, _, high in guards)


def union(sets: Iterable[frozenset[Axis]]) -> frozenset[Axis]:
    """Return the axes that are in any of the sets."""
    none: frozenset[Axis] = frozenset()
    return none.union(*sets)


def load(memory: Node, index: Index, guards: Guards = (), fill: int = 0) -> Value:
    """Return the element of a stored node at a flat index."""
    axes = axes_of(index) | guard_axes(guards)
    return _value("load", memory.dtype, (), (memory, index, guards, fill), axes)


def lit(dtype: DType, bits: int) -> Value:
    """Return a constant."""
    return _value("lit", dtype, (), bits, ())


def index(expression: Index) -> Value:
    """Return an index expression as an i32 value."""
    return _value("index", I32, (), expression, axes_of(expression))


def map_(name: str, dtype: DType, args: Sequence[Value]) -> Value:
    """Return an elementwise function of values."""
    return _value("map", dtype, tuple(args), name, union(a.axes for a in args))


def fold(kind: str, axes: tuple[Axis, ...], body: Value, dtype: DType, *others: Value) -> Value:
    """Return `body`, and what else is folded with it, folded over `axes`."""
    inside = body.axes.union(*(o.axes for o in others))
    return _value("fold", dtype, (body, *others), (kind, axes), inside - frozenset(axes))


def select(guards: Guards, body: Value, other: Value) -> Value:
    """Return `body` where all guards hold, else `other`."""
    return _value("select", body.dtype, (body, other), guards, body.axes | other.axes | guard_axes(guards))


@dataclass(frozen=True, eq=False, slots=True)
class Store:
    """A value that is kept: in the memory of `node`, at a flat index."""

    node: Node
    index: Index
    value: Value


@dataclass(frozen=True, eq=False, slots=True)
class Nest:
    """One kernel's meaning.

    For each point of `rows` the `folds` are computed in order and the `row_stores` made; then, for each point of
    `inner` as well, the `inner_stores`. `sequence` is what rows do instead, in order along an axis: a scan or scatter.
    """

    rows: tuple[Axis, ...]
    inner: tuple[Axis, ...] = ()
    folds: tuple[Value, ...] = ()
    row_stores: tuple[Store, ...] = ()
    inner_stores: tuple[Store, ...] = ()
    sequence: Scan | Scatter | None = None
    reason: str = field(default="", compare=False)

    @property
    def stores(self) -> tuple[Store, ...]:
        return self.row_stores + self.inner_stores

    @property
    def kept(self) -> tuple[Store, ...]:
        """Everything that is stored, by a sequence too."""
        if self.sequence is None:
            return self.stores
        return (*self.stores, self.sequence.store if isinstance(self.sequence, Scan) else self.sequence.base)

    @property
    def roots(self) -> tuple[Value, ...]:
        """The values that the nest computes: its folds, what it stores, and what a scatter needs besides."""
        values = (*self.folds, *(s.value for s in self.kept))
        return (*values, self.sequence.at, self.sequence.values) if isinstance(self.sequence, Scatter) else values

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Every axis, each once: rows, inner ones, those of folds, that of a sequence and its steps."""
        folds = (v for v in subvalues(self.roots) if v.op == "fold")
        found = [*self.rows, *self.inner, *(a for fold in folds for a in fold.attr[1])]
        if self.sequence is not None:
            found.append(self.sequence.axis)
        if isinstance(self.sequence, Scatter):
            found.append(self.sequence.steps)
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, eq=False, slots=True)
class Scan:
    """A running fold along `axis`: each partial result is stored."""

    kind: str
    axis: Axis
    store: Store


@dataclass(frozen=True, eq=False, slots=True)
class Scatter:
    """A copy of `base` along `axis`, then `values` folded in at the numbers `at` along it, in order along `steps`.

    The index of `base` with `axis` replaced by `at` is where a value goes; numbers out of range are left out.
    """

    kind: str
    axis: Axis
    base: Store
    steps: Axis
    at: Value
    values: Value


def subvalues(roots: Iterable[Value], known: Callable[[Value], bool] = lambda _: False) -> list[Value]:
    """Return every value under `roots`, operands before users, without recursion; gathered indices are operands.

    What is `known`, and what only that needs, is left out.
    """
    order: list[Value] = []
    seen: set[Value] = set()
    stack = [(v, False) for v in reversed(list(roots))]
    while stack:
        value, ready = stack.pop()
        if ready:
            order.append(value)
        elif value not in seen and not known(value):
            seen.add(value)
            stack.append((value, True))
            stack.extend((v, False) for v in reversed(operands(value)) if v not in seen)
    return order


def operands(value: Value) -> list[Value]:
    """Return the values that `value` reads, those inside its index expressions included."""
    inside: list[Value] = []
    for expression in indices(value):
        if isinstance(expression, Expr):
            tags = (leaf.tag.value for leaf in leaves(expression) if isinstance(leaf, IndexValue))
            inside += [v for v in tags if v is not None]
    return [*inside, *value.args]


def indices(value: Value) -> list[Index]:
    """Return the index expressions that stand in a value itself."""
    if value.op == "load":
        _, at, guards, _ = value.attr
        return [at, *(e for guard in guards for e in (guard[0], guard[2]))]
    if value.op == "select":
        return [e for guard in value.attr for e in (guard[0], guard[2])]
    return [value.attr] if value.op == "index" else []
