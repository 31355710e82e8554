"""From a nest to a kernel: the header, and the body by the lowering that fits the nest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from portkit.compiler.attention import find_attention, schedule_online
from portkit.compiler.emit import Emitter, stored_dtype
from portkit.compiler.features import Features
from portkit.compiler.graph import Node
from portkit.compiler.index import Expr, Variable, leaves
from portkit.compiler.lower import lower_rows
from portkit.compiler.lower_online import lower_online
from portkit.compiler.lower_sequence import lower_sequence
from portkit.compiler.lower_tiles import lower_tiles
from portkit.compiler.merge import merge_axes
from portkit.compiler.nest import Nest, Scatter, indices, subvalues
from portkit.compiler.schedule import schedule_rows, schedule_sequence
from portkit.compiler.staging import find_staged
from portkit.compiler.tiles import TileSchedule
from portkit.compiler.tiling import choose_tiles
from portkit.contract import Capabilities
from portkit.errors import ShapeError
from portkit.spec.builder import Builder
from portkit.spec.kernel import Access, Kernel

_MOST_ELEMENTS = 1 << 31


@dataclass(frozen=True)
class Generated:
    """A kernel before legalisation, the stored node behind each buffer, and the dimension behind each scalar."""

    kernel: Kernel
    memories: tuple[Node, ...]
    scalars: tuple[Expr, ...]
    schedule: object


def generate(
    nest: Nest, capabilities: Capabilities, name: str = "kernel", tiles: TileSchedule | None = None
) -> Generated:
    """Return the kernel of a nest, scheduled for a device; `tiles` is a schedule to use in place of the heuristic's.

    Raises `ShapeError` for a tensor too large to index, `UsageError` where `tiles` does not fit.
    """
    merged = merge_axes(nest)
    schedule, lower, updated = _lowering(merged, capabilities, tiles)
    b = Builder(name)
    e = Emitter(b, Features.of(capabilities), {})
    read, written = _memories(merged)
    dimensions = _dimensions(merged, [*read, *written])
    for number, dimension in enumerate(dimensions):
        e.scalars[dimension] = b.scalar(f"n{number}", "i32")
    names = {d: f"n{i}" for i, d in enumerate(dimensions)}
    for number, node in enumerate([*read, *written]):
        access: Access = "read" if node not in written else "readwrite" if node in updated else "write"
        e.memories[node] = b.buffer(f"b{number}", stored_dtype(node.dtype).name, _extent(node, names), access)
    lower(e)
    return Generated(b.build(), (*read, *written), tuple(dimensions), schedule)


def _lowering(
    nest: Nest, capabilities: Capabilities, tiles: TileSchedule | None
) -> tuple[object, Callable[[Emitter], None], frozenset[Node]]:
    """Return the schedule of a nest, what emits its body, and the nodes that it both writes and reads."""
    if nest.sequence is not None:
        sequence = schedule_sequence(nest, capabilities)
        scattered = {nest.sequence.base.node} if isinstance(nest.sequence, Scatter) else set[Node]()
        return sequence, lambda e: lower_sequence(nest, sequence, e), frozenset(scattered)
    if (attention := find_attention(nest)) is not None:
        online = schedule_online(attention, capabilities)
        return online, lambda e: lower_online(nest, attention, online, e), frozenset()
    if (tiled := choose_tiles(nest, capabilities, tiles)) is not None:
        contraction, schedule = tiled
        return schedule, lambda e: lower_tiles(contraction, schedule, e), frozenset()
    rows = schedule_rows(nest, capabilities)
    staged = find_staged(nest) if rows.stage else ()
    kept = frozenset(s.store.node for s in staged if s.store is not None)
    return rows, lambda e: lower_rows(nest, rows, e, staged), kept


def _memories(nest: Nest) -> tuple[list[Node], list[Node]]:
    """Return the stored nodes that a nest reads and those that it writes, in the order of their mention."""
    loads = [v.attr[0] for v in subvalues(nest.roots) if v.op == "load"]
    written = [s.node for s in nest.kept]
    return list(dict.fromkeys(n for n in loads if n not in written)), list(dict.fromkeys(written))


def _dimensions(nest: Nest, memories: Iterable[Node]) -> list[Expr]:
    """Return what the launch has to say: variables, and extents that are no plain variable."""
    found: dict[Expr, None] = {}
    extents = [n for node in memories for n in node.shape]
    values = subvalues(nest.roots)
    expressions = [*(e for v in values for e in indices(v)), *(a.extent for a in nest.axes), *extents]
    for expression in expressions:
        if isinstance(expression, Expr):
            found.update({leaf: None for leaf in sorted(leaves(expression), key=str) if isinstance(leaf, Variable)})
    found.update({n: None for n in extents if isinstance(n, Expr)})
    return list(found)


def _extent(node: Node, names: dict[Expr, str]) -> tuple[int | str, ...]:
    total = 1
    for n in node.shape:
        total *= n.high if isinstance(n, Expr) else n
    if total >= _MOST_ELEMENTS:
        raise ShapeError(f"a tensor of {total} elements cannot be indexed by 32 bits; split it")
    fixed = 1
    factors: list[int | str] = []
    for n in node.shape:
        if isinstance(n, Expr):
            factors.append(names[n])
        else:
            fixed *= n
    return (fixed, *factors) if fixed != 1 or not factors else tuple(factors)
