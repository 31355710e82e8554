"""Graphs and nests as text, for people: `portkit explain` and the tests' failures show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from portkit.compiler.graph import Node, show, topological
from portkit.compiler.index import Axis, Expr, Index, Variable, leaves, substitute
from portkit.compiler.index import Value as IndexValue
from portkit.compiler.nest import Guards, Nest, Scan, Scatter, Store, Value, subvalues
from portkit.spec.literals import format_literal


def show_graph(outputs: Sequence[Node]) -> str:
    """Return a graph as text, one node a line, inputs before users."""
    names: dict[Node, str] = {}
    lines: list[str] = []
    for node in topological(outputs):
        names[node] = f"%{len(names)}"
        operands = "".join(f" {names[i]}" for i in node.inputs)
        lines.append(f"{names[node]} = {_operation(node)}{operands} : {node.dtype}{show(node.shape)}")
    lines.append("return " + ", ".join(names[n] for n in outputs))
    return "\n".join(lines)


def _operation(node: Node) -> str:
    match node.op:
        case "source":
            return f"source {node.attr.name}".rstrip()
        case "const":
            return f"const {format_literal(node.dtype, node.attr)}"
        case "map":
            return str(node.attr)
        case "reduce" | "scan" | "scatter":
            return f"{node.op} {node.attr[0]} {node.attr[1]}"
        case "view":
            return " ".join(str(part) for part in node.attr)
        case "mark":
            return f"mark {node.attr[0]}"
        case "gather":
            return f"gather {node.attr}"
        case _:
            return node.op


def show_nest(nest: Nest) -> str:
    """Return a nest as text: its loops, what each point computes, and what is stored."""
    return "\n".join(_Nest(nest).lines())


class _Nest:
    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self.memories: dict[Node, str] = {}
        self.values: dict[Value, str] = {}
        self.axes: dict[Expr, Index] = {}

    def lines(self) -> Iterable[str]:
        nest = self.nest
        depth = 0
        for axis in nest.rows:
            yield "  " * depth + f"for {self.axis(axis)} in {self.index(axis.extent)}:"
            depth += 1
        pad = "  " * depth
        for fold in nest.folds:
            yield from (pad + line for line in self.fold(fold))
        if nest.sequence is not None:
            yield from (pad + line for line in self.sequence())
        for store in nest.row_stores:
            yield from (pad + line for line in self.store(store))
        for axis in nest.inner:
            yield "  " * depth + f"for {self.axis(axis)} in {self.index(axis.extent)}:"
            depth += 1
        pad = "  " * depth
        for store in nest.inner_stores:
            yield from (pad + line for line in self.store(store))

    def axis(self, axis: Axis) -> str:
        if axis not in self.axes:
            number = len(self.axes)
            self.axes[axis] = Variable(f"{'ijklmn'[number % 6]}{number // 6 or ''}", 0, max(axis.high, 1))
        return str(self.axes[axis])

    def index(self, index: Index) -> str:
        if not isinstance(index, Expr):
            return str(index)
        named = dict(self.axes)
        for leaf in leaves(index):
            if isinstance(leaf, Axis):
                self.axis(leaf)
                named[leaf] = self.axes[leaf]
            elif isinstance(leaf, IndexValue) and leaf.tag.value is not None:
                named[leaf] = Variable(self.name(leaf.tag.value), 0, max(leaf.high, 1))
        return str(substitute(index, named))

    def name(self, value: Value) -> str:
        return self.values.setdefault(value, f"v{len(self.values)}")

    def memory(self, node: Node) -> str:
        return self.memories.setdefault(node, f"b{len(self.memories)}")

    def guards(self, guards: Guards) -> str:
        return " and ".join(f"{low} <= {self.index(e)} <= {self.index(high)}" for e, low, high in guards)

    def fold(self, fold: Value) -> Iterable[str]:
        kind, axes = fold.attr
        loops = " ".join(f"{self.axis(a)} in {self.index(a.extent)}" for a in axes)
        yield f"{self.name(fold)} = {kind} over {loops} of:"
        known = set(self.values) - {fold}
        for value in subvalues(fold.args, lambda v: v in known or v.op == "fold"):
            yield f"  {self.name(value)} = {self.value(value)}"

    def store(self, store: Store) -> Iterable[str]:
        known = set(self.values)
        for value in subvalues([store.value], lambda v: v in known):
            yield f"{self.name(value)} = {self.value(value)}"
        yield f"{self.memory(store.node)}[{self.index(store.index)}] = {self.name(store.value)}"

    def sequence(self) -> Iterable[str]:
        sequence = self.nest.sequence
        if isinstance(sequence, Scan):
            yield f"running {sequence.kind} over {self.axis(sequence.axis)} in {self.index(sequence.axis.extent)}:"
            yield from ("  " + line for line in self.store(sequence.store))
        elif isinstance(sequence, Scatter):
            yield f"for {self.axis(sequence.axis)} in {self.index(sequence.axis.extent)}:"
            yield from ("  " + line for line in self.store(sequence.base))
            yield f"for {self.axis(sequence.steps)} in {self.index(sequence.steps.extent)}, in order:"
            for value in subvalues([sequence.at, sequence.values]):
                yield f"  {self.name(value)} = {self.value(value)}"
            memory = self.memory(sequence.base.node)
            yield f"  {sequence.kind} {self.name(sequence.values)} into {memory} at {self.name(sequence.at)}"

    def value(self, value: Value) -> str:
        operands = " ".join(self.name(a) for a in value.args)
        match value.op:
            case "load":
                memory, at, guards, fill = value.attr
                gate = f" if {self.guards(guards)} else {format_literal(value.dtype, fill)}" if guards else ""
                return f"{self.memory(memory)}[{self.index(at)}]{gate}"
            case "lit":
                return format_literal(value.dtype, value.attr)
            case "index":
                return self.index(value.attr)
            case "select":
                body, other = (self.name(a) for a in value.args)
                return f"{body} if {self.guards(value.attr)} else {other}"
            case "map" if value.attr in ("cast", "bits"):
                return f"{value.attr} {value.dtype} {operands}"
            case "fold":
                return self.name(value)
            case _:
                return f"{value.attr} {operands}"
